package offline_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/offline"
	"github.com/auditmill/auditmill/schemas"
)

// Files need not be in order, and the API server does not record the end of an apply in YAML.
func TestUnordered(t *testing.T) {
	const rbacGroup = `"apiGroup":"rbac.authorization.k8s.io","apiVersion":"v1"`
	pod := `"namespace":"web","name":"p","apiVersion":"v1"`
	forbidden := func(id, at string) string {
		return strings.TrimSuffix(grantedEvent(id, at, "oidc:bob", "get", "pods", pod), "}") + `,"annotations":{"authorization.k8s.io/decision":"forbid"}}`
	}
	role := func(id, at, verb, body string) string {
		e := grantedEvent(id, at, "root", verb, "clusterroles", `"name":"reader",`+rbacGroup+body)
		return strings.Replace(e, "RequestResponse", "Request", 1)
	}
	patch := func(verb string) string {
		return `},"requestObject":{"rules":[{"verbs":["` + verb + `"],"apiGroups":[""],"resources":["pods"]}]`
	}
	lines := []string{
		grantedEvent("bind", "2026-11-01T12:01:00.000000Z", "root", "create", "clusterrolebindings",
			`"name":"bob",`+rbacGroup+`},"responseObject":`+strings.TrimSuffix(readerBinding, "}")),
		role("create", "2026-11-01T12:02:00.000000Z", "create", `},"requestObject":`+strings.TrimSuffix(readerRole, "}")),
		grantedEvent("granted", "2026-11-01T12:03:00.000000Z", "oidc:bob", "get", "pods", pod),
		role("patch", "2026-11-01T12:04:00.000000Z", "patch", patch("list")),
		forbidden("patched", "2026-11-01T12:05:00.000000Z"),
		role("patch again", "2026-11-01T12:06:00.000000Z", "patch", patch("get")),
		grantedEvent("back", "2026-11-01T12:07:00.000000Z", "oidc:bob", "get", "pods", pod),
		strings.Replace(role("yaml", "2026-11-01T12:08:00.000000Z", "patch", ""), "ResponseComplete", "RequestReceived", 1),
		forbidden("applied", "2026-11-01T12:09:00.000000Z"),
	}
	const grant = `["ClusterRoleBinding \"bob\" of ClusterRole \"reader\" to User \"oidc:bob\" by rule 0"]`
	want := map[string]string{"granted": grant, "patched": "[] agree", "back": grant, "applied": "[] unknown"}
	for range 2 {
		path := filepath.Join(t.TempDir(), "events.jsonl")
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		take := func(batch arrow.RecordBatch, rows []offline.Origin) error {
			for row := range rows {
				id := schemas.ColumnArray(batch, "audit_id").ValueStr(row)
				if _, ok := want[id]; !ok {
					continue
				}
				got[id] = schemas.ColumnArray(batch, "grants").ValueStr(row)
				if agreement := schemas.ColumnArray(batch, "grant_agreement"); agreement.IsValid(row) {
					got[id] += " " + agreement.ValueStr(row)
				}
			}
			return nil
		}
		bad := func(b offline.Bad) { t.Error(b) }
		complete := filepath.Join(t.TempDir(), "clusterroles.json")
		if err := os.WriteFile(complete, []byte(`{"kind":"List","items":[`+strings.Replace(readerRole, "reader", "other", 1)+`]}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := offline.ReadFiles(t.Context(), []string{path}, "prod", offline.Context{Dumps: []string{complete}}, take, bad); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
		slices.Reverse(lines)
	}
}
