package rule_test

import (
	"bytes"
	"encoding/json"
	"math/big"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// naiveEvent is one event for the reference evaluator: its columns as Arrow writes them
// as JSON, and its original as encoding/json reads it.
type naiveEvent struct {
	columns map[string]any
	doc     any
}

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
	}
	return naiveTest(e.(*ir.Test), ev)
}

func naiveTest(t *ir.Test, ev naiveEvent) bool {
	results := map[bool]int{}
	for _, leaf := range naiveLeaves(t, ev) {
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

func naiveLeaves(t *ir.Test, ev naiveEvent) []any {
	f := t.Field
	switch {
	case f.Source == ir.Leaves:
		return scalars(ev.doc)
	case f.Source == ir.Entry:
		path := map[string][]string{
			"annotations": {"annotations"}, "extra": {"user", "extra"}, "impersonated_extra": {"impersonatedUser", "extra"},
		}[f.Column]
		return walk(ev.doc, append(slices.Clip(path), f.Key))
	case f.Source == ir.Path || f.Strict:
		return walk(ev.doc, f.Path)
	}
	v := ev.columns[f.Column]
	if list, ok := v.([]any); v == nil || ok && len(list) == 0 {
		if t.Missing || !ok && asksForEmpty(t) { // for a column's name '' and absent are one
			return []any{yes{}}
		}
		return []any{missing}
	}
	return walk(v, nil)
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

func naiveMatch(m ir.Match, leaf any) bool {
	text, isObject := "", false
	number, isNumber := new(big.Rat), false
	switch v := leaf.(type) {
	case map[string]any:
		isObject = true
	case string:
		text = v
	case json.Number:
		text = v.String()
		_, isNumber = number.SetString(text)
	case bool:
		text = map[bool]string{true: "true", false: "false"}[v]
	}
	switch m := m.(type) {
	case ir.Any:
		return true
	case ir.Text:
		if isObject {
			return len(m.Parts) == 1 && m.Parts[0].Wild == ir.Many
		}
		return naivePattern(m).MatchString(text)
	case ir.Equal:
		return !isObject && (isNumber && number.Cmp(rat(m.Number)) == 0 || text == m.Number.String())
	case ir.Compare:
		if !isNumber && regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?$`).MatchString(text) {
			_, isNumber = number.SetString(text)
		}
		if !isNumber {
			return false
		}
		c := number.Cmp(rat(m.Number))
		return map[ir.Relation]bool{
			ir.Less: c < 0, ir.LessOrEqual: c <= 0, ir.Greater: c > 0, ir.GreaterOrEqual: c >= 0,
		}[m.Relation]
	case ir.Regexp:
		return !isObject && m.MatchString(text)
	case ir.Network:
		ip := net.ParseIP(text)
		_, network, err := net.ParseCIDR(m.Prefix.String())
		return err == nil && ip != nil && network.Contains(ip)
	}
	return false
}

func rat(n ir.Number) *big.Rat {
	if n.IsFloat {
		return new(big.Rat).SetFloat64(n.Float)
	}
	return new(big.Rat).SetInt64(n.Int)
}

var patterns sync.Map // of regular expressions by text: compiling them is most of the time

func naivePattern(t ir.Text) *regexp.Regexp {
	key := t.String()
	if re, ok := patterns.Load(key); ok {
		return re.(*regexp.Regexp)
	}
	re := compilePattern(t)
	patterns.Store(key, re)
	return re
}

func compilePattern(t ir.Text) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("(?s")
	if !t.Cased {
		b.WriteString("i")
	}
	b.WriteString(")^")
	for _, p := range t.Parts {
		switch p.Wild {
		case ir.One:
			b.WriteString(".")
		case ir.Many:
			b.WriteString(".*")
		case ir.NotWild:
			b.WriteString(regexp.QuoteMeta(p.Literal))
		}
	}
	b.WriteString("$")
	return regexp.MustCompile(b.String())
}
