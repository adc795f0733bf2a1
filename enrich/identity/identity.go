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
	"unsafe"

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

// A Classifier classifies events. It reuses its memory and is not safe for concurrent use;
// its zero value is ready.
type Classifier struct {
	names []byte // that were put together for the event
}

// Classify sets Actor, ActorKind, Provider, Pod, Node and CredentialID of e from the
// caller that was authenticated; an impersonated user does not change who acted. What it
// sets is valid until the next call.
func (c *Classifier) Classify(e *schemas.Event) {
	c.names = c.names[:0]
	e.CredentialID = extra(e, extraCredentialID)
	e.Node = extra(e, extraNodeName)
	user := e.User
	switch {
	case user == "":
		e.ActorKind = Unknown // authentication failed, or the sender keeps no user
	case user == "system:anonymous":
		e.Actor, e.ActorKind, e.Provider = c.local(e), Anonymous, ProviderKubernetes
	case strings.HasPrefix(user, "system:serviceaccount:"):
		c.serviceAccount(e)
	case strings.HasPrefix(user, "system:node:"):
		c.node(e)
	case strings.HasPrefix(user, "system:bootstrap:"):
		e.Actor, e.ActorKind, e.Provider = c.local(e), Bootstrap, ProviderKubernetes
	case isControlPlane(user):
		e.Actor, e.ActorKind, e.Provider = c.local(e), ControlPlane, ProviderKubernetes
	case strings.HasPrefix(user, "system:gke-"), strings.HasPrefix(user, "system:gcp-"):
		e.Actor, e.ActorKind, e.Provider = c.local(e), CloudService, ProviderGKE
	case strings.HasPrefix(user, "system:"):
		e.Actor, e.ActorKind, e.Provider = c.local(e), Unknown, ProviderKubernetes
	default:
		c.external(e)
	}
}

// local is an actor that exists in one cluster only: the same name elsewhere is somebody else.
func (c *Classifier) local(e *schemas.Event) string { return c.join(e.Cluster, e.User) }

// join returns a/b without allocating: nearly every event has an actor of this form. When
// names moves, earlier strings keep the old memory alive.
func (c *Classifier) join(a, b string) string {
	from := len(c.names)
	c.names = append(append(append(c.names, a...), '/'), b...)
	return unsafe.String(unsafe.SliceData(c.names[from:]), len(c.names)-from)
}

func (c *Classifier) serviceAccount(e *schemas.Event) {
	e.Actor, e.Provider = c.local(e), ProviderKubernetes
	namespace, name, ok := strings.Cut(strings.TrimPrefix(e.User, "system:serviceaccount:"), ":")
	if !ok || namespace == "" || name == "" || strings.Contains(name, ":") {
		e.ActorKind = Unknown
		return
	}
	e.ActorKind = ServiceAccount
	if pod := extra(e, extraPodName); pod != "" {
		e.Pod = c.join(namespace, pod)
	}
}

// node needs the group system:nodes, as the Node authorizer does; sources that keep no
// groups at all (GKE) are believed by the name.
func (c *Classifier) node(e *schemas.Event) {
	e.Actor, e.Provider = c.local(e), ProviderKubernetes
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
func (c *Classifier) external(e *schemas.Event) {
	user := e.User
	switch {
	case strings.HasPrefix(user, "eks:"):
		e.Actor, e.ActorKind, e.Provider = c.local(e), CloudService, ProviderEKS
	case isEKS(e):
		c.eks(e)
	case isAKSService(user):
		e.Actor, e.ActorKind, e.Provider = c.local(e), CloudService, ProviderAKS
	case extra(e, "oid") != "":
		c.aks(e)
	case strings.HasSuffix(user, ".gserviceaccount.com") && isEmail(user):
		e.Actor, e.ActorKind, e.Provider = user, CloudService, ProviderGKE
	default:
		e.Provider = provider(e)
		if isEmail(user) {
			e.Actor, e.ActorKind = user, Human
			return
		}
		e.Actor, e.ActorKind = c.local(e), Unknown
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
func (c *Classifier) eks(e *schemas.Event) {
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
		e.Actor, e.ActorKind = c.local(e), Unknown
	}
}

// aks takes Entra's object id as the actor where the name is no address: names of
// applications can be changed, object ids cannot.
func (c *Classifier) aks(e *schemas.Event) {
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
