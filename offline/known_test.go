package offline_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/offline"
	"github.com/auditmill/auditmill/schemas"
)

// grantedEvent is an event of a reader, or of who lets him read.
func grantedEvent(id, at, user, verb, resource, more string) string {
	return fmt.Sprintf(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":%q,"stage":"ResponseComplete",`+
		`"requestURI":"/x/%[5]s","verb":%[4]q,"user":{"username":%[3]q,"groups":["system:authenticated"]},"objectRef":{"resource":%[5]q,%[6]s},`+
		`"responseStatus":{"code":200},"requestReceivedTimestamp":%[2]q,"stageTimestamp":%[2]q}`, id, at, user, verb, resource, more)
}

const (
	readerRole    = `{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"reader"},"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}`
	readerBinding = `{"kind":"ClusterRoleBinding","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"bob","uid":"u"},"roleRef":{"kind":"ClusterRole","name":"reader"},"subjects":[{"kind":"User","name":"oidc:bob"}]}`
)

// The rows of files say what is known in the end: from events that stand later in them, from dumps, and from lists.
func TestKnownInTheEnd(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pod := `"namespace":"web","name":"p","apiVersion":"v1"`
	binding := `"name":"bob","apiGroup":"rbac.authorization.k8s.io","apiVersion":"v1"},"responseObject":` + strings.TrimSuffix(readerBinding, "}")
	events := write("events.jsonl", strings.Join([]string{
		grantedEvent("late", "2026-11-01T12:02:00.000000Z", "oidc:bob", "get", "pods", pod),
		grantedEvent("early", "2026-11-01T12:00:00.000000Z", "oidc:bob", "get", "pods", pod),
		grantedEvent("grant", "2026-11-01T12:01:00.000000Z", "oidc:ann", "create", "clusterrolebindings", binding),
		"{oops",
	}, "\n"))
	roles := write("clusterroles.json", `{"kind":"List","items":[`+readerRole+`]}`)
	person := func(name string) context.Change {
		return context.Change{
			Key: context.Key{Kind: context.Person, Name: name + "@corp.example"}, Source: "import:people",
			Object: &context.Object{Person: &context.PersonInfo{Name: name, Team: "web", Usernames: []string{"oidc:" + name}}},
		}
	}
	more := offline.Context{
		Dumps: []string{roles}, Changes: map[string][]context.Change{context.Organization: {person("ann"), person("bob")}},
	}
	bad := 0
	got := map[string][]string{}
	take := func(batch arrow.RecordBatch, rows []offline.Origin) error {
		for row := range rows {
			var values []string
			for _, column := range []string{"actor", "team", "grants", "grant_since", "grant_author"} {
				values = append(values, strings.Join(strings.Fields(schemas.ColumnArray(batch, column).ValueStr(row)), " "))
			}
			got[schemas.ColumnArray(batch, "audit_id").ValueStr(row)] = values
		}
		return nil
	}
	if err := offline.ReadFiles(t.Context(), []string{events}, "prod", more, take, func(offline.Bad) { bad++ }); err != nil {
		t.Fatal(err)
	}
	const null = "(null)"
	want := map[string][]string{
		"late": {
			"bob@corp.example", "web", `["ClusterRoleBinding \"bob\" of ClusterRole \"reader\" to User \"oidc:bob\" by rule 0"]`,
			"2026-11-01T12:01:00Z", "ann@corp.example",
		},
		"early": {"bob@corp.example", "web", "[]", null, null},
		"grant": {"ann@corp.example", "web", "[]", null, null},
	}
	if d := cmp.Diff(want, got); d != "" || bad != 1 {
		t.Errorf("%d bad pieces, -want +got:\n%s", bad, d)
	}
	// Without the dump nothing allows it, and that is not held against the events.
	clear(got)
	if err := offline.ReadFiles(t.Context(), []string{events}, "prod", offline.Context{}, take, func(offline.Bad) {}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"prod/oidc:bob", null, "[]", null, null}, got["late"]); d != "" {
		t.Errorf("without more context, -want +got:\n%s", d)
	}
	if err := offline.ReadFiles(t.Context(), []string{events}, "prod", offline.Context{Dumps: []string{dir + "/none"}}, take, func(offline.Bad) {}); err == nil {
		t.Error("a dump that is not there: no error")
	}
}
