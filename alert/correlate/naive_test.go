package correlate

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// sample is a signal as the reference sees it.
type sample struct {
	correlation string
	at          int64 // µs
	id          string
	rule        int
	group       []string
	values      []string // of one field
}

// verdict is what must be equal of two alerts.
type verdict struct {
	Events      uint64
	First, Last time.Time
	Time        time.Time
	Newest      string
	Value       string
}

func verdictOf(a *schemas.Alert) verdict {
	name := "count"
	for _, n := range []string{"sum", "avg", "percentile", "rules", "silent_seconds"} {
		if _, ok := a.Values[n]; ok {
			name = n
		}
	}
	newest := ""
	if len(a.EventIDs) > 0 {
		newest = a.EventIDs[len(a.EventIDs)-1]
	}
	return verdict{a.Events, a.FirstTime, a.LastTime, a.Time, newest, a.Values[name]}
}

// reference computes the alerts of one group of one correlation from all its signals, with no regard to cost,
// and the matches that those hand on.
type reference struct {
	ir.Correlation
	span    int64
	alerts  map[string]verdict
	matches []sample
}

func (r *reference) id(group []string, kind string, anchor ...string) string {
	return schemas.AlertID(r.ID, joined(append([]string{joined(group), kind}, anchor...)))
}

// slotEnd is when a 64th of the timespan ends, at most an hour.
func (r *reference) slotEnd(at int64) int64 {
	slot := min(r.span/64, time.Hour.Microseconds())
	for end := at - at%slot; ; end += slot {
		if end > at {
			return end - 1
		}
	}
}

func (r *reference) tile(at int64) int64 { return int64(math.Floor(float64(at) / float64(r.span))) }

func (r *reference) tileID(group []string, n int64) string {
	return r.id(group, "tile", time.UnixMicro(n*r.span).UTC().Format(time.RFC3339Nano))
}

