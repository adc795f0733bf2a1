package ir

import (
	"time"
)

// Pack is what a set of rule files says.
type Pack struct {
	Rules        []Rule
	Correlations []Correlation
	// Notes say what was passed over, and why.
	Notes []Note
}

// Note is a remark on a rule file that is no fault.
type Note struct {
	Position Position
	Rule     string // id; empty if it concerns the file
	Text     string
}

// CorrelationType says how the matches of other rules are counted.
type CorrelationType string

// The types of the Sigma specification, and two of auditmill's own.
const (
	EventCount      CorrelationType = "event_count"      // how many matches
	ValueCount      CorrelationType = "value_count"      // how many distinct values, or tuples, of Fields
	Temporal        CorrelationType = "temporal"         // every rule of Rules at least once
	TemporalOrdered CorrelationType = "temporal_ordered" // the same, in the order of Rules
	ValueSum        CorrelationType = "value_sum"
	ValueAvg        CorrelationType = "value_avg"
	ValuePercentile CorrelationType = "value_percentile" // of Percentile, by the nearest rank
	FirstSeen       CorrelationType = "first_seen"       // a tuple of Fields not seen for the group within Timespan
	Absence         CorrelationType = "absence"          // no match for Timespan
)

// Correlation is a detection on the matches of other rules, in event time.
type Correlation struct {
	Meta
	Type CorrelationType
	// Rules are the ids of the rules and correlations whose matches count.
	Rules []string
	// GroupBy of each of Rules: for each rule the fields, in the order of GroupNames, that make
	// matches belong together. The fields of a correlation in Rules are those of its own group, and
	// what it counted, its cluster; they have a Name alone.
	GroupNames  []string
	GroupFields map[string][]Field
	// ValueFields of each of Rules are counted or computed with, for the types that take values.
	ValueNames  []string
	ValueFields map[string][]Field

	Timespan   time.Duration
	Condition  []Bound // all must hold; empty for first_seen, absence and a temporal of all rules
	Percentile float64 // 0 to 100
	// Lateness is how much later than newer events of its source an event may arrive and still count.
	Lateness time.Duration
	// Learning is how long after the first match of a group a first_seen raises nothing.
	Learning time.Duration
	// Silent correlations raise no alert of their own: they feed others only.
	Silent bool
}

// Bound is a condition on a count or a computed value.
type Bound struct {
	Relation Relation // Less to Different
	Number   float64
}
