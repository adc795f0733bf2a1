package context

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// Item is one version of an object.
type Item struct {
	Key    Key
	Object *Object // nil: the object exists, and what it says is not known
	From   int64   // since when it is so, µs since 1970
	Source string  // where it is known from
	By     string  // the actor that made it so, if that is recorded
	Stale  bool    // it has changed since in a way that was not recorded

	gone bool // it was deleted
}

// labels returns the labels of the object, nil if there is none.
func (i *Item) labels() map[string]string {
	if i == nil || i.Object == nil {
		return nil
	}
	return i.Object.Metadata.Labels
}

// State is everything that is known of one cluster at one moment. It is immutable and complete in itself. Items and
// slices that it returns must not be changed.
type State struct {
	home     *Cluster
	from     int64
	rbac     int64 // of the last change to a role or binding
	version  uint64
	roles    trie[Key, *Item]
	bindings trie[Key, *Item]
	subjects trie[Subject, []*Item] // users, service accounts among them, and groups → bindings, the oldest first

	rolesVersion, rbacVersion uint64

	aggregated []string // cluster roles with an aggregation rule, sorted
	complete   uint32   // a bit for each kind
	doubt      uint32
	void       bool // the cluster was removed
	eks        int  // cluster roles that EKS makes in each of its clusters
	stale      int  // roles and bindings of which is not known what they say
}

func newState(home *Cluster) *State {
	seed := home.store.seed
	return &State{
		home: home, roles: trie[Key, *Item]{seed: seed}, bindings: trie[Key, *Item]{seed: seed}, subjects: trie[Subject, []*Item]{seed: seed},
	}
}

// From is since when the cluster is in this state, µs since 1970.
func (s *State) From() int64 { return s.from }

// RBACFrom is when a role or binding changed last, as far as is known; µs since 1970.
func (s *State) RBACFrom() int64 { return s.rbac }

// ClusterID names the cluster among those of the store.
func (s *State) ClusterID() uint64 { return s.home.id }

// RBACVersion names the roles and bindings of the state: states with the same RBACVersion have the same. No two clusters
// of a store share one.
func (s *State) RBACVersion() uint64 { return s.rbacVersion }

// RolesVersion is the same for the roles alone.
func (s *State) RolesVersion() uint64 { return s.rolesVersion }

// rbacKinds has the bits of roles and bindings.
const rbacKinds = 1<<Role | 1<<ClusterRole | 1<<RoleBinding | 1<<ClusterRoleBinding

// Complete says whether all objects of the kind are known: there was a dump of them, or a watch. Of kinds that are no
// roles and bindings it says so for the end of the state; Cluster.Complete says it for any time.
func (s *State) Complete(k Kind) bool {
	if !k.RBAC() {
		return s.home.markAt(s.until()).complete&(1<<k) != 0
	}
	return s.complete&(1<<k) != 0
}

// CompleteRBAC says whether all roles and bindings are known.
func (s *State) CompleteRBAC() bool { return s.complete&rbacKinds == rbacKinds }

// Doubtful says that something changed that could not be followed since the last dump.
func (s *State) Doubtful() bool { return s.doubt&rbacKinds != 0 }

// Stale says that some roles or bindings changed in a way that is not known.
func (s *State) Stale() bool { return s.stale > 0 }

// EKS says whether the cluster has the cluster roles that EKS makes.
func (s *State) EKS() bool { return s.eks > 0 }

// Get returns what is known of an object. One that is no role or binding changes without a new state: of those it returns
// what they were at the end of it; Cluster.Find knows them at any time.
func (s *State) Get(key Key) (*Item, bool) {
	if t := s.of(key.Kind); t != nil {
		return t.get(key)
	}
	item := s.home.Find(key, s.until())
	return item, item != nil
}

// Find is Cluster.Find of the cluster: at may be any time.
func (s *State) Find(key Key, at int64) *Item { return s.home.Find(key, at) }

// of returns the roles or the bindings, nil for any other kind.
func (s *State) of(k Kind) *trie[Key, *Item] {
	switch k {
	case Role, ClusterRole:
		return &s.roles
	case RoleBinding, ClusterRoleBinding:
		return &s.bindings
	default:
		return nil
	}
}

