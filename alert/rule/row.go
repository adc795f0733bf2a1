package rule

import "math/bits"

// blank reports whether a row's column holds no value; of two related fields, one that would
// have to consult the original bytes.
func (e *Evaluator) blank(t *test, row int) bool {
	if t.access == accessRelate {
		r := t.relate
		return r.left.strict && e.blankRef(&r.left, row) || r.right.strict && e.blankRef(&r.right, row)
	}
	return e.blankRef(&t.ref, row)
}

func (e *Evaluator) blankRef(r *ref, row int) bool {
	c := e.columns[r.column.index]
	switch r.access {
	case accessDict:
		return c.dict.blankRow(row)
	case accessDicts, accessList, accessMap:
		return c.size(row) == 0
	default:
		return c.null(row)
	}
}

// column decides a test of columns that are read row by row. A row that must consult its
// original bytes is false here.
func (e *Evaluator) column(t *test, row int) bool {
	if t.access == accessRelate {
		e.event.row = row
		return !e.blank(t, row) && e.relates(t.relate, e.event)
	}
	c := e.columns[t.column.index]
	switch t.access {
	case accessString:
		if !c.null(row) {
			return e.value(t, value{text: c.texts.at(row, &c.scratch)})
		}
	case accessNumber:
		if !c.null(row) {
			return e.value(t, c.number(row))
		}
	case accessMap:
		if c.size(row) > 0 {
			return e.value(t, value{object: true})
		}
	case accessList:
		if c.size(row) > 0 {
			return e.list(t, c, row)
		}
	case accessEntry:
		return e.entry(t, c, row)
	default: // dictionaries are decided by value, and the original bytes later
	}
	return t.blank && !t.consult
}

// list decides a test of a list that is not empty.
func (e *Evaluator) list(t *test, c *columnState, row int) bool {
	is := t.every
	c.list(row, func(text string) bool {
		is = e.value(t, value{text: text})
		return is == t.every
	})
	return is
}

func (e *Evaluator) entry(t *test, c *columnState, row int) bool {
	is := t.every
	n, found := c.entry(row, t.key, func(text string) bool {
		is = e.value(t, value{text: text})
		return is == t.every
	})
	switch {
	case !found:
		return t.missing
	case n == 0:
		return t.empty
	}
	return is
}

func (e *Evaluator) value(t *test, v value) bool { return t.matcher.match(v, &e.fold) }

// resolve decides the pending rules, row by row: an event's original bytes are parsed once
// for all of them. union is scratch memory.
func (e *Evaluator) resolve(union bitmap) {
	if len(e.pending) == 0 {
		return
	}
	clear(union)
	for _, p := range e.pending {
		union.or(p.rows)
	}
	for i, w := range union {
		for ; w != 0; w &= w - 1 {
			e.resolveRow(i<<6 + bits.TrailingZeros64(w))
		}
	}
	for _, p := range e.pending {
		e.put(p.rows)
	}
}

func (e *Evaluator) resolveRow(row int) {
	e.event.reset(row)
	for _, p := range e.pending {
		if p.rows.has(row) && e.row(e.set.roots[p.rule], e.event) {
			e.matches = append(e.matches, match{p.rule, row})
		}
	}
	if e.event.found.fault != nil {
		e.stats.Damaged++
	}
}
