// Package notify tells people about alerts.
//
// Comes in: the alerts of audit.alerts.v1. Goes out: one message per alert to a Sink, such
// as a Slack channel, and a record of it in audit.notifications.v1. Guaranteed: an alert is
// posted, or given to the dead-letter topic if the sink refuses it as invalid, before its
// offset is committed; nothing is given up because of errors that may pass. An alert id is
// posted once, however often it is delivered and whichever instance gets it, with one
// exception: if an attempt gets no answer, or the process is killed before the answer is
// recorded, nobody can know whether the message was accepted, and it is posted again.
//
// A storm of alerts waits in Kafka. In memory is a bounded number of alerts, posted in
// order of severity at the pace that the sink allows.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
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
	Sink    Sink
	// Interval is the shortest time between two messages that the sink accepts.
	Interval time.Duration
	// Timeout bounds one attempt to post.
	Timeout time.Duration
	// Ready is told why nothing can be posted until a person acts, and nil once it can
	// be. It is nil if nobody wants to know.
	Ready func(problem error)
	// Observe is called after a message was posted and recorded. It is nil if nobody wants
	// to know.
	Observe func(m *Message, r Receipt)
}

// Notifier posts alerts.
type Notifier struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	queue   *queue
	memory  *memory
	read    *positions

	client *kgo.Client // set by Run
	more   []kgo.Opt   // of tests, for the consumer

	// The rest is owned by the posting goroutine.
	notBefore time.Time
	failures  int // in a row
	blocked   bool
}

// New returns a Notifier that does nothing until Run.
func New(cfg Config, deps Deps) (*Notifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Sink == nil || deps.Timeout <= 0 {
		return nil, errors.New("notify: a sink and a timeout are needed")
	}
	if err := deps.Kafka.Validate(); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	n := &Notifier{
		cfg: cfg, deps: deps, log: deps.Logger, queue: newQueue(cfg.Backlog),
		memory: newMemory(cfg.Remember, cfg.RememberMax), read: newPositions(),
	}
	n.metrics = newMetrics(deps.Registry, n.queue, n.memory)
	return n, nil
}

// Run posts alerts until ctx ends or something fails that trying again cannot mend. A
// message that is on its way when ctx ends is waited for and recorded.
func (n *Notifier) Run(ctx context.Context) error {
	client, err := kafka.NewClient(n.deps.Kafka, n.consumerOpts()...)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	n.client = client
	defer client.CloseAllowingRebalance()
	follower, err := kafka.NewClient(n.deps.Kafka, n.hooks(kgo.ConsumeTopics(schemas.TopicNotifications))...)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	defer follower.Close()

	finished := make(chan struct{})
	var overdue sync.WaitGroup
	defer overdue.Wait()
	defer close(finished)
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return n.follow(running, follower) })
	group.Go(func() error { return n.consume(running) })
	var posting error
	group.Go(func() error {
		posting = n.post(running)
		return posting
	})
	group.Go(func() error { return n.watchLag(running) })
	overdue.Go(func() { n.closeOverdue(running, finished) })
	err = group.Wait()
	n.commit(context.WithoutCancel(ctx))
	switch {
	case ctx.Err() == nil || !errors.Is(err, context.Canceled):
		return err
	case !errors.Is(posting, context.Canceled):
		// The others stopped as they should, and first; a post could not be recorded.
		return posting
	}
	return nil
}

// drainTimeout bounds each wait for Kafka after ctx ended.
const drainTimeout = 10 * time.Second

// closeOverdue ends a drain that takes too long: what is on its way to a Kafka that does not
// answer cannot be cancelled in another way.
func (n *Notifier) closeOverdue(running context.Context, finished <-chan struct{}) {
	<-running.Done()
	overdue := time.NewTimer(n.deps.Timeout + 2*drainTimeout)
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

func (n *Notifier) consumerOpts() []kgo.Opt {
	return n.hooks(append([]kgo.Opt{
		kgo.ConsumerGroup(n.cfg.Group), kgo.SessionTimeout(n.cfg.SessionTimeout), kgo.ConsumeTopics(schemas.TopicAlerts),
		kgo.BlockRebalanceOnPoll(), kgo.AutoCommitMarks(), kgo.AutoCommitInterval(time.Second),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
			n.queue.assign(schemas.TopicAlerts, m[schemas.TopicAlerts])
		}),
		kgo.OnPartitionsRevoked(n.revoked),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
			n.queue.lose(m[schemas.TopicAlerts])
		}),
		kgo.FetchMaxPartitionBytes(1 << 20), kgo.FetchMaxBytes(4 << 20),
		kgo.ProducerLinger(0), kgo.RecordPartitioner(partitioner{kgo.StickyKeyPartitioner(nil)}),
	}, n.more...)...)
}

