package offline_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule/ruletest"
	"github.com/auditmill/auditmill/offline"
)

// recorded is what the expectations below look at in an event.
type recorded struct {
	Stage, Verb, RequestURI, UserAgent string
	User                               struct {
		Username string
		Extra    map[string][]string
	}
	SourceIPs []string
	ObjectRef struct{ Resource, Subresource, Namespace, Name, APIGroup string }
	Status    struct {
		Code    int
		Message string
	} `json:"responseStatus"`
	Annotations   map[string]string
	RequestObject json.RawMessage
	Received      time.Time `json:"requestReceivedTimestamp"`
}

func (e *recorded) ok() bool   { return e.Status.Code > 0 && e.Status.Code < 400 }
func (e *recorded) done() bool { return e.Stage == "ResponseComplete" || e.Stage == "Panic" }

func (e *recorded) peer() string {
	if len(e.SourceIPs) == 0 {
		return ""
	}
	return e.SourceIPs[len(e.SourceIPs)-1]
}

func (e *recorded) credential() string {
	return strings.Join(e.User.Extra["authentication.kubernetes.io/credential-id"], "")
}

func (e *recorded) controlPlane() bool {
	return strings.HasPrefix(e.User.Username, "system:serviceaccount:kube-system:") || strings.HasPrefix(e.User.Username, "system:kube-") ||
		e.User.Username == "system:apiserver" || e.User.Username == "system:serviceaccount:argocd:argocd-application-controller"
}

// distinct expects an alert for each group in which so many different values come together within the span.
type distinct struct {
	n    int
	span time.Duration
	of   func(e *recorded) (group, value string, ok bool)
}

// follows expects an alert for each group in which the second kind of event comes after the first within the span.
type follows struct {
	span          time.Duration
	first, second func(e *recorded) (groups []string, ok bool)
}

// The expectations say in Go, without the engine, the rules or their lists, what some correlations must find.
func counted() map[string]distinct {
	return map[string]distinct{
		"failed-authentication-burst": {20, 5 * time.Minute, func(e *recorded) (string, string, bool) {
			return e.peer(), "", e.Stage == "ResponseStarted" && e.Status.Code == 401
		}},
		"anonymous-probing": {5, 5 * time.Minute, func(e *recorded) (string, string, bool) {
			return e.peer(), e.RequestURI, e.done() && e.User.Username == "system:anonymous" && (e.Status.Code == 401 || e.Status.Code == 403)
		}},
		"forbidden-sweep": {25, 5 * time.Minute, func(e *recorded) (string, string, bool) {
			return e.User.Username, e.Verb + " " + e.ObjectRef.Resource + " " + e.ObjectRef.Namespace,
				e.done() && e.Status.Code == 403 && e.ObjectRef.Resource != "" && e.Annotations["authorization.k8s.io/decision"] == "forbid" &&
					!e.controlPlane() && !strings.HasPrefix(e.UserAgent, "kubelet/")
		}},
		"permission-probing": {20, 5 * time.Minute, func(e *recorded) (string, string, bool) {
			return e.User.Username, "", e.done() && e.Verb == "create" && (e.ObjectRef.Resource == "selfsubjectaccessreviews" ||
				e.ObjectRef.Resource == "selfsubjectrulesreviews") && !e.controlPlane()
		}},
	}
}

