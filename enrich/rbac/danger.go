package rbac

import (
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/enrich/context"
)

//go:embed dangerous.yaml
var dangerous []byte

// Danger is a permission that gives more than it seems to.
type Danger struct {
	ID       string `yaml:"id"`
	Severity string `yaml:"severity"` // critical, high, medium, low or info
	Why      string `yaml:"why"`
	Scope    Scope  `yaml:"scope"`
	// Needs are all needed; of each, one of the patterns is enough.
	Needs [][]Pattern `yaml:"needs,omitempty"`
	// Special is set instead of Needs for what is no rule of a role: see the table.
	Special string `yaml:"special,omitempty"`
	On      string `yaml:"on,omitempty"` // eks: in such clusters only
}

// Scope says where a permission has to be held to be dangerous.
type Scope string

// The scopes.
const (
	ScopeAny          Scope = "any"          // anywhere
	ScopeCluster      Scope = "cluster"      // in the whole cluster
	ScopePrivileged   Scope = "privileged"   // in the whole cluster or in a privileged namespace
	ScopeUnprivileged Scope = "unprivileged" // in a namespace that is not privileged
)

// Pattern matches rules that name one of each. "*" is only the wildcard itself, "?" is anything, and a trailing "*"
// anything that begins so; otherwise a rule's wildcard matches too. A rule that is limited to some names matches only
// by one of Names.
type Pattern struct {
	Groups    []string `yaml:"groups"`
	Resources []string `yaml:"resources"`
	Verbs     []string `yaml:"verbs"`
	Names     []string `yaml:"names,omitempty"`
}

// table is the dangerous permissions, and a bit for each need.
type table struct {
	dangers  []Danger
	needs    []mask // of each danger
	patterns [][]Pattern
	critical []bool
}

// mask is a set of needs.
type mask [2]uint64

func (m mask) with(bit int) mask {
	m[bit/64] |= 1 << (bit % 64)
	return m
}

func (m mask) or(o mask) mask { return mask{m[0] | o[0], m[1] | o[1]} }

func (m mask) has(o mask) bool { return m[0]&o[0] == o[0] && m[1]&o[1] == o[1] }

// loadTable reads the embedded table, whose faults a test finds.
func loadTable() *table {
	t := &table{}
	if err := yaml.Unmarshal(dangerous, &t.dangers); err != nil {
		panic(fmt.Sprintf("dangerous.yaml: %v", err))
	}
	for _, d := range t.dangers {
		var m mask
		for _, patterns := range d.Needs {
			m = m.with(len(t.patterns))
			t.patterns = append(t.patterns, patterns)
		}
		t.needs = append(t.needs, m)
		t.critical = append(t.critical, d.Severity == "critical")
	}
	return t
}

// Dangers returns the table of dangerous permissions.
func Dangers() []Danger { return loadTable().dangers }

func (p *Pattern) matches(r *context.Rule) bool {
	if len(r.ResourceNames) > 0 && !slices.ContainsFunc(p.Names, func(n string) bool { return slices.Contains(r.ResourceNames, n) }) {
		return false
	}
	return some(p.Groups, r.APIGroups) && some(p.Verbs, r.Verbs) && someResource(p.Resources, r.Resources)
}

// some says whether a rule's list has one of what is wanted.
func some(wanted, list []string) bool {
	return slices.ContainsFunc(wanted, func(w string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return s == "*" || alike(w, s) })
	})
}

func someResource(wanted, list []string) bool {
	return slices.ContainsFunc(wanted, func(w string) bool {
		return slices.ContainsFunc(list, func(s string) bool {
			if s == "*" || alike(w, s) {
				return true
			}
			_, sub, ok := strings.Cut(w, "/")
			every, star := strings.CutPrefix(s, "*/")
			return ok && star && alike(sub, every)
		})
	})
}

func alike(wanted, s string) bool {
	if prefix, ok := strings.CutSuffix(wanted, "*"); ok && prefix != "" {
		return strings.HasPrefix(s, prefix)
	}
	return wanted == s || wanted == "?"
}

// mask returns the needs that the rules of a role meet.
func (r *Resolver) mask(role *context.Item) (m mask) {
	if role == nil || role.Object == nil || len(role.Object.Rules) == 0 {
		return m
	}
	rules := role.Object.Rules
	if m, ok := r.masks[&rules[0]]; ok {
		return m
	}
	for i := range rules {
		for bit, patterns := range r.table.patterns {
			if slices.ContainsFunc(patterns, func(p Pattern) bool { return p.matches(&rules[i]) }) {
				m = m.with(bit)
			}
		}
	}
	if len(r.masks) >= maxMasks {
		clear(r.masks)
	}
	r.masks[&rules[0]] = m
	return m
}

// places are the privileged namespaces of a cluster.
type places struct {
	namespaces []string // sorted
}

