package load

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/auditmill/auditmill/schemas"
)

// maxMinutes bounds the list of minutes in a statement; beyond it, whole days are made anew.
const maxMinutes = 2000

// rebuildRollups makes the counts of all minutes that the batches touch anew, for their raw partitions
// only. Nobody else writes those: this instance owns the partition. It can be repeated.
//
// It is needed because a row that is in events need not be in the rollups: the server may have died between
// the two, and a repetition that leaves the row out does not reach them.
func (e *eventSink) rebuildRollups(ctx context.Context, batches []arrow.RecordBatch) error {
	touched := map[int32]*touchedTimes{}
	for _, batch := range batches {
		received, ok1 := schemas.ColumnArray(batch, "received_at").(*array.Timestamp)
		happened, ok2 := schemas.ColumnArray(batch, "event_time").(*array.Timestamp)
		if !ok1 || !ok2 {
			return fmt.Errorf("rebuilding rollups: the batch has no received_at or event_time")
		}
		for i, key := range rawKeys(batch) {
			t := touched[key.partition]
			if t == nil {
				t = &touchedTimes{days: map[string]bool{}, received: map[int64]bool{}, happened: map[int64]bool{}}
				touched[key.partition] = t
			}
			t.add(timeOf(received, i), timeOf(happened, i))
		}
	}
	for _, partition := range slices.Sorted(maps.Keys(touched)) {
		for _, rollup := range schemas.Rollups() {
			if err := e.rebuildRollup(ctx, rollup, partition, touched[partition]); err != nil {
				return fmt.Errorf("rebuilding %s for raw partition %d: %w", rollup.Table, partition, err)
			}
		}
	}
	return nil
}

// timeOf is the value as ClickHouse stores it: null is 1970.
func timeOf(column *array.Timestamp, i int) time.Time {
	if column.IsNull(i) {
		return time.Unix(0, 0).UTC()
	}
	return time.UnixMicro(int64(column.Value(i))).UTC()
}

type touchedTimes struct {
	days               map[string]bool // of received_at
	received, happened map[int64]bool  // minutes in seconds since 1970
}

func (t *touchedTimes) add(received, happened time.Time) {
	t.days["'"+received.Format(time.DateOnly)+"'"] = true
	t.received[received.Truncate(time.Minute).Unix()] = true
	t.happened[happened.Truncate(time.Minute).Unix()] = true
}

func (e *eventSink) rebuildRollup(ctx context.Context, r schemas.Rollup, partition int32, t *touchedTimes) error {
	days := strings.Join(slices.Sorted(maps.Keys(t.days)), ", ")
	dayOfRow, minutes := "toDate(minute)", t.received
	if r.Columns[0][0] == "received_day" {
		dayOfRow, minutes = "received_day", t.happened
	}
	condition := func(day, minute string) string {
		where := fmt.Sprintf("raw_partition = %d AND %s IN (%s)", partition, day, days)
		if len(minutes) <= maxMinutes {
			var list []string
			for _, m := range slices.Sorted(maps.Keys(minutes)) {
				list = append(list, fmt.Sprint(m))
			}
			where += fmt.Sprintf(" AND toUnixTimestamp(%s) IN (%s)", minute, strings.Join(list, ", "))
		}
		return where
	}
	table := e.options.Database + "." + e.options.LocalTable(r.Table)
	if err := e.exec(ctx, "ALTER TABLE "+table+" DELETE WHERE "+condition(dayOfRow, "minute")); err != nil {
		return err
	}
	return e.exec(ctx, "INSERT INTO "+table+" "+r.Select(e.options, condition("toDate(received_at)", r.Minute)))
}
