package load

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/auditmill/auditmill/schemas"
)

// maxListed bounds each list in a statement; beyond it, all between the first and the last minute is counted again.
const maxListed = 2000

// mendRollups makes the counts of all minutes that rows touch right, for their raw partitions only. Nobody else
// writes those: this instance owns the partition. It can be repeated.
//
// It is needed because a row that is in the table need not be in the rollups: the server may have died between
// the two, and a repetition that leaves the row out does not reach them. And because the rollups count the first row of an
// event, which a correction takes the place of.
func (e *eventSink) mendRollups(ctx context.Context, token string, touched map[int32]*touchedTimes, which func(schemas.Rollup) bool) error {
	for _, partition := range slices.Sorted(maps.Keys(touched)) {
		for _, rollup := range schemas.Rollups() {
			if !which(rollup) {
				continue
			}
			if err := e.mendRollup(ctx, token, rollup, partition, touched[partition]); err != nil {
				return fmt.Errorf("mending %s for raw partition %d: %w", rollup.Table, partition, err)
			}
		}
	}
	return nil
}

// touchedBy returns what the chosen rows touch, by raw partition.
func touchedBy(batches []arrow.RecordBatch, chosen func(rawKey) bool) (map[int32]*touchedTimes, error) {
	touched := map[int32]*touchedTimes{}
	for _, batch := range batches {
		received, ok1 := schemas.ColumnArray(batch, "received_at").(*array.Timestamp)
		happened, ok2 := schemas.ColumnArray(batch, "event_time").(*array.Timestamp)
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("mending rollups: the batch has no received_at or event_time")
		}
		for i, key := range rawKeys(batch) {
			if !chosen(key) {
				continue
			}
			t := touched[key.partition]
			if t == nil {
				t = &touchedTimes{days: set[string]{}, received: set[int64]{}, happened: set[int64]{}}
				touched[key.partition] = t
			}
			t.add(timeOf(received, i), timeOf(happened, i))
		}
	}
	return touched, nil
}

// timeOf is the value as ClickHouse stores it: null is 1970.
func timeOf(column *array.Timestamp, i int) time.Time {
	if column.IsNull(i) {
		return time.Unix(0, 0).UTC()
	}
	return time.UnixMicro(int64(column.Value(i))).UTC()
}

type touchedTimes struct {
	days               set[string] // of received_at
	received, happened set[int64]  // minutes in seconds since 1970
}

func (t *touchedTimes) add(received, happened time.Time) {
	t.days["'"+received.Format(time.DateOnly)+"'"] = true
	t.received[received.Truncate(time.Minute).Unix()] = true
	t.happened[happened.Truncate(time.Minute).Unix()] = true
}

// set is a set whose elements are written into statements.
type set[T cmp.Ordered] map[T]bool

func (s set[T]) list() string {
	var all []string
	for _, v := range slices.Sorted(maps.Keys(s)) {
		all = append(all, fmt.Sprint(v))
	}
	return strings.Join(all, ", ")
}

func (e *eventSink) mendRollup(ctx context.Context, token string, r schemas.Rollup, partition int32, t *touchedTimes) error {
	dayOfRow, minutes := "toDate(minute)", t.received
	if r.Columns[0][0] == "received_day" {
		dayOfRow, minutes = "received_day", t.happened
	}
	sorted := slices.Sorted(maps.Keys(minutes))
	first, last := sorted[0], sorted[len(sorted)-1]
	condition := func(day, minute string) string {
		where := fmt.Sprintf("raw_partition = %d AND %s IN (%s)", partition, day, t.days.list())
		if len(minutes) <= maxListed {
			where += fmt.Sprintf(" AND toUnixTimestamp(%s) IN (%s)", minute, minutes.list())
		}
		return where
	}
	// The bounds are on the column itself, so that indexes serve.
	events := fmt.Sprintf("%s AND %s >= toDateTime(%d, 'UTC') AND %[2]s < toDateTime(%[4]d, 'UTC')",
		condition("toDate(received_at)", r.Minute), r.Time, first, last+60)
	rollup := fmt.Sprintf("%s AND minute BETWEEN toDateTime(%d, 'UTC') AND toDateTime(%d, 'UTC')",
		condition(dayOfRow, "minute"), first, last)
	insert, differences := r.Mend(e.options, events, rollup)
	for n := range maxMends {
		differ, err := e.number(ctx, differences)
		if err != nil || differ == 0 {
			return err
		}
		// A second attempt at the same time would add the difference twice: settle finds it by its id, and the server knows
		// the token. A server that is killed may know the token and not have the rows; then the next one counts.
		err = e.execAs(ctx, insert, queryPrefix(token), clickhouse.Settings{
			"insert_deduplication_token": fmt.Sprintf("%s/%s/%d/%d", token, r.Table, partition, n),
		})
		// Replicated tables write down token and rows at once; and another replica may not have the rows yet when it is asked.
		if err != nil || e.options.Replicated {
			return err
		}
	}
	return fmt.Errorf("minutes still differ after %d attempts", maxMends)
}

// maxMends bounds the tokens that may have been used up: one for each attempt that was killed.
const maxMends = 64

// number runs a query for one.
func (e *eventSink) number(ctx context.Context, sql string) (n uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	if err := e.conn.QueryRow(ctx, sql).Scan(&n); err != nil {
		return 0, fmt.Errorf("running %.80q: %w", sql, err)
	}
	return n, nil
}
