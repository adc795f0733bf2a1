package sigma

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// matches reads one value of an item. A field satisfies it if it satisfies one of the matches, of which
// there are none for an empty list.
func (p *parser) matches(n *yaml.Node, field string, m *modifiers) (matches []ir.Match, ok bool) {
	switch {
	case n.Kind == yaml.MappingNode:
		p.fault(n, field, "a value must be text, a number, a boolean or null, is a mapping",
			"for a block about one member of an array write field[any], field[all] or field[none]")
		return nil, false
	case n.Kind != yaml.ScalarNode:
		p.fault(n, field, "a value must be text, a number, a boolean or null, is "+kind(n), "")
		return nil, false
	case isNull(n):
		p.fault(n, field, "null must stand alone, without a list and without modifiers",
			"write a second item for null and join both with or")
		return nil, false
	case n.ShortTag() == "!!binary":
		p.fault(n, field, "binary values are not supported", "write text")
		return nil, false
	}
	values := []*yaml.Node{n}
	if m.expand {
		if values, ok = p.expand(n, field, m); !ok {
			return nil, false
		}
	}
	for _, v := range values {
		more, ok := p.match(v, field, m)
		if !ok {
			return nil, false
		}
		matches = append(matches, more...)
	}
	return matches, true
}

func (p *parser) match(n *yaml.Node, field string, m *modifiers) ([]ir.Match, bool) {
	fail := func(problem, remedy string) ([]ir.Match, bool) {
		p.fault(n, field, problem, remedy)
		return nil, false
	}
	switch m.form {
	case "re":
		return p.regexp(n, field, m)
	case "cidr":
		prefix, err := netip.ParsePrefix(n.Value)
		if addr, e := netip.ParseAddr(n.Value); e == nil && addr.Zone() == "" {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return fail(fmt.Sprintf("%q is not a network", n.Value),
				"write address/bits, such as 10.0.0.0/8 or 2001:db8::/32")
		}
		return []ir.Match{ir.Network{Prefix: unmap(prefix)}}, true
	case "compare":
		number, ok := numberOf(n)
		if !ok {
			return fail(fmt.Sprintf("%s compares with a number, not with %s", m.formName(), kind(n)),
				"write a number without quotes")
		}
		return []ir.Match{ir.Compare{Relation: m.relation, Number: number}}, true
	case "time":
		number, ok := numberOf(n)
		if !ok || number.IsFloat {
			return fail(fmt.Sprintf("%s is a whole number, not %s", m.part, kind(n)), "write a number without quotes")
		}
		return []ir.Match{ir.TimePart{Part: m.part, Relation: m.relation, Number: number.Int}}, true
	}
	if len(m.steps) == 0 {
		return scalarMatches(n, m), true
	}
	return p.encodings(n, field, m)
}

// scalarMatches returns what a value without steps asks for.
func scalarMatches(n *yaml.Node, m *modifiers) []ir.Match {
	if number, ok := numberOf(n); ok {
		matches := []ir.Match{ir.Equal{Number: number}}
		if isDecimal(n.Value) && number.String() != n.Value { // 1.50, and what int64 cannot hold
			matches = append(matches, ir.Text{Parts: []ir.Part{{Literal: n.Value}}})
		}
		return matches
	}
	return []ir.Match{ir.Text{Parts: ParsePattern(scalarText(n)), Cased: m.cased}}
}

func isDecimal(s string) bool {
	return s != "" && strings.Trim(s, "0123456789.eE+-") == ""
}

// scalarText is the text of a value as events have it.
func scalarText(n *yaml.Node) string {
	if n.ShortTag() == "!!bool" {
		return strings.ToLower(n.Value)
	}
	return n.Value
}

func (p *parser) regexp(n *yaml.Node, field string, m *modifiers) ([]ir.Match, bool) {
	expression := n.Value
	if m.flags != "" {
		expression = "(?" + m.flags + ":" + expression + ")"
	}
	switch m.place() { // contains changes nothing: an expression is searched for
	case "startswith":
		expression = `\A(?:` + expression + `)`
	case "endswith":
		expression = `(?:` + expression + `)\z`
	}
	re, err := regexp.Compile(expression)
	if err == nil { // parentheses that close ours
		_, err = regexp.Compile(n.Value)
	}
	if err != nil {
		problem := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		p.fault(n, field, fmt.Sprintf("the expression cannot be used: %s", problem),
			"write it as RE2: no look-around, no back-references")
		return nil, false
	}
	return []ir.Match{ir.Regexp{Regexp: re}}, true
}

func unmap(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// numberOf returns the number that n is, if YAML says it is one.
func numberOf(n *yaml.Node) (ir.Number, bool) {
	switch n.ShortTag() {
	case "!!int":
		var i int64
		if n.Decode(&i) == nil {
			return ir.Number{Int: i, Float: float64(i)}, true
		}
	case "!!float":
	default:
		return ir.Number{}, false
	}
	var f float64
	if n.Decode(&f) != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return ir.Number{}, false
	}
	if i := int64(f); float64(i) == f && math.Abs(f) < 1<<53 {
		return ir.Number{Int: i, Float: f}, true
	}
	return ir.Number{Float: f, IsFloat: true}, true
}

// ParsePattern reads the wildcards and escapes of a Sigma value: * and ? are wildcards,
// a backslash before one of them or before a backslash makes it plain, any other backslash
// is itself.
func ParsePattern(value string) []ir.Part {
	var parts []ir.Part
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			parts = append(parts, ir.Part{Literal: literal.String()})
			literal.Reset()
		}
	}
	for i := 0; i < len(value); i++ {
		switch c := value[i]; c {
		case '*':
			flush()
			parts = append(parts, ir.Part{Wild: ir.Many})
		case '?':
			flush()
			parts = append(parts, ir.Part{Wild: ir.One})
		case '\\':
			if i+1 < len(value) && strings.IndexByte(`*?\`, value[i+1]) >= 0 {
				i++
			}
			literal.WriteByte(value[i])
		default:
			literal.WriteByte(c)
		}
	}
	flush()
	return simplify(parts)
}

// simplify joins adjacent * into one, and adjacent texts.
func simplify(parts []ir.Part) []ir.Part {
	var out []ir.Part
	for _, part := range parts {
		if len(out) > 0 {
			switch last := &out[len(out)-1]; {
			case part.Wild == ir.Many && last.Wild == ir.Many:
				continue
			case part.Wild == ir.NotWild && last.Wild == ir.NotWild:
				last.Literal += part.Literal
				continue
			}
		}
		out = append(out, part)
	}
	return out
}

func wild(parts []ir.Part) bool {
	return slices.ContainsFunc(parts, func(part ir.Part) bool { return part.Wild != ir.NotWild })
}

// literal returns the text of parts without wildcards.
func literal(parts []ir.Part) string {
	var b strings.Builder
	for _, part := range parts {
		b.WriteString(part.Literal)
	}
	return b.String()
}
