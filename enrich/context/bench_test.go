package context_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auditmill/auditmill/enrich/context"
)

const second = int64(time.Second / time.Microsecond)

// began is when the fleet's history begins.
const began = 1_700_000_000 * second

func pod(i, version int, from int64) context.Change {
	return context.Change{
		Key: context.Key{Kind: context.Pod, Namespace: "n" + strconv.Itoa(i%40), Name: "web-7d4b9c6f5-" + strconv.Itoa(i)}, From: from, Source: context.SourceAudit,
		By: "system:node:n" + strconv.Itoa(i%200),
		Object: &context.Object{
			Metadata: context.Metadata{
				UID: fmt.Sprintf("8a08d299-d427-444c-9273-%012d", i), ResourceVersion: strconv.Itoa(1000 + i*8 + version),
				CreationTimestamp: "2023-11-14T22:13:20Z", Owner: &context.Owner{Kind: "ReplicaSet", Name: "web-7d4b9c6f5"},
			},
			Pod: &context.PodInfo{
				Node: "n" + strconv.Itoa(i%200), ServiceAccount: "web",
				IPs: []string{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i + version)}).String()},
			},
		},
	}
}

func binding(i, version int, from int64) context.Change {
	c := context.Change{
		Key: context.Key{Kind: context.RoleBinding, Namespace: "n" + strconv.Itoa(i%40), Name: "binding-" + strconv.Itoa(i)}, From: from, Source: context.SourceAudit,
		By: "alice@example.com",
		Object: &context.Object{
			Metadata: context.Metadata{
				UID: fmt.Sprintf("9b08d299-d427-444c-9273-%012d", i), ResourceVersion: strconv.Itoa(1000 + i + version*1000), CreationTimestamp: "2023-11-14T22:13:20Z",
			},
			RoleRef:  &context.RoleRef{Kind: "ClusterRole", Name: "role-" + strconv.Itoa(i%100)},
			Subjects: []context.Subject{{Kind: "User", Name: "user" + strconv.Itoa(i*7%3000+version)}, {Kind: "Group", Name: "team" + strconv.Itoa(i%50)}},
		},
	}
	return c
}

func person(i int, from int64) context.Change {
	n := strconv.Itoa(i)
	id := "person." + n + "@corp.example"
	return context.Change{
		Key: context.Key{Kind: context.Person, Name: id}, From: from, Source: "import:hr",
		Object: &context.Object{Person: &context.PersonInfo{
			Name: "Person Number " + n, Email: id, Team: "team" + strconv.Itoa(i%400), Manager: "person." + strconv.Itoa(i/10) + "@corp.example", Active: "true",
			Usernames: []string{"oidc:" + id, "oid:8a08d299-d427-444c-9273-" + fmt.Sprintf("%012d", i)},
			Groups:    []string{"team" + strconv.Itoa(i%400), "employees"},
		}},
	}
}

