package context_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich/context"
)

// history plays a cluster: events of writes, and what a dump between them would have said.
func history(r *rand.Rand, writes int) (events []event, dump string, dumped int64) {
	revision, at := 0, int64(1_700_000_000_000_000)
	type object struct {
		uid     string
		created int64
		text    string
	}
	live := map[string]*object{}
	text := func(name string, o *object) string {
		const form = `{"kind":"ClusterRoleBinding","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":%q,"uid":%q,"resourceVersion":"%d","creationTimestamp":%q},"roleRef":{"kind":"ClusterRole","name":"view"},"subjects":[{"kind":"Group","name":"g%d"},{"kind":"ServiceAccount","name":"bot","namespace":"n%d"}]}`
		created := time.UnixMicro(o.created).UTC().Format(time.RFC3339)
		return fmt.Sprintf(form, name, o.uid, revision, created, r.IntN(3), r.IntN(3))
	}
	middle := r.IntN(writes)
	for i := range writes {
		revision++
		at += 1 + r.Int64N(3_000_000)
		name := "b" + strconv.Itoa(r.IntN(4))
		e := event{verb: "create", resource: "clusterrolebindings", name: name, at: at}
		switch o := live[name]; {
		case o == nil:
			live[name] = &object{uid: "uid" + strconv.Itoa(i), created: at}
			live[name].text = text(name, live[name])
			e.response = live[name].text
		case r.IntN(3) == 0:
			e.verb, e.response = "delete", fmt.Sprintf(`{"kind":"Status","details":{"uid":%q}}`, o.uid)
			delete(live, name)
		default:
			o.text = text(name, o)
			e.verb, e.response = "update", o.text
		}
		events = append(events, e)
		if i == middle {
			var items []string
			for _, o := range live {
				items = append(items, o.text)
			}
			dump, dumped = `{"kind":"ClusterRoleBindingList","items":[`+strings.Join(items, ",")+`]}`, at+1
		}
	}
	return events, dump, dumped
}

// In whichever order events come, and whenever a dump is imported between them, with its time or with none, from each
// event on everything is as it was.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		events, text, dumped := history(r, 12)
		want := context.NewStore(context.DefaultConfig())
		apply(t, want, events...)
		dump := dumpOf(t, text)
		if r.IntN(2) == 0 {
			dumped = 0
		}
		got := context.NewStore(context.DefaultConfig())
		for n, i := range r.Perm(len(events) + 1) {
			if i == len(events) {
				got.Import(cluster, dump, dumped)
				continue
			}
			apply(t, got, events[i])
			if n%3 == 0 {
				apply(t, got, events[i]) // twice
			}
		}
		for i, e := range events {
			if diff := cmp.Diff(picture(want.Cluster(cluster).At(e.at)), picture(got.Cluster(cluster).At(e.at))); diff != "" {
				t.Fatalf("seed %d after event %d, dump of %d (-in order +in another):\n%s", seed, i, dumped, diff)
			}
		}
	}
}

// What was looked up stays as it is, whatever is written; and both halves of a change are seen, or none.
func TestReadersAndWriter(t *testing.T) {
	s := context.NewStore(context.Config{History: time.Second, MaxVersions: 64})
	pair := func(i, from int64) []context.Change {
		o := &context.Object{
			RoleRef:  &context.RoleRef{Kind: "ClusterRole", Name: "view"},
			Subjects: []context.Subject{{Kind: "User", Name: "u" + strconv.FormatInt(i%7, 10)}},
		}
		a := context.Change{Key: context.Key{Kind: context.ClusterRoleBinding, Name: "a"}, From: from, Object: o, Source: context.SourceAudit}
		b := a
		b.Key.Name = "b"
		return []context.Change{a, b}
	}
	s.Apply(cluster, pair(0, 1)...)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for i := int64(0); ; i++ {
				select {
				case <-done:
					return
				default:
				}
				state := s.Cluster(cluster).Latest()
				if i%2 == 0 {
					state = s.Cluster(cluster).At(state.From() - 5)
				}
				if state == nil {
					continue
				}
				before := picture(state)
				if strings.Count(before, "ClusterRoleBinding a, ClusterRoleBinding b\n") != 1 {
					t.Errorf("half a change: %s", before)
					return
				}
				if after := picture(state); after != before {
					t.Errorf("a state changed from %s to %s", before, after)
					return
				}
			}
		})
	}
	for i := int64(1); i < 3000; i++ {
		at := i * 10
		if i%5 == 0 {
			at -= 35 // late
		}
		s.Apply(cluster, pair(i, at)...)
	}
	close(done)
	readers.Wait()
	if n := s.Cluster(cluster).Versions(); n > 65 {
		t.Errorf("%d versions are kept, the bound is 64", n)
	}
}

func TestHistory(t *testing.T) {
	const second = int64(time.Second / time.Microsecond)
	s := context.NewStore(context.Config{History: 10 * time.Second, MaxVersions: 1 << 10})
	for i := range int64(100) {
		apply(t, s, event{
			verb: "update", resource: "clusterroles", name: "r", at: (100 + i) * second,
			response: role("r", int(i+1), "", "v"+strconv.FormatInt(i, 10)),
		})
	}
	c := s.Cluster(cluster)
	if c.At(150*second) != nil {
		t.Error("states are kept beyond the history")
	}
	for at, want := range map[int64]string{199: "v99", 195: "v95", 189: "v89", 1000: "v99"} {
		if got := verbs(s, "r", at*second); got != want {
			t.Errorf("at %d s: got %q, want %q", at, got, want)
		}
	}
	// A change that is older than the history counts from its beginning, unless it was changed again since.
	apply(t, s,
		event{verb: "create", resource: "clusterroles", name: "late", at: 101 * second, response: role("late", 1, "", "get")},
		event{verb: "update", resource: "clusterroles", name: "r", at: 101 * second, response: role("r", 1, "", "old")})
	if got := verbs(s, "late", 195*second); got != "get" {
		t.Errorf("late: %q", got)
	}
	if got := verbs(s, "r", 195*second); got != "v95" {
		t.Errorf("a late duplicate changed it to %q", got)
	}
}

func TestRemove(t *testing.T) {
	s := context.NewStore(context.DefaultConfig())
	s.Apply("a", context.Change{From: 1, Doubt: true})
	s.Apply("b", context.Change{From: 1, Doubt: true})
	s.Remove("a")
	if diff := cmp.Diff([]string{"b"}, s.Clusters()); diff != "" {
		t.Error(diff)
	}
	if s.Cluster("a").At(5) != nil || s.Cluster("a").Latest() != nil {
		t.Error("a removed cluster is still known")
	}
}
