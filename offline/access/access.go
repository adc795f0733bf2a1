// Package access answers who may do what, and by which grants, at any time that is known: from what a store has, or from dumps
// of a cluster and recorded events.
package access

import (
	stdcontext "context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/rbac"
	"github.com/auditmill/auditmill/ingest/replay"
	"github.com/auditmill/auditmill/ingest/split"
)

// Sources are what is known of a cluster.
type Sources struct {
	Dumps  []string // files or directories of `kubectl get -o json`, each with @TIME behind it or taken to be older than all events
	Events []string // files of audit events
}

// Load reads the sources of a cluster. note is called for what could not be followed.
func Load(ctx stdcontext.Context, cluster string, sources Sources, note func(error)) (*context.Store, error) {
	config := context.DefaultConfig()
	config.History = 100 * 365 * 24 * time.Hour // all of it: nothing arrives that would need the room
	store := context.NewStore(config)
	for _, text := range sources.Dumps {
		path, from, err := dumpAt(text)
		if err != nil {
			return nil, err
		}
		dump, err := context.ReadDump(path)
		if err != nil {
			return nil, err
		}
		if len(dump.Objects) == 0 {
			return nil, fmt.Errorf("%s: no roles, bindings, service accounts or namespaces in it", path)
		}
		store.Import(cluster, dump, from)
	}
	learner := NewLearner(cluster, store)
	for _, path := range sources.Events {
		err := replay.ReadFile(path, func(item *split.Item, line int) error {
			if item.Fault != nil {
				note(fmt.Errorf("%s:%d: %s: %s", path, line, item.Fault.Reason, item.Fault.Detail))
			} else {
				learner.Event(item, func(err error) { note(fmt.Errorf("%s:%d: %w", path, line, err)) })
			}
			return ctx.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	learner.Finish()
	return store, nil
}

// dumpAt splits PATH@TIME. A path may have an @ in it: only what follows the last one, and begins like a time, is one.
func dumpAt(text string) (path string, from int64, err error) {
	i := strings.LastIndexByte(text, '@')
	if i < 0 || i+1 == len(text) || text[i+1] < '0' || text[i+1] > '9' {
		return text, 0, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text[i+1:])
	if err != nil {
		return "", 0, fmt.Errorf("%s: %q is no time; write it like PATH@2026-11-01T12:00:00Z", text, text[i+1:])
	}
	return text[:i], t.UnixMicro(), nil
}

// State returns the state of a cluster at a time, or the last one for the zero time. remedy is what to do where nothing is
// known.
func State(store *context.Store, cluster string, at time.Time, remedy string) (*context.State, error) {
	c := store.Cluster(cluster)
	state := c.Latest()
	if !at.IsZero() {
		state = c.At(at.UnixMicro())
	}
	switch {
	case state != nil:
		return state, nil
	case c.Latest() == nil:
		return nil, fmt.Errorf("nothing is known of cluster %q: %s", cluster, remedy)
	}
	return nil, fmt.Errorf("nothing is known of cluster %q at %s, only from %s on: %s", cluster, at.UTC().Format(time.RFC3339), first(c), remedy)
}

// first is from when on something is known.
func first(c *context.Cluster) (text string) {
	c.Between(math.MinInt64, math.MaxInt64, func(s *context.State) bool {
		text = time.UnixMicro(s.From()).UTC().Format(time.RFC3339)
		return false
	})
	return text
}

// Groups returns the groups that a user of a cluster is in by name, and by the people and groups that are known at a time, the
// zero time for the last. person is nil if nobody is known by that name.
func Groups(store *context.Store, cluster, user string, at time.Time) (groups []string, person *context.Item) {
	when := int64(math.MaxInt64)
	if !at.IsZero() {
		when = at.UnixMicro()
	}
	groups = rbac.GroupsOf(user)
	person = store.Person(cluster, user, when)
	if person == nil || person.Object == nil || person.Object.Person == nil {
		return groups, nil
	}
	known := slices.Clone(person.Object.Person.Groups)
	for item := range store.Cluster(context.Organization).Objects(context.Group, when) {
		if item.Object != nil && item.Object.Group != nil && slices.Contains(item.Object.Group.Members, person.Key.Name) {
			known = append(known, item.Key.Name)
		}
	}
	slices.Sort(known)
	// What is a group of a cluster alone, nobody outside of it can be put into.
	known = slices.DeleteFunc(slices.Compact(known), func(g string) bool { return strings.HasPrefix(g, "system:") })
	return append(groups, known...), person
}

// Origin is since when something is as it is, and by whom.
type Origin struct {
	// Since is when it became so. If Exact is false, that is when somebody looked: it may have been so before, up to since
	// Created. It is zero if it has been so for as long as anything is known.
	Since   time.Time `json:"since,omitzero"`
	Exact   bool      `json:"exact,omitempty"`
	Created time.Time `json:"created,omitzero"`
	By      string    `json:"by,omitempty"`     // the actor that made it so, if that is recorded
	Source  string    `json:"source,omitempty"` // where it is known from
	Stale   bool      `json:"stale,omitempty"`  // it changed since in a way that is not known
}

// OriginOf returns the origin of a version of an object.
func OriginOf(item *context.Item) Origin {
	o := Origin{
		By: item.By, Source: item.Source, Stale: item.Stale,
		Exact: item.Source == context.SourceAudit || item.Source == context.SourceAggregation,
	}
	if item.From > 0 { // else it is of a dump that is older than all that is known
		o.Since = time.UnixMicro(item.From).UTC()
	}
	if item.Object != nil {
		if t, err := time.Parse(time.RFC3339, item.Object.Metadata.CreationTimestamp); err == nil {
			o.Created = t.UTC()
		}
	}
	return o
}

// Grant is one way in which a request is allowed, and since when.
type Grant struct {
	rbac.Match
	Origin // of the binding
	// Role is the origin of the role, if it changed later than the binding.
	ChangedRole *Origin `json:"role_changed,omitempty"`
}

// Grants says of matches since when they are so.
func Grants(state *context.State, matches []rbac.Match) []Grant {
	grants := make([]Grant, 0, len(matches))
	for _, m := range matches {
		g := Grant{Match: m}
		binding := context.Key{Kind: context.ParseKind(m.BindingKind), Name: m.Binding}
		role := context.Key{Kind: context.ParseKind(m.RoleKind), Name: m.Role}
		if binding.Kind == context.RoleBinding {
			binding.Namespace, binding.Name, _ = strings.Cut(m.Binding, "/")
		}
		if role.Kind == context.Role {
			role.Namespace = binding.Namespace
		}
		if item, ok := state.Get(binding); ok {
			g.Origin = OriginOf(item)
		}
		if item, ok := state.Get(role); ok {
			if o := OriginOf(item); o.Stale || o.Since.After(g.Since) && !o.Created.Equal(o.Since.Truncate(time.Second)) {
				g.ChangedRole = &o
			}
		}
		grants = append(grants, g)
	}
	return grants
}

// Answer is the answer to whether a user may do something.
type Answer struct {
	User     string              `json:"user"`
	Groups   []string            `json:"groups"`
	ID       string              `json:"actor,omitempty"` // of the person, if one is known by that name
	Person   *context.PersonInfo `json:"person,omitempty"`
	Allowed  bool                `json:"allowed"`
	Masters  bool                `json:"masters,omitempty"` // by being in system:masters, whatever the matches say
	Complete bool                `json:"complete"`          // all roles and bindings are known
	Matches  []Grant             `json:"matches"`
	Standing *rbac.Standing      `json:"standing"`
}

// Why answers by which grants a user, who is in those groups, may do something.
func Why(state *context.State, user string, groups []string, q *rbac.Request) *Answer {
	r := rbac.NewResolver()
	a := &Answer{
		User: user, Groups: groups, Complete: state.CompleteRBAC() && !state.Doubtful(),
		Matches: Grants(state, r.Resolve(state, user, groups, q).Matches), Standing: r.Standing(state, user, groups),
		Masters: slices.Contains(groups, "system:masters"),
	}
	a.Allowed = a.Masters || len(a.Matches) > 0
	return a
}
