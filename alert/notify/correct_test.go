package notify

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/schemas"
)

// corrected is an alert as it is raised again when more is known of its event: even the group may be another one then.
func corrected(a schemas.Alert, version uint64) schemas.Alert {
	a.Version, a.RaisedAt = version, a.RaisedAt.Add(time.Duration(version)*time.Minute)
	a.Actor, a.DisplayName, a.Team = "alice@example.com", fmt.Sprintf("Alice the %dth", version), "payments"
	a.GroupID = schemas.AlertGroup("of alice@example.com")
	return a
}

func TestCorrectionChangesTheMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		i := w.start(w.bot)
		until(t, "an assignment", i.posts)
		first, second := grouped("g", 1, 0), grouped("g", 2, time.Second)
		w.produce(first, second)
		until(t, "a post", func() bool { return len(w.slack.called()) == 1 })
		<-time.After(time.Minute)
		said := len(w.slack.called())

		w.produce(corrected(first, 1)) // not the one that the message shows
		<-time.After(time.Minute)
		w.produce(corrected(second, 1))
		<-time.After(time.Minute)
		w.produce(corrected(second, 1), second) // delivered again, the older one late
		<-time.After(time.Minute)
		i.stop()

		// The next instance knows what the message says.
		i = w.start(w.bot)
		until(t, "an assignment", i.posts)
		w.produce(corrected(second, 1))
		<-time.After(time.Minute)
		// Slack takes the change, and its answer is lost.
		w.slack.fail(acceptAndLose)
		w.produce(corrected(second, 2))
		<-time.After(time.Minute)
		// What comes next is counted as ever.
		w.produce(grouped("g", 3, 2*time.Second))
		<-time.After(time.Minute)
		i.stop()

		calls := w.slack.called()
		ts := calls[0].ts
		for _, c := range calls[1:] {
			if c.method != "update" || c.ts != ts {
				t.Errorf("%s of %s, want nothing but changes of the message", c.method, c.ts)
			}
		}
		after := calls[said:]
		if len(after) < 3 || len(after) > 4 {
			t.Fatalf("%d changes, want one for each correction, one more for the lost answer, and one for the last alert", len(after))
		}
		for k, says := range map[int]string{0: "Alice the 1th, team payments", 1: "Alice the 2th, team payments", len(after) - 1: "3× Shell"} {
			if !strings.Contains(after[k].blocks, says) {
				t.Errorf("change %d does not say %q: %s", k, says, after[k].blocks)
			}
		}
		g := w.group(schemas.AlertGroup("g"))
		if g.Count != 3 || g.Events != 3 || g.Revision != 2 || g.Told[DefaultReceiver].Revision != 2 || g.Named != "alice" {
			t.Errorf("got the state %+v, told %+v", g, g.Told[DefaultReceiver])
		}
	})
}

// A receiver whose messages cannot be changed hears nothing of corrections, and its groups can be forgotten all the same.
func TestCorrectionIsNoNewsForAWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		i := w.start()
		until(t, "an assignment", i.posts)
		w.produce(grouped("g", 1, 0))
		until(t, "a post", func() bool { return len(w.slack.posts()) == 1 })
		w.produce(corrected(grouped("g", 1, 0), 1))
		<-time.After(25 * time.Hour)
		s := i.current.Load()
		s.store.mu.Lock()
		g := s.store.groups[schemas.AlertGroup("g")]
		if s.store.pending(g) || g.Revision != 1 {
			t.Errorf("the group waits for ever, or was not corrected: %+v", g)
		}
		s.store.mu.Unlock()
		i.stop()
		if n := len(w.slack.posts()); n != 1 {
			t.Errorf("%d posts, want one", n)
		}
	})
}

// Who is to be told may turn out late: whoever is the right one then is told, and nobody twice.
func TestCorrectionFindsTheTeam(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		o := newOtherSides()
		i := w.start(o.option(
			RouteConfig{Match: Match{Teams: []string{"payments"}}, Receivers: []string{"hook", DefaultReceiver}},
			RouteConfig{Receivers: []string{DefaultReceiver}},
		))
		until(t, "an assignment", i.posts)
		w.produce(grouped("g", 1, 0))
		until(t, "a post", func() bool { return len(w.slack.posts()) == 1 })
		w.produce(corrected(grouped("g", 1, 0), 1))
		until(t, "a post to the team", func() bool { return len(o.requests("hook.test")) == 1 })
		<-time.After(time.Hour)
		i.stop()
		if n, m := len(w.slack.posts()), len(o.requests("hook.test")); n != 1 || m != 1 {
			t.Errorf("%d and %d posts, want one each", n, m)
		}
	})
}

// A group that was trimmed, or waits to be posted, takes the correction too.
func TestCorrectionOfATrimmedGroup(t *testing.T) {
	cfg := DefaultConfig()
	cfg.WholeMax = 1
	s := newStore(cfg, []string{"r"}, newSilenced())
	s.changes["r"] = true
	now := time.Now()
	first, second := grouped("a", 1, 0), grouped("b", 1, 0)
	first.Events = 5
	g := s.add(&first, []string{"r"}, now)
	g.tell("r", KindNew, false, Told{State: statePosted, TS: "1", Count: 1}, now)
	s.sort(g, "r")
	s.add(&second, []string{"r"}, now)
	if g.Recent != nil {
		t.Fatal("the group was not trimmed")
	}
	better := corrected(first, 1)
	better.Events = 5
	if id := s.improve(&better, []string{"r"}); id != g.ID {
		t.Errorf("%q is corrected, want %q", id, g.ID)
	}
	kind, _ := g.due("r", pace{can: Features{Update: true, Reply: true}}, "", false)
	want := []Recent{{ID: first.ID, Time: first.Time, Summary: first.Summary}}
	if kind != KindUpdate || g.Events != 5 || g.Alert.Team != "payments" || !cmp.Equal(g.Recent, want) {
		t.Errorf("due is %q, the group %+v", kind, g)
	}
	if id := s.improve(&schemas.Alert{ID: "unknown", Version: 3}, nil); id != "" {
		t.Errorf("a group %q of an alert that no message shows", id)
	}
}

// An alert in Alertmanager is known by its labels, so a better name of the actor must not change them.
func TestCorrectionKeepsTheLabels(t *testing.T) {
	var bodies []string
	o := newOtherSides()
	sink := &alertmanager{endpoint: endpoint{url: "https://am.test/api/v2/alerts", client: &http.Client{Transport: o}}, quiet: time.Hour}
	g := &Group{ID: "g"}
	first := grouped("g", 1, 0)
	g.add(&first, time.Hour, time.Now())
	for range 2 {
		m := newGroupMessage(g, KindUpdate, "")
		if _, err := sink.Post(t.Context(), &m, false); err != nil {
			t.Fatal(err)
		}
		better := corrected(first, 1)
		g.improve(&better)
	}
	for _, r := range o.requests("am.test") {
		_, labels, _ := strings.Cut(string(r.body), `"labels":`)
		bodies = append(bodies, labels[:strings.IndexByte(labels, '}')])
	}
	if len(bodies) != 2 || bodies[0] != bodies[1] || !strings.Contains(bodies[0], `"actor":"alice"`) {
		t.Errorf("labels are %q", bodies)
	}
}
