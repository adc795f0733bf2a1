package watch

import (
	stdcontext "context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/feed"
	"github.com/auditmill/auditmill/internal/kafka"
)

// Deps are what a Service works with.
type Deps struct {
	Kafka    kafka.Config
	Logger   *slog.Logger
	Registry prometheus.Registerer
	Ready    interface{ Set(string, error) } // nil in tests
}

// Service watches clusters.
type Service struct {
	cfg      Config
	deps     Deps
	log      *slog.Logger
	metrics  *metrics
	store    *context.Store
	clusters []*watched

	mu sync.Mutex // one progress is told at a time
}

// ErrNoClusters says that there is nothing to do.
var ErrNoClusters = errors.New("watch.clusters: must name at least one cluster, see auditmill config --example")

// longestRetry is the longest wait before a cluster that does not answer is asked again.
const longestRetry = 30 * time.Second

// New checks the configuration; nothing is dialled before Run.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuring watch: %w", err)
	}
	if len(cfg.Clusters) == 0 {
		return nil, ErrNoClusters
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	present := context.DefaultConfig()
	present.History, present.MaxVersions = time.Minute, 1024 // the past is not asked for
	s := &Service{
		cfg: cfg, deps: deps, log: deps.Logger, metrics: newMetrics(deps.Registry, cfg.Kinds), store: context.NewStore(present),
	}
	s.metrics.clusters.Set(float64(len(cfg.Clusters)))
	for _, c := range cfg.Clusters {
		s.clusters = append(s.clusters, s.watched(c))
	}
	return s, nil
}

func (s *Service) watched(c Cluster) *watched {
	w := &watched{
		cfg: c, pageSize: s.cfg.PageSize, resync: s.cfg.Resync, retry: longestRetry, store: s.store, queue: newQueue(s.cfg.Wait),
		log: s.log.With("cluster", c.Name), metrics: s.metrics, changed: s.tell, kinds: map[context.Kind]*progress{},
	}
	for _, name := range s.cfg.Kinds {
		r, _ := resourceOf(name) // Validate has seen to it that there is one
		w.resources = append(w.resources, r)
		w.kinds[r.kind] = &progress{}
	}
	return w
}

// Run watches until ctx ends. An error is fatal. What was seen and not yet written is not written at the end: whoever
// watches next sees it again.
func (s *Service) Run(ctx stdcontext.Context) error {
	client, err := kafka.NewClient(s.deps.Kafka, kgo.WithHooks(kafka.NewMetrics(s.deps.Registry, "watch")))
	if err != nil {
		return err
	}
	defer client.Close()
	s.ready(errors.New("reading what is known"))
	g, ctx := errgroup.WithContext(ctx)
	follower := feed.NewFollower(s.deps.Kafka, s.store, feed.Deps{Logger: s.log, Registry: s.deps.Registry, Service: "watch"})
	g.Go(func() error { return follower.Run(ctx) })
	g.Go(func() error {
		select {
		case <-follower.Caught():
		case <-ctx.Done():
			return nil
		}
		s.strangers()
		s.tell()
		return s.watch(ctx, newMemory(client, s.cfg.Group), func(ctx stdcontext.Context, cluster string, changes []context.Change) error {
			records, err := feed.Records(cluster, changes)
			if err != nil {
				return err
			}
			return kafka.Produce(ctx, client, s.log, records...)
		})
	})
	err = g.Wait()
	s.ready(errors.New("stopping"))
	if ctx.Err() != nil && errors.Is(err, stdcontext.Canceled) {
		return nil
	}
	return err
}

// watch watches all clusters until ctx ends.
func (s *Service) watch(ctx stdcontext.Context, memory *memory, sink func(stdcontext.Context, string, []context.Change) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range s.clusters {
		w.memory, w.sink = memory, sink
		g.Go(func() error { return w.run(ctx) })
	}
	return g.Wait()
}

// strangers says which clusters are known from a watch and not watched here: what is known of them stays, and ages.
func (s *Service) strangers() {
	for _, name := range s.store.Clusters() {
		if slices.ContainsFunc(s.clusters, func(w *watched) bool { return w.cfg.Name == name }) {
			continue
		}
		w := &watched{cfg: Cluster{Name: name}, store: s.store}
		for _, r := range resources() {
			if isWatched(w, r.kind) {
				s.log.Warn("cluster was watched once and is not watched by this instance: what is known of it stays",
					"cluster", name, "remedy", "watch it, or auditmill context remove")
				break
			}
		}
	}
}

func isWatched(w *watched, kind context.Kind) bool {
	for item := range w.objects(kind) {
		if item.Source == context.SourceWatch {
			return true
		}
	}
	return false
}

func (s *Service) ready(err error) {
	if s.deps.Ready != nil {
		s.deps.Ready.Set("watch", err)
	}
}

// tell tells how far all clusters are: ready when each kind of each was listed or is known to fail.
func (s *Service) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	listed, failing, lacking := map[string]int{}, map[string]int{}, map[string][]string{}
	var order []string
	done, all := 0, 0
	for _, w := range s.clusters {
		w.mu.Lock()
		for _, r := range w.resources {
			p := w.kinds[r.kind]
			all++
			switch {
			case p.listed:
				listed[r.name]++
				done++
			case p.fails != "" || p.flawed:
				done++
			default:
				if lacking[w.cfg.Name] == nil {
					order = append(order, w.cfg.Name)
				}
				lacking[w.cfg.Name] = append(lacking[w.cfg.Name], r.name)
			}
			if p.fails != "" {
				failing[r.name]++
			}
		}
		w.mu.Unlock()
	}
	for _, name := range s.cfg.Kinds {
		s.metrics.known.WithLabelValues(name).Set(float64(listed[name]))
		s.metrics.failing.WithLabelValues(name).Set(float64(failing[name]))
	}
	if done == all {
		s.ready(nil)
		return
	}
	const shown = 3
	var missing []string
	for i, name := range order {
		if i == shown {
			missing = append(missing, fmt.Sprintf("%d more clusters", len(order)-shown))
			break
		}
		missing = append(missing, name+": "+strings.Join(lacking[name], ", "))
	}
	s.ready(fmt.Errorf("listed %d of %d kinds of %d clusters; still to come: %s",
		done, all, len(s.clusters), strings.Join(missing, "; ")))
}
