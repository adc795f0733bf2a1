// Package notify tells people about alerts.
//
// Comes in: the alerts of audit.alerts.v1. Goes out: messages about groups of them to the
// receivers that the routes name, such as a Slack channel. Alerts with the same group id are
// one group: its message is posted at once and changed when more come in; a group that was
// quiet and goes on is answered in the thread of its message. An alert that comes again because its event was
// corrected changes the message that shows it, and nobody is called a second time.
//
// Guaranteed: an alert is counted in its group, and the group recorded in
// audit.notifications.v1, before the alert's offset is committed. What a receiver was told is
// recorded there too, so a group that it was not told of is posted by whoever comes next.
// Nothing is given up because of errors that may pass, unless the receiver says after which
// time; what is given up goes to the dead-letter topic, and the other receivers are told. A
// group is posted once, with one exception: if an attempt gets no answer, or the process is
// killed before the answer is recorded, nobody can know whether the message was accepted, and
// it is posted again.
//
// One instance posts, and the others stand by to take over: a channel takes about one message
// a second, so more of them would only have to agree on who may. When too many groups wait for
// a channel, one message tells of most of them.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// Deps are what a Notifier needs from its surroundings.
type Deps struct {
	Kafka    kafka.Config
	Logger   *slog.Logger
	Registry prometheus.Registerer
	// Metrics counts what the clients exchange with the brokers; nil for no counting.
	Metrics *kafka.Metrics
	// Sink is the receiver named DefaultReceiver; nil if the configuration names others.
	Sink Sink
	// Interval is the shortest time between two messages that the sink accepts.
	Interval time.Duration
	// Timeout bounds one attempt to post.
	Timeout time.Duration
	// HTTP is used for the receivers of the configuration; nil for the default client.
	HTTP *http.Client
	// Ready is told why nothing can be posted until a person acts, and nil once it can
	// be. It is nil if nobody wants to know.
	Ready func(problem error)
	// Observe is called after a message was posted and recorded, not when it was changed. It
	// may be called concurrently. It is nil if nobody wants to know.
	Observe func(m *Message, r Receipt)
}

// DefaultReceiver is the name of the receiver that Deps.Sink is.
const DefaultReceiver = "default"

// Notifier posts alerts.
type Notifier struct {
	cfg       Config
	deps      Deps
	log       *slog.Logger
	metrics   *metrics
	receivers []receiver
	router    *router
	current   atomic.Pointer[session]

	more []kgo.Opt // of tests, for the consumer

	mu       sync.Mutex
	problems map[string]error // by receiver
}

// receiver is what an outlet is made of.
type receiver struct {
	name     string
	sink     Sink
	interval time.Duration
	timeout  time.Duration
	giveUp   time.Duration
}

// New returns a Notifier that does nothing until Run.
func New(cfg Config, deps Deps) (*Notifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	n := &Notifier{cfg: cfg, deps: deps, log: deps.Logger, problems: map[string]error{}}
	if deps.Sink != nil && deps.Timeout <= 0 {
		return nil, errors.New("notify: a sink needs a timeout")
	}
	if deps.Sink != nil {
		n.receivers = append(n.receivers, receiver{DefaultReceiver, deps.Sink, deps.Interval, deps.Timeout, 0})
	}
	for i, c := range cfg.Receivers {
		r, err := c.receiver(cfg, deps.HTTP)
		if err != nil {
			return nil, fmt.Errorf("notify: receivers[%d]: %w", i, err)
		}
		n.receivers = append(n.receivers, r)
	}
	if len(n.receivers) == 0 {
		return nil, errors.New("notify: a sink or a receiver is needed")
	}
	for i, route := range cfg.Routes {
		if deps.Sink == nil && slices.Contains(route.Receivers, DefaultReceiver) {
			return nil, fmt.Errorf("notify: routes[%d].receivers: %q needs the section alert.slack, which says nowhere to post", i, DefaultReceiver)
		}
	}
	if err := deps.Kafka.Validate(); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	n.router = newRouter(cfg, n.names())
	n.metrics = newMetrics(deps.Registry, n.current.Load)
	return n, nil
}

func (n *Notifier) names() []string {
	names := make([]string, len(n.receivers))
	for i, r := range n.receivers {
		names[i] = r.name
	}
	return names
}

