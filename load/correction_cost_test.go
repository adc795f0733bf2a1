package load

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/schemas"
)

// TestCorrectionCost measures the everyday queries on the ways in which corrections could be hidden. It takes minutes and so
// runs only when told how many rows to use:
//
//	AUDITMILL_CORRECTIONS_ROWS=2000000 go test ./load -run TestCorrectionCost -timeout 1h -v
//
// It writes the table of docs/performance.md about corrections to its output.
func TestCorrectionCost(t *testing.T) {
	rows, err := strconv.Atoi(os.Getenv("AUDITMILL_CORRECTIONS_ROWS"))
	if err != nil {
		t.Skip("AUDITMILL_CORRECTIONS_ROWS is not set")
	}
	c, _ := testDatabase(t)
	c.QueryTimeout = time.Hour
	b := &sortKeyBench{t: t, c: c, conn: testConn(t, c)}
	b.fill(rows)
	var names []string
	for _, column := range schemas.Columns() {
		if column.Since == 0 {
			names = append(names, column.Name)
		}
	}
	columns := strings.Join(names, ", ")
	b.exec("CREATE TABLE replacing AS event_rows ENGINE = ReplacingMergeTree(version) PARTITION BY toDate(received_at)" +
		" ORDER BY (cluster, resource, verb, event_time, event_id)")
	for day := range 5 {
		for _, table := range []string{"event_rows", "replacing"} {
			b.exec("INSERT INTO %s (%s) SELECT %[2]s FROM filled WHERE toDate(received_at) = toDate('2026-03-01') + %[3]d", table, columns, day)
		}
	}
	b.exec(`CREATE VIEW sets AS SELECT *, id FROM event_rows WHERE if(version = 0,
		CAST(event_id AS String) NOT IN (SELECT event_id FROM event_versions),
		(CAST(event_id AS String), version) IN (SELECT event_id, max(version) FROM event_versions GROUP BY event_id))`)
	var out strings.Builder
	b.header(&out)
	b.row(&out, "the table, nothing hidden", "event_rows")
	b.row(&out, "the view, none corrected", "events")
	for _, share := range []int{1000, 40} {
		for _, table := range []string{"event_rows", "replacing"} {
			b.exec("INSERT INTO %s (%s, version) SELECT %[2]s, %[3]d AS version FROM filled WHERE cityHash64(event_id) %% %[3]d = 0", table, columns, share)
		}
		b.exec("INSERT INTO event_versions SELECT CAST(event_id AS String), version, toDate(received_at) FROM event_rows WHERE version = %d", share)
		n := ask(t, b.conn, c, "SELECT count() FROM event_versions")
		b.row(&out, "the view, "+n+" corrected", "events")
		b.row(&out, "sets of ids, "+n+" corrected", "sets")
		b.row(&out, "ReplacingMergeTree FINAL, "+n+" corrected", "replacing FINAL")
	}
	t.Logf("\n%s\nevent_versions takes %s bytes for %s events", out.String(),
		ask(t, b.conn, c, "SELECT total_bytes FROM system.tables WHERE database = currentDatabase() AND name = 'event_versions'"),
		ask(t, b.conn, c, "SELECT count() FROM event_versions"))
}

// row measures the queries on a table as it is, with the parts that inserts left.
func (b *sortKeyBench) row(out *strings.Builder, name, table string) {
	b.t.Helper()
	fmt.Fprintf(out, "| %s | | | |", name)
	for _, q := range b.queries(table) {
		ms, read := b.time(q.sql)
		fmt.Fprintf(out, " %.0f ms, %s |", ms, read)
	}
	fmt.Fprintln(out)
}

// BenchmarkCorrections stores the recording again and again, each time as one range with rollups, in the embedded engine: first rows, and rows that all correct
// others, which is as bad as it gets.
func BenchmarkCorrections(b *testing.B) {
	for _, kind := range []string{"first", "corrections"} {
		b.Run(kind, func(b *testing.B) {
			c, conn := testDatabase(b)
			m := newMetrics(nil)
			sink := newEventSink(&inserter{conn: conn, timeout: time.Minute, metrics: m}, c, m)
			if err := sink.refreshColumns(b.Context()); err != nil {
				b.Fatal(err)
			}
			events := recorded(b, 1<<20)
			insert := func(round int) {
				var h history
				for i, e := range events {
					row := *e
					row.RawOffset = int64(i)
					if kind == "corrections" {
						row.Version, row.Actor = int64(round), fmt.Sprintf("%s-%d", e.Actor, round)
					} else {
						row.RawOffset += int64(round * len(events))
					}
					h.rows = append(h.rows, &row)
				}
				var items []item
				for _, value := range h.values(b, 5000) {
					record := &kgo.Record{Value: value, Headers: []kgo.RecordHeader{{Key: schemas.HeaderVersion, Value: []byte("1")}}}
					it, err := sink.prepare(b.Context(), record)
					if err != nil || it.bad != nil {
						b.Fatal(err, it.bad)
					}
					it.record = record
					items = append(items, it)
				}
				b.StartTimer()
				if err := sink.insert(b.Context(), fmt.Sprint(round), items); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
			}
			b.StopTimer()
			insert(0)
			b.ResetTimer()
			for i := range b.N {
				insert(i + 1)
			}
			b.ReportMetric(float64(b.N*len(events))/b.Elapsed().Seconds(), "events/s")
		})
	}
}
