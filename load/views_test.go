package load

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/auditmill/auditmill/schemas"
)

// TestViews asks the everyday questions about a handful of events made for them.
func TestViews(t *testing.T) {
	c, conn := testDatabase(t)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMicro()
	const privileged = `"containers":[{"name":"a","image":"i1"},{"name":"b","image":"i2","securityContext":{"privileged": true}}]`
	events := []*schemas.Event{
		{Actor: "ann", Verb: "get", Resource: "secrets", Namespace: "ns", Name: "s1", Outcome: "success", GrantBinding: "b1"},
		{Actor: "ann", Verb: "get", Resource: "secrets", Namespace: "ns", Name: "s1", Outcome: "received"},
		{Actor: "bob", Verb: "list", Resource: "secrets", Outcome: "denied"},
		{Actor: "bob", Verb: "list", Resource: "secrets", Outcome: "denied"},
		{Actor: "bob", Verb: "update", Resource: "secrets", Namespace: "ns", Name: "s2", Outcome: "success"},
		{
			Actor: "eve", Verb: "create", Resource: "pods", Namespace: "ns", Outcome: "success",
			Raw: []byte(`{"requestObject":{"metadata":{"name":"p1"},"spec":{` + privileged + `,"hostPID":true}}}`),
		},
		{
			Actor: "eve", Verb: "create", Resource: "deployments", APIGroup: "apps", Namespace: "ns", Name: "d1", Outcome: "success",
			Raw: []byte(`{"requestObject":{"spec":{"template":{"spec":{"hostNetwork":true,"initContainers":[{"name":"x","image":"i3","securityContext":{"privileged":true}}]}}}}}`),
		},
		{
			Actor: "eve", Verb: "patch", Resource: "cronjobs", APIGroup: "batch", Namespace: "ns", Name: "c1", Outcome: "denied",
			Raw: []byte(`{"requestObject":{"spec":{"jobTemplate":{"spec":{"template":{"spec":{` + privileged + `}}}}}}}`),
		},
		{
			Actor: "eve", Verb: "patch", Resource: "pods", Subresource: "ephemeralcontainers", Namespace: "ns", Name: "p2", Outcome: "success",
			Raw: []byte(`{"requestObject":{"spec":{"ephemeralContainers":[{"name":"dbg","image":"i4","securityContext":{"privileged":true}}]}}}`),
		},
		{
			Actor: "eve", Verb: "create", Resource: "pods", Namespace: "ns", Name: "tame", Outcome: "success",
			Raw: []byte(`{"requestObject":{"metadata":{"annotations":{"x":"\"privileged\":true"}},"spec":{"containers":[{"name":"a","securityContext":{"privileged":false}}]}}}`),
		},
		{Actor: "fay", Verb: "create", Resource: "pods", Subresource: "exec", Namespace: "ns", Name: "p1", Command: []string{"sh", "-c", "id"}, Outcome: "success"},
		{
			Actor: "gil", Verb: "create", Resource: "clusterrolebindings", APIGroup: "rbac.authorization.k8s.io", Outcome: "success",
			Raw: []byte(`{"requestObject":{"metadata":{"name":"crb"},"roleRef":{"kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"User","name":"gil"},{"kind":"ServiceAccount","namespace":"ns","name":"sa"}]}}`),
		},
	}
	for i, e := range events {
		e.EventTime, e.ReceivedAt, e.EventID[15], e.Cluster, e.ActorKind = at, at, byte(i+1), "prod", "human"
	}
	in := &inserter{conn: conn, timeout: c.QueryTimeout, metrics: newMetrics(nil)}
	value := values(t, 0, 0, 100, events)[0]
	if err := in.insert(t.Context(), c.Database+".event_rows", "ArrowStream", once(), len(events), bytes.NewReader(value)); err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string]string{
		"SELECT actor, verb, namespace, name, grant_binding, id FROM secret_reads":                            "ann\tget\tns\ts1\tb1\t00000000000000000000000000000001",
		"SELECT actor, verb, resource, requests, last_minute FROM denied_by_actor WHERE resource = 'secrets'": "bob\tlist\tsecrets\t2\t2026-03-01 12:00:00",
		"SELECT actor, resource, object, containers, images, host_network, host_pid, outcome FROM privileged_pods ORDER BY id": strings.Join([]string{
			"eve\tpods\tp1\t['b']\t['i2']\t0\t1\tsuccess", "eve\tdeployments\td1\t['x']\t['i3']\t1\t0\tsuccess",
			"eve\tcronjobs\tc1\t['b']\t['i2']\t0\t0\tdenied", "eve\tpods\tp2\t['dbg']\t['i4']\t0\t0\tsuccess",
		}, "\n"),
		"SELECT actor, kind, pod, command FROM exec_sessions":                                                        "fay\texec\tp1\t['sh','-c','id']",
		"SELECT actor, object, role_kind, role, subjects FROM rbac_changes":                                          "gil\tcrb\tClusterRole\tcluster-admin\t['User gil','ServiceAccount ns/sa']",
		"SELECT minute, actor, requests FROM busiest_actors_per_minute LIMIT 1":                                      "2026-03-01 12:00:00\teve\t5",
		"SELECT sum(events), sum(bytes) > 100, any(source) FROM intake_per_minute":                                   "12\t1\t",
		"SELECT request_object FROM events WHERE name = 'd1' AND JSONHas(request_object, 'spec')":                    string(events[6].Raw[len(`{"requestObject":`) : len(events[6].Raw)-1]),
		"SELECT response_object = '' FROM events WHERE name = 'd1'":                                                  "1",
		"SELECT count() FROM system.columns WHERE database = currentDatabase() AND table = 'events' AND name = 'id'": "1",
	} {
		if got := ask(t, conn, c, "%s", sql); got != want {
			t.Errorf("%s\n got %s\nwant %s", sql, got, want)
		}
	}
}
