package rules_test

import (
	"encoding/json"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/alert/rules"
)

func load(t *testing.T) *ir.Pack {
	t.Helper()
	pack, err := rules.Load()
	if err != nil {
		t.Fatal(err)
	}
	return pack
}

// detections returns what raises alerts: rules and correlations that are not silent.
func detections(pack *ir.Pack) []*ir.Meta {
	var all []*ir.Meta
	for i := range pack.Rules {
		if !pack.Rules[i].Silent {
			all = append(all, &pack.Rules[i].Meta)
		}
	}
	for i := range pack.Correlations {
		if !pack.Correlations[i].Silent {
			all = append(all, &pack.Correlations[i].Meta)
		}
	}
	slices.SortFunc(all, func(a, b *ir.Meta) int { return strings.Compare(a.Position.File, b.Position.File) })
	return all
}

func tactics() []string {
	return []string{
		"initial-access", "execution", "persistence", "privilege-escalation", "defense-evasion", "credential-access", "discovery",
		"lateral-movement", "impact",
	}
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// What Sigma leaves open and the pack promises.
func TestPack(t *testing.T) {
	pack := load(t)
	all := detections(pack)
	if len(all) < 105 {
		t.Errorf("%d detections", len(all))
	}
	files := map[string]bool{}
	for _, m := range all {
		if files[m.Position.File] {
			t.Errorf("%s: two detections in one file", m.Position.File)
		}
		files[m.Position.File] = true
		if !slices.Contains(tactics(), path.Dir(m.Position.File)) {
			t.Errorf("%s is in no folder of a tactic", m.Position.File)
		}
		alerts := map[bool]int{}
		for _, c := range m.Cases {
			alerts[c.Alerts > 0]++
		}
		for field, missing := range map[string]bool{
			"id": !uuid.MatchString(m.ID), "status": m.Status == "", "description": len(m.Description) < 60, "author": m.Author != "auditmill",
			"falsepositives": len(m.FalsePositives) == 0, "audit_level": m.AuditLevel == "", "summary": m.Summary.String() == "",
			"next": len(m.Next) < 20, "technique": len(techniques(m)) == 0, "level": m.Level == "", "cases": alerts[true] == 0 || alerts[false] == 0,
			"evaluated": m.Blind != "",
		} {
			if missing {
				t.Errorf("%s: %s is missing or not as it should be", m.Position.File, field)
			}
		}
	}
	found, err := fs.Glob(rules.Files(), "*/*.yml")
	if err != nil || len(found) != len(files) {
		t.Errorf("%d files for %d detections, %v", len(found), len(files), err)
	}
}

func techniques(m *ir.Meta) []string {
	var all []string
	for _, tag := range m.Tags {
		if id, ok := strings.CutPrefix(tag, "attack.t"); ok {
			all = append(all, "T"+strings.ToUpper(id))
		}
	}
	return all
}

// The predicates must agree with the rules' own cases as well as with the recording.
func TestPredicatesOnCases(t *testing.T) {
	pack := load(t)
	for i := range pack.Rules {
		r := &pack.Rules[i]
		is, ok := predicates[nameOf(r)]
		if !ok || r.Silent {
			continue
		}
		for _, c := range r.Cases {
			var e event
			if err := json.Unmarshal(c.Events[0].JSON, &e); err != nil {
				t.Fatal(err)
			}
			if got := is(filled(e)); got != (c.Alerts > 0) {
				t.Errorf("%s: %s: the predicate says %v", c.Position, c.Name, got)
			}
		}
	}
}

// filled adds to the event of a case what the predicates look at and the case leaves out.
func filled(e event) event {
	set := func(into map[string]any, key string, v any) {
		if _, ok := into[key]; !ok {
			into[key] = v
		}
	}
	inner := func(key string) map[string]any {
		set(e, key, map[string]any{})
		m, _ := e[key].(map[string]any)
		if m == nil {
			m = map[string]any{}
		}
		return m
	}
	set(e, "stage", "ResponseComplete")
	set(e, "verb", "get")
	set(e, "auditID", "00000001-0000-4000-8000-000000000001")
	set(e, "userAgent", "kubectl/v1.34.1 (linux/amd64) kubernetes/93248f9")
	set(e, "requestURI", "/api/v1/x")
	set(inner("user"), "username", "mallory")
	set(inner("user"), "groups", []any{"system:authenticated"})
	set(inner("annotations"), "authorization.k8s.io/decision", "allow")
	if e.text("stage") != "RequestReceived" {
		set(inner("responseStatus"), "code", 200.0)
	}
	return e
}
