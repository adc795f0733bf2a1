package correlate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// row is a row of an event: of version 0 as it came first, or a correction.
type row struct {
	n       int // of the event
	seconds float64
	version uint64
	rule    string // that matches; empty for none
	actor   string
	value   string
}

// sent gives the signals of rows as a Sender writes them, decoded as a correlator reads them.
func sent(t *testing.T, senders func(n int) *Sender, rows ...row) []*Signal {
	t.Helper()
	var out []*Signal
	for i, r := range rows {
		sender := senders(i)
		c := Correction{EventID: eventName(r.n), Version: r.version, Time: at(r.seconds)}
		add := func(m Match) {
			records, err := sender.Match(m)
			if err != nil {
				t.Fatal(err)
			}
			for _, record := range records {
				s, _, err := decode(record.Value)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, s)
			}
		}
		if r.rule != "" {
			c.Matched = []string{r.rule}
			add(Match{
				Rule: r.rule, Time: c.Time, EventID: c.EventID, Version: r.version,
				Values: func(f ir.Field) []string {
					if f.Name == "actor" {
						return []string{r.actor}
					}
					return []string{r.value}
				},
				Alert: func() *schemas.Alert {
					return &schemas.Alert{EventID: c.EventID, Time: c.Time, Actor: r.actor, Version: r.version, Team: "of " + r.actor}
				},
			})
		}
		if r.version == 0 {
			continue
		}
		records, err := sender.Corrected(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range records {
			s, _, err := decode(record.Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, s)
		}
	}
	return out
}

func one(s *Sender) func(int) *Sender { return func(int) *Sender { return s } }

