package sigma

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// detection reads the section and returns what its condition says; nil after a fault.
func (p *parser) detection(n *yaml.Node) ir.Expr {
	members, ok := p.members(n, "detection")
	if !ok {
		return nil
	}
	return p.searches(n, members, "detection")
}

// searches reads the searches and the condition of a detection or filter section.
func (p *parser) searches(n *yaml.Node, members []member, section string) ir.Expr {
	before := len(p.faults)
	searches := &searches{byName: map[string]ir.Expr{}}
	var condition *yaml.Node
	for _, m := range members {
		switch m.name {
		case "condition":
			condition = m.value
		case "timeframe":
			p.fault(m.key, section+".timeframe", "rules with a timeframe are of an old form that Sigma has given up",
				"remove it, and write a second document with correlation: {type: event_count, rules: […], timespan: …}")
		default:
			searches.names = append(searches.names, m.name)
			searches.byName[m.name] = p.search(m.value, section+"."+m.name, scope{}, 0)
		}
	}
	switch {
	case len(searches.names) == 0:
		p.fault(n, section, "says nothing to look for", "add a search such as selection")
		return nil
	case condition == nil:
		p.fault(n, section+".condition", "is missing", "write condition: "+searches.names[0])
		return nil
	}
	e := p.conditions(condition, section+".condition", searches)
	if len(p.faults) > before {
		return nil
	}
	return e
}

// conditions reads one condition, or a list of them of which one must hold.
func (p *parser) conditions(n *yaml.Node, field string, searches *searches) ir.Expr {
	var or ir.Or
	for _, item := range p.items(n) {
		if e := p.condition(item, field, searches); e != nil {
			or = append(or, e)
		}
	}
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		p.fault(n, field, "is an empty list", "write a condition")
	}
	return one[ir.Or](or)
}

func (p *parser) condition(n *yaml.Node, field string, searches *searches) ir.Expr {
	text := p.text(n, field)
	if text == "" {
		return nil
	}
	e, fault := parseCondition(text, searches)
	if fault != nil {
		position := p.at(n)
		if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 && !strings.Contains(text, "\n") {
			position.Column += fault.offset
			if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
				position.Column++
			}
		}
		p.faults = append(p.faults, ir.Fault{
			Position: position, Field: field, Problem: fault.problem, Remedy: fault.remedy,
		})
		return nil
	}
	return e
}

// search reads one search: a map of items, a list of maps, a list of keywords, or a keyword. A block about
// a member of an array has the same form; its plain values are those of the member itself.
func (p *parser) search(n *yaml.Node, field string, s scope, depth int) ir.Expr {
	switch n.Kind {
	case yaml.MappingNode:
		members, _ := p.members(n, field)
		var and ir.And
		for _, m := range members {
			if e := p.item(m, s); e != nil {
				and = append(and, e)
			}
		}
		if len(n.Content) == 0 {
			p.fault(n, field, "is an empty mapping", "write field: value")
		}
		return p.withoutDropped(n, members, and, s)
	case yaml.SequenceNode:
		if depth > 0 {
			p.fault(n, field, "a list inside a list is not allowed", "write one list")
			return nil
		}
		var or ir.Or
		var plain []*yaml.Node
		for _, item := range p.items(n) {
			if item.Kind == yaml.ScalarNode {
				plain = append(plain, item)
			} else if e := p.search(item, field, s, depth+1); e != nil {
				or = append(or, e)
			}
		}
		if len(plain) > 0 {
			if e := p.values(n, field, s, plain); e != nil {
				or = append(or, e)
			}
		}
		if len(n.Content) == 0 {
			p.fault(n, field, "is an empty list", "write what to look for")
		}
		return one[ir.Or](or)
	}
	return p.values(n, field, s, []*yaml.Node{n})
}

// values reads plain values: keywords, or, in a block, what the member itself must be.
func (p *parser) values(n *yaml.Node, field string, s scope, values []*yaml.Node) ir.Expr {
	if s.member {
		return p.tests(member{key: n, value: n, name: field}, itself(), &modifiers{}, values, s)
	}
	return p.keywords(n, field, values, &modifiers{})
}

