package correlate

import (
	"errors"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// threshold is five events of an actor in a minute.
func threshold() ir.Correlation {
	return correlation(ir.EventCount, 1, time.Minute, 10*time.Second, bound(ir.GreaterOrEqual, 5))
}

func by(actor string, n int, seconds float64) sample {
	return sample{correlation: "corr-event_count", at: at(seconds).UnixMicro(), id: eventName(n), group: []string{actor}}
}

func TestAlertOfSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVirtualWorld(t)
		c := threshold()
		i := w.start(compile(t, c), func(_ *Config, d *Deps) {
			d.Complete = func(a *schemas.Alert) { a.Query = "SELECT " + a.EventID }
		})
		for n := range 5 {
			w.signal(c, by("eve", n, float64(n)))
		}
		until(t, "an alert", func() bool { return i.count("raised_total") == 1 })
		last, _ := w.alerts()
		i.stop()
		for _, a := range last {
			if a.Events != 5 || len(a.EventIDs) != 5 || a.Values["actor"] != "eve" || a.Values["count"] != "5" ||
				a.Query != "SELECT "+a.EventID || a.Rule != c.ID || a.Severity != "high" || !a.RaisedAt.Equal(testNow()) ||
				a.Summary != "Test of event_count: 5 events within 1m0s, actor eve" {
				t.Errorf("got %+v", a)
			}
		}
		if len(last) != 1 {
			t.Errorf("got %d alerts, want 1", len(last))
		}
	})
}

func TestBadSignalsAreBuried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVirtualWorld(t)
		c := threshold()
		i := w.start(compile(t, c), nil)
		good := by("eve", 1, 1).signal(c)
		record, err := good.Record()
		if err != nil {
			t.Fatal(err)
		}
		key := record.Key
		version := record.Headers
		w.produce(
			newRecord(key, []byte("{")), newRecord(key, []byte("{}")), newRecord(key, []byte(`{"clock":{"partition":3,"of":2}}`)),
			&kgo.Record{Topic: schemas.TopicSignals, Key: key, Value: record.Value}, record,
		)
		until(t, "an evaluation", func() bool { return i.count("records_out_total") == 5 })
		reasons := map[string]int{}
		for _, r := range w.read(schemas.TopicDead) {
			d, err := kafka.ReadDead(r)
			if err != nil || d.Source != schemas.TopicSignals {
				t.Errorf("got %+v, %v", d, err)
			}
			reasons[d.Reason]++
		}
		if diff := cmp.Diff(map[string]int{reasonHeaders: 1, reasonUndecoded: 3}, reasons); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		newer := newRecord(key, record.Value)
		newer.Headers = []kgo.RecordHeader{{Key: version[0].Key, Value: fmt.Append(nil, schemas.Version+1)}}
		w.produce(newer)
		if err := <-i.done; err == nil || !strings.Contains(err.Error(), "upgrade this service first") {
			t.Errorf("got %v, want a clear error about the version", err)
		}
		i.cancel()
	})
}

// A restart in the middle of a window knows what was before it, and says nothing twice.
func TestRestartGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVirtualWorld(t)
		c := threshold()
		set := compile(t, c)
		i := w.start(set, nil)
		for n := range 6 {
			w.signal(c, by("eve", n, float64(n))) // enough for an alert
		}
		for n := range 4 {
			w.signal(c, by("mallory", 100+n, float64(n))) // one is missing
		}
		until(t, "an evaluation", func() bool { return i.count("records_out_total") == 10 })
		i.stop()

		again := w.start(set, nil)
		w.signal(c, by("mallory", 104, 30))
		w.signal(c, by("eve", 6, 31))
		until(t, "an evaluation", func() bool { return again.count("records_out_total") >= 2 })
		if got := again.count("records_in_total"); got != 2 {
			t.Errorf("%v signals count as new after a restart, want 2", got)
		}
		_, told := w.alerts()
		if got := slices.Collect(maps.Values(told)); !slices.Equal(got, []int{1, 1}) {
			t.Errorf("alerts were told %v times, want each of two once", got)
		}
		w.clock(at(1000))
		until(t, "the last word", func() bool {
			return again.count("held_entries") == 0 && again.count("records_out_total") == 2+partitions
		})
		again.stop()
		last, _ := w.alerts()
		events := map[string]uint64{}
		for _, a := range last {
			events[a.Values["actor"]] = a.Events
		}
		if diff := cmp.Diff(map[string]uint64{"eve": 7, "mallory": 5}, events); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

