package correlate

import (
	"slices"
	"sort"
	"time"

	"github.com/auditmill/auditmill/schemas"
)

// group is what is known of the matches that belong together.
type group struct {
	node
	key    string
	values []string
	newest int64 // time of the newest signal

	// Of the others:
	entries  []*entry
	tiles    map[int64]*tile
	live     accumulator // of the window that ends at newest
	liveFrom int64       // where that window begins
	decided  int64       // points, or beginnings of windows, before this are decided
	hold     int64       // nothing is forgotten before the watermark is here

	// Of first_seen:
	presence []stretch
	tuples   map[string]*tuple
}

// tile is a piece of time as long as the correlation's timespan, counted from 1970: what satisfies
// the condition in it is one alert. Windows do not care for tiles, only the identity of alerts does.
type tile struct {
	number  int64
	newest  *detail // of the newest event in it
	entries int     // that came in it
	fired   bool
	final   bool   // no more signals can come
	next    int    // how many entries are news enough to say so
	told    digest // what was said last
}

// detail is what an alert needs of its newest event.
type detail struct {
	time   int64
	id     eventID
	rule   int
	alert  *schemas.Alert
	fields map[string][]string
}

func (d *detail) newerThan(o *detail) bool {
	return o == nil || compareEntries(&entry{time: d.time, rule: d.rule, id: d.id}, &entry{time: o.time, rule: o.rule, id: o.id}) > 0
}

// floorDiv is a/b rounded down, for tiles before 1970 in tests.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func (st *state) tile(g *group, at int64) *tile {
	n := floorDiv(at, st.span)
	t := g.tiles[n]
	if t == nil {
		t = &tile{number: n}
		g.tiles[n] = t
	}
	return t
}

func (g *group) lower(at int64) int {
	return sort.Search(len(g.entries), func(i int) bool { return g.entries[i].time >= at })
}

func (st *state) addEntry(g *group, n *entry, d *detail) {
	at, known := slices.BinarySearchFunc(g.entries, n, compareEntries)
	if known && n.version > g.entries[at].version {
		st.better(g, at, n, d)
		return
	}
	if known {
		st.engine.counts.Duplicate[st.ID]++
		return
	}
	last := at == len(g.entries)
	g.entries = slices.Insert(g.entries, at, n)
	st.signals++
	if now := max(st.watermark, st.replayTo); n.time+2*st.span < now { // so late that its time is over: give it one
		g.hold = max(g.hold, now+2*st.span)
	}
	t := st.tile(g, n.time)
	t.entries++
	if d.newerThan(t.newest) {
		t.newest = d
	}
	switch st.mode {
	case eager:
		st.arrived(g, n, last)
	case deferred:
		if n.time < min(g.decided, st.watermark) {
			st.sweep(g, n.time, n.time, func(p point) { st.satisfy(g, p) })
		}
	case whole:
		if n.time < g.decided {
			st.windows(g, n.time, n.time+1)
		}
	case seen, absent:
	}
	if t.fired && t.entries >= t.next {
		st.tell(g, t)
	}
	if limit := st.engine.limits.GroupSignals; len(g.entries) > limit {
		st.limited(limitGroupSignals, limit/8+1)
		st.drop(g, limit/8+1)
	}
	st.schedule(g)
}

// point is an instant at which the condition holds or not, with the entries of the window before it.
type point struct {
	time        int64
	value       float64
	first, last int // indexes of entries
}

// sweep visits the instants of signals from one time to another, both included, at which the
// condition holds. visit must not add or drop entries.
func (st *state) sweep(g *group, from, to int64, visit func(point)) {
	a := st.newAccumulator()
	start := g.lower(from - st.span)
	for i := start; i < len(g.entries) && g.entries[i].time <= to; {
		at := g.entries[i].time
		for g.entries[start].time < at-st.span {
			a.remove(g.entries[start])
			start++
		}
		for ; i < len(g.entries) && g.entries[i].time == at; i++ {
			a.add(g.entries[i])
		}
		if at < from {
			continue
		}
		if value, ok := a.value(at - st.span); ok && st.holds(value) {
			visit(point{at, value, start, i - 1})
		}
	}
}

