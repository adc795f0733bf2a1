package rbac_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/rbac"
)

func TestDangerTable(t *testing.T) {
	seen := map[string]bool{}
	needs := 0
	for _, d := range rbac.Dangers() {
		if d.ID == "" || seen[d.ID] || d.Why == "" {
			t.Errorf("%q: wants an id of its own, and why", d.ID)
		}
		seen[d.ID] = true
		if !slices.Contains([]string{"critical", "high", "medium", "low", "info"}, d.Severity) {
			t.Errorf("%s: severity %q", d.ID, d.Severity)
		}
		if !slices.Contains([]rbac.Scope{rbac.ScopeAny, rbac.ScopeCluster, rbac.ScopePrivileged, rbac.ScopeUnprivileged}, d.Scope) {
			t.Errorf("%s: scope %q", d.ID, d.Scope)
		}
		if (len(d.Needs) == 0) == (d.Special == "") || !slices.Contains([]string{"", "anonymous", "authenticated", "dangling", "cloud"}, d.Special) {
			t.Errorf("%s: wants either needs or something special", d.ID)
		}
		for _, patterns := range d.Needs {
			needs++
			for _, p := range patterns {
				if len(p.Groups) == 0 || len(p.Resources) == 0 || len(p.Verbs) == 0 {
					t.Errorf("%s: a pattern wants groups, resources and verbs", d.ID)
				}
			}
		}
	}
	if needs > 128 {
		t.Errorf("%d needs do not fit a mask", needs)
	}
}

func TestStanding(t *testing.T) {
	all := rule("*", "*", "*")
	for _, tt := range []struct {
		name   string
		user   string
		groups []string
		grants []grant
		want   string // dangerous, then breadth
		score  int
		admin  bool
	}{
		{"nobody", "ann", nil, nil, "", 0, false},
		{"cluster-admin", "ann", nil, []grant{{"", "a", user("ann"), []context.Rule{all}}}, "any-any create-any … events-delete", 100, true},
		{"all of one namespace", "ann", nil, []grant{{"n", "a", user("ann"), []context.Rule{all}}}, "any-any create-any list-any get-any impersonate …", 20, false},
		{"reads", "ann", nil, []grant{{"", "a", user("ann"), []context.Rule{rule("get,list,watch", "", "pods")}}}, "", 1, false},
		{"secrets of the cluster", "ann", nil, []grant{{"", "a", user("ann"), []context.Rule{rule("list", "", "secrets")}}}, "read-secrets", 1, false},
		{"secrets by a wildcard", "ann", nil, []grant{{"", "a", user("ann"), []context.Rule{rule("list", "*", "*")}}}, "list-any read-secrets", 5, false},
		{"one secret", "ann", nil, []grant{{"", "a", user("ann"), []context.Rule{rule("get", "", "secrets", "x")}}}, "", 1, false},
		{"secrets of a namespace", "ann", nil, []grant{{"n", "a", user("ann"), []context.Rule{rule("list", "", "secrets")}}}, "weak-ns", 1, false},
		{"secrets of kube-system", "ann", nil, []grant{{"kube-system", "a", user("ann"), []context.Rule{rule("list", "", "secrets")}}}, "read-secrets", 1, false},
		{
			"secrets where a powerful account lives", "ann", nil,
			[]grant{{"n", "a", user("ann"), []context.Rule{rule("list", "", "secrets")}}, {"", "b", account("n", "bot"), []context.Rule{rule("escalate", "rbac.authorization.k8s.io", "roles")}}},
			"read-secrets", 1, false,
		},
		{"exec by a pattern", "ann", nil, []grant{{"", "a", user("ann"), []context.Rule{rule("create", "", "*/exec")}}}, "pods-exec", 1, false},
		{"half of a pair", "ann", nil, []grant{{"", "a", user("ann"), []context.Rule{rule("delete", "", "pods")}}}, "", 1, false},
		{
			"a pair from two roles", "ann",
			[]string{"g"},
			[]grant{{"", "a", user("ann"), []context.Rule{rule("delete", "", "pods")}}, {"", "b", group("g"), []context.Rule{rule("patch", "", "nodes")}}},
			"steal-pods", 1, false,
		},
		{"impersonates one", "ann", nil, []grant{{"", "a", user("ann"), []context.Rule{rule("impersonate", "", "users", "bob")}}}, "", 0, false},
		{"impersonates masters", "ann", nil, []grant{{"", "a", user("ann"), []context.Rule{rule("impersonate", "", "groups", "system:masters")}}}, "impersonate", 0, false},
		{"extras", "ann", nil, []grant{{"", "a", user("ann"), []context.Rule{rule("impersonate", "authentication.k8s.io", "userextras/scopes")}}}, "impersonate", 0, false},
		{"constrained", "ann", nil, []grant{{"", "a", user("ann"), []context.Rule{rule("impersonate:user-info", "authentication.k8s.io", "users"), rule("impersonate-on:user-info:get", "", "pods")}}}, "impersonate-constrained", 0, false},
		{"constrained, but to nothing", "ann", nil, []grant{{"", "a", user("ann"), []context.Rule{rule("impersonate:user-info", "authentication.k8s.io", "users")}}}, "", 0, false},
		{"anybody", "system:anonymous", []string{"system:unauthenticated"}, []grant{{"", "a", group("system:unauthenticated"), []context.Rule{rule("get", "", "pods")}}}, "anonymous", 1, false},
		{"everybody", "ann", []string{"system:authenticated"}, []grant{{"", "a", group("system:authenticated"), []context.Rule{rule("get", "", "pods")}}}, "auth-all", 1, false},
		{"as everywhere", "ann", []string{"system:authenticated"}, []grant{{"", "system:discovery", group("system:authenticated"), nil}}, "", 0, false},
		{"aws-auth elsewhere", "ann", nil, []grant{{"kube-system", "a", user("ann"), []context.Rule{rule("update", "", "configmaps", "aws-auth")}}}, "", 1, false},
		{
			"aws-auth", "ann", nil,
			[]grant{{"kube-system", "a", user("ann"), []context.Rule{rule("update", "", "configmaps", "aws-auth")}}, {"", "eks:node-manager", user("x"), nil}},
			"aws-auth", 1, false,
		},
		{"masters", "ann", []string{"system:masters"}, nil, "any-any create-any … events-delete", 100, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := rbac.NewResolver().Standing(stored(tt.grants...).Cluster("prod").Latest(), tt.user, tt.groups)
			begin, end, _ := strings.Cut(tt.want, "…")
			ids := strings.Join(got.Dangerous, " ")
			if !strings.HasPrefix(ids, begin) || !strings.HasSuffix(ids, strings.TrimSpace(end)) || !strings.Contains(tt.want, "…") && ids != tt.want {
				t.Errorf("dangerous: got %q, want %q", ids, tt.want)
			}
			if got.Breadth != tt.score || got.ClusterAdmin != tt.admin {
				t.Errorf("breadth: got %d, %t, want %d, %t", got.Breadth, got.ClusterAdmin, tt.score, tt.admin)
			}
		})
	}
}

