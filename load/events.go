package load

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// eventSink inserts values of audit.enriched.v1 as they are: their Arrow messages, one after another.
type eventSink struct {
	*inserter
	options schemas.SQLOptions
	table   string
	metrics *metrics

	mu      sync.Mutex // guards known
	known   []byte     // the schema message that was checked last
	version int        // where it has the column version; -1 if it does not
	columns []string   // of the table
}

func newEventSink(in *inserter, c ClickHouse, m *metrics) *eventSink {
	o := c.SQL()
	return &eventSink{inserter: in, options: o, table: o.Database + "." + o.LocalTable("event_rows"), metrics: m}
}

// classify tells a newer version, which is fatal, from bytes that were never right.
func classify(err error) (bad, fatal error) {
	if errors.Is(err, schemas.ErrNewerVersion) {
		return nil, err
	}
	return err, nil
}

func (e *eventSink) prepare(ctx context.Context, record *kgo.Record) (item, error) {
	bad, fatal := checkVersion(record)
	if bad != nil || fatal != nil {
		return item{bad: bad}, fatal
	}
	frame, err := schemas.Split(record.Value)
	if err != nil {
		return item{bad: err}, nil //nolint:nilerr // a broken record is no failure of the service
	}
	version, bad, fatal := e.checkSchema(ctx, frame.Schema)
	if bad != nil || fatal != nil {
		return item{bad: bad}, fatal
	}
	return item{
		frame: frame, rows: frame.Rows, bytes: frame.Bytes, corrections: version >= 0 && frame.HasValues(version),
	}, nil
}

// checkSchema makes sure that the table has every column of a schema: ClickHouse would drop one
// that it does not know without a word. It returns the place of the column version, or -1: an older build knew none.
func (e *eventSink) checkSchema(ctx context.Context, message []byte) (version int, bad, fatal error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if string(message) == string(e.known) {
		return e.version, nil, nil
	}
	schema, err := schemas.SchemaOf(message)
	if err != nil {
		bad, fatal = classify(err)
		return -1, bad, fatal
	}
	missing := e.missing(schema)
	if len(missing) > 0 {
		// They may have been added since we looked.
		if err := e.readColumns(ctx); err != nil {
			return -1, nil, err
		}
		missing = e.missing(schema)
	}
	if len(missing) > 0 {
		return -1, nil, fmt.Errorf("%s has no column %s: run auditmill migrate --apply of the build that wrote the records",
			e.table, strings.Join(missing, ", "))
	}
	e.known, e.version = slices.Clone(message), slices.IndexFunc(schema.Fields(), func(f arrow.Field) bool { return f.Name == "version" })
	return e.version, nil, nil
}

func (e *eventSink) missing(schema *arrow.Schema) []string {
	var missing []string
	for _, field := range schema.Fields() {
		if !slices.Contains(e.columns, field.Name) {
			missing = append(missing, field.Name)
		}
	}
	return missing
}

func (e *eventSink) refreshColumns(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.readColumns(ctx)
}

// readColumns needs the lock.
func (e *eventSink) readColumns(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	var columns []string
	row := e.conn.QueryRow(ctx, "SELECT groupArray(name) FROM system.columns WHERE database = ? AND table = ?",
		e.options.Database, e.options.LocalTable("event_rows"))
	if err := row.Scan(&columns); err != nil {
		return fmt.Errorf("reading the columns of %s: %w", e.table, err)
	}
	e.columns = columns
	return nil
}

func (e *eventSink) joins(first, it *item) bool {
	return first.bad != nil || it.bad != nil || string(first.frame.Schema) == string(it.frame.Schema)
}

func (e *eventSink) insert(ctx context.Context, token string, items []item) error {
	corrections, err := decodeCorrections(items)
	defer release(corrections)
	if err == nil && len(corrections) > 0 {
		err = e.checkRepeated(ctx, corrections)
	}
	if err != nil {
		return err
	}
	body := make(net.Buffers, 0, len(items)+2)
	body = append(body, items[0].frame.Schema)
	rows := 0
	for _, it := range items {
		body = append(body, it.frame.Messages)
		rows += it.rows
	}
	body = append(body, schemas.EndOfStream())
	if err := e.inserter.insert(ctx, e.table, "ArrowStream", token, rows, &body); err != nil {
		return err
	}
	return e.correct(ctx, token, corrections)
}

