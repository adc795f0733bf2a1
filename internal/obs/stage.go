package obs

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Other is the reason under which Stage.Bad counts what its closed set does not name.
const Other = "other"

// Stage holds the counters that every service keeps. The metric names are
// auditmill_<service>_<noun>_<unit>, so ReadStages and one dashboard serve all services.
// All fields and methods may be used concurrently.
type Stage struct {
	// In counts records taken in: events for ingest and enrich, rows for alert and load.
	In prometheus.Counter
	// Out counts records whose effect is durable: acknowledged, committed or inserted.
	Out prometheus.Counter
	// BytesIn counts the bytes of the records taken in.
	BytesIn prometheus.Counter
	// BytesOut counts the bytes handed on.
	BytesOut prometheus.Counter
	// Latency observes, in seconds, how long this service took from having a unit of
	// work (a request, a batch) to its effect.
	Latency prometheus.Observer
	// Delay observes, in seconds, how old a unit of work was when its effect happened,
	// counted from when ingest received it.
	Delay prometheus.Observer
	// Lag is the number of records of the service's input that still wait.
	Lag prometheus.Gauge

	bad     *prometheus.CounterVec
	reasons []string
}

// NewStage registers the counters of a service. The reasons are the closed set for Bad;
// each is exported as zero from the start, so that an alert on its increase works.
// A nil registry is allowed in tests.
func NewStage(reg prometheus.Registerer, service string, reasons ...string) *Stage {
	f := factory{reg: reg, service: service}
	s := &Stage{
		In:       f.counter("records_in_total", "Records taken in."),
		Out:      f.counter("records_out_total", "Records whose effect is durable."),
		BytesIn:  f.counter("bytes_in_total", "Bytes of the records taken in."),
		BytesOut: f.counter("bytes_out_total", "Bytes handed on."),
		Latency: f.histogram("latency_seconds",
			"Time from having a unit of work to its effect.", 0.0005, 17),
		Delay: f.histogram("delay_seconds",
			"Age of a unit of work at its effect, since ingest received it.", 0.001, 22),
		Lag: f.gauge("lag_records", "Records of the input that still wait."),
		bad: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "auditmill", Subsystem: service, Name: "bad_total",
			Help: "Records that could not be processed and went to the dead-letter topic " +
				"or were refused, by reason.",
		}, []string{"reason"}),
		reasons: slices.Clone(reasons),
	}
	f.register(s.bad)
	for _, reason := range append(s.reasons, Other) {
		s.bad.WithLabelValues(reason)
	}
	return s
}

// Bad returns the counter of a reason. A reason outside the closed set counts as Other:
// the reason may come from foreign bytes, and those must not create time series.
func (s *Stage) Bad(reason string) prometheus.Counter {
	if !slices.Contains(s.reasons, reason) {
		reason = Other
	}
	return s.bad.WithLabelValues(reason)
}

// Done counts a unit of work whose effect has happened: its records and bytes, the time
// since start, and, unless received is zero, its age since ingest received it.
func (s *Stage) Done(records, bytes int, start, received time.Time) {
	s.Out.Add(float64(records))
	s.BytesOut.Add(float64(bytes))
	s.Latency.Observe(time.Since(start).Seconds())
	if !received.IsZero() {
		s.Delay.Observe(max(0, time.Since(received).Seconds()))
	}
}

type factory struct {
	reg     prometheus.Registerer
	service string
}

func (f factory) register(c prometheus.Collector) {
	if f.reg != nil {
		f.reg.MustRegister(c)
	}
}

func (f factory) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "auditmill", Subsystem: f.service, Name: name, Help: help,
	})
	f.register(c)
	return c
}

func (f factory) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "auditmill", Subsystem: f.service, Name: name, Help: help,
	})
	f.register(g)
	return g
}

func (f factory) histogram(name, help string, start float64, n int) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "auditmill", Subsystem: f.service, Name: name, Help: help,
		Buckets: prometheus.ExponentialBuckets(start, 2, n),
	})
	f.register(h)
	return h
}
