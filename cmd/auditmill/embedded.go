package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/internal/embedded/clickhouse"
	"github.com/auditmill/auditmill/internal/embedded/kafka"
)

// newEmbedded runs one embedded server alone: for development of one service, and for tests
// that kill servers.
func newEmbedded(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "embedded",
		Short: "Run the embedded Kafka or ClickHouse alone",
		Long: `Run one of the servers that 'up' brings along, alone, until interrupted: for development, and to try the services one by
one. The data is in embedded.data_dir, the ports are those of the section embedded.`,
		Example: `  auditmill embedded kafka --set embedded.data_dir=/tmp/k --set embedded.kafka.port=9092
  auditmill embedded clickhouse --set embedded.data_dir=/tmp/c --set embedded.clickhouse.port=8123`,
	}
	server := func(name, short string, start func(ctx context.Context, cmd *cobra.Command) (func(context.Context) error, error)) *cobra.Command {
		return &cobra.Command{
			Use: name, Short: short, Args: noArguments, Example: "  auditmill embedded " + name,
			RunE: func(cmd *cobra.Command, _ []string) error {
				ctx, stop := interruptible(cmd.Context())
				defer stop()
				end, err := start(ctx, cmd)
				if err != nil {
					return err
				}
				<-ctx.Done()
				drain, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
				defer cancel()
				return end(drain)
			},
		}
	}
	cmd.AddCommand(
		server("kafka", "Run the embedded Kafka alone", o.startKafka),
		server("clickhouse", "Run the embedded ClickHouse alone", o.startClickHouse),
	)
	return cmd
}

func (o *options) startKafka(_ context.Context, cmd *cobra.Command) (func(context.Context) error, error) {
	cfg, err := o.load("log", "embedded")
	if err != nil {
		return nil, err
	}
	k := kafka.DefaultConfig()
	k.Dir, k.Port, k.Sync = filepath.Join(cfg.Embedded.DataDir, "kafka"), cfg.Embedded.Kafka.Port, cfg.Embedded.Kafka.Sync
	if k.Logger, err = obsLogger(cmd, cfg); err != nil {
		return nil, err
	}
	s, err := kafka.Start(k) //nolint:contextcheck // the server lives until Stop, not until a context ends
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(cmd.OutOrStdout(), s.Addr())
	return func(context.Context) error { return s.Stop() }, nil
}

func (o *options) startClickHouse(ctx context.Context, cmd *cobra.Command) (func(context.Context) error, error) {
	cfg, err := o.load("log", "embedded")
	if err != nil {
		return nil, err
	}
	e := cfg.Embedded
	library, err := clickhouse.Library(ctx, clickhouse.LibraryConfig{Path: e.ClickHouse.Library, Progress: clickhouse.NewProgress(os.Stderr)})
	if err != nil {
		return nil, err
	}
	c := clickhouse.DefaultConfig()
	c.Dir, c.Library, c.HTTPPort = filepath.Join(e.DataDir, "clickhouse"), library, e.ClickHouse.Port
	c.Native, c.TCPPort, c.MaxMemory = e.ClickHouse.Native, e.ClickHouse.NativePort, int64(e.ClickHouse.MaxMemory)
	if c.Logger, err = obsLogger(cmd, cfg); err != nil {
		return nil, err
	}
	s, err := clickhouse.Start(ctx, c)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s\n", s.HTTPAddr(), s.User(), s.Password())
	return s.Stop, nil
}