// fleet is 1,000 clusters of 500 bindings, 100 roles, 100 pods and 50 service accounts each, and 200,000 persons.
func fleet(s *context.Store, clusters, persons int) {
	for c := range clusters {
		var changes []context.Change
		for i := range 500 {
			changes = append(changes, binding(i, 0, began+int64(c)))
		}
		for i := range 100 {
			rules := make([]context.Rule, 4)
			for j := range rules {
				rules[j] = context.Rule{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{""}, Resources: []string{"pods", "r" + strconv.Itoa(c*7+i*4+j)}}
			}
			changes = append(changes, context.Change{
				Key: context.Key{Kind: context.ClusterRole, Name: "role-" + strconv.Itoa(i)}, From: began + int64(c), Source: context.SourceAudit,
				Object: &context.Object{Metadata: context.Metadata{UID: fmt.Sprintf("9c08d299-d427-%04d-9273-%012d", c, i), ResourceVersion: "1"}, Rules: rules},
			})
			changes = append(changes, pod(i, 0, began+int64(c)))
		}
		for i := range 50 {
			changes = append(changes, context.Change{
				Key: context.Key{Kind: context.ServiceAccount, Namespace: "n" + strconv.Itoa(i%40), Name: "sa-" + strconv.Itoa(i)}, From: began, Source: context.SourceAudit,
				Object: &context.Object{Metadata: context.Metadata{UID: fmt.Sprintf("9d08d299-d427-%04d-9273-%012d", c, i), ResourceVersion: "1"}},
			})
		}
		s.Apply("c"+strconv.Itoa(c), changes...)
	}
	var changes []context.Change
	for i := range persons {
		changes = append(changes, person(i, began))
	}
	s.Apply(context.Organization, changes...)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkFleet fills a store with 1,000 clusters of 500 bindings and 200,000 persons:
//
//	go test -run '^$' -bench Fleet -benchtime 1x ./enrich/context
func BenchmarkFleet(b *testing.B) {
	for b.Loop() {
		before := heap()
		s := context.NewStore(context.DefaultConfig())
		fleet(s, 1000, 200_000)
		b.ReportMetric(float64(heap()-before)/(1<<20), "MiB")
		runtime.KeepAlive(s)
	}
}

// BenchmarkChanges applies 10,000 changes a second, half of pods and half of bindings, one at a time, a tenth of them up to
// 5 s late, to 1,000 clusters, while 100,000 look-ups a second go on, and says how long these took:
//
//	go test -run '^$' -bench Changes -benchtime 1x ./enrich/context
func BenchmarkChanges(b *testing.B) {
	const clusters, perSecond, seconds = 1000, 10_000, 5
	for b.Loop() {
		config := context.DefaultConfig()
		config.History = 5 * time.Second // so that as much is forgotten as comes
		s := context.NewStore(config)
		fleet(s, clusters, 200_000)
		var stop atomic.Bool
		var late atomic.Int64
		done := make(chan []time.Duration)
		go func() { done <- lookUps(s, &stop, clusters) }()
		r := rand.New(rand.NewPCG(1, 2))
		start, slowest := time.Now(), time.Duration(0)
		for i := range perSecond * seconds {
			if ahead := time.Duration(i)*time.Second/perSecond - time.Since(start); ahead > 0 {
				time.Sleep(ahead)
			} else {
				late.Store(max(late.Load(), int64(-ahead)))
			}
			at := began + second + int64(i)*second/perSecond
			if r.IntN(10) == 0 {
				at -= r.Int64N(5 * second)
			}
			c := "c" + strconv.Itoa(r.IntN(clusters))
			change := pod(i%10_000, i/10_000, at)
			if i%2 == 0 {
				change = binding(r.IntN(500), i, at)
			}
			t := time.Now()
			s.Apply(c, change)
			slowest = max(slowest, time.Since(t))
		}
		took := time.Since(start)
		stop.Store(true)
		all := <-done
		slices.Sort(all)
		b.ReportMetric(perSecond*seconds/took.Seconds(), "changes/s")
		b.ReportMetric(float64(slowest.Microseconds()), "µs-slowest-change")
		b.ReportMetric(float64(late.Load())/1e3, "µs-behind")
		b.ReportMetric(float64(len(all))/took.Seconds(), "look-ups/s")
		for _, p := range []float64{0.5, 0.99, 0.999} {
			b.ReportMetric(float64(all[int(float64(len(all))*p)].Nanoseconds()), fmt.Sprintf("ns-p%g", p*100))
		}
		b.ReportMetric(float64(heap())/(1<<20), "MiB")
		b.Logf("%+v", s.Stats())
	}
}

// lookUps looks everything up that an event needs, 100,000 times a second, and says how long each took.
func lookUps(s *context.Store, stop *atomic.Bool, clusters int) []time.Duration {
	const perSecond, group = 100_000, 100
	all := make([]time.Duration, 0, 2_000_000)
	names, people := make([]string, clusters), make([]string, 1000)
	for i := range names {
		names[i] = "c" + strconv.Itoa(i)
	}
	for i := range people {
		people[i] = "oidc:person." + strconv.Itoa(i) + "@corp.example"
	}
	start := time.Now()
	for i := 0; !stop.Load(); i++ {
		if i%group == 0 {
			if ahead := time.Duration(i)*time.Second/perSecond - time.Since(start); ahead > 0 {
				time.Sleep(ahead)
			}
		}
		t := time.Now()
		lookUp(s, names[i%len(names)], people[i%len(people)], began+5*second)
		all = append(all, time.Since(t))
	}
	return all
}

func lookUp(s *context.Store, cluster, who string, at int64) int {
	n := 0
	c := s.Cluster(cluster)
	if state := c.At(at); state != nil {
		n += len(state.UserBindings("user7"))
	}
	if c.Find(context.Key{Kind: context.Pod, Namespace: "n7", Name: "web-7d4b9c6f5-7"}, at) != nil {
		n++
	}
	if _, ok := c.Address("10.0.0.7", at); ok {
		n++
	}
	if s.Person(cluster, who, at) != nil {
		n++
	}
	if s.Credential(cluster, "JTI=71106c89-dd23-43ed-84c5-6ff60de59b0e") != nil {
		n++
	}
	return n
}

// BenchmarkLookUp is each look-up alone:
//
//	go test -run '^$' -bench LookUp ./enrich/context
func BenchmarkLookUp(b *testing.B) {
	s := context.NewStore(context.DefaultConfig())
	fleet(s, 10, 200_000)
	s.Apply(context.Organization, context.Change{
		Key: context.Key{Kind: context.Range, Name: "10.0.0.0/8"}, From: began, Object: &context.Object{Range: &context.RangeInfo{CIDR: "10.0.0.0/8", Zone: "pods"}},
	})
	c, at, ip := s.Cluster("c7"), began+5*second, netip.MustParseAddr("10.9.8.7")
	for _, tt := range []struct {
		name string
		f    func() bool
	}{
		{"state", func() bool { return c.At(at) != nil }},
		{"find", func() bool {
			return c.Find(context.Key{Kind: context.Pod, Namespace: "n7", Name: "web-7d4b9c6f5-7"}, at) != nil
		}},
		{"address", func() bool { _, ok := c.Address("10.0.0.7", at); return ok }},
		{"person", func() bool { return s.Person("c7", "oidc:person.77@corp.example", at) != nil }},
		{"zone", func() bool { return s.Zone("c7", ip, at) != nil }},
		{"credential", func() bool { return s.Credential("c7", "JTI=71106c89-dd23-43ed-84c5-6ff60de59b0e") == nil }},
	} {
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !tt.f() {
					b.Fatal("not found")
				}
			}
		})
	}
}
