package rule

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// values calls visit for each value of a field but objects, until it returns false. A value is
// valid until the next call of visit. A strict column that is blank is looked up in the original.
func (e *Evaluator) values(r *ref, d *document, visit func(value) bool) {
	if r.scope.event {
		d = e.event
	}
	switch r.access {
	case accessRaw:
		e.leaves(r, d, visit)
	case accessLeaves:
		_, err := eachLeaf(e.original(d), func(text []byte) bool { return !visit(jsonValue(text, &e.buf)) })
		d.found.check(err)
	case accessComputed:
		for _, text := range e.extracted(d, r.extract) {
			if !visit(value{text: text}) {
				return
			}
		}
	case accessEntry:
		e.columns[r.column.index].entry(d.row, r.key, func(text string) bool { return visit(value{text: text}) })
	case accessMap, accessElements, accessRelate: // objects and no fields
	default:
		if r.strict && e.blankRef(r, d.row) {
			e.leaves(r, d, visit)
			return
		}
		c := e.columns[r.column.index]
		if c.array != nil {
			cells(c.array, d.row, &c.scratch, visit)
		}
	}
}

func (e *Evaluator) leaves(r *ref, d *document, visit func(value) bool) {
	for _, l := range e.paths(d).leaves(r.path) {
		if l.state != leafValue {
			continue
		}
		if v := jsonValue(l.text, &e.buf); !v.object && !visit(v) {
			return
		}
	}
}

// cells calls visit for each value of a row of a column that is no map, until it returns false.
func cells(a arrow.Array, row int, scratch *[]byte, visit func(value) bool) bool {
	if a.IsNull(row) {
		return true
	}
	number := func(n int64, time bool) bool {
		*scratch = strconv.AppendInt((*scratch)[:0], n, 10)
		return visit(value{text: alias(*scratch), number: true, time: time})
	}
	switch a := a.(type) {
	case *array.Dictionary:
		return cells(a.Dictionary(), a.GetValueIndex(row), scratch, visit)
	case *array.String:
		return visit(value{text: a.Value(row)})
	case *array.Binary:
		return visit(value{text: alias(a.Value(row))})
	case *array.FixedSizeBinary:
		*scratch = hex.AppendEncode((*scratch)[:0], a.Value(row))
		return visit(value{text: alias(*scratch)})
	case *array.Uint16:
		return number(int64(a.Value(row)), false)
	case *array.Int32:
		return number(int64(a.Value(row)), false)
	case *array.Int64:
		return number(a.Value(row), false)
	case *array.Timestamp:
		return number(int64(a.Value(row)), true)
	case *array.List:
		start, end := a.ValueOffsets(row)
		for i := start; i < end; i++ {
			if !cells(a.ListValues(), int(i), scratch, visit) {
				return false
			}
		}
	}
	return true
}

// operand holds the values of one side of a relation.
type operand struct {
	texts   []byte
	ends    []int
	numbers []bool
}

func (o *operand) at(i int) value {
	from := 0
	if i > 0 {
		from = o.ends[i-1]
	}
	return value{text: alias(o.texts[from:o.ends[i]]), number: o.numbers[i]}
}

// relates reports whether a value of one field stands in the relation to one of the other.
func (e *Evaluator) relates(r *relate, d *document) bool {
	left := &e.operand
	left.texts, left.ends, left.numbers = left.texts[:0], left.ends[:0], left.numbers[:0]
	e.values(&r.left, d, func(v value) bool {
		left.texts = append(left.texts, v.text...)
		left.ends, left.numbers = append(left.ends, len(left.texts)), append(left.numbers, v.number)
		return true
	})
	is := false
	if len(left.ends) == 0 {
		return false
	}
	e.values(&r.right, d, func(v value) bool {
		for i := range left.ends {
			if is = r.holds(left.at(i), v, e); is {
				return false
			}
		}
		return true
	})
	return is
}

// holds compares two values: numbers by what they are worth, all else by text.
func (r *relate) holds(a, b value, e *Evaluator) bool {
	if r.within != 0 {
		return r.near(a, b)
	}
	if order, decided := r.numbers(a, b); decided {
		return related(order, r.relation)
	}
	if !r.cased {
		a.text, b.text = folded(a.text, &e.fold), folded(b.text, &e.foldRight)
	}
	switch r.relation {
	case ir.Contains:
		return strings.Contains(a.text, b.text)
	case ir.StartsWith:
		return strings.HasPrefix(a.text, b.text)
	case ir.EndsWith:
		return strings.HasSuffix(a.text, b.text)
	default:
		return (r.relation == ir.Same || r.relation == ir.Different || !mixed(a, b)) &&
			related(strings.Compare(a.text, b.text), r.relation)
	}
}

// near reports whether a is not after b and at most within before it.
func (r *relate) near(a, b value) bool {
	m, isNumber := parseNumber(a.text)
	n, also := parseNumber(b.text)
	// The difference of unsigned numbers does not overflow.
	return isNumber && also && !m.IsFloat && !n.IsFloat && m.Int <= n.Int && uint64(n.Int)-uint64(m.Int) <= uint64(r.within)
}

