package rbac

import (
	"math"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/enrich/context"
)

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

// Standing returns how much a user, who is in those groups, may do at the end of a state of a cluster.
func (r *Resolver) Standing(state *context.State, user string, groups []string) *Standing {
	return r.StandingAt(state, 0, user, groups)
}

// StandingAt returns how much a user, who is in those groups, may do in a state of a cluster at a time in µs since 1970:
// an identity of a cloud can change without another state.
func (r *Resolver) StandingAt(state *context.State, at int64, user string, groups []string) *Standing {
	if slices.Contains(groups, "system:masters") {
		return r.everything()
	}
	s := r.subjectsOf(state, 0, user, groups)
	return s.rights(r, state, user, groups).standing(r, state, at, user, &s.account)
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

// kind says which of the standings of rights it is.
func (t *traits) kind() int {
	if t.cloudBound {
		return 1
	}
	return 0
}

func (r *rights) standing(resolver *Resolver, state *context.State, at int64, user string, account *context.Handle) *Standing {
	t := traits{eks: state.EKS(), complete: state.CompleteRBAC(), cloudBound: cloudBound(state, at, user, account)}
	kind := t.kind()
	if len(r.within) > 0 {
		t.places = resolver.privileged(state)
	}
	known := r.stands[kind]
	if known != nil && r.traits[kind] == t {
		return known
	}
	var cluster mask
	for _, b := range r.cluster {
		cluster = cluster.or(resolver.factsOf(b.role).mask)
	}
	within := make(map[string]mask, len(r.within))
	for namespace, bounds := range r.within {
		var m mask
		for _, b := range bounds {
			m = m.or(resolver.factsOf(b.role).mask)
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
	if known != nil {
		s.Breadth, s.ClusterAdmin = known.Breadth, known.ClusterAdmin // of the bindings alone
	} else {
		s.Breadth, s.ClusterAdmin = r.breadth(resolver)
	}
	r.stands[kind], r.traits[kind] = s, t
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
func cloudBound(state *context.State, at int64, user string, account *context.Handle) bool {
	rest, ok := strings.CutPrefix(user, "system:serviceaccount:")
	namespace, name, named := strings.Cut(rest, ":")
	if !ok || !named {
		return false
	}
	key := context.Key{Kind: context.ServiceAccount, Namespace: namespace, Name: name}
	var item *context.Item
	if at != 0 {
		item = state.FindBy(account, key, at)
	} else {
		item, _ = state.Get(key)
	}
	return item != nil && item.Object != nil && len(item.Object.Metadata.Annotations) > 0
}

func (r *rights) through(is func(s context.Subject, binding string) bool) bool {
	return slices.ContainsFunc(r.bound, func(b bound) bool {
		return slices.ContainsFunc(b.subjects, func(s context.Subject) bool { return is(s, b.binding.Key.Name) })
	})
}

// verbWeights are the verbs that count for breadth, and how much.
func verbWeights() [8]struct {
	verb   string
	weight float64
} {
	return [...]struct {
		verb   string
		weight float64
	}{
		{"get", 5}, {"list", 5}, {"watch", 5}, {"create", 20}, {"delete", 20}, {"update", 15}, {"patch", 15}, {"deletecollection", 15},
	}
}

// reached is how far rules reach on one resource, or on what one wildcard names.
type reached struct {
	key   string // group/resource
	share float64
	verbs [8]float64 // by verbWeights: 1 if it is allowed, a tenth if for some names only
}

// reachOf returns what rules reach; each group/resource once.
func reachOf(rules []context.Rule) (all []reached) {
	at := map[string]int{}
	for i := range rules {
		r := &rules[i]
		part := 1.0
		if len(r.ResourceNames) > 0 {
			part = 0.1
		}
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				key := group + "/" + resource
				j, ok := at[key]
				if !ok {
					j = len(all)
					at[key] = j
					all = append(all, reached{key: key, share: shareOf(group, resource)})
				}
				for v, w := range verbWeights() {
					if has(r.Verbs, w.verb) {
						all[j].verbs[v] = max(all[j].verbs[v], part)
					}
				}
			}
		}
	}
	return all
}

func shareOf(group, resource string) float64 {
	switch {
	case resource == "*" && group == "*":
		return 1
	case resource == "*":
		return 0.2
	}
	return 0.01
}

// amount adds up what several roles reach.
type amount struct {
	share      float64
	cluster    [8]float64
	namespaces [8]float64 // summed up
	namespace  string     // the one that is being added
	within     [8]float64 // of it
}

func (a *amount) leave(namespace string) {
	for v := range a.within {
		a.namespaces[v] += a.within[v]
	}
	a.namespace, a.within = namespace, [8]float64{}
}

// breadth returns Standing.Breadth and Standing.ClusterAdmin.
func (r *rights) breadth(resolver *Resolver) (score int, admin bool) {
	amounts := map[string]*amount{}
	for i := range r.bound { // of one namespace after the other
		b := &r.bound[i]
		f := resolver.factsOf(b.role)
		if f.admin && b.binding.Key.Namespace == "" {
			return 100, true
		}
		for j := range f.reach {
			reach := &f.reach[j]
			a := amounts[reach.key]
			if a == nil {
				a = &amount{share: reach.share}
				amounts[reach.key] = a
			}
			to := &a.cluster
			if namespace := b.binding.Key.Namespace; namespace != "" {
				if a.namespace != namespace {
					a.leave(namespace)
				}
				to = &a.within
			}
			for v, part := range reach.verbs {
				to[v] = max(to[v], part)
			}
		}
	}
	var most, sum [8]float64
	for _, a := range amounts {
		a.leave("")
		for v := range sum {
			part := a.share * max(a.cluster[v], a.namespaces[v]/(a.namespaces[v]+4))
			if a.share == 1 {
				most[v] = max(most[v], part)
			} else {
				sum[v] += part
			}
		}
	}
	total := 0.0
	for v, w := range verbWeights() {
		total += w.weight * max(most[v], min(sum[v], 0.9))
	}
	// Sums of floats depend on their order, and maps have none.
	return min(99, int(math.Ceil(math.Round(total*1e6)/1e6))), false
}
