package rbac_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/rbac"
	"github.com/auditmill/auditmill/schemas"
)

// What changed in a way that was not recorded allows nothing for certain, unless the API server says so; what was forbidden
// is not allowed by what may be out of date.
func TestStaleAllowsNothing(t *testing.T) {
	s := stored()
	for _, name := range []string{"a", "b", "c"} {
		s.Apply("prod", grant{"", name, user("ann"), []context.Rule{rule("get", "", "pods")}}.changes(10)...)
	}
	for _, name := range []string{"b", "c"} {
		s.Apply("prod", context.Change{Key: context.Key{Kind: context.ClusterRole, Name: name}, From: 20, Stale: true, Source: context.SourceAudit})
	}
	text := func(name string) string {
		return `ClusterRoleBinding "` + name + `" of ClusterRole "` + name + `" to User "ann"`
	}
	const rule0 = " by rule 0"
	for _, tt := range []struct {
		name, decision, reason string
		agreement              rbac.Agreement
		want                   []string
	}{
		{"by another", "allow", text("a"), rbac.Agree, []string{text("a") + rule0}},
		{"by what is stale", "allow", text("c"), rbac.Agree, []string{text("a") + rule0, text("c") + rule0}},
		{"by what is not known", "allow", text("d"), rbac.Unknown, []string{text("a") + rule0}},
		{"forbidden", "forbid", "", rbac.Unknown, nil},
		{"no decision", "", "", rbac.NotAsked, []string{text("a") + rule0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &schemas.Event{
				EventTime: at, Verb: "get", Resource: "pods", User: "ann", Groups: []string{"system:authenticated"}, Decision: tt.decision,
			}
			if tt.reason != "" {
				e.DecisionReason = "RBAC: allowed by " + tt.reason
			}
			w := rbac.NewResolver().Explain(s.Cluster("prod"), e)
			if diff := cmp.Diff(tt.want, w.Texts); diff != "" || w.Agreement != tt.agreement || !w.Stale || len(w.Matches) != len(w.Texts) {
				t.Errorf("%s, want %s (-want +got)\n%s", w.Agreement, tt.agreement, diff)
			}
		})
	}
	if w := rbac.NewResolver().Explain(s.Cluster("prod"), &schemas.Event{EventTime: 15, User: "ann"}); w.Stale {
		t.Error("stale before anything was")
	}
}
