package difftest

import (
	stdcontext "context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/kubernetes/pkg/registry/rbac/validation"
	upstream "k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/rbac"
)

// The words that policies and requests are made of: few, so that they meet.
var (
	users      = []string{"alice", "bob", "system:serviceaccount:a:bot", "system:serviceaccount:b:bot", "system:serviceaccount:a:b:bot", ""}
	groups     = []string{"dev", "ops", "system:authenticated", "system:serviceaccounts", "system:serviceaccounts:a", "alice"}
	namespaces = []string{"", "a", "b", "a:b"}
	verbs      = []string{"get", "list", "create", "*", "impersonate", "GET", "post"}
	apiGroups  = []string{"", "apps", "*", "rbac.authorization.k8s.io"}
	resources  = []string{"pods", "secrets", "deployments", "*", "pods/exec", "*/exec", "pods/*", "*/*", "pods/exec/x", "*/", "/exec", "pods/"}
	plain      = []string{"pods", "secrets", "deployments", "*"}
	subs       = []string{"", "", "exec", "log", "*", "exec/x"}
	names      = []string{"x", "y", "", "*"}
	paths      = []string{"/healthz", "/healthz/etcd", "/api", "/", "/api/v1*", "/metrics", ""}
	urls       = []string{"*", "/healthz", "/healthz/*", "/healthz*", "/api/**", "/*", "/a*i", "", "**", "/metrics"}
	kinds      = []string{"User", "Group", "ServiceAccount", "Robot"}
)

func pick(r *rand.Rand, from []string) string { return from[r.IntN(len(from))] }

func some(r *rand.Rand, most int, from []string) (list []string) {
	n := 1 + r.IntN(most)
	if r.IntN(10) == 0 {
		n = 0
	}
	for range n {
		list = append(list, pick(r, from))
	}
	return list
}

// policy is what both are asked about, in the types of each.
type policy struct {
	roles               []*rbacv1.Role
	clusterRoles        []*rbacv1.ClusterRole
	roleBindings        []*rbacv1.RoleBinding
	clusterRoleBindings []*rbacv1.ClusterRoleBinding
}

func rules(r *rand.Rand) (all []rbacv1.PolicyRule) {
	for range r.IntN(4) {
		rule := rbacv1.PolicyRule{Verbs: some(r, 2, verbs)}
		if r.IntN(4) == 0 {
			rule.NonResourceURLs = some(r, 2, urls)
		}
		if r.IntN(4) > 0 {
			rule.APIGroups, rule.Resources = some(r, 2, apiGroups), some(r, 3, resources)
			if r.IntN(3) == 0 {
				rule.ResourceNames = some(r, 2, names)
			}
		}
		all = append(all, rule)
	}
	return all
}

func subjects(r *rand.Rand) (all []rbacv1.Subject) {
	for range r.IntN(5) {
		s := rbacv1.Subject{Kind: pick(r, kinds)}
		switch s.Kind {
		case "User":
			s.Name = pick(r, users)
		case "Group":
			s.Name = pick(r, groups)
		default:
			s.Name, s.Namespace = pick(r, []string{"bot", "b:bot"}), pick(r, namespaces)
		}
		all = append(all, s)
	}
	return all
}

func roleRef(r *rand.Rand) rbacv1.RoleRef {
	return rbacv1.RoleRef{Kind: pick(r, []string{"Role", "ClusterRole", "ClusterRole", "ClusterRole", "Robot"}), Name: "r" + strconv.Itoa(r.IntN(4))}
}

func generate(r *rand.Rand) *policy {
	p := &policy{}
	for i := range 1 + r.IntN(4) {
		p.clusterRoles = append(p.clusterRoles, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "r" + strconv.Itoa(i)}, Rules: rules(r)})
	}
	for i := range r.IntN(5) {
		meta := metav1.ObjectMeta{Namespace: namespaces[1+i%2], Name: "r" + strconv.Itoa(i/2)}
		p.roles = append(p.roles, &rbacv1.Role{ObjectMeta: meta, Rules: rules(r)})
	}
	for i := range r.IntN(4) {
		meta := metav1.ObjectMeta{Name: "b" + strconv.Itoa(i)}
		p.clusterRoleBindings = append(p.clusterRoleBindings, &rbacv1.ClusterRoleBinding{ObjectMeta: meta, Subjects: subjects(r), RoleRef: roleRef(r)})
	}
	for i := range r.IntN(6) {
		meta := metav1.ObjectMeta{Namespace: namespaces[1+i%3], Name: "b" + strconv.Itoa(i/3)}
		p.roleBindings = append(p.roleBindings, &rbacv1.RoleBinding{ObjectMeta: meta, Subjects: subjects(r), RoleRef: roleRef(r)})
	}
	return p
}

