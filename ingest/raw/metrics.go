package raw

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditmill/auditmill/internal/obs"
	"github.com/auditmill/auditmill/schemas"
)

// Metrics counts what Writers do: in all, as every service does, and per cluster and
// source. It is safe for concurrent use.
type Metrics struct {
	stage   *obs.Stage
	origins map[key]*originMetrics
}

type key struct{ cluster, source string }

type originMetrics struct {
	in, out, bad, bytes prometheus.Counter
	latency             prometheus.Observer
}

// NewMetrics registers the metrics. The clusters come from the configuration, so that no
// sender can create a time series. A nil registry is allowed in tests.
func NewMetrics(reg prometheus.Registerer, clusters []string) *Metrics {
	m := &Metrics{stage: obs.NewStage(reg, "ingest", Reasons()...), origins: map[key]*originMetrics{}}
	labels := []string{"cluster", "source"}
	counter := func(name, help string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "auditmill", Subsystem: "ingest", Name: name, Help: help,
		}, labels)
		if reg != nil {
			reg.MustRegister(v)
		}
		return v
	}
	in := counter("cluster_records_in_total", "Events and dead letters taken in, by cluster and source.")
	out := counter("cluster_records_out_total", "Events and dead letters acknowledged by Kafka, by cluster and source.")
	bad := counter("cluster_bad_total", "Dead letters, by cluster and source.")
	bytes := counter("cluster_bytes_in_total", "Bytes of events and dead letters taken in, by cluster and source.")
	latency := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "auditmill", Subsystem: "ingest", Name: "cluster_latency_seconds",
		Help:    "Time from having a batch to its acknowledgement, by cluster and source.",
		Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
	}, labels)
	if reg != nil {
		reg.MustRegister(latency)
	}
	for _, cluster := range clusters {
		for _, source := range []string{schemas.SourceWebhook, schemas.SourceFile} {
			m.origins[key{cluster, source}] = &originMetrics{
				in: in.WithLabelValues(cluster, source), out: out.WithLabelValues(cluster, source),
				bad: bad.WithLabelValues(cluster, source), bytes: bytes.WithLabelValues(cluster, source),
				latency: latency.WithLabelValues(cluster, source),
			}
		}
	}
	return m
}

func (m *Metrics) in(b *Batch) {
	n := float64(b.Events + b.Bad)
	m.stage.In.Add(n)
	m.stage.BytesIn.Add(float64(b.Bytes))
	if o := m.origins[key{b.origin.Cluster, b.origin.Source}]; o != nil {
		o.in.Add(n)
		o.bytes.Add(float64(b.Bytes))
	}
}

func (m *Metrics) out(b *Batch) {
	m.stage.Done(b.Events+b.Bad, b.Bytes, b.start, b.origin.Received)
	if o := m.origins[key{b.origin.Cluster, b.origin.Source}]; o != nil {
		o.out.Add(float64(b.Events + b.Bad))
		o.latency.Observe(time.Since(b.start).Seconds())
	}
}

func (m *Metrics) bad(origin Origin, reason string) {
	m.stage.Bad(reason).Inc()
	if o := m.origins[key{origin.Cluster, origin.Source}]; o != nil {
		o.bad.Inc()
	}
}
