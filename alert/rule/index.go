package rule

import "slices"

// clause is a list of tests of dictionary columns one of which must be satisfied.
type clause []dref

// dref is a test of a dictionary column.
type dref struct{ column, bit int }

// index finds the rules that a batch can satisfy from the values that its dictionaries hold, without
// looking at the others. It is immutable.
type index struct {
	clauses [][]clause // by rule: all must hold, the first one is the rule's anchor
	always  []int      // rules without a clause
	anchors [][][]int  // by column and bit: the rules with that test in their anchor
}

func newIndex(roots []*node, columns []*columnPlan) *index {
	x := &index{clauses: make([][]clause, len(roots)), anchors: make([][][]int, len(columns))}
	for i, plan := range columns {
		x.anchors[i] = make([][]int, len(plan.tests))
	}
	for i, root := range roots {
		clauses := required(root)
		if len(clauses) == 0 {
			x.always = append(x.always, i)
			continue
		}
		weight := func(c clause) (w int) {
			for _, ref := range c {
				w += columns[ref.column].tests[ref.bit].weight()
			}
			return w
		}
		slices.SortStableFunc(clauses, func(a, b clause) int { return weight(a) - weight(b) })
		x.clauses[i] = clauses
		for _, ref := range clauses[0] {
			x.anchors[ref.column][ref.bit] = append(x.anchors[ref.column][ref.bit], i)
		}
	}
	return x
}

// required returns clauses without which n is false whatever else an event holds.
func required(n *node) []clause {
	switch n.op {
	case opTest:
		t := n.test
		single := t.access == accessDict || t.access == accessDicts && !t.every
		if single && !t.consult {
			return []clause{{{t.column.index, t.bit}}}
		}
	case opAnd:
		var all []clause
		for _, arg := range n.args {
			all = append(all, required(arg)...)
		}
		return all
	case opOr: // one branch must hold, so one of what each of them requires
		var either clause
		for _, arg := range n.args {
			clauses := required(arg)
			if len(clauses) == 0 {
				return nil
			}
			shortest := slices.MinFunc(clauses, func(a, b clause) int { return len(a) - len(b) })
			either = append(either, shortest...)
		}
		if len(either) > 0 {
			return []clause{either}
		}
	case opNot:
	}
	return nil
}

// weight says how likely it is, roughly, that a batch has a value that satisfies t.
func (t *test) weight() int {
	m := t.matcher
	w := len(m.folded) + len(m.cased) + 20*(len(m.foldGlobs)+len(m.casedGlobs)+len(m.regexps)+len(m.networks)+len(m.others)+len(m.compares))
	if m.any || m.star || t.blank {
		w += 1000
	}
	switch t.column.name { // few values, which every batch has
	case "stage", "level", "platform", "cluster", "source", "decision", "outcome", "actor_kind":
		return 100 * w
	case "verb", "api_group", "api_version", "code":
		return 10 * w
	}
	return w
}

// candidates calls visit once for each rule that some row may satisfy, as far as dictionaries tell.
func (e *Evaluator) candidates(visit func(rule int)) {
	x := e.set.index
	for _, rule := range x.always {
		visit(rule)
	}
	for i, anchors := range x.anchors {
		d := e.columns[i].dict
		if d == nil {
			continue
		}
		bitmap(d.any).each(func(bit int) {
			for _, rule := range anchors[bit] {
				if e.tried[rule] == e.batches {
					continue
				}
				e.tried[rule] = e.batches
				if e.possible(x.clauses[rule][1:]) {
					visit(rule)
				}
			}
		})
	}
}

// possible reports whether some row may satisfy each of the clauses.
func (e *Evaluator) possible(clauses []clause) bool {
	for _, c := range clauses {
		some := false
		for _, ref := range c {
			if bitmap(e.columns[ref.column].dict.any).has(ref.bit) {
				some = true
				break
			}
		}
		if !some {
			return false
		}
	}
	return true
}
