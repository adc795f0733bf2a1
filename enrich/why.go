package enrich

import (
	"strings"

	clusters "github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/identity"
	"github.com/auditmill/auditmill/enrich/origin"
	"github.com/auditmill/auditmill/enrich/rbac"
	"github.com/auditmill/auditmill/schemas"
)

// Joiner adds to an event what the context says at its time: who it was, and why it was allowed. It is not safe for
// concurrent use.
type Joiner struct {
	store  *clusters.Store
	who    *identity.Joiner
	rights *rbac.Resolver
	why    *rbac.Why       // of the event that was joined last
	vain   map[string]bool // what was waited for in vain
	key    []byte
	// callers are of whoever uses the Joiner: there are fewer Joiners than partitions.
	callers *callers
}

// NewJoiner returns a Joiner by what a store knows. places may be nil: then the countries and networks of addresses are unknown.
func NewJoiner(store *clusters.Store, places *origin.Places) *Joiner {
	j := &Joiner{store: store, who: identity.NewJoiner(store, places), rights: rbac.NewResolver(), vain: map[string]bool{}, callers: newCallers()}
	return j
}

// Join sets the columns of who and why. It may be called again for the same event when more is known.
func (j *Joiner) Join(e *schemas.Event) {
	j.who.Join(e)
	w := j.rights.Explain(j.store.Cluster(e.Cluster), e, j.who.Groups(e)...)
	j.why = w
	e.GrantAgreement = string(w.Agreement)
	e.GrantSince, e.GrantAuthor = w.GrantSince, w.GrantAuthor
	e.Grants = w.Texts
	e.RightsSince, e.RightsAge = w.Since, w.Age
	e.RightsComplete, e.ClusterAdmin, e.ImpersonationAllowed = "", "", ""
	e.Breadth, e.Dangerous, e.CallerBreadth, e.CallerDangerous, e.ImpersonationGrants = 0, nil, 0, nil, nil
	complete := w.Complete && !w.Stale
	if w.Known {
		e.RightsComplete = truth(complete)
	}
	if s := w.Standing; s != nil {
		e.Breadth, e.Dangerous = uint16(s.Breadth), s.Dangerous
		// Who is not known to be one may still be, as long as bindings may be missing.
		if s.ClusterAdmin || complete {
			e.ClusterAdmin = truth(s.ClusterAdmin)
		}
	}
	if i := w.Impersonation; i != nil {
		if i.Allowed || complete {
			e.ImpersonationAllowed = truth(i.Allowed)
		}
		e.ImpersonationGrants = i.Texts
		if i.Standing != nil {
			e.CallerBreadth, e.CallerDangerous = uint16(i.Standing.Breadth), i.Standing.Dangerous
		}
	}
}

func truth(b bool) string {
	if b {
		return schemas.True
	}
	return schemas.False
}

// waits says whether the event that was joined last names something that is not known and may become so.
func (j *Joiner) waits(e *schemas.Event) bool {
	// Of a cluster of which not everything is known, what is missing is more likely old than new.
	return (j.why.Waiting && j.why.Complete || j.who.Missing(e)) && !j.vain[string(j.name(e))]
}

// maxVain bounds what is remembered of waiting in vain.
const maxVain = 1 << 14

// gaveUp remembers that waiting for what the event names was in vain: others that name it do not wait.
func (j *Joiner) gaveUp(e *schemas.Event) {
	if len(j.vain) >= maxVain {
		clear(j.vain)
	}
	j.vain[strings.Clone(string(j.name(e)))] = true
}

// name is what an event waits for.
func (j *Joiner) name(e *schemas.Event) []byte {
	key := append(append(j.key[:0], e.Cluster...), 0)
	if j.why.Waiting {
		key = append(append(append(key, e.GrantBindingKind...), e.GrantBinding...), e.GrantRole...)
		if e.GrantBinding == "" {
			key = append(key, e.User...)
		}
	} else {
		key = append(append(append(key, e.Pod...), 0), e.CredentialID...)
	}
	j.key = key
	return key
}

// crew is the joiners of a service, one for each goroutine that may run at a time. Each has its own memory; there are fewer of
// them than partitions.
type crew struct {
	known *knowledge
	free  chan *Joiner
}

func newCrew(known *knowledge, places *origin.Places, size int) *crew {
	c := &crew{known: known, free: make(chan *Joiner, size)}
	for range size {
		c.free <- NewJoiner(known.store, places)
	}
	return c
}

func (c *crew) begin() *Joiner { return <-c.free }

func (c *crew) end(j *Joiner) { c.free <- j }
