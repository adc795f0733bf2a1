// Package identity tells who is behind the user of an audit event. The caller's names,
// groups and extra attributes come in; an actor that is stable across clusters, its kind
// and who vouches for it come out. Nothing is guessed: what does not follow from the
// event is unknown.
//
// Classifier is the part of the answer that needs no context: it reads the event alone. Joiner
// adds what the context knew at the time of the event: people, groups, pods, tokens, addresses.
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
	extraPodUID       = "authentication.kubernetes.io/pod-uid"
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
		e.Actor, e.ActorKind, e.Provider = c.local(e), Unknown, ProviderKubernetes
		if inGroup(e, "system:bootstrappers") {
			e.ActorKind = Bootstrap
		}
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

// inGroup reports whether the event has the caller in a group, which the API server gives to all callers of
// the kind. Sources that keep no groups at all (GKE) are believed by the name.
func inGroup(e *schemas.Event, group string) bool {
	return len(e.Groups) == 0 || slices.Contains(e.Groups, group)
}

// serviceAccount needs the group that tokens of service accounts come with: a certificate can be made out to
// the name of a service account, and RBAC takes it for one, but no service account acted.
func (c *Classifier) serviceAccount(e *schemas.Event) {
	e.Actor, e.ActorKind, e.Provider = c.local(e), Unknown, ProviderKubernetes
	namespace, name, ok := strings.Cut(strings.TrimPrefix(e.User, "system:serviceaccount:"), ":")
	switch {
	case strings.HasPrefix(e.CredentialID, certificateID):
		e.Provider = ProviderCertificate
	case !ok || namespace == "" || name == "" || strings.Contains(name, ":") || !inGroup(e, "system:serviceaccounts"):
	default:
		e.ActorKind = ServiceAccount
		if pod := extra(e, extraPodName); pod != "" {
			e.Pod = c.join(namespace, pod)
		}
	}
}

// node needs the group system:nodes, as the Node authorizer does.
func (c *Classifier) node(e *schemas.Event) {
	e.Actor, e.Provider = c.local(e), ProviderKubernetes
	if isEKS(e) {
		e.Provider = ProviderEKS
	}
	name := strings.TrimPrefix(e.User, "system:node:")
	if name == "" || !inGroup(e, "system:nodes") {
		e.ActorKind = Unknown
		return
	}
	e.ActorKind, e.Node = Node, name
}

// isControlPlane knows the components of Kubernetes, of GCE's control plane, and of k3s and RKE2.
func isControlPlane(user string) bool {
	switch user {
	case "system:apiserver", "system:kube-apiserver", "system:kube-controller-manager", "system:kube-scheduler",
		"system:kube-proxy", "system:volume-scheduler", "system:cloud-controller-manager", "system:aggregator",
		"system:konnectivity-server", "system:kube-dns", "system:addon-manager", "system:cluster-autoscaler",
		"system:k3s-controller", "system:k3s-supervisor", "system:rke2-controller", "system:rke2-supervisor":
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
	case isGoogleService(user):
		e.Actor, e.ActorKind, e.Provider = c.fold(user), CloudService, provider(e)
		if e.Provider == "" {
			e.Provider = ProviderGKE
		}
	case isEmail(user):
		e.Actor, e.ActorKind, e.Provider = c.fold(user), Human, provider(e)
	case isIssuerSubject(user) && !strings.HasPrefix(e.CredentialID, certificateID):
		// Whether a person or a program is behind the subject is the issuer's secret.
		e.Actor, e.ActorKind, e.Provider = user, Unknown, ProviderOIDC
	default:
		// Also kubernetes-admin of kubeadm:cluster-admins: whoever has the file.
		e.Actor, e.ActorKind, e.Provider = c.local(e), Unknown, provider(e)
	}
}

// The prefixes of credential ids.
const (
	certificateID = "X509SHA256="
	tokenID       = "JTI="
)

// byIAM is how GKE explains a decision that its IAM made.
const byIAM = "access granted by IAM permissions."

func provider(e *schemas.Event) string {
	switch {
	case strings.HasPrefix(e.CredentialID, certificateID):
		return ProviderCertificate
	case strings.HasPrefix(e.CredentialID, tokenID):
		return ProviderOIDC
	case e.DecisionReason == byIAM:
		return ProviderGKE
	}
	return ""
}

// isIssuerSubject recognizes the names that the API server makes where no prefix is configured: "issuer#subject". It is
// the same in all clusters.
func isIssuerSubject(user string) bool {
	issuer, subject, ok := strings.Cut(user, "#")
	return ok && subject != "" && len(issuer) > len("https://") && strings.HasPrefix(issuer, "https://")
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

func extra(e *schemas.Event, key string) string {
	for i := range e.Extra {
		if e.Extra[i].Key == key && len(e.Extra[i].Values) > 0 {
			return e.Extra[i].Values[0]
		}
	}
	return ""
}
