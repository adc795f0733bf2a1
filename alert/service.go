// Package alert finds what needs a person's attention in audit.enriched.v1 and says so.
//
// Comes in: batches of enriched events. Goes out: one alert per rule and event in
// audit.alerts.v1, and, if Slack is configured, a message for each. Guaranteed: offsets are
// committed after all alerts of their batches are acknowledged, so each is there at least
// once; its id is a hash of rule and event, so a repetition is the same alert. Which alerts
// there are depends on the events and the rules alone, never on the clock.
package alert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/auditmill/auditmill/alert/correlate"
	"github.com/auditmill/auditmill/alert/notify"
	"github.com/auditmill/auditmill/alert/rules"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// Deps are what a Service needs from its process.
type Deps struct {
	Kafka    kafka.Config
	Logger   *slog.Logger
	Registry prometheus.Registerer           // nil in tests that read no metrics
	Ready    interface{ Set(string, error) } // nil in tests
	// Pack replaces the rules that come with auditmill, in tests.
	Pack fs.FS
	// Now is the clock of Alert.RaisedAt; nil for time.Now.
	Now func() time.Time
	// Sink receives the alerts instead of Slack; nil for what the configuration says.
	Sink notify.Sink
	// Reload asks for a look at the rule files; nil if nobody does.
	Reload <-chan os.Signal
	// Posted is called after a message was posted and recorded; nil if nobody wants to know.
	Posted func(m *notify.Message, r notify.Receipt)
}

// Service evaluates rules and notifies. Any number of instances share the partitions.
type Service struct {
	cfg      Config
	deps     Deps
	log      *slog.Logger
	metrics  *metrics
	rules    atomic.Pointer[ruleset]
	sender   atomic.Pointer[correlate.Sender] // nil until Run knows the topics
	sources  *sources                         // set by Run
	reloader *reloader
	workers  chan *worker
	kafka    *kafka.Metrics
	notifier *notify.Notifier // nil if nothing is to be posted

	correlator *correlate.Service

	mu       sync.Mutex
	assigned map[int32]bool // partitions of audit.enriched.v1
	lost     []int32        // of them, since the last look

	client *kgo.Client // set by Run
	more   []kgo.Opt   // of tests, for the consumer
}

// New checks the configuration and compiles the rules; it starts nothing.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Pack == nil {
		deps.Pack = rules.Files()
	}
	rules, err := loadRules(cfg.Rules, deps.Pack)
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, deps: deps, log: deps.Logger, metrics: newMetrics(deps.Registry), assigned: map[int32]bool{},
		kafka: kafka.NewMetrics(deps.Registry, "alert"), workers: make(chan *worker, runtime.GOMAXPROCS(0)),
	}
	s.reloader = &reloader{service: s, loaded: deps.Now()}
	s.correlator, err = correlate.New(cfg.Correlate, correlate.Deps{
		Kafka: deps.Kafka, Logger: s.log.With("component", "correlate"), Registry: deps.Registry, Metrics: s.kafka, Now: deps.Now,
		Complete: complete, Ready: func(problem error) { s.ready("correlate", problem) },
	})
	if err != nil {
		return nil, fmt.Errorf("alert: %w", err)
	}
	s.use(rules)
	for range cap(s.workers) {
		s.workers <- &worker{service: s, reader: schemas.NewReader()}
	}
	if err := s.addNotifier(); err != nil {
		return nil, err
	}
	return s, nil
}

// use swaps a set in. Workers take it between two batches.
func (s *Service) use(rules *ruleset) {
	s.metrics.know(rules.pack)
	s.rules.Store(rules)
	s.correlator.Replace(rules.correlations)
	if sender := s.sender.Load(); sender != nil {
		sender.Replace(rules.correlations)
	}
}

// Rules answers HTTP requests with the rules in use, and what is wrong with newer files.
func (s *Service) Rules() http.Handler { return s.reloader }

func (s *Service) addNotifier() error {
	sink, interval := s.deps.Sink, time.Duration(0)
	switch {
	case sink == nil && s.cfg.Slack.Enabled():
		var err error
		if sink, err = notify.NewSlack(s.cfg.Slack, nil); err != nil {
			return fmt.Errorf("alert: %w", err)
		}
		interval = s.cfg.Slack.Interval
	case sink == nil && len(s.cfg.Notify.Receivers) == 0:
		return nil
	}
	var err error
	s.notifier, err = notify.New(s.cfg.Notify, notify.Deps{
		Kafka: s.deps.Kafka, Logger: s.log.With("component", "notify"), Registry: s.deps.Registry, Metrics: s.kafka,
		Sink: sink, Interval: interval, Timeout: s.cfg.Slack.Timeout, Observe: s.deps.Posted,
		Ready: func(problem error) { s.ready("notify", problem) },
	})
	if err != nil {
		return fmt.Errorf("alert: %w", err)
	}
	return nil
}

func (s *Service) ready(name string, err error) {
	if s.deps.Ready != nil {
		s.deps.Ready.Set(name, err)
	}
}

