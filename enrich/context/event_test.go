package context_test

import (
	"strings"
	"testing"

	"github.com/auditmill/auditmill/enrich/context"
)

func TestWrites(t *testing.T) {
	const terminating = `,"deletionTimestamp":"2026-11-21T03:00:00Z"`
	created := event{verb: "create", resource: "clusterroles", name: "r", at: 10, code: 201, response: role("r", 1, "", "get")}
	for _, tt := range []struct {
		name string
		then []event
		want string // at 20
	}{
		{"created", nil, "get"},
		{"updated", []event{{verb: "update", at: 20, response: role("r", 2, "", "list")}}, "list"},
		{"patched", []event{{verb: "patch", at: 20, request: `[]`, response: role("r", 2, "", "list")}}, "list"},
		{"later", []event{{verb: "update", at: 21, response: role("r", 2, "", "list")}}, "get"},
		{"refused", []event{{verb: "update", at: 20, code: 403, request: role("r", 2, "", "list"), response: `{"kind":"Status"}`}}, "get"},
		{"dry run", []event{{verb: "update", at: 20, query: "dryRun=All", response: role("r", 2, "", "list")}}, "get"},
		{"not yet", []event{{verb: "update", at: 20, stage: "RequestReceived", request: role("r", 2, "", "list")}}, "get"},
		{"of a subresource", []event{{verb: "update", at: 20, sub: "scale", response: role("r", 2, "", "list")}}, "get"},
		{"all deleted, as somebody else, which the user must not be", []event{{verb: "deletecollection", at: 20, code: 403}}, "get"},
		{
			"created by an update that says it was deleted",
			[]event{
				{verb: "delete", at: 19, level: "Request", status: "Success"},
				{verb: "update", code: 201, at: 20, response: strings.Replace(role("r", 2, terminating, "list"), "uid-r", "uid-2", 1)},
			},
			"list",
		},
		{"read", []event{{verb: "get", at: 20, response: role("r", 2, "", "list")}}, "get"},
		{"updated, level Request", []event{{verb: "update", at: 20, request: role("r", 1, "", "list")}}, "list"},
		{"deleted", []event{{verb: "delete", at: 20, response: `{"kind":"Status","details":{"uid":"uid-r"}}`}}, "-"},
		{"deleted, level Request", []event{{verb: "delete", at: 20, level: "Request", status: "Success"}}, "-"},
		{
			"deleted, of options that the audit policy leaves out only the query",
			[]event{{verb: "delete", at: 20, level: "Request", status: "Success", query: "propagationPolicy=Background"}},
			"-",
		},
		{"deletion tried", []event{{verb: "delete", at: 20, query: "dryRun=All", response: `{"kind":"Status","details":{"uid":"uid-r"}}`}}, "get"},
		{
			"deletion tried, as the body says",
			[]event{{verb: "delete", at: 20, request: `{"kind":"DeleteOptions","dryRun":["All"]}`, response: `{"kind":"Status","details":{"uid":"uid-r"}}`}},
			"get",
		},
		{
			"deletion that the query calls a trial, and the body does not",
			[]event{{verb: "delete", at: 20, query: "dryRun=All", request: `{"kind":"DeleteOptions"}`, response: `{"kind":"Status","details":{"uid":"uid-r"}}`}},
			"-",
		},
		{
			"deletion of all tried, as the body says",
			[]event{{
				verb: "deletecollection", at: 20, request: `{"kind":"DeleteOptions","dryRun":["All"]}`,
				response: `{"kind":"ClusterRoleList","items":[{"metadata":{"name":"r","uid":"uid-r"}}]}`,
			}},
			"get",
		},
		{
			"updated, level Request, with what only the API server says",
			[]event{{
				verb: "update", at: 20, uid: "uid-r",
				request: role("r", 1, `,"creationTimestamp":"2019-01-01T00:00:00Z","deletionTimestamp":"2020-01-01T00:00:00Z"`, "list"),
			}},
			"list",
		},
		{
			"created, level Request, with the uid of another",
			[]event{
				{verb: "delete", at: 19, level: "Request", status: "Success"},
				{verb: "create", code: 201, at: 20, uid: "uid-r", request: role("r", 1, "", "list")},
			},
			"list",
		},
		{
			"deletion waits for finalizers",
			[]event{{verb: "delete", at: 20, response: role("r", 2, terminating+`,"finalizers":["x"]`, "get")}},
			"get",
		},
		{
			"finalizers done",
			[]event{
				{verb: "delete", at: 19, response: role("r", 2, terminating+`,"finalizers":["x"]`, "get")},
				{verb: "patch", at: 20, response: role("r", 3, terminating, "get")},
			},
			"-",
		},
		{
			"all deleted",
			[]event{{verb: "deletecollection", at: 20, response: `{"kind":"ClusterRoleList","items":[{"metadata":{"name":"r","uid":"uid-r"}}]}`}},
			"-",
		},
		{
			"others deleted",
			[]event{{verb: "deletecollection", at: 20, response: `{"kind":"ClusterRoleList","items":[{"metadata":{"name":"q"}}]}`}},
			"get",
		},
		{
			"deleted but held",
			[]event{{verb: "deletecollection", at: 20, response: `{"kind":"ClusterRoleList","items":[{"metadata":{"name":"r","finalizers":["x"]}}]}`}},
			"get",
		},
		{"all deleted, level Metadata", []event{{verb: "deletecollection", at: 20}}, "-"},
		{
			"concurrent, answered the other way round",
			[]event{{verb: "update", at: 19, response: role("r", 3, "", "list")}, {verb: "update", at: 20, response: role("r", 2, "", "watch")}},
			"list",
		},
		{
			"the same, the other way round in the stream",
			[]event{{verb: "update", at: 20, response: role("r", 2, "", "watch")}, {verb: "update", at: 18, response: role("r", 3, "", "list")}},
			"list",
		},
		{
			"late",
			[]event{{verb: "update", at: 20, response: role("r", 3, "", "list")}, {verb: "update", at: 15, response: role("r", 2, "", "watch")}},
			"list",
		},
		{
			"ended after it was deleted",
			[]event{{verb: "delete", at: 19, response: `{"kind":"Status","details":{"uid":"uid-r"}}`}, {verb: "update", at: 20, response: role("r", 2, "", "list")}},
			"-",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := context.NewStore(context.DefaultConfig())
			apply(t, s, created)
			for _, e := range tt.then {
				e.resource = "clusterroles"
				if e.verb != "deletecollection" {
					e.name = "r"
				}
				apply(t, s, e)
			}
			if got := verbs(s, "r", 20); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if got := verbs(s, "r", 9); got != "nothing known" {
				t.Errorf("before it was created: %q", got)
			}
			if got := verbs(s, "r", 10); got != "get" {
				t.Errorf("when it was created: %q", got)
			}
		})
	}
}