func (p *places) has(namespace string) bool {
	_, ok := slices.BinarySearch(p.namespaces, namespace)
	return ok
}

// privileged returns the namespaces from which a cluster can be taken over: kube-system, and those with a service
// account that holds a critical permission in the whole cluster.
func (r *Resolver) privileged(state *context.State) *places {
	if p := r.places[state.RBACVersion()]; p != nil {
		return p
	}
	p := &places{namespaces: []string{"kube-system"}}
	for binding := range state.Objects(context.ClusterRoleBinding) {
		role, ok := state.RoleOf(binding)
		if !ok || !r.critical(r.mask(role), state) {
			continue
		}
		for _, s := range binding.Object.Subjects {
			if s.Kind == "ServiceAccount" && s.Namespace != "" {
				p.namespaces = append(p.namespaces, s.Namespace)
			}
		}
	}
	slices.Sort(p.namespaces)
	p.namespaces = slices.Compact(p.namespaces)
	if len(r.places) >= maxPlaces {
		clear(r.places)
		clear(r.alike)
	}
	// Equal ones are one, so that what depends on them stays valid.
	key := strings.Join(p.namespaces, "/")
	if known := r.alike[key]; known != nil {
		p = known
	}
	r.alike[key] = p
	r.places[state.RBACVersion()] = p
	return p
}

// critical says whether needs that are met in the whole cluster make a critical permission.
func (r *Resolver) critical(m mask, state *context.State) bool {
	for i, d := range r.table.dangers {
		if r.table.critical[i] && len(d.Needs) > 0 && d.Scope != ScopeUnprivileged && (d.On != "eks" || state.EKS()) && m.has(r.table.needs[i]) {
			return true
		}
	}
	return false
}

// Standing is how much somebody may do. It is shared: it must not be changed.
type Standing struct {
	// Breadth is from 0 for nothing to 100 for everything. For each verb, the share of all resources for which it is
	// allowed counts: 1 for all resources of all API groups, 1/5 for all of one group, 1/100 for each other resource
	// or subresource, 9/10 at most together. Of that only a tenth counts where names are given, and n/(n+4) where it
	// is allowed in n namespaces rather than in the whole cluster. The verbs' shares are weighted: get, list and
	// watch 5 each, create, delete and deletecollection 20, 20 and 15, update and patch 15 each. 100 is for
	// ClusterAdmin alone.
	Breadth int
	// ClusterAdmin says that everything is allowed on every resource of the whole cluster: cluster-admin or
	// equivalent.
	ClusterAdmin bool
	// Dangerous are the ids of the dangerous permissions that are held, in the order of the table: the worst first.
	Dangerous []string
}

// Standing returns how much a user, who is in those groups, may do in a state of a cluster.
func (r *Resolver) Standing(state *context.State, user string, groups []string) *Standing {
	if slices.Contains(groups, "system:masters") {
		return r.everything()
	}
	return r.rights(state, user, groups).standing(r, state)
}

// everything is the standing of members of system:masters.
func (r *Resolver) everything() *Standing {
	if r.masters == nil {
		r.masters = &Standing{Breadth: 100, ClusterAdmin: true}
		for _, d := range r.table.dangers {
			if len(d.Needs) > 0 && d.Scope != ScopeUnprivileged && d.On == "" {
				r.masters.Dangerous = append(r.masters.Dangerous, d.ID)
			}
		}
	}
	return r.masters
}

// traits are what a standing depends on besides the bindings and their roles.
type traits struct {
	places                    *places // nil for those without role bindings, for whom it does not matter
	eks, complete, cloudBound bool
}

func (r *rights) standing(resolver *Resolver, state *context.State) *Standing {
	t := traits{eks: state.EKS(), complete: state.CompleteRBAC(), cloudBound: r.cloudBound(state)}
	if len(r.within) > 0 {
		t.places = resolver.privileged(state)
	}
	if r.stands != nil && r.traits == t {
		return r.stands
	}
	var cluster mask
	for _, b := range r.cluster {
		cluster = cluster.or(resolver.mask(b.role))
	}
	within := make(map[string]mask, len(r.within))
	for namespace, bounds := range r.within {
		var m mask
		for _, b := range bounds {
			m = m.or(resolver.mask(b.role))
		}
		within[namespace] = m
	}
	s := &Standing{}
	for i := range resolver.table.dangers {
		d := &resolver.table.dangers[i]
		if d.On == "eks" && !t.eks {
			continue
		}
		if d.Special != "" && r.special(d.Special, &t) || len(d.Needs) > 0 && held(d.Scope, resolver.table.needs[i], cluster, within, t.places) {
			s.Dangerous = append(s.Dangerous, d.ID)
		}
	}
	s.Breadth, s.ClusterAdmin = r.breadth()
	r.stands, r.traits = s, t
	return s
}

