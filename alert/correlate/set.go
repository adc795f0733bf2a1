package correlate

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// DefaultLateness is the allowed lateness of a correlation that states none.
const DefaultLateness = 3 * time.Minute

// A slot is this part of a timespan, but not longer than maxSlot.
const (
	slots   = 64
	maxSlot = time.Hour
)

// mode says when a correlation can be decided; the package comment has the reasons.
type mode uint8

const (
	// eager correlations can only become true by more signals: they fire on arrival.
	eager mode = iota
	// deferred ones are decided at each signal when nothing earlier can come any more.
	deferred
	// whole ones have an upper bound: a window is decided when it is over.
	whole
	// seen and absent look at the pauses between signals.
	seen
	absent
)

// Set is a pack's correlations, checked and ordered. It is immutable.
type Set struct {
	rules []*definition // those that feed others first
	byID  map[string]*definition
	feeds map[string][]feed // by the id of the rule whose matches count
}

// definition is a correlation ready to be evaluated. Times are in µs.
type definition struct {
	ir.Correlation
	mode           mode
	level          int // 1 if it counts matches of rules on single events only
	span, lateness int64
	learning       int64
	slot           int64 // of first_seen and absence
	inputs         map[string]int
	feedsOthers    bool
	fields         []ir.Field // what the summary and the alert's group need besides
	shape          string     // equal for definitions that can share their state
}

type feed struct {
	*definition
	rule   int
	group  []ir.Field
	values []ir.Field
}

