package main

import (
	"bufio"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/offline"
	"github.com/auditmill/auditmill/schemas"
)

func newEnrichFile() *cobra.Command {
	var cluster string
	cmd := &cobra.Command{
		Use:   "file EVENTS…",
		Short: "Enrich recorded events without a server, and print each as a JSON line",
		Long: `Enrich recorded audit events by the code of the service and print one JSON object for each, with every column of
docs/fields.md. EVENTS are files of JSON lines, EventLists or arrays, plain or gzip; - is standard input. Copies are not dropped.
Exit status 1 if a file cannot be read; what is no audit event is named on standard error.`,
		Example: `  auditmill enrich file --cluster prod audit.log | jq 'select(.actor_kind == "human") | .actor'
  zcat audit-*.gz | auditmill enrich file -`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{fmt.Errorf("name at least one file of events, or - for standard input; see '%s --help'", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			out := bufio.NewWriterSize(cmd.OutOrStdout(), 1<<16)
			var line []byte
			bad := 0
			err := offline.ReadFiles(ctx, args, cluster, func(batch arrow.RecordBatch, rows []offline.Origin) error {
				for row := range rows {
					line = append(schemas.AppendRowJSON(line[:0], batch, row), '\n')
					if _, err := out.Write(line); err != nil {
						return err
					}
				}
				return nil
			}, func(b offline.Bad) { bad++; fmt.Fprintln(cmd.ErrOrStderr(), b) })
			if flushed := out.Flush(); err == nil {
				err = flushed
			}
			if bad > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d pieces are no audit events, see above\n", bad)
			}
			if err != nil {
				return ignoreClosedPipe(err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&cluster, "cluster", "", "`name` of the cluster that the events are of")
	return cmd
}
