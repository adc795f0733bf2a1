package rules_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ruletest"
	"github.com/auditmill/auditmill/alert/rules"
	"github.com/auditmill/auditmill/schemas"
)

var update = flag.Bool("update", false, "write testdata anew from the predicates")

const (
	recording    = "../../testdata/recording/sample.jsonl.gz"
	expectedFile = "testdata/sample.expected.tsv"
	expectedHead = "rule\tname\tline\tevent_time\tstage\taudit_id"
)

// event is an audit event for the predicates below, which say in Go what each rule says
// in Sigma. They know nothing of the engine: the two check each other.
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

var uuid4 = regexp.MustCompile(`(?s)^.{8}-.{4}-4.{3}-.{4}-.{12}$`)

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
		controller := regexp.MustCompile(`^system:(kube-controller-manager|serviceaccount:kube-system:` +
			`(cronjob|daemon-set|deployment|job|replicaset|replication|statefulset)-controller)$`)
		if controller.MatchString(e.user()) || strings.HasPrefix(e.user(), "system:node:") && e.has("user.groups", "system:nodes") {
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
				e.has(rule+".verbs", "*") && e.has(rule+".resources", "*") && e.has(rule+".apiGroups", "*") {
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
			e.code() == 403 && strings.Contains(e.text("responseStatus.message"), "cannot impersonate resource")
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

// nameOf returns the name of a rule's file, without its ending.
func nameOf(r *rule.Rule) string {
	return strings.TrimSuffix(filepath.Base(r.Position.File), ".yml")
}

func expectedLine(r *rule.Rule, line int, raw []byte) string {
	var e struct{ AuditID, Stage, RequestReceivedTimestamp string }
	_ = json.Unmarshal(raw, &e)
	id, _ := json.Marshal(e.AuditID) // it may hold anything
	return fmt.Sprintf("%s\t%s\t%d\t%s\t%s\t%s", r.ID, nameOf(r), line, e.RequestReceivedTimestamp, e.Stage, id)
}

func TestRecording(t *testing.T) {
	pack, err := rules.Parse()
	if err != nil {
		t.Fatal(err)
	}
	lines, err := ruletest.Recording(recording)
	if err != nil {
		t.Fatal(err)
	}
	byPredicate := []string{expectedHead}
	for i, raw := range lines {
		var e event
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		for j := range pack {
			if predicates[nameOf(&pack[j])](e) {
				byPredicate = append(byPredicate, expectedLine(&pack[j], i+1, raw))
			}
		}
	}
	if *update {
		if err := os.WriteFile(expectedFile, []byte(strings.Join(byPredicate, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(expectedFile)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(golden), "\n"), "\n")
	if d := cmp.Diff(want, byPredicate); d != "" {
		t.Errorf("the predicates do not agree with %s (-file +predicates):\n%s", expectedFile, d)
	}
	if d := cmp.Diff(want, byEngine(t, pack, lines)); d != "" {
		t.Errorf("the engine does not agree with %s (-file +engine):\n%s", expectedFile, d)
	}
	for i := range pack {
		if !bytes.Contains(golden, []byte(pack[i].ID)) {
			t.Errorf("%s is not proven on the recording: nothing matches", nameOf(&pack[i]))
		}
	}
}

func byEngine(t *testing.T, pack []rule.Rule, lines [][]byte) []string {
	t.Helper()
	set, err := rule.Compile(pack)
	if err != nil {
		t.Fatal(err)
	}
	evaluator := set.NewEvaluator()
	got := []string{expectedHead}
	const size = 1000
	for first := 0; first < len(lines); first += size {
		var events []*schemas.Event
		for _, raw := range lines[first:min(first+size, len(lines))] {
			e, err := ruletest.Event("prod", raw)
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		batch, err := ruletest.Batch(events...)
		if err != nil {
			t.Fatal(err)
		}
		err = evaluator.Match(batch, func(r, row int) {
			got = append(got, expectedLine(&pack[r], first+row+1, lines[first+row]))
		})
		if err != nil {
			t.Fatal(err)
		}
		batch.Release()
	}
	t.Logf("%+v", evaluator.Stats())
	return got
}
