package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/auditmill/auditmill/alert/rules"
	"github.com/auditmill/auditmill/ingest/split"
	"github.com/auditmill/auditmill/load"
	"github.com/auditmill/auditmill/schemas"
)

// waitLoaded returns when ClickHouse has at least want events, or when it has got nothing
// new for half a minute: verify then says what is missing.
func waitLoaded(ctx context.Context, conn load.Conn, database string, want int64) error {
	const patience = 30 * time.Second
	var last int64 = -1
	changed := time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		var n int64
		row := conn.QueryRow(ctx, fmt.Sprintf("SELECT toInt64(count()) FROM %s.events", database))
		if err := row.Scan(&n); err != nil {
			return fmt.Errorf("counting events: %w", err)
		}
		if n != last {
			last, changed = n, time.Now()
		}
		if n >= want && time.Since(changed) > time.Second || time.Since(changed) > patience {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// verify compares what ClickHouse has with what was sent, event by event and alert by alert.
func verify(ctx context.Context, conn load.Conn, database string, lines [][]byte, s *screen) error {
	s.title("Is it all there, and nothing twice?")
	expected, err := rules.ExpectedAlerts()
	if err != nil {
		return err
	}
	want, wantAlerts := make(map[string]int), make(map[string]int)
	for _, cluster := range clusters() {
		prints := fingerprints(cluster, lines)
		for _, print := range prints {
			want[print]++
		}
		for _, e := range expected {
			wantAlerts[e.Rule+" "+prints[e.Line-1]]++
		}
	}
	have, err := counts(ctx, conn, fmt.Sprintf("SELECT lower(hex(fingerprint)), toInt64(count()) FROM %s.events GROUP BY 1", database))
	if err != nil {
		return err
	}
	if err := differ("events", want, have); err != nil {
		return err
	}
	s.say("✓ all %d events sent are in ClickHouse exactly once", len(lines)*len(clusters()))

	total := len(expected) * len(clusters())
	haveAlerts, err := waitAlerts(ctx, conn, database, total)
	if err != nil {
		return err
	}
	if err := differ("alerts", wantAlerts, haveAlerts); err != nil {
		return err
	}
	s.say("✓ the %d alerts that the recording contains were raised, and no other", total)
	return nil
}

// waitAlerts returns the alerts once there are so many, or what there is after half a minute.
func waitAlerts(ctx context.Context, conn load.Conn, database string, want int) (map[string]int, error) {
	sql := fmt.Sprintf("SELECT concat(rule, ' ', fingerprint), toInt64(count()) FROM %s.alerts FINAL GROUP BY 1", database)
	for deadline := time.Now().Add(30 * time.Second); ; {
		have, err := counts(ctx, conn, sql)
		if err != nil {
			return nil, err
		}
		n := 0
		for _, c := range have {
			n += c
		}
		if n >= want || time.Now().After(deadline) {
			return have, nil
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func fingerprints(cluster string, lines [][]byte) []string {
	var splitter split.Splitter
	var hasher schemas.Hasher
	var out []string
	for _, line := range lines {
		splitter.Split(line, func(item *split.Item) bool {
			if item.Fault == nil {
				out = append(out, hasher.Fingerprint(cluster, &item.Fields).String())
			}
			return true
		})
	}
	return out
}

func counts(ctx context.Context, conn load.Conn, sql string) (map[string]int, error) {
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("checking: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err says how it went
	out := make(map[string]int)
	for rows.Next() {
		var key string
		var n int64
		if err := rows.Scan(&key, &n); err != nil {
			return nil, fmt.Errorf("checking: %w", err)
		}
		out[key] = int(n)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("checking: %w", err)
	}
	return out, nil
}

// differ names the first few differences.
func differ(what string, want, have map[string]int) error {
	var wrong []string
	for key, n := range want {
		if have[key] != n {
			wrong = append(wrong, fmt.Sprintf("%s: %d instead of %d", key, have[key], n))
		}
	}
	for key, n := range have {
		if want[key] == 0 {
			wrong = append(wrong, fmt.Sprintf("%s: %d instead of none", key, n))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	shown := wrong[:min(len(wrong), 10)]
	return fmt.Errorf("%d %s are not as they should be:\n  %s", len(wrong), what, strings.Join(shown, "\n  "))
}
