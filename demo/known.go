package demo

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/auditmill/auditmill/enrich/feed"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/load"
	"github.com/auditmill/auditmill/offline"
	"github.com/auditmill/auditmill/testdata/recording"
)

// known is what the demo knows of the people in the recording and of the networks they are in. What it knows of roles and
// bindings, pods and tokens it learns from the events.
func known() (offline.Context, error) {
	var known offline.Context
	const always = 1 // µs since 1970
	err := known.AddPeople("people.csv", bytes.NewReader(recording.People()), always)
	if err == nil {
		err = known.AddRanges("networks.txt", bytes.NewReader(recording.Networks()), always)
	}
	return known, err
}

// tell writes what is known to audit.context.v1, as auditmill context import does.
func tell(ctx context.Context, cfg kafka.Config, known offline.Context) error {
	client, err := kafka.NewClient(cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	for cluster, changes := range known.Changes {
		records, err := feed.Records(cluster, changes)
		if err == nil {
			err = kafka.Produce(ctx, client, slog.New(slog.DiscardHandler), records...)
		}
		if err != nil {
			return fmt.Errorf("importing people and networks: %w", err)
		}
	}
	return nil
}

// waitKnown returns when all rows say who and why as they must in the end, and how many had to be corrected for it.
func waitKnown(ctx context.Context, conn load.Conn, database string, lines [][]byte, known offline.Context) (corrected int64, err error) {
	want, err := offline.Rows(ctx, offline.Recorded(lines, known, clusters()...))
	if err != nil {
		return 0, err
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		have, err := offline.Rows(ctx, offline.ClickHouse(conn, database, offline.Range{Lean: true}))
		if err != nil {
			return 0, err
		}
		if maps.Equal(want, have) {
			break
		}
		if time.Now().After(deadline) {
			return 0, unlike(want, have)
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	row := conn.QueryRow(ctx, fmt.Sprintf("SELECT toInt64(uniqExact(event_id)) FROM %s.event_rows WHERE version > 0", database))
	if err := row.Scan(&corrected); err != nil {
		return 0, fmt.Errorf("counting corrected rows: %w", err)
	}
	return corrected, nil
}

// unlike says how many rows are not as they should be, and shows one.
func unlike(want, have map[string]string) error {
	n, example := 0, ""
	for print, row := range want {
		if have[print] != row {
			if n++; example == "" {
				example = fmt.Sprintf("the event with the fingerprint %s is\n  %s\ninstead of\n  %s", print, have[print], row)
			}
		}
	}
	return fmt.Errorf("%d rows do not say who and why as is known in the end; %s", n, example)
}
