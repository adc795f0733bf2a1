package pipeline

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditmill/auditmill/alert"
	"github.com/auditmill/auditmill/alert/notify"
	"github.com/auditmill/auditmill/alert/rules"
	"github.com/auditmill/auditmill/enrich"
	"github.com/auditmill/auditmill/ingest"
	"github.com/auditmill/auditmill/internal/obs"
	"github.com/auditmill/auditmill/internal/run"
	"github.com/auditmill/auditmill/load"
	"github.com/auditmill/auditmill/watch"
)

// The services, in the order in which events pass them and in which they stop.
const (
	Ingest = "ingest"
	Enrich = "enrich"
	Alert  = "alert"
	Load   = "load"
	// Watch stops before all others: what it has not written it sees again.
	Watch = "watch"
)

// All returns the names of the services that events pass, in order.
func All() []string { return []string{Ingest, Enrich, Alert, Load} }

// Configured returns the names of the services that a process runs which runs all: Watch is among them if it has a cluster
// to watch.
func Configured(cfg *Config) []string {
	if len(cfg.Watch.Clusters) == 0 {
		return All()
	}
	return append([]string{Watch}, All()...)
}

// drainTimeout is the longest time for one service to stop; all four fit into the grace
// period of the deployment.
const drainTimeout = 12 * time.Second

// Process is one process of the pipeline: some services and the listener for operators.
type Process struct {
	Config   Config
	Logger   *slog.Logger
	Registry *prometheus.Registry
	// Ingest is nil unless that service is among them.
	Ingest *ingest.Service
	Ops    *run.Ops

	ready    *run.Ready
	services []run.Service
	rules    http.Handler // of alert, if that service is among them
}

// Options are what a process has beside its configuration.
type Options struct {
	Logs io.Writer
	// Sink receives the messages about alerts instead of Slack; nil for what the configuration says.
	Sink notify.Sink
	// Posted is called for each message that was posted; nil for nobody.
	Posted func(*notify.Message, notify.Receipt)
}

// New makes the named services. Nothing is started.
func New(cfg Config, o Options, names ...string) (*Process, error) {
	logger, err := obs.NewLogger(o.Logs, cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("configuring the log: %w", err)
	}
	p := &Process{Config: cfg, Logger: logger, Registry: obs.NewRegistry(), ready: run.NewReady(names...)}
	for _, name := range append([]string{Watch}, All()...) {
		if slices.Contains(names, name) {
			if err := p.add(name, o); err != nil {
				return nil, fmt.Errorf("configuring %s: %w", name, err)
			}
		}
	}
	if p.Ops, err = run.NewOps(cfg.Ops, p.Registry, p.ready, logger); err != nil {
		return nil, err
	}
	if p.rules != nil {
		p.Ops.Handle("GET /rules", p.rules)
	}
	return p, nil
}

func (p *Process) add(name string, o Options) error {
	cfg, logger := &p.Config, p.Logger.With("service", name)
	var start func(context.Context) error
	switch name {
	case Ingest:
		s, err := ingest.New(cfg.Ingest, ingest.Deps{Kafka: cfg.Kafka, Logger: logger, Registry: p.Registry, Ready: p.ready})
		if err != nil {
			return err
		}
		p.Ingest, start = s, s.Run
	case Enrich:
		s, err := enrich.New(cfg.Enrich, enrich.Deps{Kafka: cfg.Kafka, Logger: logger, Registry: p.Registry, Ready: p.ready})
		if err != nil {
			return err
		}
		start = s.Run
	case Alert:
		// Never stopped: the process listens as long as it lives, so that SIGHUP does not end it while it drains.
		reload := make(chan os.Signal, 1)
		signal.Notify(reload, syscall.SIGHUP)
		s, err := alert.New(cfg.Alert, alert.Deps{
			Kafka: cfg.Kafka, Logger: logger, Registry: p.Registry, Ready: p.ready, Pack: rules.Files(), Reload: reload,
			Sink: o.Sink, Posted: o.Posted,
		})
		if err != nil {
			return err
		}
		start, p.rules = s.Run, s.Rules()
	case Load:
		s, err := load.New(cfg.Load, load.Deps{
			Kafka: cfg.Kafka, ClickHouse: cfg.ClickHouse, Logger: logger, Registry: p.Registry, Ready: p.ready,
		})
		if err != nil {
			return err
		}
		start = s.Run
	case Watch:
		s, err := watch.New(cfg.Watch, watch.Deps{Kafka: cfg.Kafka, Logger: logger, Registry: p.Registry, Ready: p.ready})
		if err != nil {
			return err
		}
		start = s.Run
	}
	p.services = append(p.services, run.Service{Name: name, Run: start})
	return nil
}

// Run runs the services until a signal, an error, or the end of first, if that is given:
// it is stopped first, and when it ends by itself everything else drains and stops.
func (p *Process) Run(ctx context.Context, first ...run.Service) error {
	services := slices.Concat(first, p.services, []run.Service{{Name: "ops", Run: p.Ops.Run}})
	return run.Main(ctx, run.Options{Log: p.Logger, Ready: p.ready, DrainTimeout: drainTimeout}, services...)
}

// Prepare creates the topics and applies the migrations, for a process that owns both servers.
func Prepare(ctx context.Context, cfg *Config) error {
	states, err := EnsureTopics(ctx, cfg, true)
	if err != nil {
		return err
	}
	if err := TopicsError(states); err != nil {
		return err
	}
	conn, err := load.Connect(cfg.ClickHouse)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // only idle connections are left
	if _, err := load.Migrate(ctx, conn, cfg.ClickHouse.SQL()); err != nil {
		return fmt.Errorf("migrating ClickHouse: %w", err)
	}
	return nil
}
