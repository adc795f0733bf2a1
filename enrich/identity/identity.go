// Package identity tells who is behind the user of an audit event. The caller's names,
// groups and extra attributes come in; an actor that is stable across clusters, its kind
// and who vouches for it come out. Nothing is guessed: what does not follow from the
// event is unknown.
//
// This is where the event-time join with people, groups and pods belongs: Classify is the
// part of the answer that needs no context.
package identity

import (
	"slices"
	"strings"

	"github.com/auditmill/auditmill/schemas"
)

// The kinds of actors.
const (
	Human          = "human"
	ServiceAccount = "service_account"
	Node           = "node"
	ControlPlane   = "control_plane"
	CloudService   = "cloud_service"
	Anonymous      = "anonymous"
	Bootstrap      = "bootstrap"
	Unknown        = "unknown"
)

// Providers: who vouches for an identity.
const (
	ProviderKubernetes  = "kubernetes"
	ProviderCertificate = "certificate"
	ProviderOIDC        = "oidc"
	ProviderEKS         = "eks"
	ProviderGKE         = "gke"
	ProviderAKS         = "aks"
)

// Keys of user.extra that Kubernetes itself writes.
const (
	extraCredentialID = "authentication.kubernetes.io/credential-id"
	extraPodName      = "authentication.kubernetes.io/pod-name"
	extraNodeName     = "authentication.kubernetes.io/node-name"
)

// Classify sets Actor, ActorKind, Provider, Pod, Node and CredentialID of e from the
// caller that was authenticated; an impersonated user does not change who acted.
func Classify(e *schemas.Event) {
	e.CredentialID = extra(e, extraCredentialID)
	e.Node = extra(e, extraNodeName)
	user := e.User
	switch {
	case user == "":
		e.ActorKind = Unknown // authentication failed, or the sender keeps no user
	case user == "system:anonymous":
		e.Actor, e.ActorKind, e.Provider = local(e), Anonymous, ProviderKubernetes
	case strings.HasPrefix(user, "system:serviceaccount:"):
		serviceAccount(e)
	case strings.HasPrefix(user, "system:node:"):
		node(e)
	case strings.HasPrefix(user, "system:bootstrap:"):
		e.Actor, e.ActorKind, e.Provider = local(e), Bootstrap, ProviderKubernetes
	case isControlPlane(user):
		e.Actor, e.ActorKind, e.Provider = local(e), ControlPlane, ProviderKubernetes
	case strings.HasPrefix(user, "system:gke-"), strings.HasPrefix(user, "system:gcp-"):
		e.Actor, e.ActorKind, e.Provider = local(e), CloudService, ProviderGKE
	case strings.HasPrefix(user, "system:"):
		e.Actor, e.ActorKind, e.Provider = local(e), Unknown, ProviderKubernetes
	default:
		external(e)
	}
}

// local is an actor that exists in one cluster only: the same name elsewhere is somebody else.
func local(e *schemas.Event) string { return e.Cluster + "/" + e.User }

func serviceAccount(e *schemas.Event) {
	e.Actor, e.Provider = local(e), ProviderKubernetes
	namespace, name, ok := strings.Cut(strings.TrimPrefix(e.User, "system:serviceaccount:"), ":")
	if !ok || namespace == "" || name == "" || strings.Contains(name, ":") {
		e.ActorKind = Unknown
		return
	}
	e.ActorKind = ServiceAccount
	if pod := extra(e, extraPodName); pod != "" {
		e.Pod = namespace + "/" + pod
	}
}

// node needs the group system:nodes, as the Node authorizer does; sources that keep no
// groups at all (GKE) are believed by the name.
func node(e *schemas.Event) {
	e.Actor, e.Provider = local(e), ProviderKubernetes
	if isEKS(e) {
		e.Provider = ProviderEKS
	}
	name := strings.TrimPrefix(e.User, "system:node:")
	if name == "" || len(e.Groups) > 0 && !has(e.Groups, "system:nodes") {
		e.ActorKind = Unknown
		return
	}
	e.ActorKind, e.Node = Node, name
}

