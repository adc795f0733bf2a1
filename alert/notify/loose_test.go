package notify

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/schemas"
)

// A group can be recorded because it was posted, before the batch that its newest alert came in with is.
func TestRecordOfAGroupNamesWhatItCounts(t *testing.T) {
	s := newStore(DefaultConfig(), []string{DefaultReceiver}, newSilenced())
	first, second := grouped("g", 1, 0), grouped("g", 2, time.Second)
	unmarked := func() (ids []string) {
		err := s.records([]string{first.GroupID}, func(r *kgo.Record) {
			var g Group
			if err := json.Unmarshal(r.Value, &g); err != nil {
				t.Fatal(err)
			}
			ids = g.Unmarked
		})
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	for _, step := range []struct {
		do   func()
		want []string
	}{
		{func() { s.add(&first, []string{DefaultReceiver}, time.Now()) }, []string{first.ID}},
		{func() { s.add(&second, []string{DefaultReceiver}, time.Now()) }, []string{first.ID, second.ID}},
		{func() { s.marked([]string{first.GroupID}) }, nil},
	} {
		step.do()
		if diff := cmp.Diff(step.want, unmarked()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

// Killed after the group was recorded and before its alert was, an instance leaves the alert to be delivered again. The next
// one marks it, since the next record of the group replaces the one that names it.
func TestWhatWasCountedIsMarkedAfterAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		alert := grouped("g", 1, 0)
		left := Group{
			ID: alert.GroupID, Alert: alert, Severity: high, Count: 1, Events: 1,
			Unmarked: []string{alert.ID}, Routes: []string{DefaultReceiver}, UpdatedAt: time.Now(),
		}
		r, err := left.record()
		if err != nil {
			t.Fatal(err)
		}
		w.produceRecords(r)
		i := w.start(w.bot)
		until(t, "an assignment", i.posts)
		w.produce(grouped("g", 2, time.Second), alert)
		until(t, "the copy", func() bool { return i.count("duplicates_total") == 1 })
		i.stop()
		if got := w.group(left.ID); got.Count != 2 {
			t.Errorf("%d alerts are counted, want 2", got.Count)
		}
		if !slices.ContainsFunc(w.read(schemas.TopicNotifications), func(r *kgo.Record) bool { return string(r.Key) == alert.ID }) {
			t.Error("nothing but a record that is replaced says that the alert is counted")
		}
	})
}