func (r *reference) bounds(value float64) bool {
	condition := r.Condition
	if len(condition) == 0 {
		return value >= float64(len(r.Rules))
	}
	for _, b := range condition {
		ok := map[ir.Relation]bool{
			ir.Greater: value > b.Number, ir.GreaterOrEqual: value >= b.Number, ir.Less: value < b.Number,
			ir.LessOrEqual: value <= b.Number, ir.Same: value == b.Number, ir.Different: value != b.Number,
		}[b.Relation]
		if !ok {
			return false
		}
	}
	return true
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// value of the signals of a window; false if there is none.
func (r *reference) value(window []sample) (float64, bool) {
	unique, numbers := map[string]bool{}, []float64{}
	matched := make([][]int64, len(r.Rules))
	for _, s := range window {
		matched[s.rule] = append(matched[s.rule], s.at)
		if r.Type == ir.EventCount {
			unique[s.id] = true
		}
		for _, v := range s.values {
			if v == "" {
				continue
			}
			if r.Type == ir.ValueCount {
				unique[v] = true
			}
			if n, err := strconv.ParseFloat(v, 64); err == nil && (n >= 0 || r.Type != ir.ValueSum) {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	total := 0.0
	for _, n := range numbers {
		total += n
	}
	switch r.Type {
	case ir.EventCount, ir.ValueCount:
		return float64(len(unique)), true
	case ir.Temporal:
		n := 0
		for _, times := range matched {
			if len(times) > 0 {
				n++
			}
		}
		return float64(n), true
	case ir.TemporalOrdered:
		return float64(longest(matched, math.MinInt64)), true
	case ir.ValueSum:
		return total, true
	case ir.ValueAvg:
		return total / float64(len(numbers)), len(numbers) > 0
	case ir.ValuePercentile:
		if len(numbers) == 0 {
			return 0, false
		}
		for _, n := range numbers { // the smallest number that so many percent of all do not exceed
			below := 0
			for _, m := range numbers {
				if m <= n {
					below++
				}
			}
			if float64(below)*100 >= r.Percentile*float64(len(numbers)) {
				return n, true
			}
		}
	case ir.FirstSeen, ir.Absence:
	}
	return 0, false
}

// longest tries all ways to go through the rules in order, in not decreasing time.
func longest(rules [][]int64, from int64) int {
	if len(rules) == 0 {
		return 0
	}
	most := longest(rules[1:], from)
	for _, at := range rules[0] {
		if at >= from {
			most = max(most, 1+longest(rules[1:], at))
		}
	}
	return most
}

func between(all []sample, from, to int64) []sample {
	var some []sample
	for _, s := range all {
		if s.at >= from && s.at <= to {
			some = append(some, s)
		}
	}
	return some
}

func (r *reference) alert(id string, at int64, window []sample, newest sample, value string) {
	unique := map[string]bool{}
	for _, s := range window {
		unique[s.id] = true
	}
	last := window[len(window)-1]
	r.alerts[id] = verdict{
		uint64(len(unique)), micro(window[0].at), micro(last.at), micro(at), newest.id, value,
	}
}

func (r *reference) match(id string, group []string, at int64) {
	r.matches = append(r.matches, sample{at: at, id: id, group: group})
}

// group decides one group; all is sorted by time, rule and id and without duplicates.
func (r *reference) group(all []sample) {
	group := all[0].group
	var times []int64
	for _, s := range all {
		if len(times) == 0 || times[len(times)-1] != s.at {
			times = append(times, s.at)
		}
	}
	d, _ := define(r.Correlation)
	switch d.mode {
	case eager, deferred:
		r.sliding(group, all, times)
	case whole:
		r.windows(group, all, times)
	case seen:
		r.firstSeen(group, all)
	case absent:
		for i, s := range all {
			end := r.slotEnd(s.at) + r.span
			if i+1 == len(all) || all[i+1].at > end {
				id := r.id(group, "silence", micro(end-r.span).Format(time.RFC3339Nano))
				r.alert(id, end, []sample{s}, s, number(r.Timespan.Seconds()))
				r.match(id, group, end)
			}
		}
	}
}

func (r *reference) silence(group []string, last sample, value string) {
	id := r.id(group, "silence", shortID(last.id).String())
	r.alert(id, last.at+r.span, []sample{last}, last, value)
	r.match(id, group, last.at+r.span)
}

func (r *reference) sliding(group []string, all []sample, times []int64) {
	type found struct {
		first int64
		value float64
	}
	tiles := map[int64]*found{}
	rising := len(r.Condition) == 0 || slices.ContainsFunc(r.Condition, func(b ir.Bound) bool {
		return b.Relation == ir.Greater || b.Relation == ir.GreaterOrEqual
	})
	for _, at := range times {
		window := between(all, at-r.span, at)
		value, ok := r.value(window)
		if !ok || !r.bounds(value) {
			continue
		}
		t := tiles[r.tile(at)]
		if t == nil {
			t = &found{window[0].at, value}
			tiles[r.tile(at)] = t
		}
		if t.value < value == rising {
			t.value = value
		}
		r.match(r.tileID(group, r.tile(at)), group, at)
	}
	for n, t := range tiles {
		to := (n+1)*r.span - 1
		window := between(all, t.first, to)
		last := window[len(window)-1]
		r.alert(r.tileID(group, n), last.at, window, last, number(t.value))
	}
}

func (r *reference) windows(group []string, all []sample, times []int64) {
	for i, at := range times {
		window := between(all, at, at+r.span)
		value, ok := r.value(window)
		maximal := i == 0 || window[len(window)-1].at-times[i-1] > r.span
		id := r.tileID(group, r.tile(at))
		if _, has := r.alerts[id]; ok && maximal && !has && r.bounds(value) {
			r.alert(id, at+r.span, window, window[len(window)-1], number(value))
			r.match(id, group, at+r.span)
		}
		zero, ok := r.value(nil)
		if ok && r.bounds(zero) && len(between(all, at+1, at+r.span)) == 0 {
			last := between(all, at, at)
			r.silence(group, last[len(last)-1], number(zero))
		}
	}
}

func (r *reference) firstSeen(group []string, all []sample) {
	all = slices.DeleteFunc(slices.Clone(all), func(s sample) bool { return len(s.values) == 0 })
	if len(all) == 0 {
		return
	}
	known := all[0].at
	previous := r.slotEnd(all[0].at)
	last := map[string]int64{}
	for _, s := range all {
		if s.at-previous > remembered*r.span {
			known = s.at
		}
		previous = r.slotEnd(s.at)
		for _, v := range s.values {
			if v == "" {
				continue
			}
			before, was := last[v]
			last[v] = r.slotEnd(s.at)
			if was && s.at-before <= r.span || r.Learning > 0 && s.at < known+r.Learning.Microseconds() {
				continue
			}
			id := r.id(group, "seen", joined([]string{v}), time.UnixMicro(r.tile(s.at)*r.span).UTC().Format(time.RFC3339Nano))
			r.alert(id, s.at, []sample{s}, s, "")
			r.match(id, group, s.at)
		}
	}
}

// expected are the alerts of a correlation on signals in any order.
func expected(c ir.Correlation, signals []sample) *reference {
	r := &reference{Correlation: c, span: c.Timespan.Microseconds(), alerts: map[string]verdict{}}
	groups := map[string][]sample{}
	for _, s := range signals {
		if s.correlation == c.ID {
			groups[joined(s.group)] = append(groups[joined(s.group)], s)
		}
	}
	for _, all := range groups {
		slices.SortFunc(all, func(a, b sample) int {
			switch {
			case a.at != b.at:
				return int(a.at - b.at)
			case a.rule != b.rule:
				return a.rule - b.rule
			}
			x, y := shortID(a.id), shortID(b.id)
			return strings.Compare(string(x[:]), string(y[:]))
		})
		all = slices.CompactFunc(all, func(a, b sample) bool { return a.at == b.at && a.rule == b.rule && a.id == b.id })
		r.group(all)
	}
	return r
}
