package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditmill/auditmill/schemas"
)

// shell runs commands against a Kafka with the topics of the context.
type shell struct {
	*testing.T
	brokers string
}

func newShell(t *testing.T) *shell {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, schemas.TopicContext, schemas.TopicCredentials))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return &shell{T: t, brokers: strings.Join(cluster.ListenAddrs(), ",")}
}

// try returns what a command prints, and its notes, and how it ends.
func (s *shell) try(in string, args ...string) (out, notes string, err error) {
	s.Helper()
	var o, n bytes.Buffer
	root := newRoot()
	root.SetIn(strings.NewReader(in))
	root.SetOut(&o)
	root.SetErr(&n)
	root.SetArgs(append(args, "--set", "kafka.brokers="+s.brokers))
	err = root.ExecuteContext(s.Context())
	return o.String(), n.String(), err
}

func (s *shell) run(args ...string) string {
	s.Helper()
	out, notes, err := s.try("", args...)
	if err != nil {
		s.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, notes)
	}
	return out
}

func (s *shell) file(name, text string) string {
	s.Helper()
	path := filepath.Join(s.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
	return path
}

// expect compares with testdata/context/NAME.golden.
func (s *shell) expect(name, got string) {
	s.Helper()
	path := filepath.Join("testdata", "context", name+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			s.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			s.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		s.Errorf("%s (-want +got)\n%s", path, diff)
	}
}

const (
	viewRole  = `{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"view","uid":"r1","resourceVersion":"5","creationTimestamp":"2026-01-02T03:04:05Z"},"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}`
	adminRole = `{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"admin","uid":"r2","resourceVersion":"6","creationTimestamp":"2026-01-02T03:04:05Z"},"rules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]}`
	sreAdmins = `{"kind":"ClusterRoleBinding","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"sre","uid":"b1","resourceVersion":"7","creationTimestamp":"2026-01-02T03:04:05Z"},"roleRef":{"kind":"ClusterRole","name":"admin"},"subjects":[{"kind":"Group","name":"sre"}]}`
	annViews  = `{"kind":"RoleBinding","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"ann","namespace":"web","uid":"b2","resourceVersion":"8","creationTimestamp":"2026-01-02T03:04:05Z"},"roleRef":{"kind":"ClusterRole","name":"view"},"subjects":[{"kind":"User","name":"oidc:ann"}]}`
	bobViews  = `{"kind":"RoleBinding","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"ann","namespace":"web","uid":"b2","resourceVersion":"9","creationTimestamp":"2026-01-02T03:04:05Z"},"roleRef":{"kind":"ClusterRole","name":"view"},"subjects":[{"kind":"User","name":"oidc:ann"},{"kind":"User","name":"oidc:bob"}]}`
	someRole  = `{"kind":"Role","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"r","namespace":"web","uid":"r3","resourceVersion":"3"},"rules":[]}`
)

func list(items ...string) string {
	return `{"kind":"List","apiVersion":"v1","items":[` + strings.Join(items, ",") + `]}`
}

// What is imported answers questions, now and for the past.
func TestContextImport(t *testing.T) {
	s := newShell(t)
	dump := s.file("dump.json", list(viewRole, adminRole, sreAdmins, annViews, someRole))
	later := s.file("dump.json", list(viewRole, sreAdmins, bobViews, someRole))
	people := s.file("people.csv", "name,email,team,active,usernames,groups\nAnn,ann@corp.example,web,true,oidc:ann,\nBob,bob@corp.example,sre,false,oidc:bob,sre\n")
	groups := s.file("groups.json", `[{"id":"sre","members":["Bob@corp.example"]},{"id":"system:masters","members":["ann@corp.example"]}]`)

	s.expect("dry_run", s.run("context", "import", "--cluster", "prod", dump, "--at", "2026-11-01T12:00:00Z", "--dry-run"))
	if got := s.run("context", "list", "--output", "json"); got != "[]\n" {
		t.Errorf("after a dry run something is known: %s", got)
	}
	s.expect("import", s.run("context", "import", "--cluster", "prod", dump, "--at", "2026-11-01T12:00:00Z", "--people", people, "--groups", groups))
	if got := s.run("context", "import", "--cluster", "prod", dump, "--people", people, "--groups", groups); !strings.HasSuffix(got, "\nnothing to do\n") {
		t.Errorf("the same again: %s", got)
	}
	s.expect("changes", s.run("context", "import", "--cluster", "prod", later, "--at", "2026-11-02T12:00:00Z"))
	s.expect("list", s.run("context", "list"))
	s.expect("list_kind", s.run("context", "list", "--cluster", "prod", "--kind", "clusterroles"))
	s.expect("list_people", s.run("context", "list", "--kind", "people", "--output", "json"))
	s.expect("show", s.run("context", "show", "prod", "rolebinding", "web/ann"))
	s.expect("show_at", s.run("context", "show", "prod", "rolebinding", "ann", "-n", "web", "--at", "2026-11-01T13:00:00Z"))
	s.expect("history", s.run("context", "show", "prod", "ClusterRole", "admin", "--history"))
	s.expect("history_json", s.run("context", "show", "prod", "RoleBinding", "web/ann", "--history", "--output", "json"))

	s.expect("why_ann", s.run("rbac", "why", "prod", "oidc:ann", "get", "pods", "-n", "web"))
	s.expect("who_can", s.run("rbac", "who-can", "prod", "get", "pods", "-n", "web"))
	s.expect("holds_bob_anywhere", s.run("rbac", "holds", "oidc:bob"))
	s.expect("holds_bob_then", s.run("rbac", "holds", "prod", "oidc:bob", "--at", "2026-11-01T13:00:00Z"))
	s.expect("why_json", s.run("rbac", "why", "prod", "oidc:ann", "get", "pods", "-n", "web", "--output", "json"))
	// Bob's group came with the people, at once; its role is gone since.
	out, _, err := s.try("", "rbac", "why", "prod", "oidc:bob", "delete", "nodes")
	if err == nil || err.Error() != "oidc:bob may not delete nodes" {
		t.Errorf("got %v", err)
	}
	s.expect("why_not", out)
	if _, _, err := s.try("", "rbac", "why", "prod", "oidc:bob", "delete", "nodes", "--at", "2026-10-01T00:00:00Z"); err == nil || !strings.Contains(err.Error(), "only from 2026-11-01T12:00:00Z on") {
		t.Errorf("before everything: %v", err)
	}
	// Who is asked for by e-mail is told what clusters call that person.
	out, _, err = s.try("", "rbac", "why", "prod", "ann@corp.example", "get", "pods", "-n", "web")
	if err == nil || !strings.Contains(out, "\nalso called oidc:ann, which may be allowed something else\nnot allowed") {
		t.Errorf("got %v, %s", err, out)
	}
	// What was exported is what was imported.
	exported := s.file("exported.json", s.run("context", "export", "prod"))
	if got := s.run("context", "import", "--cluster", "prod", exported); !strings.HasSuffix(got, "\nnothing to do\n") {
		t.Errorf("what was exported differs: %s", got)
	}
	s.expect("export_people", s.run("context", "export", organization))
}

func (s *shell) usage(want string, args ...string) {
	s.Helper()
	_, _, err := s.try("", args...)
	if _, ok := errors.AsType[*usageError](err); !ok || !strings.Contains(err.Error(), want) {
		s.Errorf("%s: got %v, want an error of usage with %q", strings.Join(args, " "), err, want)
	}
}

func TestContextRefuses(t *testing.T) {
	s := newShell(t)
	dump := s.file("dump.json", list(viewRole))
	twice := s.file("people.csv", "email\na@b.example\na@b.example\n")
	ranges := s.file("ranges.txt", "10.0.0.1/8 vpn\n")
	s.usage("name something", "context", "import")
	s.usage("--cluster: is needed", "context", "import", dump)
	s.usage("is no name of a cluster", "context", "import", "--cluster", "*", dump)
	s.usage("of which none is named", "context", "import", "--cluster", "prod", "--people", twice)
	s.usage("once only", "context", "import", "--people", "-", "--groups", "-")
	s.usage("--kubectl=prod", "context", "import", "--cluster", "prod", "--kubectl", "prod")
	s.usage("which is not given", "context", "import", "--people", twice, "--scim-token-file", "x")
	s.usage("{nick} is no field", "context", "import", "--people", twice, "--username", "{nick}")
	s.usage("write table or json", "context", "import", "--people", twice, "--output", "yaml")
	s.usage(`--at "noon"`, "context", "import", "--people", twice, "--at", "noon")
	s.usage("use https", "context", "import", "--scim", "http://idp.example/scim")
	// All faults of all lists are told at once.
	s.usage("people.csv:3: email: \"a@b.example\" is on line 2 already", "context", "import", "--people", twice, "--ranges", ranges)
	s.usage("ranges.txt:1: cidr: \"10.0.0.1/8\" has bits behind its length", "context", "import", "--people", twice, "--ranges", ranges)
	s.usage("\"pod2\" is no kind", "context", "list", "--kind", "pod2")
	s.usage("name its namespace", "context", "show", "prod", "role", "r")
	s.usage("want import:NAME", "context", "remove", "--source", "audit")
	s.usage("name one cluster", "context", "remove")
	s.usage("accepts 4 arg(s)", "rbac", "why", "prod", "ann")
	for want, args := range map[string][]string{
		"nothing in it that is followed":      {"context", "import", "--cluster", "prod", s.file("x.json", list())},
		"write it with: kubectl get":          {"context", "import", "--cluster", "prod", s.file("x.json", "{")},
		"no such file":                        {"context", "import", "--people", "/does/not/exist"},
		`nothing is known of cluster "prod"`:  {"context", "list", "--cluster", "prod"},
		"ClusterRole view is not known":       {"context", "show", "prod", "ClusterRole", "view"},
		`nothing is known of cluster "test"`:  {"context", "remove", "test"},
		"no people, groups or ranges":         {"context", "remove", "--source", "import:x"},
		"'auditmill context list' names what": {"rbac", "holds", "prod", "ann"},
		"nothing is known of cluster \"dev\"": {"context", "export", "dev"},
	} {
		_, _, err := s.try("", args...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", strings.Join(args, " "), err, want)
		}
		if _, ok := errors.AsType[*usageError](err); ok {
			t.Errorf("%s: is no error of usage: %v", strings.Join(args, " "), err)
		}
	}
	if got := s.run("context", "list", "--output", "json"); got != "[]\n" {
		t.Errorf("something was written: %s", got)
	}
}

// A list that was cut off removes nobody unasked.
func TestContextGuard(t *testing.T) {
	s := newShell(t)
	many, few := "cidr,zone\n", "cidr,zone\n10.0.0.0/24,office\n"
	for i := range 30 {
		many += fmt.Sprintf("10.0.%d.0/24,office\n", i)
	}
	s.run("context", "import", "--ranges", s.file("ranges.csv", many))
	cut := s.file("ranges.csv", few)
	_, _, err := s.try(few, "context", "import", "--ranges", "-", "--source", "ranges.csv")
	if _, ok := errors.AsType[*usageError](err); !ok || !strings.Contains(err.Error(), "remove 29 of the 30 objects of import:ranges.csv: nobody can be asked; look with --dry-run, then say --yes") {
		t.Errorf("got %v", err)
	}
	if _, _, err := s.try("no\n", "context", "import", "--ranges", cut); err == nil || !strings.Contains(err.Error(), "declined: nothing was changed") {
		t.Errorf("got %v", err)
	}
	// Another list of the same content takes nothing away.
	if got := s.run("context", "import", "--ranges", cut, "--source", "other"); !strings.HasSuffix(got, "nothing to do\n") {
		t.Errorf("got %s", got)
	}
	count := func() int {
		return strings.Count(s.run("context", "list", "--kind", "range", "--output", "json"), "\n")
	}
	if n := count(); n != 30 {
		t.Errorf("%d ranges before", n)
	}
	out, notes, err := s.try("yes\n", "context", "import", "--ranges", cut)
	if err != nil || !strings.Contains(out, "0 added, 0 changed, 29 removed, 1 unchanged\n29 records") || !strings.Contains(notes, "remove 29 of the 30 objects of import:ranges.csv?") {
		t.Errorf("got %v, %s%s", err, out, notes)
	}
	if n := count(); n != 1 {
		t.Errorf("%d ranges after", n)
	}
	s.run("context", "remove", "--source", "import:ranges.csv", "--yes")
	if n := count(); n != 0 {
		t.Errorf("%d ranges at the end", n)
	}
}

// Standard input is a dump, or a list, and cannot be asked then.
func TestContextStandardInput(t *testing.T) {
	s := newShell(t)
	out, _, err := s.try(list(viewRole), "context", "import", "--cluster", "prod", "-", "--output", "json")
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Written int
		Imports []struct {
			Cluster, Source string
			Added           int
			Complete        []string
			Steps           []struct{ Operation, Kind, Name string }
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	if i := report.Imports; report.Written != 2 || len(i) != 1 || i[0].Cluster != "prod" || i[0].Source != "import:standard input" || i[0].Added != 1 ||
		!cmp.Equal(i[0].Complete, []string{"ClusterRole"}) || len(i[0].Steps) != 1 || i[0].Steps[0].Operation != "add" {
		t.Errorf("got %s", out)
	}
	if _, _, err := s.try("{", "context", "import", "--cluster", "prod", "-"); err == nil || !strings.HasPrefix(err.Error(), "standard input: ") {
		t.Errorf("got %v", err)
	}
}

// A part of a cluster removes nothing, and does not make all of it known.
func TestContextPartial(t *testing.T) {
	s := newShell(t)
	s.run("context", "import", "--cluster", "prod", s.file("all.json", list(viewRole, adminRole)))
	got := s.run("context", "import", "--cluster", "prod", "--partial", s.file("part.json", list(someRole)))
	if !strings.Contains(got, "\n1 added, 0 changed, 0 removed, 0 unchanged\n1 record ") {
		t.Errorf("got %s", got)
	}
	if got := s.run("context", "list", "--cluster", "prod"); !strings.Contains(got, "ClusterRole  2        yes") || !strings.Contains(got, "Role         1        no") {
		t.Errorf("got %s", got)
	}
}

// An import that stopped in the middle is completed by the next: all roles and bindings are said to be known only when
// they are written.
func TestContextInterrupted(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, schemas.TopicContext, schemas.TopicCredentials))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	s := &shell{T: t, brokers: strings.Join(cluster.ListenAddrs(), ",")}
	dump := s.file("dump.json", list(viewRole, adminRole, sreAdmins, annViews, someRole))
	var produced atomic.Int32
	var works atomic.Bool
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if produced.Add(1) == 1 || works.Load() {
			return nil, nil, false
		}
		res := r.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range r.(*kmsg.ProduceRequest).Topics {
			answer := kmsg.NewProduceResponseTopic()
			answer.Topic, answer.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				part := kmsg.NewProduceResponseTopicPartition()
				part.Partition, part.ErrorCode = p.Partition, kerr.TopicAuthorizationFailed.Code
				answer.Partitions = append(answer.Partitions, part)
			}
			res.Topics = append(res.Topics, answer)
		}
		return res, nil, true
	})
	if _, _, err := s.try("", "context", "import", "--cluster", "prod", dump); err == nil || !strings.Contains(err.Error(), "run the same command again") {
		t.Fatalf("got %v", err)
	}
	if got := s.run("context", "list", "--cluster", "prod"); strings.Contains(got, "yes") {
		t.Errorf("all is said to be known:\n%s", got)
	}
	works.Store(true)
	s.run("context", "import", "--cluster", "prod", dump)
	if got := s.run("context", "list", "--cluster", "prod"); strings.Count(got, "yes") != 4 || strings.Contains(got, "no\n") {
		t.Errorf("got\n%s", got)
	}
	if got := s.run("context", "import", "--cluster", "prod", dump); !strings.HasSuffix(got, "\nnothing to do\n") {
		t.Errorf("the same again: %s", got)
	}
}

