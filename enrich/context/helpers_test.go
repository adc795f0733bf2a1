package context_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/internal/jsonscan"
	"github.com/auditmill/auditmill/schemas"
)

const cluster = "prod"

// event is an audit event of a request for an object of RBAC, as the stream has it. at is when it ended.
type event struct {
	verb, resource, namespace, name, sub string
	at                                   int64
	code                                 uint16 // 200 if it is 0
	stage, level, status                 string
	query                                string
	uid                                  string
	request, response                    string // JSON
}

func (e event) schema() *schemas.Event {
	group := "rbac.authorization.k8s.io"
	if e.resource == "serviceaccounts" || e.resource == "namespaces" {
		group = ""
	}
	var members []string
	if e.request != "" {
		members = append(members, `"requestObject":`+e.request)
	}
	if e.response != "" {
		members = append(members, `"responseObject":`+e.response)
	}
	raw := []byte("{" + strings.Join(members, ",") + "}")
	return &schemas.Event{
		Verb: e.verb, APIGroup: group, Resource: e.resource, Subresource: e.sub, Namespace: e.namespace, Name: e.name,
		Level: e.level, Status: e.status, ObjectUID: e.uid, EventTime: e.at - 1, StageTime: e.at, Code: cmp.Or(e.code, 200), Stage: cmp.Or(e.stage, "ResponseComplete"),
		RequestURI: "/apis/x?" + e.query, Raw: raw, RequestObject: body(raw, "requestObject"), ResponseObject: body(raw, "responseObject"),
	}
}

// body is what enrich makes of a member of the event.
func body(raw []byte, member string) []byte {
	if value, ok := jsonscan.Get(raw, member); ok && (value[0] == '{' || value[0] == '[') {
		return value
	}
	return nil
}

func apply(t *testing.T, s *context.Store, events ...event) {
	t.Helper()
	for _, e := range events {
		if _, _, err := s.Event(cluster, e.schema()); err != nil {
			t.Errorf("%s %s %s: %v", e.verb, e.resource, e.name, err)
		}
	}
}

// role is the JSON of a cluster role whose rules allow verbs on pods.
func role(name string, revision int, more string, verbs ...string) string {
	rules := make([]string, len(verbs))
	for i, v := range verbs {
		rules[i] = fmt.Sprintf(`{"verbs":[%q],"apiGroups":[""],"resources":["pods"]}`, v)
	}
	return fmt.Sprintf(
		`{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":%q,"uid":"uid-%s","resourceVersion":"%d"%s},"rules":[%s]}`,
		name, name, revision, more, strings.Join(rules, ","))
}

// verbs shows what a cluster role allows at a time: "get list", "-" if there is none, with a "?" if it is stale.
func verbs(s *context.Store, name string, at int64) string {
	state := s.Cluster(cluster).At(at)
	if state == nil {
		return "nothing known"
	}
	item, ok := state.Get(context.Key{Kind: context.ClusterRole, Name: name})
	if !ok {
		return "-"
	}
	var all []string
	if item.Object != nil {
		for _, r := range item.Object.Rules {
			all = append(all, r.Verbs...)
		}
	}
	if item.Stale {
		all = append(all, "?")
	}
	return strings.Join(all, " ")
}

// picture is everything that a state holds, to be compared.
func picture(s *context.State) string {
	if s == nil {
		return "nothing"
	}
	all := map[string]string{}
	for kind := context.Role; kind <= context.Namespace; kind++ {
		for item := range s.Objects(kind) {
			text, err := json.Marshal(item.Object)
			if err != nil {
				panic(err)
			}
			all[item.Key.String()] = fmt.Sprintf("%s stale=%t", text, item.Stale)
		}
	}
	for subject, bindings := range s.Subjects() {
		var names []string
		for _, b := range bindings {
			names = append(names, b.Key.String())
		}
		slices.Sort(names) // bindings of one time have no order
		all["of "+subject.Kind+" "+subject.Name] = strings.Join(names, ", ")
	}
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s: %s\n", k, all[k])
	}
	return b.String()
}
