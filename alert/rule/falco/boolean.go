package falco

import (
	"slices"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// boolean is a condition whose leaves are tests of the intermediate form. A leaf is false on
// every event that does not have what it needs, negated operators included; that is what
// distinguishes it from the tree of tests that it becomes.
type boolean struct {
	op    booleanOp
	args  []*boolean
	leaf  ir.Expr
	needs needs // of a leaf
	value bool  // of a constant
}

type booleanOp uint8

const (
	opLeaf booleanOp = iota
	opAnd
	opOr
	opNot
	opConstant
)

func always(value bool) *boolean { return &boolean{op: opConstant, value: value} }

func (b *boolean) is(value bool) bool { return b.op == opConstant && b.value == value }

// all is true if each of args is, with op opAnd; with opOr if one is.
func all(op booleanOp, args []*boolean) *boolean {
	neutral := op == opAnd
	var kept []*boolean
	for _, arg := range args {
		switch {
		case arg.is(!neutral):
			return arg
		case arg.is(neutral):
		case arg.op == op:
			kept = append(kept, arg.args...)
		default:
			kept = append(kept, arg)
		}
	}
	switch len(kept) {
	case 0:
		return always(neutral)
	case 1:
		return kept[0]
	}
	return &boolean{op: op, args: kept}
}

func negate(arg *boolean) *boolean {
	switch arg.op {
	case opConstant:
		return always(!arg.value)
	case opNot:
		return arg.args[0]
	default:
		return &boolean{op: opNot, args: []*boolean{arg}}
	}
}

// without is b on events that lack something.
func (b *boolean) without(lack needs) *boolean {
	switch b.op {
	case opLeaf:
		if b.needs&lack != 0 {
			return always(false)
		}
		return b
	case opAnd, opOr:
		args := make([]*boolean, len(b.args))
		for i, arg := range b.args {
			args[i] = arg.without(lack)
		}
		return all(b.op, args)
	case opNot:
		return negate(b.args[0].without(lack))
	case opConstant:
	}
	return b
}

// guard makes b independent of what the columns say of events that lack something: where holds is
// false, so is every leaf that needs it. It adds holds as seldom as it can.
func (b *boolean) guard(need needs, holds *boolean) *boolean {
	rest := b.without(need)
	switch {
	case rest.is(false) && b.op == opAnd:
		return all(opAnd, append(slices.Clone(b.args), holds))
	case rest.is(false) && !b.is(false):
		return all(opAnd, []*boolean{b, holds})
	}
	switch b.op {
	case opAnd, opOr:
		args := make([]*boolean, len(b.args))
		for i, arg := range b.args {
			args[i] = arg.guard(need, holds)
		}
		return all(b.op, args)
	case opNot:
		return negate(b.args[0].guard(need, holds))
	case opLeaf, opConstant:
	}
	return b
}

// auditLevel returns the lowest audit level at which b can be true.
func (b *boolean) auditLevel() string {
	switch {
	case b.without(needsResponse).is(false):
		return "RequestResponse"
	case b.without(needsRequest | needsResponse).is(false):
		return "Request"
	}
	return "Metadata"
}

// ir returns b in the intermediate form; true is an And, false an Or without parts.
func (b *boolean) ir() ir.Expr {
	switch b.op {
	case opAnd:
		return ir.And(b.exprs())
	case opOr:
		return ir.Or(b.exprs())
	case opNot:
		return ir.Not{Expr: b.args[0].ir()}
	case opConstant:
		if b.value {
			return ir.And{}
		}
		return ir.Or{}
	case opLeaf:
	}
	return b.leaf
}

func (b *boolean) exprs() []ir.Expr {
	exprs := make([]ir.Expr, len(b.args))
	for i, arg := range b.args {
		exprs[i] = arg.ir()
	}
	return exprs
}