func TestContextSCIM(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if r.URL.Path == "/scim/Users" {
			fmt.Fprint(w, `{"totalResults":1,"Resources":[{"id":"1","userName":"ann","externalId":"e1","emails":[{"value":"ann@corp.example"}],"active":true}]}`)
			return
		}
		fmt.Fprint(w, `{"totalResults":1,"Resources":[{"id":"g","displayName":"sre","members":[{"value":"1"}]}]}`)
	}))
	t.Cleanup(server.Close)
	s := newShell(t)
	args := []string{"context", "import", "--scim", server.URL + "/scim", "--source", "idp", "--username", "oid:{externalId}"}
	if _, _, err := s.try("", args...); err == nil || !strings.Contains(err.Error(), "answered 403 Forbidden; check the token") {
		t.Errorf("without a token: %v", err)
	}
	got := s.run(append(args, "--scim-token-file", s.file("token", "secret\n"))...)
	if !strings.HasPrefix(got, "import:idp, from ") || !strings.Contains(got, "+ Person ann@corp.example\n+ Group sre\n2 added") {
		t.Errorf("got %s", got)
	}
	t.Setenv(tokenVariable, "secret")
	if got := s.run(args...); !strings.HasSuffix(got, "nothing to do\n") {
		t.Errorf("the same again: %s", got)
	}
	if got := s.run("context", "show", organization, "person", "ann@corp.example"); !strings.Contains(got, `"oid:e1"`) || !strings.Contains(got, `"sre"`) {
		t.Errorf("got %s", got)
	}
}

