package alert

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/auditmill/auditmill/schemas"
)

// correctedPack has a rule on what happened, one on who it was, and a correlation by who it was.
func correctedPack() fstest.MapFS {
	return fstest.MapFS{
		"a.yml": {Data: []byte(`title: Secret read
id: 11111111-1111-4111-8111-111111111111
name: secret
logsource: {product: kubernetes, service: audit}
detection: {s: {resource: secrets}, condition: s}
level: high
---
title: Three secrets
id: 22222222-2222-4222-8222-222222222222
correlation: {type: event_count, rules: [secret], group-by: [actor], timespan: 10m, condition: {gte: 3}, generate: true}
level: high
---
title: Somebody who has left
id: 33333333-3333-4333-8333-333333333333
logsource: {product: kubernetes, service: audit}
detection: {s: {active: false}, condition: s}
level: high
`)},
	}
}

// An event that is corrected raises the same alerts again, with more in them, and those that only the correction shows. It counts
// once for a correlation, and for who it was by.
func TestCorrectedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVirtualWorld(t)
		event := func(n int, version int64) *schemas.Event {
			e := secretEvent(n)
			e.EventTime = testNow().Add(time.Duration(n) * time.Second).UnixMicro()
			e.Actor = "oidc:alice"
			if version > 0 {
				e.Version, e.Actor, e.DisplayName, e.Active = version, "alice@example.com", "Alice", schemas.False
			}
			return e
		}
		i := w.start(func(c *Config, d *Deps) { c.Rules.Embedded, d.Pack = true, correctedPack() })
		w.produce(1, batch(t, event(1, 0), event(2, 0)))
		w.produce(1, batch(t, event(1, 1), event(2, 1)))
		w.produce(1, batch(t, event(3, 0))) // the third by the old name, the first by it that stays
		until(t, "an evaluation", func() bool { return i.count("alert_records_out_total") == 5 })
		w.produce(1, batch(t, event(3, 1))) // and the third by the new one
		alerts := func() map[string][]schemas.Alert {
			byTitle := map[string][]schemas.Alert{}
			for _, a := range w.alerts() {
				byTitle[a.Title] = append(byTitle[a.Title], a)
			}
			return byTitle
		}
		until(t, "the alert of the correlation", func() bool { return len(alerts()["Three secrets"]) > 0 })
		i.stop()

		got := alerts()
		read := map[string][]uint64{}
		for _, a := range got["Secret read"] {
			read[a.ID] = append(read[a.ID], a.Version)
			if (a.Version > 0) != (a.DisplayName == "Alice") {
				t.Errorf("version %d by %q", a.Version, a.DisplayName)
			}
		}
		for n := 1; n <= 3; n++ {
			id := schemas.AlertID("11111111-1111-4111-8111-111111111111", secretEvent(n).EventID.String())
			if !slices.Equal(read[id], []uint64{0, 1}) {
				t.Errorf("secret %d: raised with versions %v", n, read[id])
			}
		}
		if n := len(got["Somebody who has left"]); n != 3 {
			t.Errorf("%d alerts of what only the corrections show, want 3", n)
		}
		for _, a := range got["Three secrets"] {
			if a.Values["actor"] != "alice@example.com" || a.Events != 3 || a.Version != 1 || a.Active != schemas.False {
				t.Errorf("%d events by %s, version %d: %s", a.Events, a.Values["actor"], a.Version, a.DisplayName)
			}
		}
		back := 0
		for _, r := range w.read(schemas.TopicSignals) {
			if strings.Contains(string(r.Value), `"retract":true`) {
				back++
				if !strings.Contains(string(r.Key), "oidc:alice") {
					t.Errorf("taken back in the group %q", r.Key)
				}
			}
		}
		if back != 3 {
			t.Errorf("%d signals are taken back, want 3", back)
		}
	})
}