// What the event does not tell is marked, and said.
func TestUnknown(t *testing.T) {
	for _, tt := range []struct {
		name string
		e    event
		want string
		says string
	}{
		{"level Metadata", event{verb: "update", name: "r"}, "get ?", "neither the object nor what was asked"},
		{"a text instead of the body", event{verb: "update", name: "r", request: `"skipped-too-big-size-object"`}, "get ?", "neither"},
		{"patch that does not fit", event{verb: "patch", name: "r", request: `[{"op":"remove","path":"/rules/7"}]`}, "get ?", "requestObject: [0]: cannot remove /rules/7"},
		{"patch of another", event{verb: "patch", name: "q", request: `{"rules":[]}`}, "get", "is not known"},
		{"apply that leaves the rules out", event{verb: "patch", name: "r", request: `{"kind":"ClusterRole","apiVersion":"v1"}`}, "get ?", "leaves out a list"},
		{"answer of another shape", event{verb: "update", name: "r", response: `{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","rules":7}`}, "get ?", "responseObject: rules: want an array, got 7"},
		{"strategic or not", event{verb: "patch", name: "r", request: `{"$patch":"replace","rules":[]}`}, "get ?", "directives"},
		{"deleted or tried", event{verb: "delete", name: "r", level: "Metadata", status: "Success"}, "get ?", "whether it is gone"},
		{"deleted, maybe later", event{verb: "delete", name: "r", level: "Request"}, "get ?", "whether it is gone"},
		{"all deleted or tried", event{verb: "deletecollection", level: "Metadata"}, "get ?", "which of the objects"},
		{"too late", event{verb: "update", name: "r", code: 504, request: role("r", 1, "", "list")}, "get ?", "code 504"},
		{"panic", event{verb: "update", name: "r", code: 500, stage: "Panic"}, "get ?", "code 500"},
		{"not all of them", event{verb: "deletecollection", code: 409}, "get ?", "code 409"},
		{"some deleted", event{verb: "deletecollection", query: "labelSelector=a%3Db"}, "get ?", "which of the objects"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := context.NewStore(context.DefaultConfig())
			apply(t, s, event{verb: "create", resource: "clusterroles", name: "r", at: 10, response: role("r", 1, "", "get")})
			tt.e.resource, tt.e.at = "clusterroles", 20
			_, _, err := s.Event(cluster, tt.e.schema())
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), `in cluster "prod"`) {
				t.Errorf("got error %v, want one with %q", err, tt.says)
			}
			if got := verbs(s, "r", 20); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("generated name", func(t *testing.T) {
		s := context.NewStore(context.DefaultConfig())
		e := event{verb: "create", resource: "clusterroles", at: 10, request: `{"metadata":{"generateName":"r-"}}`}
		if _, _, err := s.Event(cluster, e.schema()); err == nil {
			t.Error("no error")
		}
		if !s.Cluster(cluster).At(10).Doubtful() {
			t.Error("nothing is doubtful")
		}
	})
}

