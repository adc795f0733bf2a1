package offline

import (
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/enrich"
	"github.com/auditmill/auditmill/ingest/split"
	"github.com/auditmill/auditmill/schemas"
)

// CaseResult is the outcome of a case of a rule.
type CaseResult struct {
	Rule, RuleID string
	Case         *ir.Case
	Got          int   // alerts raised
	Err          error // why the case could not be run; nil otherwise
	// Why tells, if a single-event rule raised another number of alerts than the case says, which parts of the
	// condition hold for its first event.
	Why *Step
}

// Passed reports whether the rule raised what the case says.
func (r *CaseResult) Passed() bool { return r.Err == nil && r.Got == r.Case.Alerts }

// RunCases runs the cases of all rules and correlations of a pack, each with a state of its own, and calls yield
// for each.
func RunCases(pack *ir.Pack, yield func(*CaseResult)) {
	for i := range pack.Rules {
		r := pack.Rules[i]
		r.Silent = false // the rule itself is tested, whoever else it feeds
		runCases(&r.Meta, &ir.Pack{Rules: []ir.Rule{r}}, &r, yield)
	}
	for i := range pack.Correlations {
		c := &pack.Correlations[i]
		runCases(&c.Meta, only(pack, c), nil, yield)
	}
}

// only returns a pack of a correlation and what feeds it, in which nothing else speaks.
func only(pack *ir.Pack, c *ir.Correlation) *ir.Pack {
	out := &ir.Pack{}
	var add func(id string)
	seen := map[string]bool{}
	add = func(id string) {
		if seen[id] {
			return
		}
		seen[id] = true
		for _, r := range pack.Rules {
			if r.ID == id {
				r.Silent = true
				out.Rules = append(out.Rules, r)
			}
		}
		for _, other := range pack.Correlations {
			if other.ID == id {
				other.Silent = id != c.ID
				out.Correlations = append(out.Correlations, other)
				for _, from := range other.Rules {
					add(from)
				}
			}
		}
	}
	add(c.ID)
	return out
}

func runCases(m *ir.Meta, pack *ir.Pack, r *ir.Rule, yield func(*CaseResult)) {
	for i := range m.Cases {
		result := &CaseResult{Rule: m.Title, RuleID: m.ID, Case: &m.Cases[i]}
		if err := runCase(result, m, pack, r); err != nil {
			result.Err = err
		}
		yield(result)
	}
}

func runCase(result *CaseResult, m *ir.Meta, pack *ir.Pack, r *ir.Rule) error {
	events, err := CaseEvents(result.Case, m.AuditLevel)
	if err != nil {
		return err
	}
	engine, err := newEngine(pack)
	if err != nil {
		return err
	}
	columns, err := caseColumns(result.Case)
	if err != nil {
		return err
	}
	batch, err := batchOf(events, func(i int, e *schemas.Event) error { return setColumns(e, columns[i]) })
	if err != nil {
		return fmt.Errorf("%s: case %q: %w", result.Case.Position, result.Case.Name, err)
	}
	defer batch.Release()
	count := func(f *found) error {
		if f.match.RuleID == m.ID {
			result.Got++
		}
		return nil
	}
	if err := engine.batch(batch, func(row int) Origin { return Origin{"case", row + 1} }, count); err != nil {
		return err
	}
	if err := engine.end(count); err != nil {
		return err
	}
	if r == nil || result.Passed() {
		return nil
	}
	explainer, err := NewExplainer(r)
	if err != nil {
		return err
	}
	result.Why, err = explainer.Explain(batch, 0)
	return err
}

// Batch makes one batch of events, each a JSON text. The caller must release it.
func Batch(events [][]byte) (arrow.RecordBatch, error) {
	return batchOf(events, func(int, *schemas.Event) error { return nil })
}

// batchOf is Batch with more to be said of each event.
func batchOf(events [][]byte, more func(i int, e *schemas.Event) error) (arrow.RecordBatch, error) {
	decoder, builder := enrich.NewOffline(), schemas.NewBuilder()
	var splitter split.Splitter
	for i, event := range events {
		var fault error
		found := 0
		splitter.Split(event, func(item *split.Item) bool {
			if item.Fault != nil {
				fault = fmt.Errorf("event %d is no audit event: %s", i+1, item.Fault.Detail)
				return false
			}
			row, err := decoder.Event("test", item.Raw, &item.Fields, item.Damage)
			if err == nil {
				err = more(i, row)
			}
			if err != nil {
				fault = err
				return false
			}
			builder.Append(row)
			found++
			return true
		})
		if fault != nil {
			return nil, fault
		}
		if found != 1 {
			return nil, fmt.Errorf("event %d holds %d audit events", i+1, found)
		}
	}
	if builder.Rows() == 0 {
		return nil, errors.New("there is no event")
	}
	return builder.Batch(), nil
}

// WithoutCases returns the ids of rules that carry no case.
func WithoutCases(pack *ir.Pack) []string {
	var ids []string
	for i := range pack.Rules {
		if len(pack.Rules[i].Cases) == 0 && !pack.Rules[i].Silent {
			ids = append(ids, pack.Rules[i].ID)
		}
	}
	for i := range pack.Correlations {
		if len(pack.Correlations[i].Cases) == 0 {
			ids = append(ids, pack.Correlations[i].ID)
		}
	}
	slices.Sort(ids)
	return ids
}