// compare decodes the records, leaves out the rows that the table has, inserts the others, lets those that correct others
// count and mends the rollups of all of them.
func (e *eventSink) compare(ctx context.Context, token string, items []item, bury func(kafka.Dead) error) error {
	e.metrics.compared.Inc()
	if err := e.settle(ctx, token); err != nil {
		return err
	}
	batches, err := decodeAll(items, bury)
	defer release(batches)
	if err != nil {
		return err
	}
	spans, err := rawSpans(batches)
	if err != nil {
		return err
	}
	present, err := e.present(ctx, spans)
	if err != nil {
		return err
	}
	job := salvage{sink: e, bury: bury}
	for _, batch := range batches {
		there := make([]bool, 0, batch.NumRows())
		for _, key := range rawKeys(batch) {
			there = append(there, present[key])
			present[key] = true // a second one within the range is left out
		}
		for i := 0; i < len(there); {
			j := i
			for j < len(there) && there[i] == there[j] {
				j++
			}
			if there[i] {
				e.metrics.present.Add(float64(j - i))
				job.stored += j - i
			} else if err := job.rows(ctx, batch, i, j); err != nil {
				return err
			}
			i = j
		}
	}
	if err := job.finish(); err != nil {
		return err
	}
	return e.afterCompare(ctx, token, batches, spans)
}

// afterCompare does what correct does, for rows of which some may have been refused.
func (e *eventSink) afterCompare(ctx context.Context, token string, batches []arrow.RecordBatch, spans map[int32]rawSpan) error {
	versions, err := versionsOf(batches, nil)
	if err == nil && len(versions) > 0 {
		var present map[rawKey]bool
		if present, err = e.present(ctx, spans); err == nil {
			versions, err = versionsOf(batches, present)
		}
	}
	if err != nil {
		return err
	}
	if len(versions) > 0 {
		e.metrics.corrections.Add(float64(len(versions)))
		if err := e.count(ctx, versions); err != nil {
			return err
		}
	}
	touched, err := touchedBy(batches, func(rawKey) bool { return true })
	if err != nil {
		return err
	}
	return e.mendRollups(ctx, token, touched, func(schemas.Rollup) bool { return true })
}

// settle waits until what was inserted earlier can be seen and nothing more of it will come.
func (e *eventSink) settle(ctx context.Context, token string) error {
	err := e.kill(ctx, token, e.onCluster())
	if isAccess(err) {
		// Without the grant to end them, the server's own limit ends them.
		err = newBackoff(2*e.timeout, 2*e.timeout).wait(ctx, nil)
	}
	if err != nil {
		return err
	}
	return e.sync(ctx)
}

func (e *eventSink) onCluster() string {
	if e.options.Cluster == "" {
		return ""
	}
	return " ON CLUSTER '" + e.options.Cluster + "'"
}

// sync waits until this replica has what others have.
func (e *eventSink) sync(ctx context.Context) error {
	if !e.options.Replicated {
		return nil
	}
	return e.exec(ctx, "SYSTEM SYNC REPLICA "+e.table)
}

func release(batches []arrow.RecordBatch) {
	for _, b := range batches {
		b.Release()
	}
}

// decodeAll buries the records that cannot be decoded. The caller releases the batches, also after an error.
func decodeAll(items []item, bury func(kafka.Dead) error) ([]arrow.RecordBatch, error) {
	var batches []arrow.RecordBatch
	for _, it := range items {
		batch, err := schemas.Decode(it.record.Value)
		if err == nil && rawKeys(batch) == nil {
			batch.Release()
			err = errNoKeys
		}
		if err == nil {
			batches = append(batches, batch)
			continue
		}
		if err := bury(kafka.DeadRecord(it.record, reasonUndecodable, err)); err != nil {
			return batches, err
		}
	}
	return batches, nil
}

// deadRow is a dead letter with an event's original bytes, as if it came from audit.raw.v1: so it
// can be sent again from there.
func deadRow(batch arrow.RecordBatch, row int, err error) kafka.Dead {
	key := rawKeys(batch)[row]
	d := kafka.Dead{
		Reason: reasonRefused, Detail: err.Error(), Source: schemas.TopicRaw,
		Partition: key.partition, Offset: key.offset,
	}
	if raw, ok := schemas.ColumnArray(batch, "raw").(*array.Binary); ok {
		d.Value = raw.Value(row)
	}
	for _, name := range []string{schemas.HeaderCluster, schemas.HeaderSource} {
		if column := schemas.ColumnArray(batch, name); column != nil && !column.IsNull(row) {
			d.Headers = append(d.Headers, kgo.RecordHeader{Key: name, Value: []byte(column.ValueStr(row))})
		}
	}
	return d
}

