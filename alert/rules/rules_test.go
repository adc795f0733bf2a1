package rules_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ruletest"
	"github.com/auditmill/auditmill/alert/rules"
	"github.com/auditmill/auditmill/schemas"
)

type ruleCase struct {
	Case  string          `json:"case"`
	Match *bool           `json:"match"`
	Event json.RawMessage `json:"event"`
}

func cases(t *testing.T, name string) []ruleCase {
	t.Helper()
	text, err := fs.ReadFile(rules.Files(), name+".cases.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var all []ruleCase
	for i, line := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		var c ruleCase
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&c); err != nil || c.Case == "" || c.Match == nil || c.Event == nil {
			t.Fatalf("%s.cases.jsonl:%d: not a case: %v", name, i+1, err)
		}
		all = append(all, c)
	}
	return all
}

func TestCases(t *testing.T) {
	pack, err := rules.Parse()
	if err != nil {
		t.Fatal(err)
	}
	for i := range pack {
		r := &pack[i]
		t.Run(nameOf(r), func(t *testing.T) {
			set, err := rule.Compile([]rule.Rule{*r})
			if err != nil {
				t.Fatal(err)
			}
			all := cases(t, nameOf(r))
			var events []*schemas.Event
			for _, c := range all {
				e, err := ruletest.Event("prod", c.Event)
				if err != nil {
					t.Fatalf("%s: %v", c.Case, err)
				}
				events = append(events, e)
			}
			batch, err := ruletest.Batch(events...)
			if err != nil {
				t.Fatal(err)
			}
			defer batch.Release()
			matched := make([]bool, len(all))
			if err := set.NewEvaluator().Match(batch, func(_, row int) { matched[row] = true }); err != nil {
				t.Fatal(err)
			}
			counts := map[bool]int{}
			for j, c := range all {
				counts[*c.Match]++
				if matched[j] != *c.Match {
					t.Errorf("%s: match is %v, want %v\n%s\n%s", c.Case, matched[j], *c.Match, r.Condition, c.Event)
				}
				var e event
				if err := json.Unmarshal(c.Event, &e); err != nil {
					t.Fatal(err)
				}
				if got := predicates[nameOf(r)](e); got != *c.Match {
					t.Errorf("%s: the predicate says %v, want %v", c.Case, got, *c.Match)
				}
			}
			if counts[true] < 2 || counts[false] < 2 {
				t.Errorf("%d cases that match and %d that do not are too few", counts[true], counts[false])
			}
		})
	}
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// What Sigma leaves open and the pack promises.
func TestPack(t *testing.T) {
	pack, err := rules.Parse()
	if err != nil {
		t.Fatal(err)
	}
	if len(pack) < 15 {
		t.Errorf("%d rules", len(pack))
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for i := range pack {
		r := &pack[i]
		row := "| " + nameOf(r) + " | " + r.Level + " | " + r.AuditLevel + " |"
		if !strings.Contains(string(readme), row) {
			t.Errorf("README.md has no row %q", row)
		}
		for field, missing := range map[string]bool{
			"id": !uuid.MatchString(r.ID), "status": r.Status == "", "description": r.Description == "", "author": r.Author != "auditmill",
			"falsepositives": len(r.FalsePositives) == 0, "audit_level": r.AuditLevel == "", "summary": r.Summary.String() == "", "next": r.Next == "",
			"technique": !strings.Contains(strings.Join(r.Tags, " "), "attack.t1"),
		} {
			if missing {
				t.Errorf("%s: %s is missing or not as it should be", nameOf(r), field)
			}
		}
	}
	names, err := fs.Glob(rules.Files(), "*.cases.jsonl")
	if err != nil || len(names) != len(pack) {
		t.Errorf("%d files of cases for %d rules, %v", len(names), len(pack), err)
	}
	for _, name := range names {
		if _, err := fs.Stat(rules.Files(), strings.TrimSuffix(path.Base(name), ".cases.jsonl")+".yml"); err != nil {
			t.Error(err)
		}
	}
}
