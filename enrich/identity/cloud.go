package identity

import (
	"strings"

	"github.com/auditmill/auditmill/schemas"
)

// Keys of user.extra that EKS and AKS write.
const (
	extraARN         = "arn"
	extraCanonical   = "canonicalArn"
	extraSession     = "sessionName"
	extraAccessKey   = "accessKeyId"
	extraEntraObject = "oid"
)

func isAKSService(user string) bool {
	switch user {
	case "masterclient", "nodeclient", "aksService", "aks-support":
		return true
	}
	return false
}

// isGoogleService recognizes Google service accounts, and Kubernetes service accounts of a workload identity pool, which
// are project.svc.id.goog[namespace/name].
func isGoogleService(user string) bool {
	if pool, account, ok := strings.Cut(user, "["); ok {
		return strings.HasSuffix(pool, ".svc.id.goog") && strings.HasSuffix(account, "]") && strings.Contains(account, "/")
	}
	return strings.HasSuffix(user, ".gserviceaccount.com") && isEmail(user)
}

func isEKS(e *schemas.Event) bool {
	if strings.HasPrefix(e.UserUID, "aws-iam-authenticator:") || strings.HasPrefix(e.UserUID, "heptio-authenticator-aws:") {
		return true
	}
	return strings.HasPrefix(extra(e, extraARN), "arn:") || strings.HasPrefix(extra(e, extraCanonical), "arn:")
}

// ssoRole begins the names of the roles that IAM Identity Center makes, and that only it assumes.
const ssoRole = "AWSReservedSSO_"

// eks names who AWS authenticated. The name of a session is chosen by whoever assumes the role: it says who that is
// only for IAM Identity Center, which sets it to the user it has authenticated itself. Any other is a part of the
// actor, so that nobody becomes somebody else by a session name. Who may assume a role, or has the keys of an IAM user,
// can be a program as well as a person: unknown, until the people's table says more.
func (c *Classifier) eks(e *schemas.Event) {
	e.Provider, e.ActorKind = ProviderEKS, Unknown
	role, session := c.awsRole(e)
	switch {
	case isEmail(session) && strings.HasPrefix(roleName(role), ssoRole):
		e.Actor, e.ActorKind = c.fold(session), Human
	case isEmail(e.User) && !chosen(e.User, role, session):
		// The cluster's own mapping gives this address to the role or IAM user.
		e.Actor, e.ActorKind = c.fold(e.User), Human
	case role == "":
		e.Actor = c.local(e)
	case session == "" || madeUp(session):
		e.Actor = role
	default:
		e.Actor = c.join(role, session)
	}
}

// chosen reports whether the caller may have chosen a username, as it repeats the name of a session.
func chosen(user, role, session string) bool {
	return session != "" && strings.Contains(user, session) && !strings.HasPrefix(roleName(role), ssoRole)
}

// awsRole returns the ARN of the role or IAM user of the caller, without its session, and the session's name.
func (c *Classifier) awsRole(e *schemas.Event) (role, session string) {
	role, session = extra(e, extraCanonical), extra(e, extraSession)
	if role != "" && session != "" {
		return role, session
	}
	a, ok := parseARN(extra(e, extraARN))
	if !ok {
		return role, session
	}
	if session == "" {
		session = a.session
	}
	if role == "" {
		role = c.canonical(a)
	}
	return role, session
}

// canonical writes the role of a session as EKS does in canonicalArn.
func (c *Classifier) canonical(a arn) string {
	if a.session == "" {
		return a.text
	}
	from := len(c.names)
	for _, s := range []string{"arn:", a.partition, ":iam::", a.account, ":role/", a.name} {
		c.names = append(c.names, s...)
	}
	return c.since(from)
}

// madeUp recognizes the session names that the SDKs make up, each time another, where the caller gives none.
func madeUp(session string) bool {
	for _, prefix := range []string{"botocore-session-", "aws-go-sdk-", "aws-sdk-", "AWSCLI-Session"} {
		if strings.HasPrefix(session, prefix) {
			return true
		}
	}
	return strings.Trim(session, "0123456789") == ""
}

// arn is an Amazon resource name of a principal.
type arn struct {
	text               string
	partition, account string
	kind               string // role, user, assumed-role, root, …
	name               string // without the path
	session            string // of an assumed-role
}

// parseARN reads arn:partition:service:region:account:kind/path/name and arn:…:assumed-role/name/session.
func parseARN(s string) (a arn, ok bool) {
	var part [6]string
	rest, more := s, true
	for i := range part {
		if !more {
			return arn{}, false
		}
		if part[i], rest, more = strings.Cut(rest, ":"); i == len(part)-1 && more {
			part[i] += ":" + rest // the last part may have colons
		}
	}
	if part[0] != "arn" || part[1] == "" || part[5] == "" {
		return arn{}, false
	}
	a.text, a.partition, a.account = s, part[1], part[4]
	kind, name, _ := strings.Cut(part[5], "/")
	a.kind, a.name = kind, name
	if kind == "assumed-role" {
		a.name, a.session, ok = strings.Cut(name, "/")
		return a, ok && a.name != "" && a.session != ""
	}
	a.name = name[strings.LastIndexByte(name, '/')+1:]
	return a, true
}

// roleName returns the name of the role of a canonical ARN, empty if it is none.
func roleName(s string) string {
	if a, ok := parseARN(s); ok && a.kind == "role" {
		return a.name
	}
	return ""
}

// aks takes Entra's object id as the actor where the name is no address: names of
// applications can be changed, object ids cannot.
func (c *Classifier) aks(e *schemas.Event) {
	e.Provider = ProviderAKS
	if isEmail(e.User) {
		e.Actor, e.ActorKind = c.fold(e.User), Human
		return
	}
	e.Actor, e.ActorKind = c.join("entra", extra(e, extraEntraObject)), Unknown
}
