package rbac

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"unsafe"

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
	loose    []bool          // of each match: it is by what is Stale; nil if none is
	guessed  bool            // a role is as the controller that gathers rules will make it, or has made it
	firm     *Result         // without those that are loose
	texts    []string
}

// certain is the result without matches by what is Stale, but for one that is known otherwise, -1 if none is.
func (r *Result) certain(but int) *Result {
	if r.loose == nil {
		return r
	}
	if r.firm != nil && (but < 0 || !r.loose[but]) {
		return r.firm
	}
	firm := &Result{Stale: r.Stale, guessed: r.guessed}
	for i := range r.Matches {
		if !r.loose[i] || i == but {
			firm.Matches, firm.bindings = append(firm.Matches, r.Matches[i]), append(firm.bindings, r.bindings[i])
		}
	}
	if but < 0 || !r.loose[but] {
		r.firm = firm
	}
	return firm
}

// Resolver answers what RBAC allows whom. It remembers its answers: as long as no role or binding of the subjects
// changes, an answer is a look-up. It serves the clusters of one context.Store and is not safe for concurrent use.
type Resolver struct {
	table    *table
	subjects texts[*subjects]
	callers  memory[callerKey, *subjects] // the same by the number of a caller
	alikes   texts[*holders]
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
	maxSubjects = 1 << 16
	maxHolders  = 1 << 14
	maxAnswers  = 1 << 17
	maxFacts    = 1 << 16
	maxPlaces   = 1 << 14
	maxEqual    = 8 // answers of one set of subjects that are compared with a new one
)

// NewResolver returns a Resolver.
func NewResolver() *Resolver {
	return &Resolver{
		table:    loadTable(),
		subjects: newTexts[*subjects](maxSubjects), callers: newMemory[callerKey, *subjects](maxSubjects), alikes: newTexts[*holders](maxHolders), answers: newTexts[answer](maxAnswers),
		facts: newMemory[*context.Rule, *facts](maxFacts), places: newMemory[uint64, *places](maxPlaces), alike: map[string]*places{},
	}
}

// Resolve returns all the ways in which RBAC allows the user, who is in those groups, the request, in a state of a
// cluster. It does not know of other authorizers: members of system:masters may do everything whatever it says.
func (r *Resolver) Resolve(state *context.State, user string, groups []string, request *Request) *Result {
	return r.rights(state, user, groups).resolve(r, request)
}

// subjects is a user with groups, and their rights in the versions that were asked for last.
type subjects struct {
	account context.Handle // of the service account that the user is
	recent  [4]struct {
		version uint64
		rights  *rights
	}
	next int
}

// holders are all the users with groups that the same bindings name, through the same of them, and their rights with the
// roles that were asked for last.
type holders struct {
	lists  [][]*context.Item // bindings of the user and of each group
	recent [4]struct {
		roles  uint64
		rights *rights
	}
	next int
}

// rights are the bindings of a user and groups, and what was asked of them. Versions of a state that do not differ in
// these bindings and their roles share one.
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

// callerKey names a user and groups by schemas.Event.Caller.
type callerKey struct{ cluster, caller uint64 }

// rights returns the rights of a user and groups.
func (r *Resolver) rights(state *context.State, user string, groups []string) *rights {
	return r.subjectsOf(state, 0, user, groups).rights(r, state, user, groups)
}

// subjectsOf returns what is remembered of a user and groups. caller is their number, 0 if they have none.
func (r *Resolver) subjectsOf(state *context.State, caller uint64, user string, groups []string) *subjects {
	if caller == 0 {
		return r.subjectsBy(state, user, groups)
	}
	key := callerKey{state.ClusterID(), caller}
	s, ok := r.callers.get(key)
	if !ok {
		s = r.subjectsBy(state, user, groups)
		r.callers.put(key, s)
	}
	return s
}

func (r *Resolver) subjectsBy(state *context.State, user string, groups []string) *subjects {
	key := appendText(binary.LittleEndian.AppendUint64(r.key[:0], state.ClusterID()), user)
	for _, g := range groups {
		key = appendText(key, g)
	}
	r.key = key
	s, ok := r.subjects.get(key)
	if !ok {
		s = &subjects{}
		r.subjects.add(key, s)
	}
	return s
}

func (s *subjects) rights(r *Resolver, state *context.State, user string, groups []string) *rights {
	version := state.RBACVersion()
	for i := range s.recent {
		if known := &s.recent[i]; known.version == version && known.rights != nil {
			return known.rights
		}
	}
	now := r.holders(state, user, groups).rights(r, state, user, groups)
	s.recent[s.next].version, s.recent[s.next].rights = version, now
	s.next = (s.next + 1) % len(s.recent)
	return now
}

// holders returns those that a user and groups are of. The lists of bindings change with the bindings; no two are at the
// same place as long as both are remembered.
func (r *Resolver) holders(state *context.State, user string, groups []string) *holders {
	r.lists = r.lists[:0]
	key := binary.LittleEndian.AppendUint64(r.key[:0], state.ClusterID())
	add := func(list []*context.Item) {
		if len(list) > 0 {
			r.lists = append(r.lists, list)
			key = binary.LittleEndian.AppendUint64(key, uint64(uintptr(unsafe.Pointer(&list[0]))))
			key = binary.AppendUvarint(key, uint64(len(list)))
		}
	}
	add(state.UserBindings(user))
	for _, g := range groups {
		add(state.GroupBindings(g))
	}
	r.key = key
	h, ok := r.alikes.get(key)
	if !ok {
		h = &holders{lists: slices.Clone(r.lists)}
		r.alikes.add(key, h)
	}
	return h
}

// rights returns the rights of holders: those of a state with other roles, if theirs are the same.
func (h *holders) rights(r *Resolver, state *context.State, user string, groups []string) *rights {
	roles := state.RolesVersion()
	for i := range h.recent {
		if known := &h.recent[i]; known.rights != nil && (known.roles == roles || known.rights.same(state)) {
			known.roles = max(known.roles, roles) // the older ones are not likely to be asked for again
			return known.rights
		}
	}
	now := collect(state, user, groups, h.lists)
	now.id = r.next
	r.next++
	h.recent[h.next].roles, h.recent[h.next].rights = roles, now
	h.next = (h.next + 1) % len(h.recent)
	return now
}

// same says whether the roles of a state are those that were collected.
func (r *rights) same(state *context.State) bool {
	return !slices.ContainsFunc(r.bound, func(b bound) bool {
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
		if known.Stale == result.Stale && known.guessed == result.guessed && slices.Equal(known.loose, result.loose) && slices.Equal(known.Matches, result.Matches) {
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
			stale := b.binding.Stale || b.role.Stale
			r.Stale, r.guessed = r.Stale || stale, r.guessed || b.role.Source == context.SourceAggregation
			for _, s := range b.subjects {
				if stale || r.loose != nil {
					r.loose = append(append(r.loose, make([]bool, len(r.Matches)-len(r.loose))...), stale)
				}
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
