package context_test

import (
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auditmill/auditmill/enrich/context"
)

// A time that cannot be true does not win against all others, nor does it end the history.
func TestImpossibleTimes(t *testing.T) {
	received := time.Now().Add(-time.Minute).UnixMicro()
	year := 366 * 24 * time.Hour.Microseconds()
	for name, at := range map[string]int64{"a year from now": received + year, "1970": 1, "none": 0} {
		t.Run(name, func(t *testing.T) {
			s := context.NewStore(context.DefaultConfig())
			apply(t, s, event{verb: "create", resource: "clusterroles", name: "r", at: received - 10*minute, response: role("r", 1, "", "get")})
			e := event{verb: "update", resource: "clusterroles", name: "r", at: at, response: role("r", 2, "", "list")}.schema()
			e.ReceivedAt = received
			if at == 0 {
				e.EventTime = 0
			}
			if _, _, err := s.Event(cluster, e); err != nil {
				t.Fatal(err)
			}
			apply(t, s, event{verb: "update", resource: "clusterroles", name: "r", at: received + 10*second, response: role("r", 3, "", "watch")})
			for at, want := range map[int64]string{
				received - 10*minute: "get", received - 1: "get", received: "list", received + 10*second: "watch", math.MaxInt64: "watch",
			} {
				if got := verbs(s, "r", at); got != want {
					t.Errorf("%d s after it was received: got %q, want %q", (at-received)/second, got, want)
				}
			}
		})
	}
	// Whoever says something of the future is not followed there.
	s := context.NewStore(context.DefaultConfig())
	s.Apply(cluster, create(boundKey, "a", received-10*minute), create(boundKey, "b", received-5*minute))
	s.Apply(cluster, context.Change{From: received + year, Doubt: true, Source: context.SourceAudit}, create(context.Key{Kind: context.Pod, Namespace: "n", Name: "p"}, "x", received+year))
	s.Apply(cluster, create(boundKey, "c", received))
	for at, want := range map[int64]string{received - 10*minute: "a", received - 1: "b", received: "c"} {
		item := s.Cluster(cluster).Find(boundKey, at)
		if item == nil || item.Object.Metadata.UID != want {
			t.Errorf("at %d: got %+v, want %s", at, item, want)
		}
	}
	// An object of a dump exists, whatever is said of when it was created.
	d := dumpOf(t, `{"kind":"List","items":[`+role("r", 1, `,"creationTimestamp":"2999-01-01T00:00:00Z"`, "get")+`]}`)
	s.Import(cluster, d, received)
	if got := verbs(s, "r", received); got != "get" {
		t.Errorf("an object that is created in the year 2999: %q", got)
	}
}

func create(key context.Key, uid string, at int64) context.Change {
	return context.Change{Key: key, From: at, Source: context.SourceAudit, Object: &context.Object{Metadata: context.Metadata{UID: uid}}}
}

// With a namespace goes all that was in it, and nothing of the next of its name.
func TestNamespaceGoes(t *testing.T) {
	const ns = `{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"n","uid":"%u"%s},"spec":{"finalizers":[%f]}}`
	text := func(uid, meta, finalizers string) string {
		return strings.NewReplacer("%u", uid, "%s", meta, "%f", finalizers).Replace(ns)
	}
	const gone = `,"deletionTimestamp":"2026-11-21T03:00:00Z"`
	s := context.NewStore(context.DefaultConfig())
	in := func(kind context.Kind, namespace string) context.Key {
		return context.Key{Kind: kind, Namespace: namespace, Name: "x"}
	}
	kinds := []context.Kind{context.Role, context.RoleBinding, context.ServiceAccount, context.Pod, context.ReplicaSet, context.Job}
	for _, kind := range kinds {
		s.Apply(cluster, create(in(kind, "n"), "old", 10), create(in(kind, "m"), "other", 10))
	}
	apply(t, s,
		event{verb: "create", resource: "namespaces", name: "n", at: 5, response: text("1", "", `"kubernetes"`)},
		event{verb: "delete", resource: "namespaces", name: "n", at: 20, response: text("1", gone, `"kubernetes"`)},
		event{verb: "update", sub: "finalize", resource: "namespaces", name: "n", at: 30, response: text("1", gone, "")},
		event{verb: "create", resource: "namespaces", name: "n", at: 40, response: text("2", "", `"kubernetes"`)})
	s.Apply(cluster, create(in(context.Role, "n"), "new", 50))
	c := s.Cluster(cluster)
	for _, kind := range kinds {
		if c.Find(in(kind, "n"), 29) == nil {
			t.Errorf("%s went before the namespace did", kind)
		}
		if item := c.Find(in(kind, "n"), 30); item != nil {
			t.Errorf("%s is left: %+v", kind, item)
		}
		if item := c.Find(in(kind, "n"), 60); (item != nil) != (kind == context.Role) {
			t.Errorf("in the namespace that was made again: %s %+v", kind, item)
		}
		if c.Find(in(kind, "m"), 60) == nil {
			t.Errorf("%s of another namespace went too", kind)
		}
	}
	// Said again, the end of the first does not end what is in the second.
	apply(t, s, event{verb: "update", sub: "finalize", resource: "namespaces", name: "n", at: 30, response: text("1", gone, "")})
	if c.Find(in(context.Role, "n"), 60) == nil || c.Find(context.Key{Kind: context.Namespace, Name: "n"}, 60) == nil {
		t.Error("the second namespace went with the first")
	}
}

