package access_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich/rbac"
	"github.com/auditmill/auditmill/offline/access"
)

const (
	view    = `{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"view"},"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}`
	binding = `{"kind":"ClusterRoleBinding","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"ann","uid":"u","resourceVersion":"7"},"roleRef":{"kind":"ClusterRole","name":"view"},"subjects":[{"kind":"User","name":"ann"}]}`
	made    = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"a","stage":"ResponseComplete","requestURI":"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings","verb":"create","user":{"username":"root"},"objectRef":{"resource":"clusterrolebindings","apiGroup":"rbac.authorization.k8s.io"},"responseStatus":{"code":201},"responseObject":` + binding + `,"requestReceivedTimestamp":"2026-11-01T12:00:00.000000Z","stageTimestamp":"2026-11-01T12:00:00.005000Z"}`
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A grant is there from the moment that it was made.
func TestWhy(t *testing.T) {
	sources := access.Sources{
		Dumps: []string{write(t, "clusterroles.json", `{"kind":"List","items":[`+view+`]}`)}, Events: []string{write(t, "events.jsonl", made+"\n{oops\n")},
	}
	var notes []string
	store, err := access.Load(t.Context(), "prod", sources, func(err error) { notes = append(notes, err.Error()) })
	if err != nil {
		t.Fatal(err)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "events.jsonl:2: ") {
		t.Errorf("notes: %q", notes)
	}
	q := rbac.ParseResource("pods")
	q.Verb = "get"
	for at, want := range map[string]bool{"2026-11-01T12:00:00Z": false, "2026-11-01T12:00:01Z": true} {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		state, err := access.State(store, "prod", when, "try again")
		if err != nil {
			t.Fatal(err)
		}
		if a := access.Why(state, "ann", nil, &q); a.Allowed != want || a.Complete || len(rbac.WhoCan(state, &q)) != len(a.Matches) {
			t.Errorf("at %s: %+v", at, a)
		}
	}
	state, err := access.State(store, "prod", time.Time{}, "")
	if err != nil {
		t.Fatal(err)
	}
	if a := access.Why(state, "eve", []string{"system:masters"}, &q); !a.Allowed || !a.Masters {
		t.Errorf("masters: %+v", a)
	}
	if h := rbac.NewResolver().Holds(state, "ann", nil); len(h) != 1 || h[0].Binding.String() != "ClusterRoleBinding ann" || h[0].Missing || len(h[0].Rules) != 1 {
		t.Errorf("holds: %+v", h)
	}
}

func TestFaults(t *testing.T) {
	none := func(error) {}
	for _, tt := range []struct{ dump, want string }{
		{"/does/not/exist", "/does/not/exist"},
		{write(t, "x.json", `{"kind":"List","items":[]}`) + "@2026-99-01", "is no time"},
		{write(t, "pods.json", `{"kind":"List","items":[]}`), "no roles, bindings"},
	} {
		if _, err := access.Load(t.Context(), "prod", access.Sources{Dumps: []string{tt.dump}}, none); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", tt.dump, err, tt.want)
		}
	}
	path := write(t, "clusterroles.json", `{"kind":"List","items":[`+view+`]}`) + "@2026-11-01T12:00:00Z"
	store, err := access.Load(t.Context(), "prod", access.Sources{Dumps: []string{path}}, none)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := access.State(store, "prod", time.Unix(0, 0), "name an older dump"); err == nil || !strings.Contains(err.Error(), "older dump") {
		t.Errorf("before the dump: %v", err)
	}
	if _, err := access.State(store, "test", time.Time{}, ""); err == nil || !strings.Contains(err.Error(), `cluster "test"`) {
		t.Errorf("of another cluster: %v", err)
	}
}

func TestParseResource(t *testing.T) {
	for text, want := range map[string]rbac.Request{
		"pods":                   {Resource: "pods"},
		"pods/exec":              {Resource: "pods", Subresource: "exec"},
		"deployments.apps/scale": {Resource: "deployments", APIGroup: "apps", Subresource: "scale"},
		"/healthz":               {Path: "/healthz"},
	} {
		if diff := cmp.Diff(want, rbac.ParseResource(text)); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}
