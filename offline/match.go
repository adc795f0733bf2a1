package offline

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// Match is one match of a rule, as `auditmill rules match` prints it.
type Match struct {
	Rule     string    `json:"rule"`      // title of the rule
	RuleID   string    `json:"rule_id"`   // its id, or its title if it has none
	RuleFile string    `json:"rule_file"` // where the rule stands
	File     string    `json:"file"`      // where the event stands
	Line     int       `json:"line"`      // and in which line, from 1
	AuditID  string    `json:"audit_id"`
	Stage    string    `json:"stage"`
	Time     time.Time `json:"time"`               // event_time
	Severity string    `json:"severity"`           // informational, low, medium, high, critical
	Priority string    `json:"priority,omitempty"` // the severity in the words of the rule's language
	Tags     []string  `json:"tags,omitempty"`
	Output   string    `json:"output"` // what happened, by the rule's own template
	Fields   Fields    `json:"output_fields,omitempty"`
	// AlertID is the id of the alert that the service raises for it.
	AlertID string `json:"alert_id"`
	// EventIDs are, for a correlation, the events that it counted.
	EventIDs []string `json:"event_ids,omitempty"`
	// Values are its group-by fields and what it counted or computed.
	Values map[string]string `json:"values,omitempty"`
}

// Fields are the values of the fields in a template by name; nil for one that is absent.
type Fields map[string][]string

// Matching says how many rules may match an event.
type Matching string

// MatchAll gives every rule that matches, MatchFirst the first in the order of the rules.
const (
	MatchAll   Matching = "all"
	MatchFirst Matching = "first"
)

// Counts say what was read.
type Counts struct {
	Events, Matches, Bad int
}

// MatchFiles evaluates a pack on the events of files and calls emit for each match, by event and then by rule. more is what
// is known beside the events.
func MatchFiles(
	ctx context.Context, pack *ir.Pack, matching Matching, paths []string, more Context, emit func(*Match) error, bad func(Bad),
) (Counts, error) {
	var counts Counts
	engine, err := newEngine(pack)
	if err != nil {
		return counts, err
	}
	last := -1
	add := func(f *found) error {
		// An event's matches follow one another, so the first of them is known by its row.
		if matching == MatchFirst && f.row == last {
			return nil
		}
		last = f.row
		counts.Matches++
		return emit(f.match)
	}
	err = ReadFiles(ctx, paths, "", more, func(batch arrow.RecordBatch, rows []Origin) error {
		counts.Events += len(rows)
		last = -1
		return engine.batch(batch, func(row int) Origin { return rows[row] }, add)
	}, func(b Bad) { counts.Bad++; bad(b) })
	if err == nil {
		last = -1
		err = engine.end(add)
	}
	return counts, err
}

func cloned(values []string) []string {
	if values == nil {
		return nil
	}
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = strings.Clone(v)
	}
	return out
}

// text returns a scalar text column of a row; empty if it has none.
func text(batch arrow.RecordBatch, column string, row int) string {
	a := schemas.ColumnArray(batch, column)
	if d, ok := a.(*array.Dictionary); ok && !d.IsNull(row) {
		return strings.Clone(d.Dictionary().ValueStr(d.GetValueIndex(row)))
	}
	if a == nil || a.IsNull(row) {
		return ""
	}
	return strings.Clone(a.ValueStr(row))
}

func when(batch arrow.RecordBatch, row int) time.Time {
	for _, column := range []string{"event_time", "stage_time", "received_at"} {
		if a, ok := schemas.ColumnArray(batch, column).(*array.Timestamp); ok && !a.IsNull(row) {
			return time.UnixMicro(int64(a.Value(row))).UTC()
		}
	}
	return time.Time{}
}

// String is the line that a person reads.
func (m *Match) String() string {
	return fmt.Sprintf("%s:%d: %s: %s: %s", m.File, m.Line, m.Severity, m.Rule, m.Output)
}
