package notify

import (
	"github.com/auditmill/auditmill/schemas"
)

// router says who is to be told of an alert.
type router struct {
	names []string // of all receivers
}

func newRouter(_ Config, names []string) *router { return &router{names: names} }

func (r *router) receivers(a *schemas.Alert) []string {
	var out []string
	for _, name := range r.names {
		if a.Rule != RuleUndelivered || a.Values["receiver"] != name {
			out = append(out, name)
		}
	}
	return out
}
