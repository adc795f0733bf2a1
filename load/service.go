package load

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/time/rate"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// Deps are what a Service works with.
type Deps struct {
	Kafka      kafka.Config
	ClickHouse ClickHouse
	// Conn is a connection made by Connect; nil lets the service make its own.
	Conn     driver.Conn
	Logger   *slog.Logger
	Registry prometheus.Registerer
	Ready    interface{ Set(string, error) } // nil in tests
}

// Service moves records from Kafka into ClickHouse.
type Service struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	sinks   map[string]sink
	events  *eventSink    // one of sinks
	slots   chan struct{} // one for each insert that may run
	small   *rate.Limiter

	conn   driver.Conn
	client *kgo.Client
	leave  func()     // ends client
	failed chan error // the first fatal error

	// base is what the work of partitions derives from: it outlives the cancellation of
	// Run, which begins the drain.
	base context.Context //nolint:containedctx // callbacks of the Kafka client have no other way to it

	mu         sync.Mutex // guards partitions
	partitions map[topicPartition]*partition
}

type topicPartition struct {
	topic string
	id    int32
}

// New checks the configuration; nothing is dialled before Run.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := errors.Join(cfg.Validate(), deps.ClickHouse.Validate()); err != nil {
		return nil, fmt.Errorf("configuring load: %w", err)
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		cfg: cfg, deps: deps, log: deps.Logger, metrics: newMetrics(deps.Registry),
		slots: make(chan struct{}, cfg.MaxInserts), small: rate.NewLimiter(rate.Limit(cfg.SmallPerSecond), 1),
		failed: make(chan error, 1), partitions: map[topicPartition]*partition{},
	}
	return s, nil
}

// Run consumes until ctx ends, then lets running inserts finish. An error is fatal: it will not go away by itself.
func (s *Service) Run(ctx context.Context) error {
	if err := s.connect(); err != nil {
		return err
	}
	if s.deps.Conn == nil {
		defer func() { _ = s.conn.Close() }() // only idle connections are left
	}
	if err := s.awaitSchema(ctx); err != nil {
		return ignoreCancel(ctx, err)
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.base = base
	if err := s.consumeFrom(ctx, s.topics()); err != nil {
		return err
	}
	polled := make(chan struct{})
	pollCtx, stopPolling := context.WithCancel(ctx)
	go func() {
		defer close(polled)
		s.poll(pollCtx)
	}()
	s.ready(nil)
	var err error
	select {
	case <-ctx.Done():
	case err = <-s.failed:
	}
	s.ready(errStopping)
	stopPolling()
	<-polled
	s.stop(s.owned(), s.cfg.DrainTimeout)
	s.leave()
	return err
}

// ignoreCancel drops an error that only says that the service is to stop.
func ignoreCancel(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

var errStopping = errors.New("stopping")

func (s *Service) ready(err error) {
	if s.deps.Ready != nil {
		s.deps.Ready.Set("load", err)
	}
}

func (s *Service) connect() error {
	s.conn = s.deps.Conn
	if s.conn == nil {
		conn, err := Connect(s.deps.ClickHouse)
		if err != nil {
			return err
		}
		s.conn = conn
	}
	in := &inserter{conn: s.conn, timeout: s.deps.ClickHouse.QueryTimeout, metrics: s.metrics}
	s.events = newEventSink(in, s.deps.ClickHouse, s.metrics)
	s.sinks = map[string]sink{
		schemas.TopicEnriched: s.events,
		schemas.TopicAlerts:   newAlertSink(in, s.deps.ClickHouse),
	}
	return nil
}

func (s *Service) topics() []string { return slices.Sorted(maps.Keys(s.sinks)) }

// awaitSchema waits until ClickHouse answers and refuses tables that this build does not fit.
func (s *Service) awaitSchema(ctx context.Context) error {
	pause := newBackoff(s.cfg.RetryMin, s.cfg.RetryMax)
	for {
		states, err := s.schemaState(ctx)
		switch {
		case err == nil:
			for _, state := range states {
				if state.AppliedAt.IsZero() {
					return fmt.Errorf("database %s lacks migration %04d_%s: run auditmill migrate --apply first",
						s.deps.ClickHouse.Database, state.Version, state.Name)
				}
			}
			if err = s.events.refreshColumns(ctx); err == nil {
				return nil
			}
		case errors.Is(err, ErrNewerSchema), errors.Is(err, ErrOtherSchema), isAccess(err):
			return err
		}
		s.ready(err)
		s.log.Warn("clickhouse does not answer, repeating", "err", err)
		if err := pause.wait(ctx, nil); err != nil {
			return err
		}
	}
}

func (s *Service) schemaState(ctx context.Context) ([]MigrationStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, s.deps.ClickHouse.QueryTimeout)
	defer cancel()
	return MigrationState(ctx, s.conn, s.deps.ClickHouse.SQL())
}

func (s *Service) consumeFrom(ctx context.Context, topics []string) error {
	client, leave, err := kafka.NewMember(ctx, s.deps.Kafka,
		kgo.ConsumerGroup(s.cfg.Group), kgo.ConsumeTopics(topics...),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		// A partition that is fetched again after a pause waits for the fetch that is under way without it.
		kgo.FetchMaxWait(250*time.Millisecond),
		kgo.SessionTimeout(s.cfg.SessionTimeout), kgo.RebalanceTimeout(time.Minute),
		kgo.OnOffsetsFetched(s.assigned),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
			s.stop(s.take(gone), s.cfg.DrainTimeout)
		}),
		// Another instance may have them already: not even a running insert may be committed.
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
			s.stop(s.take(gone), 0)
		}),
		kgo.WithHooks(kafka.NewMetrics(s.deps.Registry, "load")),
	)
	if err != nil {
		return err
	}
	s.client, s.leave = client, leave
	return nil
}

