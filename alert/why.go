package alert

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/auditmill/auditmill/schemas"
)

// maxName bounds what is one name or one grant in who and why, in bytes.
const maxName = 512

// maxDangers bounds the ids of dangerous permissions in an alert: there are fewer in the table.
const maxDangers = 64

// addContext fills in who and why as the event's row has it. What an older writer did not know stays empty.
func addContext(a *schemas.Alert, e row) {
	a.Version = uint64(max(0, e.number("version")))
	a.DisplayName, a.Email, a.Team = e.short("display_name"), e.short("email"), e.short("team")
	a.Manager, a.Active = e.short("manager"), e.short("active")
	a.Workload, a.Pod, a.Node, a.CloudIdentity = e.short("workload"), e.short("pod"), e.short("node"), e.short("cloud_identity")
	a.CredentialID, a.Session = e.short("credential_id"), e.short("session")
	a.MintedBy, a.MintedAt = e.short("minted_by"), e.time("minted_at")
	a.SourceZone, a.SourceCountry, a.SourceNetwork = e.short("source_zone"), e.short("source_country"), e.short("source_network")
	a.SourceNode, a.OffNode, a.NamespaceOwner = e.short("source_node"), e.short("off_node"), e.short("namespace_owner")
	a.ImpersonationAllowed, a.ImpersonationGrant = e.short("impersonation_allowed"), cut(withoutRule(e.first("impersonation_grants")), 2*maxName)
	a.Grant, a.Grants = e.grant(), e.size("grants")
	a.GrantSince, a.GrantAuthor, a.GrantAgreement = e.time("grant_since"), e.short("grant_author"), e.short("grant_agreement")
	a.RightsComplete, a.ClusterAdmin = e.short("rights_complete"), e.short("cluster_admin")
	a.Breadth, a.CallerBreadth = uint16(e.number("breadth")), uint16(e.number("caller_breadth"))
	a.Dangerous, a.CallerDangerous = e.some("dangerous", maxDangers), e.some("caller_dangerous", maxDangers)
}

// grant is the grant that the API server named, in its words, or else the first of those that were computed.
func (e row) grant() string {
	binding := e.text("grant_binding")
	if binding == "" {
		return cut(withoutRule(e.first("grants")), 2*maxName)
	}
	return cut(fmt.Sprintf("%s %q of %s %q to %s %q", e.text("grant_binding_kind"), binding, e.text("grant_role_kind"), e.text("grant_role"),
		e.text("grant_subject_kind"), e.text("grant_subject")), 2*maxName)
}

// withoutRule leaves out which rule of the role a grant is by: a person looks at the whole role.
func withoutRule(grant string) string {
	if at := strings.LastIndex(grant, `" by rule `); at >= 0 {
		return grant[:at+1]
	}
	return grant
}

// short is a column as text, cut to what a name has.
func (e row) short(column string) string { return cut(e.whole(column), maxName) }

// number returns a column of whole numbers; 0 if it is none.
func (e row) number(column string) int64 {
	a := schemas.ColumnArray(e.batch, column)
	if a == nil || a.IsNull(e.n) {
		return 0
	}
	switch a := a.(type) {
	case *array.Int64:
		return a.Value(e.n)
	case *array.Int32:
		return int64(a.Value(e.n))
	case *array.Uint16:
		return int64(a.Value(e.n))
	}
	return 0
}

// some is list without an end that says there is more, and never nil.
func (e row) some(column string, limit int) []string {
	values := e.list(column, limit)
	if values == nil {
		return []string{}
	}
	return values[:min(len(values), limit)]
}

// first returns the first value of a list column; empty if there is none.
func (e row) first(column string) string {
	if values := e.some(column, 1); len(values) > 0 {
		return values[0]
	}
	return ""
}

// size is the length of a list column.
func (e row) size(column string) uint64 {
	a, ok := schemas.ColumnArray(e.batch, column).(*array.List)
	if !ok || a.IsNull(e.n) {
		return 0
	}
	start, end := a.ValueOffsets(e.n)
	return uint64(end - start)
}
