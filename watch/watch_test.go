package watch

import (
	stdcontext "context"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/auditmill/auditmill/enrich/context"
)

// fill makes a cluster with a few of everything.
func fill(s *apiServer) {
	rules := func(verb string) j {
		return j{"rules": []j{{"apiGroups": []string{""}, "resources": []string{"pods"}, "verbs": []string{verb}}}}
	}
	for _, verb := range []string{"get", "list", "watch", "create", "delete"} {
		s.put("clusterroles", "", verb, rules(verb))
		s.put("roles", "shop", verb, rules(verb))
	}
	s.put("clusterrolebindings", "", "b", binding("ClusterRole", "get", "alice"))
	s.put("rolebindings", "shop", "b", binding("Role", "get", "alice"))
	s.put("namespaces", "", "shop", j{"metadata": j{"labels": j{"team": "payments"}}})
	s.put("serviceaccounts", "shop", "till", nil)
	s.put("nodes", "", "n1", j{"status": j{"addresses": []j{{"type": "InternalIP", "address": "192.0.2.1"}}}})
	s.put("pods", "shop", "till-1", pod("10.0.0.1"))
	s.put("replicasets", "shop", "till", nil)
	s.put("jobs", "shop", "sweep", nil)
}

func binding(kind, role, user string) j {
	return j{"roleRef": j{"kind": kind, "name": role}, "subjects": []j{{"kind": "User", "name": user}}}
}

func pod(ip string) j {
	return j{
		"spec":   j{"nodeName": "n1", "serviceAccountName": "till", "containers": []j{{"name": "c", "env": []j{{"name": "PASSWORD", "value": "hunter2"}}}}},
		"status": j{"podIPs": []j{{"ip": ip}}},
	}
}

const filled = 18 // objects that fill makes

func (to *topic) all(cluster string) (n int) {
	for _, r := range resources() {
		n += to.count(cluster, r.kind)
	}
	return n
}

func (to *topic) complete(cluster string, except ...context.Kind) bool {
	for _, r := range resources() {
		if to.store.Cluster(cluster).Complete(r.kind, latest) == slices.Contains(except, r.kind) {
			return false
		}
	}
	return true
}

func TestListsEverythingInPagesOnce(t *testing.T) {
	api, to := newAPIServer(t), newTopic(t)
	fill(api)
	cfg := quick(api.config("c"))
	cfg.PageSize = 2
	first := start(t, to, cfg)
	first.ready.until(t)
	to.until(t, "everything is there", func() bool { return to.all("c") == filled && to.complete("c") })
	if got := get(api, func() int { return api.lists[pathOf("roles")+"+"] }); got != 2 {
		t.Errorf("5 roles in pages of 2: %d requests continue, want 2", got)
	}
	if got, want := to.records(t), int64(filled+len(resources())); got != want {
		t.Errorf("%d records, want %d: each object once and that each kind is complete", got, want)
	}
	if !slices.ContainsFunc(first.ready.all, func(s string) bool { return strings.Contains(s, "still to come: c: ") }) {
		t.Errorf("no progress is told: %q", first.ready.all)
	}
	first.stop()

	// A restart writes nothing that is known.
	before := to.records(t)
	second := start(t, to, cfg)
	second.ready.until(t)
	if got := to.records(t); got != before {
		t.Errorf("a restart writes %d records", got-before)
	}
	if got := testutil.ToFloat64(second.metrics.known.WithLabelValues("pods")); got != 1 {
		t.Errorf("auditmill_watch_listed is %v", got)
	}
}

