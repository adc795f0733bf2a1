package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/enrich/rbac"
	"github.com/auditmill/auditmill/offline"
	"github.com/auditmill/auditmill/offline/access"
	"github.com/auditmill/auditmill/schemas"
)

func newEnrichFile() *cobra.Command {
	var cluster string
	var dumps []string
	cmd := &cobra.Command{
		Use:   "file EVENTS…",
		Short: "Enrich recorded events without a server, and print each as a JSON line",
		Long: `Enrich recorded audit events by the code of the service and print one JSON object for each: the columns of docs/fields.md
that have a value, and under "why" what the roles and bindings of the cluster say at the time of the event: every grant that
allows the request, whether the one that the API server named is among them (agree, disagree, unknown), how broad the
user's rights are and which dangerous permissions it holds. They are known from --context, what kubectl get -o json printed, and
from the writes among the events themselves.

EVENTS are files of JSON lines, EventLists or arrays, plain or gzip; - is standard input. Copies are not dropped. Exit
status 1 if a file cannot be read; what is no audit event is named on standard error.`,
		Example: `  auditmill enrich file --cluster prod --context dumps/ audit.log | jq 'select(.why.grant_agreement == "disagree")'
  zcat audit-*.gz | auditmill enrich file - | jq 'select(.actor_kind == "human") | .actor'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{fmt.Errorf("name at least one file of events, or - for standard input; see '%s --help'", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return enrichFiles(cmd, cluster, dumps, args) },
	}
	cmd.Flags().StringVar(&cluster, "cluster", "", "`name` of the cluster that the events are of")
	cmd.Flags().StringArrayVar(&dumps, "context", nil, "`PATH[@TIME]` of what kubectl get -o json printed, a file or a directory; without a time it is taken to be older than the events; may be repeated")
	return cmd
}

func enrichFiles(cmd *cobra.Command, cluster string, dumps, paths []string) error {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	paths, remove, err := spooled(cmd.InOrStdin(), paths)
	if err != nil {
		return err
	}
	defer remove()
	// What an event could not tell of roles and bindings makes their state doubtful, which "why" says.
	store, err := access.Load(ctx, cluster, access.Sources{Dumps: dumps, Events: paths}, func(error) {})
	if err != nil {
		return err
	}
	resolver, known := rbac.NewResolver(), store.Cluster(cluster)
	var whys []*access.Explanation // by row of the batch
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 1<<16)
	var line []byte
	bad := 0
	err = offline.ReadRows(ctx, paths, cluster, func(e *schemas.Event) {
		whys = append(whys, access.Of(resolver.Explain(known, e)))
	}, func(batch arrow.RecordBatch, rows []offline.Origin) error {
		for row := range rows {
			line = schemas.AppendRowJSON(line[:0], batch, row)
			if why := whys[row]; why != nil {
				text, err := json.Marshal(why)
				if err != nil {
					return err
				}
				line = append(append(append(line[:len(line)-1], `,"why":`...), text...), '}')
			}
			if _, err := out.Write(append(line, '\n')); err != nil {
				return err
			}
		}
		whys = whys[:0]
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
}

// spooled puts standard input, if it is among the paths, into a file: events are read twice, once for what they say of the
// cluster and once to be enriched.
func spooled(in io.Reader, paths []string) (files []string, remove func(), err error) {
	remove = func() {}
	for _, path := range paths {
		if path != "-" {
			files = append(files, path)
			continue
		}
		f, err := os.CreateTemp("", "auditmill-events-")
		if err != nil {
			return nil, remove, fmt.Errorf("keeping standard input: %w", err)
		}
		remove = func() { _ = os.Remove(f.Name()) } // in the temporary directory it harms nobody
		_, err = io.Copy(f, in)
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return nil, remove, fmt.Errorf("reading standard input: %w", err)
		}
		files = append(files, f.Name())
	}
	return files, remove, nil
}
