package enrich

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	clusters "github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/identity"
	"github.com/auditmill/auditmill/schemas"
)

// BenchmarkEnrich is the whole stage but for Kafka: hash, deduplicate, decode, classify,
// explain, build, compress. Once with all recorded events, once without the largest tenth,
// which leaves 1.5 KB on average; in batches as large as they get, and in the small ones that
// 12 partitions give at 10,000 events a second.
func BenchmarkEnrich(b *testing.B) {
	for name, limit := range map[string]int{"all": 1 << 30, "below6600": 6600} {
		for _, rows := range []int{8192, 83} {
			b.Run(fmt.Sprintf("%s/rows=%d", name, rows), func(b *testing.B) {
				benchmarkEnrich(b, recording(b), limit, rows, clusters.NewStore(clusters.DefaultConfig()))
			})
		}
	}
}

// BenchmarkEnrichWithContext is the whole recording, one write to roles and bindings in seventy events, for clusters of which
// everything is known: their roles and bindings, service accounts, namespaces, pods and nodes, and the people behind their
// users. (The sample above has every write of the recording and a ninth of its events.)
func BenchmarkEnrichWithContext(b *testing.B) {
	store := clusters.NewStore(clusters.DefaultConfig())
	dump, err := clusters.ReadDump("../../shared/data/kube/context-before")
	if err != nil {
		b.Skip("needs the dumps of the recorded cluster: ", err)
	}
	for _, name := range benchClusters() {
		store.Import(name, dump, 0)
	}
	join, lines := NewOffline(), recorded(b, "../../shared/data/kube/recording.jsonl.gz")
	people := map[string]bool{}
	for _, raw := range lines {
		e, err := join.Event("c", raw, &schemas.FingerprintFields{}, "")
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range benchClusters() {
			// What an event leaves out stays unknown: that is part of what is measured.
			_, _, _ = store.Event(name, e)
		}
		if e.ActorKind == identity.Human && !people[e.User] {
			people[strings.Clone(e.User)] = true
		}
	}
	for user := range people {
		store.Apply(clusters.Organization, clusters.Change{
			Key: clusters.Key{Kind: clusters.Person, Name: user}, From: 1, Source: "import:people", Object: &clusters.Object{
				Person: &clusters.PersonInfo{Name: "Name of " + user, Email: user, Team: "payments", Manager: "m@example.com", Active: "true", Usernames: []string{user}},
			},
		})
	}
	for _, cidr := range []string{"10.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"} {
		store.Apply(clusters.Organization, clusters.Change{
			Key: clusters.Key{Kind: clusters.Range, Name: cidr}, From: 1, Source: "import:ranges",
			Object: &clusters.Object{Range: &clusters.RangeInfo{CIDR: cidr, Zone: "zone of " + cidr}},
		})
	}
	for _, rows := range []int{8192, 83} {
		b.Run(fmt.Sprintf("below6600/rows=%d", rows), func(b *testing.B) { benchmarkEnrich(b, lines, 6600, rows, store) })
	}
}

// benchClusters are the clusters of the events, in turn: by the time that one comes again its events are new to the window.
func benchClusters() []string {
	names := make([]string, 32)
	for i := range names {
		names[i] = "c" + strconv.Itoa(i)
	}
	return names
}

func benchmarkEnrich(b *testing.B, lines [][]byte, limit, rows int, store *clusters.Store) {
	b.Helper()
	var records []*kgo.Record
	size := 0
	for _, raw := range lines {
		if len(raw) < limit {
			records, size = append(records, rawRecord(b, raw, "c", schemas.SourceWebhook)), size+len(raw)
		}
	}
	cfg := DefaultConfig()
	p := newPartition(0, &cfg, newCrew(newKnowledge(store), nil, 1))
	b.ReportAllocs()
	names := benchClusters()
	impatient, cancel := context.WithCancel(b.Context())
	cancel() // what is missing does not come
	events, out, round := 0, 0, 0
	before := cpuTime(b)
	for b.Loop() {
		name := []byte(names[round%len(names)])
		round++
		for _, r := range records {
			r.Headers[1].Value = name
		}
		for part := range slices.Chunk(records, rows) {
			if err := p.add(impatient, part); err != nil {
				b.Fatal(err)
			}
			o := p.take()
			events, out = events+o.rows, out+o.bytes
			p.committed(o.batches, nil)
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
