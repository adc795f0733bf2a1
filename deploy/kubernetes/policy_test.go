// Package kubernetes_test holds the shipped policy and kubeconfig to what their README promises.
package kubernetes_test

import (
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

type policy struct {
	APIVersion        string   `yaml:"apiVersion"`
	Kind              string   `yaml:"kind"`
	OmitStages        []string `yaml:"omitStages"`
	OmitManagedFields bool     `yaml:"omitManagedFields"`
	Rules             []rule   `yaml:"rules"`
}

type rule struct {
	Level           string      `yaml:"level"`
	Users           []string    `yaml:"users"`
	UserGroups      []string    `yaml:"userGroups"`
	Verbs           []string    `yaml:"verbs"`
	Namespaces      []string    `yaml:"namespaces"`
	Resources       []resources `yaml:"resources"`
	NonResourceURLs []string    `yaml:"nonResourceURLs"`
	OmitStages      []string    `yaml:"omitStages"`
}

type resources struct {
	Group     string   `yaml:"group"`
	Resources []string `yaml:"resources"`
}

// request is what the API server matches a rule against; resource includes the subresource.
type request struct{ user, group, verb, namespace, apiGroup, resource, path string }

func TestPolicyLevels(t *testing.T) {
	p := readPolicy(t)
	const (
		human        = "alice@example.com"
		rbac         = "rbac.authorization.k8s.io"
		admission    = "admissionregistration.k8s.io"
		coordination = "coordination.k8s.io"
		nodes        = "system:nodes"
		heartbeats   = "kube-node-lease"
		authn        = "authentication.k8s.io"
	)
	for _, tt := range []struct {
		name string
		req  request
		want string
	}{
		{"secret created", request{user: human, verb: "create", resource: "secrets"}, "Metadata"},
		{"secret read by the system", request{user: "system:apiserver", verb: "list", resource: "secrets"}, "Metadata"},
		{"configmap patched", request{user: human, verb: "patch", resource: "configmaps"}, "Metadata"},
		{"token requested", request{user: human, verb: "create", resource: "serviceaccounts/token"}, "Metadata"},
		{"token reviewed", request{user: human, verb: "create", apiGroup: authn, resource: "tokenreviews"}, "Metadata"},
		{"binding made", request{user: human, verb: "create", apiGroup: rbac, resource: "clusterrolebindings"}, "RequestResponse"},
		{"roles deleted", request{user: human, verb: "deletecollection", apiGroup: rbac, resource: "roles"}, "RequestResponse"},
		{"webhook installed", request{user: human, verb: "update", apiGroup: admission, resource: "mutatingwebhookconfigurations"}, "RequestResponse"},
		{"pod created", request{user: human, verb: "create", resource: "pods"}, "RequestResponse"},
		{"debug container", request{user: human, verb: "patch", resource: "pods/ephemeralcontainers"}, "RequestResponse"},
		{"exec by SPDY", request{user: human, verb: "create", resource: "pods/exec"}, "Request"},
		{"exec by WebSocket", request{user: human, verb: "get", resource: "pods/exec"}, "Metadata"},
		{"kubelet by proxy", request{user: human, verb: "create", resource: "nodes/proxy"}, "Metadata"},
		{"deployment updated", request{user: human, verb: "update", apiGroup: "apps", resource: "deployments"}, "Request"},
		{"pods listed", request{user: human, verb: "list", resource: "pods"}, "Metadata"},
		{"custom resource", request{user: human, verb: "create", apiGroup: "example.com", resource: "things"}, "Metadata"},
		{"heartbeat", request{group: nodes, verb: "update", namespace: heartbeats, apiGroup: coordination, resource: "leases"}, "None"},
		{"lease by a human", request{user: human, verb: "update", namespace: heartbeats, apiGroup: coordination, resource: "leases"}, "Metadata"},
		{"events cleared by a node", request{group: nodes, verb: "deletecollection", resource: "events"}, "Request"},
		{"probe", request{user: "system:anonymous", verb: "get", path: "/livez/etcd"}, "None"},
		{"token tried on a probe, good", request{user: human, verb: "get", path: "/livez"}, "Metadata"},
		{"token tried on a probe, bad", request{verb: "get", path: "/livez"}, "Metadata"},
		{"anonymous looks at the version", request{user: "system:anonymous", verb: "get", path: "/version"}, "Metadata"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := p.level(tt.req); got != tt.want {
				t.Errorf("level %s, want %s", got, tt.want)
			}
		})
	}
}

