package identity

import (
	"slices"
	"strings"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/schemas"
)

// caller is what the organization's tables say of a caller that they may know.
type caller struct {
	now    *context.Moment // of the organization, when it was looked up
	id     string          // of the person, empty if there is none
	person *context.PersonInfo
	email  string
	groups []string // names
	rbac   []string // groups as a cluster knows them, for events that have none
}

// person makes e the act of a person, if the context knows one by a name of the caller.
func (j *Joiner) person(e *schemas.Event, at int64) {
	c := j.caller(e, at)
	if c == nil {
		return
	}
	e.ActorGroups = c.groups
	if c.person == nil {
		return
	}
	p := c.person
	e.Actor, e.ActorKind = c.id, Human
	e.DisplayName, e.Email, e.Team, e.Manager, e.Active = p.Name, c.email, p.Team, p.Manager, p.Active
}

// caller looks the caller up; nil if there are no tables.
func (j *Joiner) caller(e *schemas.Event, at int64) *caller {
	organization := j.store.Cluster(context.Organization)
	if organization == nil || e.User == "" {
		return nil
	}
	now := organization.Moment()
	if at < now.Newest {
		return j.lookUp(organization, now, e, at) // what is remembered holds for later times alone
	}
	key := j.callerKey(e)
	c, ok := j.callers.get(key)
	if !ok || c.now != now {
		c = j.lookUp(organization, now, e, at)
		c.now = now
		j.callers.put(string(key), c)
	}
	return c
}

// callerKey is all that lookUp looks at.
func (j *Joiner) callerKey(e *schemas.Event) []byte {
	key := append(append(j.key[:0], e.Cluster...), 0)
	key = append(append(key, e.User...), 0)
	key = append(append(key, e.UserUID...), 0)
	for _, x := range e.Extra {
		switch x.Key {
		case extraARN, extraCanonical, extraSession, extraEntraObject:
			key = append(append(append(key, x.Key...), '='), extra(e, x.Key)...)
			key = append(key, 0)
		}
	}
	for _, g := range e.Groups {
		if !vouched(g) {
			key = append(append(key, g...), 0)
		}
	}
	j.key = key
	return key
}

// vouched reports whether a cluster vouches for a name, so that it means something else in another.
func vouched(name string) bool { return strings.HasPrefix(name, "system:") }

func (j *Joiner) lookUp(organization *context.Cluster, now *context.Moment, e *schemas.Event, at int64) *caller {
	c := &caller{}
	var groups []string // ids
	if item := j.known(e, at); item != nil {
		c.id, c.person, c.email = item.Key.Name, item.Object.Person, item.Object.Person.Email
		groups = append(slices.Clone(c.person.Groups), j.members.of(organization, now, c.id, at)...)
		slices.Sort(groups)
		groups = slices.Compact(groups)
	}
	for _, id := range groups {
		if vouched(id) {
			continue // no table makes anybody a member of system:masters
		}
		name := j.groupName(id, at)
		c.groups, c.rbac = append(c.groups, name), append(c.rbac, id)
		// A cluster knows a group by its id, but Google's by their address, which a table may have as the name.
		if name != id && isEmail(name) {
			c.rbac = append(c.rbac, name)
		}
	}
	for _, id := range e.Groups {
		if !vouched(id) && j.store.Group(id, at) != nil {
			c.groups = append(c.groups, j.groupName(id, at))
		}
	}
	slices.Sort(c.groups)
	c.groups = slices.Compact(c.groups)
	c.rbac = append(c.rbac, "system:authenticated")
	slices.Sort(c.rbac)
	c.rbac = slices.Compact(c.rbac)
	return c
}

// known returns the person with one of the caller's names, the one that says most first.
func (j *Joiner) known(e *schemas.Event, at int64) *context.Item {
	for _, name := range names(e) {
		if name == "" {
			continue
		}
		if item := j.store.Person(e.Cluster, name, at); item != nil && item.Object != nil && item.Object.Person != nil {
			return item
		}
	}
	return nil
}

// names are the names that the caller is known by. A username that only repeats the session of a role is not among them:
// the caller has chosen it. Who trusts the sessions of a role can say so, by the ARN of the role with the session.
func names(e *schemas.Event) []string {
	switch e.Provider {
	case ProviderEKS:
		var c Classifier
		role, session := c.awsRole(e)
		var all []string
		if session != "" {
			all = append(all, role+"/"+session, extra(e, extraARN))
		}
		if !chosen(e.User, role, session) {
			all = append(all, e.User)
		}
		return append(all, role, address(e))
	case ProviderAKS:
		return []string{"oid:" + extra(e, extraEntraObject), e.User, address(e)}
	}
	return []string{e.User, address(e)}
}

// address is the actor, if it is known by an address.
func address(e *schemas.Event) string {
	if e.ActorKind == Human && isEmail(e.Actor) {
		return e.Actor
	}
	return ""
}

// groupName returns the name of a group, or its id if the tables have no name that may be a group of theirs.
func (j *Joiner) groupName(id string, at int64) string {
	if item := j.store.Group(id, at); item != nil && item.Object != nil && item.Object.Group != nil {
		if name := item.Object.Group.Name; name != "" && !vouched(name) {
			return name
		}
	}
	return strings.Clone(id)
}

// members knows of which groups somebody is a member, where the groups name their members.
type members struct {
	now    *context.Moment
	groups map[string][]string // ids of persons → of groups
}

func (m *members) of(organization *context.Cluster, now *context.Moment, person string, at int64) (groups []string) {
	if at < now.Newest {
		for item := range organization.Objects(context.Group, at) {
			if item.Object != nil && item.Object.Group != nil && slices.Contains(item.Object.Group.Members, person) {
				groups = append(groups, item.Key.Name)
			}
		}
		return groups
	}
	if m.now != now {
		m.now, m.groups = now, map[string][]string{}
		for item := range organization.Objects(context.Group, at) {
			if item.Object == nil || item.Object.Group == nil {
				continue
			}
			for _, member := range item.Object.Group.Members {
				m.groups[member] = append(m.groups[member], item.Key.Name)
			}
		}
	}
	return m.groups[person]
}

// Groups returns the groups of the caller for RBAC where the event has none, as GKE's: those that the API server gives to
// callers of the kind, and those of the person in the organization's tables. It is nil for events that have groups.
func (j *Joiner) Groups(e *schemas.Event) []string {
	if len(e.Groups) > 0 || e.User == "" {
		return nil
	}
	switch e.ActorKind {
	case Anonymous:
		return []string{"system:unauthenticated"}
	case ServiceAccount:
		return j.accountGroups(e.User)
	case Node:
		return []string{"system:authenticated", "system:nodes"}
	case ControlPlane, Bootstrap:
		return j.everybody
	}
	if c := j.caller(e, moment(e)); c != nil {
		return c.rbac
	}
	return j.everybody
}

func (j *Joiner) accountGroups(user string) []string {
	namespace, _ := accountOf(user)
	groups, ok := j.accounts.get(namespace)
	if !ok {
		groups = []string{"system:authenticated", "system:serviceaccounts", "system:serviceaccounts:" + namespace}
		j.accounts.put(namespace, groups)
	}
	return groups
}
