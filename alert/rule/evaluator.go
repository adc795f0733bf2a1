package rule

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
)

// Evaluator evaluates a Set on one batch after the other. It keeps memory between batches
// and is not safe for concurrent use.
type Evaluator struct {
	set     *Set
	columns []*columnState
	raw     columnState // the original bytes
	source  source      // of the original bytes, instead of raw; nil if the batch is none
	fault   error       // of source

	rows    int
	batches uint64    // counted, to tell what is of this one
	memos   []memo    // by test
	shared  []partial // by node whose result is kept
	tried   []uint64  // by rule: the batch in which it was a candidate
	free    []bitmap

	pending []pendingRule
	matches []match
	batch   arrow.RecordBatch
	event   *document   // of the row whose original bytes are looked at
	members []*document // by elements: the member that is looked at
	shown   *document   // of the row whose values were asked for
	operand operand
	// scratch memory
	fold, foldRight, buf []byte
	stats                Stats
}

// Stats count what an Evaluator did since it was made.
type Stats struct {
	Rows    int64 // rows of all batches
	Parsed  int64 // rows whose original bytes were parsed
	Damaged int64 // of those, rows whose original bytes are not JSON: what came before the fault counted
	Skipped int64 // rules that no value of a batch could satisfy, summed over batches
}

// memo is what is known of a test in the current batch.
type memo struct {
	// known are the rows whose result is known, value those of them with the result true. Both are of
	// an earlier batch, and count as empty, unless batch is the current one. Of dictionary columns
	// all rows are known then; of texts with a finder the column knows which.
	known, value bitmap
	batch        uint64
}

// partial is what is known of a node that several others use: of the rows in known, which are true
// for sure and which may be.
type partial struct {
	known, lo, hi bitmap
	batch         uint64
}

// pendingRule is a rule whose result for rows depends on their original bytes.
type pendingRule struct {
	rule int
	rows bitmap
}

type match struct{ rule, row int }

// NewEvaluator returns an Evaluator of s.
func (s *Set) NewEvaluator() *Evaluator {
	e := &Evaluator{
		set: s, memos: make([]memo, len(s.event.tests)), tried: make([]uint64, len(s.rules)),
		shared: make([]partial, s.event.nmemos), event: newDocument(s.event), shown: newDocument(newScope(true)),
	}
	for _, el := range s.elements {
		e.members = append(e.members, newDocument(el.scope))
	}
	e.raw.plan = &columnPlan{name: "raw", kind: accessString}
	for _, plan := range s.columns {
		c := &columnState{plan: plan}
		if plan.kind == accessDict || plan.kind == accessDicts {
			c.dict = newDictState(plan)
		}
		e.columns = append(e.columns, c)
	}
	return e
}

// Stats returns what e did since it was made.
func (e *Evaluator) Stats() Stats { return e.stats }

// source is a batch that gives the original bytes of a row on demand, as *schemas.Batch does.
type source interface {
	Raw(row int) ([]byte, error)
}

// Match calls yield for each rule that matches a row of batch, by row and then by rule; rule is an
// index of Set.Rules. The original bytes are in the column raw, or with a *schemas.Batch
// wherever it has them. An error says that the batch is damaged or has a column of an unknown
// type; yield was not called then.
func (e *Evaluator) Match(batch arrow.RecordBatch, yield func(rule, row int)) error {
	e.rows = int(batch.NumRows())
	e.stats.Rows += int64(e.rows)
	if e.rows == 0 {
		return nil
	}
	defer e.unbind()
	if err := e.bind(batch); err != nil {
		return fmt.Errorf("evaluating rules: %w", err)
	}
	e.matches, e.pending = e.matches[:0], e.pending[:0]
	lo, hi, all := e.get(), e.get(), e.get()
	all.fill(e.rows)
	e.stats.Skipped += int64(len(e.set.rules))
	e.candidates(func(rule int) {
		e.stats.Skipped--
		e.eval(e.set.roots[rule], all, lo, hi)
		lo.each(func(row int) { e.matches = append(e.matches, match{rule, row}) })
		hi.andNot(lo)
		if !hi.empty() {
			e.pending = append(e.pending, pendingRule{rule, hi})
			hi = e.get()
		}
	})
	e.source, _ = batch.(source)
	e.resolve(all)
	e.put(lo, hi, all)
	if e.fault != nil {
		return fmt.Errorf("evaluating rules: %w", e.fault)
	}
	slices.SortFunc(e.matches, func(a, b match) int {
		return cmp.Or(cmp.Compare(a.row, b.row), cmp.Compare(a.rule, b.rule))
	})
	for _, m := range e.matches {
		yield(m.rule, m.row)
	}
	return nil
}