func isControlPlane(user string) bool {
	switch user {
	case "system:apiserver", "system:kube-apiserver", "system:kube-controller-manager", "system:kube-scheduler",
		"system:kube-proxy", "system:volume-scheduler", "system:cloud-controller-manager", "system:aggregator",
		"system:konnectivity-server", "system:kube-dns":
		return true
	}
	return false
}

// external classifies users that somebody outside the cluster vouches for.
func external(e *schemas.Event) {
	user := e.User
	switch {
	case strings.HasPrefix(user, "eks:"):
		e.Actor, e.ActorKind, e.Provider = local(e), CloudService, ProviderEKS
	case isEKS(e):
		eks(e)
	case isAKSService(user):
		e.Actor, e.ActorKind, e.Provider = local(e), CloudService, ProviderAKS
	case extra(e, "oid") != "":
		aks(e)
	case strings.HasSuffix(user, ".gserviceaccount.com") && isEmail(user):
		e.Actor, e.ActorKind, e.Provider = user, CloudService, ProviderGKE
	default:
		e.Provider = provider(e)
		if isEmail(user) {
			e.Actor, e.ActorKind = user, Human
			return
		}
		e.Actor, e.ActorKind = local(e), Unknown
	}
}

func provider(e *schemas.Event) string {
	switch {
	case strings.HasPrefix(e.CredentialID, "X509SHA256="):
		return ProviderCertificate
	case strings.HasPrefix(e.CredentialID, "JTI="):
		return ProviderOIDC
	}
	return ""
}

func isAKSService(user string) bool {
	switch user {
	case "masterclient", "nodeclient", "aksService", "aks-support":
		return true
	}
	return false
}

func isEKS(e *schemas.Event) bool {
	if strings.HasPrefix(e.UserUID, "aws-iam-authenticator:") || strings.HasPrefix(e.UserUID, "heptio-authenticator-aws:") {
		return true
	}
	return strings.HasPrefix(extra(e, "arn"), "arn:") || strings.HasPrefix(extra(e, "canonicalArn"), "arn:")
}

// eks names the person behind an SSO session by e-mail, anything else by its role and
// session: who may assume a role can be a workload as well as a person.
func eks(e *schemas.Event) {
	e.Provider = ProviderEKS
	arn, session := extra(e, "canonicalArn"), extra(e, "sessionName")
	if arn == "" {
		arn = extra(e, "arn")
	}
	switch {
	case isEmail(session):
		e.Actor, e.ActorKind = session, Human
	case isEmail(e.User):
		e.Actor, e.ActorKind = e.User, Human
	case strings.Contains(arn, ":user/"):
		e.Actor, e.ActorKind = arn, Human
	case arn != "" && session != "":
		e.Actor, e.ActorKind = arn+"/"+session, Unknown
	case arn != "":
		e.Actor, e.ActorKind = arn, Unknown
	default:
		e.Actor, e.ActorKind = local(e), Unknown
	}
}

// aks takes Entra's object id as the actor where the name is no address: names of
// applications can be changed, object ids cannot.
func aks(e *schemas.Event) {
	e.Provider = ProviderAKS
	if isEmail(e.User) {
		e.Actor, e.ActorKind = e.User, Human
		return
	}
	e.Actor, e.ActorKind = "entra/"+extra(e, "oid"), Unknown
}

// isEmail reports whether s has the form of an e-mail address; a colon or slash speaks
// for a prefix or an ARN.
func isEmail(s string) bool {
	at := strings.IndexByte(s, '@')
	if at < 1 || at != strings.LastIndexByte(s, '@') || strings.ContainsAny(s, ":/ \t\r\n") {
		return false
	}
	dot := strings.LastIndexByte(s, '.')
	return dot > at+1 && dot < len(s)-1
}

func has(list []string, s string) bool {
	return slices.Contains(list, s)
}

func extra(e *schemas.Event, key string) string {
	for i := range e.Extra {
		if e.Extra[i].Key == key && len(e.Extra[i].Values) > 0 {
			return e.Extra[i].Values[0]
		}
	}
	return ""
}
