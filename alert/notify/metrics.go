package notify

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the notifier. There is no counter of dropped alerts: none is dropped, unless
// max_age asks for it.
type metrics struct {
	posted     *prometheus.CounterVec
	retries    *prometheus.CounterVec
	dead       *prometheus.CounterVec
	duplicates prometheus.Counter
	expired    prometheus.Counter
	unknown    prometheus.Counter
	backlog    prometheus.GaugeFunc
	lag        prometheus.Gauge
	remembered prometheus.GaugeFunc
	blocked    prometheus.Gauge
	attempt    prometheus.Histogram
	delay      prometheus.Histogram
}

const namespace, subsystem = "auditmill", "notify"

// newMetrics registers the metrics. A nil registry is allowed in tests.
func newMetrics(reg prometheus.Registerer, q *queue, m *memory) *metrics {
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	histogram := func(name, help string, start float64, n int) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
			Buckets: prometheus.ExponentialBuckets(start, 2, n),
		})
	}
	ms := &metrics{
		posted: prometheus.NewCounterVec(counter("posted_total",
			"Alerts accepted by the sink and recorded as such, by severity."), []string{"severity"}),
		retries: prometheus.NewCounterVec(counter("retries_total",
			"Attempts to post that failed and are made again, by reason."), []string{"reason"}),
		dead: prometheus.NewCounterVec(counter("dead_total",
			"Alerts given to the dead-letter topic, by reason."), []string{"reason"}),
		duplicates: prometheus.NewCounter(counter("duplicates_total",
			"Alerts delivered again and not posted again.")),
		expired: prometheus.NewCounter(counter("expired_total",
			"Alerts not posted because they were older than max_age, where that is configured.")),
		unknown: prometheus.NewCounter(counter("unknown_outcomes_total",
			"Attempts without an answer: if the sink accepted one, the next attempt posts the alert a second time.")),
		backlog: prometheus.NewGaugeFunc(gauge("backlog_alerts",
			"Alerts in memory that are not posted yet."), func() float64 { return float64(q.len()) }),
		lag: prometheus.NewGauge(gauge("lag_records", "Alerts in Kafka that the whole group has not posted yet.")),
		remembered: prometheus.NewGaugeFunc(gauge("remembered_alerts",
			"Posted alerts that are known and not posted again."), func() float64 { return float64(m.len()) }),
		blocked: prometheus.NewGauge(gauge("blocked",
			"1 while a person must act before anything can be posted: see the log.")),
		attempt: histogram("attempt_seconds", "Time the sink took for one attempt.", 0.001, 15),
		delay:   histogram("delay_seconds", "Time from raising an alert to its being posted.", 0.001, 24),
	}
	for _, severity := range []string{informational, low, medium, high, critical} {
		ms.posted.WithLabelValues(severity)
	}
	if reg != nil {
		reg.MustRegister(ms.posted, ms.retries, ms.dead, ms.duplicates, ms.expired, ms.unknown, ms.backlog, ms.lag,
			ms.remembered, ms.blocked, ms.attempt, ms.delay)
	}
	return ms
}