// revoked holds on to the partitions until no alert of them is on its way and what was
// posted is recorded and committed: the next owner reads the record before it posts.
func (n *Notifier) revoked(ctx context.Context, client *kgo.Client, m map[string][]int32) {
	// The group waits for us, but not for ever: beyond this the partitions are lost.
	ctx, cancel := context.WithTimeout(ctx, n.deps.Timeout+2*drainTimeout)
	defer cancel()
	n.queue.revoke(ctx, m[schemas.TopicAlerts])
	if err := client.CommitMarkedOffsets(ctx); err != nil {
		n.log.Warn("offsets not committed before giving partitions away", "topic", schemas.TopicAlerts, "err", err)
	}
}

// commit is given a context that outlives Run's: what was posted is committed all the same.
func (n *Notifier) commit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if err := n.client.CommitMarkedOffsets(ctx); err != nil && !errors.Is(err, kgo.ErrClientClosed) {
		n.log.Warn("offsets not committed at the end", "topic", schemas.TopicAlerts, "err", err)
	}
}

// consume queues alerts as long as there is room; the rest waits in Kafka.
func (n *Notifier) consume(ctx context.Context) error {
	for {
		room, err := n.queue.room(ctx)
		if err != nil {
			return err
		}
		fetches := n.client.PollRecords(ctx, room)
		err = n.accept(ctx, fetches)
		n.client.AllowRebalance()
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

func (n *Notifier) accept(ctx context.Context, fetches kgo.Fetches) error {
	if err := n.fetchErrors(ctx, fetches); err != nil {
		return err
	}
	for iter := fetches.RecordIter(); !iter.Done(); {
		if err := n.acceptRecord(ctx, iter.Next()); err != nil {
			return err
		}
	}
	return nil
}

// fetchErrors returns an error that ends the service; kgo retries the others itself.
func (n *Notifier) fetchErrors(ctx context.Context, fetches kgo.Fetches) error {
	var fatal error
	fetches.EachError(func(topic string, partition int32, err error) {
		switch {
		case ctx.Err() != nil:
		case kafka.Fatal(err):
			fatal = fmt.Errorf("reading %s/%d: %w", topic, partition, err)
		default:
			n.log.Warn("reading from Kafka is delayed", "topic", topic, "partition", partition, "err", err)
		}
	})
	return fatal
}

func (n *Notifier) acceptRecord(ctx context.Context, r *kgo.Record) error {
	alert, err := decodeAlert(r)
	var newer *versionError
	switch {
	case errors.As(err, &newer):
		return fmt.Errorf("reading %s/%d at offset %d: %w", r.Topic, r.Partition, r.Offset, err)
	case err != nil:
		if err := n.bury(ctx, r, reasonMalformed, err); err != nil {
			return err
		}
		n.mark(n.queue.skip(r))
	case n.memory.has(alert.ID):
		n.metrics.duplicates.Inc()
		n.mark(n.queue.skip(r))
	default:
		n.queue.add(detach(r), NewMessage(alert))
	}
	return nil
}

// detach copies what is kept of a record: its value shares memory with the whole fetch.
func detach(r *kgo.Record) *kgo.Record {
	c := *r
	c.Key = append([]byte(nil), r.Key...)
	c.Value = append([]byte(nil), r.Value...)
	c.Headers = make([]kgo.RecordHeader, len(r.Headers))
	for i, h := range r.Headers {
		c.Headers[i] = kgo.RecordHeader{Key: h.Key, Value: append([]byte(nil), h.Value...)}
	}
	return &c
}

// mark lets offsets be committed.
func (n *Notifier) mark(offsets map[string]map[int32]kgo.EpochOffset, moved bool) {
	if moved {
		n.client.MarkCommitOffsets(offsets)
	}
}

const lagInterval = 10 * time.Second

func (n *Notifier) watchLag(ctx context.Context) error {
	adm := kadm.NewClient(n.client)
	ticker := time.NewTicker(lagInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		lag, err := kafka.Lag(ctx, adm, n.cfg.Group, schemas.TopicAlerts)
		if err != nil {
			n.log.Debug("lag not known", "topic", schemas.TopicAlerts, "err", err)
			continue
		}
		n.metrics.lag.Set(float64(lag[schemas.TopicAlerts]))
	}
}
