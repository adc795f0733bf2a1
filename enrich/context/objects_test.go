package context_test

import (
	"math"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/schemas"
)

// podJSON is a pod as the API server answers.
func podJSON(revision int, node, ip, more string) string {
	return `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","namespace":"n","uid":"u","resourceVersion":"` + strconv.Itoa(revision) + `"` +
		more + `,"ownerReferences":[{"kind":"Other","name":"x"},{"kind":"ReplicaSet","name":"rs","controller":true}]},"spec":{"nodeName":"` + node +
		`","serviceAccountName":"sa","containers":[]},"status":{"phase":"Running","podIP":"` + ip + `","podIPs":[{"ip":"` + ip + `"}]}}`
}

// podEvent is an event of a request for the pod n/p.
func podEvent(verb, sub string, at int64, request, response string) *schemas.Event {
	e := event{verb: verb, resource: "pods", namespace: "n", name: "p", sub: sub, at: at, request: request, response: response}.schema()
	e.APIGroup, e.Actor, e.User = "", "prod/someone", "someone"
	return e
}

func TestPods(t *testing.T) {
	const terminating = `,"deletionTimestamp":"2026-11-21T03:00:00Z","deletionGracePeriodSeconds":`
	create := podEvent("create", "", 10, "", strings.Replace(podJSON(1, "", "", ""), `"podIP":"","podIPs":[{"ip":""}]`, `"conditions":[]`, 1))
	bind := podEvent("create", "binding", 20, `{"kind":"Binding","target":{"kind":"Node","name":"w1"}}`, `{"kind":"Status","status":"Success"}`)
	run := podEvent("patch", "status", 30, `{}`, podJSON(3, "w1", "10.0.0.5", ""))
	byNode := podEvent("delete", "", 50, "", "")
	byNode.User = "system:node:w1"
	for _, tt := range []struct {
		name   string
		events []*schemas.Event
		at     int64
		want   string // node ip, "-" if there is none, "?" if it is stale
	}{
		{"created", []*schemas.Event{create}, 10, "  ReplicaSet/rs"},
		{"before", []*schemas.Event{create}, 9, "-"},
		{"bound", []*schemas.Event{create, bind}, 20, "w1  ReplicaSet/rs"},
		{"bound, of which no more is known", []*schemas.Event{bind}, 20, "?"},
		{"running", []*schemas.Event{create, bind, run}, 30, "w1 10.0.0.5 ReplicaSet/rs"},
		{"running, in another order", []*schemas.Event{run, bind, create, bind}, 29, "w1  ReplicaSet/rs"},
		{"running, by the request", []*schemas.Event{
			create, bind, podEvent("patch", "status", 30, `{"status":{"podIPs":[{"ip":"10.0.0.5"}],"podIP":"10.0.0.5","phase":"Running"}}`, ""),
		}, 30, "w1 10.0.0.5 ReplicaSet/rs"},
		{"status of which nothing is known", []*schemas.Event{create, bind, podEvent("patch", "status", 30, "", "")}, 30, "w1  ReplicaSet/rs"},
		{"changed in a way that is not known", []*schemas.Event{create, podEvent("update", "", 30, "", "")}, 30, "?"},
		{"evicted", []*schemas.Event{create, bind, run, podEvent("create", "eviction", 40, "{}", "{}")}, 40, "w1 10.0.0.5 ReplicaSet/rs"},
		{"terminating", []*schemas.Event{
			create, bind, run, podEvent("delete", "", 40, "", podJSON(4, "w1", "10.0.0.5", terminating+`30`)),
		}, 40, "w1 10.0.0.5 ReplicaSet/rs"},
		{"gone", []*schemas.Event{
			create, bind, run, podEvent("delete", "", 40, "", podJSON(4, "w1", "10.0.0.5", terminating+`30`)),
			podEvent("delete", "", 50, "", podJSON(5, "w1", "10.0.0.5", terminating+`0`)),
		}, 50, "-"},
		{"asked to go", []*schemas.Event{create, run, podEvent("delete", "", 40, "", "")}, 40, "?"},
		{"gone, says its node", []*schemas.Event{create, run, byNode}, 50, "-"},
		{"gone by force", []*schemas.Event{create, run, podEvent("delete", "", 40, `{"gracePeriodSeconds":0}`, "")}, 40, "-"},
		{"all asked to go", []*schemas.Event{
			create, run, podEvent("deletecollection", "", 40, "", `{"kind":"PodList","items":[`+podJSON(3, "w1", "10.0.0.5", "")+`]}`),
		}, 40, "w1 10.0.0.5 ReplicaSet/rs"},
		{"all gone, one that never ran", []*schemas.Event{
			create, podEvent("deletecollection", "", 40, "", `{"kind":"PodList","items":[`+podJSON(1, "", "", "")+`]}`),
		}, 40, "-"},
		{"ended", []*schemas.Event{
			create, run, podEvent("patch", "status", 40, "", strings.Replace(podJSON(4, "w1", "10.0.0.5", ""), "Running", "Succeeded", 1)),
		}, 40, "w1  ReplicaSet/rs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := context.NewStore(context.DefaultConfig())
			for _, e := range tt.events {
				if _, _, err := s.Event(cluster, e); err != nil {
					t.Error(err)
				}
			}
			item := s.Cluster(cluster).Find(context.Key{Kind: context.Pod, Namespace: "n", Name: "p"}, tt.at)
			got := "-"
			switch {
			case item == nil:
			case item.Stale:
				got = "?"
			default:
				p := item.Object.Pod
				got = p.Node + " " + strings.Join(p.IPs, ",") + " " + item.Object.Metadata.Owner.Kind + "/" + item.Object.Metadata.Owner.Name
				if item.By != "prod/someone" || p.ServiceAccount != "sa" {
					t.Errorf("got %+v of %+v", p, item)
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if s.Cluster(cluster).Versions() != 0 {
				t.Error("a pod makes a state")
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	config := context.DefaultConfig()
	config.History, config.MaxCredentials = time.Hour, 3
	s := context.NewStore(config)
	token := func(id string, at int64, request, response string) {
		e := event{verb: "create", resource: "serviceaccounts", namespace: "ci", name: "deployer", sub: "token", at: at, request: request, response: response}.schema()
		e.IssuedCredentialID, e.Actor = "JTI="+id, "alice@example.com"
		if _, _, err := s.Event(cluster, e); err != nil {
			t.Error(err)
		}
	}
	token("a", began, "", "")
	token("b", began, `{"spec":{"expirationSeconds":600}}`, "")
	token("c", began, "", `{"status":{"expirationTimestamp":"2023-11-14T22:20:00Z"}}`)
	for id, expires := range map[string]int64{"a": 0, "b": began + 600*second, "c": began + 400*second} {
		item := s.Credential(cluster, "JTI="+id)
		want := &context.CredentialInfo{By: "alice@example.com", Subject: "system:serviceaccount:ci:deployer", Expires: expires}
		if item == nil || item.From != began || cmp.Diff(want, item.Object.Credential) != "" {
			t.Fatalf("%s: got %+v", id, item)
		}
	}
	if s.Credential("other", "JTI=a") != nil || s.Credential(cluster, "JTI=x") != nil {
		t.Error("what was not issued is known")
	}
	token("d", began+second, "", "")
	if s.Credential(cluster, "JTI=c") != nil || s.Credential(cluster, "JTI=d") == nil {
		t.Error("of too many not the one that expires first is forgotten")
	}
	token("e", began+7200*second, "", "")
	if st := s.Stats(); s.Credential(cluster, "JTI=b") != nil || st.Expired != 1 || st.Dropped != 1 || st.Credentials != 3 {
		t.Errorf("after it expired: %+v", st)
	}
}

// The certificates of the recording are those that its nodes and users have.
func TestCertificates(t *testing.T) {
	s, used := context.NewStore(context.DefaultConfig()), 0
	recorded(t, "recording.jsonl.gz", func(line int, e *schemas.Event) {
		if e.Resource == "certificatesigningrequests" {
			if _, _, err := s.Event(cluster, e); err != nil {
				t.Errorf("line %d: %v", line, err)
			}
		}
		if item := s.Credential(cluster, e.CredentialID); item != nil {
			used++
			if c := item.Object.Credential; c.Subject != e.User || c.By == "" || c.Expires < e.EventTime {
				t.Errorf("line %d: %s uses %+v", line, e.User, c)
			}
		}
	})
	t.Logf("%d issued, used %d times", s.Stats().Credentials, used)
	if s.Stats().Credentials == 0 {
		t.Error("no certificate was found")
	}
}

func TestAddresses(t *testing.T) {
	s := context.NewStore(context.DefaultConfig())
	node := func(name, ip, cidr string, from int64) context.Change {
		return context.Change{Key: context.Key{Kind: context.Node, Name: name}, From: from, Source: context.SourceWatch, Object: &context.Object{
			Node: &context.NodeInfo{Addresses: []string{ip}, PodCIDRs: []string{cidr}},
		}}
	}
	pod := func(name, node, ip string, host bool, from int64) context.Change {
		return context.Change{Key: context.Key{Kind: context.Pod, Namespace: "n", Name: name}, From: from, Source: context.SourceWatch, Object: &context.Object{
			Pod: &context.PodInfo{Node: node, IPs: []string{ip}, HostNetwork: host},
		}}
	}
	s.Apply(cluster, node("w1", "192.0.2.1", "10.0.1.0/24", 10), node("w2", "192.0.2.2", "fd00:1::/64", 10),
		pod("a", "w1", "10.0.1.5", false, 20), pod("b", "w1", "10.0.1.5", false, 30), pod("h", "w1", "192.0.2.1", true, 20))
	s.Apply(cluster, context.Change{Key: context.Key{Kind: context.Pod, Namespace: "n", Name: "a"}, From: 40, Source: context.SourceWatch})
	s.Apply(cluster, context.Change{Key: context.Key{Kind: context.Pod, Namespace: "n", Name: "b"}, From: 50, Stale: true, Source: context.SourceAudit})
	for _, tt := range []struct {
		ip   string
		at   int64
		want string
	}{
		{"192.0.2.1", 9, ""},
		{"192.0.2.1", 25, "w1"},
		{"::ffff:192.0.2.1", 25, "w1"},
		{"10.0.1.5", 15, "w1"},
		{"10.0.1.5", 25, "w1 a"},
		{"10.0.1.5", 35, "w1 b"}, // it has it since
		{"10.0.1.5", 45, "w1 b"},
		{"10.0.1.5", 55, ""},
		{"10.0.2.5", 25, ""},
		{"fd00:1::7", 25, "w2"},
		{"fd00:2::7", 25, ""},
		{"no address", 25, ""},
	} {
		a, ok := s.Cluster(cluster).Address(tt.ip, tt.at)
		if got := strings.TrimSpace(a.Node + " " + a.Pod.Name); got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s at %d: got %q %t, want %q", tt.ip, tt.at, got, ok, tt.want)
		}
	}
	if _, ok := s.Cluster("other").Address("192.0.2.1", 25); ok {
		t.Error("a cluster of which nothing is known has a node")
	}
}

func TestPersons(t *testing.T) {
	s := context.NewStore(context.DefaultConfig())
	person := func(id string, from int64, names ...string) context.Change {
		return context.Change{Key: context.Key{Kind: context.Person, Name: id}, From: from, Source: "import:hr", Object: &context.Object{
			Person: &context.PersonInfo{Email: id, Usernames: names},
		}}
	}
	s.Apply(context.Organization,
		person("alice@corp.example", 10, "oidc:alice", "cluster/prod/kubernetes-admin", "system:admin", "shared"),
		person("bob@corp.example", 10, "Bob.B@corp.example", "shared", "cluster/prod/system:node:bob", "cluster/x/y"),
		person("alice@corp.example", 20, "oidc:alice2"))
	for _, tt := range []struct {
		cluster, username string
		at                int64
		want              string
	}{
		{"prod", "oidc:alice", 15, "alice@corp.example"},
		{"test", "oidc:alice", 15, "alice@corp.example"},
		{"prod", "oidc:alice", 9, ""},
		{"prod", "oidc:alice", 20, ""},
		{"prod", "oidc:alice2", 20, "alice@corp.example"},
		{"prod", "oidc:alice2", 19, ""},
		{"prod", "kubernetes-admin", 15, "alice@corp.example"},
		{"test", "kubernetes-admin", 15, ""},
		{"prod", "system:admin", 15, ""},
		{"prod", "system:node:bob", 15, "bob@corp.example"},
		{"test", "system:node:bob", 15, ""},
		{"prod", "shared", 15, ""},
		{"prod", "shared", 25, "bob@corp.example"},
		{"prod", "ALICE@corp.example", 15, "alice@corp.example"},
		{"prod", "bob.b@corp.example", 15, "bob@corp.example"},
		{"prod", "OIDC:alice", 15, ""},
		{"evil", "cluster/x/y", 15, ""},
		{"x", "y", 15, "bob@corp.example"},
		{"prod", "", 15, ""},
	} {
		got := ""
		if item := s.Person(tt.cluster, tt.username, tt.at); item != nil {
			got = item.Key.Name
		}
		if got != tt.want {
			t.Errorf("%s in %s at %d: got %q, want %q", tt.username, tt.cluster, tt.at, got, tt.want)
		}
	}
}

func TestZones(t *testing.T) {
	s := context.NewStore(context.DefaultConfig())
	for _, r := range []context.RangeInfo{
		{CIDR: "10.0.0.0/8", Zone: "inside"},
		{CIDR: "10.1.0.0/16", Zone: "office"},
		{CIDR: "10.1.0.0/16", Zone: "pods", Cluster: "prod"},
		{CIDR: "192.0.2.7", Zone: "bastion"},
		{CIDR: "2001:db8::/32", Zone: "six"},
	} {
		name := strings.TrimPrefix(r.Cluster+"/"+r.CIDR, "/")
		s.Apply(context.Organization, context.Change{
			Key: context.Key{Kind: context.Range, Name: name}, From: 10, Source: "import:ranges", Object: &context.Object{Range: &r},
		})
	}
	for _, tt := range []struct{ cluster, ip, want string }{
		{"prod", "10.1.2.3", "pods"},
		{"test", "10.1.2.3", "office"},
		{"prod", "10.2.2.3", "inside"},
		{"prod", "192.0.2.7", "bastion"},
		{"prod", "192.0.2.8", ""},
		{"prod", "2001:db8::1", "six"},
		{"prod", "::ffff:10.2.2.3", "inside"},
	} {
		got := ""
		if item := s.Zone(tt.cluster, netip.MustParseAddr(tt.ip), 15); item != nil {
			got = item.Object.Range.Zone
		}
		if got != tt.want {
			t.Errorf("%s in %s: got %q, want %q", tt.ip, tt.cluster, got, tt.want)
		}
	}
	if s.Zone("prod", netip.MustParseAddr("10.1.2.3"), 9) != nil {
		t.Error("known before it was said")
	}
}

// A watch that was away finds what changed, not when: nothing is said for certain of the time between.
func TestAway(t *testing.T) {
	bound := func(name, uid string, revision int) *context.Object {
		return &context.Object{
			Metadata: context.Metadata{UID: uid, ResourceVersion: strconv.Itoa(revision)}, RoleRef: &context.RoleRef{Kind: "ClusterRole", Name: name},
			Subjects: []context.Subject{{Kind: "User", Name: "u"}},
		}
	}
	key := func(name string) context.Key { return context.Key{Kind: context.ClusterRoleBinding, Name: name} }
	all := []context.Kind{context.Role, context.ClusterRole, context.RoleBinding, context.ClusterRoleBinding}
	s := context.NewStore(context.DefaultConfig())
	watch := func(name string, from, seen int64, o *context.Object) context.Change {
		return context.Change{Key: key(name), From: from, Seen: seen, Object: o, Source: context.SourceWatch}
	}
	s.Apply(cluster, watch("gone", 10, 0, bound("a", "1", 1)), watch("changed", 10, 0, bound("a", "2", 2)), watch("same", 10, 0, bound("a", "3", 3)),
		context.Change{From: 10, Complete: all, Source: context.SourceWatch})
	gone := watch("gone", 100, 50, nil)
	gone.UID = "1"
	s.Apply(cluster, gone, watch("changed", 100, 50, bound("b", "2", 9)), watch("new", 100, 50, bound("b", "4", 10)),
		context.Change{From: 100, Seen: 50, Complete: all, Source: context.SourceWatch})
	// The stream knows of one, late.
	s.Apply(cluster, context.Change{Key: key("changed"), From: 70, Object: bound("b", "2", 9), Source: context.SourceAudit})
	for _, tt := range []struct {
		name string
		at   int64
		want string
	}{
		{"gone", 49, "a"},
		{"gone", 50, "?"},
		{"gone", 99, "?"},
		{"gone", 100, "-"},
		{"changed", 60, "a"},
		{"changed", 70, "b"},
		{"same", 70, "a"},
		{"new", 49, "-"},
		{"new", 60, "?"},
		{"new", 100, "b"},
	} {
		got := "-"
		if item := s.Cluster(cluster).Find(key(tt.name), tt.at); item != nil && item.Stale {
			got = "?"
		} else if item != nil {
			got = item.Object.RoleRef.Name
		}
		if got != tt.want {
			t.Errorf("%s at %d: got %q, want %q", tt.name, tt.at, got, tt.want)
		}
	}
	for at, want := range map[int64]bool{49: false, 50: true, 99: true, 100: false} {
		if got := s.Cluster(cluster).At(at).Doubtful(); got != want {
			t.Errorf("doubtful at %d: %t", at, got)
		}
	}
}

// Of a removed cluster nothing is known from then on, until something is said that is later.
func TestRemoved(t *testing.T) {
	s := context.NewStore(context.DefaultConfig())
	say := func(kind context.Kind, name string, from int64) context.Change {
		return context.Change{Key: context.Key{Kind: kind, Name: name}, From: from, Object: &context.Object{}, Source: context.SourceAudit}
	}
	removed := context.Change{From: 50, Removed: true, Source: "context remove"}
	s.Apply(cluster, say(context.ClusterRole, "r", 10), say(context.Namespace, "n", 10), context.Change{From: 10, Complete: []context.Kind{context.ClusterRole}})
	if since, changed := s.Apply(cluster, removed); since != 50 || !changed {
		t.Errorf("removed: %d %t", since, changed)
	}
	s.Apply(cluster, say(context.ClusterRole, "late", 20), say(context.Namespace, "late", 20))
	c := s.Cluster(cluster)
	for name, kind := range map[string]context.Kind{"r": context.ClusterRole, "n": context.Namespace, "late": context.Namespace} {
		k := context.Key{Kind: kind, Name: name}
		if c.Find(k, 49) == nil || c.Find(k, 50) != nil || c.Find(k, math.MaxInt64) != nil {
			t.Errorf("%s: %v %v", k, c.Find(k, 49), c.Find(k, 50))
		}
	}
	if c.At(49) == nil || c.At(50) != nil || c.Latest() != nil || c.Complete(context.ClusterRole, 60) {
		t.Error("something is known of a removed cluster")
	}
	s.Apply(cluster, say(context.ClusterRole, "again", 60))
	if state := c.At(60); state == nil || state.Len() != 1 || state.CompleteRBAC() || c.At(59) != nil {
		t.Errorf("after something new: %+v", state)
	}
	if _, changed := s.Apply(cluster, removed); changed {
		t.Error("removed twice")
	}
}

// What is said of long ago does not bring back what was deleted since.
func TestGraves(t *testing.T) {
	config := context.DefaultConfig()
	config.History = 10 * time.Second
	s := context.NewStore(config)
	create := func(kind context.Kind, i int64) context.Change {
		return context.Change{
			Key: context.Key{Kind: kind, Name: "x" + strconv.FormatInt(i, 10)}, From: began + i*second, Source: context.SourceAudit,
			Object: &context.Object{Metadata: context.Metadata{UID: "u" + strconv.FormatInt(i, 10), ResourceVersion: strconv.FormatInt(i+1, 10)}},
		}
	}
	gone := func(c context.Change) context.Change {
		return context.Change{Key: c.Key, From: c.From + second, UID: c.Object.Metadata.UID, Source: context.SourceAudit}
	}
	for _, kind := range []context.Kind{context.Namespace, context.ClusterRole} {
		for i := range int64(100) {
			c := create(kind, i)
			s.Apply(cluster, c, gone(c))
		}
		if n := s.Stats().Objects; n > 30 {
			t.Errorf("%d versions are kept of what is gone", n)
		}
		old := create(kind, 3)
		if _, changed := s.Apply(cluster, old); changed || s.Cluster(cluster).Find(old.Key, math.MaxInt64) != nil {
			t.Errorf("%s is back", old.Key)
		}
		if again, ok := s.Later(cluster, &old); !ok || again.Object != nil || again.From != old.From+second {
			t.Errorf("the topic says that it is back: %+v", again)
		}
	}
}

// More than the bounds allow is forgotten, the oldest first, and then not taken for all there is.
func TestBounds(t *testing.T) {
	config := context.DefaultConfig()
	config.MaxObjects = 100
	s := context.NewStore(config)
	s.Apply(cluster, context.Change{From: began, Complete: []context.Kind{context.Pod}, Source: context.SourceWatch})
	for v := range 4 {
		for i := range 50 {
			s.Apply(cluster, pod(i, v, began+int64(v*50+i)*second))
		}
	}
	c := s.Cluster(cluster)
	if st := s.Stats(); st.Objects > 112 || st.Dropped == 0 {
		t.Errorf("%+v", st)
	}
	if n := len(slicesOf(c, context.Pod)); n != 50 || !c.Complete(context.Pod, math.MaxInt64) {
		t.Errorf("%d pods are left of 50", n)
	}
	for i := range 200 {
		s.Apply(cluster, pod(1000+i, 0, began+int64(300+i)*second))
	}
	if st := s.Stats(); st.Objects > 113 || c.Complete(context.Pod, math.MaxInt64) {
		t.Errorf("%+v", st)
	}
}

func slicesOf(c *context.Cluster, kind context.Kind) (all []string) {
	for item := range c.Objects(kind, math.MaxInt64) {
		all = append(all, item.Key.String())
	}
	return all
}

func FuzzParseTombstone(f *testing.F) {
	f.Add("c/Role/n/r", "c", "12", "uid")
	f.Add("c/Role//r", "c", "-1", "")
	f.Add("c/Credential//JTI=a/b", "c", "1", "")
	f.Fuzz(func(t *testing.T, key, name, from, uid string) {
		cluster, c, err := context.ParseTombstone(key, []schemas.KeyValue{
			{Key: "cluster", Value: name}, {Key: "valid_from", Value: from}, {Key: "uid", Value: uid}, {Key: "other", Value: key},
		})
		if err != nil {
			return
		}
		headers, ok := context.Tombstone(cluster, &c)
		if !ok || context.RecordKey(cluster, &c) != key {
			t.Fatalf("%q became %+v", key, c)
		}
		again, twice, err := context.ParseTombstone(key, headers)
		if err != nil || again != cluster || cmp.Diff(c, twice) != "" {
			t.Fatalf("%+v became %+v (%v)", c, twice, err)
		}
	})
}

func FuzzReadObject(f *testing.F) {
	f.Add(uint8(context.Pod), []byte(podJSON(1, "w", "10.0.0.1", "")))
	f.Add(uint8(context.ClusterRole), []byte(role("r", 1, "", "get")))
	f.Add(uint8(context.Node), []byte(`{"metadata":{"name":"n"},"spec":{"podCIDR":"10.0.0.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"}]}}`))
	f.Add(uint8(context.Person), []byte(`{"metadata":{"name":"p"},"person":{"email":"a@b.c","usernames":["x"]}}`))
	f.Fuzz(func(t *testing.T, kind uint8, text []byte) {
		k := context.Kind(kind%14 + 1)
		key, o, err := context.ReadObject(k, text)
		if err != nil {
			return
		}
		c := context.Change{Key: key, From: 1, Object: o, Source: "x"}
		record, err := context.AppendRecord(nil, "c", &c)
		if err != nil {
			t.Fatal(err)
		}
		if _, again, err := context.ParseRecord(record); err != nil || content(again.Object) != content(o) {
			t.Fatalf("%s became %s (%v)", content(o), content(again.Object), err)
		}
	})
}
