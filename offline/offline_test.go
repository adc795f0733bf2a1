package offline_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/offline"
)

const secretsRule = `
title: Secrets read
id: 11111111-1111-4111-8111-111111111111
logsource: {product: kubernetes, service: audit}
detection:
  read: {verb: [get, list], objectRef.resource: secrets, stage: ResponseComplete}
  system: {user.username|startswith: 'system:'}
  condition: read and not system
level: high
x-auditmill:
  audit_level: Metadata
  summary: "{user} read {name}"
  cases:
    - case: a person reads a secret
      match: true
      event: {objectRef: {resource: secrets, namespace: web, name: db}}
    - case: a controller does
      match: false
      event: {user: {username: 'system:kube-controller-manager'}, objectRef: {resource: secrets}}
`

const execRule = `
title: Exec
id: 22222222-2222-4222-8222-222222222222
logsource: {product: kubernetes, service: audit}
detection:
  selection: {objectRef.subresource: exec}
  condition: selection
level: medium
`

// events are a pretty-printed event, an EventList on one line, one that is none, and one more.
const events = `{"kind":"Event","auditID":"a","stage":"ResponseComplete","verb":"get","user":{"username":"alice"},"objectRef":{"resource":"secrets","name":"x"}}
{"kind":"EventList","items":[{"auditID":"b","stage":"ResponseComplete","verb":"list","user":{"username":"bob"},"objectRef":{"resource":"secrets"}},{"auditID":"c","stage":"ResponseComplete","verb":"get","user":{"username":"system:node:n"},"objectRef":{"resource":"secrets"}}]}
{"no":"event"}
{"auditID":"d","stage":"ResponseStarted","verb":"get","user":{"username":"carol"},"objectRef":{"resource":"pods","subresource":"exec"}}
`

func files(t *testing.T, contents map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range contents {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t *testing.T, contents map[string]string) *ir.Pack {
	t.Helper()
	pack, err := offline.Sources{Paths: []string{files(t, contents)}}.Load()
	if err != nil {
		t.Fatal(err)
	}
	return pack
}

func TestMatchFiles(t *testing.T) {
	pack := load(t, map[string]string{"a.yml": secretsRule, "b.yml": execRule})
	path := filepath.Join(files(t, map[string]string{"events.jsonl": events}), "events.jsonl")
	var lines []string
	var bad []string
	counts, err := offline.MatchFiles(t.Context(), pack, offline.MatchAll, []string{path}, offline.Context{}, func(m *offline.Match) error {
		if m.File != path {
			t.Errorf("file is %s", m.File)
		}
		lines = append(lines, strings.Join([]string{m.Rule, m.AuditID, m.Severity, m.Output, string(rune('0' + m.Line))}, " | "))
		return nil
	}, func(b offline.Bad) { bad = append(bad, b.String()) })
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Secrets read | a | high | alice read x | 1", "Secrets read | b | high | bob read  | 2", "Exec | d | medium | Exec | 4"}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s", got)
	}
	if counts.Events != 4 || counts.Matches != 3 || counts.Bad != 1 || len(bad) != 1 || !strings.HasPrefix(bad[0], path+":3: not_an_event") {
		t.Errorf("counts are %+v, bad is %q", counts, bad)
	}
}

// TestMatchingFirst gives an event to two rules that both match it.
func TestMatchingFirst(t *testing.T) {
	other := strings.NewReplacer("1111", "3333", "Secrets read", "Again").Replace(secretsRule)
	pack := load(t, map[string]string{"a.yml": secretsRule, "b.yml": other})
	path := filepath.Join(files(t, map[string]string{"e": events}), "e")
	for matching, want := range map[offline.Matching]int{offline.MatchAll: 4, offline.MatchFirst: 2} {
		counts, err := offline.MatchFiles(t.Context(), pack, matching, []string{path}, offline.Context{}, func(m *offline.Match) error {
			if matching == offline.MatchFirst && m.Rule != "Secrets read" {
				t.Errorf("%s is not the first", m.Rule)
			}
			return nil
		}, func(offline.Bad) {})
		if err != nil {
			t.Fatal(err)
		}
		if counts.Matches != want {
			t.Errorf("%s: %d matches, want %d", matching, counts.Matches, want)
		}
	}
}

func TestRunCases(t *testing.T) {
	wrong := strings.Replace(secretsRule, "verb: [get, list]", "verb: [watch, list]", 1)
	for name, tt := range map[string]struct {
		rule   string
		failed int
	}{"right": {secretsRule, 0}, "wrong": {wrong, 1}} {
		pack := load(t, map[string]string{"a.yml": tt.rule})
		cases, failed := 0, 0
		var why bytes.Buffer
		offline.RunCases(pack, func(r *offline.CaseResult) {
			cases++
			if r.Passed() {
				return
			}
			failed++
			if r.Err != nil || r.Why == nil {
				t.Fatalf("%s: %v", r.Case.Name, r.Err)
			}
			if err := r.Why.Write(&why); err != nil {
				t.Fatal(err)
			}
		})
		if cases != 2 || failed != tt.failed {
			t.Errorf("%s: %d of %d cases failed, want %d", name, failed, cases, tt.failed)
		}
		if tt.failed > 0 && !strings.Contains(why.String(), `✗ verb ["watch", "list"]   ← is "get" (line 6)`) {
			t.Errorf("the explanation is\n%s", why.String())
		}
	}
}