// What first_seen knows outlives its signals, which are deleted in the end.
func TestFirstSeenRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVirtualWorld(t)
		c := correlation(ir.FirstSeen, 1, 30*24*time.Hour, time.Minute)
		set := compile(t, c)
		day := 24 * time.Hour.Seconds()
		from := func(ip string, n int, days float64) sample {
			return sample{correlation: c.ID, at: at(days * day).UnixMicro(), id: eventName(n), group: []string{"eve"}, values: []string{ip}}
		}
		i := w.start(set, nil)
		w.signal(c, from("192.0.2.1", 1, 0))
		w.clock(at(day))
		until(t, "an evaluation", func() bool { return i.count("records_out_total") == 1+partitions })
		i.stop()
		if got := len(w.read(schemas.TopicSeen)); got != 1 {
			t.Fatalf("%d records of what was seen, want 1", got)
		}
		committed, err := kadm.NewClient(w.client).FetchOffsets(t.Context(), DefaultConfig().Group)
		if err != nil || len(committed[schemas.TopicSignals]) != partitions {
			t.Fatalf("got %v, %v", committed, err)
		}
		for _, o := range committed[schemas.TopicSignals] {
			if p := readPosition(o.At, &o.Metadata); p.replay != p.next {
				t.Errorf("the position is %v: the first signal would have to be kept for 30 days", p)
			}
		}
		again := w.start(set, nil)
		w.signal(c, from("192.0.2.1", 2, 20))
		w.signal(c, from("192.0.2.2", 3, 20))
		until(t, "an evaluation", func() bool { return again.count("records_out_total") == 2 })
		w.clock(at(21 * day))
		until(t, "a clock", func() bool { return again.count("records_out_total") == 2+partitions })
		again.stop()
		last, _ := w.alerts()
		seen := map[string]float64{}
		for _, a := range last {
			seen[a.Values["source_ip"]] = a.Time.Sub(at(0)).Hours() / 24
		}
		if diff := cmp.Diff(map[string]float64{"192.0.2.1": 0, "192.0.2.2": 20}, seen); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

// A correlation of correlations goes through the topic, into other partitions.
func TestChainThroughKafka(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVirtualWorld(t)
		inner := threshold()
		inner.Silent = true
		outer := chain(inner, ir.EventCount, time.Hour, 10*time.Second, bound(ir.GreaterOrEqual, 2))
		outer.GroupNames, outer.GroupFields = nil, map[string][]ir.Field{inner.ID: nil}
		i := w.start(compile(t, inner, outer), nil)
		for n := range 10 {
			w.signal(inner, by([]string{"eve", "mallory"}[n%2], n, float64(n)))
		}
		until(t, "an alert", func() bool { return i.count("raised_total") == 1 })
		i.stop()
		last, _ := w.alerts()
		for _, a := range last {
			if a.Rule != "outer" || a.Events != 2 {
				t.Errorf("got %+v", a)
			}
		}
	})
}

// The silence of everything is noticed by the clocks of sources that have nothing to read.
func TestAbsenceByIdleClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVirtualWorld(t)
		c := correlation(ir.Absence, 1, 15*time.Minute, time.Minute)
		set := compile(t, c)
		i := w.start(set, nil)
		sender := NewSender(set, partitions)
		send := func(records []*kgo.Record, err error) {
			if err != nil {
				t.Fatal(err)
			}
			if len(records) > 0 {
				w.produce(records...)
			}
		}
		begin := time.Now()
		for n := range 100 { // of one slot: one signal
			send(sender.Match(Match{
				Rule: "a", Time: begin, Values: func(ir.Field) []string { return []string{"eve"} },
				Alert: func() *schemas.Alert { return &schemas.Alert{EventID: eventName(n), Time: begin} },
			}))
		}
		sender.Evaluated(0, begin, begin)
		for range 20 * 6 {
			<-time.After(10 * time.Second)
			now := time.Now()
			sender.CaughtUp(0, now)
			send(sender.Clocks(now, 1))
		}
		until(t, "an alert", func() bool { return i.count("raised_total") == 1 })
		i.stop()
		signals := 0
		for _, r := range w.read(schemas.TopicSignals) {
			if s, _, err := decode(r.Value); err == nil && s != nil {
				signals++
			}
		}
		if signals != 1 {
			t.Errorf("%d signals of one slot, want 1", signals)
		}
		last, _ := w.alerts()
		for _, a := range last {
			if late := a.Time.Sub(begin.Add(c.Timespan)); late < 0 || late > c.Timespan/slots {
				t.Errorf("the silence is over %s after its time", late)
			}
		}
	})
}

