package correlate

import (
	"cmp"
	"slices"
	"time"
)

// stretch is a time in which something was seen again and again, with no pause above some gap: all that
// first_seen needs to know.
type stretch struct {
	start, end int64
	// The event at the start; what is decided lets its detail go.
	first   mark
	detail  *detail
	decided bool
	told    digest
	id      string
}

// mark tells the events of one instant apart, as entries are sorted.
type mark struct {
	rule int
	id   eventID
}

func (m mark) before(o mark) bool {
	return m.rule < o.rule || m.rule == o.rule && slices.Compare(m.id[:], o.id[:]) < 0
}

// merge adds what was seen to a sorted list of stretches.
func merge(list []stretch, s stretch, gap int64) (merged []stretch, at int) {
	from, _ := slices.BinarySearchFunc(list, s.start-gap, func(l stretch, t int64) int {
		if l.end < t {
			return -1
		}
		return 1
	})
	to := from
	for to < len(list) && list[to].start <= s.end+gap {
		o := list[to]
		s.detail = earlier(o, s)
		if o.start < s.start || o.start == s.start && o.first.before(s.first) {
			s.start, s.first = o.start, o.first
		}
		s.end = max(s.end, o.end)
		s.decided = s.decided || o.decided
		if s.told == (digest{}) {
			s.told, s.id = o.told, o.id
		}
		to++
	}
	return slices.Replace(list, from, to, s), from
}

// earlier picks the detail of the first event of two stretches.
func earlier(a, b stretch) *detail {
	switch {
	case a.detail == nil || b.detail == nil: // decided: nobody needs one
		return nil
	case b.detail.newerThan(a.detail):
		return a.detail
	}
	return b.detail
}

// slotEnd is the end of the slot of a time. Slots make signals redundant, so that alert need not send those
// of every event: to these types, all signals of a slot say that something was there until its end.
func (d *definition) slotEnd(at int64) int64 { return (floorDiv(at, d.slot)+1)*d.slot - 1 }

// addPresence takes a signal of an absence.
func (st *state) addPresence(g *group, n *entry, d *detail) {
	n.time = st.slotEnd(n.time)
	if n.time+st.span < st.watermark {
		return // the silence after it, if there was one, is in the past
	}
	i := g.lower(n.time)
	if i < len(g.entries) && g.entries[i].time == n.time {
		if known := g.entries[i]; known.detail != nil && d.newerThan(known.detail) {
			known.detail = d
		}
		return
	}
	n.detail = d
	g.entries = slices.Insert(g.entries, i, n)
	st.signals++
	for k := max(i-1, 0); k <= i && k+1 < len(g.entries); k++ {
		if g.entries[k+1].time <= g.entries[k].time+st.span {
			g.entries[k].detail = nil // no silence comes after it
		}
	}
	st.due.set(&g.node, g.entries[0].time+st.span)
}

// decideAbsence raises an alert for each signal after which none can come any more in time.
func (st *state) decideAbsence(g *group) {
	for len(g.entries) > 0 && g.entries[0].time+st.span < st.watermark {
		e := g.entries[0]
		end := e.time + st.span
		if d := e.detail; d != nil && (len(g.entries) == 1 || g.entries[1].time > end) {
			id := st.alertID(g, "silence", micro(e.time).Format(time.RFC3339Nano))
			st.raise(g, id, d, end, []*entry{{time: d.time, id: d.id}}, st.Timespan.Seconds(), &digest{})
			if st.feedsOthers {
				st.match(g, id, end, st.Timespan.Seconds(), d)
			}
		}
		st.drop(g, 1)
	}
	if len(g.entries) == 0 {
		st.forget(g)
		return
	}
	st.due.set(&g.node, g.entries[0].time+st.span)
}

// tuple is a combination of values that a first_seen remembers for a group.
type tuple struct {
	node
	key       string
	stretches []stretch
	// dirty is the offset of the first signal that the memory in audit.seen.v1 lacks; -1 if it
	// lacks none. writtenAt is the time of the newest that it has.
	dirty     int64
	writtenAt int64
}

const (
	// remembered times the timespan is how long a first_seen remembers a group that is not seen at all: for
	// so long its return is news, and not a beginning to learn from.
	remembered = 4
	// seenFlush is the time of signals that the memory in audit.seen.v1 may lack: those that only
	// continue what is known. They are replayed.
	seenFlush = time.Hour
)

// addSighting takes a signal of a first_seen.
func (st *state) addSighting(g *group, n *entry, s *Signal, d *detail) {
	found := tuples(s)
	if len(found) == 0 {
		if len(g.presence) == 0 {
			st.forget(g)
		}
		return
	}
	end := st.slotEnd(n.time)
	g.presence, _ = merge(g.presence, stretch{start: n.time, end: end}, remembered*st.span)
	st.schedulePresence(g)
	for _, values := range found {
		key := joined(values)
		t := g.tuples[key]
		if t == nil {
			t = &tuple{key: key, dirty: -1, writtenAt: never}
			t.node = node{index: -1, group: g, tuple: t}
			g.tuples[key] = t
			st.tuples++
		}
		var at int
		t.stretches, at = merge(t.stretches, stretch{start: n.time, end: end, first: mark{n.rule, n.id}, detail: d}, st.span)
		if s := t.stretches[at]; t.dirty < 0 && (!s.decided || end > t.writtenAt) {
			t.dirty = n.offset
		}
		if !t.stretches[at].decided {
			st.early(g, t, &t.stretches[at])
		}
		st.scheduleTuple(t)
		if n.time < st.watermark {
			st.decideTuple(g, t)
		}
	}
	if limit := st.engine.limits.Seen; st.tuples > limit {
		st.limitSeen(limit)
	}
}

