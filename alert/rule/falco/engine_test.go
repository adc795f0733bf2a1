package falco_test

import (
	"strings"
	"testing"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/falco"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/alert/rule/ruletest"
	"github.com/auditmill/auditmill/schemas"
)

// one makes a file with one rule of a condition.
func one(condition string) []ir.File {
	text := "- rule: r\n  desc: d\n  output: o\n  priority: NOTICE\n  source: k8s_audit\n  condition: >\n    " + condition + "\n"
	return []ir.File{{Name: "one.yaml", Data: []byte(text)}}
}

// evaluator evaluates rules on single events by the engine.
type evaluator struct {
	rules []ir.Rule
	*rule.Evaluator
}

func compile(t testing.TB, pack *ir.Pack) *evaluator {
	t.Helper()
	set, err := rule.Compile(pack.Rules)
	if err != nil {
		t.Fatal(err)
	}
	return &evaluator{rules: pack.Rules, Evaluator: set.NewEvaluator()}
}

func parse(t testing.TB, files []ir.File, o falco.Options) *evaluator {
	t.Helper()
	pack, err := falco.Parse(files, o)
	if err != nil {
		t.Fatal(err)
	}
	return compile(t, pack)
}

// matches returns the names of the rules that match an event, and what they say.
func (e *evaluator) matches(t testing.TB, event string) (names, outputs []string) {
	t.Helper()
	decoded, err := ruletest.Event("c", []byte(event))
	if err != nil {
		// The decoder of the tests is stricter than the pipeline's: a member of a wrong type is left out.
		decoded = &schemas.Event{Raw: []byte(event)}
	}
	batch, err := ruletest.Batch(decoded)
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Release()
	err = e.Match(batch, func(r, row int) {
		names = append(names, e.rules[r].ID)
		outputs = append(outputs, e.rules[r].Summary.Render(func(f ir.Field) []string { return e.Values(row, f) }))
	})
	if err != nil {
		t.Fatal(err)
	}
	return names, outputs
}

func holds(t testing.TB, condition, event string, o falco.Options) bool {
	t.Helper()
	pack, err := falco.Parse(one(condition), o)
	if err != nil {
		t.Fatalf("%s: %v", condition, err)
	}
	names, _ := compile(t, pack).matches(t, event)
	return len(names) > 0
}

// faults returns the faults of files, one a line.
func faults(t testing.TB, files []ir.File) []string {
	t.Helper()
	_, err := falco.Parse(files, falco.Options{})
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}
