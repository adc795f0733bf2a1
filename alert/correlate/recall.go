package correlate

import (
	"slices"
	"time"

	"github.com/auditmill/auditmill/schemas"
)

// recallSize bounds what is remembered of signals that were sent: as many matches, and up to twice of that.
const recallSize = 100_000

// recall remembers in which groups an event was counted, so that it is taken back where a correction of the event puts it
// elsewhere: who it was by may be learned late, and then it must count for the right name alone. It is forgotten with
// the process: an event from before that is corrected after counts for both names. It is not safe for concurrent use.
type recall struct {
	// The older generation goes when the newer one is full.
	groups [2]map[recalled][][]string
}

type recalled struct {
	correlation, rule string
	event             eventID
}

func newRecall() *recall { return &recall{[2]map[recalled][][]string{{}, {}}} }

// take notes the signals of a match of a rule and returns those that take back what was sent for the same event before and does not
// hold any more.
func (r *recall) take(set *Set, m Match, signals []Signal) []Signal {
	if m.EventID == "" {
		return nil
	}
	var back []Signal
	for _, f := range set.feeds[m.Rule] {
		if f.mode == seen || f.mode == absent {
			continue // they remember that something was there, not how often
		}
		key := recalled{f.ID, m.Rule, shortID(m.EventID)}
		var now [][]string
		for i := range signals {
			if signals[i].Correlation == f.ID {
				now = append(now, signals[i].Group)
			}
		}
		if m.Version > 0 {
			for _, group := range r.sent(key) {
				if !slices.ContainsFunc(now, func(g []string) bool { return slices.Equal(g, group) }) {
					back = append(back, Signal{
						V: schemas.Version, Correlation: f.ID, Rule: m.Rule, EventID: m.EventID, Time: m.Time, Group: group,
						Retract: true, Partition: m.Source.Partition, Offset: m.Source.Offset,
					})
				}
			}
		}
		r.note(key, now)
	}
	return back
}

// sent returns the groups that an event was counted in last.
func (r *recall) sent(key recalled) [][]string {
	if groups, ok := r.groups[1][key]; ok {
		return groups
	}
	return r.groups[0][key]
}

func (r *recall) note(key recalled, groups [][]string) {
	if _, before := r.groups[0][key]; len(groups) == 0 && !before {
		delete(r.groups[1], key)
		return
	}
	if len(r.groups[1]) >= recallSize {
		r.groups[0], r.groups[1] = r.groups[1], map[recalled][][]string{}
	}
	r.groups[1][key] = groups
}

// unmatched returns what takes back the signals of a corrected event that a rule does not match any more.
func (r *recall) unmatched(set *Set, c Correction) []Signal {
	var back []Signal
	for rule := range set.feeds {
		if !slices.Contains(c.Matched, rule) {
			back = append(back, r.take(set, Match{Rule: rule, Time: c.Time, EventID: c.EventID, Version: c.Version, Source: c.Source}, nil)...)
		}
	}
	slices.SortFunc(back, func(a, b Signal) int {
		return slices.Compare([]string{a.Correlation, a.Rule}, []string{b.Correlation, b.Rule})
	})
	return back
}

// Correction is a row that corrects an earlier one of the same event.
type Correction struct {
	EventID string
	Version uint64
	Time    time.Time // event_time
	Matched []string  // ids of the rules that match the row
	Source  Source
}

// retract forgets a signal. Alerts that it helped to raise stay raised.
func (st *state) retract(g *group, n *entry) {
	at, known := slices.BinarySearchFunc(g.entries, n, compareEntries)
	if !known {
		return
	}
	st.removeEntry(g, at)
	st.schedule(g)
}

// removeEntry takes one entry out.
func (st *state) removeEntry(g *group, at int) *entry {
	e := g.entries[at]
	g.entries = slices.Delete(g.entries, at, at+1)
	g.live = nil // it is made anew
	if n := len(g.entries); n > 0 {
		g.newest = g.entries[n-1].time
	}
	st.signals--
	if t := g.tiles[floorDiv(e.time, st.span)]; t != nil {
		t.entries--
	}
	return e
}

// better replaces a signal by one of a correction of its event, whose values may be others. It counts once all the same, and the
// alert that shows the event is told again.
func (st *state) better(g *group, at int, n *entry, d *detail) {
	t := st.tile(g, n.time)
	fired, last := t.fired, t.newest
	shown := at+1 == len(g.entries) || g.entries[at+1].time >= (t.number+1)*st.span
	if shown {
		t.newest = nil
	}
	n.passed = st.removeEntry(g, at).passed
	g.newest = max(g.newest, n.time)
	st.addEntry(g, n, d)
	switch {
	case !shown:
		t.newest = last
	case fired:
		st.tell(g, t)
	}
}
