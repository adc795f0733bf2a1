package falco

import (
	"fmt"
	"strings"
)

// The syntax of a condition. A macro is a node of its own until all macros are known.
type (
	expr interface{ expr() }

	andExpr []expr
	orExpr  []expr
	notExpr struct{ arg expr }

	macroExpr struct {
		name string
		at   int // in the text of the condition
	}

	// check compares a field, or what a transformer makes of one, with values.
	check struct {
		left operand
		op   string
		mod  modifier // of op, with a list on the right
		// right holds the values; for an operator that takes no list, one.
		right []operand
		at    int
		in    *text // the condition it stands in
	}
)

func (andExpr) expr()    {}
func (orExpr) expr()     {}
func (notExpr) expr()    {}
func (*macroExpr) expr() {}
func (*check) expr()     {}

type modifier string

const (
	plain modifier = ""
	oneOf modifier = "oneof"
	anyOf modifier = "anyof"
	allOf modifier = "allof"
)

// operand is a field, a value, what a transformer makes of its arguments, or a tuple of operands.
type operand struct {
	kind operandKind
	name string // of a field or a transformer
	text string // of a value, or a field's argument
	arg  bool   // a field has an argument
	args []operand
	at   int
}

type operandKind uint8

const (
	fieldOperand operandKind = iota
	valueOperand
	callOperand
	tupleOperand
)

// String is equal for operands with equal values.
func (o operand) String() string {
	switch o.kind {
	case fieldOperand:
		if o.arg {
			return o.name + "[" + o.text + "]"
		}
		return o.name
	case valueOperand:
		return fmt.Sprintf("%q", o.text)
	case callOperand, tupleOperand:
		args := make([]string, len(o.args))
		for i, a := range o.args {
			args[i] = a.String()
		}
		return o.name + "(" + strings.Join(args, ", ") + ")"
	}
	return ""
}

func (c *check) String() string {
	s := c.left.String() + " " + c.op
	if c.mod != plain {
		s += " " + string(c.mod)
	}
	if c.op == "exists" {
		return s
	}
	return s + " " + operand{kind: tupleOperand, args: c.right}.String()
}

// syntaxError says what is wrong at a byte of a condition.
type syntaxError struct {
	at      int
	problem string
	remedy  string
}

func (e *syntaxError) Error() string { return e.problem }

// maxDepth bounds how deep parentheses nest.
const maxDepth = 500
