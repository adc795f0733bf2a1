package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/alert/rules"
	"github.com/auditmill/auditmill/ingest/split"
	"github.com/auditmill/auditmill/load"
	"github.com/auditmill/auditmill/offline"
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
	have, err := tally(ctx, conn, fmt.Sprintf("SELECT lower(hex(fingerprint)), toInt64(count()) FROM %s.events GROUP BY 1", database))
	if err != nil {
		return err
	}
	if err := differ("events", want, have); err != nil {
		return err
	}
	s.say("✓ all %d events sent are in ClickHouse exactly once", len(lines)*len(clusters()))

	return verifyAlerts(ctx, conn, database, lines, wantAlerts, s)
}

// verifyAlerts holds the alerts on single events to a list that was made without the engine, and those of
// correlations to what the same rules raise on the recording without a server.
func verifyAlerts(ctx context.Context, conn load.Conn, database string, lines [][]byte, want map[string]int, s *screen) error {
	pack, err := offline.Sources{}.Load()
	if err != nil {
		return err
	}
	raised, err := offline.Raise(ctx, pack, offline.Recorded(lines, offline.Context{}, clusters()...))
	if err != nil {
		return err
	}
	correlated, allowed := map[string]int{}, map[string]bool{}
	for id, a := range raised.Arrived {
		if counts(pack, a.Rule) {
			correlated[id] = 1
		}
	}
	for id := range raised.Decided {
		allowed[id] = true
	}
	total := len(correlated)
	for _, n := range want {
		total += n
	}
	singles, others, err := waitAlerts(ctx, conn, database, pack, total)
	if err != nil {
		return err
	}
	if err := differ("alerts", want, singles); err != nil {
		return err
	}
	// What waits for the events after it may be there or not: the recording ends, the clock does not.
	maps.DeleteFunc(others, func(id string, _ int) bool { return allowed[id] || strings.HasPrefix(id, absent) })
	if err := differ("alerts of correlations", correlated, others); err != nil {
		return err
	}
	s.say("✓ the %d alerts that the recording contains were raised, and no other: %d on single events, %d on several",
		total, total-len(correlated), len(correlated))
	return nil
}

// counts reports whether a rule is a correlation.
func counts(pack *ir.Pack, id string) bool {
	return slices.ContainsFunc(pack.Correlations, func(c ir.Correlation) bool { return c.ID == id })
}

// absent marks the id of an alert about something that did not happen.
const absent = "absent "

// waitAlerts returns the alerts once there are so many, or what there is after half a minute: those on single events by rule and
// fingerprint of the event, those of correlations by id.
func waitAlerts(
	ctx context.Context, conn load.Conn, database string, pack *ir.Pack, want int,
) (singles, correlated map[string]int, err error) {
	var several, silences []string
	for i := range pack.Correlations {
		c := &pack.Correlations[i]
		several = append(several, "'"+c.ID+"'")
		if c.Type == ir.Absence {
			silences = append(silences, "'"+c.ID+"'")
		}
	}
	in := func(ids []string) string { return "rule IN (" + strings.Join(append(ids, "''"), ", ") + ")" }
	sql := func(key, where string) string {
		return fmt.Sprintf("SELECT %s, toInt64(count()) FROM %s.alerts FINAL WHERE %s GROUP BY 1", key, database, where)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		if singles, err = tally(ctx, conn, sql("concat(rule, ' ', fingerprint)", "NOT "+in(several))); err != nil {
			return nil, nil, err
		}
		if correlated, err = tally(ctx, conn, sql("if("+in(silences)+", concat('"+absent+"', id), id)", in(several))); err != nil {
			return nil, nil, err
		}
		n := len(correlated)
		for _, c := range singles {
			n += c
		}
		if n >= want || time.Now().After(deadline) {
			return singles, correlated, nil
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
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

// tally runs a query for keys and how often each is there.
func tally(ctx context.Context, conn load.Conn, sql string) (map[string]int, error) {
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
