package sigma

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/internal/jsonscan"
	"github.com/auditmill/auditmill/schemas"
)

// scope says what the names of fields are relative to: the event, a member of an array, or, with a prefix,
// what stands at an index.
type scope struct {
	member bool
	prefix string // field[0]
}

// itself is the member of an array that a block is about.
func itself() ir.Field { return ir.Field{Source: ir.Path} }

// resolveField returns the field of a name; false if no field can be called so. A name that no
// audit event has is a path like others, and always absent.
func (p *parser) resolveField(name string, s scope) (ir.Field, bool) {
	switch {
	case s.prefix != "":
		return p.indexed(s.prefix+"."+name, s)
	case s.member && name == "":
		return itself(), true
	case strings.ContainsAny(name, "[]"):
		if strings.Contains(name, "[") && indexForm.MatchString(name) {
			return p.indexed(name, s)
		}
		return ir.Field{}, false
	case s.member:
		return pathField(name, false)
	}
	if field, known := p.fields.Resolve(name); known {
		return field, true
	}
	return pathField(name, true)
}

// pathField is a field by its path; strict unless the path begins at a member.
func pathField(name string, strict bool) (ir.Field, bool) {
	keys := ir.SplitPath(name)
	return ir.Field{Name: name, Source: ir.Path, Path: keys, Strict: strict}, name != "" && !slices.Contains(keys, "")
}

// alternatives returns the fields that a name stands for. Published rules call privileged what is asked for
// or, by the taxonomy they were written with, what was answered.
func (p *parser) alternatives(name string, s scope) ([]ir.Field, bool) {
	if name == "privileged" && s == (scope{}) {
		asked, _ := p.fields.Resolve("requestObject.spec.containers.securityContext.privileged")
		answered, _ := p.fields.Resolve("responseObject.spec.containers.securityContext.privileged")
		return []ir.Field{asked, answered}, true
	}
	field, ok := p.resolveField(name, s)
	return []ir.Field{field}, ok
}

// notice remembers a field that no audit event has.
func (p *parser) notice(n *yaml.Node, f ir.Field) {
	if f.Source != ir.Path || !f.Strict {
		return
	}
	if _, known := p.fields.Resolve(f.Name); known || f.Name == "" {
		return
	}
	if _, seen := p.strange[f.String()]; !seen {
		p.strange[f.String()] = n
	}
}

var (
	quantified = regexp.MustCompile(`^([^\[\]]*)\[([a-z_]+)\](?:\.(.+))?$`)
	indexForm  = regexp.MustCompile(`^[^\[\]]+(\[\d{1,6}\](\.[^\[\]]+)?)+$`)
)

// bracket reads an item whose field has a quantifier or an index.
func (p *parser) bracket(m member, name string, at int, mods *modifiers, s scope) ir.Expr {
	if c := name[min(at+1, len(name)-1)]; c >= '0' && c <= '9' {
		return p.indexedItem(m, name, mods, s)
	}
	end := strings.IndexByte(name[at:], ']')
	if end < 0 {
		p.unknownField(m.key, name)
		return nil
	}
	// Only the first quantifier is taken apart here: what follows is a name relative to the member.
	head, rest := name[:at+end+1], name[at+end+1:]
	parts := quantified.FindStringSubmatch(head)
	if parts == nil || rest != "" && (rest[0] != '.' || len(rest) == 1) || s.prefix != "" {
		remedy := "after an array write [any], [all], [none], [all_or_empty] or an index such as [0]"
		if s.prefix != "" {
			remedy = "a quantifier behind an index is not supported"
		}
		p.fault(m.key, name, "is not the name of a field", remedy)
		return nil
	}
	quantifier, ok := map[string]ir.Quantifier{"any": ir.Some, "all": ir.Every, "none": ir.None, "all_or_empty": ir.Every}[parts[2]]
	if !ok {
		p.fault(m.key, name, fmt.Sprintf("[%s] is not a quantifier", parts[2]),
			"write [any], [all], [none], [all_or_empty] or an index such as [0]")
		return nil
	}
	empty := parts[2] == "none" || parts[2] == "all_or_empty"
	array, ok := p.resolveField(parts[1], s)
	if !ok || parts[1] == "" {
		p.unknownField(m.key, name)
		return nil
	}
	inner := p.perMember(m, strings.TrimPrefix(rest, "."), mods)
	if inner == nil {
		return nil
	}
	return p.elements(m, array, quantifier, empty, inner)
}

// perMember reads what an item says of each member of its array.
func (p *parser) perMember(m member, rest string, mods *modifiers) ir.Expr {
	s := scope{member: true}
	block := slices.ContainsFunc(p.items(m.value), func(n *yaml.Node) bool { return n.Kind == yaml.MappingNode })
	switch {
	case rest != "":
		inner := m
		inner.name = rest
		if _, modifiers, ok := strings.Cut(m.name, "|"); ok {
			inner.name += "|" + modifiers
		}
		return p.item(inner, s)
	case block && !isZero(mods):
		p.fault(m.key, m.name, "a block takes no modifiers", "write them behind the fields of the block")
		return nil
	case block:
		return p.search(m.value, m.name, s, 0)
	}
	values := p.items(m.value)
	if !p.enough(m, mods, values) {
		return nil
	}
	return p.tests(m, itself(), mods, values, s)
}

