package rule

import (
	"cmp"
	"fmt"
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

	id   int // among the nodes of its scope
	uses int // by other nodes and by rules
	memo int // among the nodes of its scope whose results are kept since several use them; else -1
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
	accessDict     access = iota // a dictionary column: once per distinct value
	accessDicts                  // a list of dictionary-encoded values: likewise
	accessNumber                 // a column of numbers or times
	accessString                 // a column of texts or ids
	accessList                   // a column of lists of texts
	accessMap                    // a map column as a whole
	accessEntry                  // one entry of a map column
	accessRaw                    // a path into the original bytes
	accessComputed               // what a function finds in the original bytes
	accessLeaves                 // all values of the original bytes
	accessElements               // the members of an array
	accessRelate                 // two fields
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
	case accessElements:
		return 1500
	case accessComputed:
		return 3000
	case accessLeaves:
		return 10_000
	case accessRelate: // the costs of its fields come on top
		return 8
	}
	return 1
}

// scope is what the paths of some tests begin at: the event, or a member of an array.
type scope struct {
	event    bool
	tests    map[string]*test
	paths    *pathNode // of all paths below the scope's root
	npaths   int       // nodes of the tree
	nodes    map[string]*node
	nmemos   int
	extracts []ir.Extract
	computed map[string]int // index of each extract by the name of its field
}

func newScope(event bool) *scope {
	return &scope{
		event: event, tests: map[string]*test{}, paths: &pathNode{}, npaths: 1, nodes: map[string]*node{}, computed: map[string]int{},
	}
}

// ref is a field, found.
type ref struct {
	scope   *scope
	access  access
	column  *columnPlan // of the columns
	key     string      // of an entry
	path    *pathNode   // for raw, and for a strict column that may have to be looked up in the original
	extract int         // of the computed
	strict  bool        // where the column is blank, the original bytes decide
}

// raw reports whether the original bytes are always needed.
func (r *ref) raw() bool { return r.column == nil }

// test is a compiled ir.Test, ir.Elements or ir.Relate. Equal tests of one scope are one test.
type test struct {
	ref
	index int // among the tests of its scope
	bit   int // among the tests of a column of dictionaries or texts

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

	elements *elements // of accessElements
	relate   *relate   // of accessRelate
}

// elements is a compiled ir.Elements.
type elements struct {
	index      int // among those of the set
	from       ref // the array
	quantifier ir.Quantifier
	empty      bool
	scope      *scope
	root       *node
}

// relate is a compiled ir.Relate.
type relate struct {
	left, right ref
	relation    ir.Relation
	cased       bool
	within      int64
}

// columnPlan is a column that tests look at.
type columnPlan struct {
	name  string
	kind  access
	index int
	// tests of a column of dictionaries or texts: each distinct value gets a bit for each.
	tests  []*test
	finder *finder // of these tests; nil if there are none, or too few for it to pay
}

type compiler struct {
	event    *scope
	columns  []*columnPlan
	byName   map[string]*columnPlan
	elements []*elements
}

func newCompiler() *compiler {
	return &compiler{event: newScope(true), byName: map[string]*columnPlan{}}
}

func (c *compiler) expr(s *scope, e ir.Expr) *node {
	switch e := e.(type) {
	case ir.And:
		return c.list(s, opAnd, []ir.Expr(e))
	case ir.Or:
		return c.list(s, opOr, []ir.Expr(e))
	case ir.Not:
		arg := c.expr(s, e.Expr)
		if arg.op == opNot {
			return arg.args[0]
		}
		return s.node(&node{op: opNot, args: []*node{arg}, cost: arg.cost})
	case *ir.Test:
		t := c.test(s, e)
		cost := t.access.cost()
		if t.consult {
			cost += accessRaw.cost() / 2
		}
		if t.column == nil || t.column.kind != accessDict && t.column.kind != accessDicts {
			cost += 20 * (len(t.matcher.regexps) + len(t.matcher.networks)) // for each value
		}
		return s.node(&node{op: opTest, test: t, cost: cost})
	case *ir.Elements:
		t := c.quantified(s, e)
		return s.node(&node{op: opTest, test: t, cost: t.access.cost() + t.elements.root.cost/4})
	case *ir.Relate:
		t := c.related(s, e)
		return s.node(&node{op: opTest, test: t, cost: t.access.cost() + t.relate.left.access.cost() + t.relate.right.access.cost()})
	}
	return s.node(&node{op: opOr}) // false; there are no other kinds
}

// node returns the node of s that is equal to n, which it becomes if there is none.
func (s *scope) node(n *node) *node {
	key := []byte{byte(n.op)}
	if n.test != nil {
		key = fmt.Appendf(key, "test %p", n.test) // an event's test may stand in a member's condition
	}
	for _, arg := range n.args {
		key = fmt.Appendf(key, " %d", arg.id)
	}
	if same, ok := s.nodes[string(key)]; ok {
		return same
	}
	n.id, n.memo = len(s.nodes), -1
	s.nodes[string(key)] = n
	for _, arg := range n.args {
		s.use(arg)
	}
	return n
}

// use counts a use of n. The result of what several use is kept.
func (s *scope) use(n *node) {
	if n.uses++; n.uses == 2 && (n.op == opAnd || n.op == opOr) {
		n.memo = s.nmemos
		s.nmemos++
	}
}

