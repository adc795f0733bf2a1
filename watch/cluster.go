package watch

import (
	stdcontext "context"
	"iter"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/internal/kafka"
)

// watched is a cluster that is watched.
type watched struct {
	cfg       Cluster
	resources []resource
	pageSize  int
	resync    time.Duration
	retry     time.Duration // longest wait before another attempt
	store     *context.Store
	queue     *queue
	log       *slog.Logger
	metrics   *metrics
	changed   func() // the progress is another
	sink      func(ctx stdcontext.Context, cluster string, changes []context.Change) error
	memory    *memory
	mirrors   []*mirror // one for each of resources

	mu    sync.Mutex
	kinds map[context.Kind]*progress
}

// progress is how far a kind of a cluster is.
type progress struct {
	listed bool   // it was listed whole, and the topic says so
	flawed bool   // it was listed, and something in the list could not be read
	fails  string // why it can not be read at present; empty if it can
}

func (w *watched) objects(k context.Kind) iter.Seq[*context.Item] {
	return w.store.Cluster(w.cfg.Name).Objects(k, latest)
}

func (w *watched) find(key context.Key) *context.Item {
	return w.store.Cluster(w.cfg.Name).Find(key, latest)
}

func (w *watched) complete(k context.Kind) bool {
	return w.store.Cluster(w.cfg.Name).Complete(k, latest)
}

// run watches until ctx ends. Only what can not be written is an error.
func (w *watched) run(ctx stdcontext.Context) error {
	times, err := w.memory.load(ctx, w.cfg.Name)
	if err != nil {
		return err
	}
	cfg := w.connect(ctx)
	if cfg == nil {
		return nil
	}
	for _, r := range w.resources {
		w.mirrors = append(w.mirrors, &mirror{resource: r, cluster: w, log: w.log.With("kind", r.name), last: times[r.kind]})
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.queue.run(ctx, w.write) })
	for _, m := range w.mirrors {
		g.Go(func() error {
			w.follow(ctx, cfg, m)
			return nil
		})
	}
	g.Go(func() error {
		for kafka.Pause(ctx, saveEvery) == nil {
			w.remember(ctx)
		}
		return nil
	})
	err = g.Wait()
	ctx, cancel := stdcontext.WithTimeout(stdcontext.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	w.remember(ctx)
	return err
}

const (
	saveEvery   = 30 * time.Second
	saveTimeout = 2 * time.Second
)

// remember saves until when everything was seen and written.
func (w *watched) remember(ctx stdcontext.Context) {
	times := map[context.Kind]time.Time{}
	for _, m := range w.mirrors {
		times[m.kind] = m.synced()
	}
	if err := w.memory.save(ctx, w.cfg.Name, times); err != nil && ctx.Err() == nil {
		w.log.Warn("cannot save until when everything was seen: the next start takes the time since the last save for unseen", "err", err)
	}
}

// connect makes the configuration of the clients, and tries again while it is wrong: the file may be replaced. It
// returns nil when ctx ends.
func (w *watched) connect(ctx stdcontext.Context) *rest.Config {
	for {
		cfg, err := restConfig(w.cfg)
		if err == nil {
			return cfg
		}
		for _, r := range w.resources {
			w.failed(r.kind, configError{err})
		}
		if kafka.Pause(ctx, w.retry) != nil {
			return nil
		}
	}
}

// follow lists and watches one kind until ctx ends, and begins anew each time resync has passed.
func (w *watched) follow(ctx stdcontext.Context, cfg *rest.Config, m *mirror) {
	a, err := newAPI(cfg, m.resource, m)
	if err != nil {
		w.failed(m.kind, configError{err})
		<-ctx.Done()
		return
	}
	// What client-go has to say is said again by the mirror, with what may help.
	logger := logr.FromSlogHandler(slog.DiscardHandler)
	ctx = klog.NewContext(ctx, logger)
	for ctx.Err() == nil {
		period, cancel := w.period(ctx)
		reflector := cache.NewReflectorWithOptions(a, nil, m, cache.ReflectorOptions{
			Logger: &logger, Name: w.cfg.Name + "/" + m.name, TypeDescription: m.name,
			Backoff: &wait.Backoff{Duration: min(time.Second, w.retry), Cap: w.retry, Steps: 10, Factor: 2, Jitter: 1},
		})
		reflector.WatchListPageSize = int64(w.pageSize)
		reflector.RunWithContext(period)
		cancel()
	}
}

