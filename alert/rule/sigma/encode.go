package sigma

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// maxVariants and maxVariantBytes bound what expand and windash make of one value.
const (
	maxVariants     = 20_000
	maxVariantBytes = 4 << 20
)

// encodings takes a text through the steps of its modifiers. Each step may make several of one.
func (p *parser) encodings(n *yaml.Node, field string, m *modifiers) ([]ir.Match, bool) {
	variants := [][]ir.Part{ParsePattern(scalarText(n))}
	for _, step := range m.steps {
		var next [][]ir.Part
		for _, parts := range variants {
			if step == "windash" && tooMany(parts) {
				p.fault(n, field, fmt.Sprintf("%s makes more than %d texts of it", step, maxVariants),
					"write the value with fewer dashes, or as an expression with re")
				return nil, false
			}
			more, problem, remedy := transform(step, parts)
			if problem != "" {
				p.fault(n, field, problem, remedy)
				return nil, false
			}
			next = append(next, more...)
		}
		variants = next
	}
	matches := make([]ir.Match, len(variants))
	for i, parts := range variants {
		if !utf8.ValidString(literal(parts)) {
			p.fault(n, field, "encoded as UTF-16 it is no text that an event could hold", "add base64 or base64offset")
			return nil, false
		}
		matches[i] = ir.Text{Parts: simplify(parts), Cased: m.cased}
	}
	return matches, true
}

// transform applies one modifier to a pattern.
func transform(step string, parts []ir.Part) (variants [][]ir.Part, problem, remedy string) {
	many := ir.Part{Wild: ir.Many}
	switch step {
	case "contains":
		return [][]ir.Part{slices.Concat([]ir.Part{many}, parts, []ir.Part{many})}, "", ""
	case "startswith":
		return [][]ir.Part{slices.Concat(parts, []ir.Part{many})}, "", ""
	case "endswith":
		return [][]ir.Part{slices.Concat([]ir.Part{many}, parts)}, "", ""
	case "windash":
		return windash(parts), "", ""
	case "base64", "base64offset":
		if wild(parts) {
			return nil, "a text with wildcards cannot be encoded",
				"escape them with a backslash, and write contains, startswith and endswith behind " + step
		}
		return encodeBase64(step, []byte(literal(parts)))
	}
	return [][]ir.Part{encodeUTF16(step, parts)}, "", ""
}

// encodeBase64 returns the text as base64 writes it: alone, or wherever in a longer text it may begin.
func encodeBase64(step string, text []byte) (variants [][]ir.Part, problem, remedy string) {
	if step == "base64" {
		return [][]ir.Part{{{Literal: base64.StdEncoding.EncodeToString(text)}}}, "", ""
	}
	// Of the characters that hold bits of what stands before or after the text too, nothing is known.
	for offset := range 3 {
		encoded := base64.StdEncoding.EncodeToString(append(make([]byte, offset), text...))
		start := []int{0, 2, 3}[offset]
		end := len(encoded) - []int{0, 3, 2}[(len(text)+offset)%3]
		if start >= end {
			return nil, "is too short for base64offset: of some of its encodings nothing is certain", "write a longer text"
		}
		variants = append(variants, []ir.Part{{Literal: encoded[start:end]}})
	}
	return variants, "", ""
}

// encodeUTF16 encodes the texts between wildcards. utf16 puts a byte order mark before the first.
func encodeUTF16(step string, parts []ir.Part) []ir.Part {
	var order binary.ByteOrder = binary.LittleEndian
	if step == "utf16be" {
		order = binary.BigEndian
	}
	var out []ir.Part
	if step == "utf16" {
		out = append(out, ir.Part{Literal: "\xff\xfe"})
	}
	for _, part := range parts {
		if part.Wild == ir.NotWild {
			var b []byte
			for _, unit := range utf16.Encode([]rune(part.Literal)) {
				b = append(b, 0, 0)
				order.PutUint16(b[len(b)-2:], unit)
			}
			part.Literal = string(b)
		}
		out = append(out, part)
	}
	return out
}

