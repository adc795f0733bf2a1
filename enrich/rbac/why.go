package rbac

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/schemas"
)

// Agreement says whether what was worked out agrees with what the API server decided and named as the reason.
type Agreement string

// The agreements.
const (
	NotAsked Agreement = ""         // there is no decision, or none of RBAC
	Agree    Agreement = "agree"    // the named grant is among the matches; or there is none and it was forbidden
	Disagree Agreement = "disagree" // it is not, although everything is known: the state is wrong, or the event
	Unknown  Agreement = "unknown"  // it is not, and not everything is known
)

// lag is by how much the API server may know of a change to roles and bindings later, or earlier than the event of the
// change says: it authorizes by caches, and events end after the change.
const lag = time.Second

// Why is why a request was allowed, by the state of the cluster at the time. It is valid until the next call; what its
// slices and pointers lead to stays.
type Why struct {
	// Known says that something is known of the cluster at the time of the event. If not, all else is empty.
	Known bool
	// Complete says that all roles and bindings were known, and nothing doubtful.
	Complete bool
	// Stale says that some roles or bindings have changed in a way that is not known.
	Stale bool
	// Matches are all the ways in which RBAC allows the request. The user is the impersonated one, if there is one. Those by
	// what is stale are not among them, unless the API server named them; and none is if the request was forbidden although
	// what is known allows it, but may be out of date.
	Matches []Match
	// Texts are the matches in words: Result.Texts.
	Texts []string
	// GrantSince is since when the binding that the API server named, or else that of the first match, is as it is, µs
	// since 1970; 0 if that is not known.
	GrantSince int64
	// GrantAuthor is who made it so, empty if that is not known.
	GrantAuthor string
	// Masters says that the user is in system:masters and may do everything, whatever Matches says.
	Masters bool
	// Node says that the user is a node, for whom the Node authorizer may allow what RBAC does not. It gives no reason, and
	// depends on which pods are bound to the node and what they mount, so the agreement on what it allows is Unknown:
	// kubelets reading the secrets and config maps of their pods, for instance.
	Node bool
	// Agreement is about Matches, Masters and Node on one side and decision and reason of the event on the other.
	Agreement Agreement
	// Waiting says that a change that is still to come may explain the decision: the API server named a binding or a role
	// that the state does not have, or decided otherwise although all groups of the user are known. Waiting is in vain if
	// what it knew was never recorded, so whoever waits should do so once for a reason and a Version, and not long.
	Waiting bool
	// Version names the roles and bindings that were used; equal versions are the same.
	Version uint64
	// Since is when a role or binding of the cluster changed last, µs since 1970; 0 if that is not known.
	Since int64
	// Age is how long that was before the event, in µs; 0 if that is not known.
	Age int64
	// Standing is how much the user may do.
	Standing *Standing
	// Impersonation is by which rights the caller acts as another; nil if it does not.
	Impersonation *Impersonation
}

// Impersonation is the right of a caller to act as another user.
type Impersonation struct {
	Allowed bool    // for all of user, groups, uid and extra
	Masters bool    // by being in system:masters
	Matches []Match // that allow to act as the user
	Texts   []string
	// Standing is how much the caller may do without it.
	Standing *Standing
}

