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
	recordingFile = "../../testdata/recording/sample.jsonl.gz"
	expectedFile  = "testdata/sample.expected.tsv"
	contextFile   = "testdata/sample.context.tsv"
	expectedHead  = "rule\tname\tline\tevent_time\tstage\taudit_id"
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
	lines, err := ruletest.Recording(recordingFile)
	if err != nil {
		t.Fatal(err)
	}
	want := golden(t, expectedFile, pack, byPredicates(t, pack, lines, predicate), func(r *rule.Rule) bool { return predicate(r) != nil })
	if d := cmp.Diff(want, byEngine(t, pack, lines)); d != "" {
		t.Errorf("the engine does not agree with %s (-file +engine):\n%s", expectedFile, d)
	}
}

// TestRecordingWithContext makes the list of what rules on who and why must say of the recording. What tells the engine
// who and why is in another service; a test of package offline holds both together to the list.
func TestRecordingWithContext(t *testing.T) {
	pack, err := rules.Parse()
	if err != nil {
		t.Fatal(err)
	}
	lines, err := ruletest.Recording(recordingFile)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, lines)
	of := func(r *rule.Rule) func(event) bool {
		is, ok := contextPredicates[nameOf(r)]
		if !ok || r.Silent {
			return nil
		}
		return func(e event) bool { return is(w, e) }
	}
	golden(t, contextFile, pack, byPredicates(t, pack, lines, of), func(r *rule.Rule) bool { return of(r) != nil })
}

// golden holds what predicates say to a file, and returns its lines. Each of the proven rules must be in it.
func golden(t *testing.T, file string, pack []rule.Rule, byPredicate []string, proven func(*rule.Rule) bool) []string {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(byPredicate, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if d := cmp.Diff(want, byPredicate); d != "" {
		t.Errorf("the predicates do not agree with %s (-file +predicates):\n%s", file, d)
	}
	for i := range pack {
		if proven(&pack[i]) && !bytes.Contains(text, []byte(pack[i].ID)) {
			t.Errorf("%s is not proven on the recording: nothing matches", nameOf(&pack[i]))
		}
	}
	return want
}

func byPredicates(t *testing.T, pack []rule.Rule, lines [][]byte, predicate func(*rule.Rule) func(event) bool) []string {
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