func ours(t *testing.T, store *context.Store, cluster string, p *policy) *context.State {
	t.Helper()
	var changes []context.Change
	add := func(kind context.Kind, meta *metav1.ObjectMeta, o *context.Object) {
		changes = append(changes, context.Change{
			Key: context.Key{Kind: kind, Namespace: meta.Namespace, Name: meta.Name}, From: 1, Object: o, Source: context.SourceWatch,
		})
	}
	rules := func(in []rbacv1.PolicyRule) (out []context.Rule) {
		for _, r := range in {
			out = append(out, context.Rule{
				Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames, NonResourceURLs: r.NonResourceURLs,
			})
		}
		return out
	}
	subjects := func(in []rbacv1.Subject) (out []context.Subject) {
		for _, s := range in {
			out = append(out, context.Subject{Kind: s.Kind, Namespace: s.Namespace, Name: s.Name})
		}
		return out
	}
	for _, o := range p.roles {
		add(context.Role, &o.ObjectMeta, &context.Object{Rules: rules(o.Rules)})
	}
	for _, o := range p.clusterRoles {
		add(context.ClusterRole, &o.ObjectMeta, &context.Object{Rules: rules(o.Rules)})
	}
	for _, o := range p.roleBindings {
		add(context.RoleBinding, &o.ObjectMeta, &context.Object{
			Subjects: subjects(o.Subjects), RoleRef: &context.RoleRef{Kind: o.RoleRef.Kind, Name: o.RoleRef.Name},
		})
	}
	for _, o := range p.clusterRoleBindings {
		add(context.ClusterRoleBinding, &o.ObjectMeta, &context.Object{
			Subjects: subjects(o.Subjects), RoleRef: &context.RoleRef{Kind: o.RoleRef.Kind, Name: o.RoleRef.Name},
		})
	}
	changes = append(changes, context.Change{From: 1, Source: context.SourceWatch, Complete: []context.Kind{
		context.Role, context.ClusterRole, context.RoleBinding, context.ClusterRoleBinding,
	}})
	store.Apply(cluster, changes...)
	return store.Cluster(cluster).Latest()
}

func request(r *rand.Rand) (string, []string, rbac.Request) {
	q := rbac.Request{Verb: pick(r, verbs)}
	if r.IntN(4) == 0 {
		q.Path = pick(r, paths)
	} else {
		q.APIGroup, q.Resource, q.Subresource = pick(r, apiGroups), pick(r, plain), pick(r, subs)
		q.Namespace, q.Name = pick(r, namespaces), pick(r, names)
	}
	return pick(r, users), some(r, 3, groups), q
}

// bound returns the rules that one of the bindings grants, to whom, and where.
func (p *policy) bound(r *rand.Rand) (rules []rbacv1.PolicyRule, to []rbacv1.Subject, namespace string) {
	var ref rbacv1.RoleRef
	if n := len(p.roleBindings); n > 0 && r.IntN(2) == 0 {
		b := p.roleBindings[r.IntN(n)]
		ref, to, namespace = b.RoleRef, b.Subjects, b.Namespace
	} else if n := len(p.clusterRoleBindings); n > 0 {
		b := p.clusterRoleBindings[r.IntN(n)]
		ref, to, namespace = b.RoleRef, b.Subjects, pick(r, namespaces)
	}
	for _, role := range p.clusterRoles {
		if ref.Kind == "ClusterRole" && role.Name == ref.Name {
			rules = role.Rules
		}
	}
	for _, role := range p.roles {
		if ref.Kind == "Role" && role.Name == ref.Name && role.Namespace == namespace {
			rules = role.Rules
		}
	}
	return rules, to, namespace
}