// What was deleted before its namespace was, is known to be gone since then, also if that is heard of later.
func TestNamespaceWasEmptied(t *testing.T) {
	s := context.NewStore(context.DefaultConfig())
	key := context.Key{Kind: context.RoleBinding, Namespace: "n", Name: "x"}
	s.Apply(cluster, create(key, "u", 10))
	apply(t, s, event{
		verb: "update", sub: "finalize", resource: "namespaces", name: "n", at: 30,
		response: `{"kind":"Namespace","metadata":{"name":"n","uid":"1","deletionTimestamp":"2026-11-21T03:00:00Z"},"spec":{}}`,
	})
	s.Apply(cluster, context.Change{Key: key, From: 20, UID: "u", Source: context.SourceAudit})
	c := s.Cluster(cluster)
	if c.Find(key, 19) == nil || c.Find(key, 20) != nil {
		t.Errorf("it is there until %+v, %+v", c.Find(key, 19), c.Find(key, 20))
	}
	if since := c.At(40).RBACFrom(); since != 20 {
		t.Errorf("the state is of %d, want 20", since)
	}
}

// What was only tried deleted nothing; what a selector selected is not guessed.
func TestDeletionsThatMayBeNone(t *testing.T) {
	const tried = `{"kind":"DeleteOptions","apiVersion":"v1","dryRun":["All"]}`
	for _, tt := range []struct {
		name string
		e    event
		want string
	}{
		{"tried", event{verb: "delete", name: "r", request: tried}, "get"},
		{"all, tried", event{verb: "deletecollection", request: tried}, "get"},
		{"not tried", event{verb: "delete", name: "r", request: `{"dryRun":[]}`, response: `{"kind":"Status","status":"Success","details":{"uid":"uid-r"}}`}, "-"},
		{"by a label", event{verb: "deletecollection", query: "labelSelector=a%3Db"}, "get ?"},
		{"by a field", event{verb: "deletecollection", query: "fieldSelector=metadata.name%3Dq"}, "get ?"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := context.NewStore(context.DefaultConfig())
			apply(t, s, event{verb: "create", resource: "clusterroles", name: "r", at: 10, response: role("r", 1, "", "get")})
			tt.e.resource, tt.e.at = "clusterroles", 20
			_, _, err := s.Event(cluster, tt.e.schema())
			if (err != nil) != (tt.e.query != "") {
				t.Errorf("got %v", err)
			}
			if got := verbs(s, "r", 20); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// A cluster that is removed while something is said of it begins anew; what is held is counted right.
func TestRemoveAndGoOn(t *testing.T) {
	s := context.NewStore(context.DefaultConfig())
	for i := range int64(10) {
		s.Apply(cluster, create(boundKey, "u", 10+i), create(context.Key{Kind: context.Pod, Namespace: "n", Name: "p"}, "u", 10+i))
	}
	s.Apply(cluster, context.Change{Key: boundKey, From: 100, UID: "u", Source: context.SourceAudit})
	s.Remove(cluster)
	if st := s.Stats(); st != (context.Stats{}) {
		t.Errorf("after the removal: %+v", st)
	}
	// Neither what it was nor that it was deleted stands in the way of what is said then.
	s.Apply(cluster, create(boundKey, "u", 20))
	if item := s.Cluster(cluster).Find(boundKey, 200); item == nil || item.From != 20 {
		t.Errorf("got %+v", item)
	}
	var writers sync.WaitGroup
	for w := range int64(4) {
		writers.Go(func() {
			for i := range int64(200) {
				s.Apply(cluster, create(boundKey, "u", w*1000+i), create(context.Key{Kind: context.Pod, Namespace: "n", Name: "p"}, "u", w*1000+i))
				if i%20 == w {
					s.Remove(cluster)
				}
			}
		})
	}
	writers.Wait()
	if st := s.Stats(); st.States != s.Cluster(cluster).Versions() {
		t.Errorf("%+v, of %d states", st, s.Cluster(cluster).Versions())
	}
	s.Remove(cluster)
	if st := s.Stats(); st != (context.Stats{}) {
		t.Errorf("at the end: %+v", st)
	}
}