func (e *Evaluator) bind(batch arrow.RecordBatch) error {
	e.batch, e.shown.loaded = batch, false
	e.batches++
	for _, c := range e.columns {
		if err := c.bind(batch); err != nil {
			return err
		}
	}
	if n := words(e.rows); len(e.free) > 0 && len(e.free[0]) != n {
		for i, b := range e.free {
			e.free[i] = resize(b, n)
		}
	}
	return e.raw.bind(batch)
}

// unbind lets go of the batch, whose memory belongs to the caller.
func (e *Evaluator) unbind() {
	e.raw.array, e.raw.texts, e.source, e.fault, e.batch = nil, texts{}, nil, nil, nil
	e.shown.data, e.event.data = nil, nil
	for _, c := range e.columns {
		c.array, c.texts, c.lists, c.items, c.keys = nil, texts{}, nil, nil, codes{}
		if c.dict != nil {
			c.dict.values = nil
		}
	}
}

// get returns a bitmap of the batch's size with undefined content.
func (e *Evaluator) get() bitmap {
	if n := len(e.free); n > 0 {
		b := e.free[n-1]
		e.free = e.free[:n-1]
		return b
	}
	return make(bitmap, words(e.rows))
}

func (e *Evaluator) put(bitmaps ...bitmap) { e.free = append(e.free, bitmaps...) }

// eval evaluates n for the rows in sel, as far as columns tell: lo becomes the rows for
// which n is true for sure, hi those for which it may be. Both are subsets of sel.
func (e *Evaluator) eval(n *node, sel, lo, hi bitmap) {
	if n.memo < 0 {
		e.evalFresh(n, sel, lo, hi)
		return
	}
	p := &e.shared[n.memo]
	if p.batch != e.batches {
		p.batch = e.batches
		for _, b := range []*bitmap{&p.known, &p.lo, &p.hi} {
			*b = resize(*b, words(e.rows))
			clear(*b)
		}
	}
	fresh := e.get()
	copy(fresh, sel)
	fresh.andNot(p.known)
	if !fresh.empty() {
		e.evalFresh(n, fresh, lo, hi)
		p.known.or(fresh)
		p.lo.or(lo)
		p.hi.or(hi)
	}
	e.put(fresh)
	for i, s := range sel {
		lo[i], hi[i] = s&p.lo[i], s&p.hi[i]
	}
}

func (e *Evaluator) evalFresh(n *node, sel, lo, hi bitmap) {
	switch n.op {
	case opTest:
		e.evalTest(n.test, sel, lo, hi)
	case opNot:
		e.eval(n.args[0], sel, lo, hi)
		for i, s := range sel {
			lo[i], hi[i] = s&^hi[i], s&^lo[i]
		}
	case opAnd:
		copy(lo, sel)
		copy(hi, sel)
		argLo, argHi := e.get(), e.get()
		for _, arg := range n.args {
			e.eval(arg, hi, argLo, argHi)
			lo.and(argLo)
			copy(hi, argHi)
			if hi.empty() {
				break
			}
		}
		e.put(argLo, argHi)
	case opOr:
		clear(lo)
		clear(hi)
		argLo, argHi, rest := e.get(), e.get(), e.get()
		copy(rest, sel)
		for _, arg := range n.args {
			e.eval(arg, rest, argLo, argHi)
			lo.or(argLo)
			hi.or(argHi)
			rest.andNot(argLo)
			if rest.empty() {
				break
			}
		}
		e.put(argLo, argHi, rest)
	}
}

