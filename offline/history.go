package offline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/load"
	"github.com/auditmill/auditmill/schemas"
)

// Range is a span of event time and a condition, of a history. The zero time is no bound.
type Range struct {
	From, To time.Time
	Where    string // SQL on the columns of events; empty for all
	Versions bool   // all rows of an event, in the order in which they were written, and not only the one that counts
	Lean     bool   // without the column raw
}

// ClickHouse is the history in the table events, read back as Arrow batches in the order of event_time.
func ClickHouse(conn load.Conn, database string, r Range) History {
	return func(ctx context.Context, yield func(arrow.RecordBatch, func(int) Origin) error) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		pipe, w := io.Pipe()
		done := make(chan error, 1)
		go func() {
			err := load.Query(ctx, conn, database, r.sql(), "ArrowStream", w)
			// The reader sees the error in the place of the end.
			_ = w.CloseWithError(err)
			done <- err
		}()
		err := readArrow(pipe, func(batch arrow.RecordBatch) error {
			return yield(batch, func(row int) Origin {
				return Origin{File: "clickhouse:" + text(batch, "event_id", row)}
			})
		})
		_ = pipe.CloseWithError(err)
		cancel()
		if queryErr := <-done; err == nil && queryErr != nil && !errors.Is(queryErr, context.Canceled) {
			err = queryErr
		}
		return err
	}
}

func (r Range) sql() string {
	table, order := "events", ""
	if r.Versions {
		table, order = "event_rows", ", version"
	}
	sql := "SELECT " + selectList(r.Lean) + " FROM " + table + " WHERE 1"
	stamp := func(t time.Time) string { return t.UTC().Format("'2006-01-02 15:04:05.000000'") }
	if !r.From.IsZero() {
		sql += " AND event_time >= toDateTime64(" + stamp(r.From) + ", 6, 'UTC')"
	}
	if !r.To.IsZero() {
		sql += " AND event_time < toDateTime64(" + stamp(r.To) + ", 6, 'UTC')"
	}
	if r.Where != "" {
		sql += " AND (" + r.Where + "\n)"
	}
	return sql + " ORDER BY event_time, event_id" + order + ` SETTINGS max_block_size = 8192, prefer_column_name_to_alias = 1,
		output_format_arrow_low_cardinality_as_dictionary = 1, output_format_arrow_string_as_string = 1,
		output_format_arrow_fixed_string_as_fixed_byte_array = 1, output_format_arrow_compression_method = 'none'`
}

// selectList gives every column as enrich wrote it: the table has no nulls, so what it holds in their place becomes null again.
func selectList(lean bool) string {
	var list []string
	for _, c := range schemas.Columns() {
		if lean && c.Type == schemas.TypeBytes {
			continue
		}
		null := ""
		switch c.Type {
		case schemas.TypeDict, schemas.TypeString:
			null = "''"
		case schemas.TypeTime:
			null = "toDateTime64(0, 6, 'UTC')"
		case schemas.TypeUint16, schemas.TypeInt64:
			null = "0"
		default: // never null, or zero is a value
		}
		if null == "" {
			list = append(list, c.Name)
			continue
		}
		list = append(list, fmt.Sprintf("nullIf(%s, %s) AS %[1]s", c.Name, null))
	}
	return strings.Join(list, ", ")
}

func readArrow(in io.Reader, yield func(arrow.RecordBatch) error) error {
	reader, err := ipc.NewReader(in)
	if err != nil {
		return fmt.Errorf("reading Arrow from ClickHouse: %w", err)
	}
	defer reader.Release()
	for reader.Next() {
		if err := yield(reader.RecordBatch()); err != nil {
			return err
		}
	}
	if err := reader.Err(); err != nil {
		return fmt.Errorf("reading Arrow from ClickHouse: %w", err)
	}
	return nil
}

// Topic is the history in audit.enriched.v1, from the records written at or after from to those that are there when it begins.
func Topic(cfg kafka.Config, from time.Time) History {
	return func(ctx context.Context, yield func(arrow.RecordBatch, func(int) Origin) error) error {
		// Control records are the last of most partitions; without them the end would never be seen.
		client, err := kafka.NewClient(cfg, kgo.KeepControlRecords(), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
		if err != nil {
			return err
		}
		defer client.Close()
		if err := kafka.WaitForBroker(ctx, client, cfg); err != nil {
			return err
		}
		admin := kadm.NewClient(client)
		starts, err := admin.ListStartOffsets(ctx, schemas.TopicEnriched)
		if !from.IsZero() {
			starts, err = admin.ListOffsetsAfterMilli(ctx, from.UnixMilli(), schemas.TopicEnriched)
		}
		if err == nil {
			err = starts.Error()
		}
		if err != nil {
			return fmt.Errorf("finding where %s begins: %w", schemas.TopicEnriched, err)
		}
		ends, err := admin.ListCommittedOffsets(ctx, schemas.TopicEnriched)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return fmt.Errorf("finding where %s ends: %w", schemas.TopicEnriched, err)
		}
		return readTopic(ctx, client, starts, ends, yield)
	}
}

func readTopic(
	ctx context.Context, client *kgo.Client, starts, ends kadm.ListedOffsets, yield func(arrow.RecordBatch, func(int) Origin) error,
) error {
	left := map[int32]int64{} // where each partition ends
	from := map[int32]kgo.Offset{}
	starts.Each(func(start kadm.ListedOffset) {
		if end, ok := ends.Lookup(start.Topic, start.Partition); ok && start.Offset < end.Offset {
			left[start.Partition], from[start.Partition] = end.Offset, kgo.NewOffset().At(start.Offset)
		}
	})
	if len(left) == 0 {
		return nil
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{schemas.TopicEnriched: from})
	reader := schemas.NewReader()
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, e := range fetches.Errors() {
			if kafka.Fatal(e.Err) {
				return fmt.Errorf("reading %s/%d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		var failed error
		fetches.EachRecord(func(r *kgo.Record) {
			end, open := left[r.Partition]
			if open && r.Offset < end && failed == nil && !r.Attrs.IsControl() {
				failed = readRecord(reader, r, yield)
			}
			if open && r.Offset >= end-1 {
				delete(left, r.Partition)
			}
		})
		if failed != nil {
			return failed
		}
	}
	return nil
}

func readRecord(reader *schemas.Reader, r *kgo.Record, yield func(arrow.RecordBatch, func(int) Origin) error) error {
	batch, err := reader.Open(r.Value)
	if err != nil {
		return fmt.Errorf("%s/%d offset %d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	origin := Origin{File: fmt.Sprintf("kafka:%s/%d/%d", r.Topic, r.Partition, r.Offset)}
	return yield(batch, func(row int) Origin { return Origin{origin.File, row + 1} })
}
