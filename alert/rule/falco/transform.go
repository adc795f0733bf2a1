package falco

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// transformers returns the names of what may stand around a field.
func transformers() []string {
	return []string{"tolower", "toupper", "b64", "basename", "len", "join", "concat", "getopt"}
}

// operandError says what is wrong with an operand. unknown: it is the name of a field, which a
// rule may ask to overlook.
type operandError struct {
	at              int
	problem, remedy string
	unknown         bool
}

// resolveOperand returns the field that an operand stands for: transformers make fields of fields.
func (f *fields) resolveOperand(o operand) (*field, *operandError) {
	switch o.kind {
	case fieldOperand:
		r, unknown, problem, remedy := f.resolve(o.name, o.text, o.arg)
		if problem != "" {
			return nil, &operandError{at: o.at, problem: problem, remedy: remedy, unknown: unknown}
		}
		return r, nil
	case valueOperand:
		return &field{name: strconv.Quote(o.text), extract: constant(o.text), always: &o.text}, nil
	case callOperand:
		return f.call(o)
	case tupleOperand:
	}
	return nil, &operandError{at: o.at, problem: "a list of fields can only be joined", remedy: "use join(separator, (…))"}
}

func (f *fields) call(o operand) (*field, *operandError) {
	fail := func(problem, remedy string) (*field, *operandError) {
		return nil, &operandError{at: o.at, problem: problem, remedy: remedy}
	}
	switch o.name {
	case "getopt":
		return fail("getopt() is not supported", "test the field with contains or regex")
	case "concat":
		if len(o.args) == 0 {
			return fail("concat() needs arguments", "")
		}
		return f.join(o, "", o.args)
	case "join":
		return f.callJoin(o)
	}
	if len(o.args) != 1 || o.args[0].kind == valueOperand {
		return fail(o.name+"() takes one field", "")
	}
	arg, err := f.resolveOperand(o.args[0])
	if err != nil {
		return nil, err
	}
	if o.name == "val" {
		return arg, nil
	}
	r := &field{name: o.name + "(" + arg.name + ")", list: arg.list, needs: arg.needs}
	if o.name == "len" {
		r.list, r.number = false, true
		r.extract = length(arg)
		return r, nil
	}
	if arg.number {
		return fail(o.name+"() takes a field that is text, "+arg.name+" is a number", "")
	}
	r.extract = mapped(arg, change(o.name))
	return r, nil
}

func (f *fields) callJoin(o operand) (*field, *operandError) {
	if len(o.args) != 2 || o.args[0].kind != valueOperand {
		return nil, &operandError{
			at: o.at, problem: "join() takes a separator and a list", remedy: `write join(",", field) or join(",", (field, …))`,
		}
	}
	args := o.args[1:]
	if args[0].kind == tupleOperand {
		args = args[0].args
	}
	return f.join(o, o.args[0].text, args)
}

// join makes one text of operands. One that is absent makes the whole absent.
func (f *fields) join(o operand, separator string, operands []operand) (*field, *operandError) {
	r := &field{}
	var parts []*field
	var names []string
	for _, arg := range operands {
		part, err := f.resolveOperand(arg)
		if err != nil {
			return nil, err
		}
		if part.list && o.name == "concat" {
			return nil, &operandError{at: arg.at, problem: part.name + " is a list", remedy: "use join(separator, " + part.name + ")"}
		}
		parts, names = append(parts, part), append(names, part.name)
		r.needs |= part.needs
	}
	r.name = o.name + "(" + strings.Join(names, ",") + ")"
	if o.name == "join" {
		r.name = fmt.Sprintf("join(%q,%s)", separator, strings.Join(names, ","))
	}
	r.extract = func(event []byte, out *ir.Values) {
		var texts []string
		for _, part := range parts {
			var v ir.Values
			if part.extract(event, &v); len(v.Texts()) == 0 {
				return
			}
			texts = append(texts, v.Texts()...)
		}
		out.Add(strings.Join(texts, separator))
	}
	return r, nil
}

// length counts the members of a list or the bytes of a text.
func length(arg *field) ir.Extract {
	return func(event []byte, out *ir.Values) {
		var v ir.Values
		arg.extract(event, &v)
		switch texts := v.Texts(); {
		case len(texts) == 0:
		case arg.list:
			out.Add(strconv.Itoa(len(texts)))
		default:
			out.Add(strconv.Itoa(len(texts[0])))
		}
	}
}

// mapped applies change to each value; where it fails the whole field is absent.
func mapped(arg *field, change func(string) (string, bool)) ir.Extract {
	return func(event []byte, out *ir.Values) {
		var v ir.Values
		arg.extract(event, &v)
		changed := make([]string, len(v.Texts()))
		for i, text := range v.Texts() {
			var ok bool
			if changed[i], ok = change(text); !ok {
				return
			}
		}
		for _, text := range changed {
			out.Add(text)
		}
	}
}

func change(name string) func(string) (string, bool) {
	switch name {
	case "tolower":
		return func(s string) (string, bool) { return mapASCII(s, 'A', 'Z'), true }
	case "toupper":
		return func(s string) (string, bool) { return mapASCII(s, 'a', 'z'), true }
	case "basename":
		return func(s string) (string, bool) { return s[strings.LastIndexByte(s, '/')+1:], true }
	default: // b64
		return func(s string) (string, bool) {
			b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
			return string(b), err == nil
		}
	}
}

// mapASCII changes the case of the letters from one to the other.
func mapASCII(s string, from, to byte) string {
	b := []byte(s)
	for i, c := range b {
		if c >= from && c <= to {
			b[i] = c ^ 0x20
		}
	}
	return string(b)
}
