package rules_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ruletest"
	"github.com/auditmill/auditmill/alert/rules"
	"github.com/auditmill/auditmill/schemas"
)

var update = flag.Bool("update", false, "write testdata anew from the predicates")

const (
	recording    = "../../testdata/recording/sample.jsonl.gz"
	expectedFile = "testdata/sample.expected.tsv"
	expectedHead = "rule\tname\tline\tevent_time\tstage\taudit_id"
)

// nameOf returns the name of a rule's file, without its ending.
func nameOf(r *rule.Rule) string {
	return strings.TrimSuffix(filepath.Base(r.Position.File), ".yml")
}

func expectedLine(r *rule.Rule, line int, raw []byte) string {
	var e struct{ AuditID, Stage, RequestReceivedTimestamp string }
	_ = json.Unmarshal(raw, &e)
	id, _ := json.Marshal(e.AuditID) // it may hold anything
	return fmt.Sprintf("%s\t%s\t%d\t%s\t%s\t%s", r.ID, nameOf(r), line, e.RequestReceivedTimestamp, e.Stage, id)
}

// predicate returns the predicate of a rule that speaks for itself; nil if there is none.
func predicate(r *rule.Rule) func(event) bool {
	if r.Silent {
		return nil
	}
	if is, ok := predicates[nameOf(r)]; ok {
		return is
	}
	return morePredicates[nameOf(r)]
}

// TestRecording holds the engine to the predicates on the shipped recording. A rule without a predicate
// must not match there: whoever writes one that does writes its predicate too.
func TestRecording(t *testing.T) {
	pack, err := rules.Parse()
	if err != nil {
		t.Fatal(err)
	}
	lines, err := ruletest.Recording(recording)
	if err != nil {
		t.Fatal(err)
	}
	byPredicate := byPredicates(t, pack, lines)
	if *update {
		if err := os.WriteFile(expectedFile, []byte(strings.Join(byPredicate, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(expectedFile)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(golden), "\n"), "\n")
	if d := cmp.Diff(want, byPredicate); d != "" {
		t.Errorf("the predicates do not agree with %s (-file +predicates):\n%s", expectedFile, d)
	}
	if d := cmp.Diff(want, byEngine(t, pack, lines)); d != "" {
		t.Errorf("the engine does not agree with %s (-file +engine):\n%s", expectedFile, d)
	}
	for i := range pack {
		if predicate(&pack[i]) != nil && !bytes.Contains(golden, []byte(pack[i].ID)) {
			t.Errorf("%s is not proven on the recording: nothing matches", nameOf(&pack[i]))
		}
	}
}

func byPredicates(t *testing.T, pack []rule.Rule, lines [][]byte) []string {
	t.Helper()
	out := []string{expectedHead}
	for i, raw := range lines {
		var e event
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		for j := range pack {
			if is := predicate(&pack[j]); is != nil && is(e) {
				out = append(out, expectedLine(&pack[j], i+1, raw))
			}
		}
	}
	return out
}

func byEngine(t *testing.T, pack []rule.Rule, lines [][]byte) []string {
	t.Helper()
	set, err := rule.Compile(pack)
	if err != nil {
		t.Fatal(err)
	}
	evaluator := set.NewEvaluator()
	got := []string{expectedHead}
	const size = 1000
	for first := 0; first < len(lines); first += size {
		var events []*schemas.Event
		for _, raw := range lines[first:min(first+size, len(lines))] {
			e, err := ruletest.Event("prod", raw)
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		batch, err := ruletest.Batch(events...)
		if err != nil {
			t.Fatal(err)
		}
		err = evaluator.Match(batch, func(r, row int) {
			if pack[r].Silent {
				return
			}
			got = append(got, expectedLine(&pack[r], first+row+1, lines[first+row]))
		})
		if err != nil {
			t.Fatal(err)
		}
		batch.Release()
	}
	t.Logf("%+v", evaluator.Stats())
	return got
}