// Objects yields the objects of a kind, in no order. See Get for those that are no roles and bindings.
func (s *State) Objects(k Kind) iter.Seq[*Item] {
	t := s.of(k)
	if t == nil {
		return s.home.Objects(k, s.until())
	}
	return func(yield func(*Item) bool) {
		for key, item := range t.all() {
			if key.Kind == k && !yield(item) {
				return
			}
		}
	}
}

// Len is the number of roles and bindings.
func (s *State) Len() int { return s.roles.size + s.bindings.size }

// UserBindings returns the bindings that name the user, or the service account that the user is.
func (s *State) UserBindings(user string) []*Item {
	b, _ := s.subjects.get(Subject{Kind: "User", Name: user})
	return b
}

// GroupBindings returns the bindings that name the group.
func (s *State) GroupBindings(group string) []*Item {
	b, _ := s.subjects.get(Subject{Kind: "Group", Name: group})
	return b
}

// Subjects yields the users and groups that bindings name, service accounts as users, in no order.
func (s *State) Subjects() iter.Seq2[Subject, []*Item] { return s.subjects.all() }

// RoleOf returns the role that a binding grants.
func (s *State) RoleOf(binding *Item) (*Item, bool) {
	key, ok := roleKey(binding)
	if !ok {
		return nil, false
	}
	return s.roles.get(key)
}

func roleKey(binding *Item) (Key, bool) {
	if binding.Object == nil || binding.Object.RoleRef == nil {
		return Key{}, false
	}
	ref := binding.Object.RoleRef
	switch {
	case ref.Kind == "ClusterRole":
		return Key{Kind: ClusterRole, Name: ref.Name}, true
	case ref.Kind == "Role" && binding.Key.Kind == RoleBinding:
		return Key{Kind: Role, Namespace: binding.Key.Namespace, Name: ref.Name}, true
	}
	return Key{}, false // the API server takes no other
}

// Principal returns the user or group that a subject of a binding stands for, service accounts as the user they are;
// false if it stands for nobody.
func Principal(s Subject, binding Key) (Subject, bool) {
	switch s.Kind {
	case "User", "Group":
		return Subject{Kind: s.Kind, Name: s.Name}, true
	case "ServiceAccount":
		if s.Namespace = cmp.Or(s.Namespace, binding.Namespace); s.Namespace == "" {
			return Subject{}, false
		}
		return Subject{Kind: "User", Name: "system:serviceaccount:" + s.Namespace + ":" + s.Name}, true
	}
	return Subject{}, false
}

// builder makes the next state of one; it shares with it what does not change.
type builder struct {
	*State
	version func() uint64
}

// next begins a state that follows s at a time.
func (s *State) next(from int64, version func() uint64) *builder {
	n := *s
	n.from, n.version = from, version()
	return &builder{State: &n, version: version}
}

// put sets or, with a nil item, removes what is known of an object.
func (b *builder) put(key Key, item *Item) {
	before, had := b.Get(key)
	if !had && item == nil {
		return
	}
	of := b.of(key.Kind)
	if of != nil {
		b.stale += boolInt(item != nil && item.Stale) - boolInt(had && before.Stale)
	}
	if item != nil {
		*of = of.with(key, item)
	} else {
		*of = of.without(key)
	}
	switch key.Kind {
	case Role, ClusterRole:
		b.rolesVersion = b.State.version
		b.changedRBAC()
		b.countEKS(key, had, item != nil)
		b.index(key, before, item)
	case RoleBinding, ClusterRoleBinding:
		b.changedRBAC()
		b.unbind(before)
		b.bind(item)
	default:
	}
}

func (b *builder) changedRBAC() { b.rbacVersion, b.rbac = b.State.version, b.from }

func (b *builder) countEKS(key Key, had, has bool) {
	if key.Kind != ClusterRole || !strings.HasPrefix(key.Name, "eks:") || had == has {
		return
	}
	if has {
		b.eks++
	} else {
		b.eks--
	}
}

