package sigma

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// modifiers are those of one detection item, as far as they say what a value must be.
type modifiers struct {
	comparison string // contains, startswith, endswith, re, cidr, gt, gte, lt, lte; or empty
	flags      string // of re
	cased      bool
	all        bool
	exists     bool
}

const supported = "contains, startswith, endswith, re, i, m, s, cidr, exists, all, cased, gt, gte, lt, lte"

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
	fault := func(problem, remedy string) { p.fault(key, key.Value, problem, remedy) }
	switch {
	case m.exists && len(names) > 1:
		fault("exists goes with no other modifier", "test the value in an item of its own")
	case m.cased && !slices.Contains([]string{"", "contains", "startswith", "endswith"}, m.comparison):
		fault("cased does not go with "+m.comparison, "remove cased; re is case-sensitive unless it has the flag i")
	case m.all && slices.Contains([]string{"gt", "gte", "lt", "lte"}, m.comparison):
		fault("all does not go with "+m.comparison, "remove all")
	}
	return m, len(p.faults) == before
}

// modifier adds one to m; before are the names that stand before it.
func (p *parser) modifier(key *yaml.Node, m *modifiers, name string, before []string) {
	switch name {
	case "contains", "startswith", "endswith", "re", "cidr", "gt", "gte", "lt", "lte":
		if m.comparison != "" {
			p.fault(key, key.Value, fmt.Sprintf("the modifiers %q and %q exclude each other", m.comparison, name), "keep one")
		}
		m.comparison = name
	case "i", "m", "s":
		last := ""
		if len(before) > 0 {
			last = before[len(before)-1]
		}
		if !slices.Contains([]string{"re", "i", "m", "s"}, last) {
			p.fault(key, key.Value, fmt.Sprintf("the modifier %q is a flag of re", name),
				"write it behind re, as in field|re|i")
		}
		m.flags += name
	case "cased":
		m.cased = true
	case "all":
		m.all = true
	case "exists":
		m.exists = true
	default:
		remedy := "supported are " + supported
		if near := ir.Nearest(name, strings.SplitSeq(supported, ", ")); near != "" {
			remedy = fmt.Sprintf("did you mean %q? %s", near, remedy)
		}
		p.fault(key, key.Value, fmt.Sprintf("the modifier %q is not supported", name), remedy)
	}
}

// match reads one value of an item.
func (p *parser) match(n *yaml.Node, field string, m modifiers) (ir.Match, bool) {
	fail := func(problem, remedy string) (ir.Match, bool) {
		p.fault(n, field, problem, remedy)
		return nil, false
	}
	if n.Kind != yaml.ScalarNode {
		return fail("a value must be text, a number, a boolean or null, is "+kind(n),
			"blocks of fields below a field are not supported")
	}
	if isNull(n) {
		return fail("null must stand alone, without a list and without modifiers",
			"write a second item for null and join both with or")
	}
	switch m.comparison {
	case "re":
		return p.regexp(n, field, m.flags)
	case "cidr":
		prefix, err := netip.ParsePrefix(n.Value)
		if err != nil {
			return fail(fmt.Sprintf("%q is not a network", n.Value),
				"write address/bits, such as 10.0.0.0/8 or 2001:db8::/32")
		}
		return ir.Network{Prefix: unmap(prefix)}, true
	case "gt", "gte", "lt", "lte":
		number, ok := numberOf(n)
		if !ok {
			return fail(fmt.Sprintf("%s compares with a number, not with %s", m.comparison, kind(n)),
				"write a number without quotes")
		}
		relation := map[string]ir.Relation{
			"gt": ir.Greater, "gte": ir.GreaterOrEqual, "lt": ir.Less, "lte": ir.LessOrEqual,
		}[m.comparison]
		return ir.Compare{Relation: relation, Number: number}, true
	}
	if n.ShortTag() == "!!binary" {
		return fail("binary values are not supported", "write text")
	}
	return textMatch(n, m), true
}

// textMatch returns what a value without comparison, or with one of text, asks for.
func textMatch(n *yaml.Node, m modifiers) ir.Match {
	if number, ok := numberOf(n); ok && m.comparison == "" {
		return ir.Equal{Number: number}
	}
	text := n.Value
	if n.ShortTag() == "!!bool" {
		text = strings.ToLower(text)
	}
	parts := ParsePattern(text)
	if m.comparison == "contains" || m.comparison == "endswith" {
		parts = append([]ir.Part{{Wild: ir.Many}}, parts...)
	}
	if m.comparison == "contains" || m.comparison == "startswith" {
		parts = append(parts, ir.Part{Wild: ir.Many})
	}
	return ir.Text{Parts: simplify(parts), Cased: m.cased}
}

func (p *parser) regexp(n *yaml.Node, field, flags string) (ir.Match, bool) {
	expression := n.Value
	if flags != "" {
		expression = "(?" + flags + ")" + expression
	}
	re, err := regexp.Compile(expression)
	if err != nil {
		problem := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		p.fault(n, field, fmt.Sprintf("the expression cannot be used: %s", problem),
			"write it as RE2: no look-around, no back-references")
		return nil, false
	}
	return ir.Regexp{Regexp: re}, true
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

// simplify joins adjacent * into one.
func simplify(parts []ir.Part) []ir.Part {
	var out []ir.Part
	for _, part := range parts {
		if part.Wild == ir.Many && len(out) > 0 && out[len(out)-1].Wild == ir.Many {
			continue
		}
		out = append(out, part)
	}
	return out
}

func parseBool(n *yaml.Node) (value, ok bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		return false, false
	}
	value, err := strconv.ParseBool(strings.ToLower(n.Value))
	return value, err == nil
}
