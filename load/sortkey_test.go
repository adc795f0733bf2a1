package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/auditmill/auditmill/schemas"
)

// TestSortKey measures the everyday queries on candidates for the sort key and the skip indexes of events. It takes
// many minutes and so runs only when told how many rows to use:
//
//	AUDITMILL_SORTKEY_ROWS=2000000 go test ./load -run TestSortKey -timeout 1h -v
//
// With AUDITMILL_SORTKEY_ONLY=A,A3 it measures only these. It writes the table the sort key in docs/performance.md to its output.
func TestSortKey(t *testing.T) {
	rows, err := strconv.Atoi(os.Getenv("AUDITMILL_SORTKEY_ROWS"))
	if err != nil {
		t.Skip("AUDITMILL_SORTKEY_ROWS is not set")
	}
	c, _ := testDatabase(t)
	c.QueryTimeout = time.Hour
	conn := testConn(t, c)
	b := &sortKeyBench{t: t, c: c, conn: conn}
	b.fill(rows)
	var out strings.Builder
	b.header(&out)
	only := strings.Split(os.Getenv("AUDITMILL_SORTKEY_ONLY"), ",")
	for _, candidate := range sortKeys() {
		if only[0] == "" || slices.Contains(only, candidate.name) {
			b.measure(&out, candidate)
		}
	}
	t.Logf("\n%s", out.String())
}

type sortKey struct {
	name, order, index string
}

func sortKeys() []sortKey {
	const audit = "INDEX i_audit_id audit_id TYPE bloom_filter(0.01) GRANULARITY 1"
	const when = "INDEX i_event_time event_time TYPE minmax GRANULARITY 1"
	return []sortKey{
		{"A", "(cluster, resource, verb, event_time)", ""},
		{"B", "(cluster, event_time)", ""},
		{"C", "(toStartOfHour(event_time), cluster, resource, verb, event_time)", ""},
		{"D", "(toStartOfFifteenMinutes(event_time), cluster, resource, verb, event_time)", ""},
		{"E", "(cluster, actor, event_time)", ""},
		{"F", "(resource, verb, cluster, event_time)", ""},
		{"A1", "(cluster, resource, verb, event_time)", audit},
		{"A2", "(cluster, resource, verb, event_time)", audit + ", " + when},
		{"A3", "(cluster, resource, verb, event_time)", audit + ", " + when + ", INDEX i_actor actor TYPE set(256) GRANULARITY 1"},
		{
			"F3", "(resource, verb, cluster, event_time)",
			audit + ", " + when + ", INDEX i_actor actor TYPE set(256) GRANULARITY 1",
		},
		{"C1", "(toStartOfHour(event_time), cluster, resource, verb, event_time)", audit},
		{
			"C2", "(toStartOfHour(event_time), cluster, resource, verb, event_time)",
			audit + ", INDEX i_actor actor TYPE set(256) GRANULARITY 1",
		},
	}
}

type sortKeyBench struct {
	t    *testing.T
	c    ClickHouse
	conn Conn
	// What the queries look for, from the filled table.
	end, audit, actor, namespace, name string
}

func (b *sortKeyBench) exec(sql string, args ...any) {
	b.t.Helper()
	ctx := clickhouse.Context(b.t.Context(), clickhouse.WithSettings(clickhouse.Settings{
		"async_insert": 0, "max_insert_threads": 1, "max_threads": 1, "min_insert_block_size_rows": 100_000,
		"min_insert_block_size_bytes": 0, "mutations_sync": 2, "database": b.c.Database,
	}))
	if err := b.conn.Exec(ctx, fmt.Sprintf(sql, args...)); err != nil {
		b.t.Fatal(err)
	}
}

// table makes a table like events without its indexes and with another sort key.
func (b *sortKeyBench) table(name, order, index string) {
	b.t.Helper()
	migrations, err := schemas.Migrations(b.c.SQL())
	if err != nil {
		b.t.Fatal(err)
	}
	sql := migrations[0].Statements[0]
	sql = strings.Replace(sql, "."+b.c.SQL().LocalTable("events"), "."+name, 1)
	start, end := strings.Index(sql, "ORDER BY"), strings.Index(sql, "\nSETTINGS")
	sql = sql[:start] + "ORDER BY " + order + sql[end:]
	var lines []string
	for line := range strings.SplitSeq(sql, "\n") {
		if !strings.HasPrefix(strings.TrimSpace(line), "INDEX ") {
			lines = append(lines, line)
		}
	}
	sql = strings.Join(lines, "\n")
	sql = strings.Replace(sql, ",\n)", "\n)", 1)
	if index != "" {
		sql = strings.Replace(sql, "\n)\nENGINE", ",\n"+index+"\n)\nENGINE", 1)
	}
	b.exec("%s", sql)
}

