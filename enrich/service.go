// Package enrich turns audit.raw.v1 into audit.enriched.v1: each event is decoded once,
// copies are dropped, who and why are added, and rows leave as Arrow batches on the
// partition that they came from.
//
// Raw records in, Arrow batches and dead letters out, exactly once: outputs and offsets are
// one Kafka transaction. What an event becomes depends on nothing but the records before it
// in its partition, so a replay gives the same rows.
package enrich

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	clusters "github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/feed"
	"github.com/auditmill/auditmill/enrich/origin"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/internal/run"
	"github.com/auditmill/auditmill/schemas"
)

// Deps are what a Service needs from its process.
type Deps struct {
	Kafka    kafka.Config
	Logger   *slog.Logger
	Registry prometheus.Registerer // nil in tests that read no metrics
	Ready    *run.Ready            // nil in tests
}

// Service is the enricher. Any number of instances share the partitions of audit.raw.v1.
type Service struct {
	cfg        Config
	deps       Deps
	metrics    *metrics
	partitions map[int32]*partition

	known    *knowledge
	follower *feed.Follower
	places   *origin.Places
	crew     *crew
	client   *kgo.Client // of the session
	pass     *correction // nil if none is running
	passed   time.Time   // when the last one began or ended
	lasted   time.Duration

	mu      sync.Mutex
	owned   map[int32]bool // partitions of the session; false: not adopted yet
	revoked bool           // something was, since heed looked
}

// New checks the configuration; it starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	places, err := origin.OpenPlaces(cfg.MMDB)
	if err != nil {
		return nil, fmt.Errorf("mmdb: %w", err)
	}
	known := newKnowledge(clusters.NewStore(cfg.Context))
	return &Service{
		cfg: cfg, deps: deps, metrics: newMetrics(deps.Registry), partitions: make(map[int32]*partition),
		known: known, places: places, crew: newCrew(known, places, runtime.GOMAXPROCS(0)),
		follower: feed.NewFollower(deps.Kafka, known.store, feed.Deps{
			Logger: deps.Logger, Registry: deps.Registry, Service: "enrich", Applied: known.read,
		}),
	}, nil
}

// Run enriches until ctx is cancelled; then it finishes the current transaction, leaves
// the group and returns nil. Any error is fatal.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	following := make(chan error, 1)
	go func() {
		defer cancel() // without it events would be enriched with what is not so any more
		following <- s.follower.Run(ctx)
	}()
	var err error
	// What an event means is not known before the context is.
	select {
	case <-s.follower.Caught():
		err = s.run(ctx)
		s.dropPass()
	case <-ctx.Done():
	}
	cancel()
	return errors.Join(err, <-following)
}

func (s *Service) run(ctx context.Context) error {
	for {
		err := s.session(ctx)
		s.ready(err)
		switch {
		case errors.Is(err, errStopped) || ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)):
			return nil
		case !errors.Is(err, errUnknown):
			return err
		}
		s.deps.Logger.Warn("a transaction's end is unknown, starting over from the last commit", "err", err)
		s.dropPass()
		clear(s.partitions)
	}
}

// errUnknown says that Kafka did not tell how a transaction ended. A new session with the
// same transactional id settles it: what was not committed by then is aborted.
var errUnknown = errors.New("the end of the transaction is unknown")

// session works as one member of the group until ctx is cancelled or an error.
func (s *Service) session(ctx context.Context) error {
	opts, err := s.options()
	if err != nil {
		return err
	}
	session, err := kgo.NewGroupTransactSession(opts...)
	if err != nil {
		return fmt.Errorf("joining group %s: %w", s.cfg.Group, err)
	}
	defer session.Close()
	s.client = session.Client()
	defer s.disownAll()
	if err := s.checkPartitions(ctx, session.Client()); err != nil {
		return err
	}
	s.ready(nil)
	for ctx.Err() == nil {
		if err := s.cycle(ctx, session); err != nil {
			return err
		}
	}
	return nil
}

// errStopped ends a cycle whose records must be left to the next owner of the partition.
var errStopped = errors.New("stopped before the deduplication window was complete")

func (s *Service) ready(err error) {
	if s.deps.Ready != nil {
		s.deps.Ready.Set("enrich", err)
	}
}

