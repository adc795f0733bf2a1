package identity

import (
	"maps"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/schemas"
)

// serviceAccount sets what the context knows of a service account: what runs it and where, whose it is, and who it is in
// a cloud. It returns the pod that its token is bound to, nil if that is not known.
func (j *Joiner) serviceAccount(cluster *context.Cluster, known *account, e *schemas.Event, at int64) *context.Item {
	namespace, name := accountOf(e.User)
	if n := j.namespace(cluster, &known.namespace, namespace, at); n != nil {
		e.Team = n.owner
	}
	account := cluster.FindBy(&known.account, context.Key{Kind: context.ServiceAccount, Namespace: namespace, Name: name}, at)
	if account != nil && account.Object != nil && !account.Stale {
		e.CloudIdentity = cloudIdentity(account.Object.Metadata.Annotations)
	}
	if e.Pod == "" {
		return nil
	}
	pod := claimed(cluster, &known.pod, e, at)
	if pod == nil {
		return nil
	}
	if e.Node == "" && pod.Object.Pod != nil {
		e.Node = pod.Object.Pod.Node // API servers before 1.30 do not say it
	}
	e.Workload = j.workload(cluster, known, pod, at)
	return pod
}

// accountOf splits the username of a service account.
func accountOf(user string) (namespace, name string) {
	namespace, name, _ = strings.Cut(strings.TrimPrefix(user, "system:serviceaccount:"), ":")
	return namespace, name
}

// claimed returns the pod that the token is bound to. One of the same name with another uid is another, as the pods of a
// StatefulSet are.
func claimed(cluster *context.Cluster, h *context.Handle, e *schemas.Event, at int64) *context.Item {
	namespace, name, ok := strings.Cut(e.Pod, "/")
	if !ok {
		return nil
	}
	item := cluster.FindBy(h, context.Key{Kind: context.Pod, Namespace: namespace, Name: name}, at)
	if item == nil || item.Object == nil {
		return nil
	}
	if uid := extra(e, extraPodUID); uid != "" && item.Object.Metadata.UID != "" && item.Object.Metadata.UID != uid {
		return nil
	}
	return item
}

// owned is a pod and the object that owns it, nil if that is not looked up.
type owned struct{ pod, owner *context.Item }

// workload names the top of a pod's owners: of those that own pods, only replica sets and jobs are themselves owned by
// what people deploy. Without those in between the top is unknown.
func (j *Joiner) workload(cluster *context.Cluster, known *account, pod *context.Item, at int64) string {
	key := owned{pod: pod}
	owner := pod.Object.Metadata.Owner
	if owner != nil {
		if kind := between(owner.Kind); kind != 0 {
			if known.owned != pod {
				known.owned, known.owner = pod, context.Handle{}
			}
			key.owner = cluster.FindBy(&known.owner, context.Key{Kind: kind, Namespace: pod.Key.Namespace, Name: owner.Name}, at)
			if key.owner == nil || key.owner.Object == nil {
				return ""
			}
		}
	}
	name, ok := j.workloads.get(key)
	if !ok {
		name = key.top()
		j.workloads.put(key, name)
	}
	return name
}

// between returns the kind of objects that own pods and may be owned in turn; 0 for others.
func between(kind string) context.Kind {
	switch kind {
	case "ReplicaSet":
		return context.ReplicaSet
	case "Job":
		return context.Job
	}
	return 0
}

func (k owned) top() string {
	top := context.Owner{Kind: "Pod", Name: k.pod.Key.Name}
	if owner := k.pod.Object.Metadata.Owner; owner != nil {
		top = *owner
	}
	if k.owner != nil && k.owner.Object.Metadata.Owner != nil {
		top = *k.owner.Object.Metadata.Owner
	}
	if top.Kind == "Node" {
		return top.Kind + " " + top.Name // of a static pod
	}
	return top.Kind + " " + k.pod.Key.Namespace + "/" + top.Name
}

// cloudIdentity returns who a service account is in a cloud: the ARN of a role, a Google service account, or the client
// id of an application of Entra.
func cloudIdentity(annotations map[string]string) string {
	if len(annotations) == 0 {
		return ""
	}
	for _, name := range context.CloudAnnotations() {
		if id := annotations[name]; id != "" {
			return id
		}
	}
	return ""
}

// namespace is what is used of one.
type namespace struct {
	owner  string
	labels []schemas.KeyValue
}

// namespace returns what was known of a namespace at a time, nil if nothing was. One that changed since in an unknown way
// is not known.
func (j *Joiner) namespace(cluster *context.Cluster, h *context.Handle, name string, at int64) *namespace {
	if name == "" {
		return nil
	}
	item := cluster.FindBy(h, context.Key{Kind: context.Namespace, Name: name}, at)
	if item == nil || item.Object == nil || item.Stale {
		return nil
	}
	n, ok := j.namespaces.get(item)
	if !ok {
		m := &item.Object.Metadata
		n = &namespace{owner: ownerOf(m.Annotations, m.Labels)}
		for _, key := range slices.Sorted(maps.Keys(m.Labels)) {
			n.labels = append(n.labels, schemas.KeyValue{Key: key, Value: m.Labels[key]})
		}
		j.namespaces.put(item, n)
	}
	return n
}

// ownerOf returns the value of owner, team or contact, in this order, an annotation before a label. A prefix such as
// example.com/ makes no difference; if several have one, the first by name counts.
func ownerOf(annotations, labels map[string]string) string {
	for _, want := range []string{"owner", "team", "contact"} {
		for _, from := range []map[string]string{annotations, labels} {
			if value := from[want]; value != "" {
				return value
			}
			for _, key := range slices.Sorted(maps.Keys(from)) {
				if strings.HasSuffix(key, "/"+want) && from[key] != "" {
					return from[key]
				}
			}
		}
	}
	return ""
}
