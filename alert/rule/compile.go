package rule

import (
	"cmp"
	"slices"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// node is a node of a compiled condition.
type node struct {
	op   op
	args []*node
	test *test // of a leaf
	cost int   // what deciding one row costs, relative
}

type op uint8

const (
	opTest op = iota
	opAnd
	opOr
	opNot
)

// access is how the values of a test's field are reached.
type access uint8

const (
	accessDict   access = iota // a dictionary column: once per distinct value
	accessDicts                // a list of dictionary-encoded values: likewise
	accessNumber               // a column of numbers or times
	accessString               // a column of texts or ids
	accessList                 // a column of lists of texts
	accessMap                  // a map column as a whole
	accessEntry                // one entry of a map column
	accessRaw                  // a path into the original bytes
	accessLeaves               // all values of the original bytes
)

// cost of deciding one row, relative: what is cheap comes first.
func (a access) cost() int {
	switch a {
	case accessDict, accessDicts:
		return 1
	case accessNumber, accessMap:
		return 2
	case accessString, accessEntry:
		return 8
	case accessList:
		return 12
	case accessRaw:
		return 1000
	default:
		return 10_000
	}
}

// test is a compiled ir.Test. Equal tests of all rules are one test.
type test struct {
	index  int
	access access
	column *columnPlan // of all but raw and leaves
	bit    int         // among the tests of a dictionary column
	key    string      // of an entry
	path   int         // in the path tree, for raw and consult; else -1

	matcher *matcher
	every   bool
	missing bool
	null    bool
	empty   bool

	// blank is the result for rows whose column is null or empty.
	blank bool
	// consult says that blank does not hold: the column does not tell an empty value from
	// an absent one, and to this test they differ, so the original bytes decide.
	consult bool
}

// columnPlan is a column that tests look at.
type columnPlan struct {
	name  string
	kind  access
	index int
	// tests of a dictionary column: each distinct value gets a bit for each.
	tests []*test
}

// dref is a test of a dictionary column.
type dref struct{ column, bit int }

type compiler struct {
	tests   []*test
	byKey   map[string]*test
	columns []*columnPlan
	byName  map[string]*columnPlan
	paths   *pathNode
	npaths  int
}

func newCompiler() *compiler {
	return &compiler{byKey: map[string]*test{}, byName: map[string]*columnPlan{}, paths: newPathNode()}
}

func (c *compiler) expr(e ir.Expr) *node {
	switch e := e.(type) {
	case ir.And:
		return c.list(opAnd, []ir.Expr(e))
	case ir.Or:
		return c.list(opOr, []ir.Expr(e))
	case ir.Not:
		arg := c.expr(e.Expr)
		if arg.op == opNot {
			return arg.args[0]
		}
		return &node{op: opNot, args: []*node{arg}, cost: arg.cost}
	case *ir.Test:
		t := c.test(e)
		cost := t.access.cost()
		if t.consult {
			cost += accessRaw.cost() / 2
		}
		return &node{op: opTest, test: t, cost: cost}
	}
	return &node{op: opOr} // false; there are no other kinds
}

func (c *compiler) list(o op, args []ir.Expr) *node {
	n := &node{op: o}
	for _, arg := range args {
		child := c.expr(arg)
		if child.op == o { // (a and b) and c
			n.args = append(n.args, child.args...)
		} else {
			n.args = append(n.args, child)
		}
		n.cost += child.cost
	}
	slices.SortStableFunc(n.args, func(a, b *node) int { return cmp.Compare(a.cost, b.cost) })
	return n
}

func (c *compiler) test(in *ir.Test) *test {
	key := in.String()
	if t, ok := c.byKey[key]; ok {
		return t
	}
	t := &test{
		index: len(c.tests), path: -1, matcher: newMatcher(in.AnyOf), every: in.Every,
		missing: in.Missing, null: in.Null, empty: in.Empty,
	}
	switch in.Field.Source {
	case ir.Column:
		t.access = columnAccess(in.Field.Type)
		c.column(t, in.Field)
	case ir.Entry:
		t.access, t.key = accessEntry, in.Field.Key
		t.column = c.plan(in.Field.Column, accessMap)
		t.blank = t.missing
	case ir.Path:
		t.access, t.path = accessRaw, c.path(in.Field.Path)
	case ir.Leaves:
		t.access = accessLeaves
	}
	c.byKey[key] = t
	c.tests = append(c.tests, t)
	return t
}

func columnAccess(t schemas.Type) access {
	switch t {
	case schemas.TypeDict, schemas.TypeUint16: // numbers so small have few distinct values
		return accessDict
	case schemas.TypeDicts:
		return accessDicts
	case schemas.TypeStrings:
		return accessList
	case schemas.TypeMap, schemas.TypeMapList:
		return accessMap
	case schemas.TypeTime, schemas.TypeInt64, schemas.TypeInt32:
		return accessNumber
	default:
		return accessString
	}
}

// column decides what a null or empty column means to t.
func (c *compiler) column(t *test, field ir.Field) {
	t.column = c.plan(field.Column, t.access)
	if t.access == accessDict || t.access == accessDicts {
		t.bit = len(t.column.tests)
		t.column.tests = append(t.column.tests, t)
	}
	if !field.Strict {
		// By the column's name empty and absent are one, and both '' and null mean it.
		t.blank = t.missing || t.matcher.emptyLiteral()
		return
	}
	var fold []byte
	var atNull bool
	switch t.access {
	case accessDict, accessString:
		zero := value{}
		if field.Type == schemas.TypeUint16 {
			zero = value{text: "0", number: true}
		}
		atNull = t.matcher.match(zero, &fold)
	case accessNumber:
		atNull = t.matcher.match(value{text: "0", number: true}, &fold)
	case accessMap:
		atNull = t.matcher.match(value{object: true}, &fold)
	default:
		atNull = t.empty // an empty list
	}
	t.blank = t.missing
	if t.missing != t.null || t.missing != atNull {
		t.consult, t.path = true, c.path(field.Path)
	}
}

func (c *compiler) plan(name string, kind access) *columnPlan {
	if p, ok := c.byName[name]; ok {
		return p
	}
	p := &columnPlan{name: name, kind: kind, index: len(c.columns)}
	c.byName[name] = p
	c.columns = append(c.columns, p)
	return p
}

func (c *compiler) path(keys []string) int {
	n := c.paths
	for _, key := range keys {
		n = n.child(key)
	}
	if n.path < 0 {
		n.path = c.npaths
		c.npaths++
	}
	return n.path
}

// required returns the tests of dictionary columns without which n is false whatever else
// an event holds.
func (c *compiler) required(n *node) []dref {
	var refs []dref
	switch n.op {
	case opTest:
		if n.test.access == accessDict && !n.test.consult {
			refs = append(refs, dref{n.test.column.index, n.test.bit})
		}
	case opAnd:
		for _, arg := range n.args {
			refs = append(refs, c.required(arg)...)
		}
	default: // nothing is needed by all branches of an or, as far as is looked into
	}
	return refs
}
