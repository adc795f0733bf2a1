package context

import (
	"container/heap"
	"hash/maphash"
	"iter"
	"math"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

// object is everything that is known of one object.
type object struct {
	key     Key
	entries []*entry                // what was said, in order; of the writer
	line    atomic.Pointer[[]*Item] // what that means, by time
	due     bool                    // it waits in the queue
}

func (o *object) items() []*Item {
	if line := o.line.Load(); line != nil {
		return *line
	}
	return nil
}

// at returns the item at a time, nil if there was none.
func (o *object) at(t int64) *Item {
	line := o.items()
	// Nearly every event is newer than every change.
	n := len(line)
	if n > 0 && line[n-1].From > t {
		n = sort.Search(n-1, func(i int) bool { return line[i].From > t })
	}
	if n == 0 || line[n-1].gone {
		return nil
	}
	return line[n-1]
}

// last returns the newest item, gone or not; nil if there is none.
func (o *object) last() *Item {
	if line := o.items(); len(line) > 0 {
		return line[len(line)-1]
	}
	return nil
}

// table is the objects of one kind by their keys. Reading takes no lock.
type table struct {
	known atomic.Pointer[trie[Key, *object]]
}

func (t *table) get(key Key) *object {
	known := t.known.Load()
	if known == nil {
		return nil
	}
	o, _ := known.get(key)
	return o
}

func (t *table) len() int {
	if known := t.known.Load(); known != nil {
		return known.size
	}
	return 0
}

func (t *table) all() iter.Seq[*object] {
	return func(yield func(*object) bool) {
		known := t.known.Load()
		if known == nil {
			return
		}
		for _, o := range known.all() {
			if !yield(o) {
				return
			}
		}
	}
}

// add returns the object of a key, a new one if there is none.
func (t *table) add(seed maphash.Seed, key Key) *object {
	if o := t.get(key); o != nil {
		return o
	}
	o := &object{key: key}
	known := trie[Key, *object]{seed: seed}
	if old := t.known.Load(); old != nil {
		known = *old
	}
	known = known.with(key, o)
	t.known.Store(&known)
	return o
}

func (t *table) remove(key Key) {
	if known := t.known.Load(); known != nil {
		rest := known.without(key)
		t.known.Store(&rest)
	}
}

// insert adds what was said of the object; false if it was said before.
func (o *object) insert(e *entry, wipes []int64) bool {
	n := len(o.entries)
	if i := slices.IndexFunc(o.entries, func(k *entry) bool { return k.covers(e) }); i >= 0 {
		if !o.entries[i].divide(e) {
			return false
		}
		i, _ = slices.BinarySearchFunc(o.entries, e, (*entry).compare)
		o.entries = slices.Insert(o.entries, i, e)
		return true
	}
	if n == 0 || o.entries[n-1].compare(e) < 0 {
		if n == 0 || wipedBetween(wipes, o.entries[n-1].item.From, e.item.From) || !o.entries[n-1].extend(e) {
			o.entries = append(o.entries, e)
		}
		return true
	}
	i, found := slices.BinarySearchFunc(o.entries, e, (*entry).compare)
	if !found {
		o.entries = slices.Insert(o.entries, i, e)
	}
	return !found
}

// wipedBetween says whether the cluster was removed between two times.
func wipedBetween(wipes []int64, from, until int64) bool {
	return slices.ContainsFunc(wipes, func(at int64) bool { return from <= at && at <= until })
}

// extend takes the next version of an object into the run if it says the same: most changes of nodes, pods and replica
// sets are to nothing that is kept.
func (e *entry) extend(o *entry) bool {
	if e.item.Key.Kind.RBAC() || !e.repeats(o) || o.rev <= max(e.rev, e.last) || o.item.From <= max(e.item.From, e.until) {
		return false
	}
	e.more = e.last != 0
	e.until, e.last = o.item.From, o.rev
	return true
}

// covers says that a version is in the middle of a run.
func (e *entry) covers(o *entry) bool {
	return e.last != 0 && e.repeats(o) && o.rev >= e.rev && o.rev <= e.last && o.item.From <= e.until
}

// divide makes of a run of two versions the first, and a run from the one between that o is to the second: something else may
// turn out to have been before it. Of a longer run it is not known any more what was between; then it returns false.
func (e *entry) divide(o *entry) bool {
	if e.more || o.rev == e.rev || o.rev == e.last || o.item.From <= e.item.From || o.item.From == e.until {
		return false
	}
	o.until, o.last = e.until, e.last
	e.until, e.last = 0, 0
	return true
}

// repeats says whether both are exact, of one object, and say the same.
func (e *entry) repeats(o *entry) bool {
	return e.item.exact() && o.item.exact() && e.rev != 0 && o.rev != 0 && e.uid != "" && e.uid == o.uid && e.item.Object.same(o.item.Object)
}

// follows says that nothing that is known of the object can contradict the entry: the next recorded write of one object.
func (o *object) follows(e *entry, wipes []int64) bool {
	n := len(o.entries)
	if n == 0 || !e.item.exact() || e.rev == 0 || e.uid == "" || len(wipes) > 0 {
		return false
	}
	k, last := o.entries[n-1], o.last()
	return last == &k.item && k.item.exact() && k.uid == e.uid && max(k.rev, k.last) < e.rev && k.rev != 0 && max(k.item.From, k.until) < e.item.From
}

// say puts a change into what is known of the object, and returns since when it is something else, false if it is not.
func (o *object) say(e *entry, wipes []int64) (before []*Item, since int64, changed bool) {
	before = o.items()
	if o.follows(e, wipes) {
		n := len(o.entries)
		if !o.insert(e, wipes) || len(o.entries) == n || e.item.plain() && before[len(before)-1].Object.same(e.item.Object) {
			return before, 0, false
		}
		// Readers know only of what was before; nobody else appends.
		line := append(before, &e.item)
		o.line.Store(&line)
		return before, e.item.From, true
	}
	if !o.insert(e, wipes) {
		return before, 0, false
	}
	since, changed = o.settle(wipes)
	return before, since, changed
}

// settle works out anew what the entries mean.
func (o *object) settle(wipes []int64) (since int64, changed bool) {
	line := resolve(o.entries, wipes)
	since, changed = differ(o.items(), line)
	if changed {
		o.line.Store(&line)
	}
	return since, changed
}

// prune forgets what the object was before the item that held at a time, and says what is left: nothing of one that was
// gone by then.
func (o *object) prune(horizon int64, wipes []int64) (left bool, gone int64) {
	line := o.items()
	i := sort.Search(len(line), func(i int) bool { return line[i].From > horizon }) - 1
	if i < 0 {
		// Only deletions of what is not known may be left.
		if len(line) == 0 {
			for _, e := range o.entries {
				gone = max(gone, e.item.From)
			}
			if gone <= horizon {
				return false, gone
			}
		}
		return true, 0
	}
	base := line[i]
	if base.gone && i < len(line)-1 {
		i, base = i+1, line[i+1] // it begins with what came after it
	}
	entries := make([]*entry, 0, len(o.entries))
	found := false
	for _, e := range o.entries {
		switch {
		case &e.item == base:
			found = true
			entries = append(entries, e)
		case e.item.From > horizon:
			entries = append(entries, e)
		}
	}
	if base.gone && i == len(line)-1 {
		return false, base.From
	}
	if !found {
		entries = append(entries, entryOf(&Change{
			Key: base.Key, From: base.From, Object: base.Object, Source: base.Source, By: base.By, Stale: base.Stale,
		}))
		slices.SortFunc(entries, (*entry).compare)
	}
	// What was said early may have turned out to be of later: then it is not the time to forget it yet.
	kept := resolve(entries, wipes)
	if j := slices.IndexFunc(kept, func(item *Item) bool { return item.From >= base.From }); j >= 0 {
		if _, other := differ(line[i:], kept[j:]); !other {
			o.entries = slices.Clip(entries)
			o.line.Store(&kept)
		}
	}
	return true, 0
}

// due is an object of which something can be forgotten when the history ends after a time.
type due struct {
	at     int64
	object *object
}

// queue is a heap: what is due first is the first.
type queue []due

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(due)) } //nolint:forcetypeassert // of this package alone
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	(*q)[len(*q)-1] = due{}
	*q = (*q)[:len(*q)-1]
	return last
}

