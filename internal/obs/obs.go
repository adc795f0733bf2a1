// Package obs makes a running process observable: a logger and a metrics registry
// built from configuration, the build information, and Stage, the one set of counters
// that every service keeps so that they can be read alike.
//
// Comes in: Config and counts. Goes out: log lines and Prometheus metrics. Guaranteed:
// label values come from closed sets, so that no event can create a new time series.
package obs

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Config says how the process logs.
type Config struct {
	Level  string `mapstructure:"level" doc:"least severe level that is logged: debug, info, warn or error"`
	Format string `mapstructure:"format" doc:"form of a log line: json, or text for people"`
}

// DefaultConfig logs JSON from level info on.
func DefaultConfig() Config {
	return Config{Level: "info", Format: "json"}
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	var errs []error
	if _, err := parseLevel(c.Level); err != nil {
		errs = append(errs, err)
	}
	if c.Format != "json" && c.Format != "text" {
		errs = append(errs, fmt.Errorf("format: must be json or text, not %q", c.Format))
	}
	return errors.Join(errs...)
}

func parseLevel(s string) (slog.Level, error) {
	switch s {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("level: must be debug, info, warn or error, not %q", s)
}

// NewLogger returns a logger that writes to w as cfg says. The handlers of log/slog
// quote control characters, so a hostile value cannot forge a line.
func NewLogger(w io.Writer, cfg Config) (*slog.Logger, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("making the logger: %w", err)
	}
	level, err := parseLevel(cfg.Level)
	if err != nil {
		return nil, fmt.Errorf("making the logger: %w", err)
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "text" {
		return slog.New(slog.NewTextHandler(w, opts)), nil
	}
	return slog.New(slog.NewJSONHandler(w, opts)), nil
}

// NewRegistry returns a registry with the Go runtime's and the process's collectors and
// the constant gauge auditmill_build_info.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newBuildInfo(Version()),
	)
	return reg
}

func newBuildInfo(b Build) prometheus.Collector {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "auditmill_build_info",
		Help: "Always 1; the labels say what the binary was built from.",
		ConstLabels: prometheus.Labels{
			"version":    b.Version,
			"commit":     b.Commit,
			"modified":   strconv.FormatBool(b.Modified),
			"go_version": b.Go,
		},
	})
	info.Set(1)
	return info
}
