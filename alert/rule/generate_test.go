package rule_test

import (
	"encoding/json"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
)

// expr returns a random condition on an event, or on a member of an array.
func (g generator) expr(depth int, member bool) ir.Expr {
	made := &g.made[map[bool]int{true: 1}[member]]
	if len(*made) > 0 && g.IntN(4) == 0 {
		return pick(g, *made...)
	}
	e := g.newExpr(depth, member)
	*made = append(*made, e)
	return e
}

func (g generator) newExpr(depth int, member bool) ir.Expr {
	if depth > 0 {
		switch g.IntN(8) {
		case 0:
			return ir.Not{Expr: g.expr(depth-1, member)}
		case 1, 2:
			return ir.And{g.expr(depth-1, member), g.expr(depth-1, member), g.expr(0, member)}
		case 3:
			return ir.Or{g.expr(depth-1, member), g.expr(depth-1, member)}
		case 4, 5:
			return &ir.Elements{
				Array: g.array(member), Quantifier: pick(g, ir.Some, ir.Every, ir.None),
				Expr: g.expr(depth-1, true), Empty: g.IntN(2) == 0,
			}
		}
	}
	if g.IntN(24) == 0 {
		return &ir.Relate{Left: g.field(member), Right: g.field(member), Within: pick(g, int64(1), 2, 100, math.MaxInt64)}
	}
	if g.IntN(6) == 0 {
		return &ir.Relate{
			Left: g.field(member), Right: g.field(member), Cased: g.IntN(2) == 0,
			Relation: pick(g, ir.Less, ir.LessOrEqual, ir.Greater, ir.GreaterOrEqual, ir.Same, ir.Different, ir.Contains, ir.StartsWith, ir.EndsWith),
		}
	}
	return &ir.Test{
		Field: g.field(member), AnyOf: []ir.Match{g.match(), g.match()}[:1+g.IntN(2)], Every: g.IntN(3) == 0,
		Missing: g.IntN(4) == 0, Null: g.IntN(4) == 0, Empty: g.IntN(4) == 0,
	}
}

func (g generator) field(member bool) ir.Field {
	switch g.IntN(8) {
	case 0:
		return textsOf(pick(g, "a", "b", "x", "verb", "requestObject"))
	case 1:
		return ir.WholeEvent()
	}
	if member && g.IntN(6) > 0 {
		return ir.Field{Source: ir.Path, Path: pick(g, nil, nil, []string{"b"}, []string{"a"}, []string{"b", "x"}, []string{"x"}), Strict: true}
	}
	return g.column(append([]string{"event_time", "stage_time", "stageTimestamp", "level", "actor", "source_ips"}, genFields...)...)
}

func (g generator) column(names ...string) ir.Field {
	name := pick(g, names...)
	field, ok := ir.NewFields().Resolve(name)
	if !ok {
		panic("there is no field " + name)
	}
	return field
}

func (g generator) array(member bool) ir.Field {
	if member && g.IntN(4) > 0 {
		return ir.Field{Source: ir.Path, Path: pick(g, nil, []string{"b"}, []string{"a"}, []string{"a", "b"})}
	}
	if g.IntN(8) == 0 {
		return textsOf(pick(g, "a", "verb"))
	}
	return g.column("requestObject", "requestObject.a", "requestObject.a.b", "requestObject.c.d", "requestObject.c", "user.groups", "groups",
		"sourceIPs", "source_ips", "extra.k", "user.extra.k", "verb", "objectRef.name", "annotations.a/b", "command")
}

// textsOf is a computed field: the scalars under a key of an object and in the list there.
func textsOf(key string) ir.Field {
	return ir.Field{Name: "texts of " + key, Source: ir.Computed, Extract: func(event []byte, out *ir.Values) {
		var object map[string]any
		if json.Unmarshal(event, &object) != nil {
			return
		}
		list, ok := object[key].([]any)
		if !ok {
			list = []any{object[key]}
		}
		for _, v := range list {
			switch v := v.(type) {
			case string:
				out.Add(v)
			case float64:
				out.AddCopy(strconv.AppendFloat(nil, v, 'g', -1, 64))
			}
		}
	}}
}

