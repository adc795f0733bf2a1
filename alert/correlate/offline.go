package correlate

import (
	"cmp"
	"slices"
	"time"

	"github.com/auditmill/auditmill/schemas"
)

// Offline evaluates correlations in one process on events from a file or from history: what the services
// would raise on them. It is not safe for concurrent use.
type Offline struct {
	set    *Set
	engine *Engine
	recall *recall
	newest time.Time
	alerts map[string]schemas.Alert
	emit   func(a schemas.Alert, again bool)
}

// NewOffline returns one that has seen no event. emit is called for each alert when it is raised and, with
// again, when there is news about it; it may be nil.
func NewOffline(set *Set, limits Limits, now func() time.Time, emit func(a schemas.Alert, again bool)) *Offline {
	o := &Offline{set: set, engine: NewEngine(set, limits, now), recall: newRecall(), alerts: map[string]schemas.Alert{}, emit: emit}
	o.engine.inProcess = true
	return o
}

// Match takes a match of a rule.
func (o *Offline) Match(m Match) {
	signals := o.set.Signals(m)
	signals = append(o.recall.take(o.set, m, signals), signals...)
	o.add(signals, m.Source)
}

// Corrected takes a row that corrects an earlier one, after its matches.
func (o *Offline) Corrected(c Correction) { o.add(o.recall.unmatched(o.set, c), c.Source) }

func (o *Offline) add(signals []Signal, at Source) {
	for i := range signals {
		o.engine.Add(&signals[i], at.Offset)
	}
	o.take()
}

// Event takes the time of every event, whether a rule matches or not, after its matches: it is what shows
// that time passes.
func (o *Offline) Event(at time.Time) {
	if at.After(o.newest) && believed(at) {
		o.newest = at
		o.engine.Clock(Clock{Of: 1, Time: at})
		o.take()
	}
}

// Close tells the last word about what was raised, and decides what can be decided if nothing more comes that is not newer than the newest event: a
// window or a silence that is not over then is not decided. It returns all alerts in the order of
// their time, each as it was told last.
func (o *Offline) Close() []schemas.Alert {
	o.engine.ended = true
	o.engine.Restore([]int64{o.newest.UnixMicro() + 1})
	o.engine.tellOpen()
	o.take()
	all := make([]schemas.Alert, 0, len(o.alerts))
	for _, a := range o.alerts {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b schemas.Alert) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// Counts returns what was counted so far.
func (o *Offline) Counts() Counts { return o.engine.Counts() }

func (o *Offline) take() {
	for _, a := range o.engine.Take().Alerts {
		_, again := o.alerts[a.ID]
		o.alerts[a.ID] = a
		if o.emit != nil {
			o.emit(a, again)
		}
	}
}