// Run evaluates and notifies until ctx is cancelled; then it finishes what was fetched,
// commits and returns nil. Any error is fatal.
func (s *Service) Run(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return s.evaluate(running) })
	group.Go(func() error { return s.reloader.run(running) })
	group.Go(func() error { return s.correlator.Run(running) })
	if s.notifier != nil {
		group.Go(func() error { return s.notifier.Run(running) })
	}
	return group.Wait()
}

func (s *Service) evaluate(ctx context.Context) error {
	client, leave, err := kafka.NewMember(ctx, s.deps.Kafka, append([]kgo.Opt{
		kgo.ConsumerGroup(s.cfg.Group), kgo.SessionTimeout(s.cfg.SessionTimeout), kgo.ConsumeTopics(schemas.TopicEnriched),
		// Control records are the last of most partitions: without them nobody would know that the end is reached.
		kgo.KeepControlRecords(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.BlockRebalanceOnPoll(), kgo.AutoCommitMarks(), kgo.AutoCommitInterval(time.Second),
		kgo.OnPartitionsAssigned(s.gained), kgo.OnPartitionsRevoked(s.revoked),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { s.forget(m[schemas.TopicEnriched]) }),
		kgo.ProducerLinger(0), kgo.WithHooks(s.kafka),
	}, s.more...)...)
	if err != nil {
		return fmt.Errorf("alert: %w", err)
	}
	s.client = client
	defer leave()
	if err := kafka.WaitForBroker(ctx, client, s.deps.Kafka); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if err := s.prepareSources(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	s.ready("alert", nil)
	defer s.ready("alert", errors.New("stopped"))
	for ctx.Err() == nil {
		wait, cancel := context.WithTimeout(ctx, pollWait)
		fetches := client.PollRecords(wait, s.cfg.MaxPollRecords)
		cancel()
		err := s.cycle(ctx, fetches)
		if err == nil && ctx.Err() == nil {
			err = s.tick(ctx)
		}
		client.AllowRebalance()
		if ctx.Err() != nil && kafka.ClassOf(err) == kafka.ClassCancelled {
			err = nil // a clock not written is no loss
		}
		if err != nil {
			return err
		}
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := client.CommitMarkedOffsets(drain); err != nil {
		s.log.Warn("offsets not committed at the end", "topic", schemas.TopicEnriched, "err", err)
	}
	return nil
}

// drainTimeout bounds what is done after ctx ended.
const drainTimeout = 10 * time.Second

// revoked runs between polls, when everything fetched is done and marked.
func (s *Service) revoked(ctx context.Context, client *kgo.Client, m map[string][]int32) {
	s.forget(m[schemas.TopicEnriched])
	if err := client.CommitMarkedOffsets(ctx); err != nil {
		s.log.Warn("offsets not committed before giving partitions away", "topic", schemas.TopicEnriched, "err", err)
	}
}

// gained and forget keep track of the partitions that this instance reads.
func (s *Service) gained(_ context.Context, _ *kgo.Client, m map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range m[schemas.TopicEnriched] {
		s.assigned[p] = true
	}
}

func (s *Service) forget(partitions []int32) {
	s.metrics.forget(partitions)
	if sender := s.sender.Load(); sender != nil {
		sender.Forget(partitions...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range partitions {
		delete(s.assigned, p)
		s.lost = append(s.lost, p)
	}
}

// cycle evaluates what was fetched, partitions in parallel, and marks it for commit when all
// alerts of it are acknowledged.
func (s *Service) cycle(ctx context.Context, fetches kgo.Fetches) error {
	if err := s.check(ctx, fetches); err != nil {
		return err
	}
	// What was fetched is finished even when ctx ends now, within bounds.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(drainTimeout, cancel) })
	defer stop()
	group, work := errgroup.WithContext(work)
	var done []*kgo.Record
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		if len(f.Records) == 0 {
			return
		}
		last := f.Records[len(f.Records)-1]
		done = append(done, last)
		group.Go(func() error {
			w := <-s.workers
			defer func() { s.workers <- w }()
			if err := w.process(work, f.Records); err != nil {
				return err
			}
			s.metrics.behind(f.Partition, f.HighWatermark-last.Offset-1)
			return nil
		})
	})
	if err := group.Wait(); err != nil {
		if ctx.Err() != nil && kafka.ClassOf(err) == kafka.ClassCancelled {
			s.log.Warn("stopped before everything fetched was evaluated; it will be again", "err", err)
			return nil
		}
		return err
	}
	for _, r := range done {
		s.sources.next[r.Partition] = r.Offset + 1
	}
	// Only now: after a change of leader a partition can be in the fetches twice.
	s.client.MarkCommitRecords(done...)
	return nil
}

// check returns the fatal error among those of a poll; the client repeats the others itself.
func (s *Service) check(ctx context.Context, fetches kgo.Fetches) error {
	var fatal error
	fetches.EachError(func(topic string, partition int32, err error) {
		switch {
		case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded): // pollWait is over
		case kafka.Fatal(err):
			fatal = fmt.Errorf("reading %s/%d: %w", topic, partition, err)
		default:
			s.log.Warn("cannot fetch, trying again", "topic", topic, "partition", partition, "err", err)
		}
	})
	return fatal
}
