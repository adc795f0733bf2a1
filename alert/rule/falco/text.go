package falco

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// A condition is put together from several pieces (appended texts, exceptions, the items of
// lists) before it is parsed. A text remembers where each of its bytes came from, so that a
// fault found in the whole names the line that somebody wrote.
type text struct {
	b    []byte
	from []origin
}

// origin is a byte of a scalar of a file.
type origin struct {
	scalar *scalar
	offset int
}

// scalar is a text in a file.
type scalar struct {
	file *source
	node *yaml.Node
}

type source struct {
	name string
	data []byte
}

func (t text) String() string { return string(t.b) }

// add appends s, all of whose bytes came from o.
func (t *text) add(s string, o origin) {
	for i := range len(s) {
		t.b, t.from = append(t.b, s[i]), append(t.from, o)
	}
}

// addScalar appends the whole of s.
func (t *text) addScalar(s *scalar) {
	for i := range len(s.node.Value) {
		t.b, t.from = append(t.b, s.node.Value[i]), append(t.from, origin{s, i})
	}
}

func (t *text) addText(o text) {
	t.b, t.from = append(t.b, o.b...), append(t.from, o.from...)
}

// slice returns a part of t that shares no memory to append to.
func (t text) slice(from, to int) text { return text{b: t.b[from:to:to], from: t.from[from:to:to]} }

// position returns where byte i of t was written; for the end of t, where its last byte was.
func (t text) position(i int) ir.Position {
	if len(t.from) == 0 {
		return ir.Position{}
	}
	return t.from[max(0, min(i, len(t.from)-1))].position()
}

func (s *scalar) position() ir.Position {
	return ir.Position{File: s.file.name, Line: s.node.Line, Column: s.node.Column}
}

// position finds the byte in the file. YAML folds lines and unescapes quotes, but the characters
// that are no white space stand in the file in the same order; where they do not (a double-quoted text
// with escapes) the place is that of the whole text.
func (o origin) position() ir.Position {
	if o.scalar == nil {
		return ir.Position{}
	}
	whole := o.scalar.position()
	data, at := o.scalar.file.data, o.scalar.start()
	if at < 0 {
		return whole
	}
	value := o.scalar.node.Value
	target := o.offset
	for target < len(value)-1 && isBlank(value[target]) {
		target++
	}
	for i := 0; i < len(value); i++ {
		if isBlank(value[i]) {
			continue
		}
		for at < len(data) && isBlank(data[at]) {
			at++
		}
		if at == len(data) || data[at] != value[i] {
			return whole
		}
		if i >= target {
			break
		}
		at++
	}
	if at >= len(data) {
		return whole
	}
	line := 1 + bytes.Count(data[:at], []byte{'\n'})
	begin := 1 + bytes.LastIndexByte(data[:at], '\n')
	return ir.Position{File: whole.File, Line: line, Column: 1 + utf8.RuneCount(data[begin:at])}
}

// start returns where the text of s begins in its file, -1 if that is unclear.
func (s *scalar) start() int {
	data, at := s.file.data, 0
	for range s.node.Line - 1 {
		i := bytes.IndexByte(data[at:], '\n')
		if i < 0 {
			return -1
		}
		at += i + 1
	}
	for range s.node.Column - 1 {
		_, n := utf8.DecodeRune(data[at:])
		at += n
	}
	switch {
	case s.node.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		return at + 1
	case s.node.Style&(yaml.FoldedStyle|yaml.LiteralStyle) != 0:
		i := bytes.IndexByte(data[min(at, len(data)):], '\n')
		if i < 0 {
			return -1
		}
		return at + i + 1
	}
	return at
}

// isBlank says what separates tokens: \b too, as Falco has it.
func isBlank(c byte) bool { return strings.IndexByte(" \t\r\n\b\v\f", c) >= 0 }

// list is a named list as it is put into conditions.
type list struct {
	name  string
	items []string
}

// maxText bounds a condition after the lists were put in.
const maxText = 4 << 20

// expand puts the items of l in the place of its name, wherever that stands between blanks,
// parentheses, commas, equal signs and the ends, inside quotes too: this is a substitution of text.
// false: the text would become too long.
func (t text) expand(l *list) (text, bool) {
	if l.name == "" || !bytes.Contains(t.b, []byte(l.name)) {
		return t, true
	}
	items := l.text()
	var out text
	rest := 0 // begin of what is not copied yet
	for {
		start, end := t.find(l.name, rest)
		if start < 0 {
			break
		}
		o := t.from[start]
		for start > rest && isListBlank(t.b[start-1]) {
			start--
		}
		end += span(string(t.b[end:]), isListBlank)
		out.addText(t.slice(rest, start))
		if items == "" { // (a, LIST, b) must not become (a, , b)
			if n := len(out.b); n > 0 && out.b[n-1] == ',' {
				out = out.slice(0, n-1)
			} else if end < len(t.b) && t.b[end] == ',' {
				end++
			}
		}
		if len(out.b) > 0 {
			out.add(" ", o)
		}
		out.add(items+" ", o)
		if rest = end; len(out.b) > maxText {
			return t, false
		}
	}
	out.addText(t.slice(rest, len(t.b)))
	return out, true
}

// find returns where a name stands between delimiters or the ends, from an index on; -1 if nowhere.
func (t text) find(name string, from int) (start, end int) {
	for {
		i := bytes.Index(t.b[from:], []byte(name))
		if i < 0 {
			return -1, -1
		}
		start, end = from+i, from+i+len(name)
		if (start == 0 || isDelimiter(t.b[start-1])) && (end == len(t.b) || isDelimiter(t.b[end])) {
			return start, end
		}
		from = start + 1
	}
}

// text returns the items as they stand in a condition.
func (l *list) text() string {
	quoted := make([]string, len(l.items))
	for i, item := range l.items {
		quoted[i] = quote(item)
	}
	return strings.Join(quoted, ", ")
}

// quote puts double quotes around a value with a space in it, as Falco does; it escapes nothing.
func quote(item string) string {
	if strings.Contains(item, " ") && item[0] != '"' && item[0] != '\'' {
		return `"` + item + `"`
	}
	return item
}

func isListBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func isDelimiter(c byte) bool { return isListBlank(c) || strings.IndexByte("(),=", c) >= 0 }
