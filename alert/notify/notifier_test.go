package notify

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

func TestFaultsOfSlack(t *testing.T) {
	tests := []struct {
		name   string
		faults []fault
		// atLeast is the virtual time before the alert was accepted.
		atLeast time.Duration
		reason  string
		unknown float64
	}{
		{name: "none"},
		{
			name: "429 with Retry-After", atLeast: 30 * time.Second, reason: "rate_limited",
			faults: []fault{answer(http.StatusTooManyRequests, "rate_limited", "Retry-After: 30")},
		},
		{
			name: "429 without a number", reason: "rate_limited",
			faults: []fault{answer(http.StatusTooManyRequests, "", "Retry-After: soon")},
		},
		{
			name: "500 for a while", atLeast: 4 * time.Second, reason: "server_error", unknown: 4,
			faults: []fault{
				answer(http.StatusInternalServerError, "<html>"), answer(http.StatusBadGateway, ""),
				answer(http.StatusServiceUnavailable, "", "Retry-After: 2"), answer(http.StatusGatewayTimeout, ""),
			},
		},
		{name: "hang", atLeast: 10 * time.Second, reason: "timeout", unknown: 1, faults: []fault{hang}},
		{name: "closed connection", reason: "connection", unknown: 1, faults: []fault{closeConnection}},
		{
			name: "revoked", atLeast: time.Minute, reason: "no_service",
			faults: []fault{answer(http.StatusNotFound, "no_service")},
		},
		{
			name: "redirect", atLeast: time.Minute, reason: "status",
			faults: []fault{answer(http.StatusTemporaryRedirect, "", "Location: http://elsewhere.test/")},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.slack.fail(tt.faults...)
				i := w.start()
				begin := time.Now()
				w.produce(testAlert(1))
				until(t, "a post", func() bool { return i.count("posted_total") == 1 })
				if got := w.slack.times[0].Sub(begin); got < tt.atLeast {
					t.Errorf("accepted after %s, want at least %s", got, tt.atLeast)
				}
				i.stop()
				if diff := cmp.Diff(map[string]int{alertID(1): 1}, w.slack.counts(t)); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				if got := i.count("retries_total"); got != float64(len(tt.faults)) {
					t.Errorf("got %v retries, want %d", got, len(tt.faults))
				}
				if got := i.count("unknown_outcomes_total"); got != tt.unknown {
					t.Errorf("got %v unknown outcomes, want %v", got, tt.unknown)
				}
				if repeat := strings.Contains(w.slack.posts()[0], "possibly a repeat"); repeat != (tt.unknown > 0) {
					t.Errorf("message says that it may be a repeat: %v", repeat)
				}
				w.checkRestart()
			})
		})
	}
}

// checkRestart starts another notifier, which must find nothing to post.
func (w *world) checkRestart() {
	w.t.Helper()
	before := w.slack.requests
	i := w.start()
	until(w.t, "an assignment", i.posts)
	<-time.After(time.Minute)
	i.stop()
	if w.slack.requests != before {
		w.t.Errorf("after a restart %d more requests were made", w.slack.requests-before)
	}
}

// posts reports whether the instance is the one that posts.
func (i *instance) posts() bool {
	s := i.current.Load()
	return s != nil && s.active.Load()
}

// alone keeps many groups from being told of together.
func alone(c *Config, _ *Deps) { c.DigestAbove = 0 }

// The one case in which an alert is posted twice: Slack accepted it and the answer got lost.
func TestAcceptedButAnswerLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.slack.fail(acceptAndLose)
		i := w.start()
		w.produce(testAlert(1), testAlert(2))
		until(t, "both posts", func() bool { return i.count("posted_total") == 2 })
		i.stop()
		counts := w.slack.counts(t)
		if counts[alertID(1)]+counts[alertID(2)] != 3 {
			t.Errorf("got %v, want one of the alerts twice", counts)
		}
		posts := w.slack.posts()
		if strings.Contains(posts[0], "possibly a repeat") || !strings.Contains(posts[1], "possibly a repeat") {
			t.Error("the second message, and only it, must say that it may be a repeat")
		}
		w.checkRestart()
	})
}

func TestRestartsAndDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const alerts = 30
		want := map[string]int{}
		for n := range alerts {
			want[alertID(n)] = 1
			w.produce(testAlert(n))
			if n%3 == 0 {
				w.produce(testAlert(n)) // at least once upstream
			}
		}
		posted, duplicates := 0.0, 0.0
		for round := range 5 {
			i := w.start(alone)
			until(t, "some posts", func() bool {
				return i.count("posted_total") >= 7 || posted+i.count("posted_total") == alerts
			})
			if round == 4 {
				until(t, "the rest", func() bool { return posted+i.count("posted_total") == alerts })
			}
			i.stop()
			posted += i.count("posted_total")
			duplicates += i.count("duplicates_total")
			w.produce(testAlert(round)) // upstream restarts too
		}
		if diff := cmp.Diff(want, w.slack.counts(t)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if duplicates < 10 {
			t.Errorf("got %v duplicates, want at least 10", duplicates)
		}
		for k := 1; k < len(w.slack.times); k++ {
			if gap := w.slack.times[k].Sub(w.slack.times[k-1]); gap < time.Second && gap > 0 {
				t.Errorf("messages %d and %d are %s apart, want at least 1s", k-1, k, gap)
				break
			}
		}
	})
}

// Rebalances need more than one member at once, which makes kgo wait for locks: that cannot
// be in virtual time.
func TestTwoInstances(t *testing.T) {
	w := newRealWorld(t)
	const alerts = 300
	quick := func(c *Config, d *Deps) { d.Interval, c.DigestAbove = 5*time.Millisecond, 0 }
	want := map[string]int{}
	for n := range alerts {
		want[alertID(n)] = 1
		w.produce(testAlert(n))
	}
	first := w.start(quick)
	until(t, "some posts", func() bool { return len(w.slack.posts()) >= 10 })
	second := w.start(quick)
	w.slack.fail(hangBriefly, answer(http.StatusInternalServerError, ""), hangBriefly)
	until(t, "more posts", func() bool { return len(w.slack.posts()) >= 100 })
	if !first.posts() || second.posts() {
		t.Error("the instance that posts must go on, and the other stand by")
	}
	first.stop()
	until(t, "the other to take over", second.posts)
	third := w.start(quick)
	until(t, "the rest", func() bool { return len(w.slack.counts(t)) == alerts })
	second.stop()
	third.stop()
	if diff := cmp.Diff(want, w.slack.counts(t)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestBacklogWaitsInKafkaInOrderOfSeverity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const alerts, backlog = 120, 30
		i := w.start(func(c *Config, _ *Deps) { c.Backlog, c.DigestAbove = backlog, 0 })
		until(t, "an assignment", i.posts)
		w.slack.fail(answer(http.StatusTooManyRequests, "", "Retry-After: 20"))
		for n := range alerts {
			a := testAlert(n)
			a.Severity = []string{low, medium, critical}[n%3]
			w.produce(a)
		}
		until(t, "all posts", func() bool { return i.count("posted_total") == alerts })
		i.stop()
		if got := len(w.slack.counts(t)); got != alerts {
			t.Errorf("got %d alerts, want %d", got, alerts)
		}
		for _, body := range w.slack.posts()[1:10] {
			if !strings.Contains(body, "CRITICAL") {
				t.Errorf("a less severe alert came first: %s", body[:80])
			}
		}
		w.checkRestart()
	})
}

func TestBlockedUntilSomebodyActs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for range 5 {
			w.slack.fail(answer(http.StatusForbidden, "invalid_token"))
		}
		i := w.start()
		w.produce(testAlert(1))
		until(t, "a block", func() bool { return i.count("blocked") == 1 })
		until(t, "a post", func() bool { return i.count("posted_total") == 1 })
		if got := i.count("blocked"); got != 0 {
			t.Errorf("got blocked %v after a post", got)
		}
		i.stop()
		if len(i.problems) != 6 || !strings.Contains(i.problems[0], "invalid_token") || i.problems[5] != "ready" {
			t.Errorf("got %q", i.problems)
		}
		for _, p := range i.problems {
			if strings.Contains(p, "secret") {
				t.Errorf("the webhook URL is in %q", p)
			}
		}
	})
}

