package context

import (
	"bytes"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/internal/jsonscan"
)

// wire is an object as it was written, with what names it.
type wire struct {
	kind, apiVersion string
	namespace, name  string
	deletion         string
	finalizers       bool // of metadata or, for namespaces, of spec
	grace            bool // it is deleted when its time is up, and not earlier
	ended            bool // of a pod: its phase is Succeeded or Failed
	owner            Owner
	pod              PodInfo
	node             NodeInfo
	certificate      string // of a certificate signing request: base64
	username         string // of one: who asked for it
	foreign          bool   // of one: the cloud says more of who it was than the name does
	Object
}

// key returns the Key of the object, if it is of a kind that is followed.
func (w *wire) key() (Key, bool) {
	k := ParseKind(w.kind)
	group, _, grouped := strings.Cut(w.apiVersion, "/")
	if !k.kubernetes() || grouped != (k.APIGroup() != "") || grouped && group != k.APIGroup() {
		return Key{}, false
	}
	key := Key{Kind: k, Name: w.name}
	if k.Namespaced() {
		key.Namespace = w.namespace
	}
	return key, true
}

// terminates says that the object is gone: it is to be deleted, and nothing holds it.
func (w *wire) terminates() bool { return w.deletion != "" && !w.finalizers && !w.grace }

// object returns what is kept of it for a key of that kind.
func (w *wire) object(k Kind, pool *pool) *Object {
	o := &Object{Metadata: w.Metadata, terminating: w.deletion != "", held: w.finalizers || w.grace}
	o.Metadata.Owner = nil
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
	w.content(o, k, pool)
	if (k == Pod || k == ReplicaSet || k == Job) && w.owner.Name != "" {
		owner := w.owner
		o.Metadata.Owner = &owner
	}
	return o
}

// content sets what is of the kind alone.
func (w *wire) content(o *Object, k Kind, pool *pool) {
	switch k {
	case Role, ClusterRole:
		o.Rules = w.Rules
		if k == ClusterRole { // a patch may name it for a role, where the API server drops it
			o.AggregationRule = w.AggregationRule
		}
		if pool != nil {
			o.Rules = pool.rules(o.Rules)
		}
	case RoleBinding, ClusterRoleBinding:
		o.RoleRef, o.Subjects = w.RoleRef, w.Subjects
	case Pod:
		pod := w.pod // a copy: w is large
		if w.ended {
			pod.IPs = nil
		}
		o.Pod = &pod
	case Node:
		node := w.node
		o.Node = &node
	case Credential:
		o.Credential = w.Credential
	case Person:
		o.Person = w.Person
	case Group:
		o.Group = w.Group
	case Range:
		o.Range = w.Range
	default:
	}
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
			w.spec(&f, v)
		case "status":
			w.status(&f, v)
		default:
			w.organization(&f, key, v)
		}
	})
	return w, f.err
}

// spec reads what is used of the spec of a pod, node, namespace or certificate signing request.
func (w *wire) spec(f *fault, value []byte) {
	if w.dull() {
		return
	}
	podCIDR := ""
	f.members("spec", value, func(k string, v []byte) {
		switch path := "spec." + k; k {
		case "finalizers":
			w.finalizers = w.finalizers || len(v) > 2 && v[0] == '['
		case "nodeName":
			w.pod.Node = f.text(path, v)
		case "serviceAccountName":
			w.pod.ServiceAccount = f.text(path, v)
		case "hostNetwork":
			w.pod.HostNetwork = string(v) == "true"
		case "podCIDRs":
			w.node.PodCIDRs = f.texts(path, v)
		case "podCIDR":
			podCIDR = f.text(path, v)
		case "username":
			w.username = f.text(path, v)
		case "extra":
			w.foreign = foreign(v)
		}
	})
	if len(w.node.PodCIDRs) == 0 && podCIDR != "" {
		w.node.PodCIDRs = []string{podCIDR}
	}
}

// foreign says whether the extra of a user tells of an identity of a cloud.
func foreign(extra []byte) bool {
	for _, name := range []string{`"arn"`, `"canonicalArn"`, `"oid"`} {
		if bytes.Contains(extra, []byte(name)) {
			return true
		}
	}
	return false
}

