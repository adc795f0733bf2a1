package falco

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// exception excludes events from a rule. With one field the values are a list for its operator; with
// several each of the values is a tuple.
type exception struct {
	name   string
	m      *item
	fields *entry
	comps  *entry
	values []*entry
}

// entry is a text, or a list of entries.
type entry struct {
	node   *yaml.Node
	scalar *scalar
	isList bool
	items  []*entry
}

func (m *item) entry(n *yaml.Node, field string) *entry {
	n = m.resolve(n)
	e := &entry{node: n}
	switch {
	case n.Kind == yaml.SequenceNode:
		e.isList = true
		for _, v := range n.Content {
			if item := m.entry(v, field); item != nil {
				e.items = append(e.items, item)
			}
		}
		return e
	case n.Kind != yaml.ScalarNode || isNull(n):
		m.fault(n, field, "must be text or a list, is "+kind(n), "")
		return nil
	case n.Value == "":
		m.fault(n, field, "must not be empty", "")
		return nil
	}
	e.scalar = &scalar{file: m.file, node: n}
	return e
}

// exceptions reads the exceptions of an item. Those that are appended may have no fields.
func (m *item) exceptions(appended bool) []*exception {
	n := m.values["exceptions"]
	if n == nil || isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		m.fault(n, "exceptions", "must be a list, is "+kind(n), "")
		return nil
	}
	var all []*exception
	for _, v := range n.Content {
		if x := m.exception(m.resolve(v), appended); x != nil {
			all = append(all, x)
		}
	}
	return all
}

func (m *item) exception(n *yaml.Node, appended bool) *exception {
	em := m.mapping(n, "exceptions")
	if em == nil {
		return nil
	}
	em.allow("name", "fields", "comps", "values")
	name, ok := em.scalar("name")
	if !ok {
		return nil
	}
	x := &exception{name: name.node.Value, m: em}
	if em.has("fields") {
		if x.fields = em.entry(em.values["fields"], "fields"); x.fields == nil {
			return nil
		}
	} else if !appended {
		em.fault(n, "fields", "is missing", "say which fields the values are of")
		return nil
	}
	if em.has("comps") {
		if x.comps = em.entry(em.values["comps"], "comps"); x.comps == nil {
			return nil
		}
	}
	if em.has("values") {
		values := em.values["values"]
		if values.Kind != yaml.SequenceNode {
			em.fault(values, "values", "must be a list, is "+kind(values), "")
			return nil
		}
		for _, v := range values.Content {
			if e := em.entry(v, "values"); e != nil {
				x.values = append(x.values, e)
			}
		}
	}
	if x.fields != nil && !x.check() {
		return nil
	}
	return x
}

// appendExceptions adds the exceptions of m to r: values to one that r has, whole ones otherwise.
func (r *ruleItem) appendExceptions(m *item) {
	for _, x := range m.exceptions(true) {
		i := slices.IndexFunc(r.exceptions, func(o *exception) bool { return o.name == x.name })
		switch {
		case i < 0 && x.fields == nil:
			m.fault(x.m.node, "fields", fmt.Sprintf("the rule has no exception %q, so this one needs fields", x.name), "add fields, or check the name")
		case i < 0 && len(x.values) == 0:
			m.fault(x.m.node, "values", fmt.Sprintf("the exception %q has no values", x.name), "add values")
		case i < 0:
			r.exceptions = append(r.exceptions, x)
		case x.fields != nil || x.comps != nil:
			m.fault(x.m.node, "exceptions", fmt.Sprintf("the rule has an exception %q: only values can be appended to it", x.name),
				"remove fields and comps, or choose another name")
		default:
			changed := *r.exceptions[i]
			changed.values = slices.Concat(changed.values, x.values)
			r.exceptions = slices.Clone(r.exceptions)
			r.exceptions[i] = &changed
		}
	}
}

// check checks the form of fields and comps.
func (x *exception) check() bool {
	fail := func(e *entry, problem, remedy string) bool {
		x.m.fault(e.node, "comps", problem, remedy)
		return false
	}
	if !x.fields.isList {
		switch {
		case x.comps == nil:
		case x.comps.isList:
			return fail(x.comps, "must be text, as fields is", "")
		case !takesList(x.comps.scalar.node.Value):
			return fail(x.comps, fmt.Sprintf("%q takes no list of values", x.comps.scalar.node.Value),
				"use in, pmatch, intersects, or a modifier such as startswith anyof")
		}
		return true
	}
	if x.comps == nil {
		return true
	}
	if !x.comps.isList || len(x.comps.items) != len(x.fields.items) {
		return fail(x.comps, fmt.Sprintf("must be a list of %d operators, as many as fields", len(x.fields.items)), "")
	}
	for _, comp := range x.comps.items {
		if comp.isList || !takesList(comp.scalar.node.Value) && !slices.Contains(operators(), comp.scalar.node.Value) {
			return fail(comp, "is no operator", "the operators are "+strings.Join(operators(), " "))
		}
	}
	return true
}