func TestRefusedMessage(t *testing.T) {
	refuse := answer(http.StatusBadRequest, "invalid_blocks")
	doubt := answer(http.StatusBadRequest, "something new")
	tests := []struct {
		name         string
		faults       []fault
		posted, dead int
	}{
		{"plain text helps", []fault{refuse}, 1, 0},
		{"nothing helps", []fault{refuse, answer(http.StatusBadRequest, "no_text")}, 0, 1},
		{"not the message's fault", []fault{doubt, doubt, doubt}, 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.slack.fail(tt.faults...)
				i := w.start()
				w.produce(testAlert(1))
				until(t, "an end", func() bool { return i.count("posted_total")+i.count("dead_total") == 1 })
				i.stop()
				if got := len(w.slack.posts()); got != tt.posted {
					t.Errorf("got %d posts, want %d", got, tt.posted)
				}
				for _, body := range w.slack.posts() {
					if strings.Contains(body, `"blocks"`) || !strings.Contains(body, "Shell in a pod") {
						t.Errorf("not a plain message: %s", body)
					}
				}
				if got := len(w.read(schemas.TopicDead)); got != tt.dead {
					t.Errorf("got %d dead letters, want %d", got, tt.dead)
				}
				told := w.group(alertID(1)).Told[DefaultReceiver]
				if told == nil || (told.State == stateRefused) != (tt.dead > 0) || told.Count != 1 {
					t.Errorf("got the state %+v", told)
				}
				w.checkRestart()
			})
		})
	}
}

func TestBadRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		i := w.start()
		bad := func(value string, headers ...kgo.RecordHeader) *kgo.Record {
			return &kgo.Record{Topic: schemas.TopicAlerts, Key: []byte("k"), Value: []byte(value), Headers: headers}
		}
		w.produceRecords(bad("{"), bad(`{"id":""}`, versionHeader()...), bad("{", versionHeader()...))
		w.produce(testAlert(1))
		until(t, "a post", func() bool { return i.count("posted_total") == 1 && i.count("dead_total") == 3 })
		letters := w.read(schemas.TopicDead)
		for _, r := range letters {
			d, err := kafka.ReadDead(r)
			if err != nil || d.Reason != reasonMalformed || d.Source != schemas.TopicAlerts {
				t.Errorf("got %+v, %v", d, err)
			}
		}
		w.produceRecords(bad(`{}`, kgo.RecordHeader{Key: schemas.HeaderVersion, Value: []byte("2")}))
		err := <-i.done
		if err == nil || !strings.Contains(err.Error(), "upgrade this service first") {
			t.Errorf("got %v, want a clear error about the version", err)
		}
		i.cancel()
	})
}

// Slack accepted the message; its record fails for a while. It must not be posted again.
func TestRecordFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		i := w.start()
		until(t, "an assignment", i.posts)
		<-time.After(5 * time.Second) // markers are written
		var recovered atomic.Bool
		w.loseRecords(&recovered)
		w.produce(testAlert(1))
		until(t, "a post", func() bool { return len(w.slack.posts()) == 1 })
		<-time.After(2 * time.Minute)
		if n := i.count("posted_total"); n != 0 {
			t.Errorf("%v posts are counted before the record", n)
		}
		recovered.Store(true)
		until(t, "a record", func() bool { return i.count("posted_total") == 1 })
		<-time.After(5 * time.Minute) // the alert's own record is written too
		i.stop()
		if got := len(w.slack.posts()); got != 1 {
			t.Errorf("got %d posts, want 1", got)
		}
		w.checkRestart()
	})
}

// The process dies between Slack's answer and the record: the other half of the one case
// in which an alert is posted twice.
func TestKilledBeforeTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		i := w.start()
		until(t, "an assignment", i.posts)
		<-time.After(5 * time.Second)
		var recovered atomic.Bool
		w.loseRecords(&recovered)
		w.produce(testAlert(1))
		until(t, "a post", func() bool { return len(w.slack.posts()) == 1 })
		i.cancel()
		err := <-i.done
		if err == nil || !strings.Contains(err.Error(), "may be posted again") {
			t.Errorf("got %v, want an error that says what may follow", err)
		}
		recovered.Store(true)
		again := w.start()
		until(t, "a post", func() bool { return again.count("posted_total") == 1 })
		again.stop()
		if diff := cmp.Diff(map[string]int{alertID(1): 2}, w.slack.counts(t)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		w.checkRestart()
	})
}