// held says whether needs are met where scope asks for it.
func held(scope Scope, needs, cluster mask, within map[string]mask, p *places) bool {
	if scope != ScopeUnprivileged && cluster.has(needs) {
		return true
	}
	if scope == ScopeCluster {
		return false
	}
	for namespace, m := range within {
		switch {
		case scope == ScopePrivileged && !p.has(namespace), scope == ScopeUnprivileged && p.has(namespace):
		case m.or(cluster).has(needs) && (scope != ScopeUnprivileged || m.has(needs)):
			return true
		}
	}
	return false
}

// special says whether something holds that is no rule of a role.
func (r *rights) special(name string, t *traits) bool {
	switch name {
	case "anonymous":
		return r.through(func(s context.Subject, binding string) bool {
			return (s.Kind == "User" && s.Name == "system:anonymous" || s.Kind == "Group" && s.Name == "system:unauthenticated") &&
				binding != "system:public-info-viewer" && binding != "kubeadm:bootstrap-signer-clusterinfo"
		})
	case "authenticated":
		return r.through(func(s context.Subject, binding string) bool {
			return s.Kind == "Group" && s.Name == "system:authenticated" &&
				!slices.Contains([]string{"system:basic-user", "system:discovery", "system:public-info-viewer"}, binding)
		})
	case "dangling":
		return t.complete && slices.ContainsFunc(r.bound, func(b bound) bool { return b.role == nil })
	case "cloud":
		return t.cloudBound
	}
	return false
}

// cloudBound says whether the user is a service account with an identity of a cloud.
func (r *rights) cloudBound(state *context.State) bool {
	rest, ok := strings.CutPrefix(r.user, "system:serviceaccount:")
	namespace, name, named := strings.Cut(rest, ":")
	if !ok || !named {
		return false
	}
	item, ok := state.Get(context.Key{Kind: context.ServiceAccount, Namespace: namespace, Name: name})
	return ok && item.Object != nil && len(item.Object.Metadata.Annotations) > 0
}

func (r *rights) through(is func(s context.Subject, binding string) bool) bool {
	return slices.ContainsFunc(r.bound, func(b bound) bool {
		return slices.ContainsFunc(b.subjects, func(s context.Subject) bool { return is(s, b.binding.Key.Name) })
	})
}

// breadthVerbs are the verbs that count, and how much.
func breadthVerbs() map[string]float64 {
	return map[string]float64{
		"get": 5, "list": 5, "watch": 5, "create": 20, "delete": 20, "update": 15, "patch": 15, "deletecollection": 15,
	}
}

// reach collects in how far a verb is allowed for a group/resource: in the whole cluster or in some namespaces.
type reach struct {
	cluster    float64
	namespaces map[string]float64
}

func (r *rights) breadth() (score int, admin bool) {
	byVerb := map[string]map[string]*reach{}
	for i := range r.bound {
		b := &r.bound[i]
		if b.role == nil || b.role.Object == nil {
			continue
		}
		for j := range b.role.Object.Rules {
			rule := &b.role.Object.Rules[j]
			admin = admin || b.binding.Key.Namespace == "" && len(rule.ResourceNames) == 0 && slices.Contains(rule.Verbs, "*") &&
				slices.Contains(rule.APIGroups, "*") && slices.Contains(rule.Resources, "*")
			for verb := range breadthVerbs() {
				if has(rule.Verbs, verb) {
					if byVerb[verb] == nil {
						byVerb[verb] = map[string]*reach{}
					}
					extend(byVerb[verb], rule, b.binding.Key.Namespace)
				}
			}
		}
	}
	if admin {
		return 100, true
	}
	sum := 0.0
	for verb, weight := range breadthVerbs() {
		sum += weight * share(byVerb[verb])
	}
	return min(99, int(math.Ceil(sum))), false
}

// extend adds what a rule reaches.
func extend(to map[string]*reach, rule *context.Rule, namespace string) {
	part := 1.0
	if len(rule.ResourceNames) > 0 {
		part = 0.1
	}
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			key := group + "/" + resource
			at := to[key]
			if at == nil {
				at = &reach{namespaces: map[string]float64{}}
				to[key] = at
			}
			if namespace == "" {
				at.cluster = max(at.cluster, part)
			} else {
				at.namespaces[namespace] = max(at.namespaces[namespace], part)
			}
		}
	}
}

// share is the share of all resources that is reached.
func share(reaches map[string]*reach) float64 {
	most, sum := 0.0, 0.0
	for key, at := range reaches {
		n := 0.0
		for _, part := range at.namespaces {
			n += part
		}
		factor := max(at.cluster, n/(n+4))
		switch group, resource, _ := strings.Cut(key, "/"); {
		case group == "*" && resource == "*":
			most = max(most, factor)
		case resource == "*":
			sum += factor / 5
		default:
			sum += factor / 100
		}
	}
	return max(most, min(sum, 0.9))
}