// Compile checks correlations and puts them in order. The error is ir.Faults with all faults.
func Compile(correlations []ir.Correlation) (*Set, error) {
	s := &Set{byID: map[string]*definition{}, feeds: map[string][]feed{}}
	var faults ir.Faults
	for _, c := range correlations {
		d, fault := define(c)
		if fault == nil && s.byID[c.ID] != nil {
			fault = d.fault("id", fmt.Sprintf("%s is there twice", c.ID), "give each correlation an id of its own")
		}
		if fault != nil {
			faults = append(faults, *fault)
			continue
		}
		s.byID[c.ID] = d
		s.rules = append(s.rules, d)
	}
	for _, d := range s.rules {
		if !s.setLevel(d, nil) {
			faults = append(faults, *d.fault("rules", "the correlation counts itself, through "+strings.Join(d.Rules, ", "),
				"break the circle"))
		}
	}
	if err := faults.Err(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(s.rules, func(a, b *definition) int { return a.level - b.level })
	for _, d := range s.rules {
		for i, id := range d.Rules {
			s.feeds[id] = append(s.feeds[id], feed{d, i, d.GroupFields[id], d.ValueFields[id]})
			if inner := s.byID[id]; inner != nil {
				inner.feedsOthers = true
			}
		}
	}
	return s, nil
}

func (d *definition) fault(field, problem, remedy string) *ir.Fault {
	return &ir.Fault{Position: d.Position, Field: "correlation." + field, Problem: problem, Remedy: remedy}
}

func define(c ir.Correlation) (*definition, *ir.Fault) {
	d := &definition{
		Correlation: c, span: c.Timespan.Microseconds(), lateness: c.Lateness.Microseconds(),
		learning: c.Learning.Microseconds(), inputs: map[string]int{},
		slot: max(1, min(c.Timespan/slots, maxSlot).Microseconds()),
	}
	if c.Lateness == 0 {
		d.lateness = DefaultLateness.Microseconds()
	}
	switch {
	case d.span <= 0:
		return d, d.fault("timespan", "must be above 0, is "+c.Timespan.String(), "write a number and s, m, h or d")
	case d.lateness < 0 || d.learning < 0:
		return d, d.fault("lateness", "neither lateness nor learning may be negative", "")
	case len(c.Rules) == 0 || len(c.Rules) > math.MaxUint8:
		return d, d.fault("rules", fmt.Sprintf("must name 1 to %d rules", math.MaxUint8), "")
	}
	for i, id := range c.Rules {
		if _, twice := d.inputs[id]; twice {
			return d, d.fault("rules", id+" is there twice", "name each rule once")
		}
		d.inputs[id] = i
		if len(c.GroupFields[id]) != len(c.GroupNames) || len(c.ValueFields[id]) != len(c.ValueNames) {
			return d, d.fault("group-by", "the fields of "+id+" do not fit", "give each alias a field of each rule")
		}
	}
	if fault := d.setMode(); fault != nil {
		return d, fault
	}
	need := func(f ir.Field) {
		if !slices.ContainsFunc(d.fields, func(g ir.Field) bool { return f.String() == g.String() }) {
			d.fields = append(d.fields, f)
		}
	}
	d.Summary.Fields(need)
	for _, f := range c.GroupBy {
		need(f)
	}
	d.shape = fmt.Sprint(c.Type, c.Rules, c.GroupNames, c.ValueNames, c.Timespan, c.Condition, c.Percentile, c.Learning, d.lateness)
	return d, nil
}

func (d *definition) setMode() *ir.Fault {
	d.mode = map[ir.CorrelationType]mode{
		ir.ValueAvg: deferred, ir.ValuePercentile: deferred, ir.FirstSeen: seen, ir.Absence: absent,
	}[d.Type]
	few, many := 0, 0 // how many fields the type takes
	switch d.Type {
	case ir.EventCount:
	case ir.Temporal, ir.TemporalOrdered:
		if len(d.Condition) == 0 {
			d.Condition = []ir.Bound{{Relation: ir.GreaterOrEqual, Number: float64(len(d.Rules))}}
		}
	case ir.ValueCount:
		few, many = 1, math.MaxInt
	case ir.ValueSum, ir.ValueAvg, ir.ValuePercentile:
		few, many = 1, 1
	case ir.FirstSeen, ir.Absence:
		return nil
	default:
		return d.fault("type", fmt.Sprintf("%q is no type of correlation", d.Type), "")
	}
	if n := len(d.ValueNames); n < few || few > 0 && n > many {
		return d.fault("condition.field", fmt.Sprintf("%s cannot work on %d fields", d.Type, n), "say of which field")
	}
	if d.Type == ir.ValuePercentile && (d.Percentile <= 0 || d.Percentile > 100) {
		return d.fault("condition.percentile", fmt.Sprintf("must be above 0 and at most 100, is %v", d.Percentile), "")
	}
	return d.checkCondition()
}

func (d *definition) checkCondition() *ir.Fault {
	if len(d.Condition) == 0 {
		return d.fault("condition", "is missing", "write for example gte: 5")
	}
	for _, b := range d.Condition {
		switch b.Relation {
		case ir.Greater, ir.GreaterOrEqual:
		case ir.Less, ir.LessOrEqual, ir.Same, ir.Different:
			if d.mode == eager {
				d.mode = whole
			}
		case ir.Contains, ir.StartsWith, ir.EndsWith:
			return d.fault("condition", fmt.Sprintf("%s compares no numbers", b.Relation), "use gt, gte, lt, lte, eq or neq")
		}
	}
	return nil
}

// setLevel finds how many correlations deep d is; false if it counts itself.
func (s *Set) setLevel(d *definition, path []*definition) bool {
	if slices.Contains(path, d) {
		return false
	}
	if d.level > 0 {
		return true
	}
	level := 1
	for _, id := range d.Rules {
		if inner := s.byID[id]; inner != nil {
			if !s.setLevel(inner, append(path, d)) {
				return false
			}
			level = max(level, inner.level+1)
		}
	}
	d.level = level
	return true
}

// holds reports whether a value satisfies the condition.
func (d *definition) holds(value float64) bool {
	for _, b := range d.Condition {
		ok := false
		switch b.Relation {
		case ir.Greater:
			ok = value > b.Number
		case ir.GreaterOrEqual:
			ok = value >= b.Number
		case ir.Less:
			ok = value < b.Number
		case ir.LessOrEqual:
			ok = value <= b.Number
		case ir.Same:
			ok = value == b.Number
		case ir.Different:
			ok = value != b.Number
		case ir.Contains, ir.StartsWith, ir.EndsWith:
		}
		if !ok {
			return false
		}
	}
	return true
}

// rises reports whether the condition asks for more of something.
func (d *definition) rises() bool {
	return slices.ContainsFunc(d.Condition, func(b ir.Bound) bool {
		return b.Relation == ir.Greater || b.Relation == ir.GreaterOrEqual
	})
}

// TooHigh returns the ids of correlations whose threshold no group can reach within limits.
func (s *Set) TooHigh(l Limits) []string {
	var ids []string
	for _, d := range s.rules {
		// A signal has at most maxTuples values, and sums are not bounded by the number of signals.
		most := map[ir.CorrelationType]int{ir.EventCount: l.GroupSignals, ir.ValueCount: l.GroupSignals * maxTuples}[d.Type]
		for _, b := range d.Condition {
			if most > 0 && b.Number > float64(most) && b.Relation != ir.Less && b.Relation != ir.LessOrEqual {
				ids = append(ids, d.ID)
			}
		}
	}
	return slices.Compact(ids)
}

// Feeds reports whether the matches of a rule count for some correlation.
func (s *Set) Feeds(rule string) bool { return len(s.feeds[rule]) > 0 }

// Len is the number of correlations.
func (s *Set) Len() int { return len(s.rules) }

// depth is how many correlations count each other at most.
func (s *Set) depth() int {
	if len(s.rules) == 0 {
		return 0
	}
	return s.rules[len(s.rules)-1].level
}

// Retention is how long audit.signals.v1 must keep its records: twice the longest time that a signal
// counts. A first_seen has its memory in a topic of its own.
func (s *Set) Retention() time.Duration {
	longest := seenFlush
	for _, d := range s.rules {
		if d.mode != seen {
			longest = max(longest, time.Duration(d.span+d.lateness)*time.Microsecond)
		}
	}
	return 2 * longest
}
