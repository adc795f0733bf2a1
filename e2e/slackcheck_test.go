package e2e

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/notify"
	"github.com/auditmill/auditmill/load"
)

// checkAlerts compares the table with what must be in it, id by id.
func checkAlerts(t *testing.T, conn load.Conn, matches int, want map[string]map[string]bool) {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT id, group_id, rule FROM auditmill.alerts FINAL")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	seen := map[string]bool{}
	for rows.Next() {
		var id, group, rule string
		if err := rows.Scan(&id, &group, &rule); err != nil {
			t.Fatal(err)
		}
		if seen[id] || !want[group][id] {
			t.Errorf("alert %s of rule %s in group %s: there twice %t, or nothing raises it", id, rule, group, seen[id])
		}
		seen[id] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if len(seen) != matches {
		t.Errorf("%d alerts are in ClickHouse, want %d", len(seen), matches)
	}
	if n := ask(t, conn, "SELECT toInt64(uniqExact(event_id)) FROM auditmill.alerts"); n != int64(matches) {
		t.Errorf("the alerts are of %d events, want %d", n, matches)
	}
}

// checkSlack compares what Slack shows with what is recorded and with the alerts.
func (run slackRun) checkSlack(t *testing.T, slack *slackServer, told *records, want map[string]map[string]bool) {
	t.Helper()
	slack.mu.Lock()
	defer slack.mu.Unlock()
	if len(told.groups) != len(want) {
		t.Errorf("%d groups are recorded, want %d", len(told.groups), len(want))
	}
	digested := map[string]int{}
	for id, alerts := range want {
		s := told.groups[id].Told[notify.DefaultReceiver]
		m := slack.messages[s.TS]
		switch {
		case m == nil:
			t.Errorf("group %s is recorded as told in message %q, which Slack never took", id, s.TS)
		case s.State == "digest":
			digested[s.TS]++
		case s.State != "posted" || m.group != id || m.thread != "":
			t.Errorf("group %s is recorded as %+v, and the message is %+v", id, s, m)
		case m.count != uint64(len(alerts)):
			t.Errorf("the message of group %s shows %d alerts, and ClickHouse has %d", id, m.count, len(alerts))
		}
	}
	for ts, groups := range digested {
		if said := slack.messages[ts].groups; said != groups {
			t.Errorf("a digest tells of %d groups, and %d are recorded with it", said, groups)
		}
	}
	t.Logf("%d groups have a message, %d are in %d digests", len(want)-sum(digested), sum(digested), len(digested))
	if run.trouble == 0 && (sum(digested) == 0 || sum(digested) == len(want)) {
		t.Error("want groups of both kinds, for the test to show something")
	}
}

func sum(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

// checkTwice looks for what was posted again, and for the reason.
func (run slackRun) checkTwice(t *testing.T, slack *slackServer, told *records) {
	t.Helper()
	slack.mu.Lock()
	defer slack.mu.Unlock()
	recorded := map[string]bool{}
	for _, g := range told.groups {
		recorded[g.Told[notify.DefaultReceiver].TS] = true
	}
	last := map[string]*slackMessage{}
	replies, excused := map[string]int{}, map[string]int{}
	var twice, lost int
	for i := range slack.taken {
		m := &slack.taken[i]
		if m.lost {
			lost++
		}
		before := last[m.group]
		switch {
		case m.thread != "":
			replies[slack.messages[m.thread].group]++
			if m.lost || m.doubtful || m.kills < slack.kills {
				excused[slack.messages[m.thread].group]++
			}
		case !recorded[m.ts]:
			// The groups were told of again, by themselves or by a digest.
			twice++
			if !m.lost && !m.doubtful && m.kills == slack.kills {
				t.Errorf("a message is not recorded, and nobody was killed and no answer lost: %+v", m)
			}
		}
		if m.thread == "" && before != nil && before.kills == m.kills && !before.doubtful {
			if !before.lost {
				t.Errorf("group %s was posted twice, and nobody was killed and no answer lost: %+v, %+v", m.group, before, m)
			} else if !m.repeat {
				t.Errorf("group %s was posted again without saying so: %+v, %+v", m.group, before, m)
			}
		}
		if m.thread == "" && m.group != "" {
			last[m.group] = m
		}
	}
	for group, n := range replies {
		if woke := told.groups[group].Waking; n-excused[group] > int(woke) {
			t.Errorf("group %s was answered %d times, %d of them with a reason to repeat it, and woke %d times", group, n, excused[group], woke)
		}
	}
	t.Logf("%d messages were posted again; %d answers were lost, %d kills; %d replies", twice, lost, slack.kills, sum(replies))
	// At most one message is on its way at a time.
	if twice > lost+slack.kills {
		t.Errorf("%d messages were posted again, for %d lost answers and %d kills", twice, lost, slack.kills)
	}
	if d := cmp.Diff(run.kills > 0, slack.kills > 0); d != "" {
		t.Errorf("kills: %s", d)
	}
}