// What kubectl prints is all there is of the kinds that were asked for; it is only asked.
func TestContextKubectl(t *testing.T) {
	s := newShell(t)
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	args := []string{"context", "import", "--cluster", "prod", "--kubectl=admin@prod"}
	if _, _, err := s.try("", args...); err == nil || !strings.Contains(err.Error(), "no kubectl in $PATH") {
		t.Errorf("got %v", err)
	}
	script := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	script("echo 'error: no context exists with the name' >&2\nexit 1\n")
	if _, _, err := s.try("", args...); err == nil || !strings.Contains(err.Error(), "kubectl get: exit status 1: error: no context exists") {
		t.Errorf("got %v", err)
	}
	script(`[ "$1" = get ] && [ "$5" = "--context=admin@prod" ] || exit 7` + "\necho '" + list(viewRole) + "'\n")
	if got := s.run(args...); !strings.Contains(got, "1 added") || !strings.Contains(got, "RoleBinding") || !strings.Contains(got, "Pod") {
		t.Errorf("got %s", got)
	}
}

func TestContextMMDB(t *testing.T) {
	s := newShell(t)
	if _, _, err := s.try("", "context", "import", "--mmdb", s.file("x.mmdb", "no such thing")); err == nil || !strings.Contains(err.Error(), "x.mmdb") {
		t.Errorf("got %v", err)
	}
}

