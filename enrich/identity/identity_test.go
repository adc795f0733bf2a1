package identity

import (
	"strings"
	"testing"

	"github.com/auditmill/auditmill/schemas"
)

// kv makes the extra attributes of a user of pairs of keys and values.
func kv(pairs ...string) (out []schemas.KeyValues) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, schemas.KeyValues{Key: pairs[i], Values: []string{pairs[i+1]}})
	}
	return out
}

const (
	ssoARN      = "arn:aws:iam::111122223333:role/AWSReservedSSO_Admin_0123456789abcdef"
	ssoSession  = "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/alice@example.com"
	roleARN     = "arn:aws:iam::111122223333:role/deploy"
	roleSession = "arn:aws:sts::111122223333:assumed-role/deploy/gitlab-7"
	eksUID      = "aws-iam-authenticator:111122223333:AROAEXAMPLE"
	serviceUser = "system:serviceaccount:ci:deployer"
)

// eksUser is a caller as aws-iam-authenticator describes it.
func eksUser(user, arn, canonical, session string) schemas.Event {
	return schemas.Event{
		User: user, UserUID: eksUID, Groups: []string{"system:authenticated"},
		Extra: kv("accessKeyId", "ASIAEXAMPLE", "arn", arn, "canonicalArn", canonical, "principalId", "AROAEXAMPLE",
			"sessionName", session, "sigs.k8s.io/aws-iam-authenticator/principalId", "AROAEXAMPLE"),
	}
}

func serviceAccountGroups() []string {
	return []string{"system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated"}
}

type classified struct {
	name string
	in   schemas.Event
	want [5]string // actor, kind, provider, pod, node
}

