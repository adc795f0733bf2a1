package rule_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ruletest"
	"github.com/auditmill/auditmill/schemas"
)

// detection wraps the section of that name into a rule. A line without colon at its
// start is taken for the only search.
func detection(section string) string {
	if !strings.Contains(section, "condition:") {
		section = "sel:\n  " + strings.ReplaceAll(section, "\n", "\n  ") + "\ncondition: sel"
	}
	return "title: t\nlogsource: {product: kubernetes, service: audit}\ndetection:\n  " +
		strings.ReplaceAll(section, "\n", "\n  ") + "\n"
}

func compile(t testing.TB, files ...string) *rule.Set {
	t.Helper()
	var rules []rule.Rule
	for i, text := range files {
		text = strings.Replace(text, "title: t\n", fmt.Sprintf("title: t%d\n", i), 1)
		parsed, err := rule.ParseFile(fstest.MapFS{"r.yml": {Data: []byte(text)}}, "r.yml")
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		rules = append(rules, parsed...)
	}
	set, err := rule.Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func batchOf(t testing.TB, raws ...string) arrow.RecordBatch {
	t.Helper()
	var events []*schemas.Event
	for _, raw := range raws {
		e, err := ruletest.Event("c", []byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	batch, err := ruletest.Batch(events...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(batch.Release)
	return batch
}

type hit struct{ Rule, Row int }

func evaluate(t testing.TB, e *rule.Evaluator, batch arrow.RecordBatch) []hit {
	t.Helper()
	var hits []hit
	if err := e.Match(batch, func(rule, row int) { hits = append(hits, hit{rule, row}) }); err != nil {
		t.Fatal(err)
	}
	return hits
}

func reference(set *rule.Set, events []naiveEvent) []hit {
	var hits []hit
	for row, ev := range events {
		for i, r := range set.Rules() {
			if naive(r.Condition, ev) {
				hits = append(hits, hit{i, row})
			}
		}
	}
	return hits
}

const pod = `{"verb":"create","stage":"ResponseComplete","user":{"username":"Alice@example.com","groups":["dev","system:authenticated"],` +
	`"extra":{"authentication.kubernetes.io/credential-id":["JTI=1"],"scopes":["a","b"],"none":[]}},` +
	`"sourceIPs":["10.1.2.3","::ffff:192.0.2.7","2001:db8::1"],"objectRef":{"resource":"pods","namespace":"web","apiVersion":"v1"},` +
	`"responseStatus":{"metadata":{},"code":201},"requestURI":"/api/v1/namespaces/web/pods","userAgent":"kubectl/v1.34.1 (linux/amd64)",` +
	`"annotations":{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":"","pod-security.kubernetes.io/exempt":"namespace"},` +
	`"requestObject":{"metadata":{"name":"x","labels":{"app.kubernetes.io/name":"shop"},"ownerReferences":[],"note":null,"empty":""},` +
	`"spec":{"hostPID":true,"priority":1000,"weight":1.5,"big":12345678901,"digits":"403","line":"a\nb","k":"\u212aelvin","esc":"C:\\x*y",` +
	`"volumes":[{"name":"a","emptyDir":{}},{"name":"b","hostPath":{"path":"/etc"}}],` +
	`"containers":[{"name":"m","image":"nginx:1"},{"name":"n","securityContext":{"privileged":true,"capabilities":{"add":["NET_ADMIN","SYS_ADMIN"]}}}]}}}`

func TestTests(t *testing.T) {
	tests := []struct {
		name, detection string
		want            bool
	}{
		{"equal", `verb: create`, true},
		{"equal folds case", `user.username: ALICE@EXAMPLE.COM`, true},
		{"equal is of the whole", `verb: creat`, false},
		{"cased", `user.username|cased: alice@example.com`, false},
		{"cased hit", `user.username|cased: Alice@example.com`, true},
		{"cased contains", `user.username|contains|cased: Alice`, true},
		{"column name", `resource: pods`, true},
		{"list is or", `verb: [get, create]`, true},
		{"map is and", "verb: create\nobjectRef.resource: secrets", false},
		{"list of maps is or", "- verb: get\n- objectRef.resource: pods", true},
		{"contains", `requestURI|contains: NAMESPACES/web`, true},
		{"startswith", `userAgent|startswith: kubectl/`, true},
		{"endswith", `userAgent|endswith: AMD64)`, true},
		{"contains all", `userAgent|contains|all: [kubectl, linux]`, true},
		{"contains all misses one", `userAgent|contains|all: [kubectl, darwin]`, false},
		{"all by different members", `user.groups|all: [dev, system:authenticated]`, true},
		{"any member", `user.groups: DEV`, true},
		{"wildcard", `requestURI: /api/*/pods`, true},
		{"wildcard one", `verb: cr?ate`, true},
		{"wildcard one is one", `verb: creat?e`, false},
		{"wildcard crosses lines", `requestObject.spec.line: a*b`, true},
		{"wildcard one takes a line end", `requestObject.spec.line: a?b`, true},
		{"wildcard inside contains", `requestURI|contains: v1/*/web`, true},
		{"escaped wildcard", `requestObject.spec.esc: C:\x\*y`, true},
		{"escaped wildcard is no wildcard", `requestObject.spec.line: a\*b`, false},
		{"backslash and wildcard", `requestObject.spec.esc: C:\\*y`, true},
		{"double backslash is one", `requestObject.spec.esc: C:\\x\*y`, true},
		{"Unicode folding", `requestObject.spec.k: kelvin`, true},
		{"Unicode folding in contains", `requestObject.spec.k|contains: KEL`, true},
		{"re", `userAgent|re: ^kubectl/v\d+\.34`, true},
		{"re is cased", `userAgent|re: KUBECTL`, false},
		{"re i", `userAgent|re|i: KUBECTL`, true},
		{"re is unanchored", `requestURI|re: web`, true},
		{"re dot", `requestObject.spec.line|re: a.b`, false},
		{"re s", `requestObject.spec.line|re|s: a.b`, true},
		{"re m", `requestObject.spec.line|re|m: ^b$`, true},
		{"cidr", `sourceIPs|cidr: 10.0.0.0/8`, true},
		{"cidr mapped", `sourceIPs|cidr: 192.0.2.0/24`, true},
		{"cidr v6", `sourceIPs|cidr: [203.0.113.0/24, '2001:db8::/32']`, true},
		{"cidr of the last hop", `source_ip|cidr: 10.0.0.0/8`, false},
		{"cidr of what is no address", `verb|cidr: 0.0.0.0/0`, false},
		{"number", `responseStatus.code: 201`, true},
		{"number as text", `responseStatus.code: '201'`, true},
		{"number against text", `requestObject.spec.digits: 403`, true},
		{"number by wildcard", `responseStatus.code|startswith: 2`, true},
		{"gte", `responseStatus.code|gte: 201`, true},
		{"gt", `responseStatus.code|gt: 201`, false},
		{"lt float", `requestObject.spec.weight|lt: 1.6`, true},
		{"lte of text", `verb|lte: 3`, false},
		{"gt of an absent field", `requestObject.spec.nothing|gt: 0`, false},
		{"big number", `requestObject.spec.big: 12345678901`, true},
		{"number by value", `requestObject.spec.weight: 1.50`, true},
		{"boolean", `requestObject.spec.hostPID: true`, true},
		{"boolean as text", `requestObject.spec.hostPID: 'true'`, true},
		{"boolean differs", `requestObject.spec.hostPID: false`, false},
		{"exists", `requestObject.spec.hostPID|exists: true`, true},
		{"exists null", `requestObject.metadata.note|exists: true`, true},
		{"exists empty list", `requestObject.metadata.ownerReferences|exists: true`, true},
		{"exists object", `requestObject.spec.volumes.hostPath|exists: true`, true},
		{"exists not", `requestObject.spec.hostIPC|exists: false`, true},
		{"exists column", `objectRef.namespace|exists: true`, true},
		{"exists absent column", `objectRef.subresource|exists: false`, true},
		{"exists empty column", `annotations.authorization.k8s.io/reason|exists: true`, true},
		{"exists empty column by its own name", `decision_reason|exists: true`, false},
		{"null of null", `requestObject.metadata.note: null`, true},
		{"null of absent", `requestObject.metadata.nothing: null`, true},
		{"null of empty", `requestObject.metadata.empty: null`, false},
		{"null of absent column", `objectRef.subresource: null`, true},
		{"null of empty annotation", `annotations.authorization.k8s.io/reason: null`, false},
		{"null of a full column", `objectRef.namespace: null`, false},
		{"empty of empty", `requestObject.metadata.empty: ''`, true},
		{"empty of absent", `requestObject.metadata.nothing: ''`, false},
		{"empty of null", `requestObject.metadata.note: ''`, false},
		{"empty of absent column", `objectRef.subresource: ''`, false},
		{"empty of absent column by its own name", `subresource: ''`, true},
		{"empty of empty annotation", `annotations.authorization.k8s.io/reason: ''`, true},
		{"star of absent column", `objectRef.subresource: '*'`, false},
		{"star of empty annotation", `annotations.authorization.k8s.io/reason: '*'`, true},
		{"star of an object", `requestObject.spec.volumes.hostPath: '*'`, true},
		{"star of null", `requestObject.metadata.note: '*'`, false},
		{"any member of arrays", `requestObject.spec.containers.securityContext.privileged: true`, true},
		{"array of arrays", `requestObject.spec.containers.securityContext.capabilities.add: sys_admin`, true},
		{"alias", `capabilities: '*'`, true},
		{"alias hostPath", `hostPath: '*'`, true},
		{"labels have dots", `requestObject.metadata.labels.app.kubernetes.io/name: shop`, true},
		{"escaped dot", `requestObject.metadata.labels.app\.kubernetes\.io/name: shop`, true},
		{"annotation", `annotations.pod-security.kubernetes.io/exempt: namespace`, true},
		{"annotation absent", `annotations.pod-security.kubernetes.io/error: null`, true},
		{"extra", `user.extra.scopes: B`, true},
		{"extra empty", `user.extra.none|exists: true`, true},
		{"extra column", `credential_id: JTI=1`, true},
		{"keyword", "- nginx\n- zzz", true},
		{"keyword in a number", "- 234567", true},
		{"keyword in a key", "- hostPID", false},
		{"keywords all", "'|all': [nginx, net_admin]", true},
		{"keywords all misses", "'|all': [nginx, zzz]", false},
		{"keyword re", "'|re': '^NET_'", true},
		{"not", "sel: {verb: create}\ncondition: not sel", false},
		{"not of an absent field is true", "sel: {objectRef.name: x}\ncondition: not sel", true},
		{"and binds tighter than or", "a: {verb: create}\nb: {verb: x}\ncondition: a or b and b", true},
		{"not binds tighter than and", "a: {verb: x}\nb: {verb: create}\ncondition: not a and b", true},
		{"parentheses", "a: {verb: create}\nb: {verb: x}\ncondition: (a or b) and b", false},
		{"1 of", "s_a: {verb: x}\ns_b: {verb: create}\ncondition: 1 of s_*", true},
		{"all of", "s_a: {verb: x}\ns_b: {verb: create}\ncondition: all of s_*", false},
		{"star in the middle", "s_a_x: {verb: create}\ns_b_y: {verb: x}\ncondition: all of s_*_x", true},
		{"1 of them leaves _ out", "_a: {verb: create}\nb: {verb: x}\ncondition: 1 of them", false},
		{"all of them", "a: {verb: create}\nb: {resource: pods}\ncondition: all of them", true},
		{"any of", "a: {verb: create}\ncondition: any of them", true},
		{"list of conditions is or", "a: {verb: x}\nb: {verb: create}\ncondition: [a, b]", true},
		{"not 1 of", "a: {verb: x}\nf_1: {resource: pods}\ncondition: a or not 1 of f_*", false},
		{"raw and column", "a: {requestObject.spec.hostPID: true, verb: create}\ncondition: a", true},
		{"not raw", "a: {verb: create}\nf: {requestObject.spec.hostPID: true}\ncondition: a and not f", false},
		{"raw or column", "a: {requestObject.spec.hostPID: false}\nb: {verb: create}\ncondition: a or b", true},
	}
	batch := batchOf(t, pod)
	events := naiveEvents(t, batch)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set := compile(t, detection(tt.detection))
			if got := len(evaluate(t, set.NewEvaluator(), batch)) == 1; got != tt.want {
				t.Errorf("engine says %v, want %v: %s", got, tt.want, set.Rules()[0].Condition)
			}
			if got := len(reference(set, events)) == 1; got != tt.want {
				t.Errorf("reference says %v, want %v: %s", got, tt.want, set.Rules()[0].Condition)
			}
		})
	}
}

// Column and path differ only in what an empty value is; a null column must ask the original.
func TestNullColumnAsksTheOriginal(t *testing.T) {
	batch := batchOf(
		t,
		`{"verb":"get","objectRef":{"resource":"pods"}}`,
		`{"verb":"get","objectRef":{"resource":"pods","subresource":""}}`,
		`{"verb":"get","objectRef":{"resource":"pods","subresource":null}}`,
		`{"verb":"get","objectRef":{"resource":"pods","subresource":"exec"}}`,
		`{"verb":"get"}`,
	)
	for section, want := range map[string][]int{
		`objectRef.subresource: ''`:                            {1},
		`objectRef.subresource: null`:                          {0, 2, 4},
		`objectRef.subresource|exists: true`:                   {1, 2, 3},
		`objectRef.subresource|exists: false`:                  {0, 4},
		`objectRef.subresource: '*'`:                           {1, 3},
		`objectRef.subresource|re: ^$`:                         {1},
		`subresource: ''`:                                      {0, 1, 2, 4},
		`subresource: null`:                                    {0, 1, 2, 4},
		`subresource|exists: true`:                             {3},
		`subresource: '*'`:                                     {3},
		"sel: {objectRef.subresource: ''}\ncondition: not sel": {0, 2, 3, 4},
	} {
		set := compile(t, detection(section))
		var rows []int
		for _, h := range evaluate(t, set.NewEvaluator(), batch) {
			rows = append(rows, h.Row)
		}
		if d := cmp.Diff(want, rows); d != "" {
			t.Errorf("%s: rows (-want +got):\n%s", section, d)
		}
	}
}

func TestParseOnlySurvivors(t *testing.T) {
	raws := make([]string, 100)
	for i := range raws {
		raws[i] = fmt.Sprintf(`{"verb":"get","objectRef":{"resource":"pods","name":"p%d"},"requestObject":{"a":%d}}`, i, i)
	}
	raws[42] = `{"verb":"create","objectRef":{"resource":"pods"},"requestObject":{"a":1}}`
	set := compile(t, detection("verb: create\nrequestObject.a: 1"), detection("verb: create\nrequestObject.a: 2"),
		detection("verb: delete\nrequestObject.a: 2"))
	e := set.NewEvaluator()
	if d := cmp.Diff([]hit{{0, 42}}, evaluate(t, e, batchOf(t, raws...))); d != "" {
		t.Errorf("hits (-want +got):\n%s", d)
	}
	if d := cmp.Diff(rule.Stats{Rows: 100, Parsed: 1, Skipped: 1}, e.Stats()); d != "" {
		t.Errorf("stats (-want +got):\n%s", d)
	}
}

func TestDuplicateKeyLastWins(t *testing.T) {
	batch := batchOf(t, `{"verb":"create","requestObject":{"spec":{"hostPID":false,"host\u0050ID":true},"x":[1],"x":{"y":2}}}`)
	set := compile(t, detection(`requestObject.spec.hostPID: true`), detection(`requestObject.x.y: 2`), detection(`requestObject.x: 1`))
	if d := cmp.Diff([]hit{{0, 0}, {1, 0}}, evaluate(t, set.NewEvaluator(), batch)); d != "" {
		t.Errorf("hits (-want +got):\n%s", d)
	}
}

func TestDeepNestingIsLinear(t *testing.T) {
	deep := strings.Repeat("[", 9000) + `"needle"` + strings.Repeat("]", 9000)
	raw := `{"verb":"create","requestObject":{"spec":` + deep + `,"pad":"` + strings.Repeat("x", 1<<20) + `"}}`
	set := compile(t, detection("- needle"), detection(`requestObject.spec: needle`), detection(`requestObject.spec.a: needle`))
	if d := cmp.Diff([]hit{{0, 0}}, evaluate(t, set.NewEvaluator(), batchOf(t, raw))); d != "" {
		t.Errorf("hits (-want +got):\n%s", d)
	}
}

func TestDamagedOriginal(t *testing.T) {
	event, err := ruletest.Event("c", []byte(`{"verb":"create"}`))
	if err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]int{``: 0, `{"requestObject":{"a":1`: 0, `{"requestObject":{"a":1},`: 1, `[]`: 0, `7`: 0, `}`: 0} {
		event.Raw = []byte(raw)
		batch, err := ruletest.Batch(event)
		if err != nil {
			t.Fatal(err)
		}
		e := compile(t, detection(`requestObject.a: 1`), detection("- zzz")).NewEvaluator()
		if got := len(evaluate(t, e, batch)); got != want {
			t.Errorf("%q: %d hits, want %d", raw, got, want)
		}
		batch.Release()
	}
}

