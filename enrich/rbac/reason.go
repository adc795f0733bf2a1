// Package rbac explains why a request was allowed. Parse reads the grant that the API server itself named. A Resolver
// works out every grant that allows a request from the state of the cluster at the time (package context), says whether
// the named one is among them, how broad the rights of the user are, and which dangerous permissions it holds.
package rbac

import (
	"slices"
	"strconv"
	"strings"

	"github.com/auditmill/auditmill/schemas"
)

// The values of the column authorizer.
const (
	AuthorizerRBAC    = "rbac"
	AuthorizerEKS     = "eks"
	AuthorizerGKE     = "gke"
	AuthorizerAzure   = "azure"
	AuthorizerNode    = "node"
	AuthorizerMasters = "masters" // group system:masters: RBAC is not asked
	AuthorizerNone    = "none"    // nobody allowed it
	AuthorizerOther   = "other"   // a reason of unknown form
)

// Grant is what a reason says about who allowed a request, and how.
type Grant struct {
	Authorizer               string
	BindingKind, Binding     string
	RoleKind, Role           string
	SubjectKind, SubjectName string
}

// Explain sets Authorizer and the Grant columns of e from the decision and its reason.
// parse caches per reason: there are few distinct ones.
func Explain(e *schemas.Event, parse func(decision, reason string) *Grant) {
	if e.Decision == "" && e.DecisionReason == "" {
		return
	}
	g := parse(e.Decision, e.DecisionReason)
	e.Authorizer = g.Authorizer
	e.GrantBindingKind, e.GrantBinding = g.BindingKind, g.Binding
	e.GrantRoleKind, e.GrantRole = g.RoleKind, g.Role
	e.GrantSubjectKind, e.GrantSubject = g.SubjectKind, g.SubjectName
	if e.DecisionReason == "" && e.Decision == "allow" {
		e.Authorizer = silent(e)
	}
}

// silent tells who allows without a reason. The decision is about the impersonated user
// if there is one.
func silent(e *schemas.Event) string {
	user, groups := e.User, e.Groups
	if e.ImpersonatedUser != "" {
		user, groups = e.ImpersonatedUser, e.ImpersonatedGroups
	}
	node := false
	for _, g := range groups {
		if g == "system:masters" {
			return AuthorizerMasters
		}
		node = node || g == "system:nodes"
	}
	if node && strings.HasPrefix(user, "system:node:") {
		return AuthorizerNode
	}
	return "" // AlwaysAllow, or a source that keeps no groups
}

// Parse reads all forms of a reason that are known; none is an error.
func Parse(decision, reason string) *Grant {
	switch {
	case reason == "":
		if decision == "forbid" {
			return &Grant{Authorizer: AuthorizerNone}
		}
		return &Grant{}
	case decision == "forbid":
		return &Grant{Authorizer: denier(reason)}
	case reason == "access granted by IAM permissions.":
		return &Grant{Authorizer: AuthorizerGKE}
	case strings.HasPrefix(reason, "Access allowed by Azure RBAC"):
		return azure(reason)
	}
	if rest, ok := strings.CutPrefix(reason, "RBAC: allowed by "); ok {
		return parseGrant(AuthorizerRBAC, rest)
	}
	if rest, ok := strings.CutPrefix(reason, "EKS Access Policy: allowed by "); ok {
		return parseGrant(AuthorizerEKS, rest)
	}
	return &Grant{Authorizer: AuthorizerOther}
}

// denier names who explained a refusal: since v0.37 each reason is prefixed with the
// authorizer's name, before that only RBAC's and Azure's are recognisable.
func denier(reason string) string {
	for line := range strings.Lines(reason) {
		switch {
		case strings.HasPrefix(line, "RBAC: "), strings.HasPrefix(line, "rbac: "):
			return AuthorizerRBAC
		case strings.HasPrefix(line, "node: "), strings.HasPrefix(line, "unknown node for user "),
			strings.HasPrefix(line, "no relationship found between node "), strings.HasPrefix(line, "node '"),
			strings.HasPrefix(line, `can only access leases in the "kube-node-lease"`):
			return AuthorizerNode
		case strings.Contains(line, "in Azure. Update role assignment"):
			return AuthorizerAzure
		}
	}
	return AuthorizerOther
}

// parseGrant reads: KIND "binding" of KIND "role" to KIND "subject". Names are quoted as
// Go quotes, and written name/namespace; the columns have namespace/name as everywhere.
func parseGrant(authorizer, text string) *Grant {
	g := &Grant{Authorizer: authorizer}
	var ok bool
	if g.BindingKind, g.Binding, text, ok = kindAndName(text); !ok || !oneOf(g.BindingKind, "ClusterRoleBinding", "RoleBinding") {
		return &Grant{Authorizer: AuthorizerOther}
	}
	if text, ok = strings.CutPrefix(text, " of "); !ok {
		return &Grant{Authorizer: AuthorizerOther}
	}
	if g.RoleKind, g.Role, text, ok = kindAndName(text); !ok || !oneOf(g.RoleKind, "ClusterRole", "Role") {
		return &Grant{Authorizer: AuthorizerOther}
	}
	if text, ok = strings.CutPrefix(text, " to "); !ok {
		return &Grant{Authorizer: AuthorizerOther}
	}
	g.SubjectKind, g.SubjectName, text, ok = kindAndName(text)
	if !ok || text != "" || !oneOf(g.SubjectKind, "User", "Group", "ServiceAccount") {
		return &Grant{Authorizer: AuthorizerOther}
	}
	if g.BindingKind == "RoleBinding" {
		g.Binding = namespaceFirst(g.Binding)
	}
	if g.SubjectKind == "ServiceAccount" {
		g.SubjectName = namespaceFirst(g.SubjectName)
	}
	return g
}

func kindAndName(text string) (kind, name, rest string, ok bool) {
	kind, quoted, ok := strings.Cut(text, " ")
	if !ok {
		return "", "", "", false
	}
	prefix, err := strconv.QuotedPrefix(quoted)
	if err != nil || prefix[0] != '"' {
		return "", "", "", false
	}
	if name, err = strconv.Unquote(prefix); err != nil {
		return "", "", "", false
	}
	return kind, strings.ToValidUTF8(name, "\ufffd"), quoted[len(prefix):], true
}

func namespaceFirst(s string) string {
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return s[i+1:] + "/" + s[:i]
	}
	return s
}

func azure(reason string) *Grant {
	g := &Grant{Authorizer: AuthorizerAzure}
	rest, ok := strings.CutPrefix(reason, "Access allowed by Azure RBAC Role Assignment ")
	if !ok {
		return g
	}
	assignment, rest, ok := strings.Cut(rest, " of Role ")
	if !ok {
		return g
	}
	if role, subject, ok := strings.Cut(rest, " to user "); ok {
		g.Binding, g.Role, g.SubjectKind, g.SubjectName = assignment, role, "User", subject
	}
	return g
}

func oneOf(s string, options ...string) bool {
	return slices.Contains(options, s)
}