func TestClassify(t *testing.T) {
	for _, cases := range [][]classified{clusterCases(), outsideCases(), eksCases(), cloudCases(), impersonationCases()} {
		for _, tt := range cases {
			t.Run(tt.name, func(t *testing.T) {
				e := tt.in
				e.Cluster = "c1"
				new(Classifier).Classify(&e)
				if got := [5]string{e.Actor, e.ActorKind, e.Provider, e.Pod, e.Node}; got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
	}
}

// clusterCases are callers that the cluster itself vouches for.
func clusterCases() []classified {
	return []classified{
		{"failed authentication", schemas.Event{}, [5]string{"", Unknown}},
		{
			"anonymous",
			schemas.Event{User: "system:anonymous", Groups: []string{"system:unauthenticated"}},
			[5]string{"c1/system:anonymous", Anonymous, ProviderKubernetes},
		},
		{"service account with claims", schemas.Event{
			User: serviceUser, UserUID: "890dd9a1-1", Groups: serviceAccountGroups(),
			Extra: kv(extraPodName, "runner-1", extraPodUID, "1-2", extraNodeName, "node-a", extraCredentialID, "JTI=1"),
		}, [5]string{"c1/" + serviceUser, ServiceAccount, ProviderKubernetes, "ci/runner-1", "node-a"}},
		{"service account by a secret", schemas.Event{User: serviceUser, Groups: serviceAccountGroups()}, [5]string{"c1/" + serviceUser, ServiceAccount, ProviderKubernetes}},
		{
			"service account without groups, as GKE has it",
			schemas.Event{User: serviceUser},
			[5]string{"c1/" + serviceUser, ServiceAccount, ProviderKubernetes},
		},
		{
			"certificate made out to a service account",
			schemas.Event{User: serviceUser, Groups: []string{"system:authenticated"}, Extra: kv(extraCredentialID, "X509SHA256=ab")},
			[5]string{"c1/" + serviceUser, Unknown, ProviderCertificate},
		},
		{
			"somebody called like a service account",
			schemas.Event{User: serviceUser, Groups: []string{"system:authenticated"}},
			[5]string{"c1/" + serviceUser, Unknown, ProviderKubernetes},
		},
		{"service account without a name", schemas.Event{User: "system:serviceaccount:ci"}, [5]string{"c1/system:serviceaccount:ci", Unknown, ProviderKubernetes}},
		{"service account with a colon more", schemas.Event{User: "system:serviceaccount:a:b:c"}, [5]string{"c1/system:serviceaccount:a:b:c", Unknown, ProviderKubernetes}},
		{
			"node",
			schemas.Event{User: "system:node:n1", Groups: []string{"system:nodes", "system:authenticated"}, Extra: kv(extraCredentialID, "X509SHA256=ab")},
			[5]string{"c1/system:node:n1", Node, ProviderKubernetes, "", "n1"},
		},
		{"node without groups", schemas.Event{User: "system:node:n1"}, [5]string{"c1/system:node:n1", Node, ProviderKubernetes, "", "n1"}},
		{"somebody called like a node", schemas.Event{User: "system:node:n1", Groups: []string{"dev"}}, [5]string{"c1/system:node:n1", Unknown, ProviderKubernetes}},
		{"scheduler", schemas.Event{User: "system:kube-scheduler"}, [5]string{"c1/system:kube-scheduler", ControlPlane, ProviderKubernetes}},
		{"API server itself", schemas.Event{User: "system:apiserver", Groups: []string{"system:authenticated", "system:masters"}}, [5]string{"c1/system:apiserver", ControlPlane, ProviderKubernetes}},
		{"control plane of k3s", schemas.Event{User: "system:k3s-controller"}, [5]string{"c1/system:k3s-controller", ControlPlane, ProviderKubernetes}},
		{"unknown system user", schemas.Event{User: "system:evil"}, [5]string{"c1/system:evil", Unknown, ProviderKubernetes}},
		{
			"bootstrap token",
			schemas.Event{User: "system:bootstrap:abcdef", Groups: []string{"system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token", "system:authenticated"}},
			[5]string{"c1/system:bootstrap:abcdef", Bootstrap, ProviderKubernetes},
		},
		{
			"somebody called like a bootstrap token",
			schemas.Event{User: "system:bootstrap:abcdef", Groups: []string{"system:authenticated"}},
			[5]string{"c1/system:bootstrap:abcdef", Unknown, ProviderKubernetes},
		},
	}
}

// outsideCases are callers by certificate and OIDC.
func outsideCases() []classified {
	issued := "https://idp.example.com/realms/corp#00u1a2b3c4d5"
	return []classified{
		{
			"kubeadm's admin",
			schemas.Event{User: "kubernetes-admin", Groups: []string{"kubeadm:cluster-admins", "system:authenticated"}, Extra: kv(extraCredentialID, "X509SHA256=ab")},
			[5]string{"c1/kubernetes-admin", Unknown, ProviderCertificate},
		},
		{
			"kubeadm's super-admin",
			schemas.Event{User: "kubernetes-super-admin", Groups: []string{"system:masters", "system:authenticated"}, Extra: kv(extraCredentialID, "X509SHA256=ab")},
			[5]string{"c1/kubernetes-super-admin", Unknown, ProviderCertificate},
		},
		{"person by certificate", schemas.Event{User: "alice@example.com", Extra: kv(extraCredentialID, "X509SHA256=ab")}, [5]string{"alice@example.com", Human, ProviderCertificate}},
		{"person by token", schemas.Event{User: "alice@example.com", Extra: kv(extraCredentialID, "JTI=ab")}, [5]string{"alice@example.com", Human, ProviderOIDC}},
		{"person, way unknown", schemas.Event{User: "alice@example.com"}, [5]string{"alice@example.com", Human, ""}},
		{"person, in capitals", schemas.Event{User: "Alice.Smith@Example.COM"}, [5]string{"alice.smith@example.com", Human, ""}},
		{"person with umlauts", schemas.Event{User: "zoë.müller@example.com"}, [5]string{"zoë.müller@example.com", Human, ""}},
		{"name without domain", schemas.Event{User: "jenkins-legacy"}, [5]string{"c1/jenkins-legacy", Unknown, ""}},
		{"prefixed name is no address", schemas.Event{User: "oidc:alice@example.com"}, [5]string{"c1/oidc:alice@example.com", Unknown, ""}},
		{"issuer and subject", schemas.Event{User: issued, UserUID: "u-3001"}, [5]string{issued, Unknown, ProviderOIDC}},
		{"certificate that says so", schemas.Event{User: issued, Extra: kv(extraCredentialID, "X509SHA256=ab")}, [5]string{"c1/" + issued, Unknown, ProviderCertificate}},
	}
}

func eksCases() []classified {
	node := eksUser("system:node:ip-10-0-0-1.ec2.internal", "arn:aws:sts::111122223333:assumed-role/n/i-1", "arn:aws:iam::111122223333:role/n", "i-1")
	node.Groups = []string{"system:bootstrappers", "system:nodes", "system:authenticated"}
	old := eksUser("deploy", roleSession, roleARN, "gitlab-7")
	old.UserUID = "heptio-authenticator-aws:111122223333:AROAEXAMPLE"
	return []classified{
		{"EKS service", schemas.Event{User: "eks:node-manager"}, [5]string{"c1/eks:node-manager", CloudService, ProviderEKS}},
		{"EKS node", node, [5]string{"c1/system:node:ip-10-0-0-1.ec2.internal", Node, ProviderEKS, "", "ip-10-0-0-1.ec2.internal"}},
		{"access entry, by SSO", eksUser(ssoSession, ssoSession, ssoARN, "alice@example.com"), [5]string{"alice@example.com", Human, ProviderEKS}},
		{"aws-auth, by SSO", eksUser("admin:alice@example.com", ssoSession, ssoARN, "Alice@Example.com"), [5]string{"alice@example.com", Human, ProviderEKS}},
		{"access policy, principal as the name", eksUser("AROAEXAMPLE:alice@example.com", ssoSession, ssoARN, "alice@example.com"), [5]string{"alice@example.com", Human, ProviderEKS}},
		{"session of a role", eksUser("deploy", roleSession, roleARN, "gitlab-7"), [5]string{roleARN + "/gitlab-7", Unknown, ProviderEKS}},
		{"session of a role, old authenticator", old, [5]string{roleARN + "/gitlab-7", Unknown, ProviderEKS}},
		{
			"a session name makes nobody a person", eksUser("alice@example.com", roleSession, roleARN, "alice@example.com"),
			[5]string{roleARN + "/alice@example.com", Unknown, ProviderEKS},
		},
		{
			"nor with a domain added", eksUser("alice@example.com", roleSession, roleARN, "alice"),
			[5]string{roleARN + "/alice", Unknown, ProviderEKS},
		},
		{"SSO without addresses, a domain added", eksUser("alice@example.com", ssoSession, ssoARN, "alice"), [5]string{"alice@example.com", Human, ProviderEKS}},
		{"the cluster's mapping does", eksUser("bob@example.com", roleSession, roleARN, "gitlab-7"), [5]string{"bob@example.com", Human, ProviderEKS}},
		{"session that an SDK named", eksUser("deploy", roleSession, roleARN, "botocore-session-1763633999"), [5]string{roleARN, Unknown, ProviderEKS}},
		{"session of digits", eksUser("deploy", roleSession, roleARN, "1763633999123456789"), [5]string{roleARN, Unknown, ProviderEKS}},
		{
			"only the session's ARN",
			schemas.Event{User: "deploy", Extra: kv("arn", "arn:aws-cn:sts::1:assumed-role/deploy/gitlab-7")},
			[5]string{"arn:aws-cn:iam::1:role/deploy/gitlab-7", Unknown, ProviderEKS},
		},
		{"only the uid", schemas.Event{User: "kubernetes-admin", UserUID: eksUID}, [5]string{"c1/kubernetes-admin", Unknown, ProviderEKS}},
		{"IAM user", schemas.Event{User: "bob", UserUID: eksUID, Extra: kv("arn", "arn:aws:iam::1:user/bob")}, [5]string{"arn:aws:iam::1:user/bob", Unknown, ProviderEKS}},
		{"root", schemas.Event{User: "admin", UserUID: eksUID, Extra: kv("arn", "arn:aws:iam::1:root")}, [5]string{"arn:aws:iam::1:root", Unknown, ProviderEKS}},
	}
}

func cloudCases() []classified {
	object := "00aa11bb-0000-4000-8000-000000000001"
	account := "x@p.iam.gserviceaccount.com"
	return []classified{
		{"AKS master", schemas.Event{User: "masterclient", Groups: []string{"system:masters", "system:authenticated"}}, [5]string{"c1/masterclient", CloudService, ProviderAKS}},
		{"AKS service", schemas.Event{User: "aksService", Groups: []string{"system:masters", "system:authenticated"}}, [5]string{"c1/aksService", CloudService, ProviderAKS}},
		{"AKS nodes", schemas.Event{User: "nodeclient"}, [5]string{"c1/nodeclient", CloudService, ProviderAKS}},
		{
			"Entra person",
			schemas.Event{User: "Alice@corp.example", Groups: []string{"5d6f0000-0000-4000-8000-000000000002", "system:authenticated"}, Extra: kv("oid", object)},
			[5]string{"alice@corp.example", Human, ProviderAKS},
		},
		{
			"Entra guest",
			schemas.Event{User: "bob_partner.example#EXT#@corp.onmicrosoft.com", Extra: kv("oid", object)},
			[5]string{"bob_partner.example#ext#@corp.onmicrosoft.com", Human, ProviderAKS},
		},
		{"Entra application", schemas.Event{User: object, Extra: kv("oid", object)}, [5]string{"entra/" + object, Unknown, ProviderAKS}},
		{"Google service account", schemas.Event{User: account}, [5]string{account, CloudService, ProviderGKE}},
		{"Google service account by OIDC", schemas.Event{User: account, Extra: kv(extraCredentialID, "JTI=1")}, [5]string{account, CloudService, ProviderOIDC}},
		{"workload identity pool", schemas.Event{User: "p.svc.id.goog[ci/deployer]"}, [5]string{"p.svc.id.goog[ci/deployer]", CloudService, ProviderGKE}},
		{"Google person, by IAM", schemas.Event{User: "alice@example.com", DecisionReason: byIAM}, [5]string{"alice@example.com", Human, ProviderGKE}},
		{"Google person, by RBAC", schemas.Event{User: "alice@example.com"}, [5]string{"alice@example.com", Human, ""}},
		{"GKE health check", schemas.Event{User: "system:gke-master-healthcheck"}, [5]string{"c1/system:gke-master-healthcheck", CloudService, ProviderGKE}},
	}
}

func impersonationCases() []classified {
	return []classified{
		{
			"the actor is who was authenticated",
			schemas.Event{User: "olivia@example.com", ImpersonatedUser: "bob@example.com", ImpersonatedGroups: []string{"system:masters"}},
			[5]string{"olivia@example.com", Human, ""},
		},
		{
			"also where a proxy acts for people",
			schemas.Event{User: serviceUser, Groups: serviceAccountGroups(), ImpersonatedUser: "bob@example.com", ImpersonatedExtra: kv(extraPodName, "other")},
			[5]string{"c1/" + serviceUser, ServiceAccount, ProviderKubernetes},
		},
	}
}

// What is parsed of an ARN is in it, and a role that was made canonical stays so.
func FuzzARN(f *testing.F) {
	for _, s := range []string{ssoARN, ssoSession, roleARN, roleSession, "arn:aws:iam::1:root", "arn:aws:iam::1:user/a/b:c", "arn:::::", "arn:aws:sts::1:assumed-role/x", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := parseARN(s)
		if !ok {
			return
		}
		for _, part := range []string{a.partition, a.account, a.kind, a.name, a.session} {
			if !strings.Contains(s, part) {
				t.Fatalf("%q: %q is not in it", s, part)
			}
		}
		canonical := new(Classifier).canonical(a)
		b, ok := parseARN(canonical)
		if !ok || b.partition != a.partition || b.account != a.account {
			t.Fatalf("%q: canonical form %q is another", s, canonical)
		}
		if a.session != "" && (b.kind != "role" || b.session != "") {
			t.Fatalf("%q: canonical form %q is no role", s, canonical)
		}
	})
}
