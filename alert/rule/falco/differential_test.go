package falco_test

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/auditmill/auditmill/alert/rule/falco"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/alert/rule/ruletest"
	"github.com/auditmill/auditmill/schemas"
)

// evaluate evaluates a condition on the bytes of an event alone, without columns: a straightforward
// reference for what the engine makes of the tests.
func evaluate(e ir.Expr, event []byte) bool {
	var doc any
	d := json.NewDecoder(strings.NewReader(string(event)))
	d.UseNumber()
	if d.Decode(&doc) != nil {
		doc = nil
	}
	return holdsFor(e, event, doc)
}

func holdsFor(e ir.Expr, event []byte, doc any) bool {
	switch e := e.(type) {
	case ir.And:
		return !slices.ContainsFunc(e, func(arg ir.Expr) bool { return !holdsFor(arg, event, doc) })
	case ir.Or:
		return slices.ContainsFunc(e, func(arg ir.Expr) bool { return holdsFor(arg, event, doc) })
	case ir.Not:
		return !holdsFor(e.Expr, event, doc)
	}
	t := e.(*ir.Test)
	if t.Field.Source == ir.Computed {
		var values ir.Values
		t.Field.Extract(event, &values)
		return decide(t, values.Texts())
	}
	keys := t.Field.Path
	if t.Field.Source == ir.Entry {
		keys = []string{"annotations", t.Field.Key}
	}
	v := doc
	for _, key := range keys {
		object, ok := v.(map[string]any)
		if !ok {
			return t.Missing
		}
		if v, ok = object[key]; !ok {
			return t.Missing
		}
	}
	switch v := v.(type) {
	case nil:
		return t.Null
	case []any:
		if len(v) == 0 {
			return t.Empty
		}
		var texts []string
		for _, member := range v {
			texts = append(texts, plain(member))
		}
		return decide(t, texts)
	}
	return decide(t, []string{plain(v)})
}

func plain(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case float64: // of the codes of responses
		return strconv.Itoa(int(v))
	}
	text, _ := json.Marshal(v)
	return string(text)
}

func decide(t *ir.Test, texts []string) bool {
	if len(texts) == 0 {
		return t.Missing
	}
	is := func(text string) bool {
		return slices.ContainsFunc(t.AnyOf, func(m ir.Match) bool { return matchText(m, text) })
	}
	if t.Every {
		return !slices.ContainsFunc(texts, func(text string) bool { return !is(text) })
	}
	return slices.ContainsFunc(texts, is)
}

func matchText(m ir.Match, text string) bool {
	switch m := m.(type) {
	case ir.Any:
		return true
	case ir.Text:
		rest, anchored := text, true
		for i, p := range m.Parts {
			switch {
			case p.Wild == ir.Many:
				anchored = false
			case anchored || i == len(m.Parts)-1:
				if !strings.HasSuffix(rest, p.Literal) && !anchored || anchored && !strings.HasPrefix(rest, p.Literal) {
					return false
				}
				rest = rest[len(p.Literal):]
				if !anchored {
					return true
				}
			default:
				i := strings.Index(rest, p.Literal)
				if i < 0 {
					return false
				}
				rest = rest[i+len(p.Literal):]
			}
		}
		return !anchored || rest == ""
	case ir.Regexp:
		return m.MatchString(text)
	case ir.Order:
		return m.Relation == ir.Less && text < m.Text || m.Relation == ir.LessOrEqual && text <= m.Text ||
			m.Relation == ir.Greater && text > m.Text || m.Relation == ir.GreaterOrEqual && text >= m.Text
	case ir.Glob:
		ok, _ := path.Match(m.Pattern, text)
		return ok
	}
	return false
}

// The published rules on the recording: the engine, on columns, and the reference, on bytes, agree.
func TestEngineAgreesOnRecording(t *testing.T) {
	lines, err := ruletest.Recording("../../../testdata/recording/sample.jsonl.gz")
	if err != nil {
		t.Skip("no recording: ", err)
	}
	pack, err := falco.Parse(sharedRules(t, "rules/k8s_audit_rules.yaml"), falco.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e := compile(t, pack)
	var events []*schemas.Event
	for _, line := range lines {
		event, err := ruletest.Event("c", line)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, event)
	}
	type match struct{ rule, row int }
	got := map[match]bool{}
	batch, err := ruletest.Batch(events...)
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Release()
	if err := e.Match(batch, func(r, row int) { got[match{r, row}] = true }); err != nil {
		t.Fatal(err)
	}
	for row, line := range lines {
		var doc any
		if err := json.Unmarshal(line, &doc); err != nil {
			t.Fatal(err)
		}
		for r := range pack.Rules {
			if want := holdsFor(pack.Rules[r].Condition, line, doc); want != got[match{r, row}] {
				t.Errorf("event %d, %s: %v, want %v", row, pack.Rules[r].ID, !want, want)
			}
		}
	}
	if len(got) == 0 {
		t.Error("no rule matches")
	}
}
