package load

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditmill/auditmill/internal/obs"
)

// Reasons of dead letters.
const (
	reasonUndecodable = "undecodable" // the record's bytes are not what the topic promises
	reasonRefused     = "refused"     // ClickHouse will not store the row
)

type metrics struct {
	stage       *obs.Stage
	inserts     *prometheus.CounterVec
	insertTime  *prometheus.HistogramVec
	insertRows  *prometheus.HistogramVec
	retries     *prometheus.CounterVec
	replays     prometheus.Counter
	compared    prometheus.Counter
	present     prometheus.Counter
	missing     prometheus.Counter
	corrections prometheus.Counter
	duplicates  prometheus.Gauge
	running     prometheus.Gauge
	buffered    prometheus.Gauge
	paused      prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "auditmill", Subsystem: "load", Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts(opts(name, help)))
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "auditmill", Subsystem: "load", Name: name, Help: help, Buckets: buckets,
		}, []string{"table"})
	}
	m := &metrics{
		stage:   obs.NewStage(reg, "load", reasonUndecodable, reasonRefused),
		inserts: prometheus.NewCounterVec(opts("inserts_total", "Inserts that ClickHouse accepted."), []string{"table"}),
		insertTime: histogram("insert_seconds", "Time of one accepted insert.",
			prometheus.ExponentialBuckets(0.005, 2, 14)),
		insertRows: histogram("insert_rows", "Rows of one accepted insert.", prometheus.ExponentialBuckets(1, 4, 10)),
		retries: prometheus.NewCounterVec(
			opts("retries_total", "Inserts that failed and were repeated, by what was wrong."), []string{"reason"}),
		replays: prometheus.NewCounter(opts("replays_total",
			"Ranges found pending when a partition was taken over, and inserted again.")),
		compared: prometheus.NewCounter(opts("compared_total",
			"Ranges compared with the table row by row, because they were too old to trust tokens or had to be split.")),
		present: prometheus.NewCounter(opts("present_rows_total",
			"Rows left out of a compared range, because the table had them.")),
		missing: prometheus.NewCounter(opts("missing_records_total",
			"Records of a pending range that Kafka no longer had.")),
		corrections: prometheus.NewCounter(opts("corrected_events_total",
			"Events whose row in the views was replaced by one of a higher version.")),
		duplicates: gauge("clickhouse_duplicated_blocks",
			"Repeated inserts that the ClickHouse server has recognised since its start, as of our last repetition."),
		running:  gauge("pending_ranges", "Ranges whose insert has begun and not ended."),
		buffered: gauge("buffered_bytes", "Bytes of records that wait for an insert."),
		paused:   gauge("paused_partitions", "Partitions that are not fetched because too much waits."),
	}
	for _, reason := range retryReasons() {
		m.retries.WithLabelValues(reason)
	}
	if reg != nil {
		reg.MustRegister(m.inserts, m.insertTime, m.insertRows, m.retries, m.replays, m.compared, m.present, m.missing, m.corrections,
			m.duplicates, m.running, m.buffered, m.paused)
	}
	return m
}
