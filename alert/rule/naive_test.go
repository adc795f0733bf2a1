package rule_test

import (
	"bytes"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// naiveEvent is one event for the reference evaluator: its columns as Arrow writes them
// as JSON, and its original as encoding/json reads it.
type naiveEvent struct {
	columns map[string]any
	doc     any
	event   any // the original if doc is a member of an array
}

func (ev naiveEvent) top() any {
	if ev.event != nil {
		return ev.event
	}
	return ev.doc
}

// naiveTime is a value of a column of times.
type naiveTime struct{ time.Time }

func naiveEvents(t testing.TB, batch arrow.RecordBatch) []naiveEvent {
	t.Helper()
	text, err := batch.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Raw []byte `json:"raw"`
	}
	var columns []map[string]any
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	decode(t, text, &columns)
	events := make([]naiveEvent, len(rows))
	for i := range rows {
		events[i].columns = columns[i]
		decode(t, rows[i].Raw, &events[i].doc)
		for _, name := range []string{"event_time", "stage_time"} {
			if text, ok := columns[i][name].(string); ok {
				at, err := time.Parse(time.RFC3339Nano, text)
				if err != nil {
					t.Fatal(err)
				}
				columns[i][name] = naiveTime{at}
			}
		}
	}
	return events
}

func decode(t testing.TB, text []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		t.Fatal(err)
	}
}

// The states of a naive leaf that are no value.
type absent string

const (
	missing   absent = "missing"
	null      absent = "null"
	emptyList absent = "empty"
)

func naive(e ir.Expr, ev naiveEvent) bool {
	switch e := e.(type) {
	case ir.And:
		for _, arg := range e {
			if !naive(arg, ev) {
				return false
			}
		}
		return true
	case ir.Or:
		for _, arg := range e {
			if naive(arg, ev) {
				return true
			}
		}
		return false
	case ir.Not:
		return !naive(e.Expr, ev)
	case *ir.Elements:
		return naiveElements(e, ev)
	case *ir.Relate:
		for _, left := range naiveValues(e.Left, ev) {
			for _, right := range naiveValues(e.Right, ev) {
				if naiveRelated(e, left, right) {
					return true
				}
			}
		}
		return false
	}
	return naiveTest(e.(*ir.Test), ev)
}

func naiveElements(e *ir.Elements, ev naiveEvent) bool {
	var members []any
	switch f := e.Array; {
	case f.Source == ir.Column && !f.Strict:
		members, _ = ev.columns[f.Column].([]any)
	case f.Source == ir.Computed:
		members = naiveLeaves(f, ev)
		if len(members) == 1 && members[0] == missing {
			members = nil
		}
	case f.Source == ir.Path:
		members = naiveMembers(ev.doc, f.Path)
	default:
		members = naiveMembers(ev.top(), naivePath(f))
	}
	n := 0
	for _, member := range members {
		if naive(e.Expr, naiveEvent{columns: ev.columns, event: ev.top(), doc: member}) {
			n++
		}
	}
	switch {
	case len(members) == 0:
		return e.Empty
	case e.Quantifier == ir.Some:
		return n > 0
	case e.Quantifier == ir.Every:
		return n == len(members)
	}
	return n == 0
}

// naiveMembers returns the members of all arrays at path, and looks through those on the way.
func naiveMembers(v any, path []string) []any {
	switch v := v.(type) {
	case []any:
		if len(path) == 0 {
			return v
		}
		var all []any
		for _, member := range v {
			all = append(all, naiveMembers(member, path)...)
		}
		return all
	case map[string]any:
		if len(path) > 0 {
			return naiveMembers(v[path[0]], path[1:])
		}
	}
	return nil
}

func naiveValues(f ir.Field, ev naiveEvent) []any {
	var all []any
	for _, leaf := range naiveLeaves(f, ev) {
		switch leaf.(type) {
		case absent, map[string]any:
		default:
			all = append(all, leaf)
		}
	}
	return all
}

func naiveRelated(r *ir.Relate, left, right any) bool {
	a, m, isNumber := naiveScalar(left)
	b, n, also := naiveScalar(right)
	m, numeric := asNumber(a, m, isNumber)
	n, numericToo := asNumber(b, n, also)
	if r.Within != 0 {
		if !numeric || !numericToo || !m.IsInt() || !n.IsInt() {
			return false
		}
		d := new(big.Rat).Sub(n, m)
		return d.Sign() >= 0 && d.Cmp(new(big.Rat).SetInt64(r.Within)) <= 0
	}
	if !r.Cased {
		a, b = naiveFold(a), naiveFold(b)
	}
	c := strings.Compare(a, b)
	switch r.Relation {
	case ir.Contains:
		return strings.Contains(a, b)
	case ir.StartsWith:
		return strings.HasPrefix(a, b)
	case ir.EndsWith:
		return strings.HasSuffix(a, b)
	case ir.Same, ir.Different:
		if isNumber && also {
			c = m.Cmp(n)
		}
	case ir.Less, ir.LessOrEqual, ir.Greater, ir.GreaterOrEqual:
		if numeric != numericToo {
			return false
		}
		if numeric {
			c = m.Cmp(n)
		}
	}
	return ordered(c, r.Relation)
}