// The fault matrix of the effects: what is produced and what is committed. After each, a restart.
func TestFaults(t *testing.T) {
	faults := map[string]func(w *world, broken *atomic.Int32){
		"answer to a produce lost": func(w *world, broken *atomic.Int32) {
			w.c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				topics := req.(*kmsg.ProduceRequest).Topics
				info := w.c.TopicInfo(schemas.TopicSignals)
				if len(topics) == 1 && (topics[0].Topic == schemas.TopicSignals || info != nil && topics[0].TopicID == info.TopicID) ||
					broken.Add(-1) < 0 {
					return nil, nil, false
				}
				w.c.KeepControl()
				return nil, errors.New("the connection broke"), true
			})
		},
		"killed before anything is committed": func(w *world, broken *atomic.Int32) {
			w.c.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
				w.c.KeepControl()
				return nil, errors.New("the connection broke"), broken.Load() > 0
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
				c := threshold()
				set := compile(t, c)
				i := w.start(set, func(c *Config, _ *Deps) { c.CommitInterval = time.Minute })
				var samples []sample
				for n := range 60 {
					s := by(fmt.Sprint("actor", n%10), n, float64(n)/2)
					samples = append(samples, s)
					w.signal(c, s)
				}
				until(t, "an evaluation", func() bool { return i.count("records_out_total") == 60 })
				i.stop()
				broken.Store(0)
				again := w.start(set, nil)
				w.clock(at(1e4))
				killed, clocks := strings.HasPrefix(name, "killed"), float64(partitions)
				until(t, "the last word", func() bool {
					in := again.count("records_in_total")
					return in >= clocks && (!killed || in >= clocks+60) && again.count("records_out_total") >= partitions && again.count("held_entries") == 0
				})
				replayed := again.count("records_in_total") - clocks
				again.stop()
				checkAlerts(t, w, c, samples)
				if killed != (replayed == 60) {
					t.Errorf("%v signals were evaluated again", replayed)
				}
			})
		})
	}
}

// checkAlerts asserts that the alerts told last are those of the sorted log.
func checkAlerts(t *testing.T, w *world, c ir.Correlation, samples []sample) {
	t.Helper()
	last, _ := w.alerts()
	got := map[string]verdict{}
	for id, a := range last {
		got[id] = verdictOf(&a)
	}
	if diff := cmp.Diff(expected(c, samples).alerts, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Partitions move between instances, which also die, while signals flow; in real time, since rebalances of several
// members cannot be in virtual time.
func TestInstancesComeAndGo(t *testing.T) {
	w := newWorld(t)
	c := threshold()
	set := compile(t, c)
	rnd := rand.New(rand.NewSource(7))
	var samples []sample
	for n := range 600 {
		samples = append(samples, by(fmt.Sprint("actor", n%25), n, float64(n)))
	}
	order := slices.Clone(samples)
	for n := range order { // out of order by at most the lateness
		order[n].at += rnd.Int63n(int64(10 * time.Second / time.Microsecond))
	}
	index := make([]int, len(order))
	for n := range index {
		index[n] = n
	}
	slices.SortStableFunc(index, func(a, b int) int { return int(order[a].at - order[b].at) })

	fast := func(c *Config, _ *Deps) { c.MaxPollRecords, c.CommitInterval = 10, 100*time.Millisecond }
	running := []*instance{w.start(set, fast)}
	newest := time.Time{}
	for k, n := range index {
		w.signal(c, samples[n])
		if t := micro(samples[n].at); t.After(newest) {
			newest = t
		}
		if k%20 == 0 {
			w.clock(newest)
		}
		switch k {
		case 100, 200, 400:
			running = append(running, w.start(set, fast))
		case 300, 500:
			running[0].stop()
			running = running[1:]
		}
	}
	w.clock(at(1e5))
	want := expected(c, samples).alerts
	until(t, "the last word on all alerts", func() bool {
		held := 0.0
		for _, i := range running {
			held += i.count("held_entries") + i.count("lag_records")
		}
		if held > 0 {
			return false
		}
		last, _ := w.alerts()
		for id, v := range want {
			if a, ok := last[id]; !ok || verdictOf(&a) != v {
				return false
			}
		}
		return true
	})
	for _, i := range running {
		i.stop()
	}
	checkAlerts(t, w, c, samples)
	_, told := w.alerts()
	total := 0
	for _, n := range told {
		total += n
	}
	t.Logf("%d alerts, told %d times", len(told), total)
}
