package feed

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditmill/auditmill/enrich/context"
)

type metrics struct {
	records, bad prometheus.Counter
	held         *prometheus.GaugeVec
	dropped      prometheus.Gauge
}

// newMetrics registers them with the service as a label: one process may run two services that follow.
func newMetrics(reg prometheus.Registerer, service string) *metrics {
	m := &metrics{
		records: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "auditmill_context_records_total", Help: "Records of the context that were read.",
		}),
		bad: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "auditmill_context_bad_total", Help: "Records of the context that could not be read; their clusters are doubtful.",
		}),
		held: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "auditmill_context_held", Help: "What is in memory: clusters, states of roles and bindings, versions of objects, and credentials.",
		}, []string{"what"}),
		dropped: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "auditmill_context_dropped", Help: "Versions and credentials forgotten since the start because there were too many: what they say is unknown.",
		}),
	}
	if reg != nil {
		prometheus.WrapRegistererWith(prometheus.Labels{"service": service}, reg).MustRegister(m.records, m.bad, m.held, m.dropped)
	}
	return m
}

func (m *metrics) stats(store *context.Store) {
	stats := store.Stats()
	for what, n := range map[string]int{
		"clusters": stats.Clusters, "states": stats.States, "objects": stats.Objects, "credentials": stats.Credentials,
	} {
		m.held.WithLabelValues(what).Set(float64(n))
	}
	m.dropped.Set(float64(stats.Dropped))
}