// fail ends Run with the first fatal error.
func (s *Service) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

func (s *Service) poll(ctx context.Context) {
	for {
		fetches := s.client.PollRecords(ctx, 1000)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			s.client.AllowRebalance()
			return
		}
		fetches.EachError(func(topic string, partition int32, err error) {
			if kafka.Fatal(err) {
				s.fail(fmt.Errorf("fetching %s partition %d: %w", topic, partition, err))
				return
			}
			s.log.Warn("fetching failed, going on", "topic", topic, "partition", partition, "err", err)
		})
		fetches.EachPartition(func(f kgo.FetchTopicPartition) {
			s.mu.Lock()
			p := s.partitions[topicPartition{f.Topic, f.Partition}]
			s.mu.Unlock()
			if p == nil {
				return // given away between the fetch and now
			}
			if err := p.add(ctx, f.Records, f.HighWatermark); err != nil {
				s.fail(err)
			}
		})
		s.client.AllowRebalance()
	}
}

// assigned starts the work on new partitions, with the insert that was pending in each.
func (s *Service) assigned(ctx context.Context, cl *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	names, source, err := s.identify(ctx, cl)
	if err != nil {
		return err
	}
	for _, group := range resp.Groups {
		for _, topic := range group.Topics {
			if topic.Topic == "" {
				topic.Topic = names[topic.TopicID]
			}
			if s.sinks[topic.Topic] == nil {
				continue
			}
			for _, partition := range topic.Partitions {
				if kerr.ErrorForCode(partition.ErrorCode) != nil {
					continue
				}
				key := topicPartition{topic.Topic, partition.Partition}
				//nolint:contextcheck // ctx ends with this generation of the group, the work may have to finish
				if err := s.start(key, source[topic.Topic], partition.Metadata); err != nil {
					s.fail(err)
				}
			}
		}
	}
	return nil
}

// identify asks Kafka for the ids by which tokens tell clusters and recreated topics apart.
func (s *Service) identify(ctx context.Context, cl *kgo.Client) (map[[16]byte]string, map[string]string, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, topic := range s.topics() {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = new(topic)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, nil, fmt.Errorf("asking Kafka for topic ids: %w", err)
	}
	cluster := ""
	if resp.ClusterID != nil {
		cluster = *resp.ClusterID
	}
	names, sources := map[[16]byte]string{}, map[string]string{}
	for _, topic := range resp.Topics {
		if topic.Topic != nil {
			names[topic.TopicID] = *topic.Topic
			sources[*topic.Topic] = fmt.Sprintf("%s/%s-%x", cluster, *topic.Topic, topic.TopicID)
		}
	}
	return names, sources, nil
}

func (s *Service) start(key topicPartition, source string, metadata *string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.partitions[key] != nil {
		return nil
	}
	var pending *span
	if metadata != nil {
		found, ok, err := parseSpan(*metadata)
		if err != nil {
			return fmt.Errorf("taking over %s partition %d: %w", key.topic, key.id, err)
		}
		if ok {
			pending = &found
		}
	}
	p := newPartition(s, key, source, pending)
	s.partitions[key] = p
	ctx, cancel := context.WithCancel(s.base)
	p.cancel = cancel
	go p.run(ctx)
	return nil
}

func (s *Service) owned() []*partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Collect(maps.Values(s.partitions))
	clear(s.partitions)
	return all
}

func (s *Service) take(gone map[string][]int32) []*partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*partition
	for topic, ids := range gone {
		for _, id := range ids {
			key := topicPartition{topic, id}
			if p := s.partitions[key]; p != nil {
				all = append(all, p)
				delete(s.partitions, key)
			}
		}
	}
	return all
}

// stop ends the work on partitions: running inserts get grace to finish and commit. It returns when
// nothing of them runs any more, so that nothing can commit afterwards.
func (s *Service) stop(gone []*partition, grace time.Duration) {
	if len(gone) == 0 {
		return
	}
	for _, p := range gone {
		close(p.quit)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	expired := grace == 0
	for _, p := range gone {
		if !expired {
			select {
			case <-p.done:
			case <-timer.C:
				expired = true
			}
		}
		if expired {
			p.cancel()
		}
	}
	resume := map[string][]int32{}
	for _, p := range gone {
		<-p.done
		p.cancel()
		p.drop()
		resume[p.topic] = append(resume[p.topic], p.id)
	}
	s.client.ResumeFetchPartitions(resume)
}

// share is how many bytes of records may wait in one partition.
func (s *Service) share() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.cfg.MaxBuffer) / max(1, len(s.partitions))
}

func (s *Service) lag() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lag int64
	for _, p := range s.partitions {
		lag += p.lag()
	}
	s.metrics.stage.Lag.Set(float64(lag))
}
