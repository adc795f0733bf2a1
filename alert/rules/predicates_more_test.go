package rules_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// Those of the rules that were added with the tactics and match something of the recording.
var morePredicates = map[string]func(event) bool{
	// initial access
	"anonymous-write": func(e event) bool {
		return e.tried("create update patch delete deletecollection") && len(e.all("objectRef.resource")) > 0 && !e.has("objectRef.subresource", "proxy") &&
			!strings.HasPrefix(e.text("objectRef.resource"), "selfsubject") && (e.by("system:anonymous") || e.has("user.groups", "system:unauthenticated"))
	},
	"service-account-at-workstation": func(e event) bool {
		agent := e.text("userAgent")
		return e.done() && e.by("system:serviceaccount:*") && (strings.Contains(agent, "(darwin/") || strings.HasPrefix(agent, "k9s"))
	},
	"controller-token-elsewhere": func(e event) bool {
		agent := e.text("userAgent")
		return e.done() && (kubeController.MatchString(e.user()) || e.by("system:serviceaccount:kube-system:*") &&
			strings.HasSuffix(e.user(), "-controller")) && (e.scripted() || strings.HasPrefix(agent, "kubectl/") || agent == "")
	},
	"node-identity-by-hand": func(e event) bool {
		return e.done() && e.by("system:node:*") && (e.scripted() || strings.HasPrefix(e.text("userAgent"), "kubectl/"))
	},

	// execution
	"attached-to-pod":         func(e event) bool { return e.session("attach") && e.ok() },
	"exec-by-service-account": func(e event) bool { return e.session("exec", "attach") && e.ok() && e.by("system:serviceaccount:*") },
	"ephemeral-container-added": func(e event) bool {
		return e.tried("update patch", "pods") && e.ok() && e.has("objectRef.subresource", "ephemeralcontainers")
	},
	"kubelet-through-proxy": func(e event) bool {
		return e.begun() && e.has("objectRef.resource", "nodes") && e.has("objectRef.subresource", "proxy") &&
			!regexp.MustCompile(`/proxy/(metrics|healthz|stats/summary)`).MatchString(e.text("requestURI"))
	},
	"session-in-system-namespace-refused": func(e event) bool {
		return e.session("exec", "attach", "portforward") && e.code() == 403 && e.in("kube-system", "kube-public", "kube-node-lease")
	},
	"container-added-by-json-patch": func(e event) bool {
		return e.tried("patch") && e.ok() && !e.machine() && e.has("requestObject.op", "add") &&
			regexp.MustCompile(`^/spec/.*ontainers/(-|\d+)$`).MatchString(e.text("requestObject.path"))
	},
	"scripted-client-on-sensitive-objects": func(e event) bool {
		if !e.scripted() || !e.ok() {
			return false
		}
		return e.did("get list create update patch delete", "secrets") || e.has("verb", "watch") && e.has("objectRef.resource", "secrets") && e.begun() ||
			e.tried("create", "serviceaccounts") && e.has("objectRef.subresource", "token") || e.session("exec", "attach", "portforward") ||
			e.has("objectRef.apiGroup", "rbac.authorization.k8s.io") && (e.wrote() || e.gone())
	},
	"workload-downloads-code": func(e event) bool {
		return e.workload() && commandLine(e, regexp.MustCompile(`(curl|wget) .*\| *sh|/dev/tcp/|base64 -d`))
	},
	"untrusted-image": func(e event) bool {
		return e.workload() && e.in("kube-system") && podSpec(func(spec string) bool {
			return slices.ContainsFunc(append(e.all(spec+"containers.image"), e.all(spec+"initContainers.image")...), func(image any) bool {
				return !strings.HasPrefix(image.(string), "registry.k8s.io/")
			})
		})
	},

	// persistence
	"cronjob-written":   func(e event) bool { return e.wrote("cronjobs") && !e.machine() },
	"daemonset-created": func(e event) bool { return e.wrote("daemonsets") && e.code() == 201 && !e.machine() },
	"csr-approved": func(e event) bool {
		return e.tried("update patch", "certificatesigningrequests") && e.has("objectRef.subresource", "approval") && e.ok() && !e.machine()
	},
	"csr-for-node-identity": func(e event) bool {
		return e.tried("create", "certificatesigningrequests") && !e.by("system:node:*", "system:bootstrap:*") &&
			e.has("requestObject.spec.signerName", "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving")
	},
	"csr-for-masters-refused": func(e event) bool {
		return e.tried("create", "certificatesigningrequests") && e.code() == 403 &&
			strings.Contains(e.text("responseStatus.message"), "system:masters group is not allowed")
	},
	"webhook-outside-cluster": func(e event) bool {
		return e.wrote("mutatingwebhookconfigurations", "validatingwebhookconfigurations") && !e.machine() && len(e.all("requestObject.webhooks.clientConfig.url")) > 0
	},
	"webhook-reads-secrets": func(e event) bool {
		return e.wrote("mutatingwebhookconfigurations") && !e.machine() && e.has("requestObject.webhooks.rules.resources", "secrets", "*")
	},
	"apiservice-registered": func(e event) bool { return e.wrote("apiservices") && !e.machine() },
	"cluster-configuration-changed": func(e event) bool {
		return (e.wrote("configmaps") || e.gone("configmaps")) && !e.machine() && e.in("kube-system") && e.has("objectRef.name", "kubeadm-config",
			"kubelet-config", "kube-proxy", "extension-apiserver-authentication")
	},
	"nodeport-service": func(e event) bool {
		return e.wrote("services") && !e.machine() && e.has("requestObject.spec.type", "NodePort")
	},
	"load-balancer-service": func(e event) bool {
		return e.wrote("services") && !e.machine() && e.has("requestObject.spec.type", "LoadBalancer") && len(e.all("requestObject.spec.loadBalancerSourceRanges")) == 0
	},
	"aggregated-role-injected": func(e event) bool {
		labels := at(map[string]any(e), "requestObject", "metadata", "labels")
		text, _ := json.Marshal(labels)
		return e.rbac("clusterroles") && !e.machine() && strings.Contains(string(text), `/aggregate-to-`) &&
			e.has("requestObject.rules.resources", "secrets", "*", "pods/exec", "nodes/proxy")
	},
	"built-in-role-changed": func(e event) bool {
		return (e.wrote("clusterroles", "roles") || e.gone("clusterroles", "roles")) && !e.machine() &&
			regexp.MustCompile(`^(cluster-admin|admin|edit|view|system:.*)$`).MatchString(e.text("objectRef.name")) &&
			e.text("objectRef.name") != "system:coredns"
	},
	"binding-in-system-namespace": func(e event) bool {
		return e.rbac("rolebindings") && !e.machine() && e.in("kube-system", "kube-public", "kube-node-lease")
	},
	"rbac-written-by-service-account": func(e event) bool {
		return e.has("objectRef.apiGroup", "rbac.authorization.k8s.io") && (e.wrote() || e.gone()) && e.by("system:serviceaccount:*") && !e.machine()
	},

	// privilege escalation
	"role-runs-commands": roleWith([]any{"pods/exec", "pods/attach", "pods/portforward", "pods/ephemeralcontainers", "pods/*"},
		[]any{"get", "create", "update", "patch", "*"}),
	"role-reaches-kubelets": roleWith([]any{"nodes/proxy", "nodes/*"}, []any{"get", "create", "*"}),
	"role-mints-tokens":     roleWith([]any{"serviceaccounts/token"}, []any{"create", "*"}),
	"role-approves-certificates": roleWith([]any{"certificatesigningrequests/approval", "certificatesigningrequests/status", "signers"},
		[]any{"update", "patch", "approve", "sign", "*"}),
	"role-writes-rbac": func(e event) bool {
		return e.rbac("clusterroles", "roles") && !e.machine() && anyRule(e, "requestObject.rules", func(r event) bool {
			return r.has("resources", "roles", "clusterroles", "rolebindings", "clusterrolebindings", "*") &&
				r.has("apiGroups", "rbac.authorization.k8s.io", "*") && r.has("verbs", "create", "update", "patch", "*")
		})
	},
	"role-reads-all-secrets": func(e event) bool {
		return e.rbac("clusterroles") && !e.machine() && anyRule(e, "requestObject.rules", func(r event) bool {
			return r.has("resources", "secrets", "*") && r.has("apiGroups", "", "*") && r.has("verbs", "get", "list", "watch", "*") && len(r.all("resourceNames")) == 0
		})
	},
	"rbac-write-refused": func(e event) bool {
		return e.tried("create update patch delete deletecollection") && e.has("objectRef.apiGroup", "rbac.authorization.k8s.io") &&
			e.code() == 403 && e.annotation("authorization.k8s.io/decision") == "forbid"
	},
	"impersonation-refused": func(e event) bool {
		message := e.text("responseStatus.message")
		return e.done() && e.code() == 403 && strings.Contains(message, "cannot impersonate resource") && !refusedToBe.MatchString(message)
	},
	"impersonation-used": func(e event) bool {
		as := e.text("impersonatedUser.username")
		return e.done() && as != "" && !strings.HasPrefix(as, "system:") && as != "kubernetes-admin" && !e.has("impersonatedUser.groups", "system:masters")
	},
	"node-restriction-refused": func(e event) bool {
		return e.by("system:node:*") && e.tried("create update patch delete", "nodes", "pods", "leases") && e.code() == 403 &&
			strings.Contains(e.text("responseStatus.message"), "is not allowed to modify")
	},
	"hostpath-volume": func(e event) bool {
		return e.workload() && e.ok() && !e.machine() && !e.in("kube-system") && podSpec(func(spec string) bool {
			return slices.ContainsFunc(e.all(spec+"volumes.hostPath.path"), func(p any) bool { return len(p.(string)) > 1 })
		})
	},
	"hostpath-persistent-volume": func(e event) bool {
		return e.wrote("persistentvolumes") && !e.machine() && len(e.all("requestObject.spec.hostPath.path")) > 0
	},
	"pod-bound-to-node-by-name": func(e event) bool {
		return e.did("create", "pods") && len(e.all("objectRef.subresource")) == 0 && !e.controller() && !e.machine() && e.text("requestObject.spec.nodeName") != ""
	},
	"workload-on-control-plane": func(e event) bool {
		return e.workload() && e.ok() && !e.in("kube-system") && podSpec(func(spec string) bool {
			return len(e.all(spec+"nodeSelector.node-role")) > 0 || slices.ContainsFunc(e.all(spec+"nodeSelector"), func(s any) bool {
				_, ok := s.(map[string]any)["node-role.kubernetes.io/control-plane"]
				return ok
			})
		})
	},
	"powerful-service-account-used": func(e event) bool {
		return e.workload() && e.ok() && !e.machine() && podSpec(func(spec string) bool {
			return e.has(spec+"serviceAccountName", "velero", "argocd-server", "argocd-application-controller", "clusterrole-aggregation-controller")
		})
	},
	"pod-in-system-namespace": func(e event) bool {
		return e.workload() && e.ok() && e.has("verb", "create") && len(e.all("objectRef.subresource")) == 0 && !e.machine() &&
			e.in("kube-system", "kube-public", "kube-node-lease")
	},
	"pod-security-weakened": func(e event) bool {
		if !e.tried("update patch", "namespaces") || !e.ok() || e.code() == 201 || e.machine() {
			return false
		}
		for _, labels := range at(map[string]any(e), "requestObject", "metadata", "labels") {
			level, ok := labels.(map[string]any)["pod-security.kubernetes.io/enforce"]
			if ok && level == nil && e.has("verb", "patch") || level == "privileged" {
				return true
			}
		}
		return e.has("requestObject.op", "remove") && e.has("requestObject.path", "/metadata/labels/pod-security.kubernetes.io~1enforce")
	},

	// defense evasion
	"admission-deleted": func(e event) bool {
		return e.gone("validatingwebhookconfigurations", "validatingadmissionpolicies", "validatingadmissionpolicybindings") && !e.machine()
	},
	"admission-weakened": func(e event) bool {
		return e.did("update patch") && e.has("objectRef.apiGroup", "admissionregistration.k8s.io") && e.code() != 201 && !e.machine() &&
			(e.has("requestObject.spec.failurePolicy", "Ignore") || e.has("requestObject.webhooks.failurePolicy", "Ignore"))
	},
	"network-policy-removed": func(e event) bool { return e.gone("networkpolicies") && !e.machine() },
	"quota-removed":          func(e event) bool { return e.gone("resourcequotas", "limitranges") && !e.machine() },
	"pod-masquerades-as-system": func(e event) bool {
		return e.workload() && e.ok() && e.has("verb", "create") && len(e.all("objectRef.subresource")) == 0 && !e.in("kube-system") &&
			regexp.MustCompile(`^(kube-(apiserver|scheduler|proxy|dns|controller-manager)|coredns|etcd|cilium)-?`).MatchString(e.text("objectRef.name"))
	},
	"component-user-agent-by-other": func(e event) bool {
		return e.done() && !strings.HasPrefix(e.user(), "system:") && e.user() != "" && !e.has("user.groups", "system:masters") &&
			regexp.MustCompile(`^(kubelet|kube-apiserver|kube-scheduler|kube-controller-manager)/`).MatchString(e.text("userAgent"))
	},
	"user-agent-with-markup": func(e event) bool {
		return (e.done() || e.code() == 401) && regexp.MustCompile("[<>\"{}\x00-\x1f]|^[=+@-]|TRUNCATED").MatchString(e.text("userAgent"))
	},
	"request-with-control-characters": func(e event) bool {
		return (e.done() || e.begun() && e.code() == 401) && !e.has("objectRef.subresource", "exec", "proxy") &&
			regexp.MustCompile(`(?i)%0[0-9a-f]|%1[0-9a-f]|%7f|%3cscript|%3cimg|jndi`).MatchString(e.text("requestURI"))
	},

	// credential access
	"token-minted-in-system-namespace": func(e event) bool {
		return e.tried("create", "serviceaccounts") && e.has("objectRef.subresource", "token") && e.ok() && e.in("kube-system") &&
			!e.by("system:node:*", "system:kube-controller-manager")
	},
	"token-secrets-searched": func(e event) bool {
		return e.tried("list watch", "secrets") && strings.Contains(e.text("requestURI"), "fieldSelector=type%3Dkubernetes.io%2Fservice-account-token") &&
			!e.machine()
	},
	"sensitive-secret-read": func(e event) bool {
		return e.tried("get", "secrets") && regexp.MustCompile(`cloud-credentials|kubeconfig|etcd|^argocd-(initial-admin-)?secret$|^bootstrap-token-`).MatchString(
			e.text("objectRef.name")) && !e.machine() && !e.by("system:serviceaccount:velero:velero", "system:serviceaccount:external-secrets:external-secrets") &&
			(!e.by("system:node:*") || e.scripted())
	},
	"secrets-list-refused": func(e event) bool {
		return e.tried("list watch", "secrets") && e.code() == 403 && e.by("system:serviceaccount:*", "system:node:*") &&
			(len(e.all("objectRef.namespace")) == 0 || e.in("kube-system"))
	},

	// discovery, lateral movement, impact
	"rights-listed-by-service-account": func(e event) bool {
		return e.tried("create", "selfsubjectrulesreviews") && e.by("system:serviceaccount:*")
	},
	"port-forward-to-data-store": func(e event) bool {
		return e.session("portforward") && e.ok() && regexp.MustCompile(`postgres|mysql|redis|mongo|kafka`).MatchString(e.text("objectRef.name"))
	},
	"dns-configuration-changed": func(e event) bool {
		return (e.wrote("configmaps") || e.gone("configmaps")) && e.in("kube-system") && e.has("objectRef.name", "coredns", "kube-dns") && !e.machine()
	},
	"service-with-external-ips": func(e event) bool {
		return e.wrote("services") && !e.machine() && len(e.all("requestObject.spec.externalIPs")) > 0
	},
	"crd-deleted":       func(e event) bool { return e.gone("customresourcedefinitions") && !e.machine() },
	"namespace-deleted": func(e event) bool { return e.gone("namespaces") && !e.by("system:serviceaccount:*") },
	"collection-deleted": func(e event) bool {
		return e.did("deletecollection") && !e.machine() && !e.has("objectRef.resource", "events") && !strings.Contains(e.text("requestURI"), "labelSelector")
	},
	"miner-workload": func(e event) bool {
		if !e.workload() {
			return false
		}
		return commandLine(e, regexp.MustCompile(`stratum\+tcp|xmrig`)) || podSpec(func(spec string) bool {
			return strings.Contains(e.text(spec+"containers.image"), "xmrig")
		})
	},
	"node-tainted": func(e event) bool {
		return e.did("patch", "nodes") && !e.machine() && !e.by("system:node:*") && e.has("requestObject.spec.taints.effect", "NoSchedule", "NoExecute")
	},
}

func roleWith(resources, verbs []any) func(event) bool {
	return func(e event) bool {
		return e.rbac("clusterroles", "roles") && !e.machine() && anyRule(e, "requestObject.rules", func(r event) bool {
			return r.has("resources", resources...) && r.has("verbs", verbs...)
		})
	}
}

// commandLine reports whether a word of a container's command or arguments has what is looked for.
func commandLine(e event, what *regexp.Regexp) bool {
	return podSpec(func(spec string) bool {
		return slices.ContainsFunc(append(e.all(spec+"containers.command"), e.all(spec+"containers.args")...), func(word any) bool {
			return what.MatchString(word.(string))
		})
	})
}