func TestBatchesOfDifferentSizes(t *testing.T) {
	set := compile(t, detection("verb: create\nrequestObject.spec.hostPID: true"), detection("user.groups: dev"),
		detection("sel: {user.groups: dev}\ncondition: not sel"), detection("requestURI|contains: web"))
	e := set.NewEvaluator()
	for _, n := range []int{1, 64, 65, 3, 128, 1000, 63, 0, 2} {
		var raws []string
		for i := range n {
			if i%3 == 0 {
				raws = append(raws, pod)
			} else {
				raws = append(raws, fmt.Sprintf(`{"verb":"get","user":{"username":"u%d"},"requestURI":"/web/%d"}`, i, i))
			}
		}
		batch := batchOf(t, raws...)
		if d := cmp.Diff(reference(set, naiveEvents(t, batch)), evaluate(t, e, batch)); d != "" {
			t.Fatalf("%d rows (-reference +engine):\n%s", n, d)
		}
	}
}

// An older writer's batch lacks a column: its rows count as null.
func TestMissingColumn(t *testing.T) {
	set := compile(t, detection("verb: create"), detection("verb: null"), detection("subresource: ''"), detection("user.groups: dev"),
		detection("requestURI|contains: web"), detection("annotations.a: b"), detection("annotations.a: null"))
	batch := batchOf(t, pod)
	var fields []arrow.Field
	var columns []arrow.Array
	for i, f := range batch.Schema().Fields() {
		switch f.Name {
		case "verb", "subresource", "groups", "request_uri", "annotations":
		default:
			fields, columns = append(fields, f), append(columns, batch.Column(i))
		}
	}
	older := newBatch(arrow.NewSchema(fields, nil), columns)
	defer older.Release()
	// verb: null asks the original, which has one.
	if d := cmp.Diff([]hit{{2, 0}, {6, 0}}, evaluate(t, set.NewEvaluator(), older)); d != "" {
		t.Errorf("hits (-want +got):\n%s", d)
	}
}