// wait puts an object into the queue if there will be something to forget of it.
func (q *queue) wait(o *object) {
	at, ok := o.dueAt()
	if ok && !o.due {
		o.due = true
		heap.Push(q, due{at, o})
	}
}

// dueAt is the time that the history must begin after for something of the object to be forgotten.
func (o *object) dueAt() (at int64, ok bool) {
	line := o.items()
	if o.key.Kind == Credential && len(line) > 0 {
		c := line[len(line)-1]
		if c.Object != nil && c.Object.Credential != nil && c.Object.Credential.Expires != 0 {
			return max(c.From, c.Object.Credential.Expires), true
		}
		return c.From + unknownLife.Microseconds(), true
	}
	switch {
	case len(line) == 0 && len(o.entries) > 0:
		return o.entries[len(o.entries)-1].item.From, true
	case len(line) == 0:
		return 0, false
	case line[0].gone, len(line) == 1 && len(o.entries) == 1:
		return line[0].From, line[0].gone
	case len(line) == 1:
		return max(line[0].From, o.entries[len(o.entries)-1].item.From), true
	}
	return line[1].From, true
}

// graves remembers until when objects were gone that were forgotten, so that they do not come back when something old is
// said again. There are two generations; the older one makes way.
type graves struct {
	mu       sync.Mutex
	now, old map[uint64]int64
	seed     maphash.Seed
}

// maxGraves bounds a generation: 40 bytes each.
const maxGraves = 1 << 18

type grave struct {
	cluster uint64
	key     Key
}

func (g *graves) bury(cluster uint64, key Key, at int64) {
	h := maphash.Comparable(g.seed, grave{cluster, key})
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.now) >= maxGraves {
		g.old, g.now = g.now, nil
	}
	if g.now == nil {
		g.now = map[uint64]int64{}
	}
	g.now[h] = max(at, g.now[h])
}

// gone returns until when an object was gone, as far as is remembered.
func (g *graves) gone(cluster uint64, key Key) int64 {
	h := maphash.Comparable(g.seed, grave{cluster, key})
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.now[h]
	old, also := g.old[h]
	switch {
	case ok && also:
		return max(at, old)
	case ok:
		return at
	case also:
		return old
	}
	return math.MinInt64
}
