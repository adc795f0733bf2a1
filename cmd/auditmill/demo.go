package main

import (
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/auditmill/auditmill/demo"
	"github.com/auditmill/auditmill/internal/embedded/clickhouse"
	"github.com/auditmill/auditmill/internal/obs"
	"github.com/auditmill/auditmill/pipeline"
)

func newDemo(o *options) *cobra.Command {
	var exit, verbose bool
	var rate float64
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Play real audit events through the whole pipeline and look at the result",
		Long: `Start Kafka, ClickHouse and the four services in this process, play a recording of a real API server as two clusters
through the webhook, show rates, lag and alerts as they happen, then ask ClickHouse some questions. Alerts go to Slack as well if
alert.slack is configured. The ClickHouse engine is fetched once with npm (180 MB) into the user's cache directory.

With --exit the status is 0 only if every event is in ClickHouse exactly once and exactly the expected alerts were raised.`,
		Example: `  auditmill demo
  auditmill demo --exit --rate 5000
  AUDITMILL_ALERT_SLACK_WEBHOOK_URL=https://hooks.slack.com/… auditmill demo`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			cfg, err := o.load("log", "ops", "topics", "alert", "embedded")
			if err != nil {
				return err
			}
			dir, remove, err := demo.TempDir()
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, remove()) }()
			cfg.Embedded.DataDir = dir
			// Free ports: the demo must start next to whatever runs here already.
			cfg.Embedded.Kafka.Port, cfg.Embedded.ClickHouse.Port, cfg.Embedded.ClickHouse.NativePort = 0, 0, 0
			cfg.Embedded.ClickHouse.Native, cfg.Embedded.Kafka.Sync = true, false
			cfg.Ops.Listen = "127.0.0.1:0"
			if !verbose {
				cfg.Log.Level = "error"
			}
			out, tty := cmd.OutOrStdout(), term.IsTerminal(int(os.Stdout.Fd()))
			return demo.Run(cmd.Context(), cfg, demo.Options{
				Out: out, TTY: tty, Rate: rate, Exit: exit, Logs: cmd.ErrOrStderr(), Progress: clickhouse.NewProgress(os.Stderr),
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&exit, "exit", false, "end after the recording; the exit status says whether all was right")
	flags.Float64Var(&rate, "rate", 500, "`events` per second and cluster")
	flags.BoolVarP(&verbose, "verbose", "v", false, "show the services' log too")
	return cmd
}

func obsLogger(cmd *cobra.Command, cfg pipeline.Config) (*slog.Logger, error) {
	return obs.NewLogger(io.Writer(cmd.ErrOrStderr()), cfg.Log)
}