func (g generator) match() ir.Match {
	text := pick(g, genTexts...)
	number := pick(g, ir.Number{Int: 1, Float: 1}, ir.Number{Int: 403, Float: 403}, ir.Number{Float: 1.5, IsFloat: true}, ir.Number{Int: -1, Float: -1})
	relation := pick(g, ir.Less, ir.LessOrEqual, ir.Greater, ir.GreaterOrEqual, ir.Same, ir.Different)
	switch g.IntN(11) {
	case 0:
		return ir.Any{}
	case 1:
		return ir.Equal{Number: number}
	case 2:
		return ir.Compare{Relation: relation, Number: number}
	case 3:
		return ir.Regexp{Regexp: regexp.MustCompile(pick(g, "^a", ".", "^$", "e.*t", "(?i)^[a-f]"))}
	case 4:
		return ir.Network{Prefix: netip.MustParsePrefix(pick(g, "10.0.0.0/8", "::/0", "0.0.0.0/0", "::1/128"))}
	case 5:
		return ir.Order{Relation: pick(g, ir.Less, ir.LessOrEqual, ir.Greater, ir.GreaterOrEqual), Text: text}
	case 6:
		return ir.Glob{Pattern: pick(g, "*", "?", "a*", "*B*", "[a-c]*", "[!a]", `a\*b`, "*s", "", "k", "G?T", "é"), Fold: g.IntN(2) == 0}
	case 7:
		return ir.PathPrefix{Path: pick(g, "/api", "/api/v1", "/api/v1/x", "/", "/a*", "a", "//api//", "/api/[v]?")}
	case 8:
		return ir.TimePart{
			Part: pick(g, "minute", "hour", "day", "week", "month", "year"), Relation: relation,
			Number: pick(g, int64(0), 1, 12, 23, 30, 31, 53, 2025, 2026),
		}
	}
	parts := []ir.Part{{Literal: text}, {Wild: pick(g, ir.One, ir.Many)}, {Literal: pick(g, genTexts...)}}
	parts = slices.DeleteFunc(parts[:g.IntN(4)], func(p ir.Part) bool { return p.Wild == ir.NotWild && p.Literal == "" })
	return ir.Text{Parts: parts, Cased: g.IntN(2) == 0}
}

// differInValues compares the values of random fields of random rows.
func (g generator) differInValues(t *testing.T, e *rule.Evaluator, batch arrow.RecordBatch, events []naiveEvent) {
	t.Helper()
	type shown struct {
		Row    int
		Field  string
		Values []string
	}
	var want, got []shown
	matched := false
	err := e.Match(batch, func(_, row int) {
		matched = true
		f := g.field(false)
		var values []string
		for _, leaf := range naiveLeaves(f, events[row]) {
			switch v := leaf.(type) {
			case absent:
			case map[string]any:
				values = append(values, "an object")
			case naiveTime:
				values = append(values, v.UTC().Format("2006-01-02T15:04:05.999999Z07:00"))
			default:
				text, _, _ := naiveScalar(v)
				values = append(values, text)
			}
		}
		if f.Source == ir.Leaves { // encoding/json forgets the order
			slices.Sort(values)
		}
		want = append(want, shown{row, f.String(), values})
		values = e.Values(row, f)
		if f.Source == ir.Leaves {
			slices.Sort(values)
		}
		for i, v := range values {
			if v != "" && v[0] == '{' && json.Valid([]byte(v)) {
				values[i] = "an object"
			}
		}
		got = append(got, shown{row, f.String(), values})
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" && matched {
		t.Fatalf("values (-reference +engine):\n%s", d)
	}
}