// fill copies the recording until there are enough rows: four clusters, four days, each copy with its
// own times, ids, namespaces and callers.
func (b *sortKeyBench) fill(rows int) {
	events := recorded(b.t, 1<<20)
	in := &inserter{conn: b.conn, timeout: time.Minute, metrics: newMetrics(nil)}
	b.table("recorded", "tuple()", "")
	for _, value := range values(b.t, 0, 0, 1000, events) {
		if err := in.insert(b.t.Context(), b.c.Database+".recorded", "ArrowStream", once(), 1000, bytes.NewReader(value)); err != nil {
			b.t.Fatal(err)
		}
	}
	b.table("filled", "received_at", "")
	copies := rows/len(events) + 1
	const span = 4 * 24 * 3600
	for from := 0; from < copies; from += 20 {
		b.exec(`INSERT INTO filled SELECT * EXCEPT (n, shift, fresh) REPLACE (
			unhex(fresh) AS event_id, concat('cluster-', toString(n %% 4)) AS cluster,
			toDateTime64('2026-03-01 00:00:00', 6, 'UTC') + toIntervalMicrosecond(shift + 900000) AS received_at,
			toDateTime64('2026-03-01 00:00:00', 6, 'UTC') + toIntervalMicrosecond(shift) AS event_time,
			fresh AS audit_id, raw_offset + n * 100000 AS raw_offset,
			if(namespace = '', '', concat(namespace, '-', toString(n %% 16))) AS namespace,
			if(actor LIKE 'system:%%', actor, concat(actor, '-', toString(n %% 32))) AS actor,
			replaceAll(raw, audit_id, fresh) AS raw)
		FROM (SELECT *, toUInt64((n + rand() / 4294967296) * %d * 1000000 / %d) AS shift, hex(MD5(concat(toString(n), hex(event_id)))) AS fresh
			FROM recorded CROSS JOIN (SELECT number AS n FROM numbers(%d, %d)) AS k)
		ORDER BY received_at`, span, copies, from, min(20, copies-from))
	}
	one := func(sql string) string { return ask(b.t, b.conn, b.c, "%s", sql) }
	b.end = "'2026-03-04 18:00:00'"
	b.audit = one("SELECT audit_id FROM filled WHERE received_at > '2026-03-03' LIMIT 1 OFFSET 50000")
	b.actor = one("SELECT actor FROM filled WHERE actor NOT LIKE 'system:%' GROUP BY actor ORDER BY count() DESC, actor LIMIT 1 OFFSET 10")
	object := strings.Split(one("SELECT namespace, name FROM filled WHERE resource = 'configmaps' AND name != '' GROUP BY ALL ORDER BY count() DESC, namespace, name LIMIT 1 OFFSET 3"), "\t")
	b.namespace, b.name = object[0], object[1]
	b.t.Logf("filled: %s", one("SELECT count(), formatReadableSize(sum(length(raw))), uniq(actor), uniq(resource), uniq(namespace) FROM filled"))
}

type everydayQuery struct{ name, sql string }

