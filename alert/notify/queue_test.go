package notify

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

func queued(t *testing.T, q *queue, partition int32, offset int64, severity string) {
	t.Helper()
	r := &kgo.Record{Topic: "t", Partition: partition, Offset: offset}
	if !q.add(r, Message{ID: fmt.Sprint(partition, "/", offset), Severity: severity}) {
		t.Fatalf("partition %d is not assigned", partition)
	}
}

func TestQueueOrderAndCommits(t *testing.T) {
	q := newQueue(10)
	q.assign("t", []int32{0, 1})
	queued(t, q, 0, 10, low)
	queued(t, q, 0, 12, critical) // 11 was compacted away
	queued(t, q, 1, 5, high)
	queued(t, q, 0, 13, critical)
	var got []string
	for {
		it := q.take(1, time.Time{})
		if it == nil {
			break
		}
		offsets, moved := q.done(it)
		got = append(got, fmt.Sprint(it.message.ID, " ", moved, " ", offsets["t"][it.owner.id].Offset))
	}
	want := []string{"0/12 false 0", "0/13 false 0", "1/5 true 6", "0/10 true 14"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if q.len() != 0 {
		t.Errorf("%d alerts are left", q.len())
	}
	if offsets, moved := q.skip(&kgo.Record{Topic: "t", Partition: 0, Offset: 20}); !moved || offsets["t"][0].Offset != 21 {
		t.Errorf("got %v, %v after a record that needs no post", offsets, moved)
	}
}

func TestQueueDemotesWhatFails(t *testing.T) {
	q := newQueue(10)
	q.assign("t", []int32{0})
	queued(t, q, 0, 1, critical)
	queued(t, q, 0, 2, low)
	for range demoteAfter {
		it := q.take(1, time.Time{})
		if it.message.Severity != critical {
			t.Fatalf("got %s before the alert failed %d times", it.message.Severity, demoteAfter)
		}
		it.failures++
		q.release(it)
	}
	if it := q.take(1, time.Time{}); it.message.Severity != low {
		t.Errorf("the alert that fails still goes first")
	}
}

func TestQueueAcrossAssignments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(10)
		q.assign("t", []int32{0, 1})
		queued(t, q, 0, 1, high)
		queued(t, q, 0, 2, low)
		queued(t, q, 1, 1, low)
		it := q.take(1, time.Time{})
		q.assign("t", []int32{2})
		if q.take(1, time.Time{}) != nil {
			t.Error("an alert was given out before the past of a new partition is known")
		}
		revoked := make(chan struct{})
		go func() {
			q.revoke(t.Context(), []int32{0})
			close(revoked)
		}()
		synctest.Wait()
		select {
		case <-revoked:
			t.Error("a partition was given away with an alert on its way")
		default:
		}
		if _, moved := q.done(it); !moved {
			t.Error("what was posted before the partition went cannot be committed")
		}
		<-revoked
		if q.len() != 1 || q.add(&kgo.Record{Topic: "t", Partition: 0, Offset: 3}, Message{}) {
			t.Errorf("%d alerts are left, want that of partition 1, and no more of partition 0", q.len())
		}
		it = q.take(2, time.Time{})
		q.lose([]int32{1})
		q.release(it)
		if q.len() != 0 {
			t.Errorf("%d alerts of a lost partition are left", q.len())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := q.next(ctx, 2); err == nil {
			t.Error("an empty queue gave something")
		}
	})
}

func TestQueueRevokeGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(10)
		q.assign("t", []int32{0})
		queued(t, q, 0, 1, high)
		it := q.take(1, time.Time{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		q.revoke(ctx, []int32{0})
		if _, moved := q.done(it); moved || q.len() != 0 {
			t.Error("a partition that is lost must not be committed")
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	now := time.Now()
	m := newMemory(24*time.Hour, 1000)
	m.add("old", now.Add(-25*time.Hour), now)
	for n := range 5000 {
		m.add(alertID(n), now, now)
		m.add(alertID(n), now, now)
	}
	if m.len() != 1000 || m.has("old") || m.has(alertID(3999)) || !m.has(alertID(4000)) {
		t.Errorf("got %d alerts, want the latest 1000", m.len())
	}
	if len(m.order) > 3*m.max {
		t.Errorf("%d entries are kept in order", len(m.order))
	}
	later := now.Add(25 * time.Hour)
	m.add("not hexadecimal", later, later)
	if m.len() != 1 || !m.has("not hexadecimal") {
		t.Errorf("got %d alerts, want those of the last day only", m.len())
	}
}

func BenchmarkMemory(b *testing.B) {
	m := newMemory(24*time.Hour, 500_000)
	now := time.Now()
	ids := make([]string, 1_000_000)
	for n := range ids {
		ids[n] = alertID(n)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		m.add(ids[n%len(ids)], now, now)
		n++
	}
}
