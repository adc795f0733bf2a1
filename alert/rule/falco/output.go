package falco

import (
	"fmt"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// maxWidth bounds the width that an output may ask for.
const maxWidth = 10_000

// output makes the template of a rule's output: text with %field, %field[argument],
// %transformer(field) and %12field. fault is called for everything that is wrong.
func (f *fields) output(t *text, fault func(position ir.Position, problem, remedy string, unknown bool)) ir.Template {
	s := strings.TrimRight(t.String(), " \t\r\n")
	template := ir.Template{Text: s, Absent: "<NA>", ListOpen: "(", ListComma: ",", ListClose: ")"}
	literal := 0
	flush := func(to int) {
		if to > literal {
			template.Parts = append(template.Parts, ir.TemplatePart{Text: s[literal:to]})
		}
	}
	for i := 0; i < len(s); {
		if s[i] != '%' {
			i++
			continue
		}
		flush(i)
		width, operand, end, problem := f.token(s, i+1)
		if problem != "" {
			fault(t.position(i), problem, "write %field; the fields are ka.*, jevt.* and evt.time", true)
			i++
			literal = i
			continue
		}
		literal, i = end, end
		if operand.name == "container.info" { // Falco fills it in for containers and removes it elsewhere
			continue
		}
		resolved, err := f.resolveOperand(operand)
		if err != nil {
			fault(t.position(err.at), err.problem, err.remedy, err.unknown)
			continue
		}
		field := resolved.ir()
		template.Parts = append(template.Parts, ir.TemplatePart{Field: &field, List: resolved.list, Width: width})
	}
	flush(len(s))
	return template
}

// token reads what stands after a percent sign.
func (f *fields) token(s string, at int) (width int, o operand, end int, problem string) {
	for at < len(s) && isDigit(s[at]) {
		if width = width*10 + int(s[at]-'0'); width > maxWidth {
			return 0, o, 0, fmt.Sprintf("the width of a field is at most %d", maxWidth)
		}
		at++
	}
	p := &parser{s: s, pos: at}
	if name := p.identifier(); slices.Contains(transformers(), name) && p.accept("(") {
		o, err := p.call(name, at)
		if err != nil {
			return 0, o, 0, err.Error()
		}
		return width, o, p.pos, ""
	}
	const info = "container.info"
	if strings.HasPrefix(s[at:], info) {
		return 0, operand{kind: fieldOperand, name: info}, at + len(info), ""
	}
	o, end, problem = f.fieldToken(s, at)
	return width, o, end, problem
}

// fieldToken reads the longest name of a field, and its argument.
func (f *fields) fieldToken(s string, at int) (o operand, end int, problem string) {
	name := f.longest(s[at:])
	if name == "" {
		word := s[at : at+span(s[at:], func(c byte) bool { return isAlphanumeric(c) || c == '.' || c == '_' })]
		if word == "" {
			return o, 0, "no field follows the percent sign"
		}
		return o, 0, fmt.Sprintf("%s is no field of source %s", word, Source)
	}
	o, end = operand{kind: fieldOperand, name: name, at: at}, at+len(name)
	if f.byName[name].argument == noArgument || !strings.HasPrefix(s[end:], "[") {
		return o, end, ""
	}
	// The argument reaches to the bracket, with quotes around it or without.
	i := strings.IndexByte(s[end:], ']')
	if i < 0 {
		return o, 0, "the bracket after " + name + " is never closed"
	}
	o.arg, o.text = true, s[end+1:end+i]
	if n := len(o.text); n > 1 && (o.text[0] == '"' || o.text[0] == '\'') && o.text[n-1] == o.text[0] {
		o.text = o.text[1 : n-1]
	}
	return o, end + i + 1, ""
}
