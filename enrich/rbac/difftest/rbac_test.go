package difftest

import (
	stdcontext "context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
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
	keys       = []string{"to", "rbac.authorization.k8s.io/aggregate-to-admin"}
	values     = []string{"true", "false", ""}
	operators  = []metav1.LabelSelectorOperator{
		metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist,
	}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

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

// selectors are of other roles, by labels.
func selectors(r *rand.Rand) (all []metav1.LabelSelector) {
	for range 1 + r.IntN(2) {
		s := metav1.LabelSelector{}
		if r.IntN(3) > 0 {
			s.MatchLabels = map[string]string{pick(r, keys): pick(r, values)}
		}
		if s.MatchLabels == nil || r.IntN(3) == 0 {
			e := metav1.LabelSelectorRequirement{Key: pick(r, keys), Operator: pick(r, operators)}
			if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
				e.Values = append(some(r, 2, values), pick(r, values))
			}
			s.MatchExpressions = append(s.MatchExpressions, e)
		}
		all = append(all, s)
	}
	return all
}

// aggregate fills the rules of aggregated roles as the controller does, which comes back until nothing changes.
func (p *policy) aggregate(t *testing.T) {
	t.Helper()
	for range p.clusterRoles {
		for _, role := range p.clusterRoles {
			if role.AggregationRule == nil {
				continue
			}
			role.Rules = nil
			for i := range role.AggregationRule.ClusterRoleSelectors {
				selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
				if err != nil {
					t.Fatal(err)
				}
				for _, other := range p.clusterRoles {
					if other != role && selector.Matches(labels.Set(other.Labels)) {
						role.Rules = append(role.Rules, other.Rules...)
					}
				}
			}
			slices.SortFunc(role.Rules, func(a, b rbacv1.PolicyRule) int { return strings.Compare(a.String(), b.String()) })
			role.Rules = slices.CompactFunc(role.Rules, func(a, b rbacv1.PolicyRule) bool { return a.String() == b.String() })
		}
	}
}

func generate(r *rand.Rand) *policy {
	p := &policy{}
	for i := range 1 + r.IntN(4) {
		role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "r" + strconv.Itoa(i)}, Rules: rules(r)}
		for range r.IntN(3) {
			if role.Labels == nil {
				role.Labels = map[string]string{}
			}
			role.Labels[pick(r, keys)] = pick(r, values)
		}
		if r.IntN(4) == 0 {
			role.AggregationRule, role.Rules = &rbacv1.AggregationRule{ClusterRoleSelectors: selectors(r)}, nil
		}
		p.clusterRoles = append(p.clusterRoles, role)
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
			Key: context.Key{Kind: kind, Namespace: meta.Namespace, Name: meta.Name}, From: 2, Object: o,
			Source: context.SourceAudit, // of what is seen the rules of aggregated roles are worked out, what is imported has them
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
		object := &context.Object{Metadata: context.Metadata{Labels: o.Labels}, Rules: rules(o.Rules)}
		if o.AggregationRule != nil {
			object.Rules, object.AggregationRule = nil, aggregation(o.AggregationRule)
		}
		add(context.ClusterRole, &o.ObjectMeta, object)
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

func aggregation(in *rbacv1.AggregationRule) *context.AggregationRule {
	out := &context.AggregationRule{}
	for _, s := range in.ClusterRoleSelectors {
		selector := context.Selector{MatchLabels: s.MatchLabels}
		for _, e := range s.MatchExpressions {
			selector.MatchExpressions = append(selector.MatchExpressions, context.Expression{Key: e.Key, Operator: string(e.Operator), Values: e.Values})
		}
		out.Selectors = append(out.Selectors, selector)
	}
	return out
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
	const perPolicy, parts = 10, 8
	var allowed, aggregated atomic.Int64
	t.Run("parts", func(t *testing.T) {
		for part := range parts {
			t.Run(strconv.Itoa(part), func(t *testing.T) {
				t.Parallel()
				store, resolver := context.NewStore(context.DefaultConfig()), rbac.NewResolver()
				for i := part; i < policies; i += parts {
					r := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
					p := generate(r)
					store.Remove("c")
					state := ours(t, store, "c", p)
					p.aggregate(t)
					for range perPolicy {
						name, in, q := likely(r, p)
						if r.IntN(4) == 0 {
							name, in, q = request(r)
						}
						if grant := compare(t, p, state, resolver, name, in, &q); grant != nil {
							allowed.Add(1)
							if p.aggregated(grant) {
								aggregated.Add(1)
							}
						}
						if t.Failed() {
							t.Fatalf("policy %d of seed %d", i, seed)
						}
					}
				}
			})
		}
	})
	t.Logf("%d policies, %d requests, %d of them allowed, %d of these by an aggregated role", policies, policies*perPolicy, allowed.Load(), aggregated.Load())
	if n := int64(policies) * perPolicy; policies >= 1000 && (allowed.Load() < n/20 || allowed.Load() > n*19/20 || aggregated.Load() < n/200) {
		t.Error("hardly a request was allowed, or hardly one was not: the test says little")
	}
}

// compare asks both, and returns the grant that Kubernetes names, nil if it does not allow.
func compare(t *testing.T, p *policy, state *context.State, resolver *rbac.Resolver, name string, in []string, q *rbac.Request) *rbac.Grant {
	t.Helper()
	_, roles := validation.NewTestRuleResolver(p.roles, p.roleBindings, p.clusterRoles, p.clusterRoleBindings)
	attributes := authorizer.AttributesRecord{
		User: &user.DefaultInfo{Name: name, Groups: in}, Verb: q.Verb, APIGroup: q.APIGroup, Resource: q.Resource,
		Subresource: q.Subresource, Namespace: q.Namespace, Name: q.Name, Path: q.Path, ResourceRequest: q.Resource != "",
	}
	decision, reason, _ := upstream.New(roles, roles, roles, roles).Authorize(stdcontext.Background(), attributes)
	for range 2 { // the second answer is from memory
		got := resolver.Resolve(state, name, in, q)
		if want := decision == authorizer.DecisionAllow; want != (len(got.Matches) > 0) {
			t.Errorf("%s %q of %q in %q: Kubernetes %t, we %v", q.Verb, *q, name, in, want, got.Matches)
		}
		if decision == authorizer.DecisionAllow && !named(reason, got) {
			t.Errorf("%q is not among %v", reason, got.Texts())
		}
	}
	if decision != authorizer.DecisionAllow {
		return nil
	}
	return rbac.Parse("allow", reason)
}

func (p *policy) aggregated(g *rbac.Grant) bool {
	return g.RoleKind == "ClusterRole" && slices.ContainsFunc(p.clusterRoles, func(o *rbacv1.ClusterRole) bool {
		return o.Name == g.Role && o.AggregationRule != nil
	})
}

// named says whether the reason of Kubernetes is one of the matches, also in words.
func named(reason string, got *rbac.Result) bool {
	g := rbac.Parse("allow", reason)
	return slices.ContainsFunc(got.Matches, func(m rbac.Match) bool {
		return m.BindingKind == g.BindingKind && m.Binding == g.Binding && m.RoleKind == g.RoleKind && m.Role == g.Role &&
			m.SubjectKind == g.SubjectKind && m.Subject == g.SubjectName
	}) && slices.ContainsFunc(got.Texts(), func(text string) bool {
		return strings.HasPrefix(text, strings.TrimPrefix(reason, "RBAC: allowed by ")+" by rule ")
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
