package correlate

import (
	"encoding/hex"
	"fmt"
	"math/rand"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

func testNow() time.Time { return time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC) }

func field(name string) ir.Field { return ir.Field{Name: name, Source: ir.Column, Column: name} }

// correlation returns one of rules a, b and so on, grouped by actor, that looks at source_ip.
func correlation(kind ir.CorrelationType, rules int, span, lateness time.Duration, condition ...ir.Bound) ir.Correlation {
	c := ir.Correlation{
		Meta: ir.Meta{ID: "corr-" + string(kind), Title: "Test of " + string(kind), Level: "high"}, Type: kind, Timespan: span,
		Lateness: lateness, Condition: condition, GroupNames: []string{"actor"}, GroupFields: map[string][]ir.Field{},
		ValueFields: map[string][]ir.Field{}, Percentile: 90,
	}
	if kind != ir.EventCount && kind != ir.Temporal && kind != ir.TemporalOrdered && kind != ir.Absence {
		c.ValueNames = []string{"source_ip"}
	}
	for i := range rules {
		id := string(rune('a' + i))
		c.Rules = append(c.Rules, id)
		c.GroupFields[id] = []ir.Field{field("actor")}
		if c.ValueNames != nil {
			c.ValueFields[id] = []ir.Field{field("source_ip")}
		}
	}
	return c
}

func at(seconds float64) time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

func eventName(n int) string {
	var id [16]byte
	id[0], id[1], id[2] = byte(n*37), byte(n>>8), byte(n) // not in the order of time
	return hex.EncodeToString(id[:])
}

// chain is a correlation that counts the matches of another one.
func chain(inner ir.Correlation, kind ir.CorrelationType, span, lateness time.Duration, condition ...ir.Bound) ir.Correlation {
	c := ir.Correlation{
		Meta: ir.Meta{ID: "outer", Title: "Outer", Level: "high"}, Type: kind, Timespan: span, Lateness: lateness,
		Condition: condition, Rules: []string{inner.ID}, GroupNames: []string{"actor"},
		GroupFields: map[string][]ir.Field{inner.ID: {field("actor")}}, ValueFields: map[string][]ir.Field{},
	}
	return c
}

// step is one record of a partition.
type step struct {
	signal *Signal
	clock  *Clock
}

// scenario is a random log, in an order in which nothing is later than allowed.
type scenario struct {
	cs      []ir.Correlation
	samples []sample
	steps   []step
}

func bound(r ir.Relation, n int) ir.Bound { return ir.Bound{Relation: r, Number: float64(n)} }

func randomCondition(rnd *rand.Rand, n int) []ir.Bound {
	switch rnd.Intn(9) {
	case 0:
		return []ir.Bound{bound(ir.Greater, rnd.Intn(n))}
	case 1:
		return []ir.Bound{bound(ir.Less, 1+rnd.Intn(n))}
	case 2:
		return []ir.Bound{bound(ir.LessOrEqual, rnd.Intn(n))}
	case 3:
		return []ir.Bound{bound(ir.Same, rnd.Intn(n))}
	case 4:
		return []ir.Bound{bound(ir.Different, rnd.Intn(n))}
	case 5:
		low := rnd.Intn(n)
		return []ir.Bound{bound(ir.GreaterOrEqual, low), bound(ir.LessOrEqual, low+rnd.Intn(3))}
	}
	return []ir.Bound{bound(ir.GreaterOrEqual, 1+rnd.Intn(n))}
}

func allTypes() []ir.CorrelationType {
	return []ir.CorrelationType{
		ir.EventCount, ir.ValueCount, ir.Temporal, ir.TemporalOrdered, ir.ValueSum, ir.ValueAvg, ir.ValuePercentile,
		ir.FirstSeen, ir.Absence,
	}
}

