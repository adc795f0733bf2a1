package rbac_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/rbac"
	"github.com/auditmill/auditmill/schemas"
)

// large is a cluster of so many bindings: half of them in namespaces, for users, groups and service accounts.
func large(s *context.Store, cluster string, bindings int) {
	r := rand.New(rand.NewPCG(1, uint64(bindings)))
	changes := []context.Change{{From: 1, Complete: []context.Kind{
		context.Role, context.ClusterRole, context.RoleBinding, context.ClusterRoleBinding,
	}}}
	for i := range bindings {
		namespace := ""
		if i%2 == 0 {
			namespace = "n" + strconv.Itoa(i%200)
		}
		subjects := user("user" + strconv.Itoa(r.IntN(bindings)))
		switch i % 3 {
		case 1:
			subjects = account("n"+strconv.Itoa(i%200), "bot"+strconv.Itoa(i%50))
		case 2:
			subjects = group("team" + strconv.Itoa(r.IntN(bindings/10+1)))
		}
		rules := []context.Rule{
			rule("get,list,watch", "", "pods,services,configmaps"), rule("get,list,watch,update", "apps", "deployments"),
			rule("create", "", "pods/exec"), rule("get", "", "secrets", "s"+strconv.Itoa(i%9)),
		}
		changes = append(changes, grant{namespace, "b" + strconv.Itoa(i), subjects, rules}.changes(1)...)
	}
	s.Apply(cluster, changes...)
}

type asked struct {
	user   string
	groups []string
	q      rbac.Request
}

func questions(bindings int) []asked {
	r := rand.New(rand.NewPCG(5, 6))
	all := make([]asked, 4096)
	for i := range all {
		all[i] = asked{
			"user" + strconv.Itoa(r.IntN(bindings)),
			[]string{"team" + strconv.Itoa(r.IntN(bindings/10+1)), "employees", "system:authenticated"},
			rbac.Request{Verb: "get", Resource: "pods", Namespace: "n" + strconv.Itoa(r.IntN(200)), Name: "p" + strconv.Itoa(i)},
		}
	}
	return all
}

// Remembered: the look-up of each event. Changing: as many changes as there are questions, so that nothing is remembered
// for long. New: somebody who never asked before.
func BenchmarkResolve(b *testing.B) {
	const bindings = 10_000
	s := context.NewStore(context.DefaultConfig())
	large(s, "prod", bindings)
	state, all := s.Cluster("prod").Latest(), questions(bindings)
	b.Run("remembered", func(b *testing.B) {
		r := rbac.NewResolver()
		for i := range all {
			r.Resolve(state, all[i].user, all[i].groups, &all[i].q)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			a := &all[i%len(all)]
			r.Resolve(state, a.user, a.groups, &a.q)
		}
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		r := rbac.NewResolver()
		for i := 0; b.Loop(); i++ {
			if i%len(all) == 0 {
				r = rbac.NewResolver()
			}
			a := &all[i%len(all)]
			r.Resolve(state, a.user, a.groups, &a.q)
		}
	})
	b.Run("changing", func(b *testing.B) {
		states := make([]*context.State, 256)
		for i := range states {
			s.Apply("prod", grant{"n1", "x", user("somebody"), []context.Rule{rule("get", "", "pods")}}.changes(int64(2+i))...)
			states[i] = s.Cluster("prod").Latest()
		}
		r := rbac.NewResolver()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			a := &all[i%len(all)]
			r.Resolve(states[(i+i/len(all))%len(states)], a.user, a.groups, &a.q)
		}
	})
	b.Run("standing", func(b *testing.B) {
		r := rbac.NewResolver()
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			a := &all[i%len(all)]
			r.Standing(state, a.user, a.groups)
		}
	})
}

// BenchmarkExplain is all there is to do for the events of the recording.
func BenchmarkExplain(b *testing.B) {
	s := context.NewStore(context.DefaultConfig())
	imported(b, s, "context-before", 0)
	var all []schemas.Event
	events(b, filepath.Join(recordings, "sample.jsonl.gz"), func(_ int, e *schemas.Event) {
		_, _, _ = s.Event("prod", e)
		c := *e
		c.Groups, c.ImpersonatedGroups = append([]string(nil), e.Groups...), append([]string(nil), e.ImpersonatedGroups...)
		c.Raw, c.Annotations, c.Extra, c.SourceIPs = nil, nil, nil, nil
		rbac.Explain(&c, rbac.Parse)
		for _, text := range []*string{
			&c.User, &c.Verb, &c.APIGroup, &c.Resource, &c.Subresource, &c.Namespace, &c.Name, &c.RequestURI, &c.Decision,
			&c.DecisionReason, &c.ImpersonatedUser, &c.ImpersonatedUID, &c.ImpersonationConstraint,
		} {
			*text = string([]byte(*text))
		}
		for i := range c.Groups {
			c.Groups[i] = string([]byte(c.Groups[i]))
		}
		for i := range c.ImpersonatedGroups {
			c.ImpersonatedGroups[i] = string([]byte(c.ImpersonatedGroups[i]))
		}
		c.ImpersonatedExtra = nil
		all = append(all, c)
	})
	r := rbac.NewResolver()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Explain(s.Cluster("prod"), &all[i%len(all)])
	}
}