// rawKey names one row: where its event stands in audit.raw.v1, which it is, in case the
// topic was made anew, and which row of the event.
type rawKey struct {
	partition int32
	offset    int64
	version   int64
	id        schemas.ID
}

// rawKeys returns the key of every row, or nil if the batch does not have the columns.
func rawKeys(batch arrow.RecordBatch) []rawKey {
	ids, ok1 := schemas.ColumnArray(batch, "event_id").(*array.FixedSizeBinary)
	partitions, ok2 := schemas.ColumnArray(batch, "raw_partition").(*array.Int32)
	offsets, ok3 := schemas.ColumnArray(batch, "raw_offset").(*array.Int64)
	if !ok1 || !ok2 || !ok3 {
		return nil
	}
	column := schemas.ColumnArray(batch, "version")
	versions, ok := column.(*array.Int64)
	if column != nil && !ok {
		return nil
	}
	keys := make([]rawKey, batch.NumRows())
	for i := range keys {
		keys[i] = rawKey{partition: partitions.Value(i), offset: offsets.Value(i)}
		if versions != nil && !versions.IsNull(i) { // an older build knew none
			keys[i].version = versions.Value(i)
		}
		if !ids.IsNull(i) {
			copy(keys[i].id[:], ids.Value(i))
		}
	}
	return keys
}

// rawSpan bounds the rows of one raw partition.
type rawSpan struct {
	firstOffset, lastOffset     int64
	firstReceived, lastReceived int64 // µs since 1970
}

// rawSpans returns the bounds for each raw partition.
func rawSpans(batches []arrow.RecordBatch) (map[int32]rawSpan, error) {
	spans := map[int32]rawSpan{}
	for _, batch := range batches {
		received, ok := schemas.ColumnArray(batch, "received_at").(*array.Timestamp)
		if !ok {
			return nil, errors.New("the Arrow batch has no received_at of the right type")
		}
		for i, key := range rawKeys(batch) {
			at := timeOf(received, i).UnixMicro()
			s, ok := spans[key.partition]
			if !ok {
				s = rawSpan{key.offset, key.offset, at, at}
			}
			spans[key.partition] = rawSpan{
				min(s.firstOffset, key.offset), max(s.lastOffset, key.offset),
				min(s.firstReceived, at), max(s.lastReceived, at),
			}
		}
	}
	return spans, nil
}

// present returns the keys that the table has within spans.
func (e *eventSink) present(ctx context.Context, spans map[int32]rawSpan) (map[rawKey]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	keys := map[rawKey]bool{}
	for partition, s := range spans {
		// received_at is there to prune days: the same row always has the same.
		rows, err := e.conn.Query(ctx, "SELECT raw_offset, version, hex(event_id) FROM "+e.options.Database+".event_rows"+
			" WHERE raw_partition = ? AND raw_offset BETWEEN ? AND ?"+
			" AND received_at BETWEEN fromUnixTimestamp64Micro(?, 'UTC') AND fromUnixTimestamp64Micro(?, 'UTC')",
			partition, s.firstOffset, s.lastOffset, s.firstReceived, s.lastReceived)
		if err != nil {
			return nil, fmt.Errorf("reading what %s has of partition %d: %w", e.table, partition, err)
		}
		for rows.Next() {
			key := rawKey{partition: partition}
			var id string
			if err := rows.Scan(&key.offset, &key.version, &id); err != nil {
				_ = rows.Close()
				return nil, fmt.Errorf("reading what %s has of partition %d: %w", e.table, partition, err)
			}
			if _, err := hex.Decode(key.id[:], []byte(id)); err != nil {
				_ = rows.Close()
				return nil, fmt.Errorf("reading what %s has of partition %d: %w", e.table, partition, err)
			}
			keys[key] = true
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return nil, fmt.Errorf("reading what %s has of partition %d: %w", e.table, partition, err)
		}
	}
	return keys, nil
}