// Explain works out why the request of an event was allowed. cluster may be nil. more are groups of the caller that the
// event does not name: there are sources that name none.
func (r *Resolver) Explain(cluster *context.Cluster, e *schemas.Event, more ...string) *Why {
	w := &r.why
	*w = Why{}
	at := e.EventTime
	if at == 0 {
		at = e.StageTime
	}
	own, caller := e.Groups, e.Caller
	if len(more) > 0 {
		caller = 0
		r.groups = append(append(r.groups[:0], e.Groups...), more...)
		own = r.groups
	}
	user, groups := e.User, own
	if e.ImpersonatedUser != "" {
		user, groups, caller = e.ImpersonatedUser, e.ImpersonatedGroups, 0
	}
	if w.Masters = slices.Contains(groups, "system:masters"); w.Masters {
		w.Standing = r.everything()
	}
	state := cluster.At(at)
	if state == nil || at == 0 {
		r.unknown(e)
		return w
	}
	if user == "" && len(groups) == 0 {
		w.state(state, at)
		return w // nobody was recognised: nothing was authorized
	}
	request := RequestOf(e)
	w.Node = slices.Contains(groups, "system:nodes") && strings.HasPrefix(user, "system:node:")
	subjects := r.subjectsOf(state, caller, user, groups)
	state, rights, result := r.agree(cluster, state, at, subjects, user, groups, &request, e)
	w.state(state, at)
	result = sure(result, w.Agreement, e)
	w.Matches, w.Texts = result.Matches, result.Texts()
	if len(result.bindings) > 0 {
		binding := result.bindings[max(0, named(result.Matches, e))]
		w.GrantSince, w.GrantAuthor = binding.From, binding.By
	}
	if !w.Masters {
		w.Standing = rights.standing(r, state, at, user, &subjects.account)
	}
	if e.ImpersonatedUser != "" {
		w.Impersonation = r.impersonations(cluster, state, at, e, own)
	}
	return w
}

// unknown sets the agreement where nothing is known of the cluster: only members of system:masters need no grant.
func (r *Resolver) unknown(e *schemas.Event) {
	if e.Decision == "allow" {
		_, _ = r.checkAllowed(&Result{}, e)
	}
	if e.Decision != "" && r.why.Agreement != Agree {
		r.why.Agreement = Unknown
	}
}

// sure is of a result what can be said for certain.
func sure(result *Result, agreement Agreement, e *schemas.Event) *Result {
	if e.Decision == "forbid" && agreement == Unknown {
		return &Result{}
	}
	return result.certain(named(result.Matches, e))
}

func (w *Why) state(s *context.State, at int64) {
	w.Stale = s.Stale()
	w.Known, w.Complete, w.Version, w.Since = true, s.CompleteRBAC() && !s.Doubtful(), s.RBACVersion(), s.RBACFrom()
	if w.Since > 0 {
		w.Age = max(0, at-w.Since)
	}
}

// RequestOf returns the request of an event as it was authorized. What the event tells of the object may come from its
// body: the name of an object that is created was not in the request, nor is a namespace in that for an object of the cluster.
func RequestOf(e *schemas.Event) Request {
	path, _, _ := strings.Cut(e.RequestURI, "?")
	if strings.IndexByte(path, '%') >= 0 {
		if unescaped, err := url.PathUnescape(path); err == nil {
			path = unescaped
		}
	}
	if e.Resource == "" {
		return Request{Verb: e.Verb, Path: path}
	}
	q := Request{
		Verb: e.Verb, APIGroup: e.APIGroup, Resource: e.Resource, Subresource: e.Subresource, Namespace: e.Namespace, Name: e.Name,
	}
	if e.Verb == "create" && e.Subresource == "" && strings.HasSuffix(strings.TrimRight(path, "/"), "/"+e.Resource) {
		q.Name = ""
	}
	if q.Namespace != "" && strings.HasPrefix(path, "/api") && !names(path, q.Namespace) {
		q.Namespace = ""
	}
	return q
}

// names says whether a path has /namespaces/ and a namespace.
func names(path, namespace string) bool {
	const before = "/namespaces/"
	for i := strings.Index(path, before); i >= 0; i = strings.Index(path, before) {
		rest, ok := strings.CutPrefix(path[i+len(before):], namespace)
		if ok && (rest == "" || rest[0] == '/') {
			return true
		}
		path = path[i+1:]
	}
	return false
}

