package rule_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
)

func path(keys ...string) ir.Field { return ir.Field{Source: ir.Path, Path: keys, Strict: true} }

func column(t *testing.T, name string) ir.Field {
	t.Helper()
	f, ok := ir.NewFields().Resolve(name)
	if !ok {
		t.Fatalf("no field %s", name)
	}
	return f
}

func is(f ir.Field, text string) *ir.Test {
	return &ir.Test{Field: f, AnyOf: []ir.Match{ir.Text{Parts: []ir.Part{{Literal: text}}}}}
}

func exists(f ir.Field) *ir.Test {
	return &ir.Test{Field: f, AnyOf: []ir.Match{ir.Any{}}, Null: true, Empty: true}
}

func set(t *testing.T, conditions ...ir.Expr) *rule.Set {
	t.Helper()
	var rules []rule.Rule
	for i, c := range conditions {
		rules = append(rules, rule.Rule{Meta: ir.Meta{ID: string(rune('a' + i))}, Condition: c})
	}
	s, err := rule.Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestElements(t *testing.T) {
	containers := path("requestObject", "spec", "containers")
	raws := []string{
		`{"requestObject":{"spec":{"containers":[{"name":"a","priv":true},{"name":"b"}]}}}`,
		`{"requestObject":{"spec":{"containers":[{"name":"a"},{"name":"b","priv":true}]}}}`,
		`{"requestObject":{"spec":{"containers":[]}}}`,
		`{"requestObject":{"spec":{"containers":null}}}`,
		`{"requestObject":{"spec":{"containers":{"name":"a","priv":true}}}}`, // an object is no array
		`{"verb":"create"}`,
		`{"requestObject":[{"spec":{"containers":[{"name":"b"}]}},{"spec":{"containers":[{"name":"a","priv":true}]}}]}`,
		`{"requestObject":{"spec":{"containers":["a",null,7]}}}`,
		`{"requestObject":{"spec":{"containers":[{"name":"a","caps":[{"add":["X","Y"]}]}]}}}`,
	}
	same := ir.And{is(path("name"), "a"), is(path("priv"), "true")}
	quantified := func(q ir.Quantifier, empty bool, e ir.Expr) ir.Expr {
		return &ir.Elements{Array: containers, Quantifier: q, Expr: e, Empty: empty}
	}
	for _, tt := range []struct {
		name string
		expr ir.Expr
		want []int
	}{
		{"any", quantified(ir.Some, false, same), []int{0, 6}},
		{"any or empty", quantified(ir.Some, true, same), []int{0, 2, 3, 4, 5, 6}},
		{"all", quantified(ir.Every, false, exists(path("name"))), []int{0, 1, 6, 8}},
		{"all or empty", quantified(ir.Every, true, exists(path("name"))), []int{0, 1, 2, 3, 4, 5, 6, 8}},
		{"none", quantified(ir.None, true, same), []int{1, 2, 3, 4, 5, 7, 8}},
		{"none but not empty", quantified(ir.None, false, same), []int{1, 7, 8}},
		{"scalar member", quantified(ir.Some, false, is(path(), "A")), []int{7}},
		{"null member", quantified(ir.Some, false, &ir.Test{Field: path(), Null: true}), []int{7}},
		{"number member", quantified(ir.Some, false, &ir.Test{Field: path(), AnyOf: []ir.Match{
			ir.Compare{Relation: ir.Greater, Number: ir.Number{Int: 6, Float: 6}},
		}}), []int{7}},
		{"keyword in a member", quantified(ir.Some, false, ir.And{is(ir.WholeEvent(), "a"), is(ir.WholeEvent(), "true")}), []int{0, 6}},
		{"nested", quantified(ir.Some, false, &ir.Elements{
			Array: path("caps", "add"), Quantifier: ir.Some, Expr: is(path(), "y"),
		}), []int{8}},
		{"column inside", quantified(ir.Some, true, is(column(t, "verb"), "create")), []int{2, 3, 4, 5}}, // empty, whatever the verb
		{"not", ir.Not{Expr: quantified(ir.Some, false, same)}, []int{1, 2, 3, 4, 5, 7, 8}},
	} {
		batch := batchOf(t, raws...)
		s := set(t, tt.expr)
		var got, naive []int
		for _, h := range evaluate(t, s.NewEvaluator(), batch) {
			got = append(got, h.Row)
		}
		for _, h := range reference(s, naiveEvents(t, batch)) {
			naive = append(naive, h.Row)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: engine (-want +got):\n%s", tt.name, d)
		}
		if d := cmp.Diff(tt.want, naive); d != "" {
			t.Errorf("%s: reference (-want +got):\n%s", tt.name, d)
		}
	}
}

// Lists that are columns have members, too.
func TestElementsOfColumns(t *testing.T) {
	batch := batchOf(t,
		`{"user":{"groups":["a\"b\n","b"],"extra":{"k":["x","y"]}},"annotations":{"k":"x"}}`,
		`{"user":{"groups":["b"],"extra":{"k":["x"]}}}`, `{}`)
	every := func(f ir.Field, e ir.Expr) ir.Expr { return &ir.Elements{Array: f, Quantifier: ir.Every, Expr: e} }
	s := set(t,
		every(column(t, "groups"), is(path(), "b")), every(column(t, "user.groups"), is(path(), "b")),
		every(column(t, "user.extra.k"), is(path(), "x")), every(column(t, "annotations.k"), is(path(), "x")),
		&ir.Elements{Array: column(t, "groups"), Quantifier: ir.Some, Expr: is(path(), "a\"b\n")})
	if d := cmp.Diff([]hit{{4, 0}, {0, 1}, {1, 1}, {2, 1}}, evaluate(t, s.NewEvaluator(), batch)); d != "" {
		t.Errorf("hits (-want +got):\n%s", d)
	}
}

func TestRelate(t *testing.T) {
	batch := batchOf(t,
		`{"user":{"username":"Alice"},"objectRef":{"name":"ALICE"},"requestObject":{"a":[1,2],"b":"10","c":10.0}}`,
		`{"user":{"username":"alice-admin"},"objectRef":{"name":"alice"},"requestObject":{"a":9,"b":"x"}}`,
		`{"user":{"username":""},"objectRef":{"name":""}}`, `{"user":{"username":"x"}}`)
	relate := func(left string, r ir.Relation, right string, cased bool) ir.Expr {
		return &ir.Relate{Left: column(t, left), Right: column(t, right), Relation: r, Cased: cased}
	}
	for _, tt := range []struct {
		name string
		expr ir.Expr
		want []int
	}{
		{"same but for case", relate("user.username", ir.Same, "objectRef.name", false), []int{0, 2}},
		{"same", relate("user.username", ir.Same, "objectRef.name", true), []int{2}},
		{"same by the columns' names", relate("user", ir.Same, "name", false), []int{0}},
		{"different", relate("user.username", ir.Different, "objectRef.name", true), []int{0, 1}},
		{"starts with", relate("user.username", ir.StartsWith, "objectRef.name", true), []int{1, 2}},
		{"contains", relate("user.username", ir.Contains, "objectRef.name", false), []int{0, 1, 2}},
		{"ends with", relate("objectRef.name", ir.EndsWith, "user.username", false), []int{0, 2}},
		{"less as numbers", relate("requestObject.a", ir.Less, "requestObject.b", true), []int{0}},
		{"greater as numbers", relate("requestObject.a", ir.Greater, "requestObject.b", true), nil},
		{"number and digits", relate("requestObject.b", ir.GreaterOrEqual, "requestObject.c", true), []int{0}},
		{"a number's digits", relate("requestObject.b", ir.Same, "requestObject.c", true), nil},
		{"absent", relate("requestObject.b", ir.Different, "requestObject.nothing", true), nil},
	} {
		s := set(t, tt.expr)
		var got []int
		for _, h := range evaluate(t, s.NewEvaluator(), batch) {
			got = append(got, h.Row)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

// A computed field costs one call for each row that gets so far, whatever the rules.
func TestComputedOnce(t *testing.T) {
	calls := 0
	field := ir.Field{Name: "count", Source: ir.Computed, Extract: func(_ []byte, out *ir.Values) {
		calls++
		out.Add("one")
		out.AddCopy([]byte("two"))
	}}
	created := is(column(t, "verb"), "create")
	s := set(t, ir.And{is(field, "two"), created}, ir.And{created, is(field, "ONE")}, ir.And{created, ir.Not{Expr: exists(field)}},
		ir.And{created, &ir.Test{Field: field, AnyOf: is(field, "one").AnyOf, Every: true}})
	batch := batchOf(t, `{"verb":"get"}`, `{"verb":"create"}`, `{"verb":"create"}`, `{"verb":"list"}`)
	if d := cmp.Diff([]hit{{0, 1}, {1, 1}, {0, 2}, {1, 2}}, evaluate(t, s.NewEvaluator(), batch)); d != "" {
		t.Errorf("hits (-want +got):\n%s", d)
	}
	if calls != 2 {
		t.Errorf("%d calls, want 2", calls)
	}
}

func TestValues(t *testing.T) {
	batch := batchOf(t, pod, `{"verb":"get","requestReceivedTimestamp":"2026-02-03T04:05:06.7Z","requestObject":{"m":{ "a": [1, 2] }}}`)
	field := ir.Field{Name: "f", Source: ir.Computed, Extract: func(event []byte, out *ir.Values) { out.AddCopy(event[1:7]) }}
	e := set(t, exists(column(t, "verb"))).NewEvaluator()
	got := []map[string][]string{{}, {}}
	names := []string{
		"verb", "code", "responseStatus.code", "groups", "sourceIPs", "objectRef.name", "user.extra.scopes", "user.extra.none", "user.extra.nothing",
		"annotations.authorization.k8s.io/reason", "requestObject.spec.containers.name", "requestObject.spec.volumes.hostPath",
		"requestObject.spec.line", "requestObject.metadata.note", "requestObject.m", "event_time", "decision",
	}
	err := e.Match(batch, func(_, row int) {
		for _, name := range names {
			if v := e.Values(row, column(t, name)); v != nil {
				got[row][name] = v
			}
		}
		got[row]["computed"] = e.Values(row, field)
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []map[string][]string{
		{
			"verb": {"create"}, "code": {"201"}, "responseStatus.code": {"201"}, "groups": {"dev", "system:authenticated"},
			"sourceIPs": {"10.1.2.3", "::ffff:192.0.2.7", "2001:db8::1"}, "user.extra.scopes": {"a", "b"},
			"annotations.authorization.k8s.io/reason": {""}, "requestObject.spec.containers.name": {"m", "n"},
			"requestObject.spec.volumes.hostPath": {`{"path":"/etc"}`}, "requestObject.spec.line": {"a\nb"},
			"decision": {"allow"}, "computed": {`"verb"`},
		},
		{"verb": {"get"}, "requestObject.m": {`{"a":[1,2]}`}, "event_time": {"2026-02-03T04:05:06.7Z"}, "computed": {`"verb"`}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("values (-want +got):\n%s", d)
	}
}

func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		match   ir.Match
		yes, no []string
	}{
		{ir.Glob{Pattern: "/usr/*"}, []string{"/usr/", "/usr/a/b", "/usr/é\n"}, []string{"/usr", "x/usr/a", "/USR/a"}},
		{ir.Glob{Pattern: "a?c"}, []string{"abc", "aéc", "a/c", "a\xffc"}, []string{"ac", "abbc"}},
		{ir.Glob{Pattern: "[a-cx]1"}, []string{"a1", "c1", "x1"}, []string{"d1", "A1", "a"}},
		{ir.Glob{Pattern: "[!a-c]"}, []string{"d", "é"}, []string{"a", "", "dd"}},
		{ir.Glob{Pattern: "[]x]"}, []string{"]", "x"}, []string{"[", "[]x]"}},
		{ir.Glob{Pattern: "[^]x]"}, []string{"a"}, []string{"]", "x"}},
		{ir.Glob{Pattern: "[a-]"}, []string{"a", "-"}, []string{"b"}},
		{ir.Glob{Pattern: "[[:digit:]_][[:upper:]]"}, []string{"1A", "_Z"}, []string{"aA", "1a"}},
		{ir.Glob{Pattern: `[\]]`}, []string{"]"}, []string{`\`}},
		{ir.Glob{Pattern: "[abc"}, []string{"[abc"}, []string{"a"}},
		{ir.Glob{Pattern: `\*a\`}, nil, []string{"*a", `*a\`}},
		{ir.Glob{Pattern: `\*a`}, []string{"*a"}, []string{`\*a`, "xa"}},
		{ir.Glob{Pattern: "*.LOG", Fold: true}, []string{"x.log", ".Log"}, []string{"x.logs"}},
		{ir.Glob{Pattern: "[A-C]é", Fold: true}, []string{"bé"}, []string{"bÉ"}},
		{ir.Glob{Pattern: "k", Fold: true}, []string{"K"}, []string{"\u212a"}},
		{ir.Glob{Pattern: ""}, []string{""}, []string{"a"}},
		{ir.PathPrefix{Path: "/var/run"}, []string{"/var/run", "/var/run/docker", "//var//run/", "var/run/x"}, []string{"/var", "/var/runner", "/"}},
		{ir.PathPrefix{Path: "/"}, []string{"/", "/a", ""}, nil},
		{ir.PathPrefix{Path: "/home/*/.ssh"}, []string{"/home/a/.ssh/id"}, []string{"/home/.ssh", "/home/a/b/.ssh"}},
		{ir.Order{Relation: ir.Less, Text: "10"}, []string{"0", "", "1"}, []string{"10", "9", "a"}},
		{ir.Order{Relation: ir.GreaterOrEqual, Text: "b"}, []string{"b", "c", "ba"}, []string{"a", "B"}},
		{ir.Compare{Relation: ir.Same, Number: ir.Number{Int: 10, Float: 10}}, []string{"10", "1e1"}, []string{"11", "x"}},
		{
			ir.TimePart{Part: "hour", Relation: ir.GreaterOrEqual, Number: 22},
			[]string{"2026-01-01T22:00:00Z", "2026-01-01T23:59:60.5+09:00", "2026-01-01t22:00:00z"},
			[]string{
				"2026-01-01T21:59:59Z", "2026-01-01", "2026-02-30T22:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T22:00:00", "", "22",
				"2026-01-01T22:00:00.Z", "2026-01-01T22:00:00+9:00", "2026-13-01T22:00:00Z",
			},
		},
		{ir.TimePart{Part: "week", Relation: ir.Same, Number: 1}, []string{"2025-12-29T00:00:00Z", "2026-01-04T00:00:00Z"}, []string{"2026-01-05T00:00:00Z"}},
		{ir.TimePart{Part: "minute", Relation: ir.Different, Number: 5}, []string{"2026-01-01T00:04:00Z"}, []string{"2026-01-01T00:05:00Z"}},
		{ir.TimePart{Part: "day", Relation: ir.Less, Number: 2}, []string{"2026-01-01T00:00:00Z"}, []string{"2026-01-02T00:00:00Z"}},
		{ir.TimePart{Part: "month", Relation: ir.Same, Number: 6}, []string{"2026-06-30T23:00:00-05:00"}, []string{"2026-07-01T00:00:00Z"}},
		{ir.TimePart{Part: "year", Relation: ir.Same, Number: 2025}, []string{"2025-12-31T23:59:59-11:00"}, []string{"2026-01-01T00:00:00Z"}},
	} {
		for want, texts := range map[bool][]string{true: tt.yes, false: tt.no} {
			for _, text := range texts {
				field := ir.Field{Name: "f", Source: ir.Computed, Extract: func(_ []byte, out *ir.Values) { out.Add(text) }}
				s := set(t, &ir.Test{Field: field, AnyOf: []ir.Match{tt.match}})
				if got := len(evaluate(t, s.NewEvaluator(), batchOf(t, `{}`))) == 1; got != want {
					t.Errorf("%s of %q: %v", tt.match, text, got)
				}
			}
		}
	}
}

// A column of times is looked at in UTC, its path as the text stands there.
func TestTimePartOfColumns(t *testing.T) {
	batch := batchOf(t, `{"requestReceivedTimestamp":"2026-01-01T23:30:00.000001Z"}`, `{"requestReceivedTimestamp":"2026-01-02T01:30:00+02:00"}`, `{}`)
	late := []ir.Match{ir.TimePart{Part: "hour", Relation: ir.Same, Number: 23}}
	s := set(t, &ir.Test{Field: column(t, "event_time"), AnyOf: late}, &ir.Test{Field: column(t, "requestReceivedTimestamp"), AnyOf: late},
		&ir.Test{Field: column(t, "duration"), AnyOf: []ir.Match{ir.TimePart{Part: "year", Relation: ir.Greater, Number: 0}}})
	got := evaluate(t, s.NewEvaluator(), batch)
	slices.SortFunc(got, func(a, b hit) int { return a.Rule*10 + a.Row - b.Rule*10 - b.Row })
	if d := cmp.Diff([]hit{{0, 0}, {0, 1}, {1, 0}}, got); d != "" {
		t.Errorf("hits (-want +got):\n%s", d)
	}
}
