package identity

import (
	"testing"

	"github.com/auditmill/auditmill/schemas"
)

func TestClassify(t *testing.T) {
	type fields = schemas.Event
	kv := func(pairs ...string) (out []schemas.KeyValues) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, schemas.KeyValues{Key: pairs[i], Values: []string{pairs[i+1]}})
		}
		return out
	}
	role := "arn:aws:iam::111122223333:role/AWSReservedSSO_Admin_1"
	for _, tt := range []struct {
		name string
		in   fields
		want [5]string // actor, kind, provider, pod, node
	}{
		{"failed authentication", fields{}, [5]string{"", Unknown}},
		{"anonymous", fields{User: "system:anonymous"}, [5]string{"c1/system:anonymous", Anonymous, ProviderKubernetes}},
		{"service account with claims", fields{
			User:  "system:serviceaccount:ci:deployer",
			Extra: kv(extraPodName, "runner-1", extraNodeName, "node-a", extraCredentialID, "JTI=1"),
		}, [5]string{"c1/system:serviceaccount:ci:deployer", ServiceAccount, ProviderKubernetes, "ci/runner-1", "node-a"}},
		{"service account without a name", fields{User: "system:serviceaccount:ci"}, [5]string{"c1/system:serviceaccount:ci", Unknown, ProviderKubernetes}},
		{"service account with a colon more", fields{User: "system:serviceaccount:a:b:c"}, [5]string{"c1/system:serviceaccount:a:b:c", Unknown, ProviderKubernetes}},
		{"node", fields{User: "system:node:n1", Groups: []string{"system:nodes"}}, [5]string{"c1/system:node:n1", Node, ProviderKubernetes, "", "n1"}},
		{"node without groups", fields{User: "system:node:n1"}, [5]string{"c1/system:node:n1", Node, ProviderKubernetes, "", "n1"}},
		{"somebody called like a node", fields{User: "system:node:n1", Groups: []string{"dev"}}, [5]string{"c1/system:node:n1", Unknown, ProviderKubernetes}},
		{"scheduler", fields{User: "system:kube-scheduler"}, [5]string{"c1/system:kube-scheduler", ControlPlane, ProviderKubernetes}},
		{"unknown system user", fields{User: "system:evil"}, [5]string{"c1/system:evil", Unknown, ProviderKubernetes}},
		{"bootstrap token", fields{User: "system:bootstrap:abcdef"}, [5]string{"c1/system:bootstrap:abcdef", Bootstrap, ProviderKubernetes}},
		{"person by certificate", fields{User: "alice@example.com", Extra: kv(extraCredentialID, "X509SHA256=ab")}, [5]string{"alice@example.com", Human, ProviderCertificate}},
		{"person by token", fields{User: "alice@example.com", Extra: kv(extraCredentialID, "JTI=ab")}, [5]string{"alice@example.com", Human, ProviderOIDC}},
		{"person, way unknown", fields{User: "alice@example.com"}, [5]string{"alice@example.com", Human, ""}},
		{"name without domain", fields{User: "jenkins-legacy"}, [5]string{"c1/jenkins-legacy", Unknown, ""}},
		{"prefixed name is no address", fields{User: "oidc:alice@example.com"}, [5]string{"c1/oidc:alice@example.com", Unknown, ""}},
		{"EKS service", fields{User: "eks:node-manager"}, [5]string{"c1/eks:node-manager", CloudService, ProviderEKS}},
		{
			"EKS by SSO",
			fields{User: "AROA1:alice@example.com", UserUID: "aws-iam-authenticator:1:AROA1", Extra: kv("canonicalArn", role, "sessionName", "alice@example.com")},
			[5]string{"alice@example.com", Human, ProviderEKS},
		},
		{
			"EKS role session",
			fields{User: "deploy", UserUID: "heptio-authenticator-aws:1:AROA1", Extra: kv("canonicalArn", role, "sessionName", "i-0abc")},
			[5]string{role + "/i-0abc", Unknown, ProviderEKS},
		},
		{"EKS user", fields{User: "bob", Extra: kv("arn", "arn:aws:iam::1:user/bob")}, [5]string{"arn:aws:iam::1:user/bob", Human, ProviderEKS}},
		{
			"EKS node",
			fields{User: "system:node:ip-1", Groups: []string{"system:nodes"}, Extra: kv("arn", "arn:aws:sts::1:assumed-role/n/i-1")},
			[5]string{"c1/system:node:ip-1", Node, ProviderEKS, "", "ip-1"},
		},
		{"AKS service", fields{User: "masterclient"}, [5]string{"c1/masterclient", CloudService, ProviderAKS}},
		{"AKS person", fields{User: "a@b.example", Extra: kv("oid", "1-2")}, [5]string{"a@b.example", Human, ProviderAKS}},
		{"AKS application", fields{User: "1-2", Extra: kv("oid", "1-2")}, [5]string{"entra/1-2", Unknown, ProviderAKS}},
		{"GCP service account", fields{User: "x@p.iam.gserviceaccount.com"}, [5]string{"x@p.iam.gserviceaccount.com", CloudService, ProviderGKE}},
		{"GKE health check", fields{User: "system:gke-master-healthcheck"}, [5]string{"c1/system:gke-master-healthcheck", CloudService, ProviderGKE}},
	} {
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
