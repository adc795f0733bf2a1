package correlate

import (
	"cmp"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"github.com/auditmill/auditmill/schemas"
)

// Limits bound the memory of each correlation.
type Limits struct {
	Groups       int `mapstructure:"groups" doc:"most groups; beyond it those are forgotten whose last signal is oldest"`
	Signals      int `mapstructure:"signals" doc:"most signals of all groups together; beyond it the groups whose last signal is oldest are forgotten"`
	GroupSignals int `mapstructure:"group_signals" doc:"most signals of one group; beyond it the oldest are forgotten. No threshold can be higher"`
	Seen         int `mapstructure:"seen" doc:"most combinations that a first_seen remembers; beyond it those are forgotten that were not seen for longest"`
}

// DefaultLimits keep a correlation below about 100 MiB in the worst case, in which somebody makes up groups.
func DefaultLimits() Limits {
	return Limits{Groups: 30_000, Signals: 240_000, GroupSignals: 10_000, Seen: 300_000}
}

// share is the part of one of n partitions. A group has all its signals in one, so what bounds it stays.
func (l Limits) share(n int) Limits {
	n = max(n, 1)
	return Limits{
		Groups: max(l.Groups/n, 16), Signals: max(l.Signals/n, 2*l.GroupSignals), GroupSignals: l.GroupSignals, Seen: max(l.Seen/n, 16),
	}
}

// Names of the limits, in metrics.
const (
	limitGroups       = "groups"
	limitSignals      = "signals"
	limitGroupSignals = "group_signals"
	limitSeen         = "seen"
)

// Output is what came of signals and clocks.
type Output struct {
	Alerts []schemas.Alert
	// Signals are matches of correlations that others count, to be put into audit.signals.v1.
	Signals []Signal
	// Seen are changes of the memory of first_seen correlations.
	Seen []Seen
}

// Counts are what an Engine counted since it was made, by id of the correlation, and what it holds.
type Counts struct {
	Late, Duplicate, Unusable map[string]int
	Limited                   map[string]map[string]int // entries forgotten by limit
	Unknown                   int                       // signals of no correlation
	Signals, Groups, Seen     int                       // held now
}

// Engine evaluates the correlations of a Set on the signals of one partition of audit.signals.v1. It
// is pure: what it gives depends on the signals and clocks alone, and it knows no clock on the wall but
// that of RaisedAt. It is not safe for concurrent use.
type Engine struct {
	set    *Set
	limits Limits
	now    func() time.Time
	states []*state
	byID   map[string]*state
	clocks []levelClock
	seed   maphash.Seed
	counts Counts
	out    Output
	// inProcess engines are their own audience: matches of correlations come back at once.
	inProcess bool
	ended     bool // nothing comes late any more
}

// levelClock has the times of the sources of a level.
type levelClock struct {
	of    int32
	times map[int32]int64
	floor int64 // known from before a restart
}

// state is what is known for one correlation.
type state struct {
	*definition
	engine          *Engine
	groups          map[string]*group
	due             schedule
	watermark       int64 // older signals are late
	replayTo        int64 // what the watermark was before the restart
	signals, tuples int   // held
}

// NewEngine returns an engine without signals.
func NewEngine(set *Set, limits Limits, now func() time.Time) *Engine {
	e := &Engine{limits: limits, now: now, seed: maphash.MakeSeed(), byID: map[string]*state{}, counts: Counts{
		Late: map[string]int{}, Duplicate: map[string]int{}, Unusable: map[string]int{}, Limited: map[string]map[string]int{},
	}}
	e.Replace(set)
	return e
}

