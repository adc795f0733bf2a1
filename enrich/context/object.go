package context

import (
	"encoding/json"
	"slices"
	"time"
)

// Organization is the name under which everything is kept that is not of one cluster: persons, groups and ranges of
// addresses.
const Organization = "*"

// Kind is a kind of object that is followed.
type Kind uint8

// The kinds. Those from Credential on are no objects of Kubernetes: a Credential is one that was issued in a cluster,
// its Key.Name is its id ("JTI=…", "X509SHA256=…"). Person, Group and Range are of the Organization: the Key.Name of a
// Person is what becomes the actor, that of a Group is its id, that of a Range is its CIDR, after the cluster and a
// slash if it is of one.
const (
	_ Kind = iota
	Role
	ClusterRole
	RoleBinding
	ClusterRoleBinding
	ServiceAccount
	Namespace
	Pod
	ReplicaSet
	Job
	Node
	Credential
	Person
	Group
	Range
	kinds
)

// API groups of the kinds.
const (
	rbacGroup  = "rbac.authorization.k8s.io"
	appsGroup  = "apps"
	batchGroup = "batch"
)

func (k Kind) String() string {
	return [kinds]string{
		"", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "ServiceAccount", "Namespace", "Pod", "ReplicaSet", "Job",
		"Node", "Credential", "Person", "Group", "Range",
	}[k]
}

// Namespaced says whether objects of the kind live in a namespace.
func (k Kind) Namespaced() bool {
	switch k {
	case Role, RoleBinding, ServiceAccount, Pod, ReplicaSet, Job:
		return true
	default:
		return false
	}
}

// RBAC says whether objects of the kind are what a State is made of.
func (k Kind) RBAC() bool { return k >= Role && k <= ClusterRoleBinding }

// kubernetes says whether the API server knows the kind.
func (k Kind) kubernetes() bool { return k >= Role && k <= Node }

// APIGroup is the API group of a kind of Kubernetes.
func (k Kind) APIGroup() string {
	switch k {
	case Role, ClusterRole, RoleBinding, ClusterRoleBinding:
		return rbacGroup
	case ReplicaSet:
		return appsGroup
	case Job:
		return batchGroup
	default:
		return ""
	}
}

// Resource is the kind's name in requests; empty for those that are not of Kubernetes.
func (k Kind) Resource() string {
	return [kinds]string{
		"", "roles", "clusterroles", "rolebindings", "clusterrolebindings", "serviceaccounts", "namespaces", "pods", "replicasets",
		"jobs", "nodes", "", "", "", "",
	}[k]
}

// KindOf returns the kind of the objects of a resource, 0 if they are not followed.
func KindOf(group, resource string) Kind {
	switch group {
	case "", rbacGroup, appsGroup, batchGroup:
	default:
		return 0
	}
	for k := Role; k.kubernetes(); k++ {
		if k.Resource() == resource && k.APIGroup() == group {
			return k
		}
	}
	return 0
}

// ParseKind returns the kind of that name, 0 if it is not followed.
func ParseKind(name string) Kind {
	for k := Role; k < kinds; k++ {
		if k.String() == name {
			return k
		}
	}
	return 0
}

// Key names an object of a cluster.
type Key struct {
	Kind            Kind
	Namespace, Name string
}

// String returns "Kind name" or "Kind namespace/name".
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Kind.String() + " " + k.Name
	}
	return k.Kind.String() + " " + k.Namespace + "/" + k.Name
}

// Object is what is used of an object: which fields are filled depends on its kind. It is never changed. Its JSON is a
// part of the Kubernetes object; what is not of Kubernetes has a member called like its kind, in lower case.
type Object struct {
	Metadata        Metadata
	Rules           []Rule
	AggregationRule *AggregationRule
	RoleRef         *RoleRef
	Subjects        []Subject

	Pod        *PodInfo
	Node       *NodeInfo
	Credential *CredentialInfo
	Person     *PersonInfo
	Group      *GroupInfo
	Range      *RangeInfo

	terminating bool // deletionTimestamp is set
	held        bool // something has to be done before it goes
}

