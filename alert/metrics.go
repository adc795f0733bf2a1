package alert

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/internal/obs"
)

// Reasons of dead letters.
const (
	reasonHeaders   = "headers"   // not written by enrich
	reasonUndecoded = "undecoded" // the bytes are not what the topic promises
)

type metrics struct {
	stage  *obs.Stage
	raised *prometheus.CounterVec
	parsed prometheus.Counter

	mu  sync.Mutex
	lag map[int32]int64
}

// newMetrics registers the metrics; the rules are the closed set of the label rule. A nil
// registry is allowed in tests.
func newMetrics(reg prometheus.Registerer, rules []rule.Rule) *metrics {
	m := &metrics{
		stage: obs.NewStage(reg, "alert", reasonHeaders, reasonUndecoded),
		raised: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "auditmill_alert_raised_total",
			Help: "Alerts acknowledged by Kafka, by rule and its severity; an alert that is raised again after a restart counts again.",
		}, []string{"rule", "severity"}),
		parsed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "auditmill_alert_parsed_rows_total",
			Help: "Rows whose original bytes were parsed because all conditions on columns of some rule held.",
		}),
		lag: map[int32]int64{},
	}
	for i := range rules {
		m.raised.WithLabelValues(rules[i].ID, rules[i].Level)
	}
	if reg != nil {
		reg.MustRegister(m.raised, m.parsed)
	}
	return m
}

// behind notes how many records of a partition still wait.
func (m *metrics) behind(partition int32, records int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lag[partition] = max(0, records)
	m.sumLag()
}

// forget drops the partitions that another instance counts from now on.
func (m *metrics) forget(partitions []int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range partitions {
		delete(m.lag, p)
	}
	m.sumLag()
}

func (m *metrics) sumLag() {
	var sum int64
	for _, n := range m.lag {
		sum += n
	}
	m.stage.Lag.Set(float64(sum))
}