func (c *compiler) list(s *scope, o op, args []ir.Expr) *node {
	n := &node{op: o}
	for _, arg := range args {
		child := c.expr(s, arg)
		if child.op == o { // (a and b) and c
			n.args = append(n.args, child.args...)
		} else {
			n.args = append(n.args, child)
		}
		n.cost += child.cost
	}
	slices.SortStableFunc(n.args, func(a, b *node) int { return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(a.id, b.id)) })
	n.args = slices.CompactFunc(n.args, func(a, b *node) bool { return a == b })
	return s.node(n)
}

func (c *compiler) test(s *scope, in *ir.Test) *test {
	if in.Field.Source == ir.Column || in.Field.Source == ir.Entry {
		s = c.event // a member of an array has no columns
	}
	t, known := s.test(fmt.Sprint(in.Field.Source, in))
	if known {
		return t
	}
	t.matcher, t.every = newMatcher(in.AnyOf), in.Every
	t.missing, t.null, t.empty = in.Missing, in.Null, in.Empty
	t.ref = c.ref(s, in.Field)
	switch in.Field.Source {
	case ir.Column:
		c.column(t, in.Field)
	case ir.Entry:
		t.blank = t.missing
	case ir.Path, ir.Leaves, ir.Computed: // there is no column that could be blank
	}
	return t
}

// test returns the test of that key, and whether it was there.
func (s *scope) test(key string) (*test, bool) {
	if t, ok := s.tests[key]; ok {
		return t, true
	}
	t := &test{index: len(s.tests)}
	s.tests[key] = t
	return t, false
}

func (c *compiler) quantified(s *scope, in *ir.Elements) *test {
	t, known := s.test("elements " + in.String())
	if known {
		return t
	}
	el := &elements{index: len(c.elements), quantifier: in.Quantifier, empty: in.Empty, scope: newScope(false)}
	c.elements = append(c.elements, el)
	switch {
	case in.Array.Source == ir.Path:
		el.from = ref{scope: s, access: accessRaw, path: s.below(in.Array.Path)}
	case in.Array.Source == ir.Column && in.Array.Strict: // the original decides what is an array
		el.from = ref{scope: c.event, access: accessRaw, path: c.event.below(in.Array.Path)}
	default:
		el.from = c.ref(s, in.Array)
	}
	el.root = c.expr(el.scope, in.Expr)
	t.ref, t.elements = ref{scope: s, access: accessElements}, el
	return t
}

func (c *compiler) related(s *scope, in *ir.Relate) *test {
	t, known := s.test("relate " + in.String())
	if known {
		return t
	}
	t.relate = &relate{left: c.ref(s, in.Left), right: c.ref(s, in.Right), relation: in.Relation, cased: in.Cased, within: in.Within}
	t.ref = ref{scope: s, access: accessRelate}
	for _, side := range []struct {
		field ir.Field
		ref   *ref
	}{{in.Left, &t.relate.left}, {in.Right, &t.relate.right}} {
		if side.ref.strict {
			t.consult, side.ref.path = true, c.event.below(side.field.Path)
		}
	}
	return t
}

// ref finds a field.
func (c *compiler) ref(s *scope, f ir.Field) ref {
	r := ref{scope: s}
	switch f.Source {
	case ir.Column:
		r.scope, r.access = c.event, columnAccess(f.Type)
		r.column = c.plan(f.Column, r.access)
		r.strict = f.Strict
	case ir.Entry:
		r.scope, r.access, r.key = c.event, accessEntry, f.Key
		r.column = c.plan(f.Column, accessMap)
	case ir.Path:
		r.access, r.path = accessRaw, s.below(f.Path)
	case ir.Leaves:
		r.access = accessLeaves
	case ir.Computed:
		r.access = accessComputed
		index, ok := s.computed[f.String()]
		if !ok {
			index = len(s.extracts)
			s.computed[f.String()] = index
			s.extracts = append(s.extracts, f.Extract)
		}
		r.extract = index
	}
	return r
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
	if t.access == accessDict || t.access == accessDicts || t.access == accessString {
		t.bit = len(t.column.tests)
		t.column.tests = append(t.column.tests, t)
	}
	if !field.Strict {
		// By the column's name empty and absent are one, and both '' and null mean it.
		// A list without members is neither.
		list := t.access == accessDicts || t.access == accessList || t.access == accessMap
		t.blank = t.missing || !list && t.matcher.emptyLiteral()
		return
	}
	atNull := t.atZero(field.Type)
	t.blank = t.missing
	if t.consult = t.missing != t.null || t.missing != atNull; t.consult {
		t.path = c.event.below(field.Path)
	}
}

// atZero is the result for the zero value of a column, which stands there as null.
func (t *test) atZero(typ schemas.Type) bool {
	var fold []byte
	switch t.access {
	case accessDict, accessString:
		zero := value{}
		if typ == schemas.TypeUint16 {
			zero = value{text: "0", number: true}
		}
		return t.matcher.match(zero, &fold)
	case accessNumber:
		return t.matcher.match(value{text: "0", number: true}, &fold)
	case accessMap:
		return t.matcher.match(value{object: true}, &fold)
	default:
		return t.empty // an empty list
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

// fewTests of a column of texts are tried faster one by one than by a finder.
const fewTests = 4

// finish builds what needs all tests.
func (c *compiler) finish() {
	for _, plan := range c.columns {
		dict := plan.kind == accessDict || plan.kind == accessDicts
		if dict && len(plan.tests) > 0 || plan.kind == accessString && len(plan.tests) > fewTests {
			plan.finder = newFinder(plan.tests)
		}
	}
}