// period is the time until everything is listed again, not for all kinds and clusters at once.
func (w *watched) period(ctx stdcontext.Context) (stdcontext.Context, stdcontext.CancelFunc) {
	if w.resync == 0 {
		return stdcontext.WithCancel(ctx)
	}
	return stdcontext.WithTimeout(ctx, w.resync-time.Duration(rand.Int64N(int64(w.resync)/5+1)))
}

// write writes what is still news when its time has come.
func (w *watched) write(ctx stdcontext.Context, due []sighting) error {
	var changes []context.Change
	var complete []context.Kind
	touched := map[context.Key]bool{}
	flush := func() error {
		err := w.tell(ctx, changes)
		changes = nil
		clear(touched)
		return err
	}
	for i := range due {
		s := &due[i]
		key := s.change.Key
		if key.Kind == 0 || touched[key] {
			// Compared with what is known when everything before it is.
			if err := flush(); err != nil {
				return err
			}
		}
		if key.Kind == 0 {
			kind := s.change.Complete[0]
			complete = append(complete, kind)
			if s.change.Seen != 0 || !w.complete(kind) {
				changes = append(changes, s.change)
			}
			continue
		}
		news, is := s.news(w.find(key), w.complete(key.Kind))
		name := key.Kind.Resource()
		if !is {
			w.metrics.told.WithLabelValues(name).Inc()
			continue
		}
		w.metrics.changes.WithLabelValues(name).Inc()
		changes = append(changes, news)
		touched[key] = true
	}
	if err := flush(); err != nil {
		return err
	}
	for _, kind := range complete {
		w.done(kind)
	}
	return nil
}

// tell writes changes, and knows them itself from then on.
func (w *watched) tell(ctx stdcontext.Context, changes []context.Change) error {
	if len(changes) == 0 {
		return nil
	}
	if err := w.sink(ctx, w.cfg.Name, changes); err != nil {
		return err
	}
	w.metrics.stage.Out.Add(float64(len(changes)))
	w.store.Apply(w.cfg.Name, changes...)
	// The audit stream may have told more of the same meanwhile: what is known best has to be the last record.
	var again []context.Change
	for i := range changes {
		if c, ok := w.store.Later(w.cfg.Name, &changes[i]); ok {
			again = append(again, c)
		}
	}
	if len(again) == 0 {
		return nil
	}
	return w.sink(ctx, w.cfg.Name, again)
}

// done notes that a kind was listed whole and the topic says so.
func (w *watched) done(kind context.Kind) {
	w.update(kind, func(p *progress) { p.listed, p.flawed = true, false })
}

// flawed notes that not all of a list could be read: that all is known can not be said.
func (w *watched) flawed(kind context.Kind) {
	w.update(kind, func(p *progress) { p.flawed = true })
}

// working notes that a kind can be read.
func (w *watched) working(kind context.Kind) {
	was := w.update(kind, func(p *progress) { p.fails = "" })
	switch {
	case was.fails == "":
	case ofKind(was.fails):
		w.log.Info("can be read again", "kind", kind.Resource())
	case w.failing(was.fails) == 0:
		w.log.Info("the cluster can be read again")
	}
}

// failed notes that a kind can not be read, and says so once: of the whole cluster if it is about that.
func (w *watched) failed(kind context.Kind, err error) {
	reason, remedy := reasonOf(err)
	w.metrics.failures.WithLabelValues(kind.Resource(), reason).Inc()
	was := w.update(kind, func(p *progress) { p.fails = reason })
	switch {
	case was.fails == reason:
	case ofKind(reason):
		w.log.Error("cannot be read, trying again", "kind", kind.Resource(), "reason", reason, "err", err, "remedy", remedy)
	case w.failing(reason) == 1:
		w.log.Error("the cluster cannot be read, trying again", "reason", reason, "err", err, "remedy", remedy)
	}
}

// failing is the number of kinds that can not be read for a reason.
func (w *watched) failing(reason string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.kinds {
		if p.fails == reason {
			n++
		}
	}
	return n
}

func (w *watched) update(kind context.Kind, change func(*progress)) (was progress) {
	w.mu.Lock()
	p := w.kinds[kind]
	was = *p
	change(p)
	now := *p
	w.mu.Unlock()
	if now != was {
		w.changed()
	}
	return was
}

// latest is later than everything.
const latest = math.MaxInt64
