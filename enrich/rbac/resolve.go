package rbac

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/enrich/context"
)

// Request is what the API server authorizes. Path is set for a request that is about no resource.
type Request struct {
	Verb                            string
	APIGroup, Resource, Subresource string
	Namespace, Name                 string
	Path                            string // as the server sees it: unescaped, without the query
}

// Match is one way in which a request is allowed.
type Match struct {
	BindingKind string `json:"binding_kind"` // ClusterRoleBinding or RoleBinding
	Binding     string `json:"binding"`      // name, or namespace/name
	RoleKind    string `json:"role_kind"`    // ClusterRole or Role
	Role        string `json:"role"`
	Rule        int    `json:"rule"`         // index in the rules of the role
	SubjectKind string `json:"subject_kind"` // User, Group or ServiceAccount
	Subject     string `json:"subject"`      // name, or namespace/name
}

// Result is what RBAC says of a request. It is shared: it must not be changed.
type Result struct {
	// Matches are all the ways in which RBAC allows the request, cluster role bindings first, then by name.
	Matches []Match
	// Stale says that one of the roles or bindings changed since in a way that is not known.
	Stale bool
}

// Resolver answers what RBAC allows whom. It remembers its answers: as long as no role or binding of the subjects
// changes, an answer is a look-up. It serves the clusters of one context.Store and is not safe for concurrent use.
type Resolver struct {
	table    *table
	subjects map[string]*subjects
	facts    map[*context.Rule]*facts // by the first rule of a role
	places   map[uint64]*places       // privileged namespaces by version
	alike    map[string]*places       // and by what they are
	key      []byte
	why      Why
	masters  *Standing
}

// Bounds of what a Resolver remembers; a memory that is full begins anew.
const (
	maxSubjects = 1 << 16
	maxRequests = 1 << 10 // of one set of subjects
	maxFacts    = 1 << 16
	maxPlaces   = 1 << 14
)

// NewResolver returns a Resolver.
func NewResolver() *Resolver {
	return &Resolver{
		table:    loadTable(),
		subjects: map[string]*subjects{}, facts: map[*context.Rule]*facts{}, places: map[uint64]*places{}, alike: map[string]*places{},
	}
}

// Resolve returns all the ways in which RBAC allows the user, who is in those groups, the request, in a state of a
// cluster. It does not know of other authorizers: members of system:masters may do everything whatever it says.
func (r *Resolver) Resolve(state *context.State, user string, groups []string, request *Request) *Result {
	return r.rights(state, user, groups).resolve(r, request)
}

// subjects is a user with groups, and what they were allowed in the versions that were asked for last.
type subjects struct {
	recent [4]recent
	next   int
}

type recent struct {
	version, roles uint64
	lists          [][]*context.Item // bindings of the user and of each group
	rights         *rights
}

// rights are the bindings of a user and groups, and what was asked of them. Versions of a state that do not differ in
// these bindings and their roles share one.
type rights struct {
	user     string
	bound    []bound
	cluster  []*bound            // by cluster role bindings
	within   map[string][]*bound // by role bindings of a namespace
	requests map[string]*answer
	stands   *Standing
	traits   traits // on which stands depends besides
}

// bound is a binding that names one of the subjects.
type bound struct {
	binding, role *context.Item // role is nil if it does not exist
	subjects      []context.Subject
}

// answer is what is remembered of a request, by name where rules name names.
type answer struct {
	any    *Result
	byName map[string]*Result // nil if the name does not matter
}

// rights returns the rights of a user and groups.
func (r *Resolver) rights(state *context.State, user string, groups []string) *rights {
	version := state.RBACVersion()
	key := append(binary.LittleEndian.AppendUint64(r.key[:0], state.ClusterID()), user...)
	key = append(key, 0)
	for _, g := range groups {
		key = append(append(key, g...), 0)
	}
	r.key = key
	s := r.subjects[string(key)]
	if s == nil {
		if len(r.subjects) >= maxSubjects {
			clear(r.subjects)
		}
		s = &subjects{}
		r.subjects[strings.Clone(string(key))] = s
	}
	for i := range s.recent {
		if s.recent[i].version == version && s.recent[i].rights != nil {
			return s.recent[i].rights
		}
	}
	now := recent{version: version, roles: state.RolesVersion(), lists: make([][]*context.Item, 0, len(groups)+1)}
	now.lists = append(now.lists, state.UserBindings(user))
	for _, g := range groups {
		now.lists = append(now.lists, state.GroupBindings(g))
	}
	for i := range s.recent {
		if s.recent[i].same(state, &now) {
			now.rights = s.recent[i].rights
			s.recent[i] = now // the older version is not likely to be asked for again
			return now.rights
		}
	}
	now.rights = collect(state, user, groups, now.lists)
	s.recent[s.next] = now
	s.next = (s.next + 1) % len(s.recent)
	return now.rights
}

// same says whether what was collected for another version holds for the state too.
func (a *recent) same(state *context.State, now *recent) bool {
	if a.rights == nil || !slices.EqualFunc(a.lists, now.lists, func(x, y []*context.Item) bool {
		return len(x) == len(y) && (len(x) == 0 || &x[0] == &y[0])
	}) {
		return false
	}
	return a.roles == now.roles || !slices.ContainsFunc(a.rights.bound, func(b bound) bool {
		role, _ := state.RoleOf(b.binding)
		return role != b.role
	})
}

