package rule

import (
	"unsafe"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/internal/jsonscan"
)

// document is what the tests of one scope look at: the event of a row, or a member of an
// array of it. Nothing of it is read before a test asks, and then once.
type document struct {
	scope    *scope
	row      int
	data     []byte // of an event only if loaded
	loaded   bool
	read     bool // found is of data
	found    rawEvent
	verdicts []verdict // by test
	nodes    []verdict // by node whose result is kept
	computed []computed
	inner    []byte // scratch memory for a member that stands in a column
}

// verdict is what is known of a test.
type verdict uint8

const (
	unknown verdict = iota
	isFalse
	isTrue
)

// computed are the values of a computed field, if done.
type computed struct {
	values ir.Values
	done   bool
}

func newDocument(s *scope) *document {
	return &document{
		scope: s, verdicts: make([]verdict, len(s.tests)), nodes: make([]verdict, s.nmemos), computed: make([]computed, len(s.extracts)),
	}
}

// reset makes d the event of row.
func (d *document) reset(row int) {
	d.row, d.data, d.loaded, d.read, d.found.fault = row, nil, false, false, nil
	clear(d.verdicts)
	clear(d.nodes)
	for i := range d.computed {
		d.computed[i].done = false
	}
}

// become makes d a member of an array of the event of row.
func (d *document) become(row int, member []byte) {
	d.reset(row)
	d.data, d.loaded = member, true
}

// original returns the JSON of d.
func (e *Evaluator) original(d *document) []byte {
	if !d.loaded {
		d.data, d.loaded = e.originalOf(d.row), true
		e.stats.Parsed++
	}
	return d.data
}

func (e *Evaluator) originalOf(row int) []byte {
	if e.source != nil {
		data, err := e.source.Raw(row)
		if err != nil {
			e.fault = err
		}
		return data
	}
	if e.raw.null(row) {
		return nil
	}
	// ClickHouse gives the column back as text.
	text := e.raw.texts.at(row, nil)
	return unsafe.Slice(unsafe.StringData(text), len(text))
}

// paths returns what the paths of d lead to.
func (e *Evaluator) paths(d *document) *rawEvent {
	if !d.read {
		d.read = true
		d.found.begin(d.scope, e.original(d))
	}
	return &d.found
}

// extracted returns the values of a computed field, which are computed once.
func (e *Evaluator) extracted(d *document, index int) []string {
	c := &d.computed[index]
	if !c.done {
		c.done = true
		c.values.Reset()
		d.scope.extracts[index](e.original(d), &c.values)
	}
	return c.values.Texts()
}

// row evaluates n for a document.
func (e *Evaluator) row(n *node, d *document) bool {
	if n.memo < 0 {
		return e.combine(n, d)
	}
	v := &d.nodes[n.memo]
	if *v == unknown {
		*v = isFalse
		if e.combine(n, d) {
			*v = isTrue
		}
	}
	return *v == isTrue
}

func (e *Evaluator) combine(n *node, d *document) bool {
	switch n.op {
	case opTest:
		return e.verdict(n.test, d)
	case opNot:
		return !e.row(n.args[0], d)
	case opAnd:
		for _, arg := range n.args {
			if !e.row(arg, d) {
				return false
			}
		}
		return true
	default:
		for _, arg := range n.args {
			if e.row(arg, d) {
				return true
			}
		}
		return false
	}
}

// verdict decides a test once for each document.
func (e *Evaluator) verdict(t *test, d *document) bool {
	if t.scope.event {
		d = e.event // a test of a column, inside a member
	}
	v := &d.verdicts[t.index]
	if *v == unknown {
		*v = isFalse
		if e.decide(t, d) {
			*v = isTrue
		}
	}
	return *v == isTrue
}

func (e *Evaluator) decide(t *test, d *document) bool {
	switch t.access {
	case accessElements:
		return e.quantify(t.elements, d)
	case accessRelate:
		return e.relates(t.relate, d)
	case accessLeaves:
		return e.anywhere(t, d)
	case accessComputed:
		return e.texts(t, e.extracted(d, t.extract))
	case accessRaw:
		return e.path(t, d)
	case accessDict, accessDicts:
		if t.consult && e.blank(t, d.row) {
			return e.path(t, d)
		}
		return e.selected(t).has(d.row)
	default:
		if t.consult && e.blank(t, d.row) {
			return e.path(t, d)
		}
		return e.column(t, d.row)
	}
}

// path decides a test by what stands at its path.
func (e *Evaluator) path(t *test, d *document) bool {
	for _, l := range e.paths(d).leaves(t.path) {
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

func (e *Evaluator) anywhere(t *test, d *document) bool {
	decided, err := eachLeaf(e.original(d), func(text []byte) bool { return e.value(t, jsonValue(text, &e.buf)) != t.every })
	d.found.check(err)
	return decided != t.every
}

// texts decides a test by values that are texts.
func (e *Evaluator) texts(t *test, texts []string) bool {
	if len(texts) == 0 {
		return t.missing
	}
	for _, text := range texts {
		if is := e.value(t, value{text: text}); is != t.every {
			return is
		}
	}
	return t.every
}

// quantify evaluates the condition of el for the members of its array.
func (e *Evaluator) quantify(el *elements, d *document) bool {
	q := quantifying{kind: el.quantifier}
	member := e.members[el.index]
	if el.from.access == accessRaw {
		if el.from.scope.event {
			d = e.event
		}
		for _, array := range e.paths(d).texts(el.from.path) {
			if len(array) == 0 || array[0] != '[' {
				continue
			}
			it := jsonscan.Array(array)
			for !q.decided && it.Next() {
				member.become(d.row, it.Value())
				q.add(e.row(el.root, member))
			}
		}
		return q.result(el.empty)
	}
	if !e.scalar(&el.from) {
		e.values(&el.from, d, func(v value) bool {
			member.inner = appendJSON(member.inner[:0], v.text)
			member.become(d.row, member.inner)
			q.add(e.row(el.root, member))
			return !q.decided
		})
	}
	return q.result(el.empty)
}

// scalar reports whether a column has one value in a row, and so no members.
func (e *Evaluator) scalar(r *ref) bool {
	switch r.access {
	case accessDicts, accessList, accessComputed:
		return false
	case accessEntry:
		return e.columns[r.column.index].items == nil
	default:
		return true
	}
}

// quantifying counts members until the result is known.
type quantifying struct {
	kind    ir.Quantifier
	members bool
	decided bool
	is      bool
}

func (q *quantifying) add(is bool) {
	q.members = true
	if is != (q.kind == ir.Every) { // one member is enough for any, and against the others
		q.decided, q.is = true, q.kind == ir.Some
	}
}

func (q *quantifying) result(empty bool) bool {
	switch {
	case !q.members:
		return empty
	case q.decided:
		return q.is
	}
	return q.kind != ir.Some
}

const hexDigits = "0123456789abcdef"

// appendJSON appends text as a JSON string.
func appendJSON(dst []byte, text string) []byte {
	dst = append(dst, '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"', c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
