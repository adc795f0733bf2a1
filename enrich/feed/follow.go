package feed

import (
	stdcontext "context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// Deps are what a Follower needs from its process; each may be empty.
type Deps struct {
	Logger   *slog.Logger
	Registry prometheus.Registerer
	Service  string // a label of the metrics
	// Applied is called after changes of a cluster are in the store and something is different from since on, µs since 1970.
	Applied func(Applied)
}

// Applied is what a record changed.
type Applied struct {
	Cluster string
	Kind    context.Kind // 0 if it is about no object
	Since   int64        // µs since 1970
	At      Position     // behind what was read; zero if it was not read from the topics
}

// Follower keeps a store as the topics say. Any number of them may read the same topics.
type Follower struct {
	cfg     kafka.Config
	store   *context.Store
	deps    Deps
	metrics *metrics
	caught  chan struct{}
	next    atomic.Pointer[Position]
	began   time.Time // when the topics were read from the beginning

	mu       sync.Mutex
	outdated map[string]*outdated // by key
}

// outdated is what the last record of a key should say, and does not: writers that did not know of each other wrote in another
// order than things happened. Compaction would keep the wrong one.
type outdated struct {
	cluster string
	change  context.Change
	written time.Time // when it was given to be written; zero if it was not
}

// NewFollower makes one; it starts nothing.
func NewFollower(cfg kafka.Config, store *context.Store, deps Deps) *Follower {
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Follower{cfg: cfg, store: store, deps: deps, metrics: newMetrics(deps.Registry, deps.Service), caught: make(chan struct{}), outdated: map[string]*outdated{}}
	f.next.Store(&Position{})
	return f
}

// Load reads what the topics hold now into the store.
func Load(ctx stdcontext.Context, cfg kafka.Config, store *context.Store) error {
	f := NewFollower(cfg, store, Deps{})
	ctx, cancel := stdcontext.WithCancel(ctx)
	defer cancel()
	return f.follow(ctx, true)
}

// Caught is closed when everything is in the store that was in the topics when Run began.
func (f *Follower) Caught() <-chan struct{} { return f.caught }

// Position is up to where the topics are in the store. It is safe for concurrent use.
func (f *Follower) Position() Position { return *f.next.Load() }

// Run follows the topics until ctx ends, then it returns nil. Any error is fatal.
func (f *Follower) Run(ctx stdcontext.Context) error {
	if err := f.follow(ctx, false); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// again is after which time what was given to be written, and is not read back, is given again.
const again = time.Minute

// Outdated returns what has to be written again, so that the last record of each key is the newest version: what two writers
// wrote in the wrong order. One of all followers should write it; more do no harm. It is empty until everything was read.
func (f *Follower) Outdated(now time.Time) ([]*kgo.Record, error) {
	select {
	case <-f.caught:
	default:
		return nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var records []*kgo.Record
	for _, o := range f.outdated {
		if now.Sub(o.written) < again {
			continue
		}
		o.written = now
		r, err := recordOf(o.cluster, &o.change)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

// check notes which of the changes that were just read are older than what is known.
func (f *Follower) check(cluster string, changes []context.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range changes {
		key := context.RecordKey(cluster, &changes[i])
		newest, ok := f.store.Later(cluster, &changes[i])
		if !ok {
			delete(f.outdated, key)
			continue
		}
		f.outdated[key] = &outdated{cluster: cluster, change: newest}
	}
}

// maxPoll bounds the records that are applied at a time.
const maxPoll = 50_000

// follow reads from the beginning: what is true now may have been so for long.
func (f *Follower) follow(ctx stdcontext.Context, once bool) error {
	client, err := kafka.NewClient(f.cfg,
		kgo.ConsumeTopics(schemas.TopicContext, schemas.TopicCredentials),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// The last record of a partition may be the marker of a transaction: without them its end would never come.
		kgo.KeepControlRecords())
	if err != nil {
		return fmt.Errorf("following the context: %w", err)
	}
	defer client.Close()
	if err := kafka.WaitForBroker(ctx, client, f.cfg); err != nil {
		return err
	}
	f.began = time.Now()
	missing, err := f.ends(ctx, client)
	if err != nil {
		return err
	}
	for start, n := time.Now(), 0; ; {
		if len(missing) == 0 {
			if once {
				return nil
			}
			close(f.caught)
			f.deps.Logger.Info("context read", "records", n, "clusters", len(f.store.Clusters()), "duration", time.Since(start))
			break
		}
		fetches, err := f.poll(ctx, client)
		if err != nil {
			return err
		}
		n += fetches.NumRecords()
		fetches.EachRecord(func(r *kgo.Record) {
			at := place{r.Topic, r.Partition}
			if end, ok := missing[at]; ok && r.Offset >= end-1 {
				delete(missing, at)
			}
		})
	}
	for {
		if _, err := f.poll(ctx, client); err != nil {
			return err
		}
	}
}

// ends returns up to where the partitions have to be read, those that are not empty.
func (f *Follower) ends(ctx stdcontext.Context, client *kgo.Client) (map[place]int64, error) {
	adm := kadm.NewClient(client)
	starts, err := adm.ListStartOffsets(ctx, schemas.TopicContext, schemas.TopicCredentials)
	if err == nil {
		err = starts.Error()
	}
	var ends kadm.ListedOffsets
	if err == nil {
		if ends, err = adm.ListCommittedOffsets(ctx, schemas.TopicContext, schemas.TopicCredentials); err == nil {
			err = ends.Error()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading where %s and %s end: %w; create them with auditmill topics --create",
			schemas.TopicContext, schemas.TopicCredentials, err)
	}
	missing := map[place]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		if end.Offset > start.Offset {
			missing[place{end.Topic, end.Partition}] = end.Offset
		}
	})
	return missing, nil
}

type place struct {
	topic     string
	partition int32
}

// poll waits for records and applies them.
func (f *Follower) poll(ctx stdcontext.Context, client *kgo.Client) (kgo.Fetches, error) {
	fetches := client.PollRecords(ctx, maxPoll)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, e := range fetches.Errors() {
		if kafka.Fatal(e.Err) {
			return nil, fmt.Errorf("reading %s/%d: %w", e.Topic, e.Partition, e.Err)
		}
		f.deps.Logger.Warn("cannot fetch, trying again", "topic", e.Topic, "partition", e.Partition, "err", e.Err)
	}
	if err := f.apply(fetches); err != nil {
		return nil, err
	}
	f.metrics.stats(f.store)
	return fetches, nil
}

// apply puts what was read into the store: all changes of a cluster at once, since each time costs.
func (f *Follower) apply(fetches kgo.Fetches) error {
	changes := map[string][]context.Change{}
	position := f.Position().clone()
	var fatal error
	fetches.EachRecord(func(r *kgo.Record) {
		position.passed(r.Topic, r.Partition, r.Offset)
		if fatal != nil || r.Attrs.IsControl() {
			return
		}
		f.metrics.records.Inc()
		cluster, c, err := parse(r)
		switch {
		case errors.Is(err, schemas.ErrNewerVersion):
			fatal = fmt.Errorf("reading %s/%d at offset %d: %w", r.Topic, r.Partition, r.Offset, err)
			return
		case err != nil:
			f.metrics.bad.Inc()
			f.deps.Logger.Error("record not readable: what is known of its cluster is doubtful until a dump or a watch lists everything",
				"topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
			cluster, c = clusterOf(r), context.Change{From: r.Timestamp.UnixMicro(), Doubt: true, Source: "damage"}
		}
		if believe(&c, r.Timestamp) {
			f.deps.Logger.Warn("record of a time that had not come when it was written: it counts from then on",
				"topic", r.Topic, "partition", r.Partition, "offset", r.Offset)
		}
		f.forgotten(&c, r.Timestamp)
		changes[cluster] = append(changes[cluster], c)
	})
	if fatal != nil {
		return fatal
	}
	for cluster, cs := range changes {
		applied := f.deps.Applied
		if applied != nil {
			applied = func(a Applied) {
				a.At = position
				f.deps.Applied(a)
			}
		}
		Apply(f.store, cluster, cs, applied)
		f.check(cluster, cs)
	}
	f.next.Store(&position)
	return nil
}

// ahead is how far the clock of a writer may be ahead of that of the broker.
const ahead = time.Hour

// believe sees to it that a change is not of later than when its record was written: it would win against all that is said
// until then. It says whether it was. All who read the record make the same of it.
func believe(c *context.Change, written time.Time) (later bool) {
	if written.UnixMilli() <= 0 || c.From <= written.Add(ahead).UnixMicro() {
		return false
	}
	c.From = written.UnixMicro()
	c.Seen = min(c.Seen, c.From)
	return true
}

// forgotten sees to it that nobody says that all was known of a time of which compaction may have removed some: what was
// written then and superseded since.
func (f *Follower) forgotten(c *context.Change, written time.Time) {
	if kept := f.began.Add(-schemas.ContextKept); len(c.Complete) > 0 && !c.Doubt && written.Before(kept) {
		c.From, c.Seen = max(c.From, kept.UnixMicro()), 0
	}
}

// Apply puts changes of a cluster into a store and tells applied from when on something is different, by kind of object:
// roles and bindings together, every other by itself.
func Apply(store *context.Store, cluster string, changes []context.Change, applied func(Applied)) {
	if applied == nil {
		store.Apply(cluster, changes...)
		return
	}
	byKind := map[context.Kind][]context.Change{}
	for i := range changes {
		kind := changes[i].Key.Kind
		if kind <= context.ClusterRoleBinding {
			kind = context.Role
		}
		byKind[kind] = append(byKind[kind], changes[i])
	}
	for kind, cs := range byKind {
		if since, changed := store.Apply(cluster, cs...); changed {
			applied(Applied{Cluster: cluster, Kind: kind, Since: since})
		}
	}
}