func TestCorrectionsCountOnce(t *testing.T) {
	three := []ir.Bound{bound(ir.GreaterOrEqual, 3)}
	for _, tt := range []struct {
		name string
		kind ir.CorrelationType
		rows []row
		want []string // actor, events and team of each alert, as it was told last
	}{
		{
			"the same again", ir.EventCount,
			[]row{{1, 1, 0, "a", "eve", "x"}, {2, 2, 0, "a", "eve", "x"}, {1, 1, 1, "a", "eve", "x"}, {2, 2, 1, "a", "eve", "x"}, {2, 2, 2, "a", "eve", "x"}},
			nil,
		},
		{
			"another name", ir.EventCount,
			[]row{
				{1, 1, 0, "a", "oidc:eve", "x"},
				{2, 2, 0, "a", "oidc:eve", "x"},
				{1, 1, 1, "a", "eve", "x"},
				{2, 2, 1, "a", "eve", "x"},
				{3, 3, 0, "a", "oidc:eve", "x"},
				{4, 4, 0, "a", "eve", "x"},
			},
			[]string{"eve: 3 by eve"},
		},
		{
			"another name and back", ir.EventCount,
			[]row{
				{1, 1, 0, "a", "eve", "x"},
				{1, 1, 1, "a", "bob", "x"},
				{1, 1, 2, "a", "eve", "x"},
				{2, 2, 0, "a", "bob", "x"},
				{3, 3, 0, "a", "bob", "x"},
				{4, 4, 0, "a", "eve", "x"},
			},
			nil,
		},
		{
			"the first row alone matches", ir.EventCount,
			[]row{{1, 1, 0, "a", "eve", "x"}, {2, 2, 0, "a", "eve", "x"}, {1, 1, 1, "", "eve", "x"}, {3, 3, 0, "a", "eve", "x"}},
			nil,
		},
		{
			"the correction alone matches", ir.EventCount,
			[]row{{1, 1, 0, "", "eve", "x"}, {2, 2, 0, "a", "eve", "x"}, {3, 3, 0, "a", "eve", "x"}, {1, 1, 1, "a", "eve", "x"}},
			[]string{"eve: 3 by eve"},
		},
		{
			"the last event is known better", ir.EventCount,
			[]row{{1, 1, 0, "a", "eve", "x"}, {2, 2, 0, "a", "eve", "x"}, {3, 3, 0, "a", "eve", "x"}, {3, 3, 4, "a", "eve", "x"}},
			[]string{"eve: 3 by eve, version 4"},
		},
		{
			"an older row comes after a newer one", ir.EventCount,
			[]row{{1, 1, 2, "a", "eve", "x"}, {1, 1, 0, "a", "eve", "x"}, {2, 2, 0, "a", "eve", "x"}},
			nil,
		},
		{
			"other values", ir.ValueCount,
			[]row{{1, 1, 0, "a", "eve", "x"}, {2, 2, 0, "a", "eve", "y"}, {1, 1, 1, "a", "eve", "z"}},
			nil,
		},
		{
			"other values are those that count", ir.ValueCount,
			[]row{{1, 1, 0, "a", "eve", "x"}, {2, 2, 0, "a", "eve", "x"}, {3, 3, 0, "a", "eve", "z"}, {1, 1, 1, "a", "eve", "y"}},
			[]string{"eve: 3 by eve"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := compile(t, correlation(tt.kind, 1, time.Minute, time.Second, three...))
			e := NewEngine(set, DefaultLimits(), testNow)
			for i, s := range sent(t, one(NewSender(set, 4)), tt.rows...) {
				e.Add(s, int64(i))
			}
			last := map[string]string{}
			for _, a := range e.Take().Alerts {
				text := fmt.Sprintf("%s: %d by %s", a.Values["actor"], a.Events, a.Actor)
				if a.Version > 0 && a.LastTime.Equal(at(3)) {
					text += fmt.Sprintf(", version %d", a.Version)
				}
				last[a.ID] = text
			}
			var got []string
			for _, text := range last {
				got = append(got, text)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// After any rows and their corrections each group holds what the last rows say, and nothing twice.
func TestCorrectionsLeaveTheLastRows(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		kind := allTypes()[rnd.IntN(len(allTypes()))]
		if kind == ir.FirstSeen || kind == ir.Absence {
			continue
		}
		set := compile(t, correlation(kind, 2, time.Minute, time.Second, []ir.Bound{bound(ir.GreaterOrEqual, 1+rnd.IntN(4))}...))
		e, sender := NewEngine(set, DefaultLimits(), testNow), NewSender(set, 4)
		type place struct{ actor, rule string }
		now := map[int]*row{}
		offset := int64(0)
		for range 60 {
			n := rnd.IntN(12)
			r := row{n: n, seconds: float64(n * 7), rule: []string{"a", "b", ""}[rnd.IntN(3)], actor: []string{"eve", "bob"}[rnd.IntN(2)], value: strconv.Itoa(rnd.IntN(4))}
			if was := now[n]; was != nil {
				r.version = was.version + uint64(rnd.IntN(2)) // the same again, or a correction
				if r.version == was.version {
					r = *was
				}
			}
			now[n] = &r
			for _, s := range sent(t, one(sender), r) {
				e.Add(s, offset)
				offset++
			}
		}
		want := map[place][]string{}
		total := 0
		for n := range 12 {
			if r := now[n]; r != nil && r.rule != "" {
				at := place{r.actor, r.rule}
				want[at] = append(want[at], eventName(n))
				total++
			}
		}
		got := map[place][]string{}
		st := e.states[0]
		for _, g := range st.groups {
			for _, n := range g.entries {
				at := place{g.values[0], st.Rules[n.rule]}
				got[at] = append(got[at], n.id.String())
			}
			entries := 0
			for _, tile := range g.tiles {
				entries += tile.entries
			}
			if entries != len(g.entries) {
				t.Errorf("seed %d: the tiles of %s count %d, there are %d", seed, g.values[0], entries, len(g.entries))
			}
			if g.live != nil && kind != ir.TemporalOrdered {
				fresh := st.newAccumulator()
				for _, n := range g.entries[g.lower(g.liveFrom):] {
					fresh.add(n)
				}
				a, _ := g.live.value(never)
				if b, _ := fresh.value(never); a != b {
					t.Errorf("seed %d: %s: the window is worth %v, want %v", seed, kind, a, b)
				}
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || st.signals != total {
			t.Errorf("seed %d: %s: %d signals %v\nwant %d %v", seed, kind, st.signals, got, total, want)
		}
	}
}

// Another process does not know what was sent before: what it corrects counts for both names, for each once.
func TestCorrectionAfterARestart(t *testing.T) {
	set := compile(t, correlation(ir.EventCount, 1, time.Minute, time.Second, bound(ir.GreaterOrEqual, 2)))
	before, after := NewSender(set, 4), NewSender(set, 4)
	e := NewEngine(set, DefaultLimits(), testNow)
	signals := sent(t, func(n int) *Sender { return []*Sender{before, after, after}[n] },
		row{1, 1, 0, "a", "oidc:eve", "x"}, row{1, 1, 1, "a", "eve", "x"}, row{1, 1, 1, "a", "eve", "x"})
	for i, s := range signals {
		e.Add(s, int64(i))
	}
	if a := e.Take().Alerts; len(a) != 0 || e.Counts().Signals != 2 {
		t.Errorf("%d alerts, %d signals", len(a), e.Counts().Signals)
	}
}

func TestRecallIsBounded(t *testing.T) {
	set := compile(t, correlation(ir.EventCount, 1, time.Minute, time.Second, bound(ir.GreaterOrEqual, 2)))
	r := newRecall()
	group := []Signal{{Correlation: "corr-event_count", Group: []string{"eve"}}}
	for n := range 3 * recallSize {
		r.take(set, Match{Rule: "a", EventID: fmt.Sprintf("%032x", n)}, group)
	}
	if n := len(r.groups[0]) + len(r.groups[1]); n > 2*recallSize {
		t.Errorf("%d are remembered", n)
	}
	back := r.take(set, Match{Rule: "a", EventID: fmt.Sprintf("%032x", 3*recallSize-1), Version: 1}, nil)
	if len(back) != 1 || !back[0].Retract || back[0].Group[0] != "eve" {
		t.Errorf("got %+v", back)
	}
}

// In one process it is the same.
func TestOfflineCorrections(t *testing.T) {
	set := compile(t, correlation(ir.EventCount, 1, time.Minute, time.Second, bound(ir.GreaterOrEqual, 2)))
	o := NewOffline(set, DefaultLimits(), testNow, nil)
	match := func(n int, version uint64, actor string) {
		id := eventName(n)
		o.Match(Match{
			Rule: "a", Time: at(float64(n)), EventID: id, Version: version, Values: func(ir.Field) []string { return []string{actor} },
			Alert: func() *schemas.Alert { return &schemas.Alert{EventID: id, Version: version, Time: at(float64(n))} },
		})
	}
	match(1, 0, "oidc:eve")
	match(1, 1, "eve")
	match(2, 0, "oidc:eve")
	match(3, 0, "eve")
	o.Corrected(Correction{EventID: eventName(2), Version: 1, Time: at(2)})
	match(4, 0, "oidc:eve")
	var got []string
	for _, a := range o.Close() {
		got = append(got, fmt.Sprint(a.Values["actor"], " ", a.Events))
	}
	if !slices.Equal(got, []string{"eve 2"}) {
		t.Errorf("got %q", got)
	}
}