func randomScenario(rnd *rand.Rand, kind ir.CorrelationType) scenario {
	span := time.Duration(1+rnd.Intn(20)) * time.Second
	late := time.Duration(1+rnd.Intn(15)) * time.Second
	c := correlation(kind, 1+rnd.Intn(3), span, late)
	switch kind {
	case ir.EventCount, ir.ValueCount:
		c.Condition = randomCondition(rnd, 6)
	case ir.Temporal, ir.TemporalOrdered:
		if rnd.Intn(2) == 0 {
			c.Condition = randomCondition(rnd, len(c.Rules)+1)
		}
	case ir.ValueSum:
		c.Condition = randomCondition(rnd, 30)
	case ir.ValueAvg, ir.ValuePercentile:
		c.Condition, c.Percentile = randomCondition(rnd, 9), float64(1+rnd.Intn(100))
	case ir.FirstSeen:
		c.Learning = time.Duration(rnd.Intn(3)*rnd.Intn(20)) * time.Second
	case ir.Absence:
	}
	s := scenario{cs: []ir.Correlation{c}}
	sources := make([][]sample, 1+rnd.Intn(3))
	length := float64(20 + rnd.Intn(300))
	for n := range rnd.Intn(80) {
		// Ties are wanted.
		t := at(float64(rnd.Intn(int(2*length))) / 2)
		one := sample{
			correlation: c.ID, at: t.UnixMicro(), id: eventName(n), rule: rnd.Intn(len(c.Rules)), group: []string{[]string{"eve", "mallory"}[rnd.Intn(8)/7]},
		}
		if c.ValueNames != nil {
			for range rnd.Intn(3) {
				one.values = append(one.values, strconv.Itoa(rnd.Intn(9)))
			}
		}
		slices.Sort(one.values)
		one.values = slices.Compact(one.values)
		copies := 1 + rnd.Intn(5)/4
		for range copies {
			source := rnd.Intn(len(sources))
			sources[source] = append(sources[source], one)
		}
		s.samples = append(s.samples, one)
		if rnd.Intn(6) == 0 && len(c.Rules) > 1 { // an event that two rules match
			one.rule = (one.rule + 1) % len(c.Rules)
			s.samples = append(s.samples, one)
			sources[0] = append(sources[0], one)
		}
	}
	s.shuffle(rnd, sources, late.Microseconds())
	return s
}

// shuffle puts each source out of order by at most its lateness, and the sources in any order to each other.
func (s *scenario) shuffle(rnd *rand.Rand, sources [][]sample, late int64) {
	newest := make([]int64, len(sources))
	for i := range sources {
		order := make(map[int]int64)
		index := make([]int, len(sources[i]))
		for k := range sources[i] {
			index[k], order[k] = k, sources[i][k].at+rnd.Int63n(late+1)
		}
		slices.SortStableFunc(index, func(a, b int) int { return int(order[a] - order[b]) })
		sorted := make([]sample, len(index))
		for to, from := range index {
			sorted[to] = sources[i][from]
		}
		sources[i] = sorted
	}
	clock := func(i int, t int64) {
		s.steps = append(s.steps, step{clock: &Clock{Partition: int32(i), Of: int32(len(sources)), Time: micro(t)}})
	}
	for left := true; left; {
		left = false
		i := rnd.Intn(len(sources))
		for n := 1 + rnd.Intn(10); n > 0 && len(sources[i]) > 0; n-- {
			one := sources[i][0]
			sources[i] = sources[i][1:]
			s.steps = append(s.steps, step{signal: one.signal(s.cs[0])})
			newest[i] = max(newest[i], one.at)
			if rnd.Intn(3) > 0 {
				clock(i, newest[i])
			}
		}
		for _, rest := range sources {
			left = left || len(rest) > 0
		}
	}
	for i := range sources {
		clock(i, at(1e6).UnixMicro())
	}
}

func (s sample) signal(c ir.Correlation) *Signal {
	out := &Signal{
		V: 1, Correlation: c.ID, Rule: c.Rules[s.rule], EventID: s.id, Time: micro(s.at), Group: s.group,
		Alert: &schemas.Alert{EventID: s.id, Time: micro(s.at)},
	}
	if c.ValueNames != nil {
		out.Values = [][]string{s.values}
	}
	return out
}