// withoutDropped leaves out the items that the taxonomy of the published rules has dropped: they write
// apiGroup: ” for the core group, and subresource: ” where they do not care. A search of nothing else keeps them.
func (p *parser) withoutDropped(n *yaml.Node, members []member, and ir.And, s scope) ir.Expr {
	if s != (scope{}) || len(and) != len(members) {
		return one[ir.And](and)
	}
	var kept ir.And
	for i, m := range members {
		empty := m.value.Kind == yaml.ScalarNode && m.value.Value == "" && !isNull(m.value)
		if (m.name == "apiGroup" || m.name == "subresource") && empty {
			continue
		}
		kept = append(kept, and[i])
	}
	if len(kept) == 0 {
		return one[ir.And](and)
	}
	if len(kept) < len(and) {
		p.remark(n, "apiGroup: '' and subresource: '' are passed over, as published rules mean them; "+
			"write objectRef.subresource: null for requests without one")
	}
	return one[ir.And](kept)
}

// item reads one `field|modifiers: values`.
func (p *parser) item(m member, s scope) ir.Expr {
	parts := strings.Split(m.name, "|")
	name := parts[0]
	mods, ok := p.modifiers(m.key, parts[1:])
	if at := strings.IndexByte(name, '['); at >= 0 {
		if !ok {
			return nil
		}
		return p.bracket(m, name, at, &mods, s)
	}
	values := p.items(m.value)
	if !p.enough(m, &mods, values) || !ok {
		return nil
	}
	if name == "" && !s.member {
		switch mods.form {
		case "", "re":
			return p.keywords(m.key, m.name, values, &mods)
		}
		p.fault(m.key, m.name, "keywords do not take "+mods.formName(), "name a field before the pipe")
		return nil
	}
	fields, known := p.alternatives(name, s)
	if !known {
		p.unknownField(m.key, name)
		return nil
	}
	return p.either(m, fields, &mods, values, s)
}

// enough checks how many values there are.
func (p *parser) enough(m member, mods *modifiers, values []*yaml.Node) bool {
	switch {
	case len(values) == 0:
		p.fault(m.value, m.name, "is an empty list, which nothing matches", "write a value")
	case mods.all && len(values) < 2:
		p.fault(m.key, m.name, "all needs a list of at least two values", "remove all")
	default:
		return true
	}
	return false
}

// either returns what an item says of a name that stands for several fields: that one of them is as asked. A
// denial (null, neq, exists: false) must hold for all.
func (p *parser) either(m member, fields []ir.Field, mods *modifiers, values []*yaml.Node, s scope) ir.Expr {
	if len(fields) == 1 {
		return p.tests(m, fields[0], mods, values, s)
	}
	var all []ir.Expr
	for _, f := range fields {
		e := p.tests(m, f, mods, values, s)
		if e == nil {
			return nil // the same fault for all
		}
		all = append(all, e)
	}
	_, denied := all[0].(ir.Not)
	if test, ok := all[0].(*ir.Test); denied || ok && test.Missing {
		return ir.And(all)
	}
	return ir.Or(all)
}

// tests returns what an item of a known field says.
func (p *parser) tests(m member, field ir.Field, mods *modifiers, values []*yaml.Node, s scope) ir.Expr {
	p.notice(m.key, field)
	var e ir.Expr
	switch {
	case mods.form == "exists":
		return p.exists(m, field)
	case mods.form == "within":
		return p.within(m, field)
	case mods.form == "fieldref":
		return p.fieldrefs(m, field, mods, values, s)
	case len(values) == 1 && m.value.Kind != yaml.SequenceNode && isNull(values[0]) && mods.plain():
		e = &ir.Test{Field: field, Missing: true, Null: true, Position: p.at(m.key)}
	default:
		groups, ok := p.groups(m, mods, values)
		if !ok || !p.sensible(m, field, groups) {
			return nil
		}
		e = p.join(m.key, field, groups, mods.all)
	}
	if mods.neq {
		return ir.Not{Expr: e}
	}
	return e
}

// groups returns, for each value, the matches of which one must be satisfied.
func (p *parser) groups(m member, mods *modifiers, values []*yaml.Node) (groups [][]ir.Match, ok bool) {
	ok = true
	for _, v := range values {
		matches, good := p.matches(v, m.name, mods)
		groups, ok = append(groups, matches), ok && good
	}
	return groups, ok
}

// join returns a test for one of the values, or tests for all of them.
func (p *parser) join(key *yaml.Node, field ir.Field, groups [][]ir.Match, all bool) ir.Expr {
	if !all {
		return &ir.Test{Field: field, AnyOf: slices.Concat(groups...), Position: p.at(key)}
	}
	var and ir.And
	for _, matches := range groups {
		and = append(and, &ir.Test{Field: field, AnyOf: matches, Position: p.at(key)})
	}
	return and
}

