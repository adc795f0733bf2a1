package correlate

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// What is held after minutes is what is held after hours, for every type.
func TestMemoryIsFlat(t *testing.T) {
	for _, kind := range allTypes() {
		t.Run(string(kind), func(t *testing.T) {
			c := correlation(kind, 2, time.Minute, 10*time.Second)
			if kind != ir.FirstSeen && kind != ir.Absence {
				c.Condition = []ir.Bound{bound(ir.GreaterOrEqual, 2)}
			}
			e := NewEngine(compile(t, c), DefaultLimits(), testNow)
			rnd := rand.New(rand.NewSource(1))
			held := func() int {
				n := e.Counts()
				heap := 0
				for _, st := range e.states {
					heap += len(st.due)
					for _, g := range st.groups {
						heap += len(g.tiles) + len(g.presence) + cap(g.entries)
					}
				}
				return n.Signals + n.Groups + n.Seen + heap
			}
			early, most := 0, 0
			for second := range 2 * 3600 {
				for n := range 5 {
					s := sample{
						at: at(float64(second)).UnixMicro() - rnd.Int63n(int64(9*time.Second/time.Microsecond)), id: eventName(5*second + n),
						rule: rnd.Intn(2), group: []string{fmt.Sprint("actor", rnd.Intn(20)+second/60)},
						values: []string{fmt.Sprint(rnd.Intn(10) + second/100)},
					}
					e.Add(s.signal(c), int64(5*second+n))
				}
				e.Clock(Clock{Of: 1, Time: at(float64(second))})
				e.Take()
				switch {
				case second < 1200:
					early = max(early, held())
				default:
					most = max(most, held())
				}
				if behind := int64(5*second) - e.ReplayFrom(int64(5*second)); behind > 5*200 && kind != ir.FirstSeen {
					t.Fatalf("after %d s a restart would replay %d signals", second, behind)
				}
			}
			if most > early*5/4 {
				t.Errorf("%d things held after 20 minutes, %d later", early, most)
			}
			e.Clock(Clock{Of: 1, Time: at(1e6)})
			if n := e.Counts(); n.Signals+n.Groups+n.Seen != 0 {
				t.Errorf("at the end %+v are held", n)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	limits := Limits{Groups: 40, Signals: 200, GroupSignals: 50, Seen: 64}
	for _, c := range []struct {
		limit string
		kind  ir.CorrelationType
		group func(n int) string
	}{
		{limitGroups, ir.EventCount, func(n int) string { return fmt.Sprint("actor", n) }},
		{limitSignals, ir.EventCount, func(n int) string { return fmt.Sprint("actor", n/30) }},
		{limitGroupSignals, ir.EventCount, func(int) string { return "eve" }},
		{limitSeen, ir.FirstSeen, func(n int) string { return fmt.Sprint("actor", n%10) }},
	} {
		t.Run(c.limit, func(t *testing.T) {
			correlation := correlation(c.kind, 1, 24*time.Hour, time.Minute, bound(ir.GreaterOrEqual, 30))
			held := map[string]Counts{}
			for _, order := range []string{"in order", "again"} {
				e := NewEngine(compile(t, correlation), limits, testNow)
				for n := range 2000 {
					one := sample{at: at(float64(n)).UnixMicro(), id: eventName(n), group: []string{c.group(n)}, values: []string{fmt.Sprint(n)}}
					e.Add(one.signal(correlation), int64(n))
					now := e.Counts()
					if now.Groups > limits.Groups || now.Signals > limits.Signals+1 || now.Seen > limits.Seen {
						t.Fatalf("after %d signals %+v are held, the limits are %+v", n, now, limits)
					}
				}
				now := e.Counts()
				if now.Limited[correlation.ID][c.limit] == 0 {
					t.Errorf("%v were limited, want %s", now.Limited, c.limit)
				}
				held[order] = now
			}
			if held["in order"].Signals != held["again"].Signals || held["in order"].Groups != held["again"].Groups {
				t.Errorf("what is forgotten differs: %+v", held)
			}
		})
	}
}

// After an hour's outage of a cluster its signals come in one go, far later than allowed: what fires on arrival
// must fire all the same.
func TestBacklogFires(t *testing.T) {
	c := threshold()
	for _, restart := range []bool{false, true} {
		e := NewEngine(compile(t, c), DefaultLimits(), testNow)
		e.Clock(Clock{Of: 1, Time: at(3600)})
		raised := 0
		for n := range 5 {
			if restart && n == 3 {
				times := e.Times()
				e = NewEngine(compile(t, c), DefaultLimits(), testNow)
				e.Replay(times)
				for k := range 3 {
					e.Add(by("eve", k, float64(k)).signal(c), int64(k))
				}
				e.Restore(times)
			}
			e.Add(by("eve", n, float64(n)).signal(c), int64(n))
			e.Clock(Clock{Of: 1, Time: at(3600 + float64(n))})
			raised += len(e.Take().Alerts)
		}
		if raised != 1 {
			t.Errorf("restart %v: %d alerts, want 1", restart, raised)
		}
		if late := e.Counts().Late[c.ID]; late == 0 {
			t.Error("nothing was counted as late")
		}
	}
}

// A change of rules keeps what is known of correlations that did not change.
func TestReplaceKeepsWhatIsKnown(t *testing.T) {
	c := threshold()
	e := NewEngine(compile(t, c), DefaultLimits(), testNow)
	for n := range 4 {
		e.Add(by("eve", n, float64(n)).signal(c), int64(n))
	}
	c.Title = "Another title"
	other := correlation(ir.Absence, 1, time.Minute, time.Second)
	e.Replace(compile(t, other, c))
	e.Add(by("eve", 4, 4).signal(c), 4)
	if alerts := e.Take().Alerts; len(alerts) != 1 || alerts[0].Title != "Another title" {
		t.Errorf("got %+v", alerts)
	}
	c.Timespan = 2 * time.Minute
	e.Replace(compile(t, c))
	if n := e.Counts(); n.Signals != 0 {
		t.Errorf("a correlation with another timespan goes on with %+v", n)
	}
}

func TestCompileReportsAllFaults(t *testing.T) {
	position := func(c ir.Correlation, id string, line int) ir.Correlation {
		c.ID, c.Position = id, ir.Position{File: "r.yml", Line: line}
		return c
	}
	good := correlation(ir.EventCount, 1, time.Minute, 0, bound(ir.GreaterOrEqual, 1))
	edit := func(f func(*ir.Correlation)) ir.Correlation {
		c := correlation(ir.EventCount, 1, time.Minute, 0, bound(ir.GreaterOrEqual, 1))
		f(&c)
		return c
	}
	self := edit(func(c *ir.Correlation) {
		c.Rules = []string{"i"}
		c.GroupFields["i"] = []ir.Field{field("actor")}
	})
	_, err := Compile([]ir.Correlation{
		position(good, "aa", 1), position(good, "aa", 2),
		position(edit(func(c *ir.Correlation) { c.Timespan = 0 }), "b", 3),
		position(edit(func(c *ir.Correlation) { c.Rules = nil }), "c", 4),
		position(edit(func(c *ir.Correlation) { c.Rules = []string{"a", "a"} }), "d", 5),
		position(edit(func(c *ir.Correlation) { c.Condition = nil }), "e", 6),
		position(edit(func(c *ir.Correlation) { c.Type = "value_median" }), "f", 7),
		position(edit(func(c *ir.Correlation) { c.Type = ir.ValueCount }), "g", 8),
		position(edit(func(c *ir.Correlation) { c.GroupNames = append(c.GroupNames, "verb") }), "h", 9),
		position(self, "i", 10),
	})
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{
		"r.yml:2: correlation.id: aa is there twice", "r.yml:3: correlation.timespan: must be above 0", "r.yml:4: correlation.rules: must name",
		"r.yml:5: correlation.rules: a is there twice", "r.yml:6: correlation.condition: is missing", `r.yml:7: correlation.type: "value_median"`,
		"r.yml:8: correlation.condition.field: value_count cannot work on 0 fields", "r.yml:9: correlation.group-by: the fields of a do not fit",
		"r.yml:10: correlation.rules: the correlation counts itself",
	} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Errorf("fault %d of %d: want %s", i, len(lines), want)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

// Offline gives what the services give, and does not take the end of a file for silence.
func TestOffline(t *testing.T) {
	count, absent := threshold(), correlation(ir.Absence, 1, time.Minute, 5*time.Second)
	outer := chain(count, ir.EventCount, time.Hour, time.Second, bound(ir.GreaterOrEqual, 2))
	told := 0
	o := NewOffline(compile(t, count, absent, outer), DefaultLimits(), testNow, func(schemas.Alert, bool) { told++ })
	match := func(n int, seconds float64) {
		o.Match(Match{
			Rule: "a", Time: at(seconds), Values: func(ir.Field) []string { return []string{"eve"} },
			Alert: func() *schemas.Alert { return &schemas.Alert{EventID: eventName(n), Time: at(seconds)} },
		})
		o.Event(at(seconds))
	}
	for n := range 6 {
		match(n, float64(n))
	}
	for n := range 6 {
		match(10+n, 300+float64(n))
	}
	var got []string
	for _, a := range o.Close() {
		got = append(got, fmt.Sprint(a.Rule, " ", a.Events))
	}
	if want := []string{"corr-event_count 6", "corr-absence 1", "corr-event_count 6", "outer 2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if told < 4 {
		t.Errorf("told %d alerts", told)
	}
}

func FuzzDecode(f *testing.F) {
	c := threshold()
	r, err := by("eve", 1, 1).signal(c).Record()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Value)
	f.Add([]byte(`{"clock":{"level":0,"partition":1,"of":2,"time":"2026-01-01T00:00:00Z"}}`))
	f.Add([]byte(`{"correlation":"corr-event_count","rule":"a","event_id":"x","time":"9999-01-01T00:00:00Z","group":["a"]}`))
	set, err := Compile([]ir.Correlation{c, correlation(ir.FirstSeen, 1, time.Hour, 0), correlation(ir.Absence, 1, time.Hour, 0)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(_ *testing.T, value []byte) {
		e := NewEngine(set, DefaultLimits(), testNow)
		for range 2 {
			signal, clock, err := decode(value)
			switch {
			case err != nil:
				return
			case clock != nil:
				e.Clock(*clock)
			default:
				e.Add(signal, 1)
			}
			e.Clock(Clock{Of: 1, Time: micro(latest)})
		}
		if s, err := decodeSeen(value); err == nil {
			e.Remember(s)
		}
		_ = readPosition(1, new(string(value)))
	})
}

// One signal in order, in the middle of many groups.
func BenchmarkEngine(b *testing.B) {
	for _, kind := range allTypes() {
		b.Run(string(kind), func(b *testing.B) {
			c := correlation(kind, 2, 5*time.Minute, time.Minute)
			if kind != ir.FirstSeen && kind != ir.Absence {
				c.Condition = []ir.Bound{bound(ir.GreaterOrEqual, 10)}
			}
			set, err := Compile([]ir.Correlation{c})
			if err != nil {
				b.Fatal(err)
			}
			e := NewEngine(set, DefaultLimits(), testNow)
			signals := make([]*Signal, 10_000)
			for n := range signals {
				signals[n] = sample{id: eventName(n), rule: n % 2, group: []string{fmt.Sprint("actor", n%1000)}, values: []string{fmt.Sprint(n % 20)}}.signal(c)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				s := *signals[n%len(signals)]
				s.Time = at(float64(n) / 100)
				e.Add(&s, int64(n))
				if n++; n%1000 == 0 {
					e.Clock(Clock{Of: 1, Time: s.Time})
					e.Take()
				}
			}
		})
	}
}

// One actor who does a lot, of which nothing comes, a little out of order: the worst that happens every day.
func BenchmarkHotGroup(b *testing.B) {
	for _, kind := range []ir.CorrelationType{ir.EventCount, ir.ValueCount, ir.Temporal, ir.TemporalOrdered, ir.ValueSum} {
		b.Run(string(kind), func(b *testing.B) {
			c := correlation(kind, 2, 5*time.Minute, time.Minute, bound(ir.GreaterOrEqual, 9_000))
			set, err := Compile([]ir.Correlation{c})
			if err != nil {
				b.Fatal(err)
			}
			e := NewEngine(set, DefaultLimits(), testNow)
			rnd := rand.New(rand.NewSource(1))
			n := 0
			for b.Loop() {
				second := float64(n) / 25 // 7,500 in the window
				s := sample{at: at(second - rnd.Float64()).UnixMicro(), id: eventName(n), group: []string{"eve"}, values: []string{"1"}}
				e.Add(s.signal(c), int64(n))
				if n++; n%1000 == 0 {
					e.Clock(Clock{Of: 1, Time: at(second)})
					e.Take()
				}
			}
		})
	}
}
