package falco

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// parser is a parser of conditions by recursive descent. The error of its methods is a *syntaxError.
type parser struct {
	s     string
	pos   int
	depth int
	in    *text
}

func parseCondition(t *text) (expr, *syntaxError) {
	p := &parser{s: t.String(), in: t}
	e, err := p.or()
	if err == nil {
		if p.blank(); p.pos < len(p.s) {
			err = p.fail(p.pos, "and, or or the end must stand before "+p.here(), "")
		}
	}
	if syntax, ok := errors.AsType[*syntaxError](err); ok {
		return nil, syntax
	}
	return e, nil
}

func (p *parser) fail(at int, problem, remedy string) error {
	return &syntaxError{at: at, problem: problem, remedy: remedy}
}

// here shows what stands at the cursor.
func (p *parser) here() string {
	rest := p.s[p.pos:]
	if rest == "" {
		return "the end"
	}
	if len(rest) > 24 {
		rest = strings.ToValidUTF8(rest[:24], "") + "…"
	}
	return fmt.Sprintf("%q", rest)
}

func (p *parser) blank() { p.pos += span(p.s[p.pos:], isBlank) }

func (p *parser) accept(token string) bool {
	if strings.HasPrefix(p.s[p.pos:], token) {
		p.pos += len(token)
		return true
	}
	return false
}

// word accepts a word that ends here, before a blank, a parenthesis or a quote.
func (p *parser) word(word string) bool {
	rest, ok := strings.CutPrefix(p.s[p.pos:], word)
	if !ok || rest != "" && !isBlank(rest[0]) && strings.IndexByte("()'\"", rest[0]) < 0 {
		return false
	}
	p.pos += len(word)
	return true
}

func (p *parser) or() (expr, error) {
	args, err := p.sequence("or", p.and)
	if err != nil || len(args) == 1 {
		return first(args), err
	}
	return orExpr(args), nil
}

func (p *parser) and() (expr, error) {
	args, err := p.sequence("and", p.not)
	if err != nil || len(args) == 1 {
		return first(args), err
	}
	return andExpr(args), nil
}

func first(args []expr) expr {
	if len(args) == 0 {
		return nil
	}
	return args[0]
}

// sequence parses operands with word between them.
func (p *parser) sequence(word string, operand func() (expr, error)) ([]expr, error) {
	var args []expr
	for {
		p.blank()
		arg, err := operand()
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
		p.blank()
		if !p.word(word) {
			return args, nil
		}
	}
}

func (p *parser) not() (expr, error) {
	negated := false
	for p.word("not") {
		negated = !negated
		p.blank()
	}
	arg, err := p.primary()
	if err == nil && negated {
		arg = notExpr{arg}
	}
	return arg, err
}

func (p *parser) primary() (expr, error) {
	p.blank()
	at := p.pos
	if p.accept("(") {
		if p.depth++; p.depth > maxDepth {
			return nil, p.fail(at, fmt.Sprintf("parentheses nest more than %d deep", maxDepth), "use macros")
		}
		e, err := p.or()
		p.depth--
		if err != nil {
			return nil, err
		}
		if !p.accept(")") {
			return nil, p.fail(p.pos, "a ) must stand before "+p.here(), "close the parenthesis")
		}
		return e, nil
	}
	left, ok, err := p.operand()
	if err != nil {
		return nil, err
	}
	if ok {
		return p.comparison(left)
	}
	if name := p.identifier(); name != "" {
		return &macroExpr{name: name, at: at}, nil
	}
	return nil, p.fail(at, "a (, a field or a macro must stand before "+p.here(), "")
}

// operand parses a field or a transformer; false if neither stands here.
func (p *parser) operand() (operand, bool, error) {
	at := p.pos
	name := p.identifier()
	if name == "" {
		return operand{}, false, nil
	}
	if p.accept("(") {
		if slices.Contains(transformers(), name) || name == "val" {
			o, err := p.call(name, at)
			return o, true, err
		}
		p.pos = at
		return operand{}, false, nil
	}
	for p.pos < len(p.s) && p.s[p.pos] == '.' {
		dot := p.pos
		p.pos++
		if p.identifier() == "" {
			p.pos = dot
			break
		}
	}
	o := operand{kind: fieldOperand, name: p.s[at:p.pos], at: at}
	if !strings.Contains(o.name, ".") {
		p.pos = at
		return operand{}, false, nil
	}
	if !p.accept("[") {
		return o, true, nil
	}
	o.arg = true
	var err error
	if o.text, err = p.argument(); err != nil {
		return o, true, err
	}
	if !p.accept("]") {
		return o, true, p.fail(p.pos, "a ] must stand before "+p.here(), "close the argument of "+o.name)
	}
	return o, true, nil
}

// argument parses what stands in the brackets of a field.
func (p *parser) argument() (string, error) {
	if s, ok, err := p.quoted(); ok || err != nil {
		return s, err
	}
	from := p.pos
	for p.pos < len(p.s) && !isBlank(p.s[p.pos]) && strings.IndexByte(`[]"'`, p.s[p.pos]) < 0 {
		p.pos++
	}
	if p.pos == from {
		return "", p.fail(p.pos, "the argument in the brackets is missing", "")
	}
	return p.s[from:p.pos], nil
}

// call parses the arguments of a transformer, whose parenthesis is open.
func (p *parser) call(name string, at int) (operand, error) {
	o := operand{kind: callOperand, name: name, at: at}
	args, err := p.arguments()
	o.args = args
	return o, err
}