// Metadata is what is used of an object's metadata.
type Metadata struct {
	UID               string            `json:"uid,omitempty"`
	ResourceVersion   string            `json:"resourceVersion,omitempty"`
	CreationTimestamp string            `json:"creationTimestamp,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`      // of cluster roles and namespaces
	Annotations       map[string]string `json:"annotations,omitempty"` // cloud identities of service accounts, owners of namespaces
	Owner             *Owner            `json:"-"`                     // of pods, replica sets and jobs
}

// created returns when the object was created in µs since 1970, rounded down to the second; 0 if that is not known.
func (m *Metadata) created() int64 {
	t, err := time.Parse(time.RFC3339, m.CreationTimestamp)
	if err != nil {
		return 0
	}
	return t.UnixMicro()
}

// Rule is a rule of a role.
type Rule struct {
	Verbs           []string `json:"verbs"`
	APIGroups       []string `json:"apiGroups,omitempty"`
	Resources       []string `json:"resources,omitempty"`
	ResourceNames   []string `json:"resourceNames,omitempty"`
	NonResourceURLs []string `json:"nonResourceURLs,omitempty"`
}

// Equal says whether both rules are written alike.
func (r *Rule) Equal(o *Rule) bool {
	return slices.Equal(r.Verbs, o.Verbs) && slices.Equal(r.APIGroups, o.APIGroups) &&
		slices.Equal(r.Resources, o.Resources) && slices.Equal(r.ResourceNames, o.ResourceNames) &&
		slices.Equal(r.NonResourceURLs, o.NonResourceURLs)
}

