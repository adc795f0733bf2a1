package load

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// inserter sends inserts that ClickHouse can recognise when they are repeated.
type inserter struct {
	conn    driver.Conn
	timeout time.Duration
	metrics *metrics
}

// insert is one attempt. When it fails, the rows may be stored all the same.
func (in *inserter) insert(ctx context.Context, table, format, token string, rows int, body io.Reader) error {
	ctx, cancel := context.WithTimeout(ctx, in.timeout)
	defer cancel()
	start := time.Now()
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(in.settings(token)),
		clickhouse.WithQueryID(queryPrefix(token)+rand.Text()))
	if err := in.conn.InsertFormat(ctx, format, "INSERT INTO "+table, body); err != nil {
		return fmt.Errorf("inserting %d rows into %s: %w", rows, table, err)
	}
	in.metrics.inserts.WithLabelValues(table).Inc()
	in.metrics.insertTime.WithLabelValues(table).Observe(time.Since(start).Seconds())
	in.metrics.insertRows.WithLabelValues(table).Observe(float64(rows))
	return nil
}

// settings must be the same at each repetition: a token stands for one block, so the server may
// not cut the rows in another way the second time.
func (in *inserter) settings(token string) clickhouse.Settings {
	const unlimited = 1 << 40
	return clickhouse.Settings{
		"async_insert":               0,
		"insert_deduplicate":         1,
		"insert_deduplication_token": token,
		"deduplicate_blocks_in_dependent_materialized_views": 1,
		"max_insert_threads":               1,
		"max_insert_block_size":            unlimited,
		"min_insert_block_size_rows":       unlimited,
		"min_insert_block_size_bytes":      unlimited,
		"max_partitions_per_insert_block":  0,
		"input_format_null_as_default":     1,
		"input_format_skip_unknown_fields": 1,
		"date_time_input_format":           "best_effort",
		// A server that goes on alone would still insert after we have looked what is there.
		"max_execution_time": int(in.timeout / time.Second),
	}
}

// once returns a token that no other insert has: nothing is taken for a repetition of it.
func once() string { return "once/" + rand.Text() }

// queryPrefix is how the query ids of all attempts with a token begin.
func queryPrefix(token string) string {
	sum := sha256.Sum256([]byte(token))
	return "auditmill-load-" + hex.EncodeToString(sum[:8]) + "-"
}

// kill ends the attempts with a token that still run on the server although the client gave up.
func (in *inserter) kill(ctx context.Context, token, onCluster string) error {
	ctx, cancel := context.WithTimeout(ctx, in.timeout)
	defer cancel()
	sql := "KILL QUERY" + onCluster + " WHERE startsWith(query_id, '" + queryPrefix(token) + "') SYNC"
	if err := in.conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("ending earlier attempts: %w", err)
	}
	return nil
}

func (in *inserter) exec(ctx context.Context, sql string) error {
	return in.execAs(ctx, sql, queryPrefix(once()), nil)
}

// execAs runs a statement with more settings, under a query id that begins with prefix.
func (in *inserter) execAs(ctx context.Context, sql, prefix string, more clickhouse.Settings) error {
	ctx, cancel := context.WithTimeout(ctx, in.timeout)
	defer cancel()
	settings := clickhouse.Settings{"async_insert": 0, "max_execution_time": int(in.timeout / time.Second)}
	maps.Copy(settings, more)
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(settings), clickhouse.WithQueryID(prefix+rand.Text()))
	if err := in.conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("running %.80q: %w", sql, err)
	}
	return nil
}

// countDuplicates reads how many repeated inserts the server recognised; the answer to the insert
// itself does not tell. Without the grant to read it, the metric stays at 0.
func (in *inserter) countDuplicates(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, in.timeout)
	defer cancel()
	var n uint64
	row := in.conn.QueryRow(ctx, "SELECT sum(value) FROM system.events WHERE event = 'DuplicatedInsertedBlocks'")
	if row.Scan(&n) == nil {
		in.metrics.duplicates.Set(float64(n))
	}
}