// Replace evaluates another set from now on. Correlations whose definition did not change go on with
// what they know; the others begin anew.
func (e *Engine) Replace(set *Set) {
	old := e.byID
	e.set, e.states, e.byID = set, nil, map[string]*state{}
	for _, d := range set.rules {
		st := &state{definition: d, engine: e, groups: map[string]*group{}, watermark: never, replayTo: never}
		if was := old[d.ID]; was != nil && was.shape == d.shape && was.level == d.level {
			was.definition = d
			st = was
		}
		e.states = append(e.states, st)
		e.byID[d.ID] = st
	}
	for len(e.clocks) < max(1, set.depth()) {
		e.clocks = append(e.clocks, levelClock{times: map[int32]int64{}, floor: never})
	}
	e.advance()
}

// Take returns what came since the last call.
func (e *Engine) Take() Output {
	out := e.out
	e.out = Output{}
	return out
}

// Add takes a signal; offset is where it stands in its partition.
func (e *Engine) Add(s *Signal, offset int64) {
	st := e.byID[s.Correlation]
	if st == nil {
		e.counts.Unknown++
		return
	}
	rule, ok := st.inputs[s.Rule]
	if !ok || len(s.Group) != len(st.GroupNames) || len(s.Values) > 0 && len(s.Values) != len(st.ValueNames) {
		e.counts.Unknown++ // of a definition that changed
		return
	}
	n := &entry{time: s.Time.UnixMicro(), id: shortID(s.EventID), rule: rule, offset: offset}
	if s.Alert != nil {
		n.version = s.Alert.Version
	}
	if s.Retract {
		if g := st.groups[joined(s.Group)]; g != nil && st.mode != seen && st.mode != absent {
			st.retract(g, n)
		}
		return
	}
	if n.time < st.watermark {
		e.counts.Late[st.ID]++
	}
	e.counts.Unusable[st.ID] += st.measure(n, s, e.seed)
	g := st.group(s.Group)
	g.newest = max(g.newest, n.time)
	d := &detail{time: n.time, id: n.id, rule: rule, alert: s.Alert, fields: s.Fields}
	switch st.mode {
	case eager, deferred, whole:
		st.addEntry(g, n, d)
	case seen:
		st.addSighting(g, n, s, d)
	case absent:
		st.addPresence(g, n, d)
	}
	st.limit()
}

func (st *state) group(values []string) *group {
	key := joined(values)
	g := st.groups[key]
	if g == nil {
		g = &group{key: key, values: values, newest: never, decided: never, hold: never, liveFrom: never}
		g.node = node{index: -1, group: g}
		switch st.mode {
		case eager, deferred, whole:
			g.tiles = map[int64]*tile{}
		case seen:
			g.tuples = map[string]*tuple{}
		case absent:
		}
		st.groups[key] = g
	}
	return g
}

// limit forgets the groups whose last signal is oldest, some at a time so that it costs little.
func (st *state) limit() {
	limits := st.engine.limits
	groups, signals := limits.Groups, limits.Signals
	if len(st.groups) <= groups && st.signals <= signals {
		return
	}
	name := limitGroups
	if st.signals > signals {
		name = limitSignals
	}
	oldest := make([]*group, 0, len(st.groups))
	for _, g := range st.groups {
		oldest = append(oldest, g)
	}
	slices.SortFunc(oldest, func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.newest, b.newest), cmp.Compare(a.key, b.key))
	})
	for _, g := range oldest[:len(oldest)-1] { // never the one that just got a signal and may be alone
		if len(st.groups) <= groups-groups/8 && st.signals <= signals-signals/8 {
			break
		}
		st.limited(name, 1)
		st.forget(g)
	}
}

func (st *state) limited(name string, n int) {
	byName := st.engine.counts.Limited[st.ID]
	if byName == nil {
		byName = map[string]int{}
		st.engine.counts.Limited[st.ID] = byName
	}
	byName[name] += n
}

func (st *state) forget(g *group) {
	st.signals -= len(g.entries)
	for _, t := range g.tuples {
		st.due.remove(&t.node)
		st.tuples--
	}
	st.due.remove(&g.node)
	delete(st.groups, g.key)
}