// arrived looks at the instants that an entry changes: its own and those up to a timespan later.
func (st *state) arrived(g *group, n *entry, last bool) {
	if st.follow(g, n, last) {
		value, ok := g.live.value(g.liveFrom)
		if ok && st.holds(value) {
			st.satisfy(g, point{time: g.newest, value: value, first: g.lower(g.liveFrom), last: len(g.entries) - 1})
		}
	}
	if n.time == g.newest {
		return
	}
	to := min(n.time+st.span, g.newest-1)
	if !st.feedsOthers && st.allFired(g, n.time, to) || st.hopeless(g, n) {
		return
	}
	st.sweep(g, n.time, to, func(p point) { st.satisfy(g, p) })
}

// hopeless reports whether not even all entries of the windows that an entry is in, up to the newest signal, satisfy the
// condition together, as in a stream that is a little out of order. It costs what is out of order.
func (st *state) hopeless(g *group, n *entry) bool {
	if _, inOrder := g.live.(*ordered); inOrder || n.time < g.newest-st.span {
		return false
	}
	more := g.entries[g.lower(n.time-st.span):g.lower(g.liveFrom)]
	for _, e := range more {
		g.live.add(e)
	}
	value, ok := g.live.value(never)
	for _, e := range more {
		g.live.remove(e)
	}
	return !ok || !st.holds(value)
}

func (st *state) allFired(g *group, from, to int64) bool {
	for n := floorDiv(from, st.span); n <= floorDiv(to, st.span); n++ {
		if t := g.tiles[n]; t == nil || !t.fired {
			return false
		}
	}
	return true
}

// follow keeps the window that ends at the newest signal, so that one in order costs little. It
// reports whether that window changed.
func (st *state) follow(g *group, n *entry, last bool) bool {
	if n.time < g.newest-st.span {
		return false
	}
	if _, inOrder := g.live.(*ordered); g.live == nil || inOrder && !last {
		g.live, g.liveFrom = st.newAccumulator(), g.newest-st.span
		for _, e := range g.entries[g.lower(g.liveFrom):] {
			g.live.add(e)
		}
		return true
	}
	from := g.newest - st.span
	for i := g.lower(g.liveFrom); i < len(g.entries) && g.entries[i].time < from; i++ {
		g.live.remove(g.entries[i])
	}
	g.liveFrom = from
	g.live.add(n)
	return true
}

// satisfy notes that the condition holds at a point.
func (st *state) satisfy(g *group, p point) {
	t := st.tile(g, p.time)
	if !t.fired {
		t.fired = true
		st.tell(g, t)
	}
	if last := g.entries[p.last]; st.feedsOthers && !last.passed {
		last.passed = true
		st.match(g, st.tileID(g, t.number), p.time, p.value, t.newest)
	}
}

func (st *state) tileID(g *group, n int64) string {
	return st.alertID(g, "tile", time.UnixMicro(n*st.span).UTC().Format(time.RFC3339Nano))
}

// tell raises or updates the alert of a tile: the first time, whenever there are twice as many
// events as before, and when the tile is final.
func (st *state) tell(g *group, t *tile) {
	from, to := t.number*st.span, (t.number+1)*st.span-1
	first, value, points := 0, 0.0, 0
	st.sweep(g, from, to, func(p point) {
		if points == 0 {
			first, value = p.first, p.value
		}
		points++
		value = st.peak(value, p.value)
	})
	if points == 0 || t.newest == nil {
		return
	}
	t.next = 2 * t.entries
	entries := g.entries[first:g.lower(to+1)]
	st.raise(g, st.tileID(g, t.number), t.newest, t.newest.time, entries, value, &t.told)
}

// peak is the value that is farther beyond the condition.
func (st *state) peak(a, b float64) float64 {
	if st.rises() {
		return max(a, b)
	}
	return min(a, b)
}

// decideWindows decides what the watermark lets be decided, and forgets what no longer counts.
func (st *state) decideWindows(g *group) {
	if st.mode == absent {
		st.decideAbsence(g)
		return
	}
	w := st.watermark
	switch st.mode {
	case deferred:
		from := g.decided
		if len(g.entries) > 0 {
			from = max(from, g.entries[0].time)
		}
		g.decided = max(g.decided, w)
		var points []point
		st.sweep(g, from, w-1, func(p point) { points = append(points, p) })
		for _, p := range points {
			st.satisfy(g, p)
		}
	case whole:
		from := g.decided
		g.decided = max(g.decided, w-st.span)
		st.windows(g, from, w-st.span)
	case eager, seen, absent:
	}
	st.closeTiles(g)
	if g.hold <= w {
		st.drop(g, g.lower(w-2*st.span))
	}
	if len(g.entries) == 0 && len(g.tiles) == 0 {
		st.forget(g)
		return
	}
	st.schedule(g)
}

