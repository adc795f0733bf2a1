package context

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strings"
)

// timeline is the states of a cluster by time. What was published is never changed: a writer appends behind the end
// that readers know of, or copies.
type timeline struct {
	states []*State
}

// At returns the state at a time in µs since 1970; nil if that is before anything that is known, or if the cluster was
// removed. It takes no lock.
func (c *Cluster) At(t int64) *State {
	if c == nil {
		return nil
	}
	states := c.line.Load().states
	n := len(states)
	// Nearly every event is newer than every change.
	if n > 0 && states[n-1].from > t {
		n = sort.Search(n, func(i int) bool { return states[i].from > t })
	}
	if n == 0 || states[n-1].void {
		return nil
	}
	return states[n-1]
}

// Between calls yield for the state at from and for each that began after it, up to and including to. It takes no lock.
func (c *Cluster) Between(from, to int64, yield func(*State) bool) {
	if c == nil {
		return
	}
	states := c.line.Load().states
	i := sort.Search(len(states), func(i int) bool { return states[i].from > from })
	for i = max(i-1, 0); i < len(states) && states[i].from <= to; i++ {
		if !states[i].void && !yield(states[i]) {
			return
		}
	}
}

// Latest returns the newest state, nil if there is none. It takes no lock.
func (c *Cluster) Latest() *State { return c.At(math.MaxInt64) }

// Versions is the number of states that are kept.
func (c *Cluster) Versions() int { return len(c.line.Load().states) }

// until is the last moment of a state.
func (s *State) until() int64 {
	states := s.home.line.Load().states
	i := sort.Search(len(states), func(i int) bool { return states[i].from > s.from })
	if i == len(states) {
		return math.MaxInt64
	}
	return states[i].from - 1
}

// step is what makes another state of one: a role or binding that is another, or something about the whole cluster.
type step struct {
	at   int64
	item *Item // nil if it is a mark
	mark *mark
}

