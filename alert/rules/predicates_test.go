package rules_test

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	uuid4       = regexp.MustCompile(`(?s)^.{8}-.{4}-4.{3}-.{4}-.{12}$`)
	refusedToBe = regexp.MustCompile(`^(groups "(system:|kubeadm:cluster-admins")|users "(system:|(kubernetes-admin|cluster-admin|admin)")).*cannot impersonate resource`)
)

// anyRule reports whether one rule of a role, or one object at a path, satisfies is.
func anyRule(e event, path string, is func(event) bool) bool {
	for _, r := range e.all(path) {
		if object, ok := r.(map[string]any); ok && is(object) {
			return true
		}
	}
	return false
}

var predicates = map[string]func(event) bool{
	"secrets-listed": func(e event) bool {
		if !e.has("objectRef.resource", "secrets") || !e.ok() || len(e.all("objectRef.subresource")) > 0 {
			return false
		}
		if read := e.has("verb", "list") && e.done() || e.has("verb", "watch") && e.begun(); !read {
			return false
		}
		if ns := e.text("objectRef.namespace"); ns != "" && ns != "kube-system" && ns != "kube-public" {
			return false
		}
		agent := e.text("userAgent")
		switch user := e.user(); {
		case user == "system:apiserver", user == "system:kube-controller-manager":
			return false
		case user == "system:serviceaccount:ingress-nginx:ingress-nginx":
			return !strings.HasPrefix(agent, "nginx-ingress-controller/")
		case user == "system:serviceaccount:monitoring:kube-state-metrics":
			return !strings.Contains(agent, "kube-state-metrics/")
		case strings.HasPrefix(user, "system:serviceaccount:cert-manager:"):
			return !strings.HasPrefix(agent, "cert-manager-") && !strings.HasPrefix(agent, "controller/")
		case user == "system:serviceaccount:external-secrets:external-secrets":
			return !strings.HasPrefix(agent, "external-secrets/")
		}
		return true
	},
	"exec-in-system-namespace": func(e event) bool {
		return e.begun() && e.ok() && e.has("objectRef.resource", "pods") && e.has("objectRef.subresource", "exec", "attach", "portforward") &&
			e.has("objectRef.namespace", "kube-system", "kube-public", "kube-node-lease")
	},
	"exec-credential-theft": func(e event) bool {
		if !e.begun() || !e.ok() || !e.has("objectRef.resource", "pods") || !e.has("objectRef.subresource", "exec") {
			return false
		}
		uri := strings.NewReplacer("%2F", "/", "%2f", "/", "+", " ", "%20", " ", "%28", "(").Replace(e.text("requestURI"))
		_, query, _ := strings.Cut(uri, "?")
		for parameter := range strings.SplitSeq(query, "&") {
			command, isCommand := strings.CutPrefix(strings.ToLower(parameter), "command=")
			for _, bad := range []string{
				"/serviceaccount/token", "/run/secrets/", "/etc/shadow", "/etc/kubernetes/", "/var/lib/kubelet/", "/.kube/config",
				"/.aws/credentials", "/.ssh/id_", "169.254.169.254", "metadata.google.internal", "/dev/tcp/", "/dev/udp/", "mkfifo",
				"pty.spawn", "socket.socket(", "nc -e", "ncat -e", "bash -i",
			} {
				if isCommand && strings.Contains(command, bad) {
					return true
				}
			}
		}
		return false
	},
	"node-takeover-workload": func(e event) bool {
		if !e.done() || !e.has("verb", "create", "update", "patch") || !e.has("objectRef.resource", "pods", "deployments", "daemonsets",
			"statefulsets", "replicasets", "replicationcontrollers", "jobs", "cronjobs") {
			return false
		}
		if e.controller() {
			return false
		}
		for _, spec := range []string{"requestObject.spec.", "requestObject.spec.template.spec.", "requestObject.spec.jobTemplate.spec.template.spec."} {
			if takesNode(e, spec) {
				return true
			}
		}
		return false
	},
	"cluster-admin-bound": func(e event) bool {
		return e.rbac("clusterrolebindings", "rolebindings") && (e.has("requestObject.roleRef.name", "cluster-admin") ||
			e.has("verb", "patch") && e.has("responseObject.roleRef.name", "cluster-admin"))
	},
	"rights-for-everybody": func(e event) bool {
		everybody := []any{"system:anonymous", "system:unauthenticated", "system:authenticated", "system:serviceaccounts"}
		return e.rbac("clusterrolebindings", "rolebindings") && (e.has("requestObject.subjects.name", everybody...) ||
			e.has("requestObject.value.name", everybody...) || e.has("requestObject.value.subjects.name", everybody...))
	},
	"role-without-limits": func(e event) bool {
		if !e.rbac("clusterroles", "roles") || e.user() == "system:serviceaccount:kube-system:clusterrole-aggregation-controller" {
			return false
		}
		for _, rule := range []string{"requestObject.rules", "requestObject.value"} {
			if e.has(rule+".verbs", "escalate", "bind", "impersonate") ||
				anyRule(e, rule, func(r event) bool { return r.has("verbs", "*") && r.has("resources", "*") && r.has("apiGroups", "*") }) {
				return true
			}
		}
		return e.has("requestObject.value", "escalate", "bind", "impersonate")
	},
	"escalation-refused": func(e event) bool {
		return e.done() && e.code() == 403 && e.has("objectRef.apiGroup", "rbac.authorization.k8s.io") &&
			e.has("verb", "create", "update", "patch") && strings.Contains(e.text("responseStatus.message"), "not currently held")
	},
	"impersonation": func(e event) bool {
		if !e.done() || e.user() == "system:apiserver" || e.user() == "system:kube-controller-manager" {
			return false
		}
		return e.has("impersonatedUser.groups", "system:masters", "kubeadm:cluster-admins", "system:nodes") ||
			e.has("impersonatedUser.username", "kubernetes-admin", "cluster-admin", "admin") ||
			strings.HasPrefix(e.text("impersonatedUser.username"), "system:") ||
			e.code() == 403 && refusedToBe.MatchString(e.text("responseStatus.message"))
	},
	"token-minted": func(e event) bool {
		return e.done() && e.has("verb", "create") && e.has("objectRef.resource", "serviceaccounts") && e.has("objectRef.subresource", "token") &&
			(!strings.HasPrefix(e.user(), "system:node:") || !e.has("user.groups", "system:nodes")) &&
			e.user() != "system:kube-controller-manager" &&
			(e.user() != "system:serviceaccount:external-secrets:external-secrets" || !e.has("objectRef.namespace", "external-secrets"))
	},
	"forged-audit-id": func(e event) bool {
		return (e.done() || e.begun() && e.code() == 401) && !uuid4.MatchString(e.text("auditID"))
	},
	"anonymous-access": func(e event) bool {
		public := regexp.MustCompile(`^/(healthz|livez|readyz|version|\.well-known/openid-configuration|openid/v1/jwks)([/?]|$)`)
		return e.once() && e.annotation("authorization.k8s.io/decision") == "allow" && !public.MatchString(e.text("requestURI")) &&
			(e.user() == "system:anonymous" || e.has("user.groups", "system:unauthenticated"))
	},
	"break-glass-used": func(e event) bool {
		return e.once() && e.has("user.groups", "system:masters") && !strings.HasPrefix(e.user(), "system:") && e.user() != "kubernetes-admin"
	},
	"events-deleted": func(e event) bool {
		return e.done() && e.ok() && e.has("verb", "delete", "deletecollection") && e.has("objectRef.resource", "events") &&
			(e.user() != "system:serviceaccount:kube-system:namespace-controller" ||
				!strings.HasPrefix(e.text("userAgent"), "kube-controller-manager/"))
	},
	"admission-control-changed": func(e event) bool {
		return e.done() && e.ok() && e.has("verb", "create", "update", "patch", "delete", "deletecollection") &&
			e.has("objectRef.apiGroup", "admissionregistration.k8s.io") && len(e.all("objectRef.subresource")) == 0 &&
			(e.user() != "system:serviceaccount:cert-manager:cert-manager-cainjector" || !e.has("verb", "update", "patch") ||
				!strings.HasPrefix(e.text("userAgent"), "cainjector/"))
	},
}

func takesNode(e event, spec string) bool {
	for _, kind := range []string{"containers.", "initContainers.", "ephemeralContainers."} {
		security := spec + kind + "securityContext."
		if e.has(security+"privileged", true) || e.has(security+"capabilities.add",
			"ALL", "SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "SYS_RAWIO", "DAC_READ_SEARCH", "BPF") {
			return true
		}
	}
	if e.has(spec+"hostNetwork", true) || e.has(spec+"hostPID", true) || e.has(spec+"hostIPC", true) {
		return true
	}
	paths := regexp.MustCompile(`^(/|/boot.*|/dev|/etc.*|/home.*|/proc|/root.*|/run|/sys|/var|/var/lib|/var/lib/(docker|etcd|kubelet).*|` +
		`/var/run|.*/(containerd|crio|docker)\.sock)$`)
	for _, path := range e.all(spec + "volumes.hostPath.path") {
		if paths.MatchString(fmt.Sprint(path)) {
			return true
		}
	}
	return false
}
