package correlate

import (
	"crypto/sha256"
	"encoding/hex"
	"hash/maphash"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

type eventID [16]byte

// shortID is the 16 bytes of an id in hexadecimal, or a hash of an id of another form.
func shortID(text string) (id eventID) {
	if len(text) == 2*len(id) {
		if _, err := hex.Decode(id[:], []byte(text)); err == nil {
			return id
		}
	}
	sum := sha256.Sum256([]byte(text))
	return eventID(sum[:16])
}

func (id eventID) String() string { return hex.EncodeToString(id[:]) }

// entry is a signal as long as it can count. Entries are sorted by time, rule and id: the matches of one
// instant are then in the order of the rules, so an order in which they satisfy a temporal_ordered is found.
type entry struct {
	time   int64
	id     eventID
	rule   int
	offset int64
	// version is that of the event's row: a higher one replaces a lower one.
	version uint64
	tuples  []uint64  // hashes of what a value_count counts
	values  []float64 // what is summed
	passed  bool      // a match at this time was handed on
	detail  *detail   // of an absence, unless a signal follows in time
}

func compareEntries(a, b *entry) int {
	switch {
	case a.time != b.time:
		if a.time < b.time {
			return -1
		}
		return 1
	case a.rule != b.rule:
		return a.rule - b.rule
	}
	return slices.Compare(a.id[:], b.id[:])
}

// accumulator holds the entries of one window. The order of additions does not matter unless
// ordered says so; then entries are added as they are sorted.
type accumulator interface {
	add(e *entry)
	remove(e *entry)
	// value is that of the entries not older than from, which all are but for an ordered one.
	// ok is false if there is nothing to compute it from.
	value(from int64) (value float64, ok bool)
}

func (d *definition) newAccumulator() accumulator {
	switch d.Type {
	case ir.EventCount:
		return events{}
	case ir.ValueCount:
		return distinct{}
	case ir.Temporal:
		return &rules{count: make([]int, len(d.Rules))}
	case ir.TemporalOrdered:
		return newOrdered(len(d.Rules))
	case ir.ValueSum:
		return &sum{}
	case ir.ValueAvg:
		return &sum{average: true}
	case ir.ValuePercentile:
		return &percentile{percent: d.Percentile}
	case ir.FirstSeen, ir.Absence:
	}
	return nil
}

// events counts events; one that two rules match is one event.
type events map[eventID]int

func (a events) add(e *entry)                { a[e.id]++ }
func (a events) value(int64) (float64, bool) { return float64(len(a)), true }
func (a events) remove(e *entry) {
	if a[e.id]--; a[e.id] <= 0 {
		delete(a, e.id)
	}
}

type distinct map[uint64]int

func (a distinct) add(e *entry) {
	for _, t := range e.tuples {
		a[t]++
	}
}

func (a distinct) remove(e *entry) {
	for _, t := range e.tuples {
		if a[t]--; a[t] <= 0 {
			delete(a, t)
		}
	}
}
func (a distinct) value(int64) (float64, bool) { return float64(len(a)), true }

// rules counts the rules that matched.
type rules struct {
	count   []int
	matched int
}

func (a *rules) add(e *entry) {
	if a.count[e.rule]++; a.count[e.rule] == 1 {
		a.matched++
	}
}

func (a *rules) remove(e *entry) {
	if a.count[e.rule]--; a.count[e.rule] == 0 {
		a.matched--
	}
}
func (a *rules) value(int64) (float64, bool) { return float64(a.matched), true }

// ordered counts the most rules that matched one after the other in the order in which the correlation
// names them; rules may be missing in between. begin[k][m] is the latest time at which such a chain
// of m+1 rules, the last of them rule k, began.
type ordered struct{ begin [][]int64 }

func newOrdered(n int) *ordered {
	a := &ordered{begin: make([][]int64, n)}
	for k := range a.begin {
		a.begin[k] = slices.Repeat([]int64{never}, k+1)
	}
	return a
}

func (a *ordered) add(e *entry) {
	a.begin[e.rule][0] = e.time
	for m := 1; m <= e.rule; m++ {
		for k := m - 1; k < e.rule; k++ {
			a.begin[e.rule][m] = max(a.begin[e.rule][m], a.begin[k][m-1])
		}
	}
}

// remove is not needed: a chain that began too early is not counted.
func (a *ordered) remove(*entry) {}

func (a *ordered) value(from int64) (float64, bool) {
	most := 0
	for _, lengths := range a.begin {
		for m, begin := range lengths {
			if begin > never && begin >= from {
				most = max(most, m+1)
			}
		}
	}
	return float64(most), true
}

// Numbers are summed as whole and millionth parts, so that a sum does not depend on the order of
// the additions. maxNumber keeps the sum of as many as a window can hold within 63 bits.
const (
	maxNumber = 1e12
	millionth = 1e6
)

// sum adds up the numbers of each match of each rule.
type sum struct {
	average          bool
	n, whole, millis int64
}

func (a *sum) add(e *entry)    { a.change(e, 1) }
func (a *sum) remove(e *entry) { a.change(e, -1) }

func (a *sum) change(e *entry, sign int64) {
	for _, v := range e.values {
		whole, fraction := math.Modf(v)
		a.n += sign
		a.whole += sign * int64(whole)
		a.millis += sign * int64(math.Round(fraction*millionth))
	}
}

func (a *sum) value(int64) (float64, bool) {
	total := float64(a.whole) + float64(a.millis)/millionth
	if !a.average {
		return total, true
	}
	return total / float64(max(a.n, 1)), a.n > 0
}

// percentile has the numbers sorted.
type percentile struct {
	percent float64
	sorted  []float64
}

func (a *percentile) add(e *entry) {
	for _, v := range e.values {
		i, _ := slices.BinarySearch(a.sorted, v)
		a.sorted = slices.Insert(a.sorted, i, v)
	}
}

func (a *percentile) remove(e *entry) {
	for _, v := range e.values {
		if i, ok := slices.BinarySearch(a.sorted, v); ok {
			a.sorted = slices.Delete(a.sorted, i, i+1)
		}
	}
}

// value is that of the nearest rank: the smallest number that percent of all do not exceed.
func (a *percentile) value(int64) (float64, bool) {
	n := len(a.sorted)
	if n == 0 {
		return 0, false
	}
	rank := int(math.Ceil(a.percent * float64(n) / 100))
	return a.sorted[min(max(rank, 1), n)-1], true
}

// measure fills in what of a signal's values the correlation counts or computes with.
func (d *definition) measure(e *entry, s *Signal, seed maphash.Seed) (unusable int) {
	switch d.Type {
	case ir.ValueCount:
		for _, tuple := range tuples(s) {
			e.tuples = append(e.tuples, maphash.String(seed, joined(tuple)))
		}
	case ir.ValueSum, ir.ValueAvg, ir.ValuePercentile:
		for _, list := range s.Values {
			for _, text := range list {
				v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
				// A sum that could fall again could not raise its alert at once.
				if err != nil || math.IsNaN(v) || math.Abs(v) > maxNumber || v < 0 && d.Type == ir.ValueSum {
					unusable++
					continue
				}
				e.values = append(e.values, v)
			}
		}
	case ir.EventCount, ir.Temporal, ir.TemporalOrdered, ir.FirstSeen, ir.Absence:
	}
	return unusable
}

// tuples are the combinations of a signal's values, without the one in which all are empty.
func tuples(s *Signal) [][]string {
	return slices.DeleteFunc(product(s.Values), func(tuple []string) bool {
		return len(tuple) > 0 && !slices.ContainsFunc(tuple, func(v string) bool { return v != "" })
	})
}
