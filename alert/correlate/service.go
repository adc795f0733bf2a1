package correlate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// Deps are what a Service needs from its process.
type Deps struct {
	Kafka    kafka.Config
	Set      *Set
	Logger   *slog.Logger
	Registry prometheus.Registerer // nil in tests that read no metrics
	// Metrics counts what the clients exchange with the brokers; nil for no counting.
	Metrics *kafka.Metrics
	// Now is the clock of Alert.RaisedAt; nil for time.Now.
	Now func() time.Time
	// Complete adds to an alert, before it is written, what only its event's rule knows to make, such as the
	// query; nil for nothing.
	Complete func(*schemas.Alert)
	// Ready is told nil once signals are read; nil if nobody wants to know.
	Ready func(problem error)
}

// Service is the runner: it reads audit.signals.v1 and writes audit.alerts.v1. Any number of
// instances share the partitions.
//
// Alerts, signals of chains and the memory of first_seen are acknowledged by all replicas before the offset of their
// signals is committed. The commit also says, as metadata, from where signals have to be read again to know
// what is known, and how far the clocks were: a new owner replays that part without writing. What was
// written and not yet committed when an instance dies is written again, with the same ids.
type Service struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	set     atomic.Pointer[Set]

	client *kgo.Client // set by Run
	more   []kgo.Opt   // of tests, for the consumer
	all    int32       // partitions of audit.signals.v1

	mu         sync.Mutex // rebalances come in between polls, from another goroutine
	positions  map[int32]position
	partitions map[int32]*partition
	committed  time.Time
}

// New checks the configuration; it starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, conf.Join("correlate", err)
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Set == nil {
		deps.Set = &Set{}
	}
	s := &Service{
		cfg: cfg, deps: deps, log: deps.Logger, metrics: newMetrics(deps.Registry),
		positions: map[int32]position{}, partitions: map[int32]*partition{},
	}
	s.Replace(deps.Set)
	return s, nil
}

// Replace lets another set decide from the next signals on. Correlations that did not change go on with
// what they know. It may be called at any time.
func (s *Service) Replace(set *Set) {
	s.metrics.expect(set)
	for _, id := range set.TooHigh(s.cfg.Limits) {
		s.log.Warn("the threshold of a correlation is above what is kept of a group: raise alert.correlate.limits.group_signals, "+
			"or it never fires", "rule", id)
	}
	s.set.Store(set)
}

// drainTimeout bounds what is done after ctx ended.
const drainTimeout = 10 * time.Second