func compile(t testing.TB, cs ...ir.Correlation) *Set {
	t.Helper()
	set, err := Compile(cs)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// play runs the steps through an engine, with a restart before the step of each given number.
func (s *scenario) play(t testing.TB, inProcess bool, restarts ...int) (verdicts map[string]verdict, engine *Engine, emitted int) {
	t.Helper()
	set := compile(t, s.cs...)
	fresh := func() *Engine {
		e := NewEngine(set, DefaultLimits(), testNow)
		e.inProcess = inProcess
		return e
	}
	e, alerts, memory := fresh(), map[string]verdict{}, map[string]Seen{}
	take := func(muted bool) {
		out := e.Take()
		for i := range out.Seen {
			r, err := out.Seen[i].Record(0)
			if err != nil {
				t.Fatal(err)
			}
			memory[string(r.Key)] = out.Seen[i]
			if out.Seen[i].Forgotten {
				delete(memory, string(r.Key))
			}
		}
		if !muted {
			for i := range out.Alerts {
				alerts[out.Alerts[i].ID] = verdictOf(&out.Alerts[i])
			}
			emitted += len(out.Alerts)
		}
	}
	do := func(n int) {
		if c := s.steps[n].clock; c != nil {
			e.Clock(*c)
		} else {
			e.Add(s.steps[n].signal, int64(n))
		}
	}
	for n := range s.steps {
		if slices.Contains(restarts, n) {
			from, times := e.ReplayFrom(int64(n)), e.Times()
			e = fresh()
			for _, m := range memory {
				e.Remember(&m)
			}
			e.Replay(times)
			for k := int(from); k < n; k++ {
				do(k)
				take(true)
			}
			e.Restore(times)
			take(true)
		}
		do(n)
		take(false)
	}
	return alerts, e, emitted
}

// What is late, out of order or there twice gives the alerts of the sorted log, restarts or not.
func TestAnyOrderGivesTheAlertsOfTheSortedLog(t *testing.T) {
	for _, kind := range allTypes() {
		t.Run(string(kind), func(t *testing.T) {
			raised := 0
			for seed := range int64(200) {
				rnd := rand.New(rand.NewSource(seed))
				s := randomScenario(rnd, kind)
				want := expected(s.cs[0], s.samples).alerts
				raised += len(want)
				var restarts []int
				if seed%2 == 1 {
					restarts = []int{rnd.Intn(len(s.steps)), rnd.Intn(len(s.steps))}
				}
				got, e, _ := s.play(t, false, restarts...)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("seed %d, %+v, restarts %v: -want +got:\n%s", seed, s.cs[0], restarts, diff)
				}
				if c := e.Counts(); c.Signals+c.Groups+c.Seen > 0 {
					t.Fatalf("seed %d: at the end of time %+v are held", seed, c)
				}
				if c := e.Counts(); len(restarts) == 0 && len(c.Late) > 0 {
					t.Fatalf("seed %d: %v are late", seed, c.Late)
				}
			}
			if raised < 100 {
				t.Errorf("%d alerts only: the scenarios show nothing", raised)
			}
		})
	}
}

// The matches of one correlation that another one counts are as independent of the order.
func TestChainsInAnyOrder(t *testing.T) {
	for _, kind := range allTypes() {
		t.Run(string(kind), func(t *testing.T) {
			raised := 0
			for seed := range int64(80) {
				rnd := rand.New(rand.NewSource(seed))
				s := randomScenario(rnd, kind)
				inner := s.cs[0]
				outer := chain(inner, ir.EventCount, time.Duration(1+rnd.Intn(60))*time.Second, inner.Lateness, randomCondition(rnd, 4)...)
				s.cs = append(s.cs, outer)
				first := expected(inner, s.samples)
				want := first.alerts
				for i := range first.matches {
					first.matches[i].correlation = outer.ID
				}
				for id, v := range expected(outer, first.matches).alerts {
					want[id] = v
					raised++
				}
				got, _, _ := s.play(t, true)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("seed %d, %+v then %+v: -want +got:\n%s", seed, inner, outer, diff)
				}
			}
			if raised < 15 {
				t.Errorf("%d alerts only: the scenarios show nothing", raised)
			}
		})
	}
}

// An alert is out with the signal that makes its condition true, before any clock.
func TestAlertsAreRaisedOnArrival(t *testing.T) {
	for _, c := range []struct {
		kind  ir.CorrelationType
		rules int
	}{{ir.EventCount, 1}, {ir.ValueCount, 1}, {ir.Temporal, 3}, {ir.TemporalOrdered, 3}, {ir.ValueSum, 1}} {
		t.Run(string(c.kind), func(t *testing.T) {
			correlation := correlation(c.kind, c.rules, time.Minute, time.Minute, bound(ir.GreaterOrEqual, 3))
			e := NewEngine(compile(t, correlation), DefaultLimits(), testNow)
			for n := range 3 {
				if out := e.Take(); len(out.Alerts) > 0 {
					t.Fatalf("an alert after %d signals", n)
				}
				one := sample{at: at(float64(n)).UnixMicro(), id: eventName(n), rule: n % c.rules, group: []string{"eve"}, values: []string{fmt.Sprint(n)}}
				e.Add(one.signal(correlation), int64(n))
			}
			if out := e.Take(); len(out.Alerts) != 1 {
				t.Errorf("got %d alerts, want one at once", len(out.Alerts))
			}
		})
	}
}
