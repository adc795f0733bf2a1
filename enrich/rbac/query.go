package rbac

import (
	"cmp"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/enrich/context"
)

// WhoCan returns every binding, rule and subject by which a request is allowed, whoever asks.
func WhoCan(state *context.State, q *Request) []Match {
	result, named := Result{}, false
	result.add(everybody(state, q.Namespace), q, &named)
	return result.Matches
}

// everybody returns the bindings of the cluster and of a namespace with all their subjects, in the order of matches.
func everybody(state *context.State, namespace string) (all []*bound) {
	for _, kind := range []context.Kind{context.ClusterRoleBinding, context.RoleBinding} {
		for item := range state.Objects(kind) {
			if item.Key.Namespace != "" && item.Key.Namespace != namespace || item.Object == nil {
				continue
			}
			b := &bound{binding: item}
			b.role, _ = state.RoleOf(item)
			for _, s := range item.Object.Subjects {
				if _, ok := context.Principal(s, item.Key); !ok {
					continue
				}
				if s.Kind == "ServiceAccount" {
					s.Namespace = cmp.Or(s.Namespace, item.Key.Namespace)
				}
				b.subjects = append(b.subjects, s)
			}
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b *bound) int {
		return cmp.Or(-cmp.Compare(a.binding.Key.Kind, b.binding.Key.Kind), strings.Compare(a.binding.Key.Name, b.binding.Key.Name))
	})
	return all
}

// Holding is a binding that somebody holds.
type Holding struct {
	Binding, Role context.Key
	From          int64             // since when the binding is so, µs since 1970; 0 if that is not known
	Source        string            // where that is known from
	Missing       bool              // the role does not exist
	Stale         bool              // the binding or the role changed since in a way that is not known
	Subjects      []context.Subject // by which it is held
	Rules         []context.Rule
}

// Holds returns the bindings of a user, who is in those groups: those of the cluster first, then by namespace and name.
func (r *Resolver) Holds(state *context.State, user string, groups []string) []Holding {
	bounds := r.rights(state, user, groups).bound
	all := make([]Holding, 0, len(bounds))
	for i := range bounds {
		b := &bounds[i]
		h := Holding{
			Binding: b.binding.Key, From: b.binding.From, Source: b.binding.Source, Missing: b.role == nil,
			Stale: b.binding.Stale, Subjects: b.subjects,
		}
		if ref := b.binding.Object.RoleRef; ref != nil {
			h.Role = context.Key{Kind: context.ParseKind(ref.Kind), Name: ref.Name}
			if h.Role.Kind == context.Role {
				h.Role.Namespace = b.binding.Key.Namespace
			}
		}
		if b.role != nil {
			h.Stale = h.Stale || b.role.Stale
			if b.role.Object != nil {
				h.Rules = b.role.Object.Rules
			}
		}
		all = append(all, h)
	}
	return all
}

// GroupsOf returns the groups that a user is in by its name alone, besides those that an authenticator says.
func GroupsOf(user string) []string {
	if user == "system:anonymous" {
		return []string{"system:unauthenticated"}
	}
	groups := []string{"system:authenticated"}
	if account, ok := strings.CutPrefix(user, "system:serviceaccount:"); ok {
		namespace, _, _ := strings.Cut(account, ":")
		groups = append(groups, "system:serviceaccounts", "system:serviceaccounts:"+namespace)
	}
	if strings.HasPrefix(user, "system:node:") {
		groups = append(groups, "system:nodes")
	}
	return groups
}

// ParseResource reads what is asked about: a path that begins with a slash, or resource[.group][/subresource] like
// deployments.apps/scale.
func ParseResource(text string) Request {
	if strings.HasPrefix(text, "/") {
		return Request{Path: text}
	}
	resource, subresource, _ := strings.Cut(text, "/")
	resource, group, _ := strings.Cut(resource, ".")
	return Request{APIGroup: group, Resource: resource, Subresource: subresource}
}
