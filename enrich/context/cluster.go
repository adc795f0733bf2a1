package context

import (
	"container/heap"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Cluster is the history of one cluster.
type Cluster struct {
	store  *Store
	id     uint64
	line   atomic.Pointer[timeline]
	now    atomic.Pointer[Moment]
	marks  atomic.Pointer[[]mark]
	tables [kinds]table

	places index[netip.Prefix] // of pods, nodes and ranges
	people index[alias]        // of persons

	mu      sync.Mutex
	log     []step // by time
	notes   []note
	wipes   []int64 // when the cluster was removed
	queues  [3]queue
	newest  int64 // time of the newest change
	horizon int64 // what was before it is forgotten
	trimmed bool  // the first state has taken in what the log had before it
	entries int64 // of objects that are no roles and bindings
	lost    bool  // something was forgotten that had not ended
	removed bool  // from the store: nothing may be added any more
}

// The queues of a cluster.
const (
	queueRBAC = iota
	queueObjects
	queueCredentials
)

func queueOf(k Kind) int {
	switch {
	case k.RBAC():
		return queueRBAC
	case k == Credential:
		return queueCredentials
	}
	return queueObjects
}

// batch is what a number of changes did to a cluster.
type batch struct {
	since   int64 // when something is different
	touched map[*object]int64
	states  int64  // since when there are other states
	steps   []step // that the log needs
	wiped   bool
}

func (b *batch) from(t int64) { b.since = min(b.since, t) }

// ahead is how far the clocks of others may be ahead of ours.
const ahead = time.Hour

// apply takes changes; false if the cluster is not in the store any more.
func (c *Cluster) apply(changes []Change) (since int64, changed, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return 0, false, false
	}
	b := &batch{since: math.MaxInt64, states: math.MaxInt64}
	marked := int64(math.MaxInt64)
	for i := range changes {
		change := &changes[i]
		c.newest = max(c.newest, change.From)
		if change.Key.Kind != 0 {
			c.say(b, change)
			continue
		}
		b.wiped = b.wiped || change.Removed
		if at, different := c.note(noteOf(change)); different {
			b.from(at)
			marked = min(marked, at)
		}
	}
	if b.wiped {
		c.resettle(b)
	}
	// A time that has not come yet is wrong, and no reason to forget what was.
	newest := min(c.newest, c.store.clock().Add(ahead).UnixMicro())
	if history := newest - c.store.config.History.Microseconds(); history < newest {
		c.horizon = max(c.horizon, history)
	}
	if marked != math.MaxInt64 {
		c.remarked(b, marked)
	}
	if b.states != math.MaxInt64 {
		c.restate(b)
	}
	c.forget(len(changes))
	if c.lost || b.since != math.MaxInt64 {
		c.passed()
	}
	if b.since == math.MaxInt64 {
		return 0, false, true
	}
	return b.since, true, true
}

// say takes a change of an object.
func (c *Cluster) say(b *batch, change *Change) {
	t := &c.tables[change.Key.Kind]
	o := t.get(change.Key)
	if o == nil && change.From <= c.horizon && c.store.graves.gone(c.id, change.Key) >= change.From {
		return // it was gone, and that is forgotten
	}
	fresh := o == nil
	if fresh {
		o = t.add(c.store.seed, change.Key)
	}
	n := len(o.entries)
	before, since, changed := o.say(entryOf(change), c.wipes)
	c.count(o, fresh, n)
	if changed {
		c.became(b, o, before, since)
	}
	if last := o.last(); last != nil {
		c.newest = max(c.newest, last.From) // which may be a little later
	}
	c.queues[queueOf(change.Key.Kind)].wait(o)
}

// count keeps the numbers of what is held. n is how many entries the object had.
func (c *Cluster) count(o *object, fresh bool, n int) {
	switch {
	case o.key.Kind.RBAC():
	case o.key.Kind == Credential:
		if fresh {
			c.store.credentials.Add(1)
		}
	default:
		d := int64(len(o.entries) - n)
		c.entries += d
		c.store.entries.Add(d)
	}
}

// became says that an object is something else since a time than it was before.
func (c *Cluster) became(b *batch, o *object, before []*Item, since int64) {
	b.from(since)
	c.reindex(o, before)
	if !o.key.Kind.RBAC() {
		return
	}
	if b.touched == nil {
		b.touched = map[*object]int64{}
	}
	at, known := b.touched[o]
	if !known && len(before) > 0 {
		c.unlog(o.key, since)
	} else if known && since < at {
		c.unlog(o.key, since)
	}
	if !known || since < at {
		b.touched[o] = since
	}
	b.states = min(b.states, since)
}

// remarked says that the cluster as a whole is known otherwise since a time.
func (c *Cluster) remarked(b *batch, since int64) {
	c.unlog(Key{}, since)
	marks := *c.marks.Load()
	for i := range marks {
		if marks[i].at >= since && (!c.trimmed || marks[i].at > c.base()) {
			b.steps = append(b.steps, step{at: marks[i].at, mark: &marks[i]})
		}
	}
	b.states = min(b.states, since)
}

