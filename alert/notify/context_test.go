package notify

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/schemas"
)

// What is not known is left out, and never guessed.
func TestContextSaysWhatIsKnown(t *testing.T) {
	at := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name  string
		alert schemas.Alert
		want  Message
	}{
		{"nothing", schemas.Alert{}, Message{Why: "not decided by the authorizer: the request ended as unknown"}},
		{
			"a grant whose making was not recorded",
			schemas.Alert{Decision: "allow", DecisionReason: `RBAC: allowed by ClusterRoleBinding "b" …`, Grant: "ClusterRoleBinding b", Grants: 1},
			Message{Why: "allowed through ClusterRoleBinding b"},
		},
		{
			"by whom, but not when",
			schemas.Alert{Decision: "allow", DecisionReason: "RBAC: allowed by …", Grant: "B", GrantAuthor: "bob", Actor: "alice"},
			Message{Why: "allowed through B, made by bob"},
		},
		{
			"made by the actor itself, another one allows it too",
			schemas.Alert{
				Decision: "allow", DecisionReason: "RBAC: allowed by …", Grant: "B", Grants: 2, GrantAuthor: "bob", Actor: "bob",
				GrantSince: at, LastTime: at.Add(61 * time.Minute),
			},
			Message{Why: "allowed through B, made 61 minutes before by the actor itself; 1 more grants it"},
		},
		{
			"a grant that is younger than the event says nothing of before",
			schemas.Alert{Decision: "allow", DecisionReason: "RBAC: allowed by …", Grant: "B", GrantSince: at.Add(time.Second), Time: at},
			Message{Why: "allowed through B"},
		},
		{
			"no reason was given",
			schemas.Alert{Decision: "allow", Grant: "B"},
			Message{Why: "allowed without a reason, as the API server does for members of system:masters and for nodes; roles and bindings allow it through B"},
		},
		{"forbidden", schemas.Alert{Decision: "forbid", Grant: "B"}, Message{Why: "denied: the API server gave no reason"}},
		{
			"an administrator",
			schemas.Alert{ClusterAdmin: schemas.True, Breadth: 100, Dangerous: []string{"any-any", "read-secrets"}},
			Message{Rights: "everything in the cluster; breadth 100 of 100"},
		},
		{"no rights", schemas.Alert{RightsComplete: schemas.False}, Message{}},
		{"active", schemas.Alert{Active: schemas.True, OffNode: schemas.False, ImpersonationAllowed: schemas.True, GrantAgreement: "agree"}, Message{}},
		{
			"impersonation without a right",
			schemas.Alert{ImpersonationAllowed: schemas.False, Impersonated: "bob"},
			Message{Warnings: []string{"No grant is known that allows the caller to act as bob"}},
		},
		{"minted, when is not known", schemas.Alert{MintedBy: "bob"}, Message{Credential: "token requested by bob"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := NewMessage(&tt.alert)
			got := Message{Why: m.Why, Rights: m.Rights, Warnings: m.Warnings, Credential: m.Credential, Who: m.Who, Source: m.Source}
			if tt.want.Why == "" {
				got.Why = ""
			}
			if d := cmp.Diff(tt.want, got, cmp.AllowUnexported(Message{})); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}
