package rule

import "math/bits"

// blank reports whether a row's column holds no value.
func (e *Evaluator) blank(t *test, row int) bool {
	c := e.columns[t.column.index]
	switch t.access {
	case accessDict:
		return c.dict.blankRow(row)
	case accessDicts, accessList, accessMap:
		return c.size(row) == 0
	default:
		return c.null(row)
	}
}

// column decides a test of a column that is read row by row. A row that must consult its
// original bytes is false here.
func (e *Evaluator) column(t *test, row int) bool {
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
	data := e.original(row)
	e.stats.Parsed++
	e.found.read(e.set.paths, data, e.set.npaths)
	for _, p := range e.pending {
		if p.rows.has(row) && e.row(e.set.roots[p.rule], row, data) {
			e.matches = append(e.matches, match{p.rule, row})
		}
	}
	if e.found.fault != nil {
		e.stats.Damaged++
	}
}

func (e *Evaluator) original(row int) []byte {
	if e.source != nil {
		data, err := e.source.Raw(row)
		if err != nil {
			e.fault = err
		}
		return data
	}
	if e.raw.null(row) || e.raw.texts.binary == nil {
		return nil
	}
	return e.raw.texts.binary.Value(row)
}

// row evaluates n for one row whose original bytes were read.
func (e *Evaluator) row(n *node, row int, data []byte) bool {
	switch n.op {
	case opTest:
		return e.rowTest(n.test, row, data)
	case opNot:
		return !e.row(n.args[0], row, data)
	case opAnd:
		for _, arg := range n.args {
			if !e.row(arg, row, data) {
				return false
			}
		}
		return true
	default:
		for _, arg := range n.args {
			if e.row(arg, row, data) {
				return true
			}
		}
		return false
	}
}

func (e *Evaluator) rowTest(t *test, row int, data []byte) bool {
	switch {
	case t.access == accessLeaves:
		return e.anywhere(t, data)
	case t.access == accessRaw, t.consult && e.blank(t, row):
		return e.path(t)
	case t.access == accessDict, t.access == accessDicts:
		return e.selected(t).has(row)
	}
	return e.column(t, row)
}

// path decides a test by what stands at its path.
func (e *Evaluator) path(t *test) bool {
	for _, l := range e.found.leaves[t.path] {
		var is bool
		switch l.state {
		case leafValue:
			is = e.value(t, jsonValue(l.text, &e.buf))
		case leafMissing:
			is = t.missing
		case leafNull:
			is = t.null
		case leafEmpty:
			is = t.empty
		}
		if is != t.every {
			return is
		}
	}
	return t.every
}

func (e *Evaluator) anywhere(t *test, data []byte) bool {
	found, err := eachLeaf(data, func(text []byte) bool { return e.value(t, jsonValue(text, &e.buf)) })
	e.found.check(err)
	return found
}
