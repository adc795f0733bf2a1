package rbac_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

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
			name := []string{"u0", "u1", "u2", "nobody", "system:serviceaccount:n:s0"}[r.IntN(5)]
			q := rbac.Request{Verb: "get", Resource: []string{"pods", "secrets"}[r.IntN(2)], Namespace: []string{"", "n"}[r.IntN(2)]}
			fresh := rbac.NewResolver()
			want, got := fresh.Resolve(state, name, nil, &q), old.Resolve(state, name, nil, &q)
			if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(rbac.Result{})); diff != "" {
				t.Fatalf("step %d: (-new +remembered)\n%s", i, diff)
			}
			if diff := cmp.Diff(want.Texts(), got.Texts()); diff != "" {
				t.Fatalf("step %d: texts (-new +remembered)\n%s", i, diff)
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
		waiting          bool
	}{
		{"agree", nil, "allow", named("early"), nil, rbac.Agree, false},
		{"another is named", nil, "allow", named("other"), nil, rbac.Disagree, true},
		{"forbidden", nil, "forbid", "", nil, rbac.Disagree, true},
		{"forbidden by somebody else", nil, "forbid", "because", nil, rbac.Unknown, false},
		{"groups were left out", nil, "allow", named("other"), []string{}, rbac.Unknown, true},
		{"without a reason", nil, "allow", "", nil, rbac.Unknown, false},
		{"masters", nil, "allow", "", []string{"system:masters"}, rbac.Agree, false},
		{"not RBAC", nil, "allow", "access granted by IAM permissions.", nil, rbac.NotAsked, false},
		{"no decision", nil, "", "", nil, rbac.NotAsked, false},
		{"granted a moment later", late.changes(at + 300_000), "allow", named("late"), nil, rbac.Agree, false},
		{"granted a minute later", late.changes(at + 60_000_000), "allow", named("late"), nil, rbac.Disagree, true},
		{"something was missed", []context.Change{{From: 2, Doubt: true}}, "allow", named("other"), nil, rbac.Unknown, true},
		{
			"revoked a moment before",
			[]context.Change{{Key: context.Key{Kind: context.ClusterRoleBinding, Name: "early"}, From: at - 1000, Source: context.SourceAudit}},
			"allow", named("early"), nil, rbac.Agree, false,
		},
		{
			"it changed, how is not known",
			[]context.Change{{Key: context.Key{Kind: context.ClusterRole, Name: "early"}, From: 2, Stale: true, Source: context.SourceAudit}},
			"forbid", "", nil, rbac.Unknown, false,
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
			if w.Agreement != tt.want || !w.Known || w.Waiting != tt.waiting {
				t.Errorf("got %q, waiting %t; want %q, %t", w.Agreement, w.Waiting, tt.want, tt.waiting)
			}
		})
	}
	w := rbac.NewResolver().Explain(nil, &schemas.Event{EventTime: at, Decision: "allow", DecisionReason: named("x")})
	if w.Known || w.Agreement != rbac.Unknown || w.Waiting {
		t.Errorf("of an unknown cluster: %+v", w)
	}
	for decision, want := range map[string]rbac.Agreement{"allow": rbac.Agree, "forbid": rbac.Unknown, "": ""} {
		w = rbac.NewResolver().Explain(nil, &schemas.Event{EventTime: at, User: "root", Groups: []string{"system:masters"}, Decision: decision})
		if w.Known || w.Agreement != want || w.Standing == nil || !w.Standing.ClusterAdmin {
			t.Errorf("a member of system:masters in an unknown cluster, decision %q: %+v", decision, w)
		}
	}
}

// The named grant, or else the first, says since when; groups that an event leaves out may come from elsewhere.
func TestGrant(t *testing.T) {
	s := stored()
	for i, name := range []string{"a", "b"} {
		g := grant{"n", name, group("dev"), []context.Rule{rule("get", "", "pods")}}
		s.Apply("prod", g.changes(int64(10+i))...)
	}
	e := schemas.Event{EventTime: at, Verb: "get", Resource: "pods", Namespace: "n", User: "ann", Groups: []string{"dev"}, Decision: "allow"}
	a := `RoleBinding "a/n" of Role "a" to Group "dev" by rule 0`
	b := `RoleBinding "b/n" of Role "b" to Group "dev" by rule 0`
	r := rbac.NewResolver()
	w := r.Explain(s.Cluster("prod"), &e)
	if diff := cmp.Diff([]string{a, b}, w.Texts); diff != "" || w.GrantSince != 10 {
		t.Errorf("since %d (-want +got)\n%s", w.GrantSince, diff)
	}
	first := w.Texts
	e.Name, e.DecisionReason = "another", "RBAC: allowed by "+strings.TrimSuffix(b, " by rule 0")
	if w = r.Explain(s.Cluster("prod"), &e); w.GrantSince != 11 || w.Agreement != rbac.Agree || &w.Texts[0] != &first[0] {
		t.Errorf("%+v", w)
	}
	e.Groups = nil
	if w = r.Explain(s.Cluster("prod"), &e); w.Matches != nil || w.GrantSince != 0 || w.Agreement != rbac.Unknown {
		t.Errorf("without groups: %+v", w)
	}
	if w = r.Explain(s.Cluster("prod"), &e, "dev"); w.Agreement != rbac.Agree || len(w.Texts) != 2 {
		t.Errorf("with groups from elsewhere: %+v", w)
	}
}

// What a match says can be read like a reason of the API server.
func TestMatchString(t *testing.T) {
	for _, m := range []rbac.Match{
		{BindingKind: "ClusterRoleBinding", Binding: "b", RoleKind: "ClusterRole", Role: "system:x/y", Rule: 12, SubjectKind: "User", Subject: "a/b"},
		{BindingKind: "RoleBinding", Binding: "n/b", RoleKind: "Role", Role: "r \"\\", SubjectKind: "ServiceAccount", Subject: "n/bot"},
		{BindingKind: "RoleBinding", Binding: "n/b", RoleKind: "ClusterRole", Role: "é\n", SubjectKind: "Group", Subject: "\u200b"},
	} {
		text, found := strings.CutSuffix(m.String(), " by rule "+strconv.Itoa(m.Rule))
		g := rbac.Parse("allow", "RBAC: allowed by "+text)
		got := rbac.Match{
			BindingKind: g.BindingKind, Binding: g.Binding, RoleKind: g.RoleKind, Role: g.Role, Rule: m.Rule,
			SubjectKind: g.SubjectKind, Subject: g.SubjectName,
		}
		if diff := cmp.Diff(m, got); diff != "" || !found {
			t.Errorf("%s: (-want +got)\n%s", text, diff)
		}
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
			schemas.Event{Verb: "create", RequestURI: "/api/v1/nodes", Resource: "nodes", Namespace: "from-the-body", Name: "n"},
			rbac.Request{Verb: "create", Resource: "nodes"},
		},
		{
			schemas.Event{Verb: "get", RequestURI: "/api/v1/namespaces/n", Resource: "namespaces", Namespace: "n", Name: "n"},
			rbac.Request{Verb: "get", Resource: "namespaces", Namespace: "n", Name: "n"},
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