func TestPatches(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"JSON patch", `[{"op":"add","path":"/rules/-","value":{"verbs":["list"]}}]`, "get watch list"},
		{"JSON patch, at a place", `[{"op":"add","path":"/rules/1","value":{"verbs":["list"]}}]`, "get list watch"},
		{"JSON patch, deeper", `[{"op":"replace","path":"/rules/0/verbs","value":["list"]},{"op":"remove","path":"/rules/1"}]`, "list"},
		{"JSON patch, verb added", `[{"op":"test","path":"/metadata/name","value":"r"},{"op":"add","path":"/rules/0/verbs/-","value":"list"}]`, "get list watch"},
		{"JSON patch, copied", `[{"op":"copy","from":"/rules/0","path":"/rules/-"},{"op":"move","from":"/rules/1","path":"/rules/0"}]`, "watch get get"},
		{"JSON patch of what is not kept", `[{"op":"remove","path":"/metadata/managedFields"},{"op":"add","path":"/metadata/annotations/x","value":"y"}]`, "get watch"},
		{"merge", `{"rules":[{"verbs":["list"]}]}`, "list"},
		{"merge, removed", `{"rules":null}`, ""},
		{"merge of labels", `{"metadata":{"labels":{"a":null}}}`, "get watch"},
		{"strategic", `{"$setElementOrder/x":[],"rules":[{"verbs":["list"]}]}`, "list"},
		{"apply", `{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","rules":[{"verbs":["list"]}]}`, "list"},
		{"keys count as written", `{"Rules":[{"verbs":["list"]}]}`, "get watch"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := context.NewStore(context.DefaultConfig())
			apply(t, s,
				event{verb: "create", resource: "clusterroles", name: "r", at: 10, response: role("r", 1, "", "get", "watch")},
				event{verb: "patch", resource: "clusterroles", name: "r", at: 20, request: tt.body})
			if got := verbs(s, "r", 20); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if got := verbs(s, "r", 19); got != "get watch" {
				t.Errorf("the version before became %q", got)
			}
		})
	}
}

// A role gathers no rules, whatever a patch of it says.
func TestAggregationOfRole(t *testing.T) {
	s := context.NewStore(context.DefaultConfig())
	apply(t, s,
		event{verb: "create", resource: "roles", namespace: "n", name: "r", at: 10, request: `{"metadata":{"name":"r"},"rules":[{"verbs":["get"]}]}`},
		event{
			verb: "patch", resource: "roles", namespace: "n", name: "r", at: 20,
			request: `[{"op":"add","path":"/aggregationRule","value":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]}}]`,
		},
		event{verb: "create", resource: "clusterroles", name: "c", at: 30, response: role("c", 1, `,"labels":{"a":"b"}`, "list")})
	item, _ := s.Cluster(cluster).At(30).Get(context.Key{Kind: context.Role, Namespace: "n", Name: "r"})
	if item == nil || item.Stale || len(item.Object.Rules) != 1 || item.Object.AggregationRule != nil {
		t.Errorf("got %+v", item)
	}
}