// BenchmarkFleet holds 1,000 clusters of 500 bindings and 200 service accounts each: bytes/op is what a cluster takes.
// Changes come one by one to clusters in turn.
func BenchmarkFleet(b *testing.B) {
	const clusters = 1000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := context.NewStore(context.DefaultConfig())
	for i := range clusters {
		name := fmt.Sprintf("c%d", i)
		large(s, name, 500)
		var accounts []context.Change
		for j := range 200 {
			accounts = append(accounts, context.Change{
				Key: context.Key{Kind: context.ServiceAccount, Namespace: "n" + strconv.Itoa(j%20), Name: fmt.Sprintf("sa-%d-%d", i, j)}, From: 1,
				Object: &context.Object{Metadata: context.Metadata{UID: fmt.Sprintf("uid-%d-%d", i, j), ResourceVersion: "1"}},
			})
		}
		s.Apply(name, accounts...)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	held := after.HeapAlloc - before.HeapAlloc
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Apply(fmt.Sprintf("c%d", i%clusters), grant{
			"n1", "b" + strconv.Itoa(i/clusters%500), user("somebody"), []context.Rule{rule("get", "", "pods")},
		}.changes(int64(2 + i))[1])
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(held)/(1<<20), "MiB-fleet")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-after")
	runtime.KeepAlive(s)
}

// BenchmarkLookup is what an event costs with 1,000 clusters of 500 bindings each. Of 200,000 subjects each is in groups of
// its own and nearly none is named by a binding. few: 2,000 of them ask all the time, everything is remembered. many: all
// of them ask in turn, more than are remembered. changing: a few ask in one cluster, which changes 10 times in 10,000 events.
// MiB is what the Resolver holds at the end.
func BenchmarkLookup(b *testing.B) {
	const clusters, subjects = 1000, 200_000
	s := context.NewStore(context.DefaultConfig())
	for i := range clusters {
		large(s, fmt.Sprintf("c%d", i), 500)
		s.Apply(fmt.Sprintf("c%d", i), grant{"", "all", group("system:authenticated"), []context.Rule{rule("get", "", "pods")}}.changes(1)...)
	}
	run := func(name string, ask func(i int) (cluster, subject int), change int) {
		b.Run(name, func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			r := rbac.NewResolver()
			names := make([]string, clusters)
			for i := range names {
				names[i] = fmt.Sprintf("c%d", i)
			}
			e := schemas.Event{
				Verb: "get", Resource: "pods", Namespace: "n1", EventTime: at, Decision: "allow", Groups: make([]string, 3),
				DecisionReason: `RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "all" to Group "system:authenticated"`,
			}
			rbac.Explain(&e, rbac.Parse)
			step := func(i int) {
				cluster, subject := ask(i)
				e.User = "user" + strconv.Itoa(subject)
				e.Groups[0], e.Groups[1], e.Groups[2] = "team"+strconv.Itoa(subject%50), "unit"+strconv.Itoa(subject), "system:authenticated"
				e.Name = "p" + strconv.Itoa(i%100)
				if w := r.Explain(s.Cluster(names[cluster]), &e); w.Agreement != rbac.Agree {
					b.Fatalf("%+v", w)
				}
			}
			for i := range 20_000 {
				step(i)
			}
			b.ReportAllocs()
			began := cpuTime(b)
			for i := 0; b.Loop(); i++ {
				if change > 0 && i%change == 0 {
					s.Apply("c7", grant{"n1", "b" + strconv.Itoa(i/change%500), user("somebody"), []context.Rule{rule("get", "", "pods")}}.changes(int64(2 + i))[1])
				}
				step(i)
			}
			b.ReportMetric(float64((cpuTime(b)-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/(1<<20), "MiB")
			runtime.KeepAlive(r)
		})
	}
	run("few", func(i int) (int, int) { return i * 7 % 2000 % clusters, i * 7 % 2000 }, 0)
	run("many", func(i int) (int, int) { return i * 7 % subjects % clusters, i * 7 % subjects }, 0)
	run("changing", func(i int) (int, int) { return 7, i * 7 % 500 }, 1000)
	run("still", func(i int) (int, int) { return 7, i * 7 % 500 }, 0)
}

// BenchmarkFollow is looking for changes in events, nearly all of which have none.
func BenchmarkFollow(b *testing.B) {
	s := context.NewStore(context.DefaultConfig())
	e := schemas.Event{Stage: "ResponseComplete", Code: 200, Verb: "update", Resource: "pods", Subresource: "status"}
	b.ReportAllocs()
	for b.Loop() {
		if _, changed, _ := s.Event("prod", &e); changed {
			b.Fatal("a pod is not followed")
		}
	}
}

// cpuTime is what the process has used, whatever else runs on the machine.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
