package notify

import (
	"testing"
	"time"
)

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
