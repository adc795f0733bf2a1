package sigma

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// filter is a condition that is added to rules.
type filter struct {
	ir.Meta
	file      string
	any       bool
	rules     []*yaml.Node
	condition ir.Expr
}

// filter reads a document that narrows rules.
func (p *parser) filter(d *yaml.Node, members []member) {
	f := &filter{Meta: ir.Meta{Position: p.at(d)}, file: p.name}
	if other := p.otherSource(members); other != "" {
		r := &ir.Rule{Meta: f.Meta}
		p.passOver(r, members, "a filter "+other)
		return
	}
	have := map[string]bool{}
	for _, m := range members {
		have[m.name] = true
		switch m.name {
		case "filter":
			p.filterSection(m.value, f)
		case "logsource": // read before
		case Extension:
			p.extension(m.value, &f.Meta, nil)
		default:
			p.metadata(m, &f.Meta)
		}
	}
	p.require(d, have, "title", "logsource")
	if f.ID == "" {
		f.ID = f.Title
	}
	p.noteStrange()
	p.publish(f.ID)
	if f.condition != nil {
		p.filters = append(p.filters, f)
	}
}

func (p *parser) filterSection(n *yaml.Node, f *filter) {
	members, ok := p.members(n, "filter")
	if !ok {
		return
	}
	var searches []member
	var rules *yaml.Node
	for _, m := range members {
		if m.name == "rules" {
			rules = m.value
		} else {
			searches = append(searches, m)
		}
	}
	switch {
	case rules == nil:
		p.fault(n, "filter.rules", "is missing", "list the ids or names of rules, or write any")
	case rules.Kind == yaml.ScalarNode && strings.EqualFold(rules.Value, "any"):
		f.any = true
	default:
		p.textsOf(rules, "filter.rules")
		if f.rules = p.items(rules); len(f.rules) == 0 {
			p.fault(rules, "filter.rules", "is an empty list", "list the ids or names of rules, or write any")
		}
	}
	f.condition = p.searches(n, searches, "filter")
	for _, m := range searches {
		if m.name == "condition" && f.condition != nil && !denies(p.items(m.value)) {
			p.remark(m.value, "the condition is added to the rules as it stands, so they match only what the filter describes; "+
				"to leave that out write not before it")
		}
	}
}

// denies reports whether one of the conditions has a not.
func denies(conditions []*yaml.Node) bool {
	return slices.ContainsFunc(conditions, func(n *yaml.Node) bool {
		tokens, _ := tokenize(n.Value)
		return slices.ContainsFunc(tokens, func(t token) bool { return t.text == "not" })
	})
}

// apply adds a filter to its rules.
func (l *loader) apply(f *filter) {
	if f.any {
		for _, r := range l.rules {
			r.Condition = narrow(r.Condition, f.condition)
		}
		return
	}
	done := map[*ir.Rule]bool{}
	for _, n := range f.rules {
		at := ir.Position{File: f.file, Line: n.Line, Column: n.Column}
		found := l.handles[handleKey(n.Value)]
		if len(found) == 0 {
			text := fmt.Sprintf("the filter is for a rule %q, which is not loaded", n.Value)
			if near := l.nearHandle(n.Value); near != "" {
				text += fmt.Sprintf("; did you mean %q?", near)
			}
			l.note(at, f.ID, text)
		}
		for _, h := range found {
			switch {
			case h.rule != nil && !done[h.rule]:
				done[h.rule] = true
				h.rule.Condition = narrow(h.rule.Condition, f.condition)
			case h.correlation != nil:
				l.note(at, f.ID, fmt.Sprintf("%q is a correlation, which a filter cannot narrow: name its rules", n.Value))
			}
		}
	}
}

func narrow(rule, filter ir.Expr) ir.Expr {
	if rule == nil {
		return nil
	}
	return ir.And{rule, filter}
}

func (l *loader) nearHandle(name string) string {
	return ir.Nearest(name, slices.Values(slices.Sorted(maps.Keys(l.handles))))
}