// numbers compares two values that are to be compared as numbers: two numbers, and for an order
// also two texts that are numbers.
func (r *relate) numbers(a, b value) (order int, decided bool) {
	switch r.relation {
	case ir.Contains, ir.StartsWith, ir.EndsWith:
		return 0, false
	case ir.Same, ir.Different:
		if !a.number || !b.number {
			return 0, false
		}
	case ir.Less, ir.LessOrEqual, ir.Greater, ir.GreaterOrEqual:
	}
	m, isNumber := parseNumber(a.text)
	n, also := parseNumber(b.text)
	return compareNumbers(m, n), isNumber && also
}

// mixed reports whether only one of the values is a number: nothing orders those.
func mixed(a, b value) bool {
	_, isNumber := parseNumber(a.text)
	_, also := parseNumber(b.text)
	return isNumber != also
}

// Values returns the values of a field of an event; nil if it is absent. Null is no value; an
// object, or a map column, is its compact JSON text; times are RFC 3339 in UTC. It may be called
// for any row of the batch, by the yield of Match alone. The texts share no memory with the batch.
func (e *Evaluator) Values(row int, field ir.Field) []string {
	if field.Source == ir.Column || field.Source == ir.Entry {
		if texts := e.columnTexts(row, field); texts != nil || !field.Strict {
			return texts
		}
	}
	if e.shown.row != row || !e.shown.loaded {
		e.shown.reset(row)
		e.shown.data, e.shown.loaded = e.originalOf(row), true
	}
	var texts []string
	add := func(text []byte) bool {
		texts = append(texts, shown(text))
		return false
	}
	switch field.Source {
	case ir.Computed:
		var values ir.Values
		field.Extract(e.shown.data, &values)
		for _, text := range values.Texts() {
			texts = append(texts, strings.Clone(text))
		}
	case ir.Leaves:
		_, _ = eachLeaf(e.shown.data, add) // what stands before the damage is shown
	default:
		s := newScope(false)
		at := s.below(field.Path)
		e.shown.found.begin(s, e.shown.data)
		for _, l := range e.shown.found.leaves(at) {
			if l.state == leafValue {
				add(l.text)
			}
		}
	}
	return texts
}

// shown is the text of a JSON value: of an object its compact JSON.
func shown(text []byte) string {
	var buf []byte
	if v := jsonValue(text, &buf); !v.object {
		return strings.Clone(v.text)
	}
	var compact bytes.Buffer
	if json.Compact(&compact, text) != nil {
		return string(text)
	}
	return compact.String()
}

// columnTexts returns the values of a column or of an entry of a map column.
func (e *Evaluator) columnTexts(row int, field ir.Field) []string {
	a := schemas.ColumnArray(e.batch, field.Column)
	if a == nil || a.IsNull(row) {
		return nil
	}
	var texts []string
	var scratch []byte
	add := func(v value) bool {
		if v.time {
			micros, _ := strconv.ParseInt(v.text, 10, 64)
			v.text = time.UnixMicro(micros).UTC().Format(time.RFC3339Nano)
		}
		texts = append(texts, strings.Clone(v.text))
		return true
	}
	m, isMap := a.(*array.Map)
	switch {
	case !isMap:
		cells(a, row, &scratch, add)
	case field.Source == ir.Entry:
		start, end := m.ValueOffsets(row)
		for i := int(start); i < int(end); i++ {
			key := ""
			cells(m.Keys(), i, &scratch, func(v value) bool { key = v.text; return true })
			if key == field.Key {
				cells(m.Items(), i, &scratch, add)
				break
			}
		}
	default:
		if text := mapText(m, row); text != "" {
			texts = append(texts, text)
		}
	}
	return texts
}

// mapText is a row of a map column as compact JSON; empty if it has no entry.
func mapText(m *array.Map, row int) string {
	start, end := m.ValueOffsets(row)
	if start == end {
		return ""
	}
	var scratch []byte
	out := []byte{'{'}
	for i := int(start); i < int(end); i++ {
		if i > int(start) {
			out = append(out, ',')
		}
		cells(m.Keys(), i, &scratch, func(v value) bool { out = appendJSON(out, v.text); return true })
		out = append(out, ':')
		list, isList := m.Items().(*array.List)
		if !isList {
			cells(m.Items(), i, &scratch, func(v value) bool { out = appendJSON(out, v.text); return true })
			continue
		}
		from, to := list.ValueOffsets(i)
		out = append(out, '[')
		for j := int(from); j < int(to); j++ {
			if j > int(from) {
				out = append(out, ',')
			}
			cells(list.ListValues(), j, &scratch, func(v value) bool { out = appendJSON(out, v.text); return true })
		}
		out = append(out, ']')
	}
	return string(append(out, '}'))
}