// agree resolves a request and compares with the decision. If they differ, states from shortly before and after are
// tried: the API server may have decided by one of them. It returns the state that was used, and the rights in it.
func (r *Resolver) agree(
	cluster *context.Cluster, state *context.State, at int64, who *subjects, user string, groups []string, q *Request, e *schemas.Event,
) (*context.State, *rights, *Result) {
	held := who.rights(r, state, user, groups)
	result := held.resolve(r, q)
	ok, checked := r.check(result, e)
	if !checked || ok {
		return state, held, result
	}
	tried := state.RBACVersion()
	cluster.Between(at-lag.Microseconds(), at+lag.Microseconds(), func(s *context.State) bool {
		if s.RBACVersion() == tried || s.RBACVersion() == state.RBACVersion() {
			return true
		}
		tried = s.RBACVersion()
		others := who.rights(r, s, user, groups)
		other := others.resolve(r, q)
		if ok, _ = r.check(other, e); ok {
			state, held, result = s, others, other
		}
		return !ok
	})
	if ok {
		return state, held, result
	}
	told := len(e.Groups) > 0
	if e.ImpersonatedUser != "" {
		told = len(e.ImpersonatedGroups) > 0
	}
	missing, stale := r.lacks(state, e)
	switch {
	case !state.CompleteRBAC(), state.Doubtful(), result.Stale, result.guessed, !told, stale:
		r.why.Agreement = Unknown // the API server always knows the groups, not so all who pass events on
	default:
		r.why.Agreement = Disagree
	}
	r.why.Waiting = missing || r.why.Agreement == Disagree
	return state, held, result
}

// check sets the agreement and says whether it is one; checked is false if there is nothing more to try.
func (r *Resolver) check(result *Result, e *schemas.Event) (ok, checked bool) {
	w := &r.why
	switch e.Decision {
	case "allow":
		return r.checkAllowed(result, e)
	case "forbid":
		if len(result.Matches) == 0 && !w.Masters {
			w.Agreement = Agree
			return true, true
		}
		if d := Parse(e.Decision, e.DecisionReason).Authorizer; d == AuthorizerOther || d == AuthorizerAzure {
			w.Agreement = Unknown // an authorizer that was asked before RBAC may have denied it
			return false, false
		}
		return false, true
	}
	return false, false
}

func (r *Resolver) checkAllowed(result *Result, e *schemas.Event) (ok, checked bool) {
	w := &r.why
	if e.DecisionReason == "" {
		w.Agreement = Unknown
		if w.Masters {
			w.Agreement = Agree
		}
		return w.Masters, false
	}
	if !strings.HasPrefix(e.DecisionReason, reasonPrefix) {
		return false, false
	}
	if named(result.Matches, e) >= 0 {
		w.Agreement = Agree
		return true, true
	}
	return false, true
}

const reasonPrefix = "RBAC: allowed by "

// named returns which of the matches is the grant that the API server named, -1 if none is. The Grant columns of the event
// are used if they are set.
func named(matches []Match, e *schemas.Event) int {
	if !strings.HasPrefix(e.DecisionReason, reasonPrefix) {
		return -1
	}
	g := Grant{
		BindingKind: e.GrantBindingKind, Binding: e.GrantBinding, RoleKind: e.GrantRoleKind, Role: e.GrantRole,
		SubjectKind: e.GrantSubjectKind, SubjectName: e.GrantSubject,
	}
	if g.Binding == "" {
		g = *Parse(e.Decision, e.DecisionReason)
	}
	return slices.IndexFunc(matches, func(m Match) bool {
		return m.BindingKind == g.BindingKind && m.Binding == g.Binding && m.RoleKind == g.RoleKind && m.Role == g.Role &&
			m.SubjectKind == g.SubjectKind && m.Subject == g.SubjectName
	})
}

// lacks says whether the named binding, or the role of that name, is missing, and whether one of them changed in a way
// that is not known.
func (r *Resolver) lacks(state *context.State, e *schemas.Event) (missing, stale bool) {
	g := Parse(e.Decision, e.DecisionReason)
	if g.Binding == "" {
		return false, false
	}
	key := context.Key{Kind: context.ParseKind(g.BindingKind), Name: g.Binding}
	role := context.Key{Kind: context.ParseKind(g.RoleKind), Name: g.Role}
	if namespace, name, ok := strings.Cut(g.Binding, "/"); ok && key.Kind == context.RoleBinding {
		key.Namespace, key.Name = namespace, name
		if role.Kind == context.Role {
			role.Namespace = namespace
		}
	}
	b, known := state.Get(key)
	o, also := state.Get(role)
	return !known || !also, known && (b.Stale || b.Object == nil) ||
		also && (o.Stale || o.Object == nil || o.Source == context.SourceAggregation)
}