// dull says that nothing is used of the spec and status of the object: those of workloads are large.
func (w *wire) dull() bool {
	switch w.kind {
	case "ReplicaSet", "Job", "ServiceAccount":
		return true
	}
	return false
}

// status reads what is used of the status of a pod, node or certificate signing request.
func (w *wire) status(f *fault, value []byte) {
	if w.dull() || value[0] != '{' { // that of a Status is a word
		return
	}
	podIP := ""
	f.members("status", value, func(k string, v []byte) {
		switch path := "status." + k; k {
		case "phase":
			phase := f.text(path, v)
			w.ended = phase == "Succeeded" || phase == "Failed"
		case "podIP":
			podIP = f.text(path, v)
		case "podIPs":
			w.pod.IPs = nil
			f.elements(path, v, func(v []byte) {
				f.members(path, v, func(k string, v []byte) {
					if k == "ip" {
						w.pod.IPs = append(w.pod.IPs, f.text(path, v))
					}
				})
			})
		case "addresses":
			w.node.Addresses = nil
			f.elements(path, v, func(v []byte) { w.address(f, path, v) })
		case "certificate":
			w.certificate = f.text(path, v)
		}
	})
	if len(w.pod.IPs) == 0 && podIP != "" {
		w.pod.IPs = []string{podIP}
	}
}

// address reads an address of a node.
func (w *wire) address(f *fault, path string, value []byte) {
	kind, address := "", ""
	f.members(path, value, func(k string, v []byte) {
		switch k {
		case "type":
			kind = f.text(path, v)
		case "address":
			address = f.text(path, v)
		}
	})
	if (kind == "InternalIP" || kind == "ExternalIP") && address != "" {
		w.node.Addresses = append(w.node.Addresses, address)
	}
}

// organization reads what is not of Kubernetes.
func (w *wire) organization(f *fault, key string, value []byte) {
	text := func(to *string) func(path string, v []byte) {
		return func(path string, v []byte) { *to = f.text(path, v) }
	}
	texts := func(to *[]string) func(path string, v []byte) {
		return func(path string, v []byte) { *to = f.texts(path, v) }
	}
	var fields map[string]func(path string, v []byte)
	switch key {
	case "credential":
		c := &CredentialInfo{}
		w.Credential = c
		fields = map[string]func(string, []byte){
			"by": text(&c.By), "subject": text(&c.Subject), "expires": func(path string, v []byte) { c.Expires = f.number(path, v) },
		}
	case "person":
		p := &PersonInfo{}
		w.Person = p
		fields = map[string]func(string, []byte){
			"name": text(&p.Name), "email": text(&p.Email), "team": text(&p.Team), "manager": text(&p.Manager),
			"active": text(&p.Active), "usernames": texts(&p.Usernames), "groups": texts(&p.Groups),
		}
	case "group":
		g := &GroupInfo{}
		w.Group = g
		fields = map[string]func(string, []byte){"name": text(&g.Name), "members": texts(&g.Members)}
	case "range":
		r := &RangeInfo{}
		w.Range = r
		fields = map[string]func(string, []byte){"cidr": text(&r.CIDR), "zone": text(&r.Zone), "cluster": text(&r.Cluster)}
	default:
		return
	}
	f.members(key, value, func(k string, v []byte) {
		if read := fields[k]; read != nil {
			read(key+"."+k, v)
		}
	})
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
		case "deletionGracePeriodSeconds":
			w.grace = f.number(path, v) > 0
		case "ownerReferences":
			f.elements(path, v, func(v []byte) { w.reference(f, path, v) })
		case "finalizers":
			w.finalizers = w.finalizers || len(f.texts(path, v)) > 0
		case "labels":
			w.Metadata.Labels = f.textMap(path, v)
		case "annotations":
			w.Metadata.Annotations = f.textMap(path, v)
		}
	})
}

// reference reads one of the owners of an object.
func (w *wire) reference(f *fault, path string, value []byte) {
	var o Owner
	controls := false
	f.members(path, value, func(k string, v []byte) {
		switch k {
		case "kind":
			o.Kind = f.text(path, v)
		case "name":
			o.Name = f.text(path, v)
		case "controller":
			controls = string(v) == "true"
		}
	})
	if controls {
		w.owner = o
	}
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
