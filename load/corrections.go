package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/auditmill/auditmill/schemas"
)

// decodeCorrections decodes the records that may hold corrections: few. The caller releases the batches, also after an error.
func decodeCorrections(items []item) ([]arrow.RecordBatch, error) {
	var batches []arrow.RecordBatch
	for _, it := range items {
		if !it.corrections {
			continue
		}
		batch, err := schemas.Decode(it.record.Value)
		if err == nil && rawKeys(batch) == nil {
			batch.Release()
			err = errNoKeys
		}
		if err != nil {
			return batches, fmt.Errorf("%w: reading the corrections at offset %d: %w", errCompare, it.record.Offset, err)
		}
		batches = append(batches, batch)
	}
	return batches, nil
}

var (
	// errCompare says that a range cannot be inserted as it is, and has to be compared with the table.
	errCompare = errors.New("the range must be compared with the table")
	errNoKeys  = errors.New("the Arrow batch has no event_id, raw_partition, raw_offset or version of the right type")
)

// checkRepeated refuses a range that has a correction which may be in the table: it would be there twice under the same
// version, and both would count.
func (e *eventSink) checkRepeated(ctx context.Context, batches []arrow.RecordBatch) error {
	versions, err := versionsOf(batches, nil)
	if err != nil || len(versions) == 0 {
		return err
	}
	known, err := e.versions(ctx, versions)
	if err != nil {
		return err
	}
	seen := map[rawKey]bool{}
	for _, batch := range batches {
		for _, key := range rawKeys(batch) {
			if key.version > 0 && (seen[key] || known[key.id] >= key.version) {
				return fmt.Errorf("%w: version %d of event %s may be there", errCompare, key.version, key.id)
			}
			seen[key] = true
		}
	}
	return nil
}

// correct lets the corrections among rows that were just inserted count: until then the views show the rows before them.
// It can be repeated, and whoever repeats the range does.
func (e *eventSink) correct(ctx context.Context, token string, batches []arrow.RecordBatch) error {
	versions, err := versionsOf(batches, nil)
	if err != nil || len(versions) == 0 {
		return err
	}
	// An earlier attempt that still runs could mend the rollups at the same time. Without the grant to end it, the
	// token has to tell.
	if err := e.kill(ctx, token, e.onCluster()); err != nil && !isAccess(err) {
		return err
	}
	if err := e.sync(ctx); err != nil {
		return err
	}
	e.metrics.corrections.Add(float64(len(versions)))
	if err := e.count(ctx, versions); err != nil {
		return err
	}
	touched, err := touchedBy(batches, func(key rawKey) bool { return key.version > 0 })
	if err != nil {
		return err
	}
	return e.mendRollups(ctx, token, touched, func(r schemas.Rollup) bool { return r.Corrected })
}

// versionsOf returns the highest version of each corrected event, and the day of its partition. present, if not nil, has the
// rows that are in the table: one that was refused must not be waited for.
func versionsOf(batches []arrow.RecordBatch, present map[rawKey]bool) (map[schemas.ID]eventVersion, error) {
	versions := map[schemas.ID]eventVersion{}
	for _, batch := range batches {
		received, ok := schemas.ColumnArray(batch, "received_at").(*array.Timestamp)
		if !ok {
			return nil, errors.New("the Arrow batch has no received_at of the right type")
		}
		for i, key := range rawKeys(batch) {
			if key.version > versions[key.id].version && (present == nil || present[key]) {
				versions[key.id] = eventVersion{version: key.version, day: timeOf(received, i).Truncate(day)}
			}
		}
	}
	return versions, nil
}

type eventVersion struct {
	version int64
	day     time.Time // of received_at
}

// count writes down which version of each event counts. A version that is lower than the one which is there stays out.
func (e *eventSink) count(ctx context.Context, versions map[schemas.ID]eventVersion) error {
	known, err := e.versions(ctx, versions)
	if err != nil {
		return err
	}
	var body []byte
	rows := 0
	for id, v := range versions {
		if known[id] >= v.version {
			continue
		}
		// ClickHouse leaves out the zeros at the end when it makes a String of a FixedString; as all ids have one length,
		// no two become equal.
		short := bytes.TrimRight(id[:], "\x00")
		body = append(append(body, byte(len(short))), short...)
		body = binary.LittleEndian.AppendUint64(body, uint64(v.version))
		body = binary.LittleEndian.AppendUint16(body, uint16(v.day.Unix()/int64(day/time.Second)))
		rows++
	}
	if rows == 0 {
		return nil
	}
	table := e.options.Database + "." + e.options.LocalTable("event_versions")
	return e.inserter.insert(ctx, table, "RowBinary", once(), rows, bytes.NewReader(body))
}

// versions returns what event_versions has of the days of versions.
func (e *eventSink) versions(ctx context.Context, versions map[schemas.ID]eventVersion) (map[schemas.ID]int64, error) {
	days := set[string]{}
	for _, v := range versions {
		days["'"+v.day.Format(time.DateOnly)+"'"] = true
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	rows, err := e.conn.Query(ctx, "SELECT event_id, version FROM "+e.options.Database+".event_versions WHERE received_day IN ("+days.list()+")")
	if err != nil {
		return nil, fmt.Errorf("reading %s.event_versions: %w", e.options.Database, err)
	}
	known := map[schemas.ID]int64{}
	for rows.Next() {
		var text string
		var version int64
		if err := rows.Scan(&text, &version); err != nil {
			return nil, errors.Join(fmt.Errorf("reading %s.event_versions: %w", e.options.Database, err), rows.Close())
		}
		var id schemas.ID
		copy(id[:], text)
		if _, ok := versions[id]; ok {
			known[id] = max(known[id], version)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, fmt.Errorf("reading %s.event_versions: %w", e.options.Database, err)
	}
	return known, nil
}