// closeTiles says the last word about tiles that are over.
func (st *state) closeTiles(g *group) {
	w := st.watermark
	for n, t := range g.tiles {
		end := (n + 1) * st.span
		if end > w {
			continue
		}
		if !t.final {
			t.final = true
			if st.mode != whole { // which decides a timespan later
				if t.fired {
					st.tell(g, t)
				}
				t.newest = nil
			}
		}
		if end+2*st.span <= w && g.hold <= w {
			delete(g.tiles, n)
		}
	}
}

// drop forgets the n oldest entries.
func (st *state) drop(g *group, n int) {
	n = min(n, len(g.entries))
	for _, e := range g.entries[:n] {
		if g.live != nil && e.time >= g.liveFrom {
			g.live.remove(e)
		}
	}
	g.entries = slices.Delete(g.entries, 0, n)
	if cap(g.entries) > 64 && len(g.entries) < cap(g.entries)/4 {
		g.entries = slices.Clone(g.entries)
	}
	st.signals -= n
}

// schedule says when the group has to be looked at again.
func (st *state) schedule(g *group) {
	due := int64(forever)
	for n, t := range g.tiles {
		end := (n+1)*st.span - 1
		if t.final {
			end = max(end+2*st.span, g.hold-1)
		}
		due = min(due, end)
	}
	if len(g.entries) > 0 {
		due = min(due, max(g.entries[0].time+2*st.span, g.hold))
		undecided := g.lower(g.decided)
		if undecided < len(g.entries) {
			switch st.mode {
			case deferred:
				due = min(due, g.entries[undecided].time)
			case whole:
				due = min(due, g.entries[undecided].time+st.span)
			case eager, seen, absent:
			}
		}
	}
	st.due.set(&g.node, due)
}

// windows decides the windows that begin in [from, to) at a signal, and the silences after it.
func (st *state) windows(g *group, from, to int64) {
	a := st.newAccumulator()
	begin, end := g.lower(from), g.lower(from)
	previous := int64(never)
	if begin > 0 {
		previous = g.entries[begin-1].time
	}
	for begin < len(g.entries) && g.entries[begin].time < to {
		start := g.entries[begin].time
		for ; end < len(g.entries) && g.entries[end].time <= start+st.span; end++ {
			a.add(g.entries[end])
		}
		if o, ok := a.(*ordered); ok { // entries that are before the window must not begin a chain
			*o = *newOrdered(len(st.Rules))
			for _, e := range g.entries[begin:end] {
				o.add(e)
			}
		}
		// What another window holds besides more is not a window of its own.
		if g.entries[end-1].time-previous > st.span {
			st.window(g, a, begin, end)
		}
		next := begin
		for ; next < end && g.entries[next].time == start; next++ {
			a.remove(g.entries[next])
		}
		if next == len(g.entries) || g.entries[next].time > start+st.span {
			st.silence(g, next-1)
		}
		previous, begin = start, next
	}
}

// window decides one window, unless its tile has an alert.
func (st *state) window(g *group, a accumulator, begin, end int) {
	start := g.entries[begin].time
	value, ok := a.value(never)
	t := st.tile(g, start)
	if !ok || !st.holds(value) || t.fired {
		return
	}
	t.fired, t.next = true, int(^uint(0)>>1)
	id := st.tileID(g, t.number)
	st.raise(g, id, t.newest, start+st.span, g.entries[begin:end], value, &t.told)
	if st.feedsOthers {
		st.match(g, id, start+st.span, value, t.newest)
	}
}

// silence decides the empty window after the entry with an index.
func (st *state) silence(g *group, last int) {
	value, ok := st.newAccumulator().value(never)
	if !ok || !st.holds(value) {
		return
	}
	e := g.entries[last]
	id := st.alertID(g, "silence", e.id.String())
	d := st.tile(g, e.time).newest
	st.raise(g, id, d, e.time+st.span, g.entries[last:last+1], value, &digest{})
	if st.feedsOthers {
		st.match(g, id, e.time+st.span, value, d)
	}
}
