package rule_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
)

// generator makes random rules and random events out of the same few names and values, so
// that they meet often.
type generator struct {
	*rand.Rand
	made *[2][]ir.Expr // conditions on events and on members, to be used again
}

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

var (
	genFields = []string{
		"verb", "stage", "resource", "objectRef.resource", "subresource", "objectRef.subresource", "namespace",
		"objectRef.namespace", "objectRef.name", "requestURI", "userAgent", "user.username", "user.groups", "groups",
		"sourceIPs", "source_ip", "responseStatus.code", "code", "annotations", "annotations.a/b", "decision",
		"annotations.authorization.k8s.io/decision", "user.extra.k", "extra.k", "credential_id", "impersonatedUser.username",
		"impersonatedUser", "auditID", "command", "requestReceivedTimestamp", "message", "responseStatus.reason",
		"requestObject", "requestObject.a", "requestObject.a.b", "requestObject.c.d", "requestObject.c", "requestObject.x",
	}
	genTexts = []string{
		"get", "GET", "create", "pods", "secrets", "exec", "", "web", "kube-system", "a", "b", "ab", "a*b", "*", "a?", "?", `\*`,
		`a\\*`, "*a*", "k", "\u212a", "ß", "é", "10.0.0.1", "::1", "1", "403", "403.0", "allow", "true", "null", "w*b", "/api/v1", "1e3", "-1",
	}
	genValues = []string{
		`"get"`, `"GET"`, `"create"`, `"pods"`, `"secrets"`, `"exec"`, `""`, `"web"`, `"a"`, `"b"`, `"ab"`, `"a*b"`, `"a\nb"`, `"K"`,
		`"\u212a"`, `"é"`, `"É"`, `"10.0.0.1"`, `"::ffff:10.0.0.1"`, `1`, `403`, `403.0`, `1e3`, `-1`, `"403"`, `true`, `false`, `null`,
		`{}`, `[]`, `{"b":"a"}`, `{"b":["a","b"],"a":[{"b":"a"},"b",null,[1]],"x":"get"}`, `[[{"b":1}],[],{"b":[]}]`,
		`"2026-01-01T23:59:59+09:00"`, `"/api/v1/x"`, `[{"b":1},{"b":null},{}]`, `[[1],["a"]]`, `"allow"`, `{"b":["get",{"x":1}]}`, `"a\\"`,
	}
)

func (g generator) item() string {
	field := pick(g, genFields...)
	quote := func(s string) string { return "'" + s + "'" }
	text := func() string { return quote(pick(g, genTexts...)) }
	switch g.IntN(12) {
	case 0:
		return fmt.Sprintf("%s|exists: %v", field, g.IntN(2) == 0)
	case 1:
		if field != "annotations" {
			return field + ": null"
		}
		return field + "|exists: true"
	}
	if field == "annotations" {
		return field + ": '*'"
	}
	switch g.IntN(8) {
	case 0:
		return fmt.Sprintf("%s|%s: %s", field, pick(g, "gt", "gte", "lt", "lte"), pick(g, "1", "403", "0", "1.5", "-1", "1000"))
	case 1:
		return fmt.Sprintf("%s|cidr: %s", field, pick(g, "10.0.0.0/8", "'::/0'", "0.0.0.0/0", "'::1/128'"))
	case 2:
		return fmt.Sprintf("%s|re%s: %s", field, pick(g, "", "|i", "|s"), pick(g, "'^a'", "'.'", "'^$'", "'e.*t'", "'[0-9]+'"))
	case 3:
		return fmt.Sprintf("%s: %s", field, pick(g, "1", "403", "403.0", "true", "false", "1000", "-1"))
	case 4:
		return fmt.Sprintf("%s|%s|all: [%s, %s]", field, pick(g, "contains", "startswith", "endswith"), text(), text())
	}
	modifier := pick(g, "", "", "|contains", "|startswith", "|endswith", "|cased", "|contains|cased")
	return fmt.Sprintf("%s%s: [%s, %s]", field, modifier, text(), text())
}

func (g generator) rule() string {
	var b strings.Builder
	n := 1 + g.IntN(3)
	for i := range n {
		fmt.Fprintf(&b, "s%d:\n", i)
		switch g.IntN(8) {
		case 0:
			fmt.Fprintf(&b, "  - %s\n  - %s\n", pick(g, "get", "a", "403", "'e*c'"), pick(g, "zzz", "b"))
			continue
		case 1:
			fmt.Fprintf(&b, "  - %s\n  - %s\n", g.item(), g.item())
			continue
		}
		seen := map[string]bool{}
		for range 1 + g.IntN(3) {
			item := g.item()
			if key, _, _ := strings.Cut(item, ":"); !seen[key] {
				seen[key] = true
				b.WriteString("  " + item + "\n")
			}
		}
	}
	b.WriteString("condition: " + g.condition(n, 3))
	return detection(b.String())
}

func (g generator) condition(n, depth int) string {
	if depth == 0 {
		return fmt.Sprintf("s%d", g.IntN(n))
	}
	switch g.IntN(6) {
	case 0:
		return "not " + g.condition(n, 0)
	case 1:
		return "not (" + g.condition(n, depth-1) + ")"
	case 2:
		return g.condition(n, depth-1) + " or " + g.condition(n, depth-1)
	case 3:
		return pick(g, "1 of them", "all of them", "any of s*", "all of s*")
	case 4:
		return "(" + g.condition(n, depth-1) + ") and " + g.condition(n, depth-1)
	}
	return g.condition(n, 0)
}

