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

// grouped is alert n of a group, a number of seconds after the first one.
func grouped(group string, n int, after time.Duration) schemas.Alert {
	a := testAlert(n)
	a.ID, a.GroupID = schemas.AlertID(group, fmt.Sprint(n)), schemas.AlertGroup(group)
	a.Time = a.Time.Add(after)
	a.Summary = fmt.Sprintf("alice ran shell %d", n)
	return a
}

func methods(calls []call) []string {
	var out []string
	for _, c := range calls {
		text := c.method
		if c.thread != "" {
			text += " in " + c.thread
		}
		if c.method == "update" {
			text += " of " + c.ts
		}
		if c.broadcast {
			text += " to all"
		}
		out = append(out, text)
	}
	return out
}

func TestGroupWithBot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		i := w.start(w.bot)
		until(t, "an assignment", i.posts)
		begin := time.Now()
		w.produce(grouped("g", 1, 0))
		until(t, "a post", func() bool { return len(w.slack.called()) == 1 })
		if d := w.slack.called()[0].at.Sub(begin); d > time.Second {
			t.Errorf("posted after %s, want at most 1s", d)
		}
		// A burst is one change of the message.
		for n := 2; n <= 30; n++ {
			w.produce(grouped("g", n, time.Duration(n)*time.Second))
		}
		w.produce(grouped("g", 7, 7*time.Second)) // delivered again
		<-time.After(time.Minute)
		i.stop()

		// The next instance knows the message.
		i = w.start(w.bot)
		until(t, "an assignment", i.posts)
		w.produce(grouped("g", 31, 40*time.Second))
		<-time.After(time.Minute)
		// Quiet, and awake again.
		w.produce(grouped("g", 32, time.Hour))
		<-time.After(time.Minute)
		i.stop()

		calls := w.slack.called()
		first := calls[0].ts
		want := []string{
			"postMessage", "update of " + first, "update of " + first, "postMessage in " + first, "update of " + first,
		}
		if diff := cmp.Diff(want, methods(calls)); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
		for k, says := range map[int]string{1: "30× Shell", 2: "31× Shell", 3: "It happens again", 4: "32× Shell"} {
			if !strings.Contains(calls[k].blocks, says) {
				t.Errorf("call %d does not say %q: %s", k, says, calls[k].blocks)
			}
		}
		if !strings.Contains(calls[1].blocks, "alice ran shell 30") || strings.Contains(calls[1].blocks, "alice ran shell 25") {
			t.Errorf("the list is not that of the last %d: %s", maxRecent, calls[1].blocks)
		}
		if calls[1].channel != "C1" {
			t.Errorf("changed in channel %q, want the id that Slack gave", calls[1].channel)
		}
		g := w.group(schemas.AlertGroup("g"))
		if g.Count != 32 || g.Told[DefaultReceiver].Count != 32 || g.Waking != 1 {
			t.Errorf("got the state %+v", g)
		}
	})
}

func TestGroupThatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		i := w.start(w.bot, func(c *Config, _ *Deps) { c.RepeatInterval = time.Hour })
		for n := range 90 { // one a minute
			w.produce(grouped("g", n, time.Duration(n)*time.Minute))
			<-time.After(time.Minute)
		}
		i.stop()
		kinds := map[string]int{}
		for _, m := range methods(w.slack.called()) {
			kinds[strings.Fields(m)[0]+" "+m[strings.LastIndex(m, " ")+1:]]++
		}
		first := w.slack.called()[0].ts
		want := map[string]int{"postMessage postMessage": 1, "update " + first: 89, "postMessage all": 1}
		if diff := cmp.Diff(want, kinds); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestGroupWithWebhookIsRepeatedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		i := w.start(func(c *Config, _ *Deps) { c.RepeatInterval = time.Hour })
		for n := range 90 {
			w.produce(grouped("g", n, time.Duration(n)*time.Minute))
			<-time.After(time.Minute)
		}
		// What came after the last post is told too, however quiet it is then.
		<-time.After(time.Hour)
		i.stop()
		posts := w.slack.posts()
		if len(posts) != 3 {
			t.Fatalf("got %d posts, want 3", len(posts))
		}
		for k, count := range []int{1, 61, 90} {
			// The alert after just an hour comes with the post or right after it.
			if !strings.Contains(posts[k], fmt.Sprintf("%d× Shell", count)) &&
				!strings.Contains(posts[k], fmt.Sprintf("%d× Shell", count-1)) && k > 0 {
				t.Errorf("post %d does not say %d times: %s", k, count, posts[k])
			}
		}
		w.checkRestart()
	})
}

