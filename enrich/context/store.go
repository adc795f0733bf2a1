package context

import (
	"hash/maphash"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config bounds a Store.
type Config struct {
	History        time.Duration `mapstructure:"history" doc:"How far back everything can be looked up."`
	MaxVersions    int           `mapstructure:"max_versions" doc:"Versions of roles and bindings that are kept, of all clusters together. Each takes 1 to 5 KB; what is dropped is unknown."`
	MaxObjects     int           `mapstructure:"max_objects" doc:"Versions of all other objects that are kept, of all clusters together. Each takes about half a KB."`
	MaxCredentials int           `mapstructure:"max_credentials" doc:"Tokens and certificates of which is kept who requested them. Each takes about 1 KB."`
}

// DefaultConfig keeps a day of history, in at most about half a GiB for each of the three.
func DefaultConfig() Config {
	return Config{History: 24 * time.Hour, MaxVersions: 1 << 17, MaxObjects: 1 << 20, MaxCredentials: 1 << 19}
}

// minVersions are kept of a cluster whatever the bounds say.
const minVersions = 16

// unknownLife is how long a credential is remembered of which is not known when it expires.
const unknownLife = 24 * time.Hour

// Store holds what is known of clusters. Reading takes no locks; writing may be concurrent too, but changes of one
// cluster then wait for each other.
type Store struct {
	config   Config
	clusters atomic.Pointer[map[string]*Cluster]
	mu       sync.Mutex // held to add or remove clusters
	versions atomic.Uint64
	pool     pool
	seed     maphash.Seed
	graves   graves
	clock    func() time.Time // bounds what is believed of times

	states, entries, credentials, dropped, expired atomic.Int64
}

// NewStore returns an empty Store.
func NewStore(config Config) *Store {
	s := &Store{config: config, seed: maphash.MakeSeed(), clock: time.Now}
	s.graves.seed = s.seed
	s.clusters.Store(&map[string]*Cluster{})
	return s
}

// Cluster returns the history of a cluster, nil if nothing is known of it.
func (s *Store) Cluster(name string) *Cluster { return (*s.clusters.Load())[name] }

// Clusters returns the names of the clusters, sorted.
func (s *Store) Clusters() []string { return slices.Sorted(maps.Keys(*s.clusters.Load())) }

// Remove forgets a cluster: nothing of it is left.
func (s *Store) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.Cluster(name)
	if c == nil {
		return
	}
	clusters := maps.Clone(*s.clusters.Load())
	delete(clusters, name)
	s.clusters.Store(&clusters)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removed = true
	s.states.Add(int64(-c.Versions()))
	s.entries.Add(-c.entries)
	s.credentials.Add(int64(-c.tables[Credential].len()))
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
	c := &Cluster{store: s, id: s.versions.Add(1), newest: math.MinInt64, horizon: math.MinInt64}
	c.line.Store(&timeline{})
	c.now.Store(&Moment{Newest: math.MinInt64})
	clusters := maps.Clone(*s.clusters.Load())
	clusters[name] = c
	s.clusters.Store(&clusters)
	return c
}

// Apply makes changes of a cluster visible; those of roles and bindings all at once. They may be late, in any order, and
// said before: everything is then as if each had been said once, in its time. It returns the earliest time from which on
// an answer differs, and false if none does.
func (s *Store) Apply(cluster string, changes ...Change) (since int64, changed bool) {
	if len(changes) == 0 {
		return 0, false
	}
	for {
		if since, changed, ok := s.cluster(cluster).apply(changes); ok {
			return since, changed
		}
		// It was removed meanwhile: what is said from now on is of another of its name.
	}
}
