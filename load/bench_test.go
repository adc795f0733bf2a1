package load

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/schemas"
)

// BenchmarkInsert is what the loader costs on its own side: records as they come from Kafka are checked,
// joined into inserts and sent by HTTP to a server that throws them away.
func BenchmarkInsert(b *testing.B) {
	c := testClickHouse(b)
	var received int64
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: c.Addresses[0]})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Query().Get("query"), "INSERT") {
			forward.ServeHTTP(w, r) // the client asks for the server's version first
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		received += n
		w.WriteHeader(http.StatusOK)
	}))
	defer server.Close()
	c.Addresses = []string{strings.TrimPrefix(server.URL, "http://")}
	conn, err := Connect(c)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
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
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(received)/float64(events), "B/event")
}
