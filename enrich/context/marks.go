package context

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strings"
)

// note is a change that is about no object, as it was said.
type note struct {
	from, seen int64
	source     string
	complete   uint32 // a bit for each kind
	doubt      bool
	removed    bool
	base       *mark // instead of all: what older notes meant, which are forgotten
}

func noteOf(c *Change) note {
	n := note{from: c.From, seen: c.Seen, source: c.Source, doubt: c.Doubt, removed: c.Removed}
	for _, k := range c.Complete {
		n.complete |= 1 << k
	}
	return n
}

func (n note) compare(o note) int {
	return cmp.Or(
		cmp.Compare(n.from, o.from), cmp.Compare(boolInt(o.base != nil), boolInt(n.base != nil)),
		cmp.Compare(boolInt(o.removed), boolInt(n.removed)), // a removal first, then what is known again, then doubts
		cmp.Compare(boolInt(n.doubt), boolInt(o.doubt)), cmp.Compare(n.complete, o.complete), strings.Compare(n.source, o.source),
		cmp.Compare(n.seen, o.seen))
}

// mark is what is known of a cluster as a whole from a time on. It has a bit for each kind.
type mark struct {
	at       int64
	complete uint32 // all objects are known
	doubt    uint32 // but for something that could not be followed since
	void     bool   // the cluster was removed
}

// everyKind has the bits of all kinds.
const everyKind = 1<<kinds - 1

// marksOf works out what notes, in their order, mean.
func marksOf(notes []note) []mark {
	type edge struct {
		note
		gap bool // the beginning of one
	}
	edges := make([]edge, 0, len(notes))
	for _, n := range notes {
		edges = append(edges, edge{note: n})
		if n.seen != 0 && n.seen < n.from && n.complete != 0 {
			gap := note{from: n.seen, complete: n.complete, doubt: true}
			edges = append(edges, edge{gap, true})
		}
	}
	slices.SortStableFunc(edges, func(a, b edge) int { return a.compare(b.note) })
	var marks []mark
	now := mark{}
	for _, e := range edges {
		m := e.after(now, e.gap)
		if m == now {
			continue
		}
		m.at, now = e.from, m
		now.at = e.from
		if n := len(marks); n > 0 && marks[n-1].at == e.from {
			marks[n-1] = now
		} else {
			marks = append(marks, now)
		}
	}
	return marks
}

// after returns what is known after a note; gap says that it is the beginning of a time of which nothing was seen.
func (n *note) after(m mark, gap bool) mark {
	switch {
	case n.base != nil:
		at := m.at
		m = *n.base
		m.at = at
	case gap:
		m.doubt |= n.complete & m.complete
	case n.removed:
		m = mark{at: m.at, void: true}
	case n.doubt && n.complete != 0: // about some kinds
		m.doubt, m.void = m.doubt|n.complete, false
	case n.doubt:
		m.doubt, m.void = everyKind, false
	default:
		m.complete, m.doubt, m.void = m.complete|n.complete, m.doubt&^n.complete, false
	}
	return m
}

// differMarks returns since when two series of marks are not the same; false if they are.
func differMarks(x, y []mark) (since int64, ok bool) {
	for i := range max(len(x), len(y)) {
		switch {
		case i >= len(x):
			return y[i].at, true
		case i >= len(y):
			return x[i].at, true
		case x[i] != y[i]:
			return min(x[i].at, y[i].at), true
		}
	}
	return 0, false
}

// markAt returns what is known of the cluster as a whole at a time. It takes no lock.
func (c *Cluster) markAt(t int64) mark {
	if p := c.marks.Load(); p != nil {
		marks := *p
		if i := sort.Search(len(marks), func(i int) bool { return marks[i].at > t }); i > 0 {
			return marks[i-1]
		}
	}
	return mark{at: math.MinInt64}
}

// maxNotes bounds the notes of a cluster; the history of more is shortened.
const maxNotes = 1 << 12

// note takes what is about no object, and returns since when that makes a difference.
func (c *Cluster) note(n note) (since int64, changed bool) {
	i, found := slices.BinarySearchFunc(c.notes, n, note.compare)
	if found || i < len(c.notes) && c.notes[i].base != nil {
		return 0, false // said before, or older than what is remembered
	}
	c.notes = slices.Insert(c.notes, i, n)
	if n.removed {
		c.wipes = append(c.wipes, n.from)
		slices.Sort(c.wipes)
	}
	if len(c.notes) > maxNotes {
		c.forgetNotes(c.notes[maxNotes/4].from)
	}
	return c.remark()
}

func (c *Cluster) remark() (since int64, changed bool) {
	marks := marksOf(c.notes)
	var before []mark
	if p := c.marks.Load(); p != nil {
		before = *p
	}
	since, changed = differMarks(before, marks)
	if changed {
		c.marks.Store(&marks)
	}
	return since, changed
}

// forgetNotes makes one of all notes until a time.
func (c *Cluster) forgetNotes(until int64) {
	n := sort.Search(len(c.notes), func(i int) bool { return c.notes[i].from > until })
	if n < 2 {
		return
	}
	m := c.markAt(until)
	m.void = false // what it ended has ended
	at := c.notes[n-1].from
	c.notes = slices.Concat([]note{{from: at, base: &m}}, c.notes[n:])
	c.remark()
}
