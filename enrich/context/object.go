package context

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/auditmill/auditmill/internal/jsonscan"
)

// Kind is a kind of object that is followed.
type Kind uint8

// The kinds.
const (
	_ Kind = iota
	Role
	ClusterRole
	RoleBinding
	ClusterRoleBinding
	ServiceAccount
	Namespace
	kinds
)

// rbacGroup is the API group of roles and bindings.
const rbacGroup = "rbac.authorization.k8s.io"

func (k Kind) String() string {
	return [kinds]string{"", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "ServiceAccount", "Namespace"}[k]
}

// namespaced says whether objects of the kind live in a namespace.
func (k Kind) namespaced() bool { return k == Role || k == RoleBinding || k == ServiceAccount }

// group is the API group of the kind.
func (k Kind) group() string {
	if k == ServiceAccount || k == Namespace {
		return ""
	}
	return rbacGroup
}

// resource is the kind's name in requests.
func (k Kind) resource() string {
	return [kinds]string{"", "roles", "clusterroles", "rolebindings", "clusterrolebindings", "serviceaccounts", "namespaces"}[k]
}

// KindOf returns the kind of the objects of a resource, 0 if they are not followed.
func KindOf(group, resource string) Kind {
	if group != "" && group != rbacGroup {
		return 0
	}
	for k := Role; k < kinds; k++ {
		if k.resource() == resource && k.group() == group {
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
// part of the Kubernetes object.
type Object struct {
	Metadata        Metadata         `json:"metadata"`
	Rules           []Rule           `json:"rules,omitempty"`
	AggregationRule *AggregationRule `json:"aggregationRule,omitempty"`
	RoleRef         *RoleRef         `json:"roleRef,omitempty"`
	Subjects        []Subject        `json:"subjects,omitempty"`

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

// wire is an object as it was written, with what names it.
type wire struct {
	kind, apiVersion string
	namespace, name  string
	deletion         string
	finalizers       bool // of metadata or, for namespaces, of spec
	Object
}

// key returns the Key of the object, if it is of a kind that is followed.
func (w *wire) key() (Key, bool) {
	k := ParseKind(w.kind)
	if group, _, grouped := strings.Cut(w.apiVersion, "/"); k == 0 || grouped != (k.group() != "") || grouped && group != k.group() {
		return Key{}, false
	}
	key := Key{Kind: k, Name: w.name}
	if k.namespaced() {
		key.Namespace = w.namespace
	}
	return key, true
}

// object returns what is kept of it for a key of that kind.
func (w *wire) object(k Kind, pool *pool) *Object {
	o := w.Object
	o.terminating, o.held = w.deletion != "", w.finalizers
	if k != ClusterRole && k != Namespace {
		o.Metadata.Labels = nil
	}
	for name := range o.Metadata.Annotations {
		if !keepsAnnotation(k, name) {
			delete(o.Metadata.Annotations, name)
		}
	}
	if len(o.Metadata.Annotations) == 0 {
		o.Metadata.Annotations = nil
	}
	if k != Role && k != ClusterRole {
		o.Rules, o.AggregationRule = nil, nil
	}
	if k != RoleBinding && k != ClusterRoleBinding {
		o.RoleRef, o.Subjects = nil, nil
	}
	if pool != nil {
		o.Rules = pool.rules(o.Rules)
	}
	return &o
}

// keepsAnnotation says which annotations are used: which identity of a cloud a service account has, and who owns a
// namespace.
func keepsAnnotation(k Kind, name string) bool {
	switch k {
	case ServiceAccount:
		return slices.Contains(CloudAnnotations(), name)
	case Namespace:
		last := name[strings.LastIndexByte(name, '/')+1:]
		return last == "owner" || last == "team" || last == "contact"
	default:
		return false
	}
}

// CloudAnnotations are the annotations that give a service account an identity of a cloud.
func CloudAnnotations() []string {
	return []string{"eks.amazonaws.com/role-arn", "iam.gke.io/gcp-service-account", "azure.workload.identity/client-id"}
}

var errNotObject = errors.New("not a JSON object")

// fault collects the first thing that is wrong with an object; reading goes on.
type fault struct{ err error }

func (f *fault) bad(path, want string, got []byte) {
	if f.err == nil && string(got) != "null" {
		f.err = fmt.Errorf("%s: want %s, got %.40s", path, want, got)
	}
}

// members calls yield for each member of the object that value is. Keys count as written, like for the API server:
// encoding/json would take "Rules" for "rules".
func (f *fault) members(path string, value []byte, yield func(key string, value []byte)) {
	if value[0] != '{' {
		f.bad(path, "an object", value)
		return
	}
	it := jsonscan.Object(value)
	for it.Next() {
		key := string(it.Key())
		if it.Escaped() {
			key, _ = jsonscan.String(slices.Concat([]byte{'"'}, it.Key(), []byte{'"'}))
		}
		yield(key, it.Value())
	}
	if f.err == nil {
		f.err = it.Err()
	}
}

func (f *fault) elements(path string, value []byte, yield func(value []byte)) {
	if value[0] != '[' {
		f.bad(path, "an array", value)
		return
	}
	for it := jsonscan.Array(value); it.Next(); {
		yield(it.Value())
	}
}

func (f *fault) text(path string, value []byte) string {
	s, ok := jsonscan.String(value)
	if !ok {
		f.bad(path, "a string", value)
		return ""
	}
	return strings.Clone(s) // the event's bytes are not kept for it
}

func (f *fault) texts(path string, value []byte) (all []string) {
	f.elements(path, value, func(v []byte) { all = append(all, f.text(path, v)) })
	return all
}

func (f *fault) textMap(path string, value []byte) map[string]string {
	m := map[string]string{}
	f.members(path, value, func(k string, v []byte) { m[strings.Clone(k)] = f.text(path, v) })
	return m
}

// parseObject reads an object of Kubernetes. A field of the wrong type is an error that names it.
func parseObject(raw []byte) (*wire, error) {
	raw = raw[jsonscan.SkipSpace(raw, 0):]
	if len(raw) == 0 || raw[0] != '{' {
		return nil, errNotObject
	}
	var f fault
	w := &wire{}
	f.members("", raw, func(key string, v []byte) {
		switch key {
		case "kind":
			w.kind = f.text(key, v)
		case "apiVersion":
			w.apiVersion = f.text(key, v)
		case "metadata":
			w.metadata(&f, v)
		case "rules":
			w.Rules = nil
			f.elements(key, v, func(v []byte) { w.Rules = append(w.Rules, f.rule(v)) })
		case "aggregationRule":
			w.AggregationRule = f.aggregation(v)
		case "roleRef":
			w.RoleRef = f.roleRef(v)
		case "subjects":
			w.Subjects = nil
			f.elements(key, v, func(v []byte) { w.Subjects = append(w.Subjects, f.subject(v)) })
		case "spec":
			f.members(key, v, func(k string, v []byte) {
				if k == "finalizers" && len(v) > 2 && v[0] == '[' {
					w.finalizers = true
				}
			})
		}
	})
	return w, f.err
}

func (w *wire) metadata(f *fault, value []byte) {
	f.members("metadata", value, func(k string, v []byte) {
		switch path := "metadata." + k; k {
		case "namespace":
			w.namespace = f.text(path, v)
		case "name":
			w.name = f.text(path, v)
		case "uid":
			w.Metadata.UID = f.text(path, v)
		case "resourceVersion":
			w.Metadata.ResourceVersion = f.text(path, v)
		case "creationTimestamp":
			w.Metadata.CreationTimestamp = f.text(path, v)
		case "deletionTimestamp":
			w.deletion = f.text(path, v)
		case "finalizers":
			w.finalizers = w.finalizers || len(f.texts(path, v)) > 0
		case "labels":
			w.Metadata.Labels = f.textMap(path, v)
		case "annotations":
			w.Metadata.Annotations = f.textMap(path, v)
		}
	})
}

func (f *fault) roleRef(value []byte) *RoleRef {
	r := &RoleRef{}
	f.members("roleRef", value, func(k string, v []byte) {
		switch k {
		case "kind":
			r.Kind = f.text("roleRef.kind", v)
		case "name":
			r.Name = f.text("roleRef.name", v)
		}
	})
	return r
}

func (f *fault) rule(value []byte) (r Rule) {
	f.members("rules", value, func(k string, v []byte) {
		switch path := "rules." + k; k {
		case "verbs":
			r.Verbs = f.texts(path, v)
		case "apiGroups":
			r.APIGroups = f.texts(path, v)
		case "resources":
			r.Resources = f.texts(path, v)
		case "resourceNames":
			r.ResourceNames = f.texts(path, v)
		case "nonResourceURLs":
			r.NonResourceURLs = f.texts(path, v)
		}
	})
	return r
}

func (f *fault) subject(value []byte) (s Subject) {
	f.members("subjects", value, func(k string, v []byte) {
		switch path := "subjects." + k; k {
		case "kind":
			s.Kind = f.text(path, v)
		case "namespace":
			s.Namespace = f.text(path, v)
		case "name":
			s.Name = f.text(path, v)
		}
	})
	return s
}

func (f *fault) aggregation(value []byte) *AggregationRule {
	const path = "aggregationRule"
	if string(value) == "null" {
		return nil
	}
	a := &AggregationRule{}
	f.members(path, value, func(k string, v []byte) {
		if k == "clusterRoleSelectors" {
			f.elements(path, v, func(v []byte) { a.Selectors = append(a.Selectors, f.selector(v)) })
		}
	})
	return a
}

func (f *fault) selector(value []byte) (s Selector) {
	const path = "aggregationRule.clusterRoleSelectors"
	f.members(path, value, func(k string, v []byte) {
		switch k {
		case "matchLabels":
			s.MatchLabels = f.textMap(path, v)
		case "matchExpressions":
			f.elements(path, v, func(v []byte) {
				var e Expression
				f.members(path, v, func(k string, v []byte) {
					switch k {
					case "key":
						e.Key = f.text(path, v)
					case "operator":
						e.Operator = f.text(path, v)
					case "values":
						e.Values = f.texts(path, v)
					}
				})
				s.MatchExpressions = append(s.MatchExpressions, e)
			})
		}
	})
	return s
}