// likely is a request that a rule of the policy may allow, of somebody whom a binding may name.
func likely(r *rand.Rand, p *policy) (string, []string, rbac.Request) {
	name, in, q := request(r)
	all, to, namespace := p.bound(r)
	for range 8 {
		if len(all) == 0 || len(to) == 0 {
			all, to, namespace = p.bound(r)
		}
	}
	if len(all) == 0 || len(to) == 0 {
		return name, in, q
	}
	switch s := to[r.IntN(len(to))]; s.Kind {
	case "User":
		name = s.Name
	case "Group":
		in = append(in, s.Name)
	case "ServiceAccount":
		name = "system:serviceaccount:" + s.Namespace + ":" + s.Name
		if s.Namespace == "" {
			name = "system:serviceaccount:" + namespace + ":" + s.Name
		}
	}
	if q.Resource != "" && r.IntN(8) > 0 {
		q.Namespace = namespace
	}
	take := func(to *string, from []string) {
		if len(from) > 0 && r.IntN(8) > 0 {
			*to = pick(r, from)
		}
	}
	rule := all[r.IntN(len(all))]
	if len(rule.NonResourceURLs) > 0 && r.IntN(2) == 0 {
		q = rbac.Request{Verb: q.Verb, Path: q.Path}
	}
	take(&q.Verb, rule.Verbs)
	if q.Resource == "" {
		take(&q.Path, rule.NonResourceURLs)
		q.Path = strings.ReplaceAll(q.Path, "*", pick(r, []string{"", "x", "*"}))
		return name, in, q
	}
	take(&q.APIGroup, rule.APIGroups)
	combined := q.Resource
	take(&combined, rule.Resources)
	if resource, sub, ok := strings.Cut(combined, "/"); resource != "" {
		q.Resource = resource
		if ok && r.IntN(4) > 0 {
			q.Subresource = sub
		}
	}
	take(&q.Name, rule.ResourceNames)
	return name, in, q
}

// TestDecisions asks Kubernetes' authorizer and ours the same. DIFFTEST_POLICIES is the number of policies, DIFFTEST_SEED
// what they are generated from.
func TestDecisions(t *testing.T) {
	policies, seed := number(t, "DIFFTEST_POLICIES", 100_000), number(t, "DIFFTEST_SEED", 1)
	const perPolicy = 10
	store, resolver, allowed := context.NewStore(context.DefaultConfig()), rbac.NewResolver(), 0
	for i := range policies {
		r := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
		p := generate(r)
		_, roles := validation.NewTestRuleResolver(p.roles, p.roleBindings, p.clusterRoles, p.clusterRoleBindings)
		theirs := upstream.New(roles, roles, roles, roles)
		store.Remove("c")
		state := ours(t, store, "c", p)
		for range perPolicy {
			name, in, q := likely(r, p)
			if r.IntN(4) == 0 {
				name, in, q = request(r)
			}
			attributes := authorizer.AttributesRecord{
				User: &user.DefaultInfo{Name: name, Groups: in}, Verb: q.Verb, APIGroup: q.APIGroup, Resource: q.Resource,
				Subresource: q.Subresource, Namespace: q.Namespace, Name: q.Name, Path: q.Path, ResourceRequest: q.Resource != "",
			}
			decision, reason, _ := theirs.Authorize(stdcontext.Background(), attributes)
			for range 2 { // the second answer is from memory
				got := resolver.Resolve(state, name, in, &q)
				if want := decision == authorizer.DecisionAllow; want != (len(got.Matches) > 0) {
					t.Fatalf("policy %d of seed %d: %s %q of %q in %q: Kubernetes %t, we %v", i, seed, q.Verb, q, name, in, want, got.Matches)
				}
				if decision == authorizer.DecisionAllow && !named(reason, got.Matches) {
					t.Fatalf("policy %d of seed %d: %q is not among %v", i, seed, reason, got.Matches)
				}
			}
			if decision == authorizer.DecisionAllow {
				allowed++
			}
		}
	}
	t.Logf("%d policies, %d requests, %d of them allowed", policies, policies*perPolicy, allowed)
	if policies >= 1000 && (allowed < policies*perPolicy/20 || allowed > policies*perPolicy*19/20) {
		t.Error("hardly a request was allowed, or hardly one was not: the test says little")
	}
}

// named says whether the reason of Kubernetes is one of the matches.
func named(reason string, matches []rbac.Match) bool {
	g := rbac.Parse("allow", reason)
	return slices.ContainsFunc(matches, func(m rbac.Match) bool {
		return m.BindingKind == g.BindingKind && m.Binding == g.Binding && m.RoleKind == g.RoleKind && m.Role == g.Role &&
			m.SubjectKind == g.SubjectKind && m.Subject == g.SubjectName
	})
}

func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(strings.ReplaceAll(text, "_", ""))
	if err != nil {
		t.Fatal(fmt.Errorf("%s=%q: want a number", variable, text))
	}
	return n
}
