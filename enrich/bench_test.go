package enrich

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"github.com/auditmill/auditmill/schemas"
)

// BenchmarkEnrich is the whole stage but for Kafka: hash, deduplicate, decode, classify,
// explain, build, compress. Once with all recorded events, once without the largest tenth,
// which leaves 1.4 KB on average.
func BenchmarkEnrich(b *testing.B) {
	for _, limit := range []int{1 << 30, 6600} {
		b.Run(fmt.Sprintf("below=%d", limit), func(b *testing.B) { benchmarkEnrich(b, limit) })
	}
}

func benchmarkEnrich(b *testing.B, limit int) {
	b.Helper()
	var records []*kgo.Record
	size := 0
	for _, raw := range recording(b) {
		if len(raw) < limit {
			records, size = append(records, rawRecord(b, raw, "c", schemas.SourceWebhook)), size+len(raw)
		}
	}
	cfg := DefaultConfig()
	p := newPartition(0, &cfg)
	b.ReportAllocs()
	events, out, cluster := 0, 0, 0
	before := cpuTime(b)
	for b.Loop() {
		// Another cluster each time: the events are new to the window.
		cluster++
		name := []byte("c" + strconv.Itoa(cluster))
		for _, r := range records {
			r.Headers[1].Value = name
		}
		if err := p.add(records); err != nil {
			b.Fatal(err)
		}
		o, err := p.take()
		if err != nil {
			b.Fatal(err)
		}
		events, out = events+o.rows, out+o.bytes
	}
	cpu, average := (cpuTime(b) - before).Seconds(), float64(size)/float64(len(records))
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(events)/cpu, "events/cpu-s")
	b.ReportMetric(float64(events)*average/cpu/1e6, "MB/cpu-s")
	b.ReportMetric(average, "B/event")
	b.ReportMetric(float64(out)/float64(events), "Bout/event")
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
