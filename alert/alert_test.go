package alert

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got:\n%s", path, diff)
	}
}

// hostileEvent holds what a sender may try.
func hostileEvent() *schemas.Event {
	e := secretEvent(7)
	e.Fingerprint = schemas.ID{0xff}
	e.AuditID, e.APIGroup, e.Subresource = "x\ninjected=1", "", ""
	e.User, e.Actor = `o'hara\`, `o'hara\'; DROP TABLE events --`
	e.ImpersonatedUser = "<!channel> \u202eevil\x00"
	e.Name = "`rm -rf` & <https://evil.test|click>"
	e.UserAgent, e.RequestURI = "kubectl/v1.35 (ü)", "/api?x=\xff"
	e.Command = []string{"sh", "-c", "a\tb"}
	e.Decision, e.DecisionReason = "allow", `RBAC: allowed by ClusterRoleBinding "x"`
	return e
}

func makeAlert(t *testing.T, e *schemas.Event) schemas.Alert {
	t.Helper()
	rules, err := rule.ParseDir(testPack())
	if err != nil {
		t.Fatal(err)
	}
	checked := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer checked.AssertSize(t, 0)
	b := schemas.NewBuilder()
	b.Append(testEvent(1))
	b.Append(e)
	batch := b.Batch()
	defer batch.Release()
	r := &rules[len(rules)-1]
	set, err := rule.Compile([]rule.Rule{{Meta: r.Meta, Condition: ir.And{}}}) // whatever the event is
	if err != nil {
		t.Fatal(err)
	}
	evaluator := set.NewEvaluator()
	var a schemas.Alert
	err = evaluator.Match(batch, func(_, row int) {
		if row == 1 {
			a = Make(&r.Meta, batch, row, func(f ir.Field) []string { return evaluator.Values(row, f) }, testNow())
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAlertIsGolden(t *testing.T) {
	a := makeAlert(t, hostileEvent())
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "alert.json", string(text)+"\n")
}

// knownEvent is one of which everything is known.
func knownEvent() *schemas.Event {
	e := secretEvent(7)
	at := e.EventTime
	e.Version, e.CredentialID = 2, "JTI=1"
	e.DisplayName, e.Email, e.Team, e.Manager, e.Active = "Alice", "alice@example.com", "payments", "olivia@example.com", schemas.True
	e.Workload, e.Pod, e.Node, e.CloudIdentity = "Deployment shop/web", "shop/web-1", "worker-1", "arn:aws:iam::1:role/web"
	e.MintedBy, e.MintedAt, e.Session = "bob@example.com", at-60_000_000, "5f"
	e.SourceZone, e.SourceCountry, e.SourceNetwork, e.SourceNode, e.OffNode = "pod", "NL", "AS64500 Example", "worker-2", schemas.True
	e.NamespaceOwner = "web"
	e.ImpersonatedUser, e.ImpersonationAllowed = "dave", schemas.True
	e.ImpersonationGrants = []string{`ClusterRoleBinding "s" of ClusterRole "impersonator" to Group "support" by rule 0`}
	e.GrantBindingKind, e.GrantBinding, e.GrantRoleKind, e.GrantRole = "RoleBinding", "default/readers", "Role", "reader"
	e.GrantSubjectKind, e.GrantSubject, e.GrantAgreement = "ServiceAccount", "shop/web", "agree"
	e.GrantSince, e.GrantAuthor = at-12*60_000_000, "carol@example.com"
	e.Grants = []string{`RoleBinding "default/readers" of Role "reader" to ServiceAccount "shop/web" by rule 3`, `ClusterRoleBinding "x" … by rule 0`}
	e.RightsComplete, e.Breadth, e.ClusterAdmin, e.Dangerous = schemas.True, 12, schemas.False, []string{"read-secrets", "pods-exec"}
	e.CallerBreadth, e.CallerDangerous = 3, []string{"impersonate"}
	return e
}

func TestAlertSaysWhoAndWhy(t *testing.T) {
	a := makeAlert(t, knownEvent())
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "known.json", string(text)+"\n")

	e := knownEvent()
	e.GrantBinding = "" // it named none: the first that was computed
	if got, want := makeAlert(t, e).Grant, `RoleBinding "default/readers" of Role "reader" to ServiceAccount "shop/web"`; got != want {
		t.Errorf("grant %s, want %s", got, want)
	}
	e.Grants = nil
	if a := makeAlert(t, e); a.Grant != "" || a.Grants != 0 {
		t.Errorf("%d grants, %q, of none", a.Grants, a.Grant)
	}
}

// Every column of who and why that an alert has comes from the column of its name.
func TestAlertTakesTheColumnOfItsName(t *testing.T) {
	b := schemas.NewBuilder()
	b.Append(knownEvent())
	batch := b.Batch()
	defer batch.Release()
	a := Make(&ir.Meta{ID: "r"}, batch, 0, func(ir.Field) []string { return nil }, testNow())
	value := reflect.ValueOf(a)
	for i, column := range schemas.AlertColumns() {
		if column.Since < 7 || column.Name == "grant" || column.Name == "grants" || column.Name == "impersonation_grant" {
			continue
		}
		want := fmt.Sprint(row{batch, 0}.some(column.Name, 9))
		if s := (row{batch, 0}).whole(column.Name); s != "" {
			want = s
		}
		got := fmt.Sprint(value.Field(i).Interface())
		if at, ok := reflect.TypeAssert[time.Time](value.Field(i)); ok {
			got = at.Format(time.RFC3339Nano)
		}
		if got != want || want == "" || want == "[]" {
			t.Errorf("%s: %s, want %s", column.Name, got, want)
		}
	}
}

func TestAlertIsBounded(t *testing.T) {
	e := secretEvent(1)
	long := strings.Repeat("ä", 1<<17)
	e.User, e.Actor, e.Name, e.Namespace, e.RequestURI, e.UserAgent = long, long, long, long, long, long
	e.AuditID, e.DecisionReason, e.SourceIP = long, long, long
	e.DisplayName, e.Team, e.Workload, e.MintedBy, e.SourceNetwork, e.GrantBinding, e.GrantAuthor = long, long, long, long, long, long, long
	e.Grants, e.Dangerous = []string{long, long}, []string{long, long, long}
	for range 1000 {
		e.Command = append(e.Command, long[:4000])
	}
	a := makeAlert(t, e)
	r, err := record(&a)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Value) > 128<<10 {
		t.Errorf("the record has %d bytes", len(r.Value))
	}
	if !utf8.Valid(r.Value) {
		t.Error("cut inside a character")
	}
}

func TestAlertOfAnEmptyEvent(t *testing.T) {
	a := makeAlert(t, &schemas.Event{})
	if a.Tags == nil || a.Command == nil || a.Summary == "" {
		t.Errorf("got %+v, want no null lists and a summary", a)
	}
	if strings.Contains(a.Query, "BETWEEN") {
		t.Errorf("got a query around an unknown time: %s", a.Query)
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"":                  `''`,
		"alice@example.com": `'alice@example.com'`,
		`o'hara`:            `'o\x27hara'`,
		`a\`:                `'a\x5C'`,
		"a\x00\n`<&>":       `'a\x00\x0A\x60\x3C\x26\x3E'`,
		"ü\xff":             `'\xC3\xBC\xFF'`,
	} {
		if got := quote(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "'", `\'`, "\x00", "ü", "\\x27"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := quote(s)
		inner := got[1 : len(got)-1]
		var back []byte
		for i := 0; i < len(inner); i++ {
			switch c := inner[i]; {
			case c < ' ' || c > '~' || c == '\'':
				t.Fatalf("%q: %s holds %q", s, got, c)
			case c == '\\':
				var b byte
				for _, d := range inner[i+2 : i+4] {
					b = b<<4 | byte(strings.IndexRune("0123456789ABCDEF", d))
				}
				back = append(back, b)
				i += 3
			default:
				back = append(back, c)
			}
		}
		if string(back) != s {
			t.Errorf("got %q back, want %q", back, s)
		}
	})
}

func TestQuery(t *testing.T) {
	at := time.Date(2026, 11, 21, 0, 5, 0, 1000, time.UTC)
	var b strings.Builder
	for _, c := range []struct {
		actor, ip    string
		at, received time.Time
	}{
		{"alice", "192.0.2.1", at, at.Add(time.Second)},
		{"", "192.0.2.1", at, time.Time{}},
		{"", "", at, at},
		{strings.Repeat("a", 600), "", at, at},
	} {
		b.WriteString(query("0102", "prod", c.actor, c.ip, c.at, c.received) + ";\n\n")
	}
	golden(t, "query.sql", b.String())
}
