package main

import (
	stdcontext "context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/feed"
	"github.com/auditmill/auditmill/internal/kafka"
)

// brokerWait bounds how long a command waits for Kafka to answer at all.
const brokerWait = 30 * time.Second

func newContext(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "context",
		Short: "Show and import what events are enriched with: roles and bindings, people, groups, IP ranges",
		Long: `Show, import and remove the context of events: the RBAC objects, service accounts, namespaces, pods and nodes of clusters, and the
people, groups and IP ranges of the organization. It is kept in audit.context.v1, versioned by time, where it comes to from audit
events, from 'auditmill watch' and from imports.

Exit status: 0 done, also if there was nothing to do; 1 failed, declined or not found; 2 what was asked for, or a list, is faulty.`,
		Example: `  kubectl get clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts,namespaces -A -o json | auditmill context import --cluster prod -
  auditmill context import --people people.csv --ranges networks.txt --dry-run
  auditmill context list
  auditmill context show prod ClusterRoleBinding cluster-admin --history`,
	}
	cmd.AddCommand(newContextImport(o), newContextList(o), newContextShow(o), newContextExport(o), newContextRemove(o))
	return cmd
}

// output is how a command answers.
type output struct{ format string }

func (f *output) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.format, "output", "o", "table", "`format`: table or json")
	complete(cmd, "output", "table", "json")
}

func (f *output) check() error {
	if f.format != "table" && f.format != "json" {
		return &usageError{fmt.Errorf("--output %s: write table or json", f.format)}
	}
	return nil
}

func (f *output) json() bool { return f.format == "json" }

// wholeHistory keeps everything that Kafka has: a command looks once and ends.
func wholeHistory() context.Config {
	config := context.DefaultConfig()
	config.History = 100 * 365 * 24 * time.Hour
	config.MaxVersions = math.MaxInt32
	return config
}

// liveContext reads what is known now from Kafka.
func liveContext(ctx stdcontext.Context, cmd *cobra.Command, cfg kafka.Config) (*context.Store, error) {
	client, err := kafka.NewClient(cfg)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	first, cancel := stdcontext.WithTimeout(ctx, brokerWait)
	defer cancel()
	there := slowly(cmd.ErrOrStderr(), "waiting for Kafka at "+strings.Join(cfg.Brokers, ", "))
	err = kafka.WaitForBroker(first, client, cfg)
	there()
	if err != nil {
		return nil, err
	}
	done := slowly(cmd.ErrOrStderr(), "reading the context from Kafka")
	defer done()
	store := context.NewStore(wholeHistory())
	if err := feed.Load(ctx, cfg, store); err != nil {
		return nil, err
	}
	return store, nil
}

// slowly says what takes its time when it has taken a second.
func slowly(out io.Writer, what string) (done func()) {
	finished, silent := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(silent)
		timer := time.NewTimer(time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
			fmt.Fprintln(out, what+" …")
		case <-finished:
		}
	}()
	return func() {
		close(finished)
		<-silent
	}
}

// write writes changes and returns when all are acknowledged.
func write(ctx stdcontext.Context, cmd *cobra.Command, cfg kafka.Config, cluster string, batches ...[]context.Change) (n int, err error) {
	client, err := kafka.NewClient(cfg, kgo.RequiredAcks(kgo.AllISRAcks()))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	const most = 10_000
	for _, changes := range batches {
		for len(changes) > 0 {
			part := changes[:min(most, len(changes))]
			changes = changes[len(part):]
			records, err := feed.Records(cluster, part)
			if err == nil {
				err = kafka.Produce(ctx, client, log, records...)
			}
			if err != nil {
				return n, fmt.Errorf("%w; at least %d records are written: run the same command again to write the rest", err, n)
			}
			n += len(records)
		}
	}
	return n, nil
}

// confirm asks before something drastic; yes answers beforehand.
func confirm(cmd *cobra.Command, yes, inputUsed bool, question string) error {
	if yes {
		return nil
	}
	in := cmd.InOrStdin()
	if f, isFile := in.(*os.File); inputUsed || isFile && !isTerminal(f) {
		return &usageError{fmt.Errorf("%s: nobody can be asked; look with --dry-run, then say --yes", question)}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s? [y/N] ", question)
	var answer string
	if _, err := fmt.Fscanln(in, &answer); err != nil || !strings.HasPrefix(strings.ToLower(answer), "y") {
		return errors.New("declined: nothing was changed")
	}
	return nil
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// microseconds is a time of a flag as the store has it: now if there is none.
func microseconds(t time.Time) int64 {
	if t.IsZero() {
		t = time.Now()
	}
	return t.UnixMicro()
}

// stampOf is the time of a version; the beginning of time is "always".
func stampOf(micros int64) string {
	if micros <= 0 {
		return "always"
	}
	return stamp(time.UnixMicro(micros))
}