// The shell is offered what there is.
func TestContextCompletion(t *testing.T) {
	s := newShell(t)
	s.run("context", "import", "--cluster", "prod", s.file("dump.json", list(viewRole)))
	// Where the command line ends is what is completed; the flag comes before.
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"rbac", "why", "p"}, "prod"},
		{[]string{"rbac", "why", "prod", "ann", "de"}, "delete"},
		{[]string{"rbac", "who-can", "prod", "get", "sec"}, "secrets"},
		{[]string{"context", "show", "prod", "ClusterRoleB"}, "ClusterRoleBinding"},
		{[]string{"context", "list", "--kind", "Per"}, "Person"},
		{[]string{"context", "import", "--cluster", ""}, "prod"},
	} {
		var out bytes.Buffer
		root := newRoot()
		root.SetOut(&out)
		root.SetErr(&out)
		root.SetArgs(append([]string{"__complete", "--set", "kafka.brokers=" + s.brokers}, tt.args...))
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(strings.Split(out.String(), "\n"), tt.want) {
			t.Errorf("%v: got %s", tt.args, out.String())
		}
	}
}

// A cluster that is no more is unknown again.
func TestContextRemove(t *testing.T) {
	s := newShell(t)
	dump := s.file("dump.json", list(viewRole))
	s.run("context", "import", "--cluster", "prod", dump)
	s.run("context", "import", "--cluster", "test", dump)
	if _, _, err := s.try("", "context", "remove", "prod"); err == nil || !strings.Contains(err.Error(), "declined") {
		t.Errorf("got %v", err)
	}
	s.run("context", "remove", "prod", "--yes")
	if got := s.run("context", "list"); strings.Contains(got, "prod") || !strings.Contains(got, "test") {
		t.Errorf("got\n%s", got)
	}
	if _, _, err := s.try("", "rbac", "holds", "prod", "ann"); err == nil || !strings.Contains(err.Error(), `nothing is known of cluster "prod"`) {
		t.Errorf("got %v", err)
	}
	if got := s.run("context", "import", "--cluster", "prod", dump); !strings.Contains(got, "1 added") {
		t.Errorf("got\n%s", got)
	}
	s.run("rbac", "holds", "prod", "ann")
}

// What is answered from Kafka is what is answered from the files that were imported.
func TestContextLikeFiles(t *testing.T) {
	dumps := filepath.Join("..", "..", "..", "shared", "data", "kube", "context-before")
	if _, err := os.Stat(dumps); err != nil {
		t.Skip("no recorded cluster here")
	}
	s := newShell(t)
	s.run("context", "import", "--cluster", "prod", dumps, "--at", "1970-01-01T00:00:00Z", "--source", "recording")
	for _, question := range [][]string{
		{"who-can", "prod", "get", "secrets", "-n", "payments"},
		{"who-can", "prod", "create", "pods/exec", "-n", "kube-system"},
		{"why", "prod", "system:serviceaccount:ci:deployer", "patch", "deployments.apps", "-n", "web"},
		{"holds", "prod", "system:serviceaccount:velero:velero"},
	} {
		live := s.run(append([]string{"rbac"}, question...)...)
		files := s.run(append([]string{"rbac", "--context", dumps}, question...)...)
		if diff := cmp.Diff(files, live); diff != "" || !strings.Contains(live, "ClusterRoleBinding") {
			t.Errorf("%v (-files +live)\n%s", question, diff)
		}
	}
}
