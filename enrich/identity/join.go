package identity

import (
	"math"
	"strings"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/origin"
	"github.com/auditmill/auditmill/schemas"
)

// How much a Joiner remembers: of each kind of thing, a few MB at most.
const (
	maxCallers  = 1 << 14
	maxSessions = 1 << 15
	maxSources  = 1 << 15
	maxItems    = 1 << 14
)

// A Joiner adds what the context knew of the caller at the time of the event. It remembers what it worked out; what the
// context says anew counts at once. It is not safe for concurrent use.
type Joiner struct {
	store  *context.Store
	places *origin.Places

	key        []byte
	callers    texts[*caller]
	members    members
	sessions   memory[sessionKey, string]
	sources    memory[sourceKey, *source]
	workloads  memory[owned, string]
	namespaces memory[*context.Item, *namespace]
	accounts   memory[string, []string] // groups of service accounts, by namespace
	handles    memory[accountKey, *account]
	unknown    account
	minting    map[string]bool // clusters of which it is known who requests tokens
	everybody  []string        // the groups of who has no other
}

// NewJoiner returns a Joiner. places may be nil.
func NewJoiner(store *context.Store, places *origin.Places) *Joiner {
	return &Joiner{
		store: store, places: places,
		callers:    newTexts[*caller](maxCallers),
		sessions:   newMemory[sessionKey, string](maxSessions, sessionKey.clone),
		sources:    newMemory[sourceKey, *source](maxSources, sourceKey.clone),
		workloads:  newMemory[owned, string](maxItems, nil),
		namespaces: newMemory[*context.Item, *namespace](maxItems, nil),
		accounts:   newMemory[string, []string](maxItems, strings.Clone),
		handles:    newMemory[accountKey, *account](maxCallers, nil),
		minting:    map[string]bool{},
		everybody:  []string{"system:authenticated"},
	}
}

// Join sets the columns of who that need context, and Actor and ActorKind if the caller is a person that the context
// knows. e has been classified. All that it sets may be shared and stays valid. What is not known is left empty. It may
// be called again when more is known.
func (j *Joiner) Join(e *schemas.Event) {
	at, cluster := moment(e), j.store.Cluster(e.Cluster)
	e.DisplayName, e.Email, e.Team, e.Manager, e.Active, e.ActorGroups = "", "", "", "", "", nil
	e.Workload, e.CloudIdentity, e.MintedBy, e.MintedAt = "", "", "", 0
	e.NamespaceOwner, e.NamespaceLabels = "", nil
	var pod *context.Item
	known := j.account(cluster, e)
	switch e.ActorKind {
	case ServiceAccount:
		pod = j.serviceAccount(cluster, known, e, at)
	case Node, ControlPlane, Anonymous, Bootstrap:
	default:
		j.person(e, at)
	}
	j.minted(cluster, known, e)
	j.origin(cluster, e, pod, at)
	e.Session = j.session(e)
	if n := j.namespace(cluster, &context.Handle{}, e.Namespace, at); n != nil {
		e.NamespaceOwner, e.NamespaceLabels = n.owner, n.labels
	}
}

// minted says who requested the credential. That its subject is the caller is checked: the ids of tokens are chosen by
// their issuers, and an OIDC provider could issue one with the id of a service account's token. Then the caller would
// come to be minted by whoever requested the other.
func (j *Joiner) minted(cluster *context.Cluster, known *account, e *schemas.Event) {
	if e.CredentialID == "" {
		return
	}
	item := cluster.FindBy(&known.credential, context.Key{Kind: context.Credential, Name: e.CredentialID}, math.MaxInt64)
	if item == nil || item.Object == nil || item.Object.Credential == nil || item.Object.Credential.Subject != e.User {
		return
	}
	e.MintedBy, e.MintedAt = item.Object.Credential.By, item.From
	if !j.minting[e.Cluster] {
		j.minting[strings.Clone(e.Cluster)] = true
	}
}

// Missing reports whether the event names a pod or a token that the context does not know and, as it follows others of
// the cluster, may still learn of. e has been joined.
func (j *Joiner) Missing(e *schemas.Event) bool {
	cluster := j.store.Cluster(e.Cluster)
	if e.ActorKind != ServiceAccount || cluster == nil {
		return false
	}
	at := moment(e)
	if e.Pod != "" && claimed(cluster, &j.account(cluster, e).pod, e, at) == nil && follows(cluster, context.Pod, at) {
		return true
	}
	return e.MintedBy == "" && strings.HasPrefix(e.CredentialID, tokenID) && j.minting[e.Cluster] &&
		j.store.Credential(e.Cluster, e.CredentialID) == nil
}

// follows says whether anything is known of a kind.
func follows(cluster *context.Cluster, kind context.Kind, at int64) bool {
	if cluster.Complete(kind, at) {
		return true
	}
	for range cluster.Objects(kind, at) {
		return true
	}
	return false
}