func TestSeesWhatHappens(t *testing.T) {
	api, to := newAPIServer(t), newTopic(t)
	fill(api)
	s := start(t, to, quick(api.config("c")))
	s.ready.until(t)
	began := time.Now().Truncate(time.Second)
	api.put("rolebindings", "shop", "new", binding("Role", "delete", "mallory"))
	to.until(t, "there is a new binding", func() bool { return to.find("c", context.RoleBinding, "shop", "new") != nil })
	item := to.find("c", context.RoleBinding, "shop", "new")
	if from := time.UnixMicro(item.From); from.Before(began) || from.After(time.Now()) || item.Source != context.SourceWatch || item.Object.Subjects[0].Name != "mallory" {
		t.Errorf("it is %+v since %v", item, from)
	}

	// Changes to what is not kept are no news.
	before := to.records(t)
	api.put("pods", "shop", "till-1", j{"spec": pod("10.0.0.1")["spec"], "status": j{"podIPs": []j{{"ip": "10.0.0.1"}}, "conditions": []j{{"type": "Ready"}}}})
	api.put("pods", "shop", "till-1", pod("10.0.0.2"))
	to.until(t, "the pod has another address", func() bool {
		a, ok := to.store.Cluster("c").Address("10.0.0.2", latest)
		return ok && a.Pod.Name == "till-1"
	})
	if got := to.records(t) - before; got != 1 {
		t.Errorf("%d records for one change of the address", got)
	}
	api.delete("rolebindings", "shop", "new")
	to.until(t, "the binding is gone", func() bool { return to.find("c", context.RoleBinding, "shop", "new") == nil })
	api.bookmark("rolebindings")
	if lists := get(api, func() int { return api.lists[pathOf("rolebindings")] }); lists != 1 {
		t.Errorf("listed %d times", lists)
	}
	if text := s.log.String(); strings.Contains(text, "hunter2") {
		t.Error("the environment of a pod is in the log")
	}
}

// An API server that compacts what a watch has not seen answers 410 in one of two ways; both lead to a list.
func TestExpiredWatchListsAgain(t *testing.T) {
	for _, how := range []string{"answer", "stream"} {
		t.Run(how, func(t *testing.T) {
			api, to := newAPIServer(t), newTopic(t)
			fill(api)
			s := start(t, to, quick(api.config("c")))
			s.ready.until(t)
			to.until(t, "everything is there", func() bool { return to.all("c") == filled })
			api.set(func() { // as one: no watch may see the changes
				api.expire = how
				api.refuse = func(string) int { return http.StatusServiceUnavailable }
			})
			api.CloseClientConnections()
			api.delete("clusterrolebindings", "", "b")
			api.put("clusterroles", "", "get", j{"rules": []j{}})
			api.compact()
			api.set(func() { api.refuse = func(string) int { return 0 } })
			to.until(t, "the changes are healed", func() bool {
				role := to.find("c", context.ClusterRole, "", "get")
				return to.find("c", context.ClusterRoleBinding, "", "b") == nil && role != nil && len(role.Object.Rules) == 0
			})
			for _, c := range to.store.Cluster("c").History(context.Key{Kind: context.ClusterRole, Name: "get"})[1:] {
				if c.Seen == 0 || c.Seen >= c.From {
					t.Errorf("a change that was not seen happening is said to be exact: seen %d, from %d", c.Seen, c.From)
				}
			}
		})
	}
}

func TestContinueTokenExpires(t *testing.T) {
	api, to := newAPIServer(t), newTopic(t)
	fill(api)
	api.noPages = true
	cfg := quick(api.config("c"))
	cfg.PageSize = 2
	start(t, to, cfg).ready.until(t)
	to.until(t, "everything is there all the same", func() bool { return to.all("c") == filled && to.complete("c") })
}

func TestForbiddenKindStopsNoOther(t *testing.T) {
	api, to := newAPIServer(t), newTopic(t)
	fill(api)
	api.refuse = func(path string) int {
		if path == pathOf("pods") {
			return http.StatusForbidden
		}
		return 0
	}
	s := start(t, to, quick(api.config("c")))
	s.ready.until(t)
	to.until(t, "all but pods are there", func() bool { return to.all("c") == filled-1 && to.complete("c", context.Pod) })
	if got := testutil.ToFloat64(s.metrics.failing.WithLabelValues("pods")); got != 1 {
		t.Errorf("auditmill_watch_failing is %v", got)
	}
	text := s.log.String()
	if n := strings.Count(text, "cannot be read, trying again"); n != 1 || !strings.Contains(text, "reason=forbidden") ||
		!strings.Contains(text, "watch-rbac.yaml") || !strings.Contains(text, "cannot do that") {
		t.Errorf("want one clear error, got %d", n)
	}
	api.set(func() { api.refuse = func(string) int { return 0 } })
	to.until(t, "pods are there once it may", func() bool { return to.complete("c") && to.count("c", context.Pod) == 1 })
}

