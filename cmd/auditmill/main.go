// Command auditmill is the audit pipeline: one subcommand per service, and the tools around them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/internal/embedded/clickhouse"
	"github.com/auditmill/auditmill/offline"
)

// Exit codes: 0 drained or done, 1 failed, 2 bad usage or configuration.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	// The embedded ClickHouse is this same binary, started again.
	clickhouse.RunChildIfAsked()
	os.Exit(execute(context.Background(), os.Args[1:]))
}

func execute(ctx context.Context, args []string) int {
	root := newRoot() //nolint:contextcheck // commands get theirs from ExecuteContext
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(root.ErrOrStderr(), "auditmill:", err)
	var usage *usageError
	var config *conf.Error
	var rules *offline.RulesError
	// cobra gives no type to the mistake of an unknown command.
	unknown := strings.HasPrefix(err.Error(), "unknown command ")
	if unknown || errors.As(err, &usage) || errors.As(err, &config) || errors.As(err, &rules) {
		return exitUsage
	}
	return exitFailed
}

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// options are the flags that every subcommand has.
type options struct {
	file string
	set  []string
}

const example = `  auditmill demo                     see it work: one command, nothing else needed
  auditmill up --data-dir /var/lib/auditmill
                                     the whole pipeline on this machine, durable
  auditmill ingest --config auditmill.yaml
                                     one service against your Kafka`

func newRoot() *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:   "auditmill",
		Short: "Carry Kubernetes audit events to SQL rows and Slack alerts, losing none",
		Long: `auditmill takes the audit streams of many Kubernetes clusters, carries them over Kafka, adds who acted and
which grant allowed it, evaluates detection rules, alerts Slack and loads ClickHouse.

Configuration comes from --config FILE, AUDITMILL_* variables and --set key=value, later ones win;
'auditmill config' shows what is in effect. Exit status: 0 done, 1 failed, 2 bad usage or configuration.`,
		Example:       example,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
	})
	flags := root.PersistentFlags()
	flags.StringVarP(&o.file, "config", "c", os.Getenv(fileVariable), "configuration `file` (YAML); also "+fileVariable)
	flags.StringArrayVar(&o.set, "set", nil, "set a configuration `key=value`; may be repeated")
	if err := root.MarkPersistentFlagFilename("config", "yaml", "yml"); err != nil {
		panic(err) // the flag is defined three lines above
	}
	root.AddGroup(
		&cobra.Group{ID: "all", Title: "All in one:"},
		&cobra.Group{ID: "services", Title: "Services:"},
		&cobra.Group{ID: "tools", Title: "Tools:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("all", newDemo(&o), newUp(&o))
	add("services", newIngest(&o), newEnrich(&o), newAlert(&o), newLoad(&o), newWatch(&o))
	add("tools", newTopics(&o), newMigrate(&o), newReplay(&o), newTail(&o), newQuery(&o), newRules(&o), newSilence(&o), newContext(&o), newRBAC(&o), newConfig(&o), newEmbedded(&o), newVersion())
	return root
}

// noArguments is cobra.NoArgs with our exit code.
func noArguments(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return &usageError{fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
	}
	return nil
}