// windash returns parts with every dash or slash that begins an option written in all ways in which
// Windows programs take it.
func windash(parts []ir.Part) [][]ir.Part {
	dashes := []string{"-", "/", "–", "—", "―"}
	variants := [][]ir.Part{nil}
	each := func(add ...string) {
		var next [][]ir.Part
		for _, v := range variants {
			for _, text := range add {
				next = append(next, append(slices.Clone(v), ir.Part{Literal: text}))
			}
		}
		variants = next
	}
	for _, part := range parts {
		if part.Wild != ir.NotWild {
			for i := range variants {
				variants[i] = append(variants[i], part)
			}
			continue
		}
		last := 0
		for _, at := range options(part.Literal) {
			each(part.Literal[last:at])
			each(dashes...)
			last = at + 1
		}
		each(part.Literal[last:])
	}
	for i := range variants {
		variants[i] = simplify(variants[i])
	}
	return variants
}

// tooMany reports whether windash would make too much of parts.
func tooMany(parts []ir.Part) bool {
	count, size := 1, 0
	for _, part := range parts {
		size += len(part.Literal)
		for range options(part.Literal) {
			if count *= 5; count > maxVariants {
				return true
			}
		}
	}
	return count > 1 && count*size > maxVariantBytes
}

// options returns the indexes of the dashes and slashes of text that have no letter, digit or underscore
// before them and one behind.
func options(text string) (at []int) {
	before := ' '
	for i, c := range text {
		if (c == '-' || c == '/') && !isWord(before) {
			if after, _ := utf8.DecodeRuneInString(text[i+1:]); isWord(after) {
				at = append(at, i)
			}
		}
		before = c
	}
	return at
}

func isWord(c rune) bool {
	return c == '_' || c != utf8.RuneError && (unicode.IsLetter(c) || unicode.IsDigit(c) || unicode.IsNumber(c))
}

var placeholder = regexp.MustCompile(`\\\\|\\%|%([A-Za-z0-9_.-]+)%`)

// expand returns the value with %name% replaced by each value of the list of that name. \% is a plain
// per cent sign.
func (p *parser) expand(n *yaml.Node, field string, m *modifiers) (values []*yaml.Node, ok bool) {
	texts := []string{""}
	each := func(add ...string) {
		var next []string
		for _, text := range texts {
			for _, more := range add {
				next = append(next, text+more)
			}
		}
		texts = next
	}
	rest, expanded := n.Value, false
	for {
		at := placeholder.FindStringSubmatchIndex(rest)
		if at == nil {
			break
		}
		each(rest[:at[0]])
		switch found := rest[at[0]:at[1]]; found {
		case `\\`:
			each(found)
		case `\%`:
			each("%")
		default:
			name := rest[at[2]:at[3]]
			list, known := p.lists[name]
			if !known {
				p.fault(n, field, fmt.Sprintf("there is no list %q", name), p.listRemedy(name))
				return nil, false
			}
			if len(list)*len(texts) > maxVariants || len(list)*len(texts)*len(n.Value) > maxVariantBytes {
				p.fault(n, field, fmt.Sprintf("expand makes more than %d texts of it", maxVariants), "write one list of the whole values")
				return nil, false
			}
			expanded = true
			each(list...)
		}
		rest = rest[at[1]:]
	}
	each(rest)
	for _, text := range texts {
		v := *n
		v.Value = text
		if v.Tag = "!!str"; m.form == "compare" {
			v.Tag, v.Style = "", 0 // a number if it looks like one
		}
		if !expanded {
			v.Tag, v.Style = n.Tag, n.Style
		}
		values = append(values, &v)
	}
	return values, true
}

func (p *parser) listRemedy(name string) string {
	names := slices.Sorted(maps.Keys(p.lists))
	if near := ir.Nearest(name, slices.Values(names)); near != "" {
		return fmt.Sprintf("did you mean %%%s%%? otherwise define it in a file of lists", near)
	}
	if len(names) == 0 {
		return "define it in a file of lists"
	}
	return "define it in a file of lists; there are " + strings.Join(names, ", ")
}
