package context

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Sources of changes that have a fixed name; dumps are called "import:" and the name of the file.
const (
	SourceAudit       = "audit"
	SourceWatch       = "watch"
	SourceAggregation = "aggregation" // worked out as the API server's controller does
	sourceImport      = "import:"
)

// Change is what happened to an object, or to what is known of it.
type Change struct {
	Key    Key
	From   int64   // since when, µs since 1970
	Object *Object // nil if it was deleted or is not known
	UID    string  // of a deleted object, if known: another of the same name stays
	Source string
	By     string // the actor that changed it, if that is recorded
	Stale  bool   // it changed, and how is not known; Object, if any, is what it was or may be
	// Seen says that the change happened after this time and not later than From: somebody looked at both times, and at
	// none between (µs since 1970; 0 if From is all that is known). What is said of the object between is Stale; with
	// Complete, what was there between is Doubtful. A watch that was away sets it to when it was in sync last, in all
	// changes that it finds when it lists again, and says what is Complete in one of them.
	Seen int64

	Complete []Kind // instead of an object: from then on all objects of these kinds are known
	Doubt    bool   // instead of an object: something changed that could not be followed
	// Removed says, instead of an object, that the cluster is gone: from then on nothing is known of it, until something
	// is said that is later.
	Removed bool
}

// exact says whether From is the time of the change itself, not that of somebody who looked.
func (c *Change) exact() bool { return c.Source == SourceAudit }

func (c *Change) deletes() bool { return c.Object == nil && !c.Stale }

func (c *Change) uid() string {
	if c.Object != nil {
		return c.Object.Metadata.UID
	}
	return c.UID
}

