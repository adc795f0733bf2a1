package feed

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditmill/auditmill/enrich/context"
)

type metrics struct {
	records, bad prometheus.Counter
	clusters     prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		records: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "auditmill_context_records_total", Help: "Records of the context that were read.",
		}),
		bad: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "auditmill_context_bad_total", Help: "Records of the context that could not be read; their clusters are doubtful.",
		}),
		clusters: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "auditmill_context_clusters", Help: "Clusters of which something is known.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.records, m.bad, m.clusters)
	}
	return m
}

func (m *metrics) stats(store *context.Store) { m.clusters.Set(float64(len(store.Clusters()))) }
