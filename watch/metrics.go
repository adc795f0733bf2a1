package watch

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditmill/auditmill/internal/obs"
)

// reasonUnreadable is the reason why an object of a list or watch was left out.
const reasonUnreadable = "unreadable"

type metrics struct {
	stage    *obs.Stage
	lists    *prometheus.CounterVec
	events   *prometheus.CounterVec
	expired  *prometheus.CounterVec
	changes  *prometheus.CounterVec
	told     *prometheus.CounterVec
	failures *prometheus.CounterVec
	known    *prometheus.GaugeVec
	failing  *prometheus.GaugeVec
	clusters prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, names []string) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "auditmill", Subsystem: "watch", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(
			prometheus.GaugeOpts{Namespace: "auditmill", Subsystem: "watch", Name: name, Help: help}, []string{"kind"})
	}
	m := &metrics{
		stage:   obs.NewStage(reg, "watch", reasonUnreadable),
		lists:   counter("lists_total", "Lists that were read to their end.", "kind"),
		events:  counter("events_total", "Events of watches.", "kind"),
		expired: counter("expired_total", "Watches that were too far behind, so that everything was listed again.", "kind"),
		changes: counter("changes_total",
			"Objects of which something was written, because the topic did not say what the API server does.", "kind"),
		told:     counter("told_total", "Changes that the audit stream, or another watch, had told already.", "kind"),
		failures: counter("failures_total", "Requests that failed, by why.", "kind", "reason"),
		known:    gauge("listed", "Clusters of which the kind was listed whole."),
		failing:  gauge("failing", "Clusters of which the kind can not be read at present."),
		clusters: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "auditmill", Subsystem: "watch", Name: "clusters", Help: "Clusters that are configured.",
		}),
	}
	for _, name := range names {
		for _, v := range []*prometheus.CounterVec{m.lists, m.events, m.expired, m.changes, m.told} {
			v.WithLabelValues(name)
		}
		for _, reason := range reasons() {
			m.failures.WithLabelValues(name, reason)
		}
		m.known.WithLabelValues(name)
		m.failing.WithLabelValues(name)
	}
	if reg != nil {
		reg.MustRegister(m.lists, m.events, m.expired, m.changes, m.told, m.failures, m.known, m.failing, m.clusters)
	}
	return m
}
