package rbac_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/rbac"
	"github.com/auditmill/auditmill/schemas"
)

const at = int64(1_800_000_000_000_000)

// grant is a binding and its role, both of one name.
type grant struct {
	namespace, name string
	subjects        []context.Subject
	rules           []context.Rule
}

func user(name string) []context.Subject  { return []context.Subject{{Kind: "User", Name: name}} }
func group(name string) []context.Subject { return []context.Subject{{Kind: "Group", Name: name}} }

func account(namespace, name string) []context.Subject {
	return []context.Subject{{Kind: "ServiceAccount", Namespace: namespace, Name: name}}
}

// rule is verbs, groups and resources, each separated by commas; names may follow.
func rule(verbs, groups, resources string, names ...string) context.Rule {
	return context.Rule{
		Verbs: strings.Split(verbs, ","), APIGroups: strings.Split(groups, ","), Resources: strings.Split(resources, ","), ResourceNames: names,
	}
}

func (g grant) changes(from int64) []context.Change {
	role := context.Key{Kind: context.ClusterRole, Name: g.name}
	binding := context.Key{Kind: context.ClusterRoleBinding, Name: g.name}
	if g.namespace != "" {
		role.Kind, role.Namespace = context.Role, g.namespace
		binding.Kind, binding.Namespace = context.RoleBinding, g.namespace
	}
	return []context.Change{
		{Key: role, From: from, Object: &context.Object{Rules: g.rules}, Source: context.SourceAudit},
		{
			Key: binding, From: from, Source: context.SourceAudit,
			Object: &context.Object{RoleRef: &context.RoleRef{Kind: role.Kind.String(), Name: g.name}, Subjects: g.subjects},
		},
	}
}

// stored is a cluster of which all is known, with grants.
func stored(grants ...grant) *context.Store {
	s := context.NewStore(context.DefaultConfig())
	s.Apply("prod", context.Change{From: 1, Complete: []context.Kind{
		context.Role, context.ClusterRole, context.RoleBinding, context.ClusterRoleBinding,
	}})
	for _, g := range grants {
		s.Apply("prod", g.changes(1)...)
	}
	return s
}

