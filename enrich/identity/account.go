package identity

import (
	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/schemas"
)

// account is where to find what the context may know of a caller in a cluster: what it knows is looked up each time.
type account struct {
	namespace, account, pod, owner, credential context.Handle
	owned                                      *context.Item // the pod whose owner owner is of
}

// accountKey names a caller by schemas.Event.Caller.
type accountKey struct{ cluster, caller uint64 }

// account returns the account of the caller of an event. One that has no number has a new one, until the next call.
func (j *Joiner) account(cluster *context.Cluster, e *schemas.Event) *account {
	if e.Caller == 0 || cluster == nil {
		j.unknown = account{}
		return &j.unknown
	}
	key := accountKey{cluster.ID(), e.Caller}
	a, ok := j.handles.get(key)
	if !ok {
		a = &account{}
		j.handles.put(key, a)
	}
	return a
}
