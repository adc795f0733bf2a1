package rbac_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/rbac"
	"github.com/auditmill/auditmill/schemas"
)

// From the stream alone nothing is known of what was there before, and nothing wrong is said: what was seen agrees, all
// else is unknown.
func TestStreamAlone(t *testing.T) {
	path := filepath.Join(recordings, "recording.jsonl.gz")
	store := context.NewStore(context.DefaultConfig())
	r := rbac.NewResolver()
	counts := map[rbac.Agreement]int{}
	events(t, path, func(line int, e *schemas.Event) {
		// As it comes: what an event changes is not known before it.
		w := r.Explain(store.Cluster("prod"), e)
		counts[w.Agreement]++
		if w.Agreement == rbac.Disagree {
			t.Errorf("line %d: %s %s %s %q, matches %v", line, e.User, e.Verb, e.RequestURI, e.DecisionReason, w.Matches)
		}
		if _, _, err := store.Event("prod", e); err != nil {
			t.Errorf("line %d: %v", line, err)
		}
	})
	t.Log(counts)
	if counts[rbac.Agree] == 0 {
		t.Error("nothing agrees")
	}
}

// Levels below RequestResponse tell less, but never anything wrong.
func TestLowerLevels(t *testing.T) {
	for _, level := range []string{"Request", "Metadata"} {
		t.Run(level, func(t *testing.T) {
			store := context.NewStore(context.DefaultConfig())
			imported(t, store, "context-before", 0)
			path := filepath.Join(recordings, "recording.jsonl.gz")
			events(t, path, func(_ int, e *schemas.Event) {
				c := *e
				c.Level = level
				if context.KindOf(e.APIGroup, e.Resource) != 0 {
					c.Raw = lowered(t, e.Raw, level)
				}
				_, _, _ = store.Event("prod", &c) // says what it cannot follow, which is the point
			})
			r, counts := rbac.NewResolver(), map[rbac.Agreement]int{}
			events(t, path, func(line int, e *schemas.Event) {
				w := r.Explain(store.Cluster("prod"), e)
				counts[w.Agreement]++
				if w.Agreement == rbac.Disagree {
					t.Errorf("line %d: %s %s %s %q, matches %v", line, e.User, e.Verb, e.RequestURI, e.DecisionReason, w.Matches)
				}
			})
			t.Log(counts)
		})
	}
}

// lowered returns the event as it would have been recorded at a lower level.
func lowered(t *testing.T, raw []byte, level string) []byte {
	t.Helper()
	var e map[string]json.RawMessage
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	delete(e, "responseObject")
	if level == "Metadata" {
		delete(e, "requestObject")
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
