package sigma

import (
	"fmt"
	"strings"

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
	searches := &searches{byName: map[string]ir.Expr{}}
	var condition *yaml.Node
	for _, m := range members {
		switch m.name {
		case "condition":
			condition = m.value
		case "timeframe":
			p.fault(m.key, "detection.timeframe", "only rules on single events are supported", "remove it")
		default:
			searches.names = append(searches.names, m.name)
			searches.byName[m.name] = p.search(m.value, m.name, 0)
		}
	}
	switch {
	case len(searches.names) == 0:
		p.fault(n, "detection", "says nothing to look for", "add a search such as selection")
		return nil
	case condition == nil:
		p.fault(n, "detection.condition", "is missing", "write condition: "+searches.names[0])
		return nil
	}
	return p.conditions(condition, searches)
}

// conditions reads one condition, or a list of them of which one must hold.
func (p *parser) conditions(n *yaml.Node, searches *searches) ir.Expr {
	if n.Kind != yaml.SequenceNode {
		return p.condition(n, searches)
	}
	var or ir.Or
	for _, item := range n.Content {
		if e := p.condition(p.resolve(item), searches); e != nil {
			or = append(or, e)
		}
	}
	if len(n.Content) == 0 {
		p.fault(n, "detection.condition", "is an empty list", "write a condition")
	}
	return one[ir.Or](or)
}

func (p *parser) condition(n *yaml.Node, searches *searches) ir.Expr {
	text := p.text(n, "detection.condition")
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
			Position: position, Field: "detection.condition", Problem: fault.problem, Remedy: fault.remedy,
		})
		return nil
	}
	return e
}

// search reads one search: a map of items, a list of maps, a list of keywords, or a keyword.
func (p *parser) search(n *yaml.Node, name string, depth int) ir.Expr {
	field := "detection." + name
	switch n.Kind {
	case yaml.MappingNode:
		members, _ := p.members(n, field)
		var and ir.And
		for _, m := range members {
			if e := p.item(m); e != nil {
				and = append(and, e)
			}
		}
		if len(n.Content) == 0 {
			p.fault(n, field, "is an empty mapping", "write field: value")
		}
		return one[ir.And](and)
	case yaml.SequenceNode:
		if depth > 0 {
			p.fault(n, field, "a list inside a list is not allowed", "write one list")
			return nil
		}
		var or ir.Or
		for _, item := range n.Content {
			if e := p.search(p.resolve(item), name, depth+1); e != nil {
				or = append(or, e)
			}
		}
		if len(n.Content) == 0 {
			p.fault(n, field, "is an empty list", "write what to look for")
		}
		return one[ir.Or](or)
	}
	return p.keywords(n, field, []*yaml.Node{n}, modifiers{})
}

// item reads one `field|modifiers: values`.
func (p *parser) item(m member) ir.Expr {
	parts := strings.Split(m.name, "|")
	name := parts[0]
	values := []*yaml.Node{m.value}
	if m.value.Kind == yaml.SequenceNode {
		values = nil
		for _, v := range m.value.Content {
			values = append(values, p.resolve(v))
		}
	}
	mods, ok := p.modifiers(m.key, parts[1:])
	if len(values) == 0 {
		p.fault(m.value, m.name, "is an empty list, which nothing matches", "write a value")
		ok = false
	}
	if mods.all && len(values) < 2 {
		p.fault(m.key, m.name, "all needs a list of at least two values", "remove all")
		ok = false
	}
	if name == "" {
		if mods.exists || mods.comparison != "" && mods.comparison != "re" {
			p.fault(m.key, m.name, "keywords take the modifiers all, re and cased", "name a field before the pipe")
			return nil
		}
		if !ok {
			return nil
		}
		return p.keywords(m.key, m.name, values, mods)
	}
	field, known := p.fields.Resolve(name)
	if !known {
		p.unknownField(m.key, name)
		return nil
	}
	if !ok {
		return nil
	}
	return p.tests(m, field, mods, values)
}

func (p *parser) unknownField(key *yaml.Node, name string) {
	remedy := "see docs/fields.md for the columns and paths"
	if strings.Contains(name, "[") {
		remedy = "array indexes and quantifiers are not supported: a path through an array means any member"
	} else if near := p.fields.Nearest(name); near != "" {
		remedy = fmt.Sprintf("did you mean %q? %s", near, remedy)
	}
	p.fault(key, name, "is not a field of audit events", remedy)
}

// tests returns what an item of a known field says.
func (p *parser) tests(m member, field ir.Field, mods modifiers, values []*yaml.Node) ir.Expr {
	if mods.exists {
		return p.exists(m, field)
	}
	if len(values) == 1 && m.value.Kind != yaml.SequenceNode && isNull(values[0]) && mods == (modifiers{}) {
		return &ir.Test{Field: field, Missing: true, Null: true, Position: p.at(m.key)}
	}
	var matches []ir.Match
	for _, v := range values {
		if match, ok := p.match(v, m.name, mods); ok {
			matches = append(matches, match)
		}
	}
	if len(matches) < len(values) || !p.sensible(m, field, matches) {
		return nil
	}
	if !mods.all {
		return &ir.Test{Field: field, AnyOf: matches, Position: p.at(m.key)}
	}
	var and ir.And
	for _, match := range matches {
		and = append(and, &ir.Test{Field: field, AnyOf: []ir.Match{match}, Position: p.at(m.key)})
	}
	return and
}

func (p *parser) exists(m member, field ir.Field) ir.Expr {
	want, ok := parseBool(m.value)
	if !ok {
		p.fault(m.value, m.name, "exists takes true or false", "")
		return nil
	}
	test := &ir.Test{Field: field, AnyOf: []ir.Match{ir.Any{}}, Null: true, Empty: true, Position: p.at(m.key)}
	if want {
		return test
	}
	return ir.Not{Expr: test}
}

// sensible refuses tests that can never hold because of what the field is.
func (p *parser) sensible(m member, field ir.Field, matches []ir.Match) bool {
	if field.Source != ir.Column || !isMap(field) {
		return true
	}
	for _, match := range matches {
		if t, ok := match.(ir.Text); !ok || len(t.Parts) != 1 || t.Parts[0].Wild != ir.Many {
			p.fault(m.key, m.name, "is a map of its own keys", "name one, as in "+field.Name+".example.com/key")
			return false
		}
	}
	return true
}

// keywords returns a test of the whole event: each keyword is looked for in the text of
// every value, however deep.
func (p *parser) keywords(at *yaml.Node, name string, values []*yaml.Node, mods modifiers) ir.Expr {
	mods.exists = false
	if mods.comparison == "" {
		mods.comparison = "contains"
	}
	var and ir.And
	test := &ir.Test{Field: ir.WholeEvent(), Position: p.at(at)}
	for _, v := range values {
		match, ok := p.match(v, name, mods)
		if !ok {
			return nil
		}
		test.AnyOf = append(test.AnyOf, match)
		and = append(and, &ir.Test{Field: ir.WholeEvent(), AnyOf: []ir.Match{match}, Position: p.at(at)})
	}
	if mods.all {
		return and
	}
	return test
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

func isMap(f ir.Field) bool { return f.Type == schemas.TypeMap || f.Type == schemas.TypeMapList }
