package offline

import (
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// engine evaluates a pack: its rules on batches, and its correlations on their matches.
type engine struct {
	pack      *ir.Pack
	evaluator *rule.Evaluator
}

// found is an alert that a pack would raise.
type found struct {
	match *Match
	actor string
	row   int // of the batch
}

func newEngine(pack *ir.Pack) (*engine, error) {
	set, err := rule.Compile(pack.Rules)
	if err != nil {
		return nil, err
	}
	return &engine{pack: pack, evaluator: set.NewEvaluator()}, nil
}

// batch calls add for what the rows of a batch raise, by row and then by rule.
func (e *engine) batch(batch arrow.RecordBatch, origin func(row int) Origin, add func(*found) error) error {
	var failed error
	err := e.evaluator.Match(batch, func(index, row int) {
		r := &e.pack.Rules[index]
		if failed != nil || r.Silent {
			return
		}
		failed = add(&found{match: e.newMatch(&r.Meta, batch, row, origin(row)), actor: text(batch, "actor", row), row: row})
	})
	if err != nil {
		return err
	}
	return failed
}

// end calls add for what is raised because no more events come.
func (e *engine) end(func(*found) error) error { return nil }

func (e *engine) newMatch(m *ir.Meta, batch arrow.RecordBatch, row int, at Origin) *Match {
	values := func(f ir.Field) []string { return e.evaluator.Values(row, f) }
	match := &Match{
		Rule: m.Title, RuleID: m.ID, RuleFile: m.Position.String(), File: at.File, Line: at.Line,
		AuditID: text(batch, "audit_id", row), Stage: text(batch, "stage", row), Time: when(batch, row),
		Severity: m.Level, Priority: m.Priority, Tags: m.Tags, Output: strings.TrimSpace(m.Summary.Render(values)),
	}
	m.Summary.Fields(func(f ir.Field) {
		if match.Fields == nil {
			match.Fields = Fields{}
		}
		match.Fields[f.Name] = cloned(values(f))
	})
	if match.Output == "" {
		match.Output = m.Title
	}
	if id := text(batch, "event_id", row); id != "" {
		match.AlertID = schemas.AlertID(m.ID, id)
	}
	return match
}