func TestAggregation(t *testing.T) {
	const (
		top    = `,"labels":{"a":"b"}},"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"to":"view"}}]},"x":{"y":""`
		higher = `},"aggregationRule":{"clusterRoleSelectors":[{"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]}]},"x":{"y":""`
		label  = `,"labels":{"to":"view"}`
	)
	setup := func(t *testing.T, complete bool) *context.Store {
		t.Helper()
		s := context.NewStore(context.DefaultConfig())
		if complete {
			s.Apply(cluster, context.Change{From: 1, Complete: []context.Kind{context.ClusterRole}})
		}
		apply(t, s,
			event{verb: "create", resource: "clusterroles", name: "view", at: 10, response: role("view", 1, top)},
			event{verb: "create", resource: "clusterroles", name: "edit", at: 11, response: role("edit", 2, higher)},
			event{verb: "create", resource: "clusterroles", name: "z", at: 12, response: role("z", 3, label, "list")},
			event{verb: "create", resource: "clusterroles", name: "y", at: 13, response: role("y", 4, label, "get", "list")},
			event{verb: "create", resource: "clusterroles", name: "x", at: 14, response: role("x", 5, "", "delete")})
		return s
	}
	t.Run("gathered", func(t *testing.T) {
		s := setup(t, true)
		for at, want := range map[int64]string{11: "", 12: "list", 13: "get list", 14: "get list"} {
			for _, name := range []string{"view", "edit"} {
				if got := verbs(s, name, at); got != want {
					t.Errorf("%s at %d: got %q, want %q", name, at, got, want)
				}
			}
		}
		apply(t, s, event{verb: "delete", resource: "clusterroles", name: "y", at: 15, status: "Success"})
		if got := verbs(s, "edit", 15); got != "list" {
			t.Errorf("after a part was deleted: %q", got)
		}
		apply(t, s, event{verb: "update", resource: "clusterroles", name: "z", at: 16, response: role("z", 6, "", "list")})
		if got := verbs(s, "edit", 16); got != "" {
			t.Errorf("after a part lost its label: %q", got)
		}
	})
	t.Run("the controller knows better", func(t *testing.T) {
		s := setup(t, true)
		apply(t, s, event{verb: "patch", resource: "clusterroles", name: "view", at: 15, response: role("view", 7, top, "patch")})
		if got := verbs(s, "view", 15); got != "patch" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("not all roles are known", func(t *testing.T) {
		s := setup(t, false)
		apply(t, s,
			event{verb: "patch", resource: "clusterroles", name: "view", at: 15, response: role("view", 7, top, "patch")},
			event{verb: "create", resource: "clusterroles", name: "w", at: 16, response: role("w", 8, label, "watch")},
			event{verb: "delete", resource: "clusterroles", name: "z", at: 17, status: "Success"})
		if got := verbs(s, "view", 17); !strings.HasPrefix(got, "patch") || !strings.Contains(got, "watch") {
			t.Errorf("what unknown roles gave is gone: %q", got)
		}
	})
}

func TestNamespaces(t *testing.T) {
	const ns = `{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"n","uid":"u","labels":{"team":"a"},"annotations":{"example.com/owner":"me","x":"y"}%s},"spec":{"finalizers":[%s]}}`
	text := func(meta, finalizers string) string {
		return strings.Replace(strings.Replace(ns, "%s", meta, 1), "%s", finalizers, 1)
	}
	const gone = `,"deletionTimestamp":"2026-11-21T03:00:00Z"`
	s := context.NewStore(context.DefaultConfig())
	apply(t, s,
		event{verb: "create", resource: "namespaces", name: "n", at: 10, response: text("", `"kubernetes"`)},
		event{verb: "delete", resource: "namespaces", name: "n", at: 20, response: text(gone, `"kubernetes"`)},
		event{verb: "update", sub: "finalize", resource: "namespaces", name: "n", at: 30, response: text(gone, "")})
	key := context.Key{Kind: context.Namespace, Name: "n"}
	for at, want := range map[int64]bool{10: true, 20: true, 29: true, 30: false} {
		item := s.Cluster(cluster).Find(key, at)
		ok := item != nil
		if ok != want {
			t.Errorf("at %d: %t", at, ok)
		}
		if ok && (item.Object.Metadata.Labels["team"] != "a" || len(item.Object.Metadata.Annotations) != 1) {
			t.Errorf("at %d: %+v", at, item.Object.Metadata)
		}
	}
}

func FuzzFromEvent(f *testing.F) {
	f.Add("create", `{"responseObject":`+role("r", 1, "", "get")+`}`)
	f.Add("patch", `{"requestObject":[{"op":"move","from":"/rules/0","path":"/rules/0/verbs/-"}]}`)
	f.Add("patch", `{"requestObject":{"rules":{"$patch":"delete"},"metadata":null}}`)
	f.Add("deletecollection", `{"responseObject":{"items":[{"metadata":{"name":"r"}},7]}}`)
	f.Fuzz(func(t *testing.T, verb, raw string) {
		s := context.NewStore(context.DefaultConfig())
		apply(t, s, event{verb: "create", resource: "clusterroles", name: "r", at: 10, response: role("r", 1, "", "get")})
		e := event{verb: verb, resource: "clusterroles", name: "r", at: 20}.schema()
		e.Raw = []byte(raw)
		e.RequestObject, e.ResponseObject = body(e.Raw, "requestObject"), body(e.Raw, "responseObject")
		_, _, _ = s.Event(cluster, e)
		if got := verbs(s, "r", 19); got != "get" {
			t.Errorf("the version before became %q", got)
		}
	})
}
