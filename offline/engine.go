package offline

import (
	"encoding/hex"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/auditmill/auditmill/alert"
	"github.com/auditmill/auditmill/alert/correlate"
	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// engine evaluates a pack: its rules on batches, and its correlations on their matches.
type engine struct {
	pack       *ir.Pack
	metas      map[string]*ir.Meta
	evaluator  *rule.Evaluator
	set        *correlate.Set
	correlator *correlate.Offline // nil if the pack has no correlation
	origins    map[string]Origin  // by event_id, of events that count for a correlation
	told       map[[16]byte]bool  // alerts of single events by id: a correction raises the same again
	rows       int64              // of all batches before

	add     func(*found) error // of the call in progress
	row     int                // that is being looked at
	matched []string           // ids of the rules that match it and count for a correlation
	failed  error
}

// found is an alert that a pack would raise.
type found struct {
	match *Match
	alert *schemas.Alert
	row   int // of the batch
}

func newEngine(pack *ir.Pack) (*engine, error) {
	set, err := rule.Compile(pack.Rules)
	if err != nil {
		return nil, err
	}
	e := &engine{pack: pack, metas: map[string]*ir.Meta{}, evaluator: set.NewEvaluator(), origins: map[string]Origin{}, told: map[[16]byte]bool{}}
	for i := range pack.Correlations {
		e.metas[pack.Correlations[i].ID] = &pack.Correlations[i].Meta
	}
	if len(pack.Correlations) > 0 {
		if e.set, err = correlate.Compile(pack.Correlations); err != nil {
			return nil, err
		}
		e.correlator = correlate.NewOffline(e.set, correlate.DefaultLimits(), time.Now, e.raised)
	}
	return e, nil
}

// batch calls add for what the rows of a batch raise, by row and then by rule.
func (e *engine) batch(batch arrow.RecordBatch, origin func(row int) Origin, add func(*found) error) error {
	e.add, e.row, e.matched = add, 0, nil
	err := e.evaluator.Match(batch, func(index, row int) {
		if e.failed != nil {
			return
		}
		e.pass(batch, row)
		r := &e.pack.Rules[index]
		values := func(f ir.Field) []string { return e.evaluator.Values(row, f) }
		var made *schemas.Alert
		makeAlert := func() *schemas.Alert {
			if made == nil {
				a := alert.Make(&r.Meta, batch, row, values, time.Now())
				made = &a
			}
			return made
		}
		if e.correlator != nil && e.set.Feeds(r.ID) {
			e.origins[makeAlert().EventID] = origin(row)
			e.matched = append(e.matched, r.ID)
			e.correlator.Match(correlate.Match{
				Rule: r.ID, Time: made.Time, EventID: made.EventID, Version: made.Version, Values: values, Alert: makeAlert, Source: correlate.Source{Offset: e.rows + int64(row)},
			})
		}
		if !r.Silent && e.failed == nil {
			a := makeAlert()
			id := shortID(a.ID)
			if a.Version > 0 && e.told[id] {
				return // what is known better of an alert is no other alert
			}
			e.told[id] = true
			e.failed = add(&found{newMatch(&r.Meta, a, values, text(batch, "stage", row), origin(row)), a, row})
		}
	})
	if err == nil {
		e.pass(batch, int(batch.NumRows()))
		err = e.failed
	}
	e.rows += batch.NumRows()
	return err
}

// pass tells the correlations that the rows before row were looked at.
func (e *engine) pass(batch arrow.RecordBatch, row int) {
	for ; e.row < row; e.row++ {
		if e.correlator != nil {
			if c := alert.Correction(batch, e.row); c.Version > 0 {
				c.Matched, c.Source = e.matched, correlate.Source{Offset: e.rows + int64(e.row)}
				e.correlator.Corrected(c)
			}
			e.correlator.Event(when(batch, e.row))
		}
		e.matched = nil
	}
}

// shortID is the 16 bytes of an alert's id.
func shortID(id string) (short [16]byte) {
	_, _ = hex.Decode(short[:], []byte(id[:min(len(id), 2*len(short))])) // an id is hexadecimal
	return short
}

// raised takes an alert of a correlation. What is told again is the same alert with more events behind it.
func (e *engine) raised(a schemas.Alert, again bool) {
	if again || e.failed != nil {
		return
	}
	m := e.metas[a.Rule]
	at := e.origins[a.EventID]
	match := newMatch(m, &a, func(ir.Field) []string { return nil }, "", at)
	match.Values, match.EventIDs, match.Fields = a.Values, a.EventIDs, nil
	e.failed = e.add(&found{match, &a, e.row})
}

// end calls add for what can be said because no more events come.
func (e *engine) end(add func(*found) error) error {
	e.add = add
	if e.correlator != nil {
		e.correlator.Close()
	}
	return e.failed
}

func newMatch(m *ir.Meta, a *schemas.Alert, values func(ir.Field) []string, stage string, at Origin) *Match {
	match := &Match{
		Rule: m.Title, RuleID: m.ID, RuleFile: m.Position.String(), File: at.File, Line: at.Line, AuditID: a.AuditID, Stage: stage,
		Time: a.Time, Severity: m.Level, Priority: m.Priority, Tags: m.Tags, Output: a.Summary, AlertID: a.ID,
	}
	m.Summary.Fields(func(f ir.Field) {
		if match.Fields == nil {
			match.Fields = Fields{}
		}
		match.Fields[f.Name] = cloned(values(f))
	})
	return match
}