// Run correlates until ctx is cancelled; then it finishes what was fetched, commits and returns
// nil. Any error is fatal.
func (s *Service) Run(ctx context.Context) error {
	opts := append([]kgo.Opt{
		kgo.ConsumerGroup(s.cfg.Group), kgo.SessionTimeout(s.cfg.SessionTimeout), kgo.ConsumeTopics(schemas.TopicSignals),
		kgo.BlockRebalanceOnPoll(), kgo.DisableAutoCommit(), kgo.OnOffsetsFetched(s.fetched), kgo.AdjustFetchOffsetsFn(s.rewind),
		kgo.OnPartitionsRevoked(s.revoked), kgo.OnPartitionsLost(s.lost),
		kgo.ProducerLinger(0), kgo.RecordPartitioner(partitioner{kgo.StickyKeyPartitioner(nil)}),
	}, s.more...)
	if s.deps.Metrics != nil {
		opts = append(opts, kgo.WithHooks(s.deps.Metrics))
	}
	client, leave, err := kafka.NewMember(ctx, s.deps.Kafka, opts...)
	if err != nil {
		return fmt.Errorf("correlate: %w", err)
	}
	s.client = client
	defer leave()
	if err := s.prepare(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	s.ready(nil)
	defer s.ready(errors.New("stopped"))
	for ctx.Err() == nil {
		err := s.poll(ctx)
		client.AllowRebalance()
		if err != nil {
			return err
		}
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	s.commit(drain)
	return nil
}

func (s *Service) ready(problem error) {
	if s.deps.Ready != nil {
		s.deps.Ready(problem)
	}
}

// prepare waits for Kafka and checks the topics.
func (s *Service) prepare(ctx context.Context) error {
	if err := kafka.WaitForBroker(ctx, s.client, s.deps.Kafka); err != nil {
		return err
	}
	admin := kadm.NewClient(s.client)
	topics, err := admin.ListTopics(ctx, schemas.TopicSignals, schemas.TopicSeen)
	if err == nil {
		err = topics.Error()
	}
	if err != nil {
		return fmt.Errorf("reading how many partitions %s and %s have: %w; `auditmill topics` creates them",
			schemas.TopicSignals, schemas.TopicSeen, err)
	}
	signals, seen := len(topics[schemas.TopicSignals].Partitions), len(topics[schemas.TopicSeen].Partitions)
	if signals != seen {
		return fmt.Errorf("%s has %d partitions and %s has %d: they must be equal, give both the greater number",
			schemas.TopicSignals, signals, schemas.TopicSeen, seen)
	}
	s.all = int32(signals)
	s.checkRetention(ctx, admin)
	return nil
}

// checkRetention says so if the topic forgets what a restart needs.
func (s *Service) checkRetention(ctx context.Context, admin *kadm.Client) {
	configs, err := admin.DescribeTopicConfigs(ctx, schemas.TopicSignals)
	if err != nil || len(configs) != 1 {
		s.log.Debug("retention not known", "topic", schemas.TopicSignals, "err", err)
		return
	}
	for _, c := range configs[0].Configs {
		if c.Key != "retention.ms" || c.Value == nil {
			continue
		}
		kept, err := time.ParseDuration(*c.Value + "ms")
		if want := s.set.Load().Retention(); err == nil && kept >= 0 && kept < want {
			s.log.Warn("signals are deleted before the longest window is over twice: raise retention.ms of the topic, "+
				"or a restart may forget what it needs", "topic", schemas.TopicSignals, "retention", kept, "needed", want)
		}
	}
}

// poll evaluates what there is, at most for one commit interval.
func (s *Service) poll(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, s.cfg.CommitInterval)
	fetches := s.client.PollRecords(wait, s.cfg.MaxPollRecords)
	cancel()
	if err := s.check(ctx, fetches); err != nil {
		return err
	}
	work, stop := finishing(ctx)
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	var out effects
	var err error
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		if err == nil && len(f.Records) > 0 {
			err = s.evaluate(work, f, &out)
		}
	})
	if err == nil {
		err = s.write(work, &out)
	}
	if err != nil {
		clear(s.partitions) // they know what is not written: nothing of it may be committed
		if ctx.Err() != nil && kafka.ClassOf(err) == kafka.ClassCancelled {
			s.log.Warn("stopped before everything fetched was evaluated; it will be again", "err", err)
			return nil
		}
		return err
	}
	for p, next := range out.next {
		s.partitions[p].next = next
	}
	if now := time.Now(); now.Sub(s.committed) >= s.cfg.CommitInterval {
		s.committed = now
		s.commitLocked(work)
	}
	return nil
}

// finishing returns a context for what was fetched, which is finished even when ctx ends, within bounds.
func finishing(ctx context.Context) (context.Context, func()) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(drainTimeout, cancel) })
	return work, func() { stop(); cancel() }
}

// check returns the fatal error among those of a poll; the client repeats the others itself.
func (s *Service) check(ctx context.Context, fetches kgo.Fetches) error {
	var fatal error
	fetches.EachError(func(topic string, partition int32, err error) {
		switch {
		case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
		case kafka.Fatal(err):
			fatal = fmt.Errorf("reading %s/%d: %w", topic, partition, err)
		default:
			s.log.Warn("cannot fetch, trying again", "topic", topic, "partition", partition, "err", err)
		}
	})
	return fatal
}

// fetched keeps what the last owner of each partition committed.
func (s *Service) fetched(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, group := range resp.Groups {
		for _, topic := range group.Topics { // there is but one, some brokers name it by its id only
			for _, p := range topic.Partitions {
				if p.ErrorCode == 0 && p.Offset >= 0 {
					s.positions[p.Partition] = readPosition(p.Offset, p.Metadata)
				} else {
					delete(s.positions, p.Partition)
				}
			}
		}
	}
	return nil
}

// rewind lets reading begin where the memory of the partitions does.
func (s *Service) rewind(_ context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range offsets[schemas.TopicSignals] {
		delete(s.partitions, p)
		if at, ok := s.positions[p]; ok {
			offsets[schemas.TopicSignals][p] = kgo.NewOffset().At(at.replay)
		}
	}
	return offsets, nil
}

func (s *Service) revoked(ctx context.Context, _ *kgo.Client, m map[string][]int32) {
	s.commit(ctx)
	s.drop(m[schemas.TopicSignals])
}

func (s *Service) lost(_ context.Context, _ *kgo.Client, m map[string][]int32) {
	s.drop(m[schemas.TopicSignals])
}

func (s *Service) drop(partitions []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range partitions {
		delete(s.partitions, p)
		s.metrics.forget(p)
	}
}