func TestWrongCredentialsAndNoAnswerAreTold(t *testing.T) {
	api, to := newAPIServer(t), newTopic(t)
	fill(api)
	path := kubeconfig(t, "wrong", map[string]string{"c": api.URL})
	missing := path + ".later"
	s := start(t, to, quick(Cluster{Name: "wrong", Kubeconfig: path}, Cluster{Name: "nobody", Kubeconfig: kubeconfig(t, "x", map[string]string{"c": "http://127.0.0.1:1"})},
		Cluster{Name: "later", Kubeconfig: missing}, api.config("c")))
	s.ready.until(t)
	to.until(t, "the good cluster is there", func() bool { return to.complete("c") })
	for _, want := range []string{"cluster=wrong reason=unauthorized", "cluster=nobody reason=unreachable", "cluster=later reason=configuration"} {
		if n := strings.Count(s.log.String(), want); n != 1 {
			t.Errorf("%q is logged %d times", want, n)
		}
	}
	text, err := os.ReadFile(api.config("c").Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(missing, text, 0o600); err != nil {
		t.Fatal(err)
	}
	to.until(t, "the kubeconfig is read once it is there", func() bool { return to.complete("later") })
}

// The audit stream knows when and who: what it told the watch does not tell again; what it did not tell, it does.
func TestHealsOnlyWhatTheAuditStreamMissed(t *testing.T) {
	api, to := newAPIServer(t), newTopic(t)
	fill(api)
	cfg := quick(api.config("c"))
	s := start(t, to, cfg)
	s.ready.until(t)
	to.until(t, "everything is there", func() bool { return to.all("c") == filled && to.complete("c") })
	s.stop()
	before := to.records(t)

	uid := api.put("rolebindings", "shop", "told", binding("Role", "delete", "mallory"))
	api.put("rolebindings", "shop", "missed", binding("Role", "delete", "mallory"))
	at := time.Now().Add(-time.Minute).UnixMicro()
	to.tell(t, "c", context.Change{
		Key: context.Key{Kind: context.RoleBinding, Namespace: "shop", Name: "told"}, From: at, Source: context.SourceAudit, By: "eve",
		Object: &context.Object{
			Metadata: context.Metadata{UID: uid, CreationTimestamp: created1(api, "rolebindings", "shop/told"), ResourceVersion: "1019"},
			RoleRef:  &context.RoleRef{Kind: "Role", Name: "delete"}, Subjects: []context.Subject{{Kind: "User", Name: "mallory"}},
		},
	})
	cfg.Wait = 50 * time.Millisecond
	s = start(t, to, cfg)
	s.ready.until(t)
	to.until(t, "what was missed is there", func() bool { return to.find("c", context.RoleBinding, "shop", "missed") != nil })
	if got := to.records(t) - before; got != 2 {
		t.Errorf("%d records, want that of the audit stream and that of the watch", got)
	}
	if item := to.find("c", context.RoleBinding, "shop", "told"); item.From != at || item.By != "eve" {
		t.Errorf("the watch spoilt what the audit stream knew: since %d by %q", item.From, item.By)
	}
}

func created1(api *apiServer, kind, key string) string {
	return get(api, func() string { return api.objects[pathOf(kind)][key]["metadata"].(j)["creationTimestamp"].(string) })
}

func TestTwoWatchersDoNoHarm(t *testing.T) {
	api, to := newAPIServer(t), newTopic(t)
	fill(api)
	one, two := start(t, to, quick(api.config("c"))), start(t, to, quick(api.config("c")))
	one.ready.until(t)
	two.ready.until(t)
	api.put("rolebindings", "shop", "new", binding("Role", "delete", "mallory"))
	api.delete("rolebindings", "shop", "b")
	api.put("rolebindings", "shop", "b", binding("Role", "list", "bob"))
	api.delete("rolebindings", "shop", "new")
	to.until(t, "both agree", func() bool {
		b := to.find("c", context.RoleBinding, "shop", "b")
		return b != nil && b.Object.Subjects[0].Name == "bob" && to.find("c", context.RoleBinding, "shop", "new") == nil
	})
	one.stop()
	two.stop()
	before := to.records(t)
	start(t, to, quick(api.config("c"))).ready.until(t)
	if got := to.records(t) - before; got != 0 {
		t.Errorf("after two watchers a third finds %d differences", got)
	}
}

func TestRestoredClusterCounts(t *testing.T) {
	api, to := newAPIServer(t), newTopic(t)
	fill(api)
	old := time.Now().Add(-time.Hour).UnixMicro()
	for _, role := range []string{"get", "list"} {
		to.tell(t, "c", context.Change{
			Key: context.Key{Kind: context.ClusterRole, Name: role}, From: old, Source: context.SourceAudit,
			Object: &context.Object{
				Metadata: context.Metadata{UID: get(api, func() string { return api.objects[pathOf("clusterroles")]["/"+role]["metadata"].(j)["uid"].(string) }), ResourceVersion: "999999"},
				Rules:    []context.Rule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}},
			},
		})
	}
	s := start(t, to, quick(api.config("c")))
	s.ready.until(t)
	verb := func(role string) string {
		item := to.find("c", context.ClusterRole, "", role)
		if item == nil || len(item.Object.Rules) == 0 {
			return ""
		}
		return item.Object.Rules[0].Verbs[0]
	}
	to.until(t, "what the cluster says counts", func() bool { return verb("get") == "get" && verb("list") == "list" })
	if !strings.Contains(s.log.String(), "restored from a backup") {
		t.Error("nobody is told")
	}
	api.put("clusterroles", "", "get", j{"rules": []j{{"apiGroups": []string{""}, "resources": []string{"pods"}, "verbs": []string{"patch"}}}})
	to.until(t, "so does what happens next", func() bool { return verb("get") == "patch" })
}

