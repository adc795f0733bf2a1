package rbac_test

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/auditmill/auditmill/enrich"
	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/rbac"
	"github.com/auditmill/auditmill/schemas"
)

const recordings = "../../../shared/data/kube"

// events calls yield for the events of a recording.
func events(t testing.TB, path string, yield func(line int, e *schemas.Event)) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Skipf("no recording: %v", err)
	}
	defer f.Close()
	text, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 16<<20)
	offline := enrich.NewOffline()
	for line := 1; lines.Scan(); line++ {
		e, err := offline.Event("prod", lines.Bytes(), &schemas.FingerprintFields{}, "")
		if err != nil {
			t.Fatalf("line %d: %v", line, err)
		}
		yield(line, e)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

func imported(t testing.TB, store *context.Store, dir string, from int64) {
	t.Helper()
	dump, err := context.ReadDump(filepath.Join(recordings, dir))
	if os.IsNotExist(err) {
		t.Skipf("no recording: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	store.Import("prod", dump, from)
}

// An exception is an event on which the API server and we do not agree.
type exception struct{ user, request, decision string }

// exceptions would be explained here one by one; there are none.
func exceptions() []exception { return nil }

func TestRecording(t *testing.T) {
	for _, file := range []string{"recording.jsonl.gz", "sample.jsonl.gz"} {
		t.Run(file, func(t *testing.T) { testRecording(t, filepath.Join(recordings, file)) })
	}
}

func testRecording(t *testing.T, path string) {
	t.Helper()
	store := context.NewStore(context.DefaultConfig())
	imported(t, store, "context-before", 0)
	events(t, path, func(line int, e *schemas.Event) {
		if _, _, err := store.Event("prod", e); err != nil {
			t.Errorf("line %d: %v", line, err)
		}
	})
	r := rbac.NewResolver()
	counts := map[string]int{}
	left := exceptions()
	events(t, path, func(line int, e *schemas.Event) {
		w := r.Explain(store.Cluster("prod"), e)
		if e.Decision == "" {
			return
		}
		if w.Impersonation != nil && !w.Impersonation.Allowed {
			t.Errorf("line %d: %s acts as %s without the right to", line, e.User, e.ImpersonatedUser)
		}
		counts[fmt.Sprintf("%s %s: %s", e.Decision, e.Authorizer, w.Agreement)]++
		named := e.Decision == "allow" && strings.HasPrefix(e.DecisionReason, "RBAC: ")
		if w.Agreement == rbac.Agree || e.Decision == "allow" && !named {
			return
		}
		got := exception{user: e.User, request: e.Verb + " " + e.RequestURI, decision: e.Decision}
		i := slices.IndexFunc(left, func(x exception) bool {
			return x.user == got.user && x.request == got.request && x.decision == got.decision
		})
		if i < 0 {
			t.Errorf("line %d: %s: %s %s %q, matches %v", line, w.Agreement, got.user, got.request, e.DecisionReason, w.Matches)
			return
		}
		left = slices.Delete(left, i, i+1)
	})
	for _, x := range left {
		t.Errorf("no longer an exception: %+v", x)
	}
	t.Log(counts)
}

// At the end of the recording what was followed is what is there.
func TestFollowed(t *testing.T) {
	store := context.NewStore(context.DefaultConfig())
	imported(t, store, "context-before", 0)
	events(t, filepath.Join(recordings, "recording.jsonl.gz"), func(_ int, e *schemas.Event) {
		_, _, _ = store.Event("prod", e)
	})
	after := context.NewStore(context.DefaultConfig())
	imported(t, after, "context-after", 0)
	got, want := store.Cluster("prod").Latest(), after.Cluster("prod").Latest()
	for kind := context.Role; kind <= context.Namespace; kind++ {
		if diff := cmp.Diff(objects(want, kind), objects(got, kind), cmpopts.IgnoreUnexported(context.Object{})); diff != "" {
			t.Errorf("%s (-dump +followed):\n%s", kind, diff)
		}
	}
}

func objects(s *context.State, kind context.Kind) map[string]context.Object {
	all := map[string]context.Object{}
	for item := range s.Objects(kind) {
		o := *item.Object
		all[item.Key.String()] = o
	}
	return all
}
