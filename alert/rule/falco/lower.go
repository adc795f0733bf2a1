package falco

import (
	"fmt"
	"path"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// lowerer makes tests of the checks of one rule.
type lowerer struct {
	fields *fields
	// fault is called for everything that is wrong; unknown says that a field is.
	fault func(position ir.Position, problem, remedy string, unknown bool)
	nodes int
}

// maxChecks bounds what the macros of a rule can make of it.
const maxChecks = 100_000

func (l *lowerer) expr(e expr) *boolean {
	switch e := e.(type) {
	case andExpr:
		return all(opAnd, l.exprs(e))
	case orExpr:
		return all(opOr, l.exprs(e))
	case notExpr:
		return negate(l.expr(e.arg))
	case *check:
		if l.nodes++; l.nodes > maxChecks {
			if l.nodes == maxChecks+1 {
				l.fault(e.in.position(e.at), fmt.Sprintf("the condition has more than %d tests, macros put in", maxChecks), "split the rule", false)
			}
			return always(false)
		}
		return l.check(e)
	}
	return always(false)
}

func (l *lowerer) exprs(in []expr) []*boolean {
	out := make([]*boolean, len(in))
	for i, e := range in {
		out[i] = l.expr(e)
	}
	return out
}

// check checks the types of c and makes a test of it.
func (l *lowerer) check(c *check) *boolean {
	left, ok := l.operand(c, c.left)
	if !ok || !l.operator(c, left) {
		return always(false)
	}
	if len(c.right) == 1 && c.right[0].kind != valueOperand {
		return l.relation(c, left)
	}
	values, matches := make([]string, len(c.right)), make([]ir.Match, len(c.right))
	for i, value := range c.right {
		values[i] = value.text
		if matches[i], ok = l.match(c, left, value); !ok {
			return always(false)
		}
	}
	if b, ok := rawTimeCheck(c, left); ok {
		return b
	}
	return l.modified(c, left, values, matches)
}

// maxOneOf bounds the list after oneof: each of its values is compared with each.
const maxOneOf = 200

// modified makes the tests of a check by its modifier.
func (l *lowerer) modified(c *check, left *field, values []string, matches []ir.Match) *boolean {
	each := func() []*boolean {
		tests := make([]*boolean, len(values))
		for i := range values {
			tests[i] = test(c, left, values[i:i+1], matches[i:i+1])
		}
		return tests
	}
	switch {
	case c.mod == plain, c.mod == anyOf && c.op != "!=" && len(values) > 0, c.mod == allOf && c.op == "!=" && len(values) > 0:
		return test(c, left, values, matches) // a test is of any of the values, != of none
	case len(values) == 0:
		return always(false)
	case c.mod == anyOf:
		return all(opOr, each())
	case c.mod == allOf:
		return all(opAnd, each())
	case len(values) > maxOneOf:
		l.fail(c, c.at, fmt.Sprintf("oneof with more than %d values", maxOneOf), "use anyof")
		return always(false)
	}
	tests := each()
	only := make([]*boolean, len(tests))
	for i := range tests {
		others := []*boolean{tests[i]}
		for j := range tests {
			if j != i {
				others = append(others, negate(tests[j]))
			}
		}
		only[i] = all(opAnd, others)
	}
	return all(opOr, only)
}

func (l *lowerer) fail(c *check, at int, problem, remedy string) {
	l.fault(c.in.position(at), problem, remedy, false)
}

func (l *lowerer) operand(c *check, o operand) (*field, bool) {
	f, err := l.fields.resolveOperand(o)
	if err != nil {
		l.fault(c.in.position(err.at), err.problem, err.remedy, err.unknown)
		return nil, false
	}
	return f, true
}

// operator checks that the type of the field knows the operator.
func (l *lowerer) operator(c *check, left *field) bool {
	switch {
	case c.op == "bcontains" || c.op == "bstartswith":
		l.fail(c, c.at, fmt.Sprintf("%s compares byte buffers, %s is text", c.op, left.name), "use "+c.op[1:])
	case left.list && c.op != "exists" && c.op != "in" && c.op != "intersects":
		l.fail(c, c.at, fmt.Sprintf("%s is a list: %s does not apply to it", left.name, c.op), "use in, intersects or exists")
	case left.number && (slices.Contains(textOperators(), c.op) || c.op == "pmatch"):
		l.fail(c, c.at, fmt.Sprintf("%s is a number: %s does not apply to it", left.name, c.op), "use = != < <= > >= or in")
	default:
		return true
	}
	return false
}

// match returns what one value must be, != as =.
func (l *lowerer) match(c *check, left *field, value operand) (ir.Match, bool) {
	if left.number {
		return l.number(c, left, value)
	}
	switch c.op {
	case "icontains": // of ASCII only
		return ir.Glob{Pattern: "*" + escapeGlob(value.text) + "*", Fold: true}, true
	case "glob", "iglob":
		return ir.Glob{Pattern: value.text, Fold: c.op == "iglob"}, true
	case "pmatch":
		return ir.PathPrefix{Path: value.text}, true
	case "<", "<=", ">", ">=":
		return ir.Order{Relation: ir.Relation(c.op), Text: value.text}, true
	case "regex":
		re, err := anchored(value.text)
		if err != nil {
			l.fail(c, value.at, "the regular expression is wrong: "+err.Error(), "write POSIX extended syntax")
			return nil, false
		}
		return ir.Regexp{Regexp: re}, true
	}
	var parts []ir.Part
	if c.op == "contains" || c.op == "endswith" {
		parts = append(parts, ir.Part{Wild: ir.Many})
	}
	if value.text != "" {
		parts = append(parts, ir.Part{Literal: value.text})
	}
	if c.op == "startswith" || c.op == "contains" && value.text != "" {
		parts = append(parts, ir.Part{Wild: ir.Many})
	}
	return ir.Text{Parts: parts, Cased: true}, true
}

func (l *lowerer) number(c *check, left *field, value operand) (ir.Match, bool) {
	n, err := strconv.ParseInt(value.text, 0, 64)
	if err != nil {
		l.fail(c, value.at, fmt.Sprintf("%s is a number, %q is none", left.name, value.text), "")
		return nil, false
	}
	number := ir.Number{Int: n, Float: float64(n)}
	switch c.op {
	case "<", "<=", ">", ">=":
		return ir.Compare{Relation: ir.Relation(c.op), Number: number}, true
	}
	return ir.Equal{Number: number}, true
}

// anchored compiles a regular expression of RE2 in POSIX syntax that must match the whole text.
func anchored(pattern string) (*regexp.Regexp, error) {
	re, err := syntax.Parse(pattern, syntax.ClassNL)
	if err != nil {
		return nil, err
	}
	whole := &syntax.Regexp{Op: syntax.OpConcat, Sub: []*syntax.Regexp{{Op: syntax.OpBeginText}, re, {Op: syntax.OpEndText}}}
	return regexp.Compile(whole.String())
}

func escapeGlob(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(`*?[]\`, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// rawTimeCheck decides what the rule files use for true and false without looking at the event: every
// audit event has a time, and none is of 1970.
func rawTimeCheck(c *check, left *field) (*boolean, bool) {
	if left.name != "jevt.rawtime" && left.name != "evt.rawtime" {
		return nil, false
	}
	switch {
	case c.op == "exists":
		return always(true), true
	case c.op == "=" && c.mod == plain && c.right[0].text == "0":
		return always(false), true
	}
	return nil, false
}

// test makes the test whether a field is one of the values; for != whether it is none.
func test(c *check, left *field, values []string, matches []ir.Match) *boolean {
	is := func(text string) bool {
		for i, m := range matches {
			if satisfies(text, values[i], c.op, m) {
				return true
			}
		}
		return false
	}
	t := &ir.Test{Field: left.ir(), AnyOf: matches, Position: c.in.position(c.at)}
	leaf := &boolean{op: opLeaf, leaf: t, needs: left.needs}
	switch {
	case left.always != nil:
		return always(c.op == "exists" || is(*left.always) != (c.op == "!="))
	case c.op == "exists":
		scalarColumn := left.column != nil && !left.list
		t.AnyOf, t.Null, t.Empty = []ir.Match{ir.Any{}}, scalarColumn, scalarColumn
		return leaf
	case left.list:
		t.Every = c.op == "in"
		return leaf
	}
	if left.column != nil { // what is null or an array has that as its text
		t.Null, t.Empty = is("null"), is("[]")
	}
	if c.op == "!=" {
		t.Missing = true // and so, negated, false
		leaf.leaf = ir.Not{Expr: t}
	}
	return leaf
}

// satisfies decides a comparison with a text that has no slash and no line end.
func satisfies(text, value, op string, m ir.Match) bool {
	switch m := m.(type) {
	case ir.Regexp:
		return m.MatchString(text)
	case ir.Glob, ir.PathPrefix:
		if op != "glob" && op != "pmatch" {
			text, value = strings.ToLower(text), strings.ToLower(value)
		}
		switch op {
		case "icontains":
			return strings.Contains(text, value)
		case "pmatch":
			value = strings.TrimSuffix(value, "/")
		}
		ok, err := path.Match(strings.ReplaceAll(value, "[!", "[^"), text)
		return ok && err == nil
	}
	return compareTexts(text, value, op)
}

func compareTexts(text, value, op string) bool {
	switch op {
	case "=", "!=", "in", "intersects":
		return text == value
	case "contains":
		return strings.Contains(text, value)
	case "icontains":
		return strings.Contains(mapASCII(text, 'A', 'Z'), mapASCII(value, 'A', 'Z'))
	case "startswith":
		return strings.HasPrefix(text, value)
	case "endswith":
		return strings.HasSuffix(text, value)
	case "<":
		return text < value
	case "<=":
		return text <= value
	case ">":
		return text > value
	case ">=":
		return text >= value
	}
	return false
}

// relation compares a field with what val() or a transformer gives on the right. It becomes a field
// of its own that is there if the comparison holds.
func (l *lowerer) relation(c *check, left *field) *boolean {
	right, ok := l.operand(c, c.right[0])
	if !ok {
		return always(false)
	}
	at := c.right[0].at
	switch {
	case slices.Contains([]string{"glob", "iglob", "regex", "pmatch"}, c.op):
		l.fail(c, at, c.op+" takes values, not a field", "")
		return always(false)
	case right.list && !isListOperator(c.op):
		l.fail(c, at, right.name+" is a list", "use in or intersects")
		return always(false)
	case right.number != left.number:
		l.fail(c, at, fmt.Sprintf("%s and %s are a number and a text", left.name, right.name), "")
		return always(false)
	}
	f := ir.Field{
		Name: left.name + " " + c.op + " val(" + right.name + ")", Source: ir.Computed,
		Extract: func(event []byte, out *ir.Values) {
			if related(event, left, right, c.op) {
				out.Add("true")
			}
		},
	}
	t := &ir.Test{Field: f, AnyOf: []ir.Match{ir.Any{}}, Position: c.in.position(c.at)}
	return &boolean{op: opLeaf, leaf: t, needs: left.needs | right.needs}
}

func related(event []byte, left, right *field, op string) bool {
	var l, r ir.Values
	left.extract(event, &l)
	right.extract(event, &r)
	if len(l.Texts()) == 0 || len(r.Texts()) == 0 {
		return false
	}
	if isListOperator(op) {
		is := func(s string) bool { return slices.Contains(r.Texts(), s) }
		if op == "in" {
			return !slices.ContainsFunc(l.Texts(), func(s string) bool { return !is(s) })
		}
		return slices.ContainsFunc(l.Texts(), is)
	}
	text, value := l.Texts()[0], r.Texts()[0]
	if left.number { // digits without leading zeros
		width := max(len(text), len(value))
		text, value = strings.Repeat("0", width-len(text))+text, strings.Repeat("0", width-len(value))+value
	}
	return compareTexts(text, value, op) != (op == "!=")
}