// Clock takes a clock. A time that goes back, as after a restart of its source, is passed over.
func (e *Engine) Clock(c Clock) {
	if c.Level >= len(e.clocks) {
		return
	}
	l := &e.clocks[c.Level]
	if c.Of != l.of { // the number of partitions changed
		l.of = c.Of
		for p := range l.times {
			if p >= c.Of {
				delete(l.times, p)
			}
		}
	}
	if micro := c.Time.UnixMicro(); micro > l.times[c.Partition] {
		l.times[c.Partition] = micro
		e.advance()
	}
}

// time is how far all sources of the level are.
func (l *levelClock) time() int64 {
	if l.of == 0 || len(l.times) < int(l.of) {
		return l.floor
	}
	least := int64(forever)
	for _, t := range l.times {
		least = min(least, t)
	}
	return max(least, l.floor)
}

// advance moves the watermarks and decides what they let be decided, inner correlations first.
func (e *Engine) advance() {
	for _, st := range e.states {
		watermark := e.clocks[0].time()
		if !e.ended {
			watermark -= st.lateness
		}
		for level := 1; level < st.level; level++ {
			if e.inProcess {
				watermark = min(watermark, e.Promise(level))
			} else {
				watermark = min(watermark, e.clocks[level].time())
			}
		}
		st.advanceTo(watermark)
	}
}

func (st *state) advanceTo(watermark int64) {
	if watermark <= st.watermark {
		return
	}
	st.watermark = watermark
	for n := st.due.next(watermark); n != nil; n = st.due.next(watermark) {
		switch {
		case n.tuple != nil:
			st.decideTuple(n.group, n.tuple)
		case st.mode == seen:
			st.decidePresence(n.group)
		default:
			st.decideWindows(n.group)
		}
	}
}

// Promise is the time before which no more matches come from the correlations up to a level.
func (e *Engine) Promise(level int) int64 {
	least := int64(forever)
	for _, st := range e.states {
		if st.level <= level {
			least = min(least, st.watermark)
		}
	}
	return least
}

// Times are the times of the clocks by level, for Restore.
func (e *Engine) Times() []int64 {
	times := make([]int64, len(e.clocks))
	for i := range e.clocks {
		times[i] = e.clocks[i].time()
	}
	return times
}

// Replay says what the clocks were when the signals that are added until Restore came first.
func (e *Engine) Replay(times []int64) {
	if len(times) > 0 {
		for _, st := range e.states {
			st.replayTo = times[0] - st.lateness
		}
	}
}

// Restore lets the clocks be at least at the given times.
func (e *Engine) Restore(times []int64) {
	for i, t := range times {
		if i < len(e.clocks) {
			e.clocks[i].floor = max(e.clocks[i].floor, t)
		}
	}
	e.advance()
}

// ReplayFrom is the offset of the oldest signal that still counts; next if there is none.
func (e *Engine) ReplayFrom(next int64) int64 {
	for _, st := range e.states {
		for _, g := range st.groups {
			next = min(next, g.oldestOffset())
		}
	}
	return next
}

// Counts returns what was counted so far.
func (e *Engine) Counts() Counts {
	e.counts.Signals, e.counts.Groups, e.counts.Seen = 0, 0, 0
	for _, st := range e.states {
		e.counts.Signals += st.signals
		e.counts.Groups += len(st.groups)
		e.counts.Seen += st.tuples
	}
	return e.counts
}

// feed hands a match of a correlation to those that count it.
func (e *Engine) feed(s []Signal) {
	if !e.inProcess {
		e.out.Signals = append(e.out.Signals, s...)
		return
	}
	for i := range s {
		e.Add(&s[i], 0)
	}
}

// tellOpen says what is known of alerts whose tile is not over.
func (e *Engine) tellOpen() {
	for _, st := range e.states {
		if st.mode != eager && st.mode != deferred {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(st.groups)) {
			g := st.groups[key]
			for _, n := range slices.Sorted(maps.Keys(g.tiles)) {
				if t := g.tiles[n]; t.fired && !t.final {
					st.tell(g, t)
				}
			}
		}
	}
}
