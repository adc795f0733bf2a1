package webhook

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests prometheus.Counter
	answers  *prometheus.CounterVec
	inflight prometheus.Gauge
}

// newMetrics registers the metrics; a nil registry is allowed in tests.
func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "auditmill", Subsystem: "ingest", Name: "requests_total", Help: "Requests that came in.",
		}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "auditmill", Subsystem: "ingest", Name: "answers_total",
			Help: "Answers to requests, by status and reason.",
		}, []string{"status", "reason"}),
		inflight: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "auditmill", Subsystem: "ingest", Name: "inflight_bytes",
			Help: "Memory that bodies take which are not acknowledged yet.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.answers, m.inflight)
	}
	return m
}

// answered counts an answer. The reasons are the constants in this package.
func (m *metrics) answered(status int, reason string) {
	m.answers.WithLabelValues(strconv.Itoa(status), reason).Inc()
}