// takesList reports whether an operator, with its modifier, compares with a list.
func takesList(comp string) bool {
	op, mod, ok := strings.Cut(comp, " ")
	if !ok {
		return isListOperator(op)
	}
	if !slices.Contains([]modifier{oneOf, anyOf, allOf}, modifier(strings.TrimSpace(mod))) {
		return false
	}
	return slices.Contains(symbolOperators(), op) || slices.Contains(textOperators(), op)
}

// withExceptions returns the condition of r: (condition) and not … for each exception that has values.
// It is text, as in Falco: lists are put into it later.
func (r *ruleItem) withExceptions() text {
	if len(r.exceptions) == 0 {
		return r.condition
	}
	var t text
	if len(r.condition.from) > 0 {
		t.add("(", r.condition.from[0])
		t.addText(r.condition)
		t.add(")", r.condition.from[len(r.condition.from)-1])
	}
	for _, x := range r.exceptions {
		var excluded text
		if x.fields.isList {
			excluded = x.tuples()
		} else {
			excluded = x.flat()
		}
		if len(excluded.b) > 0 {
			t.add(" and not ", excluded.from[0])
			t.addText(excluded)
		}
	}
	return t
}

// flat is (field comp (v1, v2)).
func (x *exception) flat() text {
	var t text
	for i, v := range x.values {
		if v.isList {
			x.m.fault(v.node, "values", "must be texts, as fields is one field", "write the values as one list")
			return text{}
		}
		o := origin{v.scalar, 0}
		if i == 0 {
			t.add("(", o)
			t.addScalar(x.fields.scalar)
			comp := "in"
			if x.comps != nil {
				comp = x.comps.scalar.node.Value
			}
			t.add(" "+comp+" (", o)
		} else {
			t.add(", ", o)
		}
		t.addQuoted(v.scalar)
	}
	if len(t.b) > 0 {
		t.add("))", t.from[0])
	}
	return t
}

// tuples is ((f1 c1 v1 and f2 c2 v2) or (…)).
func (x *exception) tuples() text {
	var t text
	for _, v := range x.values {
		if !v.isList || len(v.items) != len(x.fields.items) {
			x.m.fault(v.node, "values", fmt.Sprintf("each of the values must be a list of %d, as many as fields", len(x.fields.items)), "")
			return text{}
		}
		for k, value := range v.items {
			o := origin{x.fields.items[k].scalar, 0}
			if x.fields.items[k].isList {
				x.m.fault(x.fields.items[k].node, "fields", "must be a list of fields", "")
				return text{}
			}
			switch {
			case k > 0:
				t.add(" and ", o)
			case len(t.b) > 0:
				t.add(") or (", o)
			default:
				t.add("((", o)
			}
			t.addScalar(x.fields.items[k].scalar)
			comp := "="
			if x.comps != nil {
				comp = x.comps.items[k].scalar.node.Value
			}
			t.add(" "+comp+" ", o)
			t.addValue(value, comp)
		}
	}
	if len(t.b) > 0 {
		t.add("))", t.from[0])
	}
	return t
}

// addValue appends the value of a tuple: a list in parentheses, which a list operator's text gets too.
func (t *text) addValue(value *entry, comp string) {
	if !value.isList {
		s := value.scalar
		if !takesList(comp) {
			t.addQuoted(s)
			return
		}
		open := !strings.HasPrefix(s.node.Value, "(")
		if open {
			t.add("(", origin{s, 0})
		}
		t.addScalar(s)
		if open {
			t.add(")", origin{s, 0})
		}
		return
	}
	var o origin
	if len(t.from) > 0 {
		o = t.from[len(t.from)-1]
	}
	t.add("(", o)
	for i, item := range value.items {
		if i > 0 {
			t.add(", ", o)
		}
		if !item.isList {
			t.addQuoted(item.scalar)
		}
	}
	t.add(")", o)
}

// addQuoted appends s as quote has it.
func (t *text) addQuoted(s *scalar) {
	if quote(s.node.Value) == s.node.Value {
		t.addScalar(s)
		return
	}
	t.add(`"`, origin{s, 0})
	t.addScalar(s)
	t.add(`"`, origin{s, 0})
}