func isZero(m *modifiers) bool {
	return m.plain() && !m.all && !m.neq
}

// elements binds inner to the members of array. A column that has no place in the event has no members but
// its values.
func (p *parser) elements(m member, array ir.Field, q ir.Quantifier, empty bool, inner ir.Expr) ir.Expr {
	p.notice(m.key, array)
	if len(array.Path) > 0 || array.Source == ir.Path {
		field := ir.Field{Name: array.Name, Source: ir.Path, Path: array.Path, Strict: array.Strict}
		if array.Source == ir.Column {
			field.Strict = true
		}
		return &ir.Elements{Array: field, Quantifier: q, Expr: inner, Empty: empty, Position: p.at(m.key)}
	}
	test, ok := inner.(*ir.Test)
	list := array.Source == ir.Column && (array.Type == schemas.TypeStrings || array.Type == schemas.TypeDicts)
	if !ok || len(test.Field.Path) > 0 || !list {
		p.fault(m.key, m.name, "is not an array of an audit event", "a quantifier needs a path, or a column that is a list with plain values")
		return nil
	}
	whole := *test
	whole.Field = array
	whole.Missing, whole.Null, whole.Empty = empty, empty, empty
	switch q {
	case ir.Every:
		whole.Every = true
	case ir.None:
		whole.Missing, whole.Null, whole.Empty = false, false, false
		return ir.Not{Expr: &whole}
	case ir.Some:
	}
	return &whole
}

// indexedItem reads an item about what stands at an index of an array.
func (p *parser) indexedItem(m member, name string, mods *modifiers, s scope) ir.Expr {
	block := slices.ContainsFunc(p.items(m.value), func(n *yaml.Node) bool { return n.Kind == yaml.MappingNode })
	if !indexForm.MatchString(name) {
		p.fault(m.key, name, "is not the name of a field", "write an index as in containers[0].image; no quantifier can follow it")
		return nil
	}
	if s.prefix != "" {
		name = s.prefix + "." + name
	}
	if block {
		if !isZero(mods) {
			p.fault(m.key, m.name, "a block takes no modifiers", "write them behind the fields of the block")
			return nil
		}
		return p.search(m.value, m.name, scope{member: s.member, prefix: name}, 0)
	}
	field, ok := p.indexed(name, s)
	if !ok {
		p.unknownField(m.key, name)
		return nil
	}
	values := p.items(m.value)
	if !p.enough(m, mods, values) {
		return nil
	}
	return p.tests(m, field, mods, values, s)
}

// indexed returns the field that a name with indexes stands for.
func (p *parser) indexed(name string, s scope) (ir.Field, bool) {
	if !indexForm.MatchString(name) {
		return ir.Field{}, false
	}
	field := ir.Field{Name: name, Source: ir.Computed}
	var steps []step
	for rest := name; rest != ""; {
		at := strings.IndexByte(rest, '[')
		keys := strings.TrimPrefix(rest, ".")
		if at >= 0 {
			keys = strings.TrimPrefix(rest[:at], ".")
		}
		if keys != "" {
			path := ir.SplitPath(keys)
			if known, ok := p.fields.Resolve(keys); ok && steps == nil && !s.member {
				path = known.Path
			}
			if len(path) == 0 || slices.Contains(path, "") {
				return ir.Field{}, false
			}
			for _, key := range path {
				steps = append(steps, step{key: key})
			}
			if !s.member {
				field.Path = append(field.Path, path...)
			}
		}
		if at < 0 {
			break
		}
		end := at + strings.IndexByte(rest[at:], ']')
		index, _ := strconv.Atoi(rest[at+1 : end])
		steps = append(steps, step{index: index + 1})
		rest = rest[end+1:]
	}
	field.Extract = func(event []byte, out *ir.Values) { extract(event, steps, out) }
	if s.member {
		field.Name = "member " + name // no field of the event itself
	}
	return field, true
}

// step is a key, or an index counted from 1.
type step struct {
	key   string
	index int
}

// extract adds the values that steps lead to. Arrays are looked through where no index stands.
func extract(data []byte, steps []step, out *ir.Values) {
	start := jsonscan.SkipSpace(data, 0)
	if start == len(data) {
		return
	}
	data = data[start:]
	wanted := 0
	if len(steps) > 0 && data[0] == '[' {
		wanted = steps[0].index
	}
	switch {
	case data[0] == '[':
		it := jsonscan.Array(data)
		for i := 1; it.Next(); i++ {
			if wanted == 0 {
				extract(it.Value(), steps, out)
			} else if i == wanted {
				extract(it.Value(), steps[1:], out)
				return
			}
		}
	case len(steps) == 0:
		addScalar(data, out)
	case data[0] == '{' && steps[0].index == 0:
		var value []byte
		for it := jsonscan.Object(data); it.Next(); {
			if jsonscan.KeyIs(it.Key(), steps[0].key) {
				value = it.Value() // the last of duplicates, as the API server reads them
			}
		}
		if value != nil {
			extract(value, steps[1:], out)
		}
	}
}

// addScalar adds a value as text; an object as it is written, so that it counts as present.
func addScalar(data []byte, out *ir.Values) {
	switch data[0] {
	case 'n':
	case '"':
		if text, ok := jsonscan.AppendString(nil, data); ok {
			out.AddCopy(text)
		}
	default:
		out.AddBytes(data)
	}
}