// revision returns the resource version, which grows with each change to any object of a cluster; 0 if it is not known.
func (c *Change) revision() uint64 {
	if c.Object == nil {
		return 0
	}
	n, err := strconv.ParseUint(c.Object.Metadata.ResourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Config bounds a Store.
type Config struct {
	History     time.Duration // how far back States can be looked up
	MaxVersions int           // States that are kept, of all clusters together; each takes 1 to 5 KB
}

// DefaultConfig keeps a day of history in about half a GiB at most.
func DefaultConfig() Config { return Config{History: 24 * time.Hour, MaxVersions: 1 << 17} }

// minVersions are kept of a cluster whatever MaxVersions says.
const minVersions = 16

// Store holds the states of clusters. Reading takes no locks; writing may be concurrent too, but changes of one cluster
// then wait for each other.
type Store struct {
	config   Config
	clusters atomic.Pointer[map[string]*Cluster]
	mu       sync.Mutex // held to add or remove clusters
	versions atomic.Uint64
	pool     pool
}

// NewStore returns an empty Store.
func NewStore(config Config) *Store {
	s := &Store{config: config}
	s.clusters.Store(&map[string]*Cluster{})
	return s
}

// Cluster returns the history of a cluster, nil if nothing is known of it.
func (s *Store) Cluster(name string) *Cluster { return (*s.clusters.Load())[name] }

// Clusters returns the names of the clusters, sorted.
func (s *Store) Clusters() []string { return slices.Sorted(maps.Keys(*s.clusters.Load())) }

// Remove forgets a cluster.
func (s *Store) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clusters := maps.Clone(*s.clusters.Load())
	delete(clusters, name)
	s.clusters.Store(&clusters)
}

func (s *Store) cluster(name string) *Cluster {
	if c := s.Cluster(name); c != nil {
		return c
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.Cluster(name); c != nil {
		return c
	}
	c := &Cluster{store: s, id: s.versions.Add(1), versions: map[Key][]*entry{}}
	c.line.Store(&timeline{})
	c.now.Store(&Moment{Newest: math.MinInt64})
	clusters := maps.Clone(*s.clusters.Load())
	clusters[name] = c
	s.clusters.Store(&clusters)
	return c
}

// Apply makes changes of a cluster visible, all at once. They may be late: everything after them is then worked out
// anew. It returns the earliest time from which on something differs, and false if nothing does.
func (s *Store) Apply(cluster string, changes ...Change) (since int64, changed bool) {
	if len(changes) == 0 {
		return 0, false
	}
	if i := slices.IndexFunc(changes, func(c Change) bool { return c.Removed }); i >= 0 {
		s.Remove(cluster)
		changes = changes[i+1:]
		if len(changes) == 0 {
			return 0, true
		}
	}
	return s.cluster(cluster).apply(changes)
}

// Cluster is the history of one cluster.
type Cluster struct {
	store *Store
	id    uint64
	line  atomic.Pointer[timeline]
	now   atomic.Pointer[Moment]

	mu       sync.Mutex
	log      []*entry // by time
	versions map[Key][]*entry
	seq      uint64
	trimmed  bool // the first state has taken in what the log had before it
}

// timeline is the states of a cluster by time. What was published is never changed: a writer appends behind the end
// that readers know of, or copies.
type timeline struct {
	states []*State
}

// At returns the state at a time in µs since 1970; nil if that is before anything that is known. It takes no lock.
func (c *Cluster) At(t int64) *State {
	if c == nil {
		return nil
	}
	states := c.line.Load().states
	// Nearly every event is newer than every change.
	if n := len(states); n > 0 && states[n-1].from <= t {
		return states[n-1]
	}
	i := sort.Search(len(states), func(i int) bool { return states[i].from > t })
	if i == 0 {
		return nil
	}
	return states[i-1]
}

// Between calls yield for the state at from and for each that began after it, up to and including to. It takes no lock.
func (c *Cluster) Between(from, to int64, yield func(*State) bool) {
	if c == nil {
		return
	}
	states := c.line.Load().states
	i := sort.Search(len(states), func(i int) bool { return states[i].from > from })
	for i = max(i-1, 0); i < len(states) && states[i].from <= to; i++ {
		if !yield(states[i]) {
			return
		}
	}
}

// Latest returns the newest state, nil if there is none. It takes no lock.
func (c *Cluster) Latest() *State {
	if c == nil {
		return nil
	}
	if states := c.line.Load().states; len(states) > 0 {
		return states[len(states)-1]
	}
	return nil
}

// Versions is the number of states that are kept.
func (c *Cluster) Versions() int { return len(c.line.Load().states) }

// apply puts changes into the log and makes the states anew from the earliest on.
func (c *Cluster) apply(changes []Change) (since int64, changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	since = 1<<63 - 1
	for i := range changes {
		change := changes[i]
		if c.trimmed {
			// Changes that are older than the history count from its beginning.
			change.From = max(change.From, c.line.Load().states[0].from)
		}
		if at, ok := c.insert(&change); ok {
			since, changed = min(since, at), true
		}
	}
	if changed {
		c.rebuild(since)
		c.trim()
		c.passed(changes)
	}
	return since, changed
}

// rebuild makes the states from since on of the log.
func (c *Cluster) rebuild(since int64) {
	line := c.line.Load()
	states := line.states
	keep := sort.Search(len(states), func(i int) bool { return states[i].from >= since })
	first, _ := slices.BinarySearchFunc(c.log, since, func(e *entry, t int64) int { return cmp.Compare(e.From, t) })
	var base *State
	switch {
	case keep > 0:
		base = states[keep-1]
	case c.trimmed:
		base = states[0]
	default:
		base = newState(c.id)
	}
	if keep < len(states) {
		states = slices.Clip(states[:keep]) // readers have what follows in the same array
	}
	version := func() uint64 { return c.store.versions.Add(1) }
	for i := first; i < len(c.log); {
		b := base.next(c.log[i].From, version)
		for ; i < len(c.log) && c.log[i].From == b.from; i++ {
			if !c.log[i].dead {
				b.change(&c.log[i].Change)
			}
		}
		base = b.State
		states = append(states, base)
	}
	c.line.Store(&timeline{states})
}

// change applies one change.
func (b *builder) change(c *Change) {
	switch {
	case c.Complete != nil:
		for _, k := range c.Complete {
			b.complete[k] = true
		}
		if b.CompleteRBAC() {
			b.doubtful = false
		}
		b.changedRBAC()
		return
	case c.Doubt:
		b.doubtful = true
		b.changedRBAC()
		return
	case c.Removed:
		return
	}
	before, _ := b.Get(c.Key)
	if c.deletes() {
		if before != nil && c.UID != "" && before.Object != nil && before.Object.Metadata.UID != "" && before.Object.Metadata.UID != c.UID {
			return // another object that had the name
		}
		b.put(c.Key, nil)
	} else {
		b.set(c, before)
	}
	if c.Key.Kind == ClusterRole && c.exact() {
		after, _ := b.Get(c.Key)
		b.aggregate(c.Key.Name, 0, before.labels(), after.labels())
	}
}

// set applies a change that deletes nothing.
func (b *builder) set(c *Change, before *Item) {
	item := &Item{Key: c.Key, Object: c.Object, From: c.From, Source: c.Source, By: c.By, Stale: c.Stale}
	if item.Object == nil && before != nil {
		item.Object = before.Object
	}
	b.put(c.Key, item)
	if c.exact() && aggregates(item) && len(item.Object.Rules) == 0 {
		b.gather(c.Key, item, 0)
	}
}

// trim keeps the history within its bounds.
func (c *Cluster) trim() {
	states := c.line.Load().states
	limit := max(minVersions, c.store.config.MaxVersions/max(1, len(*c.store.clusters.Load())))
	oldest := states[len(states)-1].from - c.store.config.History.Microseconds()
	cut := sort.Search(len(states), func(i int) bool { return states[i].from > oldest }) - 1
	if len(states) > limit {
		cut = max(cut, len(states)-limit*3/4)
	}
	// Seldom and much: each time copies what stays.
	if cut <= 0 || len(states) <= limit && cut < len(states)/4 {
		return
	}
	states, c.trimmed = slices.Clone(states[cut:]), true
	c.line.Store(&timeline{states})
	c.forget(states[0].from)
}

// forget drops the log up to a time, which the first state has taken in, and of each object all versions but the last
// until then.
func (c *Cluster) forget(until int64) {
	n := 0
	for ; n < len(c.log) && c.log[n].From <= until; n++ {
		key := c.log[n].Key
		of := c.versions[key]
		last := -1
		for i, e := range of {
			if !e.dead && e.From <= until {
				last = i
			}
		}
		of = slices.DeleteFunc(of, func(e *entry) bool {
			return e.dead || e.From <= until && (last < 0 || e != of[last] || e.deletes())
		})
		if len(of) == 0 {
			delete(c.versions, key)
		} else {
			c.versions[key] = of
		}
	}
	c.log = slices.Clone(c.log[n:])
}