func TestColumnOfAnotherType(t *testing.T) {
	batch := batchOf(t, pod)
	fields := []arrow.Field{{Name: "verb", Type: arrow.PrimitiveTypes.Int64}}
	wrong := newBatch(arrow.NewSchema(fields, nil), []arrow.Array{schemas.ColumnArray(batch, "raw_offset")})
	defer wrong.Release()
	err := compile(t, detection("verb: create")).NewEvaluator().Match(wrong, func(int, int) {})
	if err == nil || !strings.Contains(err.Error(), "column verb has type int64") {
		t.Errorf("error is %v", err)
	}
}

func TestParseDir(t *testing.T) {
	good := "title: good\nid: 5f0bb1a2-3c55-4a3e-8a67-8d5f6c1f0e11\nlogsource: {product: kubernetes}\ndetection: {s: {verb: get}, condition: s}\n"
	fsys := fstest.MapFS{
		"a.yml":             {Data: []byte(good)},
		"sub/b.yaml":        {Data: []byte("title: other\nlogsource: {product: kubernetes}\ndetection: {s: {verb: get}, condition: s}\n---\n" + strings.Replace(good, "5f0bb1a2", "00000001", 1))},
		"..2026_11/a.yml":   {Data: []byte("old")},
		"notes.txt":         {Data: []byte("not a rule")},
		"sub/c.cases.jsonl": {Data: []byte("{}")},
	}
	rules, err := rule.ParseDir(fsys)
	if err != nil || len(rules) != 3 || rules[1].ID != "other" {
		t.Fatalf("got %d rules, %v", len(rules), err)
	}
	fsys["z.yml"] = &fstest.MapFile{Data: []byte(good)}
	fsys["sub/b.yaml"] = &fstest.MapFile{Data: []byte("title: x\n")}
	_, err = rule.ParseDir(fsys)
	if _, ok := errors.AsType[rule.Faults](err); !ok {
		t.Fatalf("error is %v", err)
	}
	want := `sub/b.yaml:1:1: logsource: is missing; every rule needs it
sub/b.yaml:1:1: detection: is missing; every rule needs it
z.yml:1:1: id: "5f0bb1a2-3c55-4a3e-8a67-8d5f6c1f0e11" is also the id of the rule at a.yml:1:1; give each rule an id of its own`
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Errorf("error (-want +got):\n%s", d)
	}
}
