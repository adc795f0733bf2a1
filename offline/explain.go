package offline

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
)

// Step is a part of a rule's condition and whether it holds for an event.
type Step struct {
	Text   string   `json:"text"` // and, or, not, or the test
	Holds  bool     `json:"holds"`
	Values []string `json:"values,omitempty"` // of the field that a test looks at
	Line   int      `json:"line,omitempty"`   // of the test in the rule file
	Steps  []*Step  `json:"steps,omitempty"`

	field *ir.Field
}

// Explainer tells why a rule matches events or does not. It asks the engine itself about each part of the condition.
type Explainer struct {
	set   *rule.Set
	parts []*Step // by rule of set
	root  *Step
}

// NewExplainer prepares the explanation of r.
func NewExplainer(r *ir.Rule) (*Explainer, error) {
	x := &Explainer{}
	var rules []ir.Rule
	x.root = x.add(r.Condition, &rules)
	// The last one holds for every row, so that values can be asked for where nothing matches.
	rules = append(rules, ir.Rule{Meta: ir.Meta{ID: "always"}, Condition: ir.And{}})
	var err error
	if x.set, err = rule.Compile(rules); err != nil {
		return nil, fmt.Errorf("explaining %s: %w", r.ID, err)
	}
	return x, nil
}

// add makes every part of a condition a rule of its own.
func (x *Explainer) add(e ir.Expr, rules *[]ir.Rule) *Step {
	step := &Step{}
	*rules = append(*rules, ir.Rule{Meta: ir.Meta{ID: strconv.Itoa(len(*rules))}, Condition: e})
	x.parts = append(x.parts, step)
	switch e := e.(type) {
	case ir.And:
		step.Text = "and"
		for _, part := range e {
			step.Steps = append(step.Steps, x.add(part, rules))
		}
	case ir.Or:
		step.Text = "or"
		for _, part := range e {
			step.Steps = append(step.Steps, x.add(part, rules))
		}
	case ir.Not:
		step.Text = "not"
		step.Steps = append(step.Steps, x.add(e.Expr, rules))
	case *ir.Test:
		step.Text, step.Line, step.field = testText(e), e.Position.Line, &e.Field
	case *ir.Elements:
		step.Text, step.Line, step.field = e.String(), e.Position.Line, &e.Array
	case *ir.Relate:
		step.Text, step.Line, step.field = e.String(), e.Position.Line, &e.Left
	default:
		step.Text = e.String()
	}
	return step
}

// testText is a test in the words of the rule.
func testText(t *ir.Test) string {
	text := t.String()
	if name := t.Field.Name; name != "" {
		text = name + strings.TrimPrefix(text, t.Field.String())
	}
	return text
}

// Explain returns the condition with the truth of each part for a row.
func (x *Explainer) Explain(batch arrow.RecordBatch, row int) (*Step, error) {
	for _, step := range x.parts {
		step.Holds, step.Values = false, nil
	}
	evaluator := x.set.NewEvaluator()
	err := evaluator.Match(batch, func(part, at int) {
		switch {
		case at != row:
		case part < len(x.parts):
			x.parts[part].Holds = true
		default:
			for _, step := range x.parts {
				if step.field != nil && step.field.Source != ir.Leaves {
					step.Values = cloned(evaluator.Values(row, *step.field))
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return x.root, nil
}

// maxShown bounds the values and the characters of each that an explanation shows.
const maxShown = 4

// Write writes a step and those below it, for a person.
func (s *Step) Write(w io.Writer) error {
	var b strings.Builder
	s.write(&b, 0)
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *Step) write(b *strings.Builder, depth int) {
	mark := "✗"
	if s.Holds {
		mark = "✓"
	}
	fmt.Fprintf(b, "%s%s %s", strings.Repeat("  ", depth), mark, s.Text)
	if s.field != nil {
		b.WriteString("   ← " + shown(s.Values))
		if s.Line > 0 {
			fmt.Fprintf(b, " (line %d)", s.Line)
		}
	}
	b.WriteByte('\n')
	for _, step := range s.Steps {
		step.write(b, depth+1)
	}
}

func shown(values []string) string {
	if values == nil {
		return "absent"
	}
	texts := make([]string, 0, maxShown+1)
	for i, v := range values {
		if i == maxShown {
			texts = append(texts, fmt.Sprintf("and %d more", len(values)-i))
			break
		}
		const limit = 120
		if len(v) > limit {
			v = strings.ToValidUTF8(v[:limit], "") + "…"
		}
		texts = append(texts, strconv.Quote(v))
	}
	return "is " + strings.Join(texts, ", ")
}
