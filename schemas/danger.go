package schemas

import "sync"

// Danger is a dangerous permission in words: one that gives more than it seems to. Which rules of roles give it says
// the table of enrich/rbac, whose tests hold it to this one.
type Danger struct {
	ID       string
	Severity string // critical, high, medium or low
	Why      string // what it gives, as the end of a sentence about who holds it
}

// Dangers returns the dangerous permissions whose ids stand in the columns dangerous and caller_dangerous, the worst first.
func Dangers() []Danger {
	return []Danger{
		{"any-any", "critical", "everything, like cluster-admin"},
		{"create-any", "critical", "can create any object, pods and role bindings among them"},
		{"list-any", "critical", "can list any object, secrets among them"},
		{"get-any", "critical", "can get any object, secrets among them"},
		{"read-secrets", "critical", "can read the tokens and keys of others"},
		{"write-secrets", "critical", "can make a secret that is filled with the token of any service account of the namespace"},
		{"token-request", "critical", "can issue tokens of service accounts"},
		{"impersonate", "critical", "can act as anybody"},
		{"bind", "critical", "can grant roles whose rights it does not have"},
		{"escalate", "critical", "can write roles with rights that it does not have"},
		{"rbac-write", "critical", "can change who may do what"},
		{"csr-approve", "critical", "can issue client certificates of anybody"},
		{"csr-sign", "critical", "can sign client certificates of anybody"},
		{"pod-create", "critical", "can run a pod with any service account of the namespace, or with the node's file system"},
		{"controller-write", "critical", "can have pods made with any service account of the namespace"},
		{"aws-auth", "critical", "can map any IAM role to system:masters"},
		{"nodes-proxy", "critical", "can run commands in any pod through the kubelet; get is enough"},
		{"apiservice", "critical", "can put itself between the API server and the users of an API group"},
		{"anonymous", "critical", "rights that anybody has without credentials, other than those that every cluster gives"},
		{"impersonate-constrained", "high", "can act as somebody else for some requests"},
		{"pods-exec", "high", "can run commands in pods"},
		{"pods-attach", "high", "can speak to the processes of pods"},
		{"ephemeral", "high", "can run containers of its choice in the pods of others"},
		{"pods-modify", "high", "can swap the images of running pods"},
		{"webhooks", "high", "can read and change all objects on their way to the API server"},
		{"adm-policies", "high", "can turn admission policies off or change objects by them"},
		{"steal-pods", "high", "can drive powerful pods to a node of its choice"},
		{"ns-labels", "high", "can turn Pod Security off"},
		{"pv-create", "high", "can make volumes of any path of a node"},
		{"policy-engines", "high", "can turn the policies of Gatekeeper or Kyverno off"},
		{"delete-any", "high", "can destroy everything"},
		{"net-write", "high", "can redirect traffic"},
		{"auth-all", "high", "rights that everybody with any credentials has, other than those that every cluster gives; on GKE any Google account"},
		{"provider-iam", "high", "a service account with an identity of a cloud"},
		{"pods-portforward", "medium", "can reach the ports of pods past network policies"},
		{"storage-write", "medium", "can get at the data of others"},
		{"crd-write", "medium", "can change or destroy custom resources with all their objects"},
		{"svc-status", "medium", "can divert traffic to external addresses (CVE-2020-8554)"},
		{"pod-certs", "medium", "can get certificates of pods, or change whom they trust"},
		{"weak-ns", "medium", "can move on to other service accounts of an unprivileged namespace"},
		{"kubelet-fine", "low", "can read what the kubelet tells of its node and pods"},
		{"node-status", "low", "can pretend what nodes and pods are like"},
		{"rolebinding-patch", "low", "can add subjects to bindings whose roles it holds itself"},
		{"events-delete", "low", "can cover its tracks"},
		{"dangling", "low", "a binding to a role that does not exist, whose rights whoever makes the role decides"},
	}
}

// dangersByID is the table by id.
//
//nolint:gochecknoglobals // it is made once and never changed
var dangersByID = sync.OnceValue(func() map[string]Danger {
	byID := map[string]Danger{}
	for _, d := range Dangers() {
		byID[d.ID] = d
	}
	return byID
})

// DangerOf returns the dangerous permission with an id; false for one of a newer table.
func DangerOf(id string) (Danger, bool) {
	d, ok := dangersByID()[id]
	return d, ok
}
