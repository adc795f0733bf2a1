package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/internal/embedded/clickhouse"
	"github.com/auditmill/auditmill/pipeline"
)

// Soft limits of the Go heap, so that a service that catches up collects garbage earlier
// instead of growing: below the 512 MiB that a service may take, and for all four together.
const (
	serviceMemory = 400 << 20
	allMemory     = 1200 << 20
)

// limitMemory sets the soft limit unless the environment says otherwise. What is known of many clusters alone may be more than
// that, so the limit follows what is in use: were it below, the collector would run all the time.
func limitMemory(ctx context.Context, limit int64) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(limit)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
	go func() {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		ticker := time.NewTicker(memoryInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				metrics.Read(live)
				debug.SetMemoryLimit(max(limit, limit/2+int64(live[0].Value.Uint64())*3/2))
			}
		}
	}()
}

// percent is how much garbage there may be, of what is in use, below the limit: marking what is known of all clusters each
// time as much again was allocated is a fifth of the work of enrich.
const percent = 300

// memoryInterval is how often the limit follows.
const memoryInterval = 5 * time.Second

// serviceCommand runs one service against the configured servers.
func serviceCommand(o *options, name, short, long, example string, sections ...string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Long: long, Example: example,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.load(append(sections, "log", "ops", "kafka", name)...)
			if err != nil {
				return err
			}
			limitMemory(cmd.Context(), serviceMemory)
			p, err := pipeline.New(cfg, pipeline.Options{Logs: cmd.ErrOrStderr()}, name)
			if err != nil {
				return err
			}
			return p.Run(cmd.Context())
		},
	}
}

func newIngest(o *options) *cobra.Command {
	return serviceCommand(o, pipeline.Ingest, "Receive audit events and write them to audit.raw.v1",
		`Listen for the webhooks of API servers and follow log files, whichever is configured. A sender gets 200 only when Kafka has
acknowledged all of its events.`,
		`  auditmill ingest --config auditmill.yaml
  auditmill ingest --set kafka.brokers=kafka:9092 --set ingest.webhook.listen=:8443`)
}

func newEnrich(o *options) *cobra.Command {
	cmd := serviceCommand(o, pipeline.Enrich, "Add who and why: audit.raw.v1 to audit.enriched.v1",
		`Decode raw events, drop copies, classify callers, explain grants, and write Arrow batches, exactly once. Start more
instances to share the partitions; give each its own enrich.instance.`,
		`  auditmill enrich --config auditmill.yaml
  auditmill enrich --set enrich.instance=enrich-2`)
	cmd.AddCommand(newEnrichFile())
	return cmd
}

func newAlert(o *options) *cobra.Command {
	return serviceCommand(o, pipeline.Alert, "Evaluate rules and notify Slack",
		`Evaluate detection rules on audit.enriched.v1, write alerts to audit.alerts.v1, and post each once to Slack if it is configured.`,
		`  auditmill alert --config auditmill.yaml
  AUDITMILL_ALERT_SLACK_WEBHOOK_URL=https://hooks.slack.com/… auditmill alert`)
}

func newLoad(o *options) *cobra.Command {
	return serviceCommand(o, pipeline.Load, "Load events and alerts into ClickHouse, exactly once",
		`Insert audit.enriched.v1 and audit.alerts.v1 into ClickHouse. The database must have been migrated: auditmill migrate --apply.`,
		`  auditmill load --config auditmill.yaml
  auditmill load --set clickhouse.addresses=clickhouse:8123`, "clickhouse")
}

func newUp(o *options) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the whole pipeline on this machine, with Kafka and ClickHouse inside",
		Long: `Run all four services in one process on an embedded Kafka and an embedded ClickHouse, with everything durable in one
directory: for evaluation, development, or a small cluster. Configure at least one cluster's token, certificate or log file
(ingest.webhook, ingest.file).`,
		Example: `  auditmill up --data-dir /var/lib/auditmill --config auditmill.yaml`,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.load()
			if err != nil {
				return err
			}
			if dir != "" {
				cfg.Embedded.DataDir = dir
			}
			limitMemory(cmd.Context(), allMemory)
			return up(cmd, cfg)
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "`directory` of all data; instead of embedded.data_dir")
	return cmd
}

func up(cmd *cobra.Command, cfg pipeline.Config) (err error) {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	logger, err := obsLogger(cmd, cfg)
	if err != nil {
		return err
	}
	servers, err := pipeline.StartServers(ctx, cfg.Embedded, logger, clickhouse.NewProgress(os.Stderr))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, servers.Stop(cmd.Context())) }()
	servers.Configure(&cfg)
	if err := pipeline.Prepare(ctx, &cfg); err != nil {
		return err
	}
	p, err := pipeline.New(cfg, pipeline.Options{Logs: cmd.ErrOrStderr()}, pipeline.Configured(&cfg)...)
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), servers.Describe())
	stop() // from here on the signals end the services in order
	return p.Run(cmd.Context())
}
