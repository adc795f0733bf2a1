package correlate

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// The texts of a rule name the group, the value, and fields of the newest event, whose text is made harmless.
func TestSummaryAndGroup(t *testing.T) {
	summary, err := ir.ParseTemplate("{actor} read {count} secrets, last {name}[ as {impersonated_user}]", func(name string) (ir.Field, bool) {
		return field(name), true
	})
	if err != nil {
		t.Fatal(err)
	}
	c := correlation(ir.EventCount, 1, time.Minute, time.Second, bound(ir.GreaterOrEqual, 2))
	c.Summary, c.GroupBy, c.Tags, c.Next = summary, []ir.Field{field("actor"), field("cluster")}, []string{"attack.t1552"}, "Ask."
	set := compile(t, c)
	fields := map[string]string{"actor": "eve", "cluster": "prod"}
	e := NewEngine(set, DefaultLimits(), testNow)
	for n, name := range []string{"one", "two\n<!channel>\u202e"} {
		for _, s := range set.Signals(Match{
			Rule: "a", Time: at(float64(n)),
			Values: func(f ir.Field) []string {
				if f.Name == "name" {
					return []string{name}
				}
				if v := fields[f.Name]; v != "" {
					return []string{v}
				}
				return nil
			},
			Alert: func() *schemas.Alert {
				return &schemas.Alert{EventID: eventName(n), Time: at(float64(n)), Rule: "a", Title: "Base", Query: "SELECT 1", Actor: "eve", Name: name}
			},
		}) {
			r, err := s.Record()
			if err != nil {
				t.Fatal(err)
			}
			back, _, err := decode(r.Value) // as it comes out of Kafka
			if err != nil {
				t.Fatal(err)
			}
			e.Add(back, int64(n))
		}
	}
	alerts := e.Take().Alerts
	if len(alerts) != 1 {
		t.Fatalf("got %d alerts", len(alerts))
	}
	a := alerts[0]
	if want := `eve read 2 secrets, last two\n<!channel>\u202e`; a.Summary != want {
		t.Errorf("got %q, want %q", a.Summary, want)
	}
	if a.GroupID != schemas.AlertGroup(c.ID, "eve", "prod") || a.Title != c.Title || a.Query != "" || a.Actor != "eve" ||
		a.Next != "Ask." || !slices.Equal(a.Tags, c.Tags) || a.EventID != eventName(1) || !slices.Equal(a.EventIDs, []string{eventName(0), eventName(1)}) {
		t.Errorf("got %+v", a)
	}
}

func TestGeneratedSentences(t *testing.T) {
	for kind, want := range map[ir.CorrelationType]string{
		ir.EventCount:      "Test of event_count: 1 event within 1m0s, actor eve",
		ir.ValueCount:      "Test of value_count: count of source_ip is 1 within 1m0s, actor eve",
		ir.TemporalOrdered: "Test of temporal_ordered: 1 event within 1m0s, actor eve",
		ir.ValueAvg:        "Test of value_avg: avg of source_ip is 7 within 1m0s, actor eve",
		ir.FirstSeen:       "Test of first_seen: not seen for 1m0s, actor eve, source_ip 7",
		ir.Absence:         "Test of absence: nothing for 1m0s since 2026-01-01T00:00:01Z, actor eve",
	} {
		c := correlation(kind, 1, time.Minute, time.Second)
		if kind != ir.FirstSeen && kind != ir.Absence {
			c.Condition = []ir.Bound{bound(ir.GreaterOrEqual, 1)}
		}
		e := NewEngine(compile(t, c), DefaultLimits(), testNow)
		e.Add(sample{at: at(1).UnixMicro(), id: eventName(1), group: []string{"eve"}, values: []string{"7"}}.signal(c), 0)
		e.Clock(Clock{Of: 1, Time: at(100)})
		alerts := e.Take().Alerts
		if len(alerts) != 1 || alerts[0].Summary != want {
			t.Errorf("got %+v, want %q", alerts, want)
		}
	}
}

// A list in a group-by puts the event in a group for each value; an absent field is a value of its own.
func TestGroupsOfLists(t *testing.T) {
	c := correlation(ir.ValueCount, 1, time.Minute, time.Second, bound(ir.GreaterOrEqual, 1))
	c.GroupNames = []string{"groups", "namespace"}
	c.GroupFields["a"] = []ir.Field{field("groups"), field("namespace")}
	made := 0
	signals := compile(t, c).Signals(Match{
		Rule: "a", Time: at(0),
		Values: func(f ir.Field) []string {
			return map[string][]string{"groups": {"dev", "ops", "dev"}, "source_ip": {"192.0.2.1", "192.0.2.2"}}[f.Name]
		},
		Alert: func() *schemas.Alert {
			made++
			return &schemas.Alert{EventID: eventName(1)}
		},
	})
	var got []string
	keys := map[string]bool{}
	for _, s := range signals {
		got = append(got, strings.Join(s.Group, "/")+" "+strings.Join(s.Values[0], ","))
		r, err := s.Record()
		if err != nil {
			t.Fatal(err)
		}
		keys[string(r.Key)] = true
	}
	if want := []string{"dev/ 192.0.2.1,192.0.2.2", "ops/ 192.0.2.1,192.0.2.2"}; !slices.Equal(got, want) || len(keys) != 2 || made != 1 {
		t.Errorf("got %q with %d keys, %d alerts made, want %q", got, len(keys), made, want)
	}
}

// A clock reaches every partition, whatever the number of partitions.
func TestClocksReachAllPartitions(t *testing.T) {
	for _, n := range []int32{1, 4, 12, 100} {
		records, err := Clock{Of: 1, Time: at(0)}.Records(n)
		if err != nil {
			t.Fatal(err)
		}
		reached := map[int]bool{}
		for _, r := range records {
			reached[partitioner{kgo.StickyKeyPartitioner(nil)}.ForTopic(r.Topic).Partition(r, int(n))] = true
		}
		if len(reached) != int(n) {
			t.Errorf("%d of %d partitions are reached", len(reached), n)
		}
	}
}

func TestSenderClocks(t *testing.T) {
	s := NewSender(compile(t, correlation(ir.Absence, 1, time.Minute, 0)), 1)
	now := testNow()
	times := func(now time.Time) (out []string) {
		records, err := s.Clocks(now, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			_, c, err := decode(r.Value)
			if err != nil || c.Of != 3 {
				t.Fatalf("got %+v, %v", c, err)
			}
			out = append(out, c.Time.Sub(at(0)).String())
		}
		return out
	}
	s.Evaluated(1, at(10), now)
	s.Evaluated(1, at(5), now)
	for _, step := range []struct {
		after time.Duration
		do    func(now time.Time)
		want  []string
	}{
		{0, func(time.Time) {}, []string{"10s"}},
		{time.Second, func(now time.Time) { s.Evaluated(1, at(20), now) }, nil}, // too soon
		{3 * time.Second, func(now time.Time) { s.CaughtUp(1, now) }, []string{"20s"}},
		{20 * time.Second, func(now time.Time) { s.CaughtUp(1, now) }, nil}, // not idle long enough
		{60 * time.Second, func(now time.Time) { s.CaughtUp(1, now) }, []string{now.Add(60 * time.Second).Sub(at(0)).String()}},
		{90 * time.Second, func(time.Time) { s.Forget(1) }, nil},
	} {
		step.do(now.Add(step.after))
		if got := times(now.Add(step.after)); !slices.Equal(got, step.want) {
			t.Errorf("after %s: got %v, want %v", step.after, got, step.want)
		}
	}
}
