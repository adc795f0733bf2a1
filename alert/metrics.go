package alert

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditmill/auditmill/alert/rule/ir"
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

	reloads *prometheus.CounterVec
	refused prometheus.Gauge

	mu  sync.Mutex
	lag map[int32]int64
}

// newMetrics registers the metrics. A nil registry is allowed in tests.
func newMetrics(reg prometheus.Registerer) *metrics {
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
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "auditmill_alert_rule_reloads_total", Help: "Changed rule files that were swapped in or refused.",
		}, []string{"result"}),
		refused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "auditmill_alert_rules_refused", Help: "1 while the rule files are faulty and an older set is in use; /rules says why.",
		}),
		lag: map[int32]int64{},
	}
	if reg != nil {
		reg.MustRegister(m.raised, m.parsed, m.reloads, m.refused)
	}
	return m
}

// know makes the rules of a set the values of the label rule; those that are gone go.
func (m *metrics) know(pack *ir.Pack) {
	m.raised.Reset()
	for i := range pack.Rules {
		if !pack.Rules[i].Silent {
			m.raised.WithLabelValues(pack.Rules[i].ID, pack.Rules[i].Level)
		}
	}
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