// More rights are never less.
func TestBreadthGrows(t *testing.T) {
	rules := []context.Rule{
		rule("get", "", "pods", "x"), rule("get", "", "pods"), rule("*", "", "pods"), rule("*", "", "pods,secrets"), rule("*", "apps", "*"),
		rule("get,list", "*", "*"), rule("delete", "*", "*"), rule("create,update,patch,watch,deletecollection", "*", "*"), rule("*", "*", "*"),
	}
	var before rbac.Standing
	for _, namespaces := range [][]string{{"a"}, {"a", "b", "c"}, {""}} {
		var grants []grant
		before.Breadth = 0
		for i, r := range rules {
			for _, n := range namespaces {
				grants = append(grants, grant{n, "r" + string(rune('a'+i)), user("ann"), []context.Rule{r}})
			}
			got := rbac.NewResolver().Standing(stored(grants...).Cluster("prod").Latest(), "ann", nil)
			if got.Breadth < before.Breadth || got.Breadth == 100 && !got.ClusterAdmin {
				t.Errorf("rule %d in %q: %d after %d", i, namespaces, got.Breadth, before.Breadth)
			}
			before = *got
		}
	}
}

// What has an identity of a cloud is seen at once, though no role or binding changes.
func TestCloudIdentity(t *testing.T) {
	s, r := stored(), rbac.NewResolver()
	const bot = "system:serviceaccount:n:bot"
	ids := func() []string { return r.Standing(s.Cluster("prod").Latest(), bot, nil).Dangerous }
	if got := ids(); got != nil {
		t.Errorf("before: %v", got)
	}
	s.Apply("prod", context.Change{
		Key: context.Key{Kind: context.ServiceAccount, Namespace: "n", Name: "bot"}, From: 2, Source: context.SourceAudit,
		Object: &context.Object{Metadata: context.Metadata{Annotations: map[string]string{"eks.amazonaws.com/role-arn": "x"}}},
	})
	if diff := cmp.Diff([]string{"provider-iam"}, ids()); diff != "" {
		t.Error(diff)
	}
}
