package offline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// Finding is something about a rule that is not wrong but worth a look.
type Finding struct {
	Position ir.Position `json:"-"`
	At       string      `json:"at"`
	RuleID   string      `json:"rule_id"`
	Kind     string      `json:"kind"` // missing, broad, unreachable, blind, style
	Text     string      `json:"text"`
}

// The kinds of a Finding.
const (
	FindingMissing     = "missing"     // metadata that a person on call needs
	FindingBroad       = "broad"       // matches nearly everything, or alerts several times for a request
	FindingUnreachable = "unreachable" // a part can never hold, or never matters
	FindingBlind       = "blind"       // cannot be evaluated on this deployment's data
	FindingStyle       = "style"
)

// Lint returns what is worth a look in a pack, by file and line.
func Lint(pack *ir.Pack) []Finding {
	l := &linter{}
	titles := map[string]string{}
	meta := func(m *ir.Meta) {
		l.meta(m)
		if other, taken := titles[strings.ToLower(m.Title)]; taken {
			l.add(m, FindingStyle, "the title is also that of "+other+": alerts of both look the same")
		}
		titles[strings.ToLower(m.Title)] = m.ID
	}
	for i := range pack.Rules {
		r := &pack.Rules[i]
		if !r.Silent {
			meta(&r.Meta)
		}
		l.condition(r)
	}
	for i := range pack.Correlations {
		meta(&pack.Correlations[i].Meta)
	}
	slices.SortStableFunc(l.findings, func(a, b Finding) int {
		if c := strings.Compare(a.Position.File, b.Position.File); c != 0 {
			return c
		}
		return a.Position.Line - b.Position.Line
	})
	return l.findings
}

type linter struct{ findings []Finding }

func (l *linter) add(m *ir.Meta, kind, text string) {
	l.findings = append(l.findings, Finding{m.Position, m.Position.String(), m.ID, kind, text})
}

func (l *linter) meta(m *ir.Meta) {
	if m.Blind != "" {
		l.add(m, FindingBlind, m.Blind)
	}
	for _, missing := range []struct {
		is   bool
		what string
	}{
		{m.Description == "", "a description: what it finds and why that matters"},
		{len(m.Techniques()) == 0, "an ATT&CK technique among the tags (attack.t1234)"},
		{len(m.FalsePositives) == 0, "falsepositives: when it fires although nothing is wrong"},
		{m.Next == "", "x-auditmill.next: what to do about an alert"},
		{m.Summary.String() == "", "x-auditmill.summary: what happened, with fields of the event"},
		{m.AuditLevel == "", "x-auditmill.audit_level: the lowest level at which it can match"},
		{len(m.Cases) == 0, "x-auditmill.cases: an event that must match and one that must not"},
	} {
		if missing.is && m.Priority == "" { // Falco's format has no place for them
			l.add(m, FindingMissing, "there is no "+missing.what)
		}
	}
	if len(m.Cases) > 0 {
		positive, negative := false, false
		for _, c := range m.Cases {
			positive, negative = positive || c.Alerts > 0, negative || c.Alerts == 0
		}
		if !positive || !negative {
			l.add(m, FindingMissing, "the cases show only one side: add one that must match and one that must not")
		}
	}
	if len(m.Title) > 110 {
		l.add(m, FindingStyle, fmt.Sprintf("the title has %d characters; a phone shows about 110", len(m.Title)))
	}
}

func (l *linter) condition(r *ir.Rule) {
	what, stage := false, false
	ir.Tests(r.Condition, func(t *ir.Test) {
		switch t.Field.String() {
		case "stage":
			stage = true
		default:
			what = true
		}
	})
	if !what {
		l.add(&r.Meta, FindingBroad, "nothing but the stage is tested: it matches every request")
	}
	if !stage && what && r.Priority == "" {
		l.add(&r.Meta, FindingBroad, "no stage is tested: a request that is recorded at several stages raises an alert for each; take ResponseComplete and Panic, or ResponseStarted for exec and watch")
	}
	if onlyNegative(r.Condition) {
		l.add(&r.Meta, FindingBroad, "the condition only says what must not be: events without the fields match as well")
	}
	l.unreachable(r)
}

// onlyNegative reports whether e can hold without any test being true.
func onlyNegative(e ir.Expr) bool {
	switch e := e.(type) {
	case ir.Not:
		return true
	case ir.And:
		return !slices.ContainsFunc(e, func(part ir.Expr) bool { return !onlyNegative(part) })
	case ir.Or:
		return slices.ContainsFunc(e, onlyNegative)
	}
	return false
}

// unreachable finds parts that contradict or repeat each other, by their text: a and not a; a or a.
func (l *linter) unreachable(r *ir.Rule) {
	var walk func(e ir.Expr)
	walk = func(e ir.Expr) {
		var parts []ir.Expr
		switch e := e.(type) {
		case ir.And:
			parts = e
		case ir.Or:
			parts = e
		case ir.Not:
			walk(e.Expr)
			return
		default:
			return
		}
		_, and := e.(ir.And)
		seen := map[string]bool{}
		for _, part := range parts {
			text := part.String()
			if seen[text] {
				l.add(&r.Meta, FindingUnreachable, "stands twice and one is enough: "+clip(text))
			}
			seen[text] = true
		}
		for _, part := range parts {
			if not, ok := part.(ir.Not); ok && seen[not.Expr.String()] {
				if and {
					l.add(&r.Meta, FindingUnreachable, "never holds: something is both required and excluded: "+clip(not.Expr.String()))
				} else {
					l.add(&r.Meta, FindingUnreachable, "always holds: something or its opposite: "+clip(not.Expr.String()))
				}
			}
			walk(part)
		}
		if and {
			l.exclusive(r, parts)
		}
	}
	walk(r.Condition)
}

// exclusive finds two tests of one scalar field, both required, that no text satisfies.
func (l *linter) exclusive(r *ir.Rule, parts []ir.Expr) {
	literals := map[string][]string{}
	for _, part := range parts {
		test, ok := part.(*ir.Test)
		if !ok || test.Missing || test.Null || !scalar(test.Field) {
			continue
		}
		texts, ok := exact(test)
		if !ok {
			continue
		}
		name := test.Field.Column
		before, had := literals[name]
		if had && !slices.ContainsFunc(texts, func(t string) bool { return slices.Contains(before, t) }) {
			l.add(&r.Meta, FindingUnreachable, fmt.Sprintf("never holds: %s cannot be %s and %s at once",
				test.Field.Name, strings.Join(before, " or "), strings.Join(texts, " or ")))
		}
		if !had {
			literals[name] = texts
		}
	}
}

func scalar(f ir.Field) bool {
	return f.Source == ir.Column && slices.Contains([]string{"verb", "stage", "level", "resource", "subresource", "namespace", "name", "user", "api_group", "decision"}, f.Column)
}

// exact returns the folded texts that a test asks for, if it asks for nothing else.
func exact(t *ir.Test) ([]string, bool) {
	var texts []string
	for _, m := range t.AnyOf {
		text, ok := m.(ir.Text)
		if !ok || len(text.Parts) > 1 || len(text.Parts) == 1 && text.Parts[0].Wild != ir.NotWild {
			return nil, false
		}
		literal := ""
		if len(text.Parts) == 1 {
			literal = text.Parts[0].Literal
		}
		texts = append(texts, strings.ToLower(literal))
	}
	return texts, true
}

func clip(text string) string {
	const limit = 160
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}