func TestPolicyStages(t *testing.T) {
	p := readPolicy(t)
	if diff := cmp.Diff([]string{"RequestReceived"}, p.OmitStages); diff != "" {
		t.Errorf("ResponseStarted is the only event of a 401, and Panic replaces ResponseComplete (-want +got):\n%s", diff)
	}
	for i, r := range p.Rules {
		if len(r.OmitStages) > 0 {
			t.Errorf("rule %d omits %v", i, r.OmitStages)
		}
	}
}

func TestPolicyLeavesOutNamedCallersOnly(t *testing.T) {
	for i, r := range readPolicy(t).Rules {
		for _, who := range slices.Concat(r.Users, r.UserGroups) {
			if !strings.HasPrefix(who, "system:") || who == "system:authenticated" || who == "system:unauthenticated" {
				t.Errorf("rule %d is for %s, which anybody can be", i, who)
			}
		}
		if r.Level == "None" && len(r.Users)+len(r.UserGroups) == 0 {
			t.Errorf("rule %d leaves requests out whoever makes them", i)
		}
		for _, res := range r.Resources {
			if res.Group == "*" {
				t.Errorf("rule %d: API servers before 1.36 know no group *", i)
			}
		}
	}
}

func TestKubeconfigNamesTheClusterInThePath(t *testing.T) {
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string `yaml:"server"`
			} `yaml:"cluster"`
		} `yaml:"clusters"`
	}
	readYAML(t, "webhook-kubeconfig.yaml", &config)
	if len(config.Clusters) != 1 {
		t.Fatalf("%d clusters, want 1", len(config.Clusters))
	}
	u, err := url.Parse(config.Clusters[0].Cluster.Server)
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme != "https" || u.Path != "/v1/audit/CLUSTER" || u.RawQuery != "" {
		t.Errorf("server %s: want https, the path /v1/audit/CLUSTER, and no query, which would be dropped", u)
	}
}

func readPolicy(t *testing.T) policy {
	t.Helper()
	var p policy
	readYAML(t, "audit-policy.yaml", &p)
	if p.APIVersion != "audit.k8s.io/v1" || p.Kind != "Policy" {
		t.Fatalf("not a policy: %s %s", p.APIVersion, p.Kind)
	}
	return p
}

// readYAML is as strict as the API server: a misspelt key would widen a rule.
func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dec := yaml.NewDecoder(f)
	_, strict := into.(*policy)
	dec.KnownFields(strict)
	if err := dec.Decode(into); err != nil {
		t.Fatalf("reading %s: %v", name, err)
	}
}

// level finds the first rule that matches, in the way of the API server.
func (p policy) level(r request) string {
	for _, rule := range p.Rules {
		if rule.matches(r) {
			return rule.Level
		}
	}
	return "None"
}

func (r rule) matches(req request) bool {
	if len(r.Users) > 0 && !slices.Contains(r.Users, req.user) ||
		len(r.UserGroups) > 0 && !slices.Contains(r.UserGroups, req.group) ||
		len(r.Verbs) > 0 && !slices.Contains(r.Verbs, req.verb) {
		return false
	}
	switch {
	case len(r.Namespaces) > 0 && !slices.Contains(r.Namespaces, req.namespace):
		return false
	case len(r.Resources) > 0:
		return slices.ContainsFunc(r.Resources, func(res resources) bool { return res.matches(req) })
	case len(r.NonResourceURLs) > 0:
		return slices.ContainsFunc(r.NonResourceURLs, func(pattern string) bool {
			prefix, tree := strings.CutSuffix(pattern, "*")
			return req.path == pattern || req.path != "" && tree && strings.HasPrefix(req.path, prefix)
		})
	}
	return true
}

func (r resources) matches(req request) bool {
	if req.resource == "" || r.Group != req.apiGroup {
		return false
	}
	resource, sub, _ := strings.Cut(req.resource, "/")
	return len(r.Resources) == 0 || slices.ContainsFunc(r.Resources, func(pattern string) bool {
		return pattern == req.resource || pattern == "*" ||
			sub != "" && pattern == "*/"+sub || pattern == resource+"/*"
	})
}
