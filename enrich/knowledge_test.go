package enrich

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	clusters "github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/feed"
)

// Whoever asks what became known since some change is told of each cluster that anything did, and since no later: however long
// ago that was.
func TestKnowledgeForgetsNothing(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	k := newKnowledge(clusters.NewStore(clusters.DefaultConfig()))
	const changes = (maxEras + 10) * eraLong
	type change struct {
		cluster string
		since   int64
	}
	all := make([]change, changes)
	for i := range all {
		all[i] = change{"c" + strconv.Itoa(random.IntN(20)), int64(i) + random.Int64N(1000)}
		if i < eraLong {
			all[i].cluster = "old" // nothing is said of it later
		}
		a := feed.Applied{Cluster: all[i].cluster, Since: all[i].since}
		if i%2 == 0 {
			k.read(a)
		} else {
			k.learned(a)
		}
	}
	for _, n := range []int{0, 1, eraLong - 1, eraLong, 12*eraLong + 5, changes - maxLate - eraLong, changes - maxLate, changes - 10, changes} {
		since := map[string]int64{}
		for _, c := range all[n:] {
			if s, ok := since[c.cluster]; !ok || c.since < s {
				since[c.cluster] = c.since
			}
		}
		told, upTo := k.after(uint64(n))
		if upTo != changes {
			t.Errorf("after %d: up to %d, want %d", n, upTo, changes)
		}
		have := map[string]int64{}
		for _, l := range told {
			if s, ok := have[l.cluster]; !ok || l.since < s {
				have[l.cluster] = l.since
			}
		}
		for cluster, want := range since {
			if got, ok := have[cluster]; !ok || got > want {
				t.Errorf("after %d: %s since %d, %v, want %d", n, cluster, got, ok, want)
			}
		}
		// What is one by one is told as it is.
		if n >= changes-maxLate && len(told) != changes-n {
			t.Errorf("after %d: %d changes", n, len(told))
		}
	}
	if n := len(k.unsettled(settlement{time: time.Now().Add(-time.Hour)})); n == 0 {
		t.Error("what was learned within an hour is settled an hour ago")
	}
	if n := len(k.unsettled(settlement{time: time.Now().Add(time.Hour)})); n != 0 {
		t.Errorf("%d changes are not settled in an hour", n)
	}
}