// session is the time from joining the consumer group to losing the partitions.
type session struct {
	*Notifier
	store    *store
	silenced *silenced
	memory   *memory
	read     *positions
	client   *kgo.Client
	// loose are the alerts that a group counts and that have no record of their own, by id, as far as
	// was read; it is complete once the past is known.
	learning sync.Mutex
	loose    map[string]State

	// assigned is closed when the partitions are ours, and moved when they are not any more.
	assigned, moved chan struct{}
	// active is true once the past is known and this instance posts.
	active atomic.Bool
	// stop ends the outlets, and stopped says when they have.
	stop    context.CancelFunc
	stopped sync.WaitGroup
}

var errMoved = errors.New("another instance posts now")

// Run posts alerts until ctx ends or something fails that trying again cannot mend. A
// message that is on its way when ctx ends is waited for and recorded.
func (n *Notifier) Run(ctx context.Context) error {
	if n.cfg.API.Listen == "" {
		return n.sessions(ctx)
	}
	silences, err := NewSilences(n.deps.Kafka)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	defer silences.Close()
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return newAPI(n.cfg.API, n.log, silences).run(running) })
	var posting error
	group.Go(func() error {
		posting = n.sessions(running)
		return posting
	})
	err = group.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return posting
	}
	return err
}

// sessions posts, or stands by, until ctx ends.
func (n *Notifier) sessions(ctx context.Context) error {
	for {
		err := n.session(ctx)
		if !errors.Is(err, errMoved) || ctx.Err() != nil {
			return err
		}
		n.log.Info("another instance posts now, standing by")
	}
}

func (n *Notifier) session(ctx context.Context) error {
	s := &session{
		Notifier: n, memory: newMemory(n.cfg.Remember, n.cfg.RememberMax), read: newPositions(),
		assigned: make(chan struct{}), moved: make(chan struct{}), silenced: newSilenced(),
		loose: map[string]State{},
	}
	s.store = newStore(n.cfg, n.names(), s.silenced)
	for _, r := range n.receivers {
		s.store.changes[r.name] = featuresOf(r.sink).Update
	}
	n.current.Store(s)
	client, leave, err := kafka.NewMember(ctx, n.deps.Kafka, s.consumerOpts()...)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	s.client = client
	defer leave()
	follower, err := kafka.NewClient(n.deps.Kafka, n.hooks(kgo.ConsumeTopics(schemas.TopicNotifications, schemas.TopicSilences))...)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	defer follower.Close()
	return s.run(ctx, follower)
}

func (n *session) run(ctx context.Context, follower *kgo.Client) error {
	finished := make(chan struct{})
	var overdue sync.WaitGroup
	defer overdue.Wait()
	defer close(finished)
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return n.follow(running, follower) })
	var posting error
	group.Go(func() error {
		posting = n.post(running)
		return posting
	})
	group.Go(func() error { return n.watchLag(running) })
	group.Go(func() error {
		select {
		case <-n.moved:
			return errMoved
		case <-running.Done():
			return running.Err()
		}
	})
	overdue.Go(func() { n.closeOverdue(running, finished) })
	err := group.Wait()
	n.commit(context.WithoutCancel(ctx))
	switch {
	case ctx.Err() == nil || !errors.Is(err, context.Canceled):
		return err
	case posting != nil && !errors.Is(posting, context.Canceled):
		// The others stopped as they should, and first; a post could not be recorded.
		return posting
	}
	return nil
}

// post waits for the partitions, learns what was posted before, and posts.
func (n *session) post(ctx context.Context) error {
	select {
	case <-n.assigned:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := n.catchUp(ctx); err != nil {
		return err
	}
	if err := n.markLoose(ctx); err != nil {
		return err
	}
	n.active.Store(true)
	stoppable, stop := context.WithCancel(ctx)
	defer stop()
	outlets, posting := errgroup.WithContext(stoppable)
	n.mu.Lock()
	n.stop = stop
	n.mu.Unlock()
	ends := make([]error, len(n.receivers))
	for i, r := range n.receivers {
		o := n.outlet(r)
		n.stopped.Add(1)
		outlets.Go(func() error {
			defer n.stopped.Done()
			ends[i] = o.run(posting)
			return ends[i]
		})
	}
	outlets.Go(func() error { return n.consume(posting) })
	err := outlets.Wait()
	for _, end := range ends {
		if end != nil && !errors.Is(end, context.Canceled) {
			// The others stopped as they should, and first.
			return end
		}
	}
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		return errMoved
	}
	return err
}