// limitSeen forgets what was not seen for longest.
func (st *state) limitSeen(limit int) {
	all := make([]*tuple, 0, st.tuples)
	for _, g := range st.groups {
		for _, t := range g.tuples {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b *tuple) int {
		x, y := a.stretches[len(a.stretches)-1], b.stretches[len(b.stretches)-1]
		return cmp.Or(cmp.Compare(x.end, y.end), cmp.Compare(a.group.key, b.group.key), cmp.Compare(a.key, b.key))
	})
	for _, t := range all[:limit/8+1] {
		st.limited(limitSeen, 1)
		st.forgetTuple(t.group, t)
	}
}

func (st *state) forgetTuple(g *group, t *tuple) {
	st.due.remove(&t.node)
	delete(g.tuples, t.key)
	st.tuples--
	if t.writtenAt != never {
		st.engine.out.Seen = append(st.engine.out.Seen, Seen{Correlation: st.ID, Group: g.values, tuple: t.key, Forgotten: true})
		st.writeGroup(g)
	}
}

// learned reports whether the group was known long enough at a time.
func (st *state) learned(g *group, at int64) bool {
	for _, p := range g.presence {
		if p.start <= at && at <= p.end {
			return st.learning == 0 || at >= p.start+st.learning
		}
	}
	return st.learning == 0
}

// early raises the alert of a beginning before it is final, if whatever else may come can change neither
// that there is an alert nor its id: an earlier sighting, which is not before the watermark, would
// be the first one as well, after the learning period, and in the same tile.
func (st *state) early(g *group, t *tuple, s *stretch) {
	w := st.watermark
	if w == never || w > s.start || floorDiv(w, st.span) != floorDiv(s.start, st.span) || !st.learned(g, s.start) {
		return
	}
	for _, p := range g.presence {
		if p.start <= s.start && s.start <= p.end && st.learning > 0 && w < p.start+st.learning {
			return
		}
	}
	for _, o := range t.stretches {
		if o.end < s.start && o.end+st.span >= w {
			return
		}
	}
	st.tellSeen(g, t, s)
}

func (st *state) tellSeen(g *group, t *tuple, s *stretch) {
	if s.detail == nil {
		return
	}
	first := &entry{time: s.start, id: s.first.id}
	s.id = st.alertID(g, "seen", t.key, time.UnixMicro(floorDiv(s.start, st.span)*st.span).UTC().Format(time.RFC3339Nano))
	st.raiseSeen(g, s, t.key, first)
}

// decideTuple decides the beginnings that are final and forgets what is too long ago.
func (st *state) decideTuple(g *group, t *tuple) {
	w := st.watermark
	for i := range t.stretches {
		s := &t.stretches[i]
		if s.decided || s.start >= w {
			continue
		}
		s.decided = true
		if st.learned(g, s.start) {
			st.tellSeen(g, t, s)
			if st.feedsOthers && s.id != "" {
				st.match(g, s.id, s.start, 1, s.detail)
			}
		}
		s.detail = nil
		st.write(g, t)
	}
	for len(t.stretches) > 0 && t.stretches[0].decided && t.stretches[0].end+st.span < w {
		t.stretches = slices.Delete(t.stretches, 0, 1)
	}
	if len(t.stretches) == 0 {
		st.forgetTuple(g, t)
		return
	}
	if t.dirty >= 0 && st.unwritten(t) < w {
		st.write(g, t)
	}
	st.scheduleTuple(t)
}

// unwritten is when what the memory lacks has to be written.
func (st *state) unwritten(t *tuple) int64 {
	if !t.stretches[len(t.stretches)-1].decided {
		return forever // it is written when it is decided
	}
	return max(t.writtenAt, t.stretches[0].start) + seenFlush.Microseconds()
}

func (st *state) scheduleTuple(t *tuple) {
	due := t.stretches[0].end + st.span
	for _, s := range t.stretches {
		if !s.decided {
			due = min(due, s.start)
		}
	}
	if t.dirty >= 0 {
		due = min(due, st.unwritten(t))
	}
	st.due.set(&t.node, due)
}

func (st *state) schedulePresence(g *group) {
	due := int64(forever)
	if len(g.presence) > 0 {
		due = g.presence[0].end + remembered*st.span
	}
	st.due.set(&g.node, due)
}

func (st *state) decidePresence(g *group) {
	// One at a time, for those that begin later may not be decided yet.
	if len(g.presence) > 0 && g.presence[0].end+remembered*st.span < st.watermark {
		g.presence = slices.Delete(g.presence, 0, 1)
		st.writeGroup(g)
	}
	if len(g.presence) == 0 && len(g.tuples) == 0 {
		st.forget(g)
		return
	}
	st.schedulePresence(g)
}

// oldestOffset is that of the oldest signal that has to be replayed to know the group again.
func (g *group) oldestOffset() int64 {
	oldest := int64(forever)
	if g.tuples != nil {
		for _, t := range g.tuples {
			if t.dirty >= 0 {
				oldest = min(oldest, t.dirty)
			}
		}
		return oldest
	}
	for _, e := range g.entries {
		oldest = min(oldest, e.offset)
	}
	return oldest
}