func (e *Evaluator) evalTest(t *test, sel, lo, hi bitmap) {
	switch t.access {
	case accessRaw, accessLeaves, accessComputed, accessElements:
		clear(lo)
		copy(hi, sel)
		return
	case accessDict, accessDicts:
		e.evalDict(t, sel, lo)
	case accessRelate:
		if t.relate.left.raw() || t.relate.right.raw() {
			clear(lo)
			copy(hi, sel)
			return
		}
		e.evalRows(t, sel, lo)
	default:
		if t.column.finder != nil {
			e.evalFound(t, sel, lo)
		} else {
			e.evalRows(t, sel, lo)
		}
	}
	copy(hi, lo)
	if !t.consult {
		return
	}
	if t.column != nil && e.columns[t.column.index].dict != nil {
		for i, w := range e.columns[t.column.index].dict.blankRows() {
			hi[i] |= sel[i] & w
		}
		return
	}
	sel.each(func(row int) {
		if e.blank(t, row) {
			hi.set(row)
		}
	})
}

// few is how much smaller than the batch a selection must be for looking at each of its
// rows to be cheaper than selecting among all.
const few = 32

func (e *Evaluator) evalDict(t *test, sel, lo bitmap) {
	m := &e.memos[t.index]
	d := e.columns[t.column.index].dict
	if m.batch != e.batches && t.access == accessDict && sel.count() < e.rows/few {
		clear(lo)
		for i, w := range sel {
			for ; w != 0; w &= w - 1 {
				if row := i<<6 + bits.TrailingZeros64(w); d.is(t, row) {
					lo.set(row)
				}
			}
		}
		return
	}
	selected := e.selected(t)
	for i, s := range sel {
		lo[i] = s & selected[i]
	}
}

// selected returns the rows that satisfy a test of a dictionary column.
func (e *Evaluator) selected(t *test) bitmap {
	m := &e.memos[t.index]
	if m.batch != e.batches {
		e.begin(m)
		e.columns[t.column.index].dict.selectRows(t, m.value)
	}
	return m.value
}

// begin makes m one of the current batch.
func (e *Evaluator) begin(m *memo) {
	m.batch = e.batches
	m.value = resize(m.value, words(e.rows))
	clear(m.value)
}

// evalFound decides a test of a column of texts whose tests are all decided together, each row once
// in a batch.
func (e *Evaluator) evalFound(t *test, sel, lo bitmap) {
	c, m := e.columns[t.column.index], &e.memos[t.index]
	if c.batch != e.batches {
		c.batch = e.batches
		c.scanned, c.nulls = resize(c.scanned, words(e.rows)), resize(c.nulls, words(e.rows))
		clear(c.scanned)
		clear(c.nulls)
	}
	for i, s := range sel {
		for w := s &^ c.scanned[i]; w != 0; w &= w - 1 {
			e.scan(c, i<<6+bits.TrailingZeros64(w))
		}
		c.scanned[i] |= s
		lo[i] = 0
		if m.batch == e.batches {
			lo[i] = s & m.value[i]
		}
		if t.blank && !t.consult {
			lo[i] |= s & c.nulls[i]
		}
	}
}

// scan decides all tests of a column of texts for one row.
func (e *Evaluator) scan(c *columnState, row int) {
	if c.null(row) {
		c.nulls.set(row)
		return
	}
	for _, bit := range c.plan.finder.find(c.texts.at(row, &c.scratch), &c.found) {
		m := &e.memos[c.plan.tests[bit].index]
		if m.batch != e.batches {
			e.begin(m)
		}
		m.value.set(row)
	}
}

// evalRows decides a test row by row, each row once in a batch.
func (e *Evaluator) evalRows(t *test, sel, lo bitmap) {
	m := &e.memos[t.index]
	if m.batch != e.batches {
		e.begin(m)
		m.known = resize(m.known, words(e.rows))
		clear(m.known)
	}
	for i, s := range sel {
		for w := s &^ m.known[i]; w != 0; w &= w - 1 {
			if row := i<<6 + bits.TrailingZeros64(w); e.column(t, row) {
				m.value.set(row)
			}
		}
		m.known[i] |= s
		lo[i] = s & m.value[i]
	}
}
