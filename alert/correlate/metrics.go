package correlate

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditmill/auditmill/internal/obs"
)

// Reasons of dead letters.
const (
	reasonHeaders   = "headers"   // not written by auditmill
	reasonUndecoded = "undecoded" // the bytes are not what the topic promises
)

type metrics struct {
	stage *obs.Stage

	raised, late, duplicate, unusable, limited *prometheus.CounterVec
	unknown                                    prometheus.Counter
	held                                       *prometheus.GaugeVec

	mu   sync.Mutex
	lag  map[int32]int64
	sums map[int32][3]int
}

// newMetrics registers the metrics; the correlations are the closed set of the label rule. A nil
// registry is allowed in tests.
func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "auditmill", Subsystem: "correlate", Name: name, Help: help}, labels)
	}
	m := &metrics{
		stage:  obs.NewStage(reg, "correlate", reasonHeaders, reasonUndecoded),
		raised: counter("raised_total", "Alerts of correlations acknowledged by Kafka, by rule and severity; news of the same alert counts again.", "rule", "severity"),
		late: counter("late_total",
			"Signals that came later than their correlation allows: what fires on arrival still does, what was decided stays.", "rule"),
		duplicate: counter("duplicate_total", "Signals that were there before.", "rule"),
		unusable:  counter("unusable_values_total", "Values that are no number where a correlation computes with numbers.", "rule"),
		limited: counter("limited_total",
			"What a correlation forgot because a limit of alert.correlate.limits was reached: it may miss something.", "rule", "limit"),
		unknown: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "auditmill", Subsystem: "correlate", Name: "unknown_total",
			Help: "Signals of correlations that are not there or count other rules, as after a change of rules.",
		}),
		held: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "auditmill", Subsystem: "correlate", Name: "held_entries",
			Help: "What is in memory: signals, groups, and combinations that were seen.",
		}, []string{"what"}),
		lag: map[int32]int64{}, sums: map[int32][3]int{},
	}
	if reg != nil {
		reg.MustRegister(m.raised, m.late, m.duplicate, m.unusable, m.limited, m.unknown, m.held)
	}
	return m
}

// expect exports the counters of a set as zero, so that an alert on their increase works.
func (m *metrics) expect(set *Set) {
	for _, d := range set.rules {
		m.raised.WithLabelValues(d.ID, d.Level)
		m.late.WithLabelValues(d.ID)
		for _, limit := range []string{limitGroups, limitSignals, limitGroupSignals, limitSeen} {
			m.limited.WithLabelValues(d.ID, limit)
		}
	}
}

// counted adds what an engine counted and zeroes it.
func (m *metrics) counted(partition int32, c Counts) {
	for vec, counts := range map[*prometheus.CounterVec]map[string]int{m.late: c.Late, m.duplicate: c.Duplicate, m.unusable: c.Unusable} {
		for rule, n := range counts {
			vec.WithLabelValues(rule).Add(float64(n))
		}
		clear(counts)
	}
	for rule, limits := range c.Limited {
		for limit, n := range limits {
			m.limited.WithLabelValues(rule, limit).Add(float64(n))
		}
	}
	clear(c.Limited)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sums[partition] = [3]int{c.Signals, c.Groups, c.Seen}
	m.sum()
}

// behind notes how many records of a partition still wait.
func (m *metrics) behind(partition int32, records int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lag[partition] = max(0, records)
	m.sum()
}

// forget drops a partition that another instance counts from now on.
func (m *metrics) forget(partition int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.lag, partition)
	delete(m.sums, partition)
	m.sum()
}

func (m *metrics) sum() {
	var lag int64
	for _, n := range m.lag {
		lag += n
	}
	m.stage.Lag.Set(float64(lag))
	var held [3]int
	for _, n := range m.sums {
		for i := range held {
			held[i] += n[i]
		}
	}
	for i, what := range []string{"signals", "groups", "seen"} {
		m.held.WithLabelValues(what).Set(float64(held[i]))
	}
}
