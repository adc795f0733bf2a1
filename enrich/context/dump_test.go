package context_test

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich/context"
)

func dumpOf(t *testing.T, text string) *context.Dump {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dump.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := context.ReadDump(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestReadDump(t *testing.T) {
	dir := t.TempDir()
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write([]byte(`{"kind":"List","items":[` + role("a", 1, "", "get") + `,` + role("b", 2, "", "list") + `]}`)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"clusterroles.json.gz": zipped.String(),
		"roles.json":           `{"kind":"List","items":[]}`,
		"secrets.json":         `{"kind":"List","items":[{"kind":"Secret","apiVersion":"v1","metadata":{"name":"p"}}]}`,
		"one.json":             `{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"n"}}`,
		"README.md":            "no dump",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, err := context.ReadDump(dir)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, o := range d.Objects {
		keys = append(keys, o.Key.String())
	}
	if diff := cmp.Diff([]string{"ClusterRole a", "ClusterRole b", "Namespace n"}, keys); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]context.Kind{context.ClusterRole, context.Role}, d.Complete); diff != "" {
		t.Error(diff)
	}
}

func TestReadDumpFaults(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", ``, "x.json: "},
		{"no JSON", `kind: List`, "write it with: kubectl get KIND -A -o json"},
		{"events", `{"kind":"EventList","items":7}`, "neither a List nor an object"},
		{"a field", `{"kind":"List","items":[` + role("a", 1, "", "get") + `,{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"b"},"rules":[{"verbs":"get"}]}]}`, `x.json: items[1]: ClusterRole b: rules.verbs: want an array, got "get"`},
		{"no namespace", `{"kind":"Role","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"b"}}`, "x.json: Role b: metadata: a name and, for this kind, a namespace"},
		{"cut gzip", "\x1f\x8b\x08", "x.json: decompressing: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.json")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := context.ReadDump(path); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
	if _, err := context.ReadDump(t.TempDir()); err == nil || !strings.Contains(err.Error(), "kubectl get clusterroles") {
		t.Errorf("of an empty directory: %v", err)
	}
}

// A dump says what is there, and what no longer is.
func TestImport(t *testing.T) {
	s := context.NewStore(context.DefaultConfig())
	apply(t, s,
		event{verb: "create", resource: "clusterroles", name: "kept", at: 10, response: role("kept", 1, "", "get")},
		event{verb: "create", resource: "clusterroles", name: "missed", at: 11, response: role("missed", 2, "", "get")},
		event{verb: "create", resource: "clusterroles", name: "changed", at: 12, response: role("changed", 3, "", "get")})
	before := s.Cluster(cluster).Latest()
	s.Import(cluster, dumpOf(t, `{"kind":"ClusterRoleList","items":[`+role("kept", 1, "", "get")+`,`+role("changed", 9, "", "list")+`,`+role("new", 8, "", "watch")+`]}`), 20)
	for name, want := range map[string][2]string{
		"kept": {"get", "get"}, "missed": {"get", "-"}, "changed": {"get", "list"}, "new": {"-", "watch"},
	} {
		if got := [2]string{verbs(s, name, 19), verbs(s, name, 20)}; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if before.Complete(context.ClusterRole) || !s.Cluster(cluster).Latest().Complete(context.ClusterRole) {
		t.Error("complete is wrong")
	}
	if item, _ := s.Cluster(cluster).Latest().Get(context.Key{Kind: context.ClusterRole, Name: "kept"}); item.From != 10 {
		t.Errorf("what was known exactly is now from %d", item.From)
	}
}

// A record says all that a change does.
func TestRecords(t *testing.T) {
	s := context.NewStore(context.DefaultConfig())
	var changes []context.Change
	for _, e := range []event{
		{verb: "create", resource: "clusterroles", name: "r", at: 10, response: role("r", 1, `,"labels":{"a":"b"}},"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]},"x":{"y":1`, "get")},
		{verb: "create", resource: "rolebindings", namespace: "n", name: "b", at: 11, request: `{"roleRef":{"kind":"Role","name":"x"},"subjects":[{"kind":"User","name":"u"}]}`},
		{verb: "update", resource: "clusterroles", name: "r", at: 12},
		{verb: "delete", resource: "clusterroles", name: "r", at: 13, uid: "u"},
		{verb: "create", resource: "clusterroles", at: 14},
	} {
		c, _ := s.FromEvent(cluster, e.schema())
		changes = append(changes, c...)
	}
	changes = append(changes, context.Change{From: 15, Complete: []context.Kind{context.Role}, Source: "import:x"})
	again := context.NewStore(context.DefaultConfig())
	for i := range changes {
		text, err := context.AppendRecord(nil, cluster, &changes[i])
		if err != nil {
			t.Fatal(err)
		}
		name, c, err := context.ParseRecord(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if key := context.RecordKey(name, &c); key != context.RecordKey(cluster, &changes[i]) {
			t.Errorf("the key became %q", key)
		}
		again.Apply(name, c)
		s.Apply(cluster, changes[i])
		if diff := cmp.Diff(picture(s.Cluster(cluster).Latest()), picture(again.Cluster(cluster).Latest())); diff != "" {
			t.Errorf("after %s: (-changes +records)\n%s", text, diff)
		}
	}
	if len(changes) != 6 || !again.Cluster(cluster).Latest().Doubtful() || !again.Cluster(cluster).Latest().Complete(context.Role) {
		t.Errorf("%d changes", len(changes))
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"cluster":"c","kind":"Role","namespace":"n","name":"r","valid_from":1,"object":{"rules":[]},"source":"audit"}`))
	f.Add([]byte(`{"cluster":"c","complete":["Role"],"valid_from":1,"source":"watch"}`))
	f.Add([]byte(`{"cluster":"c","kind":"Role","name":"r","deleted":true}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		name, c, err := context.ParseRecord(text)
		if err != nil {
			return
		}
		once, err := context.AppendRecord(nil, name, &c)
		if err != nil {
			t.Fatal(err)
		}
		again, c2, err := context.ParseRecord(once)
		if err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		if twice, err := context.AppendRecord(nil, again, &c2); err != nil || string(once) != string(twice) {
			t.Fatalf("%s became %s (%v)", once, twice, err)
		}
	})
}