// TestCaseEvents holds the filled-in events to what the API server writes.
func TestCaseEvents(t *testing.T) {
	for given, want := range map[string]map[string]any{
		`{}`: {"verb": "get", "stage": "ResponseComplete", "requestURI": "/", "level": "Metadata"},
		`{"verb":"create","objectRef":{"resource":"pods","namespace":"web","name":"p"}}`:                                {"requestURI": "/api/v1/namespaces/web/pods", "code": 201.0},
		`{"objectRef":{"resource":"pods","namespace":"web","name":"p","subresource":"exec"},"stage":"ResponseStarted"}`: {"requestURI": "/api/v1/namespaces/web/pods/p/exec", "code": 101.0},
		`{"verb":"watch","objectRef":{"resource":"roles","apiGroup":"rbac.authorization.k8s.io"}}`:                      {"requestURI": "/apis/rbac.authorization.k8s.io/v1/roles?watch=true", "code": 200.0},
		`{"stage":"RequestReceived"}`:           {"responseStatus": nil},
		`{"annotations":null,"sourceIPs":null}`: {"annotations": nil, "sourceIPs": nil},
		`{"responseStatus":{"code":403}}`:       {"code": 403.0},
	} {
		events, err := offline.CaseEvents(&ir.Case{Events: []ir.CaseEvent{{JSON: []byte(given), Repeat: 2}}}, "")
		if err != nil {
			t.Fatal(err)
		}
		if len(events) != 2 || bytes.Equal(events[0], events[1]) {
			t.Fatalf("%s: %d events, or equal ones", given, len(events))
		}
		var event map[string]any
		if err := json.Unmarshal(events[0], &event); err != nil {
			t.Fatal(err)
		}
		if status, ok := event["responseStatus"].(map[string]any); ok {
			event["code"] = status["code"]
		}
		for key, value := range want {
			if event[key] != value {
				t.Errorf("%s: %s is %v, want %v", given, key, event[key], value)
			}
		}
	}
}

func TestLint(t *testing.T) {
	broad := `
title: Broad
logsource: {product: kubernetes, service: audit}
detection:
  a: {stage: ResponseComplete}
  condition: a
---
title: Never
logsource: {product: kubernetes, service: audit}
detection:
  a: {verb: get}
  b: {verb: list}
  condition: a and b and not a
---
title: Only not
logsource: {product: kubernetes, service: audit}
detection:
  a: {verb: get}
  condition: not a
`
	kinds := map[string]bool{}
	for _, f := range offline.Lint(load(t, map[string]string{"a.yml": broad})) {
		kinds[f.RuleID+" "+f.Kind] = true
	}
	for _, want := range []string{"Broad broad", "Never unreachable", "Only not broad", "Never missing"} {
		if !kinds[want] {
			t.Errorf("not found: %s; found %v", want, kinds)
		}
	}
}

func TestFind(t *testing.T) {
	pack := load(t, map[string]string{"a.yml": secretsRule})
	if r, err := offline.Find(pack, "secrets READ"); err != nil || r.Title != "Secrets read" {
		t.Errorf("by title: %v, %v", r, err)
	}
	if _, err := offline.Find(pack, "Secret read"); err == nil || !strings.Contains(err.Error(), `did you mean "Secrets read"`) {
		t.Errorf("got %v", err)
	}
}

func TestLoadReportsAll(t *testing.T) {
	dir := files(t, map[string]string{"a.yml": "title: x", "b.yml": "{", "lists.yml": "a: b"})
	_, err := offline.Sources{Paths: []string{dir}}.Load()
	var broken *offline.RulesError
	if !errors.As(err, &broken) || !strings.Contains(err.Error(), "lists.yml:1:4: a: is no list") {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "lists.yml")); err != nil {
		t.Fatal(err)
	}
	_, err = offline.Sources{Paths: []string{dir}}.Load()
	if !errors.As(err, &broken) || !strings.Contains(err.Error(), "a.yml:1:1") || !strings.Contains(err.Error(), "b.yml") {
		t.Errorf("got %v", err)
	}
	if _, err := (offline.Sources{Paths: []string{filepath.Join(dir, "none")}}).Load(); !errors.As(err, &broken) {
		t.Errorf("got %v", err)
	}
}

// TestBacktest compares two packs on the same events.
func TestBacktest(t *testing.T) {
	before := load(t, map[string]string{"a.yml": secretsRule})
	after := load(t, map[string]string{"a.yml": strings.Replace(secretsRule, "read and not system", "read", 1), "b.yml": execRule})
	path := filepath.Join(files(t, map[string]string{"e": events}), "e")
	history := offline.Files([]string{path}, "c", offline.Context{}, func(offline.Bad) {})
	seen := 0
	reports, err := offline.Backtest(t.Context(), history, func(n int) { seen = n }, before, after)
	if err != nil {
		t.Fatal(err)
	}
	if seen != 4 || reports[0].Events != 4 || reports[0].Matches != 2 || reports[1].Matches != 4 {
		t.Fatalf("seen %d, reports %+v, %+v", seen, reports[0], reports[1])
	}
	if got := reports[1].Rules[0]; got.Alerts != 3 || got.Actors["c/alice"] != 1 || len(got.Examples) != 3 {
		t.Errorf("the first rule is %+v", got)
	}
	diff := offline.Diff(reports[0], reports[1])
	if len(diff) != 2 || diff[0].After-diff[0].Before != 1 || diff[1].After-diff[1].Before != 1 {
		t.Errorf("the difference is %+v", diff)
	}
	if got := rule.List(after); len(got) != 2 || got[0].Cases != 2 {
		t.Errorf("the list is %+v", got)
	}
}
