package ir

import (
	"fmt"
	"strings"
)

// Template is a sentence with columns in it:
//
//	{actor} read secret {name}[ of namespace {namespace}]
//
// What stands in brackets is left out if one of its columns is empty.
type Template struct {
	text  string
	parts []templatePart
}

type templatePart struct {
	text     string
	column   string         // if not empty, text is
	optional []templatePart // if not empty, text and column are
}

// ParseTemplate parses text. Every column in it must be one that known accepts.
func ParseTemplate(text string, known func(column string) bool) (Template, error) {
	parts, rest, err := parseTemplate(text, known, false)
	if err != nil {
		return Template{}, err
	}
	if rest != "" {
		return Template{}, fmt.Errorf("] without [ before %q", rest)
	}
	return Template{text: text, parts: parts}, nil
}

func parseTemplate(text string, known func(string) bool, inside bool) (parts []templatePart, rest string, err error) {
	for text != "" {
		i := strings.IndexAny(text, "{}[]")
		if i < 0 {
			i = len(text)
		}
		if i > 0 {
			parts = append(parts, templatePart{text: text[:i]})
			text = text[i:]
			continue
		}
		switch text[0] {
		case '{':
			end := strings.IndexByte(text, '}')
			if end < 0 {
				return nil, "", fmt.Errorf("{ without } at %q", text)
			}
			column := text[1:end]
			if !known(column) {
				return nil, "", fmt.Errorf("{%s} is not a column", column)
			}
			parts, text = append(parts, templatePart{column: column}), text[end+1:]
		case '[':
			if inside {
				return nil, "", fmt.Errorf("[ inside [ at %q", text)
			}
			optional, after, err := parseTemplate(text[1:], known, true)
			if err != nil {
				return nil, "", err
			}
			if !strings.HasPrefix(after, "]") {
				return nil, "", fmt.Errorf("[ without ] at %q", text)
			}
			parts, text = append(parts, templatePart{optional: optional}), after[1:]
		case ']':
			return parts, text, nil
		default:
			return nil, "", fmt.Errorf("} without { at %q", text)
		}
	}
	return parts, "", nil
}

// String returns the template as it was written.
func (t Template) String() string { return t.text }

// Render fills in the columns.
func (t Template) Render(value func(column string) string) string {
	var b strings.Builder
	render(&b, t.parts, value)
	return b.String()
}

// render reports whether all columns had a value.
func render(b *strings.Builder, parts []templatePart, value func(string) string) bool {
	full := true
	for _, p := range parts {
		switch {
		case p.column != "":
			v := value(p.column)
			full = full && v != ""
			b.WriteString(v)
		case p.optional != nil:
			var inner strings.Builder
			if render(&inner, p.optional, value) {
				b.WriteString(inner.String())
			}
		default:
			b.WriteString(p.text)
		}
	}
	return full
}
