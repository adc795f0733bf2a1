package sigma

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// modifiers are those of one detection item.
type modifiers struct {
	// form is what the value is: empty for text, re, cidr, exists, fieldref, compare, time, within.
	form string
	// steps change a text, or tie an expression or another field to a part of the value, in the order written.
	steps    []string
	relation ir.Relation // of compare, time and fieldref
	part     string      // of time
	flags    string      // of re
	cased    bool
	all      bool
	neq      bool
	expand   bool
}

const supported = "contains, startswith, endswith, re, i, m, s, cidr, exists, all, cased, neq, gt, gte, lt, lte, " +
	"fieldref, expand, base64, base64offset, wide, utf16, utf16le, utf16be, windash, minute, hour, day, week, month, year, within"

// relationOf returns the relation that a modifier stands for; empty if it is none.
func relationOf(name string) ir.Relation {
	switch name {
	case "gt":
		return ir.Greater
	case "gte":
		return ir.GreaterOrEqual
	case "lt":
		return ir.Less
	case "lte":
		return ir.LessOrEqual
	}
	return ""
}

// modifiers reads the parts of a key after its first pipe.
func (p *parser) modifiers(key *yaml.Node, names []string) (m modifiers, ok bool) {
	before := len(p.faults)
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			p.fault(key, key.Value, fmt.Sprintf("the modifier %q stands here twice", name), "remove one")
			continue
		}
		p.modifier(key, &m, name, names[:i])
	}
	if problem, remedy := m.contradiction(names); problem != "" {
		p.fault(key, key.Value, problem, remedy)
	}
	return m, len(p.faults) == before
}

// modifier adds one to m; before are the names that stand before it.
//
//nolint:cyclop,funlen // one branch for each modifier
func (p *parser) modifier(key *yaml.Node, m *modifiers, name string, before []string) {
	fault := func(problem, remedy string) { p.fault(key, key.Value, problem, remedy) }
	form := func(is string) {
		switch {
		case m.form != "" && m.form != is:
			fault(fmt.Sprintf("the modifiers %q and %q exclude each other", before[len(before)-1], name), "keep one")
		default:
			m.form = is
		}
	}
	first := func() {
		if rest := slices.DeleteFunc(slices.Clone(before), func(s string) bool { return s == "expand" }); len(rest) > 0 {
			fault(fmt.Sprintf("the modifier %q must be the first", name), "write it behind the field's name")
		}
	}
	switch name {
	case "re", "cidr", "exists", "within":
		first()
		m.form = name
	case "minute", "hour", "day", "week", "month", "year":
		first()
		m.form, m.part, m.relation = "time", name, ir.Same
	case "fieldref":
		if m.form == "compare" { // lt|fieldref as well as fieldref|lt
			m.form = ""
		}
		form("fieldref")
	case "gt", "gte", "lt", "lte":
		if m.relation != "" && m.relation != ir.Same {
			fault("only one of gt, gte, lt and lte can stand here", "write two items")
		}
		m.relation = relationOf(name)
		if m.form != "time" && m.form != "fieldref" {
			form("compare")
		}
	case "i", "m", "s", "ignorecase", "multiline", "dotall":
		last := ""
		if len(before) > 0 {
			last = before[len(before)-1]
		}
		if !slices.Contains([]string{"re", "i", "m", "s", "ignorecase", "multiline", "dotall"}, last) {
			fault(fmt.Sprintf("the modifier %q is a flag of re", name), "write it behind re, as in field|re|i")
		}
		m.flags += map[string]string{"ignorecase": "i", "multiline": "m", "dotall": "s"}[name]
		if len(name) == 1 {
			m.flags += name
		}
	case "contains", "startswith", "endswith", "base64", "base64offset", "wide", "utf16", "utf16le", "utf16be", "windash":
		m.steps = append(m.steps, name)
	case "cased":
		m.cased = true
	case "all":
		m.all = true
	case "neq":
		m.neq = true
	case "expand":
		m.expand = true
	default:
		remedy := "supported are " + supported
		if near := ir.Nearest(name, strings.SplitSeq(supported, ", ")); near != "" {
			remedy = fmt.Sprintf("did you mean %q? %s", near, remedy)
		}
		fault(fmt.Sprintf("the modifier %q is not supported", name), remedy)
	}
}

// isPlace reports whether a step says where in the value something stands.
func isPlace(step string) bool {
	return step == "contains" || step == "startswith" || step == "endswith"
}

// contradiction says what is wrong with the modifiers together.
//
//nolint:cyclop // one branch for each contradiction
func (m *modifiers) contradiction(names []string) (problem, remedy string) {
	var places, changes []string
	for _, step := range m.steps {
		if isPlace(step) {
			places = append(places, step)
		} else {
			changes = append(changes, step)
		}
	}
	switch {
	case len(places) > 1:
		return fmt.Sprintf("the modifiers %q and %q exclude each other", places[0], places[1]), "keep one"
	case (m.form == "exists" || m.form == "within") && len(names) > 1:
		return m.form + " goes with no other modifier", "test the value in an item of its own"
	case m.form != "" && len(changes) > 0:
		return fmt.Sprintf("%s changes texts and does not go with %s", changes[0], m.formName()), "remove one"
	case m.form != "" && m.form != "re" && m.form != "fieldref" && len(places) > 0:
		return fmt.Sprintf("the modifiers %q and %q exclude each other", m.formName(), places[0]), "keep one"
	case m.form == "fieldref" && m.relation != "" && len(places) > 0:
		return fmt.Sprintf("the modifiers %q and %q exclude each other", places[0], m.relation), "keep one"
	case m.cased && m.form != "" && m.form != "fieldref":
		remedy := "remove cased"
		if m.form == "re" {
			remedy += "; re is case-sensitive unless it has the flag i"
		}
		return "cased does not go with " + m.formName(), remedy
	case m.expand && (m.form == "fieldref" || m.form == "time"):
		return "expand does not go with " + m.formName(), "write the values out"
	}
	return "", ""
}

func (m *modifiers) formName() string {
	switch m.form {
	case "time":
		return m.part
	case "compare":
		for _, name := range []string{"gt", "gte", "lt", "lte"} {
			if relationOf(name) == m.relation {
				return name
			}
		}
	}
	return m.form
}

// place returns contains, startswith, endswith, or nothing.
func (m *modifiers) place() string {
	for _, step := range m.steps {
		if isPlace(step) {
			return step
		}
	}
	return ""
}

// plain reports whether values stand for themselves.
func (m *modifiers) plain() bool { return m.form == "" && len(m.steps) == 0 && !m.cased && !m.expand }