func (p *parser) arguments() ([]operand, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.fail(p.pos, fmt.Sprintf("parentheses nest more than %d deep", maxDepth), "")
	}
	defer func() { p.depth-- }()
	var args []operand
	for {
		p.blank()
		at := p.pos
		arg, ok, err := p.operand()
		switch {
		case err != nil:
			return nil, err
		case ok:
		case p.accept("("):
			inner, err := p.arguments()
			if err != nil {
				return nil, err
			}
			arg = operand{kind: tupleOperand, args: inner, at: at}
		default:
			text, ok, err := p.value()
			if err != nil {
				return nil, err
			}
			if !ok {
				return nil, p.fail(at, "a field, a transformer or a value must stand before "+p.here(), "")
			}
			arg = operand{kind: valueOperand, text: text, at: at}
		}
		args = append(args, arg)
		if p.blank(); p.accept(")") {
			return args, nil
		}
		if !p.accept(",") {
			return nil, p.fail(p.pos, "a comma or ) must stand before "+p.here(), "")
		}
	}
}

// identifier parses a letter and what follows of letters, digits and underscores.
func (p *parser) identifier() string {
	from := p.pos
	for p.pos < len(p.s) && (isLetter(p.s[p.pos]) || p.pos > from && (isDigit(p.s[p.pos]) || p.s[p.pos] == '_')) {
		p.pos++
	}
	return p.s[from:p.pos]
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

// The operators, by what stands on their right.
func numberOperators() []string { return []string{"<=", "<", ">=", ">"} }
func symbolOperators() []string { return []string{"==", "=", "!="} }
func textOperators() []string {
	return []string{
		"glob", "iglob", "contains", "icontains", "bcontains", "startswith", "bstartswith", "endswith", "regex",
	}
}
func listOperators() []string { return []string{"intersects", "in", "pmatch"} }

func isListOperator(op string) bool { return slices.Contains(listOperators(), op) }

// operators returns all operators.
func operators() []string {
	return slices.Concat([]string{"exists"}, numberOperators(), symbolOperators(), textOperators(), listOperators())
}

func (p *parser) comparison(left operand) (expr, error) {
	c := &check{left: left, at: left.at, in: p.in}
	p.blank()
	at := p.pos
	accept := func(operators []string, by func(string) bool) bool {
		i := slices.IndexFunc(operators, by)
		if i >= 0 {
			c.op = operators[i]
		}
		return i >= 0
	}
	switch {
	case accept([]string{"exists"}, p.word):
		return c, nil
	case accept(numberOperators(), p.accept):
		return c, p.number(c)
	case accept(symbolOperators(), p.accept), accept(textOperators(), p.word):
		if c.op == "==" {
			c.op = "="
		}
		if p.modifier(c) {
			return c, p.list(c)
		}
		return c, p.single(c)
	case accept(listOperators(), p.word):
		return c, p.list(c)
	}
	return nil, p.fail(at, "an operator must stand before "+p.here(), "the operators are "+strings.Join(operators(), " "))
}

// modifier accepts oneof, anyof or allof before a list.
func (p *parser) modifier(c *check) bool {
	from := p.pos
	p.blank()
	for _, mod := range []modifier{oneOf, anyOf, allOf} {
		if !p.word(string(mod)) {
			continue
		}
		if p.blank(); strings.HasPrefix(p.s[p.pos:], "(") {
			c.mod = mod
			return true
		}
		break // a value that is spelt so
	}
	p.pos = from
	return false
}

// computed parses a field in val(), or a transformer, on the right of an operator.
func (p *parser) computed(c *check) (bool, error) {
	p.blank()
	at := p.pos
	name := p.identifier()
	if name != "val" && !slices.Contains(transformers(), name) || !p.accept("(") {
		p.pos = at
		return false, nil
	}
	o, err := p.call(name, at)
	c.right = []operand{o}
	return true, err
}

func (p *parser) single(c *check) error {
	if ok, err := p.computed(c); ok {
		return err
	}
	at := p.pos
	text, ok, err := p.value()
	if err == nil && !ok {
		remedy := ""
		if p.pos < len(p.s) && p.s[p.pos] == '(' {
			remedy = "for a list use in, or a modifier such as anyof"
		}
		err = p.fail(at, fmt.Sprintf("a value must follow %s, not %s", c.op, p.here()), remedy)
	}
	c.right = []operand{{kind: valueOperand, text: text, at: at}}
	return err
}

// list parses the right of an operator that takes a list: values in parentheses, one value, or val().
func (p *parser) list(c *check) error {
	if ok, err := p.computed(c); ok {
		return err
	}
	at := p.pos
	if !p.accept("(") {
		text, ok, err := p.value()
		if err == nil && !ok {
			err = p.fail(at, fmt.Sprintf("a list must follow %s, not %s", c.op, p.here()), "put the values in parentheses")
		}
		c.right = []operand{{kind: valueOperand, text: text, at: at}}
		return err
	}
	if p.blank(); p.accept(")") {
		return nil
	}
	for {
		p.blank()
		at := p.pos
		text, ok, err := p.value()
		if err != nil {
			return err
		}
		if !ok {
			return p.fail(at, "a value must stand before "+p.here(), "lists are values with commas between them")
		}
		c.right = append(c.right, operand{kind: valueOperand, text: text, at: at})
		if p.blank(); p.accept(")") {
			return nil
		}
		if !p.accept(",") {
			return p.fail(p.pos, "a comma or ) must stand before "+p.here(), "put values with blanks or parentheses in quotes")
		}
	}
}