func ordered(c int, r ir.Relation) bool {
	return map[ir.Relation]bool{
		ir.Less: c < 0, ir.LessOrEqual: c <= 0, ir.Greater: c > 0, ir.GreaterOrEqual: c >= 0, ir.Same: c == 0, ir.Different: c != 0,
	}[r]
}

// naiveFold takes the least of the characters that are equal but for case.
func naiveFold(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for c := unicode.SimpleFold(r); c != r; c = unicode.SimpleFold(c) {
			least = min(least, c)
		}
		if least <= unicode.MaxASCII {
			least = unicode.ToLower(least)
		}
		return least
	}, s)
}

func naiveTest(t *ir.Test, ev naiveEvent) bool {
	results := map[bool]int{}
	leaves := naiveLeaves(t.Field, ev)
	if f := t.Field; f.Source == ir.Column && !f.Strict && len(leaves) == 1 && leaves[0] == missing && ev.columns[f.Column] == nil && asksForEmpty(t) {
		leaves[0] = yes{} // for a column's name '' and absent are one
	}
	for _, leaf := range leaves {
		result := false
		switch leaf {
		case yes{}:
			result = true
		case missing:
			result = t.Missing
		case null:
			result = t.Null
		case emptyList:
			result = t.Empty
		default:
			for _, m := range t.AnyOf {
				result = result || naiveMatch(m, leaf)
			}
		}
		results[result]++
	}
	if t.Every {
		return results[false] == 0
	}
	return results[true] > 0
}

func naiveLeaves(f ir.Field, ev naiveEvent) []any {
	switch {
	case f.Source == ir.Leaves:
		return scalars(ev.doc)
	case f.Source == ir.Computed:
		text, err := json.Marshal(ev.doc)
		if err != nil {
			return nil
		}
		var values ir.Values
		f.Extract(text, &values)
		leaves := []any{}
		for _, text := range values.Texts() {
			leaves = append(leaves, text)
		}
		if len(leaves) == 0 {
			return []any{missing}
		}
		return leaves
	case f.Source == ir.Path:
		return walk(ev.doc, f.Path)
	case f.Source == ir.Entry || f.Strict: // a column is the event's, even inside a member
		return walk(ev.top(), naivePath(f))
	}
	v := ev.columns[f.Column]
	if list, ok := v.([]any); v == nil || ok && len(list) == 0 {
		return []any{missing}
	}
	return walk(v, nil)
}

// naivePath is where a field stands in the original.
func naivePath(f ir.Field) []string {
	if f.Source == ir.Entry {
		path := map[string][]string{
			"annotations": {"annotations"}, "extra": {"user", "extra"}, "impersonated_extra": {"impersonatedUser", "extra"},
		}[f.Column]
		return append(slices.Clip(path), f.Key)
	}
	return f.Path
}

// yes is a leaf that satisfies every test.
type yes struct{}

func asksForEmpty(t *ir.Test) bool {
	for _, m := range t.AnyOf {
		if text, ok := m.(ir.Text); ok && len(text.Parts) == 0 {
			return true
		}
	}
	return false
}

func walk(v any, path []string) []any {
	switch v := v.(type) {
	case []any:
		var leaves []any
		for _, member := range v {
			leaves = append(leaves, walk(member, path)...)
		}
		if len(v) == 0 && len(path) == 0 {
			return []any{emptyList}
		}
		if len(v) == 0 {
			return []any{missing}
		}
		return leaves
	case map[string]any:
		if len(path) > 0 {
			member, ok := v[path[0]]
			if !ok {
				return []any{missing}
			}
			return walk(member, path[1:])
		}
	case nil:
		if len(path) == 0 {
			return []any{null}
		}
	}
	if len(path) > 0 {
		return []any{missing}
	}
	return []any{v}
}

func scalars(v any) []any {
	var all []any
	switch v := v.(type) {
	case []any:
		for _, member := range v {
			all = append(all, scalars(member)...)
		}
	case map[string]any:
		for _, member := range v {
			all = append(all, scalars(member)...)
		}
	case nil:
	default:
		all = append(all, v)
	}
	return all
}
