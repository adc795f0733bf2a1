package file

import (
	"github.com/prometheus/client_golang/prometheus"
)

// The reasons of errors: a closed set.
const (
	reasonMissing     = "missing"     // an input does not exist
	reasonPermission  = "permission"  // a file or directory may not be read
	reasonRead        = "read"        // reading gave another error
	reasonGzip        = "gzip"        // a compressed file is cut or broken
	reasonUnsupported = "unsupported" // compressed, but not with gzip
	reasonOverlap     = "overlap"     // two inputs of different clusters name one file
	reasonPublish     = "publish"     // lines could not be published
	reasonCheckpoint  = "checkpoint"  // the checkpoint could not be written
	reasonWatch       = "watch"       // the kernel does not report changes; polling does
)

func reasons() []string {
	return []string{
		reasonMissing, reasonPermission, reasonRead, reasonGzip, reasonUnsupported,
		reasonOverlap, reasonPublish, reasonCheckpoint, reasonWatch,
	}
}

type metrics struct {
	lines       prometheus.Counter
	bytes       prometheus.Counter
	longLines   prometheus.Counter
	holes       prometheus.Counter
	rotations   prometheus.Counter
	truncations prometheus.Counter
	errors      *prometheus.CounterVec
	lag         prometheus.Gauge
	open        prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "auditmill", Subsystem: "ingest", Name: name, Help: help,
		})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "auditmill", Subsystem: "ingest", Name: name, Help: help,
		})
	}
	m := &metrics{
		lines: counter("file_lines_total", "Lines of files that were published."),
		bytes: counter("file_bytes_total",
			"Bytes of files, decompressed, that were published or written to the dead-letter topic."),
		longLines: counter("file_long_lines_total",
			"Lines above max_line, which went to the dead-letter topic in parts."),
		holes: counter("file_hole_bytes_total",
			"Zero bytes at the begin of a line, left by a truncation under a writer that does not append."),
		rotations: counter("file_rotations_total", "Files replaced by a new one of the same name."),
		truncations: counter("file_truncations_total",
			"Files that were cut or written anew, and so are read from the begin."),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "auditmill", Subsystem: "ingest", Name: "file_errors_total",
			Help: "Attempts to read, publish or remember that did not succeed and are repeated, by reason.",
		}, []string{"reason"}),
		lag: gauge("file_lag_bytes",
			"Bytes of the files that are not published yet; of compressed files, compressed ones."),
		open: gauge("file_open_files", "Files that are open."),
	}
	for _, reason := range reasons() {
		m.errors.WithLabelValues(reason)
	}
	if reg != nil {
		reg.MustRegister(m.lines, m.bytes, m.longLines, m.holes, m.rotations, m.truncations,
			m.errors, m.lag, m.open)
	}
	return m
}
