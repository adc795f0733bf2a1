package rules_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// event is an audit event for the predicates below, which say in Go what each rule says
// in Sigma. They know nothing of the engine and of the lists: the two check each other.
type event map[string]any

// at returns the values at a path, through arrays.
func at(v any, path ...string) []any {
	if list, ok := v.([]any); ok {
		var all []any
		for _, member := range list {
			all = append(all, at(member, path...)...)
		}
		return all
	}
	if len(path) == 0 {
		return []any{v}
	}
	object, _ := v.(map[string]any)
	if member, ok := object[path[0]]; ok && member != nil {
		return at(member, path[1:]...)
	}
	return nil
}

func (e event) all(path string) []any { return at(map[string]any(e), strings.Split(path, ".")...) }

func (e event) text(path string) string {
	for _, v := range e.all(path) {
		return fmt.Sprint(v)
	}
	return ""
}

func (e event) has(path string, values ...any) bool {
	for _, v := range e.all(path) {
		if slices.Contains(values, v) {
			return true
		}
	}
	return false
}

func (e event) code() int {
	for _, v := range e.all("responseStatus.code") {
		n, _ := v.(float64)
		return int(n)
	}
	return 0
}

func (e event) user() string { return e.text("user.username") }
func (e event) ok() bool     { return e.code() > 0 && e.code() < 400 }
func (e event) done() bool   { return e.has("stage", "ResponseComplete", "Panic") }
func (e event) begun() bool  { return e.has("stage", "ResponseStarted") }

// once picks one event of each request: the start of a long one, the end of any other.
func (e event) once() bool {
	long := e.has("verb", "watch") || e.has("objectRef.subresource", "exec", "attach", "portforward", "proxy", "log")
	return long && e.begun() || !long && e.done()
}

func (e event) annotation(key string) string {
	annotations, _ := e["annotations"].(map[string]any)
	s, _ := annotations[key].(string)
	return s
}

// rbac reports whether e wrote an RBAC object of one of the resources.
func (e event) rbac(resources ...any) bool {
	return e.done() && e.ok() && e.has("verb", "create", "update", "patch") && e.has("objectRef.resource", resources...) &&
		e.has("objectRef.apiGroup", "rbac.authorization.k8s.io") && e.user() != "system:apiserver"
}

// by reports whether the caller is one of the users; a trailing * stands for anything.
func (e event) by(users ...string) bool {
	return slices.ContainsFunc(users, func(u string) bool {
		prefix, open := strings.CutSuffix(u, "*")
		return e.user() == u || open && strings.HasPrefix(e.user(), prefix)
	})
}

// machine reports whether the caller is a part of Kubernetes, or a deployer that the recording has.
func (e event) machine() bool {
	return e.by("system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:serviceaccount:kube-system:*",
		"system:serviceaccount:argocd:argocd-application-controller")
}

// controller reports whether the caller makes pods out of templates, or is a kubelet.
func (e event) controller() bool {
	return kubeController.MatchString(e.user()) ||
		e.by("system:node:*") && e.has("user.groups", "system:nodes")
}

// wrote reports whether e is the end of a request that wrote an object of one of the resources successfully.
func (e event) wrote(resources ...any) bool { return e.did("create update patch", resources...) }

// gone is the same for deletions.
func (e event) gone(resources ...any) bool { return e.did("delete deletecollection", resources...) }

func (e event) did(verbs string, resources ...any) bool {
	return e.tried(verbs, resources...) && e.ok() && !e.has("objectRef.subresource", "status", "scale", "finalize", "approval")
}

// tried is the same whatever the answer was.
func (e event) tried(verbs string, resources ...any) bool {
	return e.done() && slices.Contains(strings.Fields(verbs), e.text("verb")) && (len(resources) == 0 || e.has("objectRef.resource", resources...))
}

// in reports whether the object is in one of the namespaces.
func (e event) in(namespaces ...any) bool { return e.has("objectRef.namespace", namespaces...) }

// session reports whether e is the start of a session into a pod by one of the subresources.
func (e event) session(subresources ...any) bool {
	return e.begun() && e.has("objectRef.resource", "pods") && e.has("objectRef.subresource", subresources...)
}

// workload reports whether e tried to write a pod or a template, not as a controller.
func (e event) workload() bool {
	return e.tried("create update patch", "pods", "deployments", "daemonsets", "statefulsets", "replicasets", "replicationcontrollers", "jobs", "cronjobs") &&
		!e.controller()
}

// podSpec calls visit with the path of each pod spec that a workload may have, until it returns true.
func podSpec(visit func(spec string) bool) bool {
	return slices.ContainsFunc([]string{"requestObject.spec.", "requestObject.spec.template.spec.", "requestObject.spec.jobTemplate.spec.template.spec."}, visit)
}

// scripted reports whether the client is one that people write scripts with.
func (e event) scripted() bool {
	agent := strings.ToLower(e.text("userAgent"))
	return slices.ContainsFunc([]string{"curl/", "wget/", "python-requests/", "python-urllib"}, func(p string) bool { return strings.HasPrefix(agent, p) })
}

var kubeController = regexp.MustCompile(`^system:(kube-controller-manager|serviceaccount:kube-system:` +
	`((cronjob|daemon-set|deployment|job|replicaset|replication|statefulset)-controller|generic-garbage-collector))$`)