// event returns an event whose typed members have the right types, as the decoder of the
// pipeline leaves others out of the columns.
func (g generator) event() string {
	text := func() string {
		return pick(g, `"get"`, `"create"`, `"pods"`, `"secrets"`, `"exec"`, `""`, `"web"`, `"a"`, `"ab"`, `"a*b"`, `"K"`, `"\u212a"`, `"allow"`, `"a\nb"`)
	}
	ip := func() string { return pick(g, `"10.0.0.1"`, `"::1"`, `"::ffff:10.0.0.1"`, `"what"`) }
	maybe := func(s string) string {
		if g.IntN(3) == 0 {
			return ""
		}
		return s + ","
	}
	list := func(of func() string) string {
		return pick(g, "[]", "["+of()+"]", "["+of()+","+of()+"]")
	}
	var b strings.Builder
	b.WriteString("{" + maybe(`"verb":`+text()) + maybe(`"stage":`+text()) + maybe(`"auditID":`+text()))
	b.WriteString(maybe(`"requestReceivedTimestamp":`+g.time()) + maybe(`"stageTimestamp":`+g.time()))
	b.WriteString(maybe(`"requestURI":`+pick(g, text(), `"/api/v1/x"`, `"//api/v1"`, `"/apis/v1"`)) + maybe(`"userAgent":`+text()) + maybe(`"sourceIPs":`+list(ip)))
	b.WriteString(maybe(`"user":{` + maybe(`"username":`+text()) + maybe(`"groups":`+list(text)) + `"extra":{"k":` + list(text) +
		pick(g, "", `,"authentication.kubernetes.io/credential-id":["a"]`, `,"authentication.kubernetes.io/credential-id":[]`) + `}}`))
	b.WriteString(maybe(`"objectRef":{` + maybe(`"resource":`+text()) + maybe(`"subresource":`+text()) + maybe(`"namespace":`+text()) + `"name":` + text() + `}`))
	b.WriteString(maybe(`"impersonatedUser":{"username":` + text() + `}`))
	b.WriteString(maybe(`"responseStatus":{` + maybe(`"reason":`+text()) + `"code":` + pick(g, "0", "1", "403", "1000") + `}`))
	b.WriteString(maybe(`"annotations":{` + pick(g, "", `"a/b":`+text(), `"authorization.k8s.io/decision":`+text()) + `}`))
	b.WriteString(maybe(`"requestObject":` + pick(g, `{"a":`+pick(g, genValues...)+`,"c":{"d":`+pick(g, genValues...)+`}}`,
		`{"c":`+pick(g, genValues...)+`,"a":`+pick(g, genValues...)+`}`, pick(g, genValues...))))
	b.WriteString(`"kind":"Event"}`)
	return b.String()
}

func (g generator) time() string {
	return pick(g, `"2026-01-01T00:00:00Z"`, `"2025-12-31T23:30:59.123456Z"`, `"2026-06-30T12:01:00.000001Z"`)
}

// differ evaluates random rules on random events with the engine and the reference.
func differ(t *testing.T, seed uint64) {
	t.Helper()
	g := generator{rand.New(rand.NewPCG(seed, 1)), &[2][]ir.Expr{}}
	var files, raws []string
	for range 1 + g.IntN(20) {
		files = append(files, g.rule())
	}
	rules := slices.Clone(compile(t, files...).Rules())
	for range g.IntN(20) { // what the language of the files cannot say, too
		condition := g.expr(3, false)
		files = append(files, "")
		rules = append(rules, rule.Rule{Meta: ir.Meta{ID: fmt.Sprintf("tree %d", len(rules))}, Condition: condition})
	}
	set, err := rule.Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	e := set.NewEvaluator()
	for range 2 { // the second batch meets the memory of the first
		raws = raws[:0]
		for range 1 + g.IntN(150) {
			raws = append(raws, g.event())
		}
		batch := batchOf(t, raws...)
		events := naiveEvents(t, batch)
		want, got := reference(set, events), evaluate(t, e, batch)
		if d := cmp.Diff(want, got); d != "" {
			explain(t, set, files, raws, want, got)
			t.Fatalf("seed %d: (-reference +engine):\n%s", seed, d)
		}
		g.differInValues(t, e, batch, events)
	}
}

func explain(t *testing.T, set *rule.Set, files, raws []string, want, got []hit) {
	t.Helper()
	has := map[hit]int{}
	for _, h := range want {
		has[h]++
	}
	for _, h := range got {
		has[h]--
	}
	for h, n := range has {
		if n != 0 {
			t.Logf("rule %d, reference %v:\n%s%s\nevent %s", h.Rule, n > 0, files[h.Rule], set.Rules()[h.Rule].Condition, raws[h.Row])
			return
		}
	}
}

func TestDifferential(t *testing.T) {
	for seed := range uint64(40) {
		differ(t, seed)
	}
}

func FuzzDifferential(f *testing.F) {
	for seed := range uint64(5) {
		f.Add(seed)
	}
	f.Fuzz(differ)
}