func (n *session) outlet(r receiver) *outlet {
	return &outlet{
		session: n, name: r.name, sink: r.sink, interval: r.interval, timeout: r.timeout, giveUp: r.giveUp,
		pace: pace{update: n.cfg.UpdateInterval, repeat: n.cfg.RepeatInterval, can: featuresOf(r.sink)},
		// Whoever posted before us may have done so just now.
		notBefore: n.store.lastPost(r.name, time.Now()).Add(r.interval),
	}
}

// drainTimeout bounds each wait for Kafka after ctx ended.
const drainTimeout = 10 * time.Second

// slowest is the longest attempt that may be on its way.
func (n *Notifier) slowest() time.Duration {
	var most time.Duration
	for _, r := range n.receivers {
		most = max(most, r.timeout)
	}
	return most
}

// closeOverdue ends a drain that takes too long: what is on its way to a Kafka that does not
// answer cannot be cancelled in another way.
func (n *session) closeOverdue(running context.Context, finished <-chan struct{}) {
	<-running.Done()
	overdue := time.NewTimer(n.slowest() + 2*drainTimeout)
	defer overdue.Stop()
	select {
	case <-overdue.C:
		n.client.Close()
	case <-finished:
	}
}

func (n *Notifier) hooks(more ...kgo.Opt) []kgo.Opt {
	if n.deps.Metrics != nil {
		more = append(more, kgo.WithHooks(n.deps.Metrics))
	}
	return more
}

func (n *session) consumerOpts() []kgo.Opt {
	return n.hooks(append([]kgo.Opt{
		kgo.ConsumerGroup(n.cfg.Group), kgo.SessionTimeout(n.cfg.SessionTimeout), kgo.ConsumeTopics(schemas.TopicAlerts),
		// As long as revoked may take.
		kgo.RebalanceTimeout(n.slowest() + 2*drainTimeout),
		kgo.Balancers(oneOwner{kgo.CooperativeStickyBalancer()}),
		kgo.BlockRebalanceOnPoll(), kgo.AutoCommitMarks(), kgo.AutoCommitInterval(time.Second),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
			if len(m[schemas.TopicAlerts]) > 0 {
				closeOnce(&n.mu, n.assigned)
			}
		}),
		kgo.OnPartitionsRevoked(n.revoked),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
			n.leave(m[schemas.TopicAlerts])
		}),
		kgo.FetchMaxPartitionBytes(1 << 20), kgo.FetchMaxBytes(4 << 20),
		kgo.ProducerLinger(0), kgo.RecordPartitioner(partitioner{kgo.StickyKeyPartitioner(nil)}),
	}, n.more...)...)
}

func closeOnce(mu *sync.Mutex, c chan struct{}) {
	mu.Lock()
	defer mu.Unlock()
	select {
	case <-c:
	default:
		close(c)
	}
}

// leave stops posting; it does not wait.
func (n *session) leave(partitions []int32) {
	if len(partitions) == 0 {
		return
	}
	n.mu.Lock()
	stop := n.stop
	n.mu.Unlock()
	if stop != nil {
		stop()
	}
	closeOnce(&n.mu, n.moved)
}

// revoked holds on to the partitions until no message is on its way and what was posted is
// recorded and committed: the next owner reads the record before it posts.
func (n *session) revoked(ctx context.Context, client *kgo.Client, m map[string][]int32) {
	if len(m[schemas.TopicAlerts]) == 0 {
		return
	}
	n.leave(m[schemas.TopicAlerts])
	// The group waits for us, but not for ever: beyond this the partitions are lost.
	ctx, cancel := context.WithTimeout(ctx, n.slowest()+2*drainTimeout)
	defer cancel()
	done := make(chan struct{})
	go func() {
		n.stopped.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	if err := client.CommitMarkedOffsets(ctx); err != nil {
		n.log.Warn("offsets not committed before giving partitions away", "topic", schemas.TopicAlerts, "err", err)
	}
}

// commit is given a context that outlives Run's: what was posted is committed all the same.
func (n *session) commit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if err := n.client.CommitMarkedOffsets(ctx); err != nil && !errors.Is(err, kgo.ErrClientClosed) {
		n.log.Warn("offsets not committed at the end", "topic", schemas.TopicAlerts, "err", err)
	}
}

// problem keeps what each receiver waits for a person to do.
func (n *Notifier) problem(receiver string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		delete(n.problems, receiver)
	} else {
		n.problems[receiver] = err
	}
	if n.deps.Ready == nil {
		return
	}
	var all []error
	for _, name := range slices.Sorted(maps.Keys(n.problems)) {
		all = append(all, fmt.Errorf("receiver %s: %w", name, n.problems[name]))
	}
	n.deps.Ready(errors.Join(all...))
}