func TestResolve(t *testing.T) {
	s := stored(
		grant{"", "wide", slices.Concat(group("dev"), user("ann")), []context.Rule{rule("get", "", "pods"), rule("*", "", "*/exec"), rule("*", "*", "pods/*")}},
		grant{"n", "narrow", slices.Concat(user("ann"), []context.Subject{{Kind: "ServiceAccount", Name: "bot"}}), []context.Rule{rule("get,list", "", "pods", "a", "b")}},
		grant{"", "paths", group("dev"), []context.Rule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz", "/logs/*"}}}})
	state := s.Cluster("prod").Latest()
	r := rbac.NewResolver()
	const bot = "system:serviceaccount:n:bot"
	for _, tt := range []struct {
		name, user string
		groups     []string
		q          rbac.Request
		want       []string
	}{
		{"all ways", "ann", []string{"dev"}, rbac.Request{Verb: "get", Resource: "pods", Namespace: "n", Name: "a"}, []string{
			"wide/0 Group dev", "wide/0 User ann", "n/narrow/0 User ann",
		}},
		{"another name", "ann", nil, rbac.Request{Verb: "get", Resource: "pods", Namespace: "n", Name: "c"}, []string{"wide/0 User ann"}},
		{"no name", bot, nil, rbac.Request{Verb: "list", Resource: "pods", Namespace: "n"}, nil},
		{"the namespace of the binding", bot, nil, rbac.Request{Verb: "list", Resource: "pods", Namespace: "n", Name: "b"}, []string{"n/narrow/0 ServiceAccount n/bot"}},
		{"another namespace", bot, nil, rbac.Request{Verb: "list", Resource: "pods", Namespace: "m", Name: "b"}, nil},
		{"any subresource of that name", "ann", nil, rbac.Request{Verb: "create", Resource: "pods", Subresource: "exec"}, []string{"wide/1 User ann"}},
		{"pods/* is no pattern", "ann", nil, rbac.Request{Verb: "get", Resource: "pods", Subresource: "log"}, nil},
		{"path", "x", []string{"dev"}, rbac.Request{Verb: "get", Path: "/logs/a/b"}, []string{"paths/0 Group dev"}},
		{"path, not the same", "x", []string{"dev"}, rbac.Request{Verb: "get", Path: "/healthz/etcd"}, nil},
		{"nobody", "dev", nil, rbac.Request{Verb: "get", Resource: "pods"}, nil},
	} {
		for range 2 { // worked out, and remembered
			var got []string
			for _, m := range r.Resolve(state, tt.user, tt.groups, &tt.q).Matches {
				got = append(got, fmt.Sprintf("%s/%d %s %s", m.Binding, m.Rule, m.SubjectKind, m.Subject))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", tt.name, diff)
			}
		}
	}
}

// What a resolver remembers never outlives a change: it always says what a new one says.
func TestMemory(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	s, old := stored(), rbac.NewResolver()
	random := func() grant {
		n := strconv.Itoa(r.IntN(4))
		return grant{
			[]string{"", "n"}[r.IntN(2)], "g" + n, slices.Concat(user("u"+strconv.Itoa(r.IntN(3))), account("n", "s"+n)),
			[]context.Rule{rule([]string{"get", "list", "*"}[r.IntN(3)], "", []string{"pods", "secrets", "*"}[r.IntN(3)])},
		}
	}
	for i := range int64(400) {
		g := random().changes(at + i)
		s.Apply("prod", g[r.IntN(2)])
		if r.IntN(4) == 0 {
			g[0].Object, g[0].From = nil, at+i+1
			s.Apply("prod", g[0])
		}
		for range 10 {
			state := s.Cluster("prod").At(at + r.Int64N(i+2))
			name := []string{"u0", "u1", "u2", "system:serviceaccount:n:s0"}[r.IntN(4)]
			q := rbac.Request{Verb: "get", Resource: []string{"pods", "secrets"}[r.IntN(2)], Namespace: []string{"", "n"}[r.IntN(2)]}
			fresh := rbac.NewResolver()
			if diff := cmp.Diff(fresh.Resolve(state, name, nil, &q), old.Resolve(state, name, nil, &q)); diff != "" {
				t.Fatalf("step %d: (-new +remembered)\n%s", i, diff)
			}
			if diff := cmp.Diff(fresh.Standing(state, name, nil), old.Standing(state, name, nil)); diff != "" {
				t.Fatalf("step %d: (-new +remembered)\n%s", i, diff)
			}
		}
	}
}

func TestAgreement(t *testing.T) {
	named := func(b string) string {
		return fmt.Sprintf("RBAC: allowed by ClusterRoleBinding %q of ClusterRole %q to User \"ann\"", b, b)
	}
	early := grant{"", "early", user("ann"), []context.Rule{rule("get", "", "pods")}}
	late := grant{"", "late", user("ann"), []context.Rule{rule("get", "", "pods")}}
	for _, tt := range []struct {
		name             string
		change           []context.Change
		decision, reason string
		groups           []string
		want             rbac.Agreement
	}{
		{"agree", nil, "allow", named("early"), nil, rbac.Agree},
		{"another is named", nil, "allow", named("other"), nil, rbac.Disagree},
		{"forbidden", nil, "forbid", "", nil, rbac.Disagree},
		{"forbidden by somebody else", nil, "forbid", "because", nil, rbac.Unknown},
		{"groups were left out", nil, "allow", named("other"), []string{}, rbac.Unknown},
		{"without a reason", nil, "allow", "", nil, rbac.Unknown},
		{"masters", nil, "allow", "", []string{"system:masters"}, rbac.Agree},
		{"not RBAC", nil, "allow", "access granted by IAM permissions.", nil, rbac.NotAsked},
		{"no decision", nil, "", "", nil, rbac.NotAsked},
		{"granted a moment later", late.changes(at + 300_000), "allow", named("late"), nil, rbac.Agree},
		{"granted a minute later", late.changes(at + 60_000_000), "allow", named("late"), nil, rbac.Disagree},
		{"something was missed", []context.Change{{From: 2, Doubt: true}}, "allow", named("other"), nil, rbac.Unknown},
		{
			"revoked a moment before",
			[]context.Change{{Key: context.Key{Kind: context.ClusterRoleBinding, Name: "early"}, From: at - 1000, Source: context.SourceAudit}},
			"allow", named("early"), nil, rbac.Agree,
		},
		{
			"it changed, how is not known",
			[]context.Change{{Key: context.Key{Kind: context.ClusterRole, Name: "early"}, From: 2, Stale: true, Source: context.SourceAudit}},
			"forbid", "", nil, rbac.Unknown,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := stored(early)
			s.Apply("prod", tt.change...)
			groups := []string{"system:authenticated"}
			if tt.groups != nil {
				groups = tt.groups
			}
			w := rbac.NewResolver().Explain(s.Cluster("prod"), &schemas.Event{
				EventTime: at, Verb: "get", Resource: "pods", User: "ann", Groups: groups, Decision: tt.decision, DecisionReason: tt.reason,
			})
			if w.Agreement != tt.want || !w.Known {
				t.Errorf("got %q, want %q", w.Agreement, tt.want)
			}
		})
	}
	w := rbac.NewResolver().Explain(nil, &schemas.Event{EventTime: at, Decision: "allow", DecisionReason: named("x")})
	if w.Known || w.Agreement != rbac.Unknown {
		t.Errorf("of an unknown cluster: %+v", w)
	}
}

func TestImpersonation(t *testing.T) {
	s := stored(
		grant{"", "all", user("root"), []context.Rule{rule("impersonate", "", "users,groups"), rule("impersonate", "authentication.k8s.io", "userextras/reason")}},
		grant{"", "one", user("help"), []context.Rule{rule("impersonate", "", "users", "bob")}},
		grant{"n", "bots", user("ops"), []context.Rule{rule("impersonate", "", "serviceaccounts")}},
		grant{"", "constrained", user("new"), []context.Rule{
			rule("impersonate:user-info", "authentication.k8s.io", "users"), rule("impersonate-on:user-info:get", "", "pods"),
		}})
	const bot = "system:serviceaccount:n:bot"
	for _, tt := range []struct {
		caller, as string
		groups     []string
		extra      []schemas.KeyValues
		constraint string
		verb       string
		want       bool
	}{
		{"root", "bob", []string{"dev", "system:authenticated"}, nil, "", "get", true},
		{"root", "bob", nil, []schemas.KeyValues{{Key: "reason", Values: []string{"x"}}}, "", "get", true},
		{"root", "bob", nil, []schemas.KeyValues{{Key: "scopes", Values: []string{"x"}}}, "", "get", false},
		{"help", "bob", []string{"system:authenticated"}, nil, "", "get", true},
		{"help", "bob", []string{"dev"}, nil, "", "get", false},
		{"help", "eve", nil, nil, "", "get", false},
		{"ops", bot, []string{"system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"}, nil, "", "get", true},
		{"ops", "system:serviceaccount:m:bot", nil, nil, "", "get", false},
		{"root", bot, nil, nil, "", "get", false},
		{"new", "bob", nil, nil, "impersonate:user-info", "get", true},
		{"new", "bob", nil, nil, "impersonate:user-info", "list", false},
		{"new", "bob", nil, nil, "", "get", false},
	} {
		w := rbac.NewResolver().Explain(s.Cluster("prod"), &schemas.Event{
			EventTime: at, Verb: tt.verb, Resource: "pods", User: tt.caller, Groups: []string{"system:authenticated"}, ImpersonatedUser: tt.as,
			ImpersonatedGroups: tt.groups, ImpersonatedExtra: tt.extra, ImpersonationConstraint: tt.constraint,
		})
		if w.Impersonation == nil || w.Impersonation.Allowed != tt.want || tt.want && len(w.Impersonation.Matches) == 0 {
			t.Errorf("%s as %s %v: %+v, want %t", tt.caller, tt.as, tt.groups, w.Impersonation, tt.want)
		}
	}
}

func TestRequestOf(t *testing.T) {
	for _, tt := range []struct {
		e    schemas.Event
		want rbac.Request
	}{
		{schemas.Event{Verb: "get", RequestURI: "/logs/a%2Fb?x=y"}, rbac.Request{Verb: "get", Path: "/logs/a/b"}},
		{
			schemas.Event{Verb: "create", RequestURI: "/api/v1/namespaces/n/pods?x=y", Resource: "pods", Namespace: "n", Name: "from-the-body"},
			rbac.Request{Verb: "create", Resource: "pods", Namespace: "n"},
		},
		{
			schemas.Event{Verb: "create", RequestURI: "/api/v1/namespaces/n/pods/p/exec", Resource: "pods", Subresource: "exec", Namespace: "n", Name: "p"},
			rbac.Request{Verb: "create", Resource: "pods", Subresource: "exec", Namespace: "n", Name: "p"},
		},
		{
			schemas.Event{Verb: "update", RequestURI: "/api/v1/namespaces/n/pods/pods", Resource: "pods", Namespace: "n", Name: "pods"},
			rbac.Request{Verb: "update", Resource: "pods", Namespace: "n", Name: "pods"},
		},
	} {
		if diff := cmp.Diff(tt.want, rbac.RequestOf(&tt.e)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.e.RequestURI, diff)
		}
	}
}
