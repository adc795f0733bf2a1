package load

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"github.com/auditmill/auditmill/schemas"
)

// BenchmarkInsert is what the loader costs on its own side: records as they come from Kafka are checked,
// joined into inserts and sent by HTTP to a server that throws them away.
func BenchmarkInsert(b *testing.B) {
	c, received := discarding(b)
	conn := testConn(b, c)
	sink := newEventSink(&inserter{conn: conn, timeout: time.Minute, metrics: newMetrics(nil)}, c, newMetrics(nil))
	for _, column := range schemas.Columns() {
		sink.columns = append(sink.columns, column.Name)
	}
	var records []*kgo.Record
	for _, value := range values(b, 0, 0, 2500, recorded(b, 5000)) {
		for range 10 {
			records = append(records, &kgo.Record{
				Topic: schemas.TopicEnriched, Value: value,
				Headers: []kgo.RecordHeader{{Key: schemas.HeaderVersion, Value: []byte("1")}},
			})
		}
	}
	events := 0
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		items := make([]item, 0, len(records))
		for _, record := range records {
			it, err := sink.prepare(b.Context(), record)
			if err != nil || it.bad != nil {
				b.Fatal(err, it.bad)
			}
			it.record = record
			items = append(items, it)
			events += it.rows
		}
		if err := sink.insert(b.Context(), "token", items); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(events)/(cpuTime(b)-before).Seconds(), "events/cpu-s")
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(received.Load())/float64(events), "B/event")
}

// BenchmarkService is the same with Kafka in front: a broker in this process, whose cost is counted too.
func BenchmarkService(b *testing.B) {
	c, received := discarding(b)
	if _, err := Migrate(b.Context(), testConn(b, c), c.SQL()); err != nil {
		b.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.MaxAge, cfg.SmallPerSecond = 20*time.Millisecond, 1000 // the last insert is not full
	benchService(b, cfg, c)
	b.ReportMetric(float64(received.Load())/float64(b.N*benchEvents), "B/event")
}

// BenchmarkClickHouse stores the events, with rollups, in the embedded engine on this machine.
func BenchmarkClickHouse(b *testing.B) {
	c, _ := testDatabase(b)
	benchService(b, DefaultConfig(), c)
}

const benchEvents = 4 * 25 * 5000

func benchService(b *testing.B, cfg Config, c ClickHouse) {
	b.Helper()
	cfg.MaxBuffer = 512 << 20
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		k := testKafka(b, 4)
		client := testClient(b, k)
		for partition := range int32(4) {
			for _, value := range values(b, partition, 0, 2500, recorded(b, 5000)) {
				produce(b, client, schemas.TopicEnriched, partition, slices.Repeat([][]byte{value}, 25)...)
			}
		}
		s := start(b, cfg, k, c)
		// Joining the group takes seconds, once.
		eventually(b, "records come", func() bool { return testutil.ToFloat64(s.metrics.stage.In) > 0 })
		before := cpuTime(b)
		b.StartTimer()
		eventually(b, "all are inserted", func() bool { return testutil.ToFloat64(s.metrics.stage.Out) == benchEvents })
		b.StopTimer()
		used += cpuTime(b) - before
		s.stop(b)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N)*benchEvents/used.Seconds(), "events/cpu-s")
	b.ReportMetric(float64(b.N)*benchEvents/b.Elapsed().Seconds(), "events/s")
}

// cpuTime is what the process has used, whatever else runs on the machine. ClickHouse is
// another process; the server that throws inserts away is counted.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// discarding is a ClickHouse that throws inserts of events away.
func discarding(tb testing.TB) (ClickHouse, *atomic.Int64) {
	tb.Helper()
	c := testClickHouse(tb)
	var received atomic.Int64
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: c.Addresses[0]})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Query().Get("query"), "FORMAT ArrowStream") {
			forward.ServeHTTP(w, r)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		received.Add(n)
		w.WriteHeader(http.StatusOK)
	}))
	tb.Cleanup(server.Close)
	c.Addresses = []string{strings.TrimPrefix(server.URL, "http://")}
	return c, &received
}
