package rules_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/auditmill/auditmill/testdata/recording"
)

// world is what the recording and its list of people tell of who and why, found out in the plainest way. It knows nothing of
// packages that work it out for the services: they check each other.
type world struct {
	people   map[string]colleague // by username
	minted   map[string]token     // by id
	mighty   map[string]bool      // cluster roles that allow everything
	bindings []grant
	owners   map[string][]owned // by namespace
}

type colleague struct {
	team, active string
	email        string
}

type token struct{ by, of string }

// grant is a binding of a mighty role to the whole cluster; times are those of events, which compare as text.
type grant struct {
	name        string
	from, until string
	subjects    []string
}

type owned struct{ from, owner string }

func newWorld(t *testing.T, lines [][]byte) *world {
	t.Helper()
	w := &world{people: map[string]colleague{}, minted: map[string]token{}, mighty: map[string]bool{}, owners: map[string][]owned{}}
	rows, err := csv.NewReader(bytes.NewReader(recording.People())).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		of := colleague{email: row[0], team: row[2], active: row[4]}
		for _, name := range append(strings.Split(row[5], ";"), row[0]) {
			w.people[name] = of
		}
	}
	for i, raw := range lines {
		var e event
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		if e.has("stage", "ResponseComplete") && e.code() < 300 {
			w.take(e)
		}
	}
	return w
}

func (w *world) take(e event) {
	at, name := e.text("stageTimestamp"), e.text("objectRef.name")
	if name == "" {
		name = e.text("responseObject.metadata.name")
	}
	writes := e.has("verb", "create", "update", "patch")
	switch resource := e.text("objectRef.resource"); {
	case e.annotation("authentication.kubernetes.io/issued-credential-id") != "":
		of := "system:serviceaccount:" + e.text("objectRef.namespace") + ":" + name
		w.minted[e.annotation("authentication.kubernetes.io/issued-credential-id")] = token{e.user(), of}
	case resource == "clusterroles" && writes:
		w.mighty[name] = anyRule(e, "responseObject.rules", func(r event) bool {
			return r.has("verbs", "*") && r.has("resources", "*") && r.has("apiGroups", "*")
		})
	case resource == "clusterrolebindings" && (writes || e.has("verb", "delete")):
		for i := range w.bindings {
			if w.bindings[i].name == name && w.bindings[i].until == "" {
				w.bindings[i].until = at
			}
		}
		if writes && w.mighty[e.text("responseObject.roleRef.name")] {
			g := grant{name: name, from: at}
			for _, s := range e.all("responseObject.subjects.name") {
				g.subjects = append(g.subjects, s.(string))
			}
			w.bindings = append(w.bindings, g)
		}
	case resource == "namespaces" && writes:
		annotations, _ := e["responseObject"].(map[string]any)["metadata"].(map[string]any)["annotations"].(map[string]any)
		owner, _ := annotations["owner"].(string)
		w.owners[name] = append(w.owners[name], owned{at, owner})
	}
}

// mayAll reports whether the caller of e was bound to a role that allows everything.
func (w *world) mayAll(e event) bool {
	at := e.text("requestReceivedTimestamp")
	return slices.ContainsFunc(w.bindings, func(g grant) bool {
		return g.from <= at && (g.until == "" || at < g.until) && slices.ContainsFunc(g.subjects, func(subject string) bool {
			return subject == e.user() || e.has("user.groups", subject)
		})
	})
}

// owner is whose the namespace of e was.
func (w *world) owner(e event) (owner string) {
	for _, o := range w.owners[e.text("objectRef.namespace")] {
		if o.from <= e.text("requestReceivedTimestamp") {
			owner = o.owner
		}
	}
	return owner
}

// human reports whether a person acts, and not a part of a cluster.
func (e event) human() bool { return strings.Contains(e.user(), "@") && !e.by("system:*") }

func (e event) review() bool {
	return strings.HasPrefix(e.text("objectRef.resource"), "selfsubject") || strings.HasSuffix(e.text("objectRef.resource"), "reviews")
}

func (e event) credential() string {
	user, _ := e["user"].(map[string]any)
	extra, _ := user["extra"].(map[string]any)
	ids, _ := extra["authentication.kubernetes.io/credential-id"].([]any)
	if len(ids) == 0 {
		return ""
	}
	return ids[0].(string)
}

var (
	toEverybody = regexp.MustCompile(`of (?:Cluster)?Role "([^"]*)" to (?:Group|User) "system:(?:anonymous|unauthenticated|authenticated)"$`)
	harmless    = regexp.MustCompile(`^(system:(public-info-viewer|discovery|basic-user|service-account-issuer-discovery)|kubeadm:.*)$`)
)

// contextPredicates are those of rules that ask who it was or why it was allowed.
var contextPredicates = map[string]func(*world, event) bool{
	"right-of-everybody-used": func(_ *world, e event) bool {
		found := toEverybody.FindStringSubmatch(e.annotation("authorization.k8s.io/reason"))
		return e.once() && e.annotation("authorization.k8s.io/decision") == "allow" && found != nil && !harmless.MatchString(found[1])
	},
	"requested-token-used": func(w *world, e event) bool {
		t, ok := w.minted[e.credential()]
		return e.once() && ok && t.of == e.user() && t.by != e.user() && !strings.HasPrefix(t.by, "system:node:") &&
			t.by != "system:kube-controller-manager" && t.by != "system:apiserver"
	},
	"person-with-all-rights": func(w *world, e event) bool {
		does := e.has("verb", "create", "update", "patch", "delete", "deletecollection") || e.has("objectRef.subresource", "exec", "attach", "portforward")
		return e.once() && does && e.human() && e.ok() && w.mayAll(e) && len(e.all("impersonatedUser.username")) == 0 && !e.review() &&
			!e.has("user.groups", "system:masters", "kubeadm:cluster-admins")
	},
	"leaver-acts": func(w *world, e event) bool {
		return e.once() && w.people[e.user()].active == "false" && e.code() != 401
	},
	"namespace-of-another-team": func(w *world, e event) bool {
		does := e.has("verb", "create", "update", "patch", "delete", "deletecollection") || e.has("objectRef.subresource", "exec", "attach", "portforward") ||
			e.has("objectRef.resource", "secrets") && e.has("verb", "get", "list", "watch")
		team, owner := w.people[e.user()].team, w.owner(e)
		return e.once() && does && e.ok() && !e.review() && team != "" && owner != "" && team != owner && team != "platform" && team != "sre"
	},
}