func (s *Service) options() ([]kgo.Opt, error) {
	return kafka.Opts(
		s.deps.Kafka,
		kgo.ConsumerGroup(s.cfg.Group),
		kgo.ConsumeTopics(schemas.TopicRaw),
		kgo.SessionTimeout(s.cfg.SessionTimeout),
		// How long the others wait for an instance that died while it joined. The default is a
		// minute; no instance has work that a rebalance must wait longer for than this.
		kgo.RebalanceTimeout(max(s.cfg.SessionTimeout, s.cfg.TransactionTimeout)),
		kgo.TransactionalID(s.cfg.transactionalID()),
		kgo.TransactionTimeout(s.cfg.TransactionTimeout),
		kgo.RecordPartitioner(samePartition()),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { s.own(m[schemas.TopicRaw]) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { s.disown(m[schemas.TopicRaw]) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { s.disown(m[schemas.TopicRaw]) }),
		// The batches are compressed inside.
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	)
}

// samePartition keeps enriched records on the partition number that they came from and
// spreads dead letters by key.
func samePartition() kgo.Partitioner {
	byKey := kgo.StickyKeyPartitioner(nil)
	return kgo.BasicConsistentPartitioner(func(topic string) func(*kgo.Record, int) int {
		if topic == schemas.TopicEnriched {
			return func(r *kgo.Record, _ int) int { return int(r.Partition) }
		}
		return byKey.ForTopic(topic).Partition
	})
}

// checkPartitions refuses to start with topics whose partitions do not match: rows could
// not stay on their partition.
func (s *Service) checkPartitions(ctx context.Context, client *kgo.Client) error {
	if err := kafka.WaitForBroker(ctx, client, s.deps.Kafka); err != nil {
		return err
	}
	topics, err := kadm.NewClient(client).ListTopics(ctx, schemas.TopicRaw, schemas.TopicEnriched)
	if err == nil {
		err = topics.Error()
	}
	if err != nil {
		return fmt.Errorf("looking at the topics: %w; create them with auditmill topics --create", err)
	}
	raw, enriched := len(topics[schemas.TopicRaw].Partitions), len(topics[schemas.TopicEnriched].Partitions)
	if raw != enriched {
		return fmt.Errorf("%s has %d partitions and %s has %d: they must be equal, add the missing ones and run auditmill topics",
			schemas.TopicRaw, raw, schemas.TopicEnriched, enriched)
	}
	return nil
}

// cycle collects records for at most MaxWait and then makes one transaction of them and of what corrections have ready.
func (s *Service) cycle(ctx context.Context, session *kgo.GroupTransactSession) error {
	if err := s.adopt(ctx); err != nil {
		return err
	}
	owned := s.adopted()
	if s.pass.touchesOthers(owned) {
		s.dropPass()
	}
	corrections, err := s.correct(ctx, owned)
	if err != nil {
		return err
	}
	var records []*kgo.Record
	if owned[0] { // one instance is enough
		if records, err = s.follower.Outdated(time.Now()); err != nil {
			return err
		}
	}
	start, touched, err := s.collect(ctx, session, len(corrections)+len(records) == 0)
	if err != nil {
		return err
	}
	if len(touched)+len(corrections)+len(records) == 0 {
		return s.heed(ctx, session)
	}
	for _, c := range corrections {
		records = append(records, c.record)
	}
	outs := map[int32]output{}
	for number := range touched {
		out := s.partitions[number].take()
		outs[number] = out
		records = append(records, out.records...)
	}
	// A cancelled ctx must not tear a transaction: what was taken is finished.
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.TransactionTimeout)
	defer cancel()
	committed, err := s.commit(drain, session, records)
	if err != nil {
		return err
	}
	if !committed {
		s.metrics.aborted.Inc()
		s.dropPass()
		for _, p := range s.partitions {
			p.forget()
		}
		s.readopt()
		return nil
	}
	s.committed(outs, corrections, start)
	return nil
}

// heed ends an empty transaction if a rebalance took partitions away: until a transaction has ended, the session tells of no
// other revocation, and we would think for ever that what that takes is ours.
func (s *Service) heed(ctx context.Context, session *kgo.GroupTransactSession) error {
	s.mu.Lock()
	revoked := s.revoked
	s.revoked = false
	s.mu.Unlock()
	if !revoked {
		return nil
	}
	if err := session.Begin(); err != nil {
		return fmt.Errorf("beginning a transaction: %w", s.explain(err))
	}
	if _, err := session.End(ctx, kgo.TryAbort); err != nil {
		return fmt.Errorf("ending a transaction: %w", s.explain(err))
	}
	return nil
}

// committed takes note of what is in the topics now.
func (s *Service) committed(outs map[int32]output, corrections []corrected, start time.Time) {
	for number, out := range outs {
		s.partitions[number].committed(out.batches, nil)
		s.metrics.done(out, start)
		for _, err := range out.late {
			s.deps.Logger.Warn("a change of the context could not be followed", "err", err)
		}
	}
	for _, c := range corrections {
		if p := s.partitions[c.partition]; p != nil {
			p.committed([]batchOf{{record: c.record, newest: c.newest}}, c.versions)
		}
	}
}

// idle is how long a poll waits for the first record, while corrections wait for it.
const idle = 500 * time.Millisecond