// A watch that was away says for how long it does not know what was.
func TestAwayForADay(t *testing.T) {
	api, to := newAPIServer(t), newTopic(t)
	fill(api)
	s := start(t, to, quick(api.config("c")))
	s.ready.until(t)
	to.until(t, "everything is there", func() bool { return to.all("c") == filled && to.complete("c") })
	s.stop()
	yesterday := time.Now().Add(-24 * time.Hour).Truncate(time.Microsecond)
	times := map[context.Kind]time.Time{}
	for _, r := range resources() {
		times[r.kind] = yesterday
	}
	if err := newMemory(to.client, "auditmill-watch").save(t.Context(), "c", times); err != nil {
		t.Fatal(err)
	}
	api.put("clusterroles", "", "get", j{"rules": []j{}})
	to2 := to.records(t)
	s = start(t, to, quick(api.config("c")))
	s.ready.until(t)
	to.until(t, "the change is healed", func() bool {
		role := to.find("c", context.ClusterRole, "", "get")
		return role != nil && len(role.Object.Rules) == 0
	})
	// One change, and for each kind of RBAC that something may have come and gone.
	if got := to.records(t) - to2; got != 5 {
		t.Errorf("%d records, want 5", got)
	}
}

func TestMemory(t *testing.T) {
	to := newTopic(t)
	m := newMemory(to.client, "g")
	times, err := m.load(t.Context(), "c")
	if err != nil || len(times) != 0 {
		t.Fatalf("at first: %v, %v", times, err)
	}
	want := map[context.Kind]time.Time{}
	for i, r := range resources() {
		want[r.kind] = time.UnixMicro(1_700_000_000_000_000 + int64(i))
	}
	if err := m.save(t.Context(), "c", want); err != nil {
		t.Fatal(err)
	}
	if times, err = m.load(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, times); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	ctx, cancel := stdcontext.WithCancel(t.Context())
	cancel()
	if _, err := m.load(ctx, "c"); err == nil {
		t.Error("a load that was cancelled has an answer")
	}
}

// A cluster that is no longer configured is named; nothing of it is deleted.
func TestClusterThatIsNoLongerConfigured(t *testing.T) {
	api, to := newAPIServer(t), newTopic(t)
	fill(api)
	s := start(t, to, quick(api.config("gone")))
	s.ready.until(t)
	to.until(t, "everything is there", func() bool { return to.all("gone") == filled })
	s.stop()
	s = start(t, to, quick(api.config("c")))
	s.ready.until(t)
	to.until(t, "the other is there", func() bool { return to.complete("c") })
	if text := s.log.String(); !strings.Contains(text, "cluster=gone") || !strings.Contains(text, "auditmill context remove") {
		t.Error("nobody is told")
	}
	if to.all("gone") != filled {
		t.Error("something of it was deleted")
	}
}