func (s *step) compare(o *step) int {
	if d := cmp.Compare(s.at, o.at); d != 0 || s.item == nil || o.item == nil {
		return cmp.Or(d, cmp.Compare(boolInt(s.item != nil), boolInt(o.item != nil))) // marks first
	}
	a, b := s.item.Key, o.item.Key
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// unlog takes what the log has of an object, or of marks if the key is zero, from a time on.
func (c *Cluster) unlog(key Key, since int64) {
	first := sort.Search(len(c.log), func(i int) bool { return c.log[i].at >= since })
	rest := slices.DeleteFunc(c.log[first:], func(s step) bool {
		return s.item == nil && key.Kind == 0 || s.item != nil && s.item.Key == key
	})
	c.log = c.log[:first+len(rest)]
}

// relog puts steps where they belong.
func (c *Cluster) relog(steps []step) {
	slices.SortStableFunc(steps, func(a, b step) int { return a.compare(&b) })
	n := len(c.log)
	c.log = append(c.log, steps...)
	if n > 0 && len(steps) > 0 && c.log[n-1].compare(&steps[0]) > 0 {
		first := sort.Search(n, func(i int) bool { return c.log[i].compare(&steps[0]) > 0 })
		slices.SortStableFunc(c.log[first:], func(a, b step) int { return a.compare(&b) })
	}
}

// base is when the first state begins, if the history before it was forgotten.
func (c *Cluster) base() int64 { return c.line.Load().states[0].from }

// rebuild makes the states from since on of the log. touched are the roles and bindings that are others than before, and
// since when.
func (c *Cluster) rebuild(since int64, touched map[*object]int64) {
	states := c.line.Load().states
	was := len(states)
	keep := sort.Search(was, func(i int) bool { return states[i].from >= since })
	version := func() uint64 { return c.store.versions.Add(1) }
	var base *State
	switch {
	case keep > 0:
		base = states[keep-1]
		if keep < was {
			states = slices.Clip(states[:keep]) // readers have what follows in the same array
		}
	case c.trimmed:
		base = c.foundation(states[0], touched, version)
		states, since = []*State{base}, base.from+1
	default:
		base, states, since = newState(c), nil, math.MinInt64
	}
	for i := sort.Search(len(c.log), func(i int) bool { return c.log[i].at >= since }); i < len(c.log); {
		b := base.next(c.log[i].at, version)
		// What is older than the history makes one state.
		for ; i < len(c.log) && (c.log[i].at == b.from || c.log[i].at <= c.horizon); i++ {
			b.from = c.log[i].at
			b.step(&c.log[i])
		}
		base = b.State
		states = append(states, base)
	}
	c.line.Store(&timeline{states})
	c.store.states.Add(int64(len(states) - was))
}

// foundation is the first state, with the objects that are others than it knows.
func (c *Cluster) foundation(state *State, touched map[*object]int64, version func() uint64) *State {
	b := state.next(state.from, version)
	if m := c.markAt(state.from); b.complete != m.complete || b.doubt != m.doubt {
		b.complete, b.doubt = m.complete, m.doubt
		b.changedRBAC()
	}
	sorted := make([]*object, 0, len(touched))
	for o, since := range touched {
		if since <= state.from {
			sorted = append(sorted, o)
		}
	}
	slices.SortFunc(sorted, func(x, y *object) int {
		return (&step{item: &Item{Key: x.key}}).compare(&step{item: &Item{Key: y.key}})
	})
	for _, o := range sorted {
		if item := o.at(state.from); item != nil {
			b.step(&step{at: state.from, item: item})
		} else {
			b.put(o.key, nil)
		}
	}
	return b.State
}

// step applies one step.
func (b *builder) step(s *step) {
	if s.mark != nil {
		b.mark(s.mark)
		return
	}
	item := s.item
	b.void = b.void && item.gone
	before, _ := b.Get(item.Key)
	switch {
	case item.gone:
		b.put(item.Key, nil)
	case item.Stale && before != nil && before.Source == SourceAggregation:
		item = item.copy()
		item.Object = before.Object
		b.put(item.Key, item)
	default:
		b.put(item.Key, item)
	}
	if item.Key.Kind != ClusterRole {
		return
	}
	if item.exact() && !item.gone && aggregates(item) && len(item.Object.Rules) == 0 {
		b.gather(item.Key, item, 0)
	}
	after, _ := b.Get(item.Key)
	b.aggregate(item.Key.Name, 0, before.labels(), after.labels())
}

// mark applies what is known of the cluster as a whole.
func (b *builder) mark(m *mark) {
	if m.void {
		empty := newState(b.home)
		empty.from, empty.version, empty.rolesVersion = b.from, b.State.version, b.State.version
		*b.State = *empty
	}
	if b.complete != m.complete || b.doubt != m.doubt || m.void {
		b.changedRBAC()
	}
	b.complete, b.doubt, b.void = m.complete, m.doubt, m.void
}

// trim keeps the history of the states within its bounds.
func (c *Cluster) trim() {
	states := c.line.Load().states
	if len(states) == 0 {
		return
	}
	cut := sort.Search(len(states), func(i int) bool { return states[i].from > c.horizon }) - 1
	many := false
	if limit := c.store.config.MaxVersions; c.store.states.Load() > int64(limit) {
		// Who has more than its share makes room.
		if fair := max(minVersions, limit/max(1, len(*c.store.clusters.Load()))); len(states) > fair {
			if at := len(states) - fair*3/4; at > cut {
				cut, many = at, true
			}
		}
	}
	if len(c.log) > 0 && c.log[0].at < states[0].from {
		// The first state took in what the history is too short for.
		c.trimmed = true
		c.cutLog(states[0].from)
	}
	// Seldom and much: each time copies what stays.
	if cut <= 0 || !many && cut < len(states)/4 {
		return
	}
	if many {
		c.store.dropped.Add(int64(cut))
	}
	rest := slices.Clone(states[cut:])
	c.trimmed = true
	c.line.Store(&timeline{rest})
	c.store.states.Add(int64(-cut))
	c.cutLog(rest[0].from)
}

func (c *Cluster) cutLog(until int64) {
	n := sort.Search(len(c.log), func(i int) bool { return c.log[i].at > until })
	c.log = slices.Clone(c.log[n:])
}
