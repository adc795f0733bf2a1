package access

import (
	"github.com/auditmill/auditmill/enrich/rbac"
)

// Explanation is what RBAC says of an event at its time, beside the columns of docs/fields.md.
type Explanation struct {
	// Grants are all the ways in which roles and bindings allow the request.
	Grants []rbac.Match `json:"grants"`
	// Agreement says whether the grant that the API server named is among them: agree, disagree or unknown; empty if
	// RBAC was not asked.
	Agreement rbac.Agreement `json:"grant_agreement,omitempty"`
	// Complete says that all roles and bindings of the cluster were known.
	Complete bool `json:"rights_complete"`
	Masters  bool `json:"system_masters,omitempty"`
	Node     bool `json:"node_authorizer,omitempty"` // may allow what roles do not
	// Age is how long before the event a role or binding of the cluster changed last, in µs.
	Age int64 `json:"rights_age,omitempty"`
	// Breadth is how much the user may do, 0 to 100; see rbac.Standing.
	Breadth      int      `json:"breadth"`
	ClusterAdmin bool     `json:"cluster_admin,omitempty"`
	Dangerous    []string `json:"dangerous,omitempty"` // ids of the dangerous permissions held
	// Impersonation is by which rights the caller acts as somebody else.
	Impersonation *Impersonation `json:"impersonation,omitempty"`
}

// Impersonation is the right of a caller to act as another.
type Impersonation struct {
	Allowed   bool         `json:"allowed"`
	Grants    []rbac.Match `json:"grants"`
	Breadth   int          `json:"caller_breadth"`
	Dangerous []string     `json:"caller_dangerous,omitempty"`
}

// Of copies what a Resolver worked out; nil if nothing is known of the cluster at that time.
func Of(w *rbac.Why) *Explanation {
	if !w.Known {
		return nil
	}
	why := &Explanation{
		Grants: w.Matches, Agreement: w.Agreement, Complete: w.Complete, Masters: w.Masters, Node: w.Node, Age: w.Age,
	}
	if why.Grants == nil {
		why.Grants = []rbac.Match{}
	}
	if s := w.Standing; s != nil {
		why.Breadth, why.ClusterAdmin, why.Dangerous = s.Breadth, s.ClusterAdmin, s.Dangerous
	}
	if i := w.Impersonation; i != nil {
		why.Impersonation = &Impersonation{Allowed: i.Allowed, Grants: i.Matches}
		if i.Standing != nil {
			why.Impersonation.Breadth, why.Impersonation.Dangerous = i.Standing.Breadth, i.Standing.Dangerous
		}
	}
	return why
}
