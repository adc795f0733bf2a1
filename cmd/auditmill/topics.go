package main

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/pipeline"
)

// interruptible returns a context that ends with the first SIGINT or SIGTERM.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
}

func newTopics(o *options) *cobra.Command {
	var create bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "topics",
		Short: "Check the pipeline's Kafka topics, or create them",
		Long: `Compare the topics of the broker with what the pipeline needs: names, partitions, replication, configuration. With
--create missing topics are created; existing ones are never changed, since more partitions would send the same key elsewhere.
Exit status 1 if something is missing or differs. A topic with a single replica on an Apache Kafka is worth a warning.`,
		Example: `  auditmill topics --set kafka.brokers=kafka:9092
  auditmill topics --create --set topics.replication=3`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.load("kafka", "topics")
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, wait)
			defer cancel()
			states, err := pipeline.EnsureTopics(ctx, &cfg, create)
			if err != nil {
				return err
			}
			if err := printTopics(cmd.OutOrStdout(), states); err != nil {
				return err
			}
			warning, err := pipeline.ReplicationWarning(ctx, &cfg, states)
			if err != nil {
				return err
			}
			if warning != "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", warning)
			}
			return pipeline.TopicsError(states)
		},
	}
	cmd.Flags().BoolVar(&create, "create", false, "create missing topics")
	cmd.Flags().DurationVar(&wait, "wait", 30*time.Second, "longest `time` to wait for the broker")
	return cmd
}

func printTopics(out io.Writer, states []kafka.TopicState) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TOPIC\tPARTITIONS\tREPLICATION\tSTATUS")
	for _, s := range states {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", s.Name, s.Partitions, s.Replication, s.Status)
	}
	return w.Flush()
}