// collect polls until a batch is full or MaxWait has passed since its first record, and
// returns the partitions that got records. With wait it waits for the first one, for a while.
func (s *Service) collect(
	ctx context.Context, session *kgo.GroupTransactSession, wait bool,
) (start time.Time, touched map[int32]bool, err error) {
	touched = make(map[int32]bool)
	deadline := time.Now().Add(s.cfg.MaxWait)
	if wait {
		deadline = time.Now().Add(max(idle, s.cfg.MaxWait))
	}
	for rows := 0; rows < s.cfg.MaxPollRecords; {
		fetches, expired := s.poll(ctx, session, deadline)
		if err := s.check(fetches); err != nil {
			return start, nil, err
		}
		if n := fetches.NumRecords(); n > 0 {
			if start.IsZero() {
				start = time.Now()
				deadline = start.Add(s.cfg.MaxWait)
			}
			rows += n
			if err := s.add(ctx, fetches, touched); err != nil {
				return start, nil, err
			}
		}
		if expired {
			break
		}
	}
	return start, touched, nil
}

// poll waits for records until ctx ends or the deadline.
func (s *Service) poll(ctx context.Context, session *kgo.GroupTransactSession, deadline time.Time) (fetches kgo.Fetches, expired bool) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	fetches = session.PollRecords(ctx, s.cfg.MaxPollRecords)
	return fetches, ctx.Err() != nil
}

// check returns the fatal error among those of a poll; the client repeats the others itself.
func (s *Service) check(fetches kgo.Fetches) error {
	if fetches.IsClientClosed() {
		return errors.New("the Kafka client was closed")
	}
	for _, e := range fetches.Errors() {
		if errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, context.DeadlineExceeded) {
			continue
		}
		if kafka.Fatal(e.Err) {
			return fmt.Errorf("reading %s/%d: %w", e.Topic, e.Partition, e.Err)
		}
		s.deps.Logger.Warn("cannot fetch, trying again", "topic", e.Topic, "partition", e.Partition, "err", e.Err)
	}
	return nil
}

// add gives each partition its records, partitions in parallel.
func (s *Service) add(ctx context.Context, fetches kgo.Fetches, touched map[int32]bool) error {
	if err := s.adopt(ctx); err != nil {
		return err
	}
	records := make(map[int32][]*kgo.Record)
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		if len(f.Records) == 0 {
			return
		}
		records[f.Partition] = append(records[f.Partition], f.Records...)
		touched[f.Partition] = true
		s.metrics.behind(f.Partition, f.HighWatermark-f.Records[len(f.Records)-1].Offset-1)
	})
	gaps := make(map[int32]int64)
	for number, rs := range records {
		p := s.partition(number)
		if first := rs[0].Offset; p.window.next != first {
			// The log begins later than the commit, or was committed since: what
			// the window holds is not what stands before this record.
			p.window = newWindow(s.cfg.DedupeWindow)
			if first > 0 {
				gaps[number] = first
			}
		}
	}
	if err := s.bridge(ctx, gaps); err != nil {
		return err
	}
	patience, cancel := context.WithTimeout(ctx, s.cfg.ContextWait)
	defer cancel()
	// As many run at a time as there are joiners; those that wait for context keep none.
	var group errgroup.Group
	for number, rs := range records {
		group.Go(func() error { return s.partitions[number].add(patience, rs) })
		for _, r := range rs {
			s.metrics.stage.BytesIn.Add(float64(len(r.Value)))
		}
		s.metrics.stage.In.Add(float64(len(rs)))
	}
	return group.Wait()
}

// commit produces records and commits the offsets of everything that was polled, or
// neither. committed is false after a rebalance: the session has gone back to the last
// commit and the records will come again, here or elsewhere.
func (s *Service) commit(ctx context.Context, session *kgo.GroupTransactSession, records []*kgo.Record) (committed bool, err error) {
	if err := session.Begin(); err != nil {
		return false, fmt.Errorf("beginning a transaction: %w", s.explain(err))
	}
	var failed kgo.FirstErrPromise
	for _, r := range records {
		session.Produce(ctx, r, failed.Promise())
	}
	produceErr := failed.Err() // waits for all
	committed, err = session.End(kgo.PreTxnCommitFnContext(ctx, s.settle), kgo.TransactionEndTry(produceErr == nil))
	if err != nil {
		if !kafka.Fatal(err) {
			err = fmt.Errorf("%w: %w", errUnknown, err)
		}
		return false, fmt.Errorf("ending a transaction: %w", s.explain(err))
	}
	if produceErr != nil {
		if kafka.Fatal(produceErr) {
			return false, fmt.Errorf("producing to %s: %w", schemas.TopicEnriched, s.explain(produceErr))
		}
		s.deps.Logger.Warn("cannot produce, trying again", "topic", schemas.TopicEnriched, "err", produceErr)
	}
	return committed, nil
}

func (s *Service) explain(err error) error {
	if errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) {
		return fmt.Errorf("%w: another instance uses the transactional id %q; give each instance its own enrich.instance",
			err, s.cfg.transactionalID())
	}
	return err
}
