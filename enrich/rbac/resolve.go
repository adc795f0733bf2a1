package rbac

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"
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

	bindings []*context.Item // of each match
	texts    []string
}

// Resolver answers what RBAC allows whom. It remembers its answers: as long as no role or binding of the subjects
// changes, an answer is a look-up. It serves the clusters of one context.Store and is not safe for concurrent use.
type Resolver struct {
	table    *table
	subjects texts[*subjects]
	answers  texts[answer]
	facts    memory[*context.Rule, *facts] // by the first rule of a role
	places   memory[uint64, *places]       // privileged namespaces by version
	alike    map[string]*places            // and by what they are
	next     uint64                        // id of the next rights
	key      []byte
	lists    [][]*context.Item
	groups   []string
	why      Why
	masters  *Standing
}

// Bounds of what a Resolver remembers: about 100 MB if all of it is in use.
const (
	maxSubjects = 1 << 15
	maxAnswers  = 1 << 17
	maxFacts    = 1 << 16
	maxPlaces   = 1 << 14
	maxEqual    = 8 // answers of one set of subjects that are compared with a new one
)

// NewResolver returns a Resolver.
func NewResolver() *Resolver {
	return &Resolver{
		table:    loadTable(),
		subjects: newTexts[*subjects](maxSubjects), answers: newTexts[answer](maxAnswers),
		facts: newMemory[*context.Rule, *facts](maxFacts), places: newMemory[uint64, *places](maxPlaces), alike: map[string]*places{},
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
// these bindings and their roles share one, and so do all users of the same groups that no binding names.
type rights struct {
	id      uint64
	bound   []bound
	cluster []*bound            // by cluster role bindings
	within  map[string][]*bound // by role bindings of a namespace
	results []*Result           // the last ones that differ
	stands  [2]*Standing        // the second for service accounts with an identity of a cloud
	traits  [2]traits           // on which they depend besides
}

// bound is a binding that names one of the subjects.
type bound struct {
	binding, role *context.Item // role is nil if it does not exist
	subjects      []context.Subject
}

// answer is what is remembered of a request.
type answer struct {
	result *Result
	named  bool // rules name names: there is an answer for each name
}

// appendText appends s so that what follows cannot be taken for a part of it.
func appendText(key []byte, s string) []byte {
	return append(binary.AppendUvarint(key, uint64(len(s))), s...)
}

// rights returns the rights of a user and groups.
func (r *Resolver) rights(state *context.State, user string, groups []string) *rights {
	version, own := state.RBACVersion(), state.UserBindings(user)
	key := binary.LittleEndian.AppendUint64(r.key[:0], state.ClusterID())
	if len(own) > 0 {
		key = appendText(append(key, 1), user)
	} else {
		key = append(key, 0) // the name does not matter
	}
	for _, g := range groups {
		key = appendText(key, g)
	}
	r.key = key
	s, ok := r.subjects.get(key)
	if !ok {
		s = &subjects{}
		r.subjects.add(key, s)
	}
	for i := range s.recent {
		if s.recent[i].version == version && s.recent[i].rights != nil {
			return s.recent[i].rights
		}
	}
	now := recent{version: version, roles: state.RolesVersion(), lists: append(r.lists[:0], own)}
	for _, g := range groups {
		now.lists = append(now.lists, state.GroupBindings(g))
	}
	r.lists = now.lists
	for i := range s.recent {
		if known := &s.recent[i]; known.same(state, &now) {
			known.version, known.roles = now.version, now.roles // the older version is not likely to be asked for again
			return known.rights
		}
	}
	now.lists = slices.Clone(now.lists)
	now.rights = collect(state, user, groups, now.lists)
	now.rights.id = r.next
	r.next++
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
	r := &rights{bound: make([]bound, len(all))}
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
func (r *rights) resolve(memory *Resolver, q *Request) *Result {
	key := binary.AppendUvarint(memory.key[:0], r.id)
	for _, s := range [...]string{q.Verb, q.APIGroup, q.Resource, q.Subresource, q.Namespace, q.Path} {
		key = appendText(key, s)
	}
	memory.key = key
	a, ok := memory.answers.get(key)
	if !ok {
		result := r.ask(q, &a.named)
		if !a.named {
			a.result = result
		}
		memory.answers.add(key, a)
	}
	if !a.named {
		return a.result
	}
	key = appendText(key, q.Name)
	memory.key = key
	if a, ok = memory.answers.get(key); !ok {
		a.result = r.ask(q, &a.named)
		memory.answers.add(key, a)
	}
	return a.result
}

// ask works out an answer. named is set if it may be another for another name. Equal answers are one.
func (r *rights) ask(q *Request, named *bool) *Result {
	result := &Result{}
	result.add(r.cluster, q, named)
	if q.Namespace != "" {
		result.add(r.within[q.Namespace], q, named)
	}
	for _, known := range r.results {
		if known.Stale == result.Stale && slices.Equal(known.Matches, result.Matches) {
			return known
		}
	}
	if len(r.results) >= maxEqual {
		r.results = slices.Delete(r.results, 0, 1)
	}
	r.results = append(r.results, result)
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
				r.bindings = append(r.bindings, b.binding)
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

// Texts returns the matches in the words of the API server, with the rule. It is worked out once and shared: it must not
// be changed.
func (r *Result) Texts() []string {
	if r.texts == nil && len(r.Matches) > 0 {
		r.texts = make([]string, len(r.Matches))
		for i := range r.Matches {
			r.texts[i] = r.Matches[i].String()
		}
	}
	return r.texts
}

// String is like ClusterRoleBinding "b" of ClusterRole "r" to Group "g" by rule 0. As in the API server's reasons, what
// is in a namespace is called name/namespace, and names are quoted as in Go.
func (m *Match) String() string {
	b := append(make([]byte, 0, 128), m.BindingKind...)
	b = strconv.AppendQuote(append(b, ' '), namespaceLast(m.BindingKind == "RoleBinding", m.Binding))
	b = append(append(append(b, " of "...), m.RoleKind...), ' ')
	b = strconv.AppendQuote(b, m.Role)
	b = append(append(append(b, " to "...), m.SubjectKind...), ' ')
	b = strconv.AppendQuote(b, namespaceLast(m.SubjectKind == "ServiceAccount", m.Subject))
	return string(strconv.AppendInt(append(b, " by rule "...), int64(m.Rule), 10))
}

// namespaceLast turns namespace/name into name/namespace.
func namespaceLast(namespaced bool, s string) string {
	if namespace, name, ok := strings.Cut(s, "/"); ok && namespaced {
		return name + "/" + namespace
	}
	return s
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
