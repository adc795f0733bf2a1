package identity_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/identity"
	"github.com/auditmill/auditmill/schemas"
)

// BenchmarkJoin is what the recorded events cost: live, where they are newer than nearly all that is known, and replayed
// when people and ranges have changed since.
func BenchmarkJoin(b *testing.B) {
	events, s := sample(b)
	addPeople(s)
	b.Run("live", func(b *testing.B) { benchmarkJoin(b, events, identity.NewJoiner(s, nil)) })
	last := events[len(events)-1].EventTime + 3_600_000_000
	add(s, context.Organization, last, objects{zoneKey("192.0.2.0/24"): {Range: &context.RangeInfo{CIDR: "192.0.2.0/24", Zone: "vpn"}}})
	b.Run("replay", func(b *testing.B) { benchmarkJoin(b, events, identity.NewJoiner(s, nil)) })
}

func benchmarkJoin(b *testing.B, events []*schemas.Event, j *identity.Joiner) {
	b.Helper()
	var classify identity.Classifier
	for _, e := range events {
		classify.Classify(e)
		j.Join(e)
	}
	b.ReportAllocs()
	n, before := 0, cpuTime(b)
	for b.Loop() {
		e := events[n%len(events)]
		n++
		classify.Classify(e)
		j.Join(e)
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(n), "cpu-ns/op")
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

func BenchmarkClassify(b *testing.B) {
	events, _ := sample(b)
	var classify identity.Classifier
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		classify.Classify(events[n%len(events)])
		n++
	}
}