// RoleRef is the role that a binding grants.
type RoleRef struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// Subject is to whom a binding grants it.
type Subject struct {
	Kind      string `json:"kind"` // User, Group or ServiceAccount
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// AggregationRule says which other cluster roles the rules of a cluster role are gathered from.
type AggregationRule struct {
	Selectors []Selector `json:"clusterRoleSelectors,omitempty"`
}

// Selector selects by labels.
type Selector struct {
	MatchLabels      map[string]string `json:"matchLabels,omitempty"`
	MatchExpressions []Expression      `json:"matchExpressions,omitempty"`
}

// Expression is one condition on a label.
type Expression struct {
	Key      string   `json:"key"`
	Operator string   `json:"operator"` // In, NotIn, Exists or DoesNotExist
	Values   []string `json:"values,omitempty"`
}

// selects says whether one of the selectors matches labels. An empty selector matches everything.
func (a *AggregationRule) selects(labels map[string]string) bool {
	return slices.ContainsFunc(a.Selectors, func(s Selector) bool { return s.matches(labels) })
}

func (s *Selector) matches(labels map[string]string) bool {
	for key, value := range s.MatchLabels {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		value, has := labels[e.Key]
		ok := false
		switch e.Operator {
		case "In":
			ok = has && slices.Contains(e.Values, value)
		case "NotIn":
			ok = !has || !slices.Contains(e.Values, value)
		case "Exists":
			ok = has
		case "DoesNotExist":
			ok = !has
		}
		if !ok {
			return false
		}
	}
	return true
}

// Owner is the object by which one is controlled: that of the ownerReferences with "controller": true.
type Owner struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// PodInfo is what is used of a pod. A pod that has ended has no IPs: others may have them.
type PodInfo struct {
	Node           string // empty until it was scheduled
	ServiceAccount string
	HostNetwork    bool // its IPs are the node's
	IPs            []string
}

// NodeInfo is what is used of a node.
type NodeInfo struct {
	Addresses []string // internal and external IPs
	PodCIDRs  []string
}

// CredentialInfo is a token or certificate that was issued.
type CredentialInfo struct {
	By      string `json:"by,omitempty"`      // the actor that asked for it; empty if that is not known
	Subject string `json:"subject,omitempty"` // the username that it is for; empty if that is not known
	Expires int64  `json:"expires,omitempty"` // µs since 1970, 0 if that is not known
}

// PersonInfo is a person of the organization.
type PersonInfo struct {
	Name    string `json:"name,omitempty"`
	Email   string `json:"email,omitempty"`
	Team    string `json:"team,omitempty"`
	Manager string `json:"manager,omitempty"`
	Active  string `json:"active,omitempty"` // "true", "false" for who has left, "" if that is not known
	// Usernames are what clusters call the person. One that begins with "cluster/NAME/" holds in that cluster alone,
	// any other in every cluster; names that only a cluster vouches for ("system:…") must name theirs.
	Usernames []string `json:"usernames,omitempty"`
	Groups    []string `json:"groups,omitempty"` // ids
}

// GroupInfo is a group of the organization.
type GroupInfo struct {
	Name    string   `json:"name,omitempty"`
	Members []string `json:"members,omitempty"` // ids of persons
}

// RangeInfo is a range of addresses.
type RangeInfo struct {
	CIDR    string `json:"cidr"`
	Zone    string `json:"zone"`
	Cluster string `json:"cluster,omitempty"` // as seen by this cluster; by any if it is empty
}

// manifest is an Object as JSON.
type manifest struct {
	Metadata struct {
		Metadata
		OwnerReferences []ownerReference `json:"ownerReferences,omitempty"`
	} `json:"metadata"`
	Rules           []Rule           `json:"rules,omitempty"`
	AggregationRule *AggregationRule `json:"aggregationRule,omitempty"`
	RoleRef         *RoleRef         `json:"roleRef,omitempty"`
	Subjects        []Subject        `json:"subjects,omitempty"`
	Spec            *manifestSpec    `json:"spec,omitempty"`
	Status          *manifestStatus  `json:"status,omitempty"`
	Credential      *CredentialInfo  `json:"credential,omitempty"`
	Person          *PersonInfo      `json:"person,omitempty"`
	Group           *GroupInfo       `json:"group,omitempty"`
	Range           *RangeInfo       `json:"range,omitempty"`
}

type ownerReference struct {
	Owner
	Controller bool `json:"controller"`
}

type manifestSpec struct {
	NodeName           string   `json:"nodeName,omitempty"`
	ServiceAccountName string   `json:"serviceAccountName,omitempty"`
	HostNetwork        bool     `json:"hostNetwork,omitempty"`
	PodCIDRs           []string `json:"podCIDRs,omitempty"`
}

type manifestStatus struct {
	PodIPs    []podIP       `json:"podIPs,omitempty"`
	Addresses []nodeAddress `json:"addresses,omitempty"`
}

type podIP struct {
	IP string `json:"ip"`
}

type nodeAddress struct {
	Type    string `json:"type"`
	Address string `json:"address"`
}

// MarshalJSON returns what ParseRecord and the parser of Kubernetes objects read again.
func (o *Object) MarshalJSON() ([]byte, error) { return json.Marshal(o.manifest()) }

// manifest returns the object in the form that JSON has; nil if there is none.
func (o *Object) manifest() *manifest {
	if o == nil {
		return nil
	}
	m := &manifest{
		Rules: o.Rules, AggregationRule: o.AggregationRule, RoleRef: o.RoleRef, Subjects: o.Subjects,
		Credential: o.Credential, Person: o.Person, Group: o.Group, Range: o.Range,
	}
	m.Metadata.Metadata = o.Metadata
	if o.Metadata.Owner != nil {
		m.Metadata.OwnerReferences = []ownerReference{{Owner: *o.Metadata.Owner, Controller: true}}
	}
	if p := o.Pod; p != nil {
		m.Spec = &manifestSpec{NodeName: p.Node, ServiceAccountName: p.ServiceAccount, HostNetwork: p.HostNetwork}
		if len(p.IPs) > 0 {
			m.Status = &manifestStatus{}
		}
		for _, ip := range p.IPs {
			m.Status.PodIPs = append(m.Status.PodIPs, podIP{ip})
		}
	}
	if n := o.Node; n != nil {
		m.Spec = &manifestSpec{PodCIDRs: n.PodCIDRs}
		if len(n.Addresses) > 0 {
			m.Status = &manifestStatus{}
		}
		for _, a := range n.Addresses {
			m.Status.Addresses = append(m.Status.Addresses, nodeAddress{"InternalIP", a})
		}
	}
	return m
}
