package rbac

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/schemas"
)

func TestParse(t *testing.T) {
	const eksPolicy = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
	for _, tt := range []struct {
		decision, reason string
		want             Grant
	}{
		{
			"allow", `RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to Group "g"`,
			Grant{"rbac", "ClusterRoleBinding", "b", "ClusterRole", "r", "Group", "g"},
		},
		{
			"allow", `RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to User "u \"x\" of y"`,
			Grant{"rbac", "ClusterRoleBinding", "b", "ClusterRole", "r", "User", `u "x" of y`},
		},
		{
			"allow", `RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to ServiceAccount "sa/ns"`,
			Grant{"rbac", "ClusterRoleBinding", "b", "ClusterRole", "r", "ServiceAccount", "ns/sa"},
		},
		{
			"allow", `RBAC: allowed by RoleBinding "b/ns" of Role "r" to Group "g/h"`,
			Grant{"rbac", "RoleBinding", "ns/b", "Role", "r", "Group", "g/h"},
		},
		{
			"allow", `EKS Access Policy: allowed by ClusterRoleBinding "arn:aws:iam::1:role/a+` + eksPolicy + `" of ClusterRole "` + eksPolicy + `" to User "AROA1"`,
			Grant{"eks", "ClusterRoleBinding", "arn:aws:iam::1:role/a+" + eksPolicy, "ClusterRole", eksPolicy, "User", "AROA1"},
		},
		{"allow", "access granted by IAM permissions.", Grant{Authorizer: "gke"}},
		{"allow", "Access allowed by Azure RBAC", Grant{Authorizer: "azure"}},
		{"allow", "Access allowed by Azure RBAC Role Assignment 1-2 of Role Reader to user 3-4", Grant{"azure", "", "1-2", "", "Reader", "User", "3-4"}},
		{"allow", "", Grant{}},
		{"allow", "my webhook says so", Grant{Authorizer: "other"}},
		{"allow", `RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to Robot "g"`, Grant{Authorizer: "other"}},
		{"allow", `RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to Group "g" and more`, Grant{Authorizer: "other"}},
		{"allow", `RBAC: allowed by ClusterRoleBinding "b`, Grant{Authorizer: "other"}},
		{"forbid", "", Grant{Authorizer: "none"}},
		{"forbid", `RBAC: clusterrole.rbac.authorization.k8s.io "x" not found`, Grant{Authorizer: "rbac"}},
		{"forbid", "node: no relationship found\nrbac: nothing", Grant{Authorizer: "node"}},
		{"forbid", `unknown node for user "system:node:x"`, Grant{Authorizer: "node"}},
		{"forbid", "User does not have access to the resource in Azure. Update role assignment to allow access.", Grant{Authorizer: "azure"}},
		{"forbid", "because", Grant{Authorizer: "other"}},
	} {
		if diff := cmp.Diff(&tt.want, Parse(tt.decision, tt.reason)); diff != "" {
			t.Errorf("%s %s: (-want +got)\n%s", tt.decision, tt.reason, diff)
		}
	}
}

func TestSilentAllow(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   schemas.Event
		want string
	}{
		{"masters", schemas.Event{User: "root", Groups: []string{"system:masters"}}, AuthorizerMasters},
		{"node", schemas.Event{User: "system:node:a", Groups: []string{"system:nodes"}}, AuthorizerNode},
		{"called like a node", schemas.Event{User: "system:node:a"}, ""},
		{"impersonation decides", schemas.Event{User: "root", Groups: []string{"system:masters"}, ImpersonatedUser: "x"}, ""},
		{"as masters", schemas.Event{User: "x", ImpersonatedUser: "y", ImpersonatedGroups: []string{"system:masters"}}, AuthorizerMasters},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.in
			e.Decision = "allow"
			if Explain(&e, Parse); e.Authorizer != tt.want {
				t.Errorf("got %q, want %q", e.Authorizer, tt.want)
			}
		})
	}
}

// Whatever names the API server quotes come back as they were.
func FuzzParse(f *testing.F) {
	f.Add("b", "r", "g")
	f.Add(`b" of ClusterRole "x`, "", "\x00\xff")
	f.Fuzz(func(t *testing.T, binding, role, subject string) {
		g := Parse("allow", "RBAC: allowed by ClusterRoleBinding "+strconv.Quote(binding)+" of ClusterRole "+strconv.Quote(role)+" to User "+strconv.Quote(subject))
		valid := func(s string) string { return strings.ToValidUTF8(s, "\ufffd") }
		if g.Binding != valid(binding) || g.Role != valid(role) || g.SubjectName != valid(subject) {
			t.Fatalf("got %+v", g)
		}
		Parse("allow", binding)
		Parse("forbid", role)
	})
}
