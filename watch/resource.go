package watch

import (
	"slices"

	"github.com/auditmill/auditmill/enrich/context"
)

// resource is a kind of object as the API serves it.
type resource struct {
	name string // plural, as in requests and in the configuration
	path string // of the list over all namespaces
	kind context.Kind
}

// resources are all that can be watched. Secrets are not among them and never will be.
func resources() []resource {
	const rbac = "/apis/rbac.authorization.k8s.io/v1/"
	all := []struct{ name, group, kind string }{
		{"roles", rbac, "Role"},
		{"clusterroles", rbac, "ClusterRole"},
		{"rolebindings", rbac, "RoleBinding"},
		{"clusterrolebindings", rbac, "ClusterRoleBinding"},
		{"serviceaccounts", "/api/v1/", "ServiceAccount"},
		{"namespaces", "/api/v1/", "Namespace"},
		{"nodes", "/api/v1/", "Node"},
		{"pods", "/api/v1/", "Pod"},
		{"replicasets", "/apis/apps/v1/", "ReplicaSet"},
		{"jobs", "/apis/batch/v1/", "Job"},
	}
	var rs []resource
	for _, r := range all {
		if kind := context.ParseKind(r.kind); kind != 0 {
			rs = append(rs, resource{r.name, r.group + r.name, kind})
		}
	}
	return rs
}

func resourceOf(name string) (resource, bool) {
	all := resources()
	i := slices.IndexFunc(all, func(r resource) bool { return r.name == name })
	if i < 0 {
		return resource{}, false
	}
	return all[i], true
}
