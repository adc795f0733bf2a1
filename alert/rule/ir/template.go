package ir

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Template is a sentence with fields of the event in it, as one of the rule languages writes it.
type Template struct {
	// Text is the template as it was written.
	Text  string
	Parts []TemplatePart
	// Absent stands for a field without a value. ListOpen, ListComma and ListClose are written
	// around and between the values of a field that has a List.
	Absent                         string
	ListOpen, ListComma, ListClose string
}

// TemplatePart is a text, a field, or parts that are left out together.
type TemplatePart struct {
	Text  string
	Field *Field // if not nil, Text is empty
	// List says that the field may have several values, and is written as a list even with one.
	List bool
	// Width pads or cuts the field to as many characters; 0 is as long as it is.
	Width int
	// Optional is left out if one of its fields has no value.
	Optional []TemplatePart
}

// ParseTemplate parses auditmill's own form of a template:
//
//	{actor} read secret {name}[ of namespace {namespace}]
//
// What stands in brackets is left out if one of its fields is empty. Every field must be one that
// resolve knows.
func ParseTemplate(text string, resolve func(name string) (Field, bool)) (Template, error) {
	parts, rest, err := parseTemplate(text, resolve, false)
	if err != nil {
		return Template{}, err
	}
	if rest != "" {
		return Template{}, fmt.Errorf("] without [ before %q", rest)
	}
	return Template{Text: text, Parts: parts, ListComma: " "}, nil
}

func parseTemplate(
	text string, resolve func(string) (Field, bool), inside bool,
) (parts []TemplatePart, rest string, err error) {
	for text != "" {
		i := strings.IndexAny(text, "{}[]")
		if i < 0 {
			i = len(text)
		}
		if i > 0 {
			parts = append(parts, TemplatePart{Text: text[:i]})
			text = text[i:]
			continue
		}
		switch text[0] {
		case '{':
			end := strings.IndexByte(text, '}')
			if end < 0 {
				return nil, "", fmt.Errorf("{ without } at %q", text)
			}
			field, ok := resolve(text[1:end])
			if !ok {
				return nil, "", fmt.Errorf("{%s} is not a column", text[1:end])
			}
			parts, text = append(parts, TemplatePart{Field: &field}), text[end+1:]
		case '[':
			if inside {
				return nil, "", fmt.Errorf("[ inside [ at %q", text)
			}
			optional, after, err := parseTemplate(text[1:], resolve, true)
			if err != nil {
				return nil, "", err
			}
			if !strings.HasPrefix(after, "]") {
				return nil, "", fmt.Errorf("[ without ] at %q", text)
			}
			parts, text = append(parts, TemplatePart{Optional: optional}), after[1:]
		case ']':
			return parts, text, nil
		default:
			return nil, "", fmt.Errorf("} without { at %q", text)
		}
	}
	return parts, "", nil
}

// String returns the template as it was written.
func (t Template) String() string { return t.Text }

// Fields calls visit for every field of t.
func (t Template) Fields(visit func(Field)) { visitFields(t.Parts, visit) }

func visitFields(parts []TemplatePart, visit func(Field)) {
	for _, p := range parts {
		if p.Field != nil {
			visit(*p.Field)
		}
		visitFields(p.Optional, visit)
	}
}

// Render fills in the fields. values returns the values of a field, none if it is absent.
func (t Template) Render(values func(Field) []string) string {
	var b strings.Builder
	t.render(&b, t.Parts, values)
	return b.String()
}

// render reports whether all fields had a value that is not empty.
func (t Template) render(b *strings.Builder, parts []TemplatePart, values func(Field) []string) bool {
	full := true
	for _, p := range parts {
		switch {
		case p.Field != nil:
			text, ok := t.text(p, values(*p.Field))
			full = full && ok && text != ""
			b.WriteString(fit(text, p.Width))
		case p.Optional != nil:
			var inner strings.Builder
			if t.render(&inner, p.Optional, values) {
				b.WriteString(inner.String())
			}
		default:
			b.WriteString(p.Text)
		}
	}
	return full
}

func (t Template) text(p TemplatePart, values []string) (text string, ok bool) {
	switch {
	case len(values) == 0:
		return t.Absent, false
	case p.List:
		return t.ListOpen + strings.Join(values, t.ListComma) + t.ListClose, true
	}
	return strings.Join(values, t.ListComma), true
}

// fit pads or cuts text to width characters.
func fit(text string, width int) string {
	if width == 0 {
		return text
	}
	n := utf8.RuneCountInString(text)
	if n <= width {
		return text + strings.Repeat(" ", width-n)
	}
	for i := range text {
		if width == 0 {
			return text[:i]
		}
		width--
	}
	return text
}