// Listing again finds what somebody told wrongly after the watch had seen it.
func TestResyncHealsWhatWasToldWrongly(t *testing.T) {
	api, to := newAPIServer(t), newTopic(t)
	fill(api)
	s := start(t, to, quick(api.config("c")), func(s *Service) { s.clusters[0].resync = 50 * time.Millisecond })
	s.ready.until(t)
	to.until(t, "everything is there", func() bool { return to.all("c") == filled && to.complete("c") })
	key := context.Key{Kind: context.ClusterRoleBinding, Name: "b"}
	uid := to.find("c", key.Kind, "", key.Name).Object.Metadata.UID
	to.tell(t, "c", context.Change{
		Key: key, From: time.Now().UnixMicro(), Source: context.SourceAudit,
		Object: &context.Object{Metadata: context.Metadata{UID: uid}, RoleRef: &context.RoleRef{Kind: "ClusterRole", Name: "get"}},
	})
	to.until(t, "it is known again", func() bool {
		b := to.find("c", key.Kind, "", key.Name)
		return len(to.store.Cluster("c").History(key)) > 2 && len(b.Object.Subjects) == 1
	})
}

// What the controller of the API server makes of aggregated roles is written once, however often it is listed.
func TestAggregatedRolesComeToRest(t *testing.T) {
	api, to := newAPIServer(t), newTopic(t)
	rule := func(verbs ...string) (all []j) {
		for _, v := range verbs {
			all = append(all, j{"apiGroups": []string{""}, "resources": []string{"pods"}, "verbs": []string{v}})
		}
		return all
	}
	aggregated := func(label, selector string, verbs ...string) j {
		return j{
			"metadata": j{"labels": j{label: "x"}}, "rules": rule(verbs...),
			"aggregationRule": j{"clusterRoleSelectors": []j{{"matchLabels": j{selector: "x"}}}},
		}
	}
	api.put("clusterroles", "", "admin", aggregated("none", "to-admin", "b", "a", "seen"))
	api.put("clusterroles", "", "edit", aggregated("to-admin", "to-edit", "b", "a"))
	api.put("clusterroles", "", "one", j{"metadata": j{"labels": j{"to-edit": "x"}}, "rules": rule("a")})
	api.put("clusterroles", "", "two", j{"metadata": j{"labels": j{"to-edit": "x"}}, "rules": rule("b")})
	s := start(t, to, quick(api.config("c")))
	s.ready.until(t)
	to.until(t, "everything is there", func() bool { return to.all("c") == 4 && to.complete("c") })
	s.stop()
	for range 2 {
		before := to.records(t)
		s = start(t, to, quick(api.config("c")))
		s.ready.until(t)
		s.stop()
		if got := to.records(t) - before; got != 0 {
			t.Errorf("listing again writes %d records", got)
		}
	}
}

// An object that was only said to be deleted comes back when it is listed.
func TestRelistUndoesADeletionThatWasNone(t *testing.T) {
	api, to := newAPIServer(t), newTopic(t)
	fill(api)
	s := start(t, to, quick(api.config("c")))
	s.ready.until(t)
	to.until(t, "everything is there", func() bool { return to.all("c") == filled && to.complete("c") })
	s.stop()
	key := context.Key{Kind: context.ClusterRoleBinding, Name: "b"}
	at := time.Now().UnixMicro()
	to.tell(t, "c", context.Change{Key: key, From: at, UID: to.find("c", key.Kind, "", key.Name).Object.Metadata.UID, Source: context.SourceAudit})
	to.until(t, "it is gone", func() bool { return to.find("c", key.Kind, "", key.Name) == nil })
	s = start(t, to, quick(api.config("c")))
	s.ready.until(t)
	to.until(t, "it is back", func() bool {
		item := to.find("c", key.Kind, "", key.Name)
		return item != nil && !item.Stale
	})
	s.stop()
	if item := to.store.Cluster("c").Find(key, at); item == nil || !item.Stale {
		t.Errorf("when it was said to be deleted: %+v", item)
	}
	before := to.records(t)
	s = start(t, to, quick(api.config("c")))
	s.ready.until(t)
	if got := to.records(t) - before; got != 0 {
		t.Errorf("listing again writes %d records", got)
	}
}