// loseRecords makes Slack accept one message, after which nothing is recorded until recovered.
func (w *world) loseRecords(recovered *atomic.Bool) {
	var lost atomic.Bool
	w.slack.fail(func(s *fakeSlack, rw http.ResponseWriter, _ *http.Request, body string) {
		lost.Store(true)
		s.accept(body)
		_, _ = io.WriteString(rw, "ok")
	})
	w.cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if recovered.Load() || !lost.Load() || !w.isNotification(req) {
			return nil, nil, false
		}
		return notWritten(req.(*kmsg.ProduceRequest)), nil, true
	})
}

// notWritten is an error that the client repeats the request on, after a pause: without one,
// virtual time would stand still.
func notWritten(req *kmsg.ProduceRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range req.Topics {
		t := kmsg.NewProduceResponseTopic()
		t.Topic, t.TopicID = topic.Topic, topic.TopicID
		for _, partition := range topic.Partitions {
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition, p.ErrorCode = partition.Partition, kerr.NotEnoughReplicas.Code
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

func (w *world) isNotification(req kmsg.Request) bool {
	topics := req.(*kmsg.ProduceRequest).Topics
	info := w.cluster.TopicInfo(schemas.TopicNotifications)
	return len(topics) == 1 && (topics[0].Topic == schemas.TopicNotifications || info != nil && topics[0].TopicID == info.TopicID)
}

func TestMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		i := w.start(func(c *Config, _ *Deps) { c.MaxAge = time.Hour })
		old, young := testAlert(1), testAlert(2)
		old.RaisedAt, young.RaisedAt = time.Now().Add(-61*time.Minute), time.Now()
		w.produce(old, young)
		until(t, "an end", func() bool { return i.count("posted_total") == 1 && i.count("expired_total") == 1 })
		i.stop()
		if diff := cmp.Diff(map[string]int{alertID(2): 1}, w.slack.counts(t)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		w.checkRestart()
	})
}

func TestMetricsAreWellNamed(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := newMetrics(reg, func() *session { return nil })
	m.retries.WithLabelValues("default", "timeout").Inc()
	m.dead.WithLabelValues(reasonMalformed).Inc()
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("got problems %v, error %v, want none", problems, err)
	}
}

func TestObserverAndConsole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var out strings.Builder
		var seen []string
		i := w.start(func(_ *Config, d *Deps) {
			d.Sink, d.Interval = NewConsole(&out, false), 0
			d.Observe = func(m *Message, r Receipt) { seen = append(seen, m.ID+" "+r.Channel) }
		})
		w.produce(testAlert(1))
		until(t, "a post", func() bool { return i.count("posted_total") == 1 })
		i.stop()
		if diff := cmp.Diff([]string{alertID(1) + " console"}, seen); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if !strings.Contains(out.String(), "Shell in a pod") {
			t.Errorf("got %q", out.String())
		}
	})
}

func TestNewRefuses(t *testing.T) {
	_, err := New(Config{}, Deps{})
	if err == nil {
		t.Fatal("an empty configuration was accepted")
	}
	for _, key := range []string{"group: ", "backlog: ", "retry_min, retry_max: ", "remember: ", "remember_max: ", "quiet: ", "repeat_interval: "} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("got %q, want it to name %s", err, key)
		}
	}
	if _, err := New(DefaultConfig(), Deps{}); err == nil {
		t.Error("a notifier without a sink was made")
	}
	if _, err := New(DefaultConfig(), Deps{Sink: NewConsole(nil, false), Timeout: time.Second}); err == nil {
		t.Error("a notifier without Kafka was made")
	}
	if !errors.Is(asError(http.ErrAbortHandler), http.ErrAbortHandler) {
		t.Error("asError loses the cause")
	}
}