// resettle works out all objects anew, after the cluster was removed.
func (c *Cluster) resettle(b *batch) {
	for k := range c.tables {
		for o := range c.tables[k].all() {
			before := o.items()
			if since, changed := o.settle(c.wipes); changed {
				c.became(b, o, before, since)
			}
			c.queues[queueOf(o.key.Kind)].wait(o)
		}
	}
}

// restate makes the states anew.
func (c *Cluster) restate(b *batch) {
	for o, since := range b.touched {
		for _, item := range o.items() {
			if item.From >= since && (!c.trimmed || item.From > c.base()) {
				b.steps = append(b.steps, step{at: item.From, item: item})
			}
		}
	}
	c.relog(b.steps)
	c.rebuild(b.states, b.touched)
}

// forget keeps what is held within its bounds. Not everything at once: it costs a little for each change.
func (c *Cluster) forget(changes int) {
	c.trim()
	rbac := int64(math.MinInt64)
	if c.trimmed {
		rbac = c.base()
	}
	for i, until := range [...]int64{queueRBAC: rbac, queueObjects: c.horizon, queueCredentials: c.horizon} {
		q := &c.queues[i]
		for n := 64 + 4*changes; n > 0 && len(*q) > 0 && (*q)[0].at <= until; n-- {
			c.forgetFirst(q, until)
		}
	}
	if len(c.notes) > 0 && c.notes[0].from < rbac {
		c.forgetNotes(rbac)
	}
	c.bound()
}

// forgetFirst forgets what an object was before a time: the one of which that is the longest ago.
func (c *Cluster) forgetFirst(q *queue, until int64) {
	o := heap.Pop(q).(due).object //nolint:forcetypeassert // of this package alone
	o.due = false
	if at, ok := o.dueAt(); !ok || at > until {
		q.wait(o) // it has changed since
		return
	}
	if o.key.Kind == Credential {
		c.drop(o, math.MinInt64)
		c.store.expired.Add(1)
		return
	}
	n, before := len(o.entries), o.items()
	left, gone := o.prune(until, c.wipes)
	if !left {
		c.drop(o, gone)
		return
	}
	c.count(o, false, n)
	c.reindex(o, before)
	at, ok := o.dueAt()
	if ok && at <= until {
		// Some of it is needed still.
		o.due = true
		heap.Push(q, due{until + c.store.config.History.Microseconds()/8 + 1, o})
		return
	}
	q.wait(o)
}

// drop forgets an object, that was gone at a time.
func (c *Cluster) drop(o *object, gone int64) {
	if gone != math.MinInt64 {
		c.store.graves.bury(c.id, o.key, gone)
	}
	n, before := len(o.entries), o.items()
	o.entries, c.lost = nil, true
	none := []*Item{}
	o.line.Store(&none)
	c.tables[o.key.Kind].remove(o.key)
	c.reindex(o, before)
	c.count(o, false, n)
	if o.key.Kind == Credential {
		c.store.credentials.Add(-1)
	}
}

// bound makes room if there is too much: the clusters that have more than their share do, the oldest first.
func (c *Cluster) bound() {
	config, clusters := &c.store.config, int64(max(1, len(*c.store.clusters.Load())))
	q := &c.queues[queueCredentials]
	for limit := int64(config.MaxCredentials); c.store.credentials.Load() > limit && int64(c.tables[Credential].len()) > limit/clusters && len(*q) > 0; {
		o := heap.Pop(q).(due).object //nolint:forcetypeassert // of this package alone
		o.due = false
		c.drop(o, math.MinInt64)
		c.store.dropped.Add(1)
	}
	q = &c.queues[queueObjects]
	limit := int64(config.MaxObjects)
	for n := 256; n > 0 && c.store.entries.Load() > limit && c.entries > limit/clusters && len(*q) > 0; n-- {
		before := c.entries
		c.forgetFirst(q, (*q)[0].at)
		c.store.dropped.Add(max(0, before-c.entries))
	}
	if c.store.entries.Load() > limit+limit/8 && c.entries > limit/clusters {
		c.shed(c.entries - limit/clusters)
	}
}

// shed forgets so many entries of what there is most of. That makes these kinds doubtful: not all are known any more.
func (c *Cluster) shed(n int64) {
	for _, k := range []Kind{Pod, ReplicaSet, Job} {
		shed := false
		for o := range c.tables[k].all() {
			if n <= 0 {
				break
			}
			n -= int64(len(o.entries))
			c.store.dropped.Add(int64(len(o.entries)))
			c.drop(o, math.MinInt64)
			shed = true
		}
		if shed {
			_, _ = c.note(note{from: c.newest, complete: 1 << k, doubt: true, source: "bound"})
		}
	}
}
