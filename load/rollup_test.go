package load

import (
	"fmt"
	"testing"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// A server that is killed may know the token of a difference and not have its rows, and rollups may count what never came to
// the table: mending ends with the right counts all the same.
func TestMendWithUsedToken(t *testing.T) {
	c, conn := testDatabase(t)
	m := newMetrics(nil)
	sink := newEventSink(&inserter{conn: conn, timeout: time.Minute, metrics: m}, c, m)
	const rows, partition, token = 300, 3, "range"
	var items []item
	for _, value := range values(t, partition, 0, 100, recorded(t, rows)) {
		record := &kgo.Record{Value: value, Headers: []kgo.RecordHeader{{Key: schemas.HeaderVersion, Value: fmt.Append(nil, schemas.Version)}}}
		it, err := sink.prepare(t.Context(), record)
		if err != nil || it.bad != nil {
			t.Fatal(err, it.bad)
		}
		it.record = record
		items = append(items, it)
	}
	if err := sink.insert(t.Context(), token, items); err != nil {
		t.Fatal(err)
	}
	for _, rollup := range schemas.Rollups() {
		for n := range 3 { // counted once more, each under a token that mending would use
			ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{
				"async_insert": 0, "insert_deduplication_token": fmt.Sprintf("%s/%s/%d/%d", token, rollup.Table, partition, n),
			}))
			if err := conn.Exec(ctx, fmt.Sprintf("INSERT INTO %s.%s SELECT * FROM %[1]s.%[2]s", c.Database, rollup.Table)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := ask(t, conn, c, "SELECT sum(events) FROM intake_per_minute"); n == fmt.Sprint(rows) {
		t.Fatal("nothing is counted too often")
	}
	if err := sink.compare(t.Context(), token, items, func(d kafka.Dead) error { return fmt.Errorf("buried: %s", d.Reason) }); err != nil {
		t.Fatal(err)
	}
	checkCounts(t, conn, c, rows)
}