// collect gathers the bindings of a user and groups.
func collect(state *context.State, user string, groups []string, lists [][]*context.Item) *rights {
	all := slices.Concat(lists...)
	slices.SortFunc(all, func(a, b *context.Item) int {
		return cmp.Or(
			-cmp.Compare(a.Key.Kind, b.Key.Kind), // ClusterRoleBinding first
			strings.Compare(a.Key.Namespace, b.Key.Namespace),
			strings.Compare(a.Key.Name, b.Key.Name))
	})
	all = slices.Compact(all)
	r := &rights{user: strings.Clone(user), bound: make([]bound, len(all)), requests: map[string]*answer{}}
	for i, item := range all {
		b := &r.bound[i]
		b.binding = item
		b.role, _ = state.RoleOf(item)
		for _, s := range item.Object.Subjects {
			p, ok := context.Principal(s, item.Key)
			if ok && (p.Kind == "User" && p.Name == user || p.Kind == "Group" && slices.Contains(groups, p.Name)) {
				if s.Kind == "ServiceAccount" && s.Namespace == "" {
					s.Namespace = item.Key.Namespace
				}
				b.subjects = append(b.subjects, s)
			}
		}
		if item.Key.Kind == context.ClusterRoleBinding {
			r.cluster = append(r.cluster, b)
			continue
		}
		if r.within == nil {
			r.within = map[string][]*bound{}
		}
		r.within[item.Key.Namespace] = append(r.within[item.Key.Namespace], b)
	}
	return r
}

// resolve answers a request, from memory if it was asked before.
func (r *rights) resolve(scratch *Resolver, q *Request) *Result {
	key := scratch.key[:0]
	for _, s := range [...]string{q.Verb, q.APIGroup, q.Resource, q.Subresource, q.Namespace, q.Path} {
		key = append(append(key, s...), 0)
	}
	scratch.key = key
	a := r.requests[string(key)]
	if a == nil {
		if len(r.requests) >= maxRequests {
			clear(r.requests)
		}
		a = &answer{}
		named := false
		a.any = r.ask(q, &named)
		if named {
			a.byName = map[string]*Result{strings.Clone(q.Name): a.any}
		}
		r.requests[string(key)] = a
		return a.any
	}
	if a.byName == nil {
		return a.any
	}
	result := a.byName[q.Name]
	if result == nil {
		if len(a.byName) >= maxRequests {
			clear(a.byName)
		}
		named := false
		result = r.ask(q, &named)
		a.byName[strings.Clone(q.Name)] = result
	}
	return result
}

// ask works out an answer. named is set if it may be another for another name.
func (r *rights) ask(q *Request, named *bool) *Result {
	result := &Result{}
	result.add(r.cluster, q, named)
	if q.Namespace != "" {
		result.add(r.within[q.Namespace], q, named)
	}
	return result
}

func (r *Result) add(bounds []*bound, q *Request, named *bool) {
	for _, b := range bounds {
		if b.role == nil || b.role.Object == nil {
			continue
		}
		for i := range b.role.Object.Rules {
			if !covers(&b.role.Object.Rules[i], q) {
				continue
			}
			if names := b.role.Object.Rules[i].ResourceNames; q.Resource != "" && len(names) > 0 {
				*named = true
				if !slices.Contains(names, q.Name) {
					continue
				}
			}
			r.Stale = r.Stale || b.binding.Stale || b.role.Stale
			for _, s := range b.subjects {
				r.Matches = append(r.Matches, b.match(i, s))
			}
		}
	}
}

func (b *bound) match(rule int, s context.Subject) Match {
	m := Match{
		BindingKind: b.binding.Key.Kind.String(), Binding: full(b.binding.Key.Namespace, b.binding.Key.Name),
		RoleKind: b.role.Key.Kind.String(), Role: b.role.Key.Name,
		Rule: rule, SubjectKind: s.Kind, Subject: s.Name,
	}
	if s.Kind == "ServiceAccount" {
		m.Subject = full(s.Namespace, s.Name)
	}
	return m
}

func full(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// covers says whether a rule allows a request if it is about one of the rule's names. It is what the API server does:
// "pods/*" is not a pattern there, only "*" and "*/subresource" are.
func covers(r *context.Rule, q *Request) bool {
	if !has(r.Verbs, q.Verb) {
		return false
	}
	if q.Resource == "" {
		return slices.ContainsFunc(r.NonResourceURLs, func(pattern string) bool {
			prefix := strings.TrimRight(pattern, "*")
			return pattern == q.Path || len(prefix) < len(pattern) && strings.HasPrefix(q.Path, prefix)
		})
	}
	return has(r.APIGroups, q.APIGroup) && slices.ContainsFunc(r.Resources, func(pattern string) bool {
		if pattern == "*" {
			return true
		}
		if q.Subresource == "" {
			return pattern == q.Resource
		}
		resource, subresource, ok := strings.Cut(pattern, "/")
		return ok && subresource == q.Subresource && (resource == "*" || resource == q.Resource)
	})
}

// has says whether a list of a rule names s or everything.
func has(list []string, s string) bool {
	return slices.ContainsFunc(list, func(e string) bool { return e == "*" || e == s })
}
