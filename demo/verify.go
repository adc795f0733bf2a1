package demo

import (
	"context"
	"errors"
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

// verifier compares what ClickHouse has with what was sent, event by event and alert by alert.
type verifier struct {
	conn     load.Conn
	database string
	lines    [][]byte
	known    offline.Context
	screen   *screen
}

func (v *verifier) verify(ctx context.Context, corrected int64) error {
	v.screen.title("Is it all there, and nothing twice?")
	expected, err := rules.ExpectedAlerts()
	if err != nil {
		return err
	}
	want, wantAlerts := make(map[string]int), make(map[string]int)
	for _, cluster := range clusters() {
		prints := fingerprints(cluster, v.lines)
		for _, print := range prints {
			want[print]++
		}
		for _, e := range expected {
			wantAlerts[e.Rule+" "+prints[e.Line-1]]++
		}
	}
	have, err := tally(ctx, v.conn, fmt.Sprintf("SELECT lower(hex(fingerprint)), toInt64(count()) FROM %s.events GROUP BY 1", v.database))
	if err != nil {
		return err
	}
	if err := differ("events", want, have); err != nil {
		return err
	}
	v.screen.say("✓ all %d events sent are in ClickHouse exactly once", len(v.lines)*len(clusters()))
	v.screen.say("✓ each says who it was and why it was allowed, as far as that is known in the end; %d were corrected for it", corrected)
	return v.alerts(ctx, wantAlerts)
}

// alerts holds those on single events to a list that was made without the engine, and those of correlations to what the same
// rules raise on the recording without a server.
func (v *verifier) alerts(ctx context.Context, want map[string]int) error {
	pack, err := offline.Sources{}.Load()
	if err != nil {
		return err
	}
	raised, err := offline.Raise(ctx, pack, offline.Recorded(v.lines, v.known, clusters()...))
	if err != nil {
		return err
	}
	correlated, allowed := map[string]int{}, map[string]bool{}
	for id, a := range raised.Arrived {
		if counts(pack, a.Rule) {
			correlated[id] = 1
		}
	}
	// What waits for the events after it may be there or not: the recording ends, the clock does not.
	for id := range raised.Decided {
		allowed[id] = true
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		early, err := v.compare(ctx, pack, want, correlated, allowed)
		if err == nil {
			v.say(len(want), len(correlated), early)
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (v *verifier) say(singles, correlated, early int) {
	more := ""
	if early > 0 {
		more = fmt.Sprintf("; %d more were raised by what was known first, before it was corrected", early)
	}
	v.screen.say("✓ the %d alerts that the recording contains were raised, and no other: %d on single events, %d on several%s",
		singles+correlated, singles, correlated, more)
}

// compare looks at the alerts that there are: those on single events by rule and fingerprint of the event, those of
// correlations by id. It returns how many there are besides that rows raised which were corrected later.
func (v *verifier) compare(ctx context.Context, pack *ir.Pack, want, correlated map[string]int, allowed map[string]bool) (early int, err error) {
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
		return fmt.Sprintf("SELECT %s, toInt64(count()) FROM %s.alerts FINAL WHERE %s GROUP BY 1", key, v.database, where)
	}
	singles, err := tally(ctx, v.conn, sql("concat(rule, ' ', fingerprint)", "NOT "+in(several)))
	if err != nil {
		return 0, err
	}
	others, err := tally(ctx, v.conn, sql("if("+in(silences)+", concat('"+absent+"', id), id)", in(several)))
	if err != nil {
		return 0, err
	}
	maps.DeleteFunc(others, func(id string, _ int) bool { return allowed[id] || strings.HasPrefix(id, absent) })
	if len(singles) > len(want) || len(others) > len(correlated) {
		if early, err = v.withoutEarly(ctx, pack, want, singles, correlated, others); err != nil {
			return 0, err
		}
	}
	return early, errors.Join(differ("alerts", want, singles), differ("alerts of correlations", correlated, others))
}

// withoutEarly takes out of the alerts those that rows raised which do not count any more: all rows of an event are there
// to show it.
func (v *verifier) withoutEarly(ctx context.Context, pack *ir.Pack, want, singles, correlated, others map[string]int) (early int, err error) {
	raised, err := offline.Raise(ctx, pack, offline.ClickHouse(v.conn, v.database, offline.Range{Versions: true}))
	if err != nil {
		return 0, err
	}
	for _, all := range []map[string]schemas.Alert{raised.Arrived, raised.Decided} {
		for id, a := range all {
			key, have, must := a.Rule+" "+a.Fingerprint, singles, want
			if counts(pack, a.Rule) {
				key, have, must = id, others, correlated
			}
			if must[key] == 0 && have[key] == 1 {
				delete(have, key)
				early++
			}
		}
	}
	return early, nil
}

// counts reports whether a rule is a correlation.
func counts(pack *ir.Pack, id string) bool {
	return slices.ContainsFunc(pack.Correlations, func(c ir.Correlation) bool { return c.ID == id })
}

// absent marks the id of an alert about something that did not happen.
const absent = "absent "

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
