package alert

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditmill/auditmill/alert/notify"
	"github.com/auditmill/auditmill/alert/rule/ruletest"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

func TestAlertsOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVirtualWorld(t)
		i := w.start(nil)
		exec := testEvent(3)
		exec.Subresource, exec.Command, exec.Name = "exec", []string{"sh", "-c", "echo \x1b[31m\n"}, "web"
		w.produce(1, batch(t, testEvent(1), secretEvent(2), exec, testEvent(4)))
		w.produce(2, batch(t))
		until(t, "an evaluation", func() bool { return i.count("alert_records_out_total") == 4 })
		alerts := w.alerts()
		i.stop()

		want := map[string]string{
			secretEvent(2).EventID.String(): "alice read secret default/s2",
			exec.EventID.String():           `alice ran sh -c echo \x1b[31m\n in web`,
		}
		got := map[string]string{}
		for _, a := range alerts {
			got[a.EventID] = a.Summary
			if a.ID != schemas.AlertID(a.Rule, a.EventID) || !a.RaisedAt.Equal(testNow()) {
				t.Errorf("got %+v", a)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		for name, want := range map[string]float64{
			"alert_records_in_total": 4, "alert_raised_total": 2, "alert_lag_records": 0, "alert_bad_total": 0,
		} {
			if got := i.count(name); got != want {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
		}
	})
}

func TestBadRecordsAreBuried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVirtualWorld(t)
		i := w.start(nil)
		w.produce(0, []byte("not Arrow"))
		w.produce(0, batch(t, secretEvent(1)), version(0))
		w.produce(0, batch(t, secretEvent(1))[:200])
		w.produce(0, batch(t, secretEvent(2)))
		until(t, "an evaluation", func() bool { return i.count("alert_records_out_total") == 1 })
		reasons := map[string]int{}
		for _, r := range w.read(schemas.TopicDead) {
			d, err := kafka.ReadDead(r)
			if err != nil || d.Source != schemas.TopicEnriched {
				t.Errorf("got %+v, %v", d, err)
			}
			reasons[d.Reason]++
		}
		if diff := cmp.Diff(map[string]int{reasonHeaders: 1, reasonUndecoded: 2}, reasons); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if got := len(w.alerts()); got != 1 {
			t.Errorf("got %d alerts, want that of the good record", got)
		}
		w.produce(0, batch(t, secretEvent(3)), version(schemas.Version+1))
		err := <-i.done
		if err == nil || !strings.Contains(err.Error(), "upgrade this service first") ||
			!strings.Contains(err.Error(), schemas.TopicEnriched+"/0 at offset 4") {
			t.Errorf("got %v, want a clear error about the version and where it is", err)
		}
		i.cancel()
	})
}

// The fault matrix of the effect of this service: its produce.
func TestProduceFaults(t *testing.T) {
	faults := map[string]func(w *world, broken *atomic.Int32){
		"failed and not persisted": func(w *world, broken *atomic.Int32) {
			w.c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				if !toAlerts(w, req) || broken.Add(-1) < 0 {
					return nil, nil, false
				}
				w.c.KeepControl()
				return produceError(req.(*kmsg.ProduceRequest)), nil, true
			})
		},
		"answer lost": func(w *world, broken *atomic.Int32) {
			w.c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				if !toAlerts(w, req) || broken.Add(-1) < 0 {
					return nil, nil, false
				}
				w.c.KeepControl()
				return nil, errors.New("the connection broke"), true
			})
		},
	}
	for name, inject := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newVirtualWorld(t)
				var broken atomic.Int32
				broken.Store(3)
				inject(w, &broken)
				i := w.start(nil)
				for n := range 10 {
					w.produce(int32(n%4), batch(t, secretEvent(n)))
				}
				until(t, "an evaluation", func() bool { return i.count("alert_records_out_total") == 10 })
				i.stop()
				again := w.start(nil)
				w.produce(0, batch(t, testEvent(99)))
				until(t, "an evaluation", func() bool { return again.count("alert_records_out_total") >= 1 })
				again.stop()
				checkOnce(t, w, 10)
				if got := again.count("alert_records_in_total"); got != 1 {
					t.Errorf("after a clean stop %v rows were evaluated again", got-1)
				}
			})
		})
	}
}

func toAlerts(w *world, req kmsg.Request) bool {
	topics := req.(*kmsg.ProduceRequest).Topics
	info := w.c.TopicInfo(schemas.TopicAlerts)
	return len(topics) == 1 && (topics[0].Topic == schemas.TopicAlerts || info != nil && topics[0].TopicID == info.TopicID)
}