// impersonations is impersonation in the state, or in one from shortly before or after by which it was allowed: it was.
func (r *Resolver) impersonations(cluster *context.Cluster, state *context.State, at int64, e *schemas.Event, groups []string) *Impersonation {
	i := r.impersonation(state, at, e, groups)
	if i.Allowed {
		return i
	}
	cluster.Between(at-lag.Microseconds(), at+lag.Microseconds(), func(s *context.State) bool {
		if other := r.impersonation(s, at, e, groups); other.Allowed {
			i = other
		}
		return !i.Allowed
	})
	return i
}

// impersonation works out the caller's right to act as the impersonated user.
func (r *Resolver) impersonation(state *context.State, at int64, e *schemas.Event, groups []string) *Impersonation {
	i := &Impersonation{Standing: r.StandingAt(state, at, e.User, groups)}
	if i.Masters = slices.Contains(groups, "system:masters"); i.Masters {
		i.Allowed = true
		return i
	}
	i.Allowed = true
	for n, q := range asked(e) {
		result := r.Resolve(state, e.User, groups, &q)
		if n == 0 {
			firm := result.certain(-1)
			i.Matches, i.Texts = firm.Matches, firm.Texts()
		}
		i.Allowed = i.Allowed && len(result.Matches) > 0
	}
	return i
}

// asked returns what an impersonation needs the right to: the first is about the user itself. Groups that everybody of
// the kind is in were not asked for, as far as an event can tell, and need no right.
func asked(e *schemas.Event) []Request {
	const authentication = "authentication.k8s.io"
	verb, group, mode := "impersonate", "", ""
	if e.ImpersonationConstraint != "" {
		verb, group = e.ImpersonationConstraint, authentication
		mode, _ = strings.CutPrefix(verb, "impersonate:")
	}
	who, implied := impersonated(e.ImpersonatedUser, mode)
	who.Verb, who.APIGroup = verb, group
	all := []Request{who}
	for _, g := range e.ImpersonatedGroups {
		if !slices.Contains(implied, g) {
			all = append(all, Request{Verb: verb, APIGroup: group, Resource: "groups", Name: g})
		}
	}
	if e.ImpersonatedUID != "" {
		all = append(all, Request{Verb: verb, APIGroup: authentication, Resource: "uids", Name: e.ImpersonatedUID})
	}
	for _, extra := range e.ImpersonatedExtra {
		for _, value := range extra.Values {
			all = append(all, Request{Verb: verb, APIGroup: authentication, Resource: "userextras", Subresource: extra.Key, Name: value})
		}
	}
	if mode != "" {
		on := RequestOf(e)
		on.Verb = "impersonate-on:" + mode + ":" + on.Verb
		all = append(all, on)
	}
	return all
}

// impersonated returns as what a user is impersonated, and the groups that come with it. mode is that of a constrained
// impersonation.
func impersonated(user, mode string) (q Request, implied []string) {
	implied = []string{"system:authenticated"}
	if account, ok := strings.CutPrefix(user, "system:serviceaccount:"); ok {
		namespace, name, _ := strings.Cut(account, ":")
		return Request{Resource: "serviceaccounts", Namespace: namespace, Name: name},
			append(implied, "system:serviceaccounts", "system:serviceaccounts:"+namespace)
	}
	if node, ok := strings.CutPrefix(user, "system:node:"); ok && mode != "" {
		if mode == "associated-node" {
			node = "*" // the right is for the caller's own node, whichever that is
		}
		return Request{Resource: "nodes", Name: node}, append(implied, "system:nodes")
	}
	if user == "system:anonymous" {
		implied = append(implied, "system:unauthenticated")
	}
	return Request{Resource: "users", Name: user}, implied
}
