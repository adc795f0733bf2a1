package alert

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
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

func TestAlertIsBounded(t *testing.T) {
	e := secretEvent(1)
	long := strings.Repeat("ä", 1<<17)
	e.User, e.Actor, e.Name, e.Namespace, e.RequestURI, e.UserAgent = long, long, long, long, long, long
	e.AuditID, e.DecisionReason, e.SourceIP = long, long, long
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
