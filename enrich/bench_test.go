package enrich

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	clusters "github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/schemas"
)

// BenchmarkEnrich is the whole stage but for Kafka: hash, deduplicate, decode, classify,
// explain, build, compress. Once with all recorded events, once without the largest tenth,
// which leaves 1.5 KB on average; in batches as large as they get, and in the small ones that
// 12 partitions give at 10,000 events a second.
func BenchmarkEnrich(b *testing.B) {
	for name, limit := range map[string]int{"all": 1 << 30, "below6600": 6600} {
		for _, rows := range []int{8192, 83} {
			b.Run(fmt.Sprintf("%s/rows=%d", name, rows), func(b *testing.B) { benchmarkEnrich(b, limit, rows) })
		}
	}
}

func benchmarkEnrich(b *testing.B, limit, rows int) {
	b.Helper()
	var records []*kgo.Record
	size := 0
	for _, raw := range recording(b) {
		if len(raw) < limit {
			records, size = append(records, rawRecord(b, raw, "c", schemas.SourceWebhook)), size+len(raw)
		}
	}
	cfg := DefaultConfig()
	p := newPartition(0, &cfg, newCrew(newKnowledge(clusters.NewStore(cfg.Context)), nil, 1))
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
		for part := range slices.Chunk(records, rows) {
			if err := p.add(b.Context(), part); err != nil {
				b.Fatal(err)
			}
			o, err := p.take()
			if err != nil {
				b.Fatal(err)
			}
			events, out = events+o.rows, out+o.bytes
		}
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
