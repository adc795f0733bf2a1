package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/auditmill/auditmill/load"
)

func newMigrate(o *options) *cobra.Command {
	var apply bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Show the ClickHouse migrations, or apply the pending ones",
		Long: `Show which numbered migrations the database has; with --apply, apply those that are missing. Refuses a database that a
newer build has migrated. Exit status 1 if migrations are pending and --apply was not given.`,
		Example: `  auditmill migrate --set clickhouse.addresses=clickhouse:8123
  auditmill migrate --apply`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.load("clickhouse")
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			conn, err := load.Connect(cfg.ClickHouse)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }() // only idle connections are left
			if apply {
				applied, err := load.Migrate(ctx, conn, cfg.ClickHouse.SQL())
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "%d migrations applied\n", len(applied))
			}
			states, err := load.MigrationState(ctx, conn, cfg.ClickHouse.SQL())
			if err != nil {
				return err
			}
			return printMigrations(cmd.OutOrStdout(), states)
		},
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "apply pending migrations")
	return cmd
}

func printMigrations(out io.Writer, states []load.MigrationStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VERSION\tNAME\tAPPLIED")
	pending := 0
	for _, s := range states {
		at := "pending"
		if s.AppliedAt.IsZero() {
			pending++
		} else {
			at = s.AppliedAt.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%04d\t%s\t%s\n", s.Version, s.Name, at)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	if pending > 0 {
		return fmt.Errorf("%d migrations are pending: run auditmill migrate --apply", pending)
	}
	return nil
}

// formats are the names of --format and what ClickHouse calls them.
func formats() map[string]string {
	return map[string]string{"table": "PrettyCompactMonoBlock", "json": "JSONEachRow", "csv": "CSVWithNames"}
}

func newQuery(o *options) *cobra.Command {
	var format string
	names := slices.Sorted(maps.Keys(formats()))
	cmd := &cobra.Command{
		Use:   "query SQL | -",
		Short: "Run SQL against the configured ClickHouse",
		Long: `Run one SQL statement against the configured ClickHouse and print the result; - reads it from standard input.
Tables: events, alerts, activity_per_minute, intake_per_minute. Views: secret_reads, denied_by_actor, privileged_pods,
busiest_actors_per_minute, exec_sessions, rbac_changes.`,
		Example: `  auditmill query "SELECT actor, count() FROM secret_reads GROUP BY actor"
  auditmill query --format csv - < monthly.sql > monthly.csv`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(1)(cmd, args); err != nil {
				return &usageError{fmt.Errorf("give one statement in quotes, or - for standard input: %w", err)}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			clickHouseFormat, ok := formats()[format]
			if !ok {
				return &usageError{fmt.Errorf("--format %q: choose one of %s", format, strings.Join(names, ", "))}
			}
			sql, err := statement(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			cfg, err := o.load("clickhouse")
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			conn, err := load.Connect(cfg.ClickHouse)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }() // only idle connections are left
			return load.Query(ctx, conn, cfg.ClickHouse.Database, sql, clickHouseFormat, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&format, "format", defaultFormat(), "output `format`: "+strings.Join(names, ", "))
	if err := cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is defined a line above
	}
	return cmd
}

// defaultFormat is a table for people and JSON for pipes.
func defaultFormat() string {
	if term.IsTerminal(int(os.Stdout.Fd())) {
		return "table"
	}
	return "json"
}

func statement(in io.Reader, arg string) (string, error) {
	if arg == "-" {
		all, err := io.ReadAll(in)
		if err != nil {
			return "", fmt.Errorf("reading standard input: %w", err)
		}
		arg = string(all)
	}
	arg = strings.TrimSuffix(strings.TrimSpace(arg), ";")
	if arg == "" {
		return "", &usageError{errors.New("the statement is empty")}
	}
	return arg, nil
}