// index keeps the list of aggregated roles.
func (b *builder) index(key Key, before, after *Item) {
	had, has := aggregates(before), aggregates(after)
	if had == has || key.Kind != ClusterRole {
		return
	}
	i, _ := slices.BinarySearch(b.aggregated, key.Name)
	if has {
		b.aggregated = slices.Insert(slices.Clone(b.aggregated), i, key.Name)
	} else {
		b.aggregated = slices.Delete(slices.Clone(b.aggregated), i, i+1)
	}
}

func aggregates(i *Item) bool { return i != nil && i.Object != nil && i.Object.AggregationRule != nil }

// principals returns whom a binding names, each once.
func principals(binding *Item) (all []Subject) {
	if binding == nil || binding.Object == nil {
		return nil
	}
	for _, s := range binding.Object.Subjects {
		if p, ok := Principal(s, binding.Key); ok && !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

func (b *builder) unbind(binding *Item) {
	for _, p := range principals(binding) {
		bound, _ := b.subjects.get(p)
		rest := slices.DeleteFunc(slices.Clone(bound), func(i *Item) bool { return i == binding })
		if len(rest) == 0 {
			b.subjects = b.subjects.without(p)
		} else {
			b.subjects = b.subjects.with(p, rest)
		}
	}
}

func (b *builder) bind(binding *Item) {
	for _, p := range principals(binding) {
		bound, _ := b.subjects.get(p)
		// Never append in place: the state before has the same array.
		b.subjects = b.subjects.with(p, append(slices.Clip(bound), binding))
	}
}

// aggregate does what the API server's controller does when a cluster role changes: it gathers the rules of
// aggregated roles anew. Of the controller's own writes the stream may know nothing, and they come a moment later.
// changed are the labels of the role before and after.
func (b *builder) aggregate(name string, depth int, changed ...map[string]string) {
	if depth > len(b.aggregated) {
		return
	}
	for _, target := range b.aggregated {
		key := Key{Kind: ClusterRole, Name: target}
		item, _ := b.roles.get(key)
		if target == name || item.Stale || !slices.ContainsFunc(changed, item.Object.AggregationRule.selects) {
			continue
		}
		if item.From == b.from && item.Source != SourceAggregation && len(item.Object.Rules) > 0 {
			continue // somebody saw all of them at once, and saw what the controller had made of them
		}
		b.gather(key, item, depth)
	}
}

// gather sets the rules of an aggregated role to those of the roles that it selects.
func (b *builder) gather(key Key, item *Item, depth int) {
	var rules []Rule
	if b.complete&(1<<ClusterRole) == 0 {
		rules = slices.Clip(item.Object.Rules) // roles that are not known may have given them
	}
	for _, selector := range item.Object.AggregationRule.Selectors {
		for _, from := range b.selected(&selector, key.Name) {
			for _, r := range from.Object.Rules {
				if !slices.ContainsFunc(rules, func(o Rule) bool { return o.Equal(&r) }) {
					rules = append(rules, r)
				}
			}
		}
	}
	if sameRules(rules, item.Object.Rules) {
		return // the order of the controller is as good, and known from who saw it
	}
	object := *item.Object
	object.Rules = rules
	b.put(key, &Item{Key: key, Object: &object, From: b.from, Source: SourceAggregation})
	b.aggregate(key.Name, depth+1, object.Metadata.Labels)
}

// sameRules says whether both have the same rules, in whichever order.
func sameRules(x, y []Rule) bool {
	missing := func(all []Rule) func(Rule) bool {
		return func(r Rule) bool { return !slices.ContainsFunc(all, func(o Rule) bool { return o.Equal(&r) }) }
	}
	return !slices.ContainsFunc(x, missing(y)) && !slices.ContainsFunc(y, missing(x))
}

func (b *builder) selected(selector *Selector, except string) (all []*Item) {
	for key, item := range b.roles.all() {
		if key.Kind == ClusterRole && key.Name != except && item.Object != nil && selector.matches(item.Object.Metadata.Labels) {
			all = append(all, item)
		}
	}
	slices.SortFunc(all, func(x, y *Item) int { return strings.Compare(x.Key.Name, y.Key.Name) })
	return all
}