func (b *sortKeyBench) queries(table string) []everydayQuery {
	lastDay := "event_time BETWEEN toDateTime(" + b.end + ") - INTERVAL 1 DAY AND " + b.end
	return []everydayQuery{
		{"secrets read, 1 day", "SELECT actor, verb, namespace, count(), max(event_time) FROM " + table + " WHERE resource = 'secrets' AND verb IN ('get', 'list', 'watch') AND outcome = 'success' AND " + lastDay + " GROUP BY ALL"},
		{"denied by actor, 1 day", "SELECT actor, verb, resource, count() FROM " + table + " WHERE outcome = 'denied' AND " + lastDay + " GROUP BY ALL"},
		{"privileged pods, 4 days", "SELECT count() FROM (" + privilegedPods(b.t, b.c, table) + ")"},
		{"last 100 of an actor", "SELECT * FROM " + table + " WHERE actor = '" + b.actor + "' ORDER BY event_time DESC LIMIT 100"},
		{"last 100 of a cluster", "SELECT * FROM " + table + " WHERE cluster = 'cluster-1' ORDER BY event_time DESC LIMIT 100"},
		{"audit_id", "SELECT * FROM " + table + " WHERE audit_id = '" + b.audit + "'"},
		{"per minute, 1 hour", "SELECT toStartOfMinute(event_time) AS m, count() FROM " + table + " WHERE event_time BETWEEN toDateTime(" + b.end + ") - INTERVAL 1 HOUR AND " + b.end + " GROUP BY m"},
		{"per minute, 1 day", "SELECT toStartOfMinute(event_time) AS m, count() FROM " + table + " WHERE " + lastDay + " GROUP BY m"},
		{"one object, 4 days", "SELECT event_time, actor, verb, code FROM " + table + " WHERE resource = 'configmaps' AND namespace = '" + b.namespace + "' AND name = '" + b.name + "'"},
	}
}

// privilegedPods is the shipped view over another table.
func privilegedPods(t *testing.T, c ClickHouse, table string) string {
	t.Helper()
	migrations, err := schemas.Migrations(c.SQL())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range migrations {
		for _, sql := range m.Statements {
			if head, body, ok := strings.Cut(sql, " AS\n"); ok && strings.HasSuffix(head, ".privileged_pods") {
				return strings.Replace(body, c.Database+".events", c.Database+"."+table, 1)
			}
		}
	}
	t.Fatal("no view privileged_pods")
	return ""
}

func (b *sortKeyBench) header(out *strings.Builder) {
	fmt.Fprintf(out, "| | ORDER BY, indexes | insert s | MiB |")
	for _, q := range b.queries("events") {
		fmt.Fprintf(out, " %s |", q.name)
	}
	fmt.Fprintf(out, "\n|---|---|---|---|%s\n", strings.Repeat("---|", len(b.queries("events"))))
}

func (b *sortKeyBench) measure(out *strings.Builder, k sortKey) {
	table := "candidate_" + k.name
	b.table(table, k.order, k.index)
	start := time.Now()
	for day := range 5 {
		b.exec("INSERT INTO %s SELECT * FROM filled WHERE toDate(received_at) = toDate('2026-03-01') + %d", table, day)
	}
	inserted := time.Since(start)
	b.exec("OPTIMIZE TABLE %s FINAL", table)
	size := ask(b.t, b.conn, b.c, "SELECT round(sum(bytes_on_disk) / 1048576) FROM system.parts WHERE active AND database = '%s' AND table = '%s'", b.c.Database, table)
	index := ""
	for part := range strings.SplitSeq(k.index, ", INDEX") {
		if fields := strings.Fields(strings.TrimPrefix(part, "INDEX ")); len(fields) > 3 {
			index += ", " + fields[1] + " " + fields[3]
		}
	}
	fmt.Fprintf(out, "| %s | %s%s | %.0f | %s |", k.name, k.order, index, inserted.Seconds(), size)
	for _, q := range b.queries(table) {
		ms, read := b.time(q.sql)
		fmt.Fprintf(out, " %.0f ms, %s |", ms, read)
	}
	fmt.Fprintln(out)
	b.exec("DROP TABLE %s SYNC", table)
}

// time returns the median of five runs and how many rows ClickHouse read.
func (b *sortKeyBench) time(sql string) (ms float64, read string) {
	var times []float64
	for range 5 {
		ctx := clickhouse.Context(b.t.Context(), clickhouse.WithSettings(clickhouse.Settings{
			"database": b.c.Database, "use_query_condition_cache": 0, "max_threads": 2,
		}))
		body, err := b.conn.QueryFormat(ctx, "JSON", sql)
		if err != nil {
			b.t.Fatal(err)
		}
		var result struct {
			Statistics struct {
				Elapsed  float64 `json:"elapsed"`
				RowsRead int     `json:"rows_read"`
			} `json:"statistics"`
		}
		if err := json.NewDecoder(body).Decode(&result); err != nil {
			b.t.Fatal(err)
		}
		_ = body.Close()
		times = append(times, result.Statistics.Elapsed*1000)
		read = fmt.Sprintf("%dk", result.Statistics.RowsRead/1000)
	}
	slices.Sort(times)
	return times[2], read
}