func produceError(req *kmsg.ProduceRequest) kmsg.Response {
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

// checkOnce asserts that the alerts of n secret events are there, and once by id.
func checkOnce(t *testing.T, w *world, n int) {
	t.Helper()
	got := map[string]bool{}
	for _, a := range w.alerts() {
		got[a.ID] = true
	}
	want := map[string]bool{}
	for k := range n {
		want[schemas.AlertID("11111111-1111-4111-8111-111111111111", secretEvent(k).EventID.String())] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Partitions move between instances while events flow; in real time, since rebalances of
// several members cannot be in virtual time.
func TestTwoInstances(t *testing.T) {
	w := newWorld(t)
	const batches, each = 90, 4
	var instances []*instance
	fast := func(c *Config, _ *Deps) { c.MaxPollRecords = 3 }
	instances = append(instances, w.start(fast))
	for b := range batches {
		var events []*schemas.Event
		for k := range each {
			events = append(events, secretEvent(b*each+k))
		}
		w.produce(int32(b%4), batch(t, events...))
		switch b {
		case 20, 40:
			instances = append(instances, w.start(fast))
		case 60:
			instances[0].stop()
		}
	}
	total := func() (rows float64) {
		for _, i := range instances {
			rows += i.count("alert_records_out_total")
		}
		return rows
	}
	until(t, "all evaluations", func() bool { return total() >= batches*each })
	for _, i := range instances[1:] {
		i.stop()
	}
	checkOnce(t, w, batches*each)
}

func TestNotifierIsPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVirtualWorld(t)
		var out strings.Builder
		var posted atomic.Int32
		i := w.start(func(_ *Config, d *Deps) {
			d.Sink = notify.NewConsole(&out, false)
			d.Posted = func(*notify.Message, notify.Receipt) { posted.Add(1) }
		})
		w.produce(0, batch(t, secretEvent(1)))
		until(t, "a post", func() bool { return posted.Load() == 1 })
		i.stop()
		if !strings.Contains(out.String(), "alice read secret default/s1") {
			t.Errorf("got %q", out.String())
		}
	})
}

func TestServiceWithoutSlackHasNoNotifier(t *testing.T) {
	s, err := New(DefaultConfig(), Deps{Kafka: kafka.DefaultConfig(), Pack: testPack()})
	if err != nil || s.notifier != nil {
		t.Errorf("got notifier %v, error %v", s.notifier, err)
	}
}

// recorded returns recorded events in batches of the given size.
func recorded(b *testing.B, size int) (values [][]byte, events int) {
	b.Helper()
	lines, err := ruletest.Recording(filepath.Join("..", "testdata", "recording", "sample.jsonl.gz"))
	if err != nil {
		b.Fatal(err)
	}
	builder := schemas.NewBuilder()
	for part := range slices.Chunk(lines, size) {
		builder.Reset()
		for _, raw := range part {
			e, err := ruletest.Event("prod", raw)
			if err != nil {
				b.Fatal(err)
			}
			builder.Append(e)
		}
		value, err := schemas.Encode(builder.Batch())
		if err != nil {
			b.Fatal(err)
		}
		values = append(values, value)
	}
	return values, len(lines)
}

// The work of the service on one core, from the bytes of a record to those of its alerts.
func BenchmarkEvaluate(b *testing.B) {
	for _, size := range []int{8192, 1000, 100} {
		b.Run(fmt.Sprintf("rows=%d", size), func(b *testing.B) {
			s, err := New(DefaultConfig(), Deps{Kafka: kafka.DefaultConfig()})
			if err != nil {
				b.Fatal(err)
			}
			values, events := recorded(b, size)
			w, alerts := <-s.workers, 0
			b.ReportAllocs()
			for b.Loop() {
				alerts = 0
				for _, value := range values {
					out, err := w.evaluate(&kgo.Record{Value: value, Headers: []kgo.RecordHeader{version(schemas.Version)}})
					if err != nil || out.dead != nil {
						b.Fatal(out.dead, err)
					}
					alerts += len(out.alerts)
				}
			}
			b.ReportMetric(float64(events*b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(alerts), "alerts")
		})
	}
}

// From an acknowledged record of enriched events to a fetched alert, over a broker on the
// loopback interface.
func BenchmarkRecordToAlert(b *testing.B) {
	w := newWorld(b)
	i := w.start(nil)
	reader, err := kafka.NewClient(w.kafka, kgo.ConsumeTopics(schemas.TopicAlerts))
	if err != nil {
		b.Fatal(err)
	}
	defer reader.Close()
	n := 0
	for b.Loop() {
		n++
		w.produce(0, batch(b, secretEvent(n)))
		for got := 0; got == 0; {
			got = reader.PollFetches(b.Context()).NumRecords()
		}
	}
	i.stop()
}