func ordered() map[string]follows {
	one := func(group string, ok bool) ([]string, bool) { return []string{group}, ok && group != "" }
	return map[string]follows{
		"binding-made-and-removed": {
			time.Hour,
			func(e *recorded) ([]string, bool) {
				return one(e.User.Username+" "+e.ObjectRef.Name, e.done() && e.ok() && e.Verb == "create" && e.ObjectRef.Resource == "clusterrolebindings" && !e.controlPlane())
			},
			func(e *recorded) ([]string, bool) {
				return one(e.User.Username+" "+e.ObjectRef.Name, e.done() && e.ok() && e.Verb == "delete" && e.ObjectRef.Resource == "clusterrolebindings" && !e.controlPlane())
			},
		},
		"token-minted-then-used": {
			time.Hour,
			func(e *recorded) ([]string, bool) {
				return one(e.Annotations["authentication.kubernetes.io/issued-credential-id"], e.done() && e.ObjectRef.Subresource == "token" && e.Verb == "create" &&
					!strings.HasPrefix(e.User.Username, "system:node:") && !e.controlPlane() && !strings.Contains(e.User.Username, "external-secrets"))
			},
			func(e *recorded) ([]string, bool) {
				return one(e.credential(), e.done() && strings.HasPrefix(e.User.Username, "system:serviceaccount:") &&
					len(e.User.Extra["authentication.kubernetes.io/pod-name"]) == 0 && !strings.HasPrefix(e.UserAgent, "kube-controller-manager/"))
			},
		},
		"grant-then-secrets": {
			10 * time.Minute,
			func(e *recorded) ([]string, bool) {
				var binding struct{ Subjects []struct{ Kind, Name string } }
				isBinding := strings.HasSuffix(e.ObjectRef.Resource, "rolebindings") && e.Verb != "delete" && e.done() && e.ok() && !e.controlPlane()
				if !isBinding || json.Unmarshal(e.RequestObject, &binding) != nil {
					return nil, false
				}
				var names []string
				people := false
				for _, s := range binding.Subjects {
					names = append(names, s.Name)
					people = people || s.Kind != "ServiceAccount"
				}
				return names, people
			},
			func(e *recorded) ([]string, bool) {
				return one(e.User.Username, e.done() && e.ok() && e.Verb == "list" && e.ObjectRef.Resource == "secrets" && !strings.HasPrefix(e.User.Username, "system:"))
			},
		},
	}
}

func expectedCorrelations(t *testing.T, events []recorded) []string {
	t.Helper()
	slices.SortStableFunc(events, func(a, b recorded) int { return a.Received.Compare(b.Received) })
	found := map[string]bool{}
	for name, rule := range counted() {
		seen := map[string][]*recorded{}
		for i := range events {
			group, _, ok := rule.of(&events[i])
			if !ok {
				continue
			}
			seen[group] = append(seen[group], &events[i])
			values, without := map[string]bool{}, 0
			for _, e := range seen[group] {
				if events[i].Received.Sub(e.Received) > rule.span {
					continue
				}
				if _, value, _ := rule.of(e); value != "" {
					values[value] = true
				} else {
					without++
				}
			}
			if len(values)+without >= rule.n {
				found[name+": "+group] = true
			}
		}
	}
	for name, rule := range ordered() {
		first := map[string]time.Time{}
		for i := range events {
			if groups, ok := rule.second(&events[i]); ok {
				for _, g := range groups {
					if at, ok := first[g]; ok && events[i].Received.Sub(at) <= rule.span {
						found[name+": "+g] = true
					}
				}
			}
			if groups, ok := rule.first(&events[i]); ok {
				for _, g := range groups {
					first[g] = events[i].Received
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// TestShippedCorrelations holds correlations of the pack to expectations that know nothing of them.
func TestShippedCorrelations(t *testing.T) {
	const sample = "../testdata/recording/sample.jsonl.gz"
	lines, err := ruletest.Recording(sample)
	if err != nil {
		t.Fatal(err)
	}
	events := make([]recorded, len(lines))
	for i, raw := range lines {
		if err := json.Unmarshal(raw, &events[i]); err != nil {
			t.Fatal(err)
		}
	}
	want := expectedCorrelations(t, events)
	pack, err := offline.Sources{}.Load()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	_, err = offline.MatchFiles(t.Context(), pack, offline.MatchAll, []string{sample}, offline.Context{}, func(m *offline.Match) error {
		name := fileName(m)
		if _, isCounted := counted()[name]; !isCounted && ordered()[name].span == 0 {
			return nil
		}
		var group []string
		for _, key := range []string{"actor", "user", "source_ip", "subject", "credential", "name"} {
			if v := m.Values[key]; v != "" {
				group = append(group, strings.TrimPrefix(v, "/"))
			}
		}
		found[name+": "+strings.Join(group, " ")] = true
		return nil
	}, func(offline.Bad) {})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(found))); d != "" {
		t.Errorf("(-expected +engine):\n%s", d)
	}
	if len(want) < 10 {
		t.Errorf("only %d are expected: %q", len(want), want)
	}
}