func TestMessageDeletedByHand(t *testing.T) {
	gone := func(_ *fakeSlack, w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"ok":false,"error":"message_not_found"}`))
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		i := w.start(w.bot)
		w.produce(grouped("g", 1, 0))
		until(t, "a post", func() bool { return len(w.slack.called()) == 1 })
		w.slack.fail(gone)
		w.produce(grouped("g", 2, time.Hour)) // the reply finds no message
		until(t, "another post", func() bool { return len(w.slack.called()) == 2 })
		<-time.After(time.Minute)
		w.slack.fail(gone)
		w.produce(grouped("g", 3, time.Hour)) // the change finds none
		<-time.After(time.Minute)
		i.stop()
		if diff := cmp.Diff([]string{"postMessage", "postMessage"}, methods(w.slack.called())); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestStormBecomesAHandfulOfMessages(t *testing.T) {
	for name, webhook := range map[string]bool{"webhook": true, "bot": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				options := []option{w.bot}
				if webhook {
					options = nil
				}
				i := w.start(options...)
				until(t, "an assignment", i.posts)
				const alerts, groups = 10_000, 2500
				severities := []string{critical, high, high, medium, low}
				for start := 0; start < alerts; start += 500 {
					var batch []schemas.Alert
					for n := start; n < start+500; n++ {
						a := grouped(fmt.Sprint("g", n%groups), n, time.Duration(n)*time.Millisecond)
						a.Severity, a.Actor = severities[n%groups%5], fmt.Sprint("actor ", n%groups%3)
						batch = append(batch, a)
					}
					w.produce(batch...)
					<-time.After(500 * time.Millisecond)
				}
				until(t, "an end", func() bool {
					return i.count("backlog_groups") == 0 && i.count("lag_records") == 0 && i.current.Load().store.len() == groups
				})
				i.stop()
				var texts []string
				texts = append(texts, w.slack.posts()...)
				updates := 0
				for _, c := range w.slack.called() {
					if c.method == "update" {
						updates++
						continue
					}
					texts = append(texts, c.blocks)
				}
				if len(texts) > 25 {
					t.Errorf("%d messages for %d groups", len(texts), groups)
				}
				told := map[string]bool{}
				for _, r := range w.read(schemas.TopicNotifications) {
					if g, ok := strings.CutPrefix(string(r.Key), groupPrefix); ok {
						told[g] = strings.Contains(string(r.Value), `"told":{"default"`)
					}
				}
				for g, ok := range told {
					if !ok {
						t.Fatalf("nobody was told of group %s", g)
					}
				}
				if len(told) != groups {
					t.Errorf("got %d groups, want %d", len(told), groups)
				}
				digests := 0
				for _, text := range texts {
					if strings.Contains(text, "groups of alerts at once") {
						digests++
						if !strings.Contains(text, "actor 1") || !strings.Contains(text, "By rule") || !strings.Contains(text, "critical") {
							t.Errorf("a digest does not say who and what: %s", text)
						}
					}
				}
				if digests == 0 || digests != int(i.count("digests_total")) {
					t.Errorf("got %d digests, want at least one and those that are counted", digests)
				}
				t.Logf("%d messages, %d of them digests; %d changes", len(texts), digests, updates)
			})
		})
	}
}