func (p *parser) exists(m member, field ir.Field) ir.Expr {
	want, ok := parseBool(m.value)
	if !ok {
		p.fault(m.value, m.name, "exists takes true or false", "write exists: true")
		return nil
	}
	test := &ir.Test{Field: field, AnyOf: []ir.Match{ir.Any{}}, Null: true, Empty: true, Position: p.at(m.key)}
	if want {
		return test
	}
	return ir.Not{Expr: test}
}

// within asks of a time that it was at most so long before the event. It is auditmill's own: Sigma compares no times.
func (p *parser) within(m member, field ir.Field) ir.Expr {
	at, _ := p.fields.Resolve("event_time")
	if field.Source != ir.Column || field.Type != at.Type {
		p.fault(m.key, m.name, "is no column of times", "within takes a column such as grant_since or minted_at")
		return nil
	}
	before := len(p.faults)
	span := p.duration(m.value, m.name)
	if len(p.faults) == before && span < time.Microsecond {
		p.fault(m.value, m.name, "is no time at all", "write such as 15m")
	}
	if len(p.faults) > before {
		return nil
	}
	return &ir.Relate{Left: field, Right: at, Relation: ir.LessOrEqual, Within: span.Microseconds(), Position: p.at(m.key)}
}

// fieldrefs compares field with the fields that the values name.
func (p *parser) fieldrefs(m member, field ir.Field, mods *modifiers, values []*yaml.Node, s scope) ir.Expr {
	relation := mods.relation
	switch mods.place() {
	case "contains":
		relation = ir.Contains
	case "startswith":
		relation = ir.StartsWith
	case "endswith":
		relation = ir.EndsWith
	case "":
		if relation == "" {
			relation = ir.Same
		}
	}
	var all []ir.Expr
	for _, v := range values {
		name := p.text(v, m.name)
		if name == "" {
			return nil
		}
		other, known := p.resolveField(name, s)
		if !known {
			p.unknownField(v, name)
			return nil
		}
		p.notice(v, other)
		all = append(all, p.relate(ir.Relate{
			Left: field, Right: other, Relation: relation, Cased: mods.cased, Position: p.at(v),
		}, mods.neq))
	}
	if mods.all != mods.neq { // not (a or b) is not a and not b
		return one[ir.And](all)
	}
	return one[ir.Or](all)
}

// relate denies r on request. That needs both fields as well, and no pair of their values in the relation.
func (p *parser) relate(r ir.Relate, deny bool) ir.Expr {
	if !deny {
		return &r
	}
	different, same := r, r
	different.Relation, same.Relation = ir.Different, ir.Same
	switch r.Relation {
	case ir.Same, ir.Contains, ir.StartsWith, ir.EndsWith: // equal texts are in all of these
		return ir.And{&different, ir.Not{Expr: &r}}
	default:
		return ir.And{ir.Or{&different, &same}, ir.Not{Expr: &r}}
	}
}

// sensible refuses tests that can never hold because of what the field is.
func (p *parser) sensible(m member, field ir.Field, groups [][]ir.Match) bool {
	if field.Source != ir.Column || field.Type != schemas.TypeMap && field.Type != schemas.TypeMapList {
		return true
	}
	for _, match := range slices.Concat(groups...) {
		if t, ok := match.(ir.Text); !ok || len(t.Parts) != 1 || t.Parts[0].Wild != ir.Many {
			p.fault(m.key, m.name, "is a map of its own keys", "name one, as in "+field.Name+".example.com/key")
			return false
		}
	}
	return true
}

// keywords returns a test of the whole event: each keyword is looked for in the text of
// every value, however deep.
func (p *parser) keywords(at *yaml.Node, name string, values []*yaml.Node, mods *modifiers) ir.Expr {
	looked := *mods
	if looked.form == "" && looked.place() == "" {
		looked.steps = append(slices.Clone(mods.steps), "contains")
	}
	groups, ok := p.groups(member{key: at, value: at, name: name}, &looked, values)
	if !ok {
		return nil
	}
	e := p.join(at, ir.WholeEvent(), groups, mods.all)
	if mods.neq {
		return ir.Not{Expr: e}
	}
	return e
}

// one returns the only part of a list, the list if there are more, nil if there is none.
func one[L ir.And | ir.Or](list L) ir.Expr {
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	return any(list).(ir.Expr)
}

func (p *parser) unknownField(key *yaml.Node, name string) {
	p.fault(key, name, "is not the name of a field", fmt.Sprintf("write keys with dots between them; %s",
		"a dot inside a key is \\., an array takes [any], [all], [none], [all_or_empty] or an index such as [0]"))
}
