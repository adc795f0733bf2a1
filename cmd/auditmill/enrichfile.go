package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/directory"
	"github.com/auditmill/auditmill/enrich/origin"
	"github.com/auditmill/auditmill/offline"
	"github.com/auditmill/auditmill/schemas"
)

// enrichFileFlags are what `enrich file` is told beside the events.
type enrichFileFlags struct {
	cluster                       string
	dumps, people, groups, ranges []string
	mmdb                          []string
	compact                       bool
}

func newEnrichFile() *cobra.Command {
	var f enrichFileFlags
	cmd := &cobra.Command{
		Use:   "file EVENTS…",
		Short: "Enrich recorded events without a server, and print each as a JSON line",
		Long: `Enrich recorded audit events by the code of the service and print one JSON object for each, with every column of
docs/fields.md: who it was and every grant that allowed it, as of the time of the event. What is known of the cluster comes from
--context, which is what kubectl get -o json printed, and from the writes among the events themselves, those of people,
groups and addresses from lists as auditmill context import reads them. The rows are the final ones: those that the service writes when
nothing more becomes known late.

EVENTS are files of JSON lines, EventLists or arrays, plain or gzip; - is standard input. Copies are not dropped. Exit
status 1 if a file cannot be read; what is no audit event is named on standard error.`,
		Example: `  auditmill enrich file --cluster prod --context dumps/ audit.log | jq 'select(.grant_agreement == "disagree")'
  auditmill enrich file --cluster prod --context dumps/ --people people.csv audit.log | jq '[.display_name, .team, .grants]'
  zcat audit-*.gz | auditmill enrich file --compact - | jq 'select(.actor_kind == "human") | .actor'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{fmt.Errorf("name at least one file of events, or - for standard input; see '%s --help'", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return enrichFiles(cmd, &f, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.cluster, "cluster", "", "`name` of the cluster that the events are of")
	flags.StringArrayVar(&f.dumps, "context", nil, "`PATH[@TIME]` of what kubectl get -o json printed, a file or a directory; without a time it is taken to be older than the events; may be repeated")
	flags.StringArrayVar(&f.people, "people", nil, "`FILE` of people, CSV or JSON; may be repeated")
	flags.StringArrayVar(&f.groups, "groups", nil, "`FILE` of groups, CSV or JSON; may be repeated")
	flags.StringArrayVar(&f.ranges, "ranges", nil, "`FILE` of IP ranges, lines, CSV or JSON; may be repeated")
	flags.StringArrayVar(&f.mmdb, "mmdb", nil, "MMDB `FILE` of countries or networks; may be repeated")
	flags.BoolVar(&f.compact, "compact", false, "leave out columns without a value")
	return cmd
}

func enrichFiles(cmd *cobra.Command, f *enrichFileFlags, paths []string) error {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	known, err := f.known()
	if err != nil {
		return err
	}
	row := schemas.AppendWholeRowJSON
	if f.compact {
		row = schemas.AppendRowJSON
	}
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 1<<16)
	var line []byte
	bad := 0
	err = offline.ReadFiles(ctx, paths, f.cluster, known, func(batch arrow.RecordBatch, rows []offline.Origin) error {
		for i := range rows {
			line = append(row(line[:0], batch, i), '\n')
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
}

// known reads what is known beside the events. Lists hold for all times.
func (f *enrichFileFlags) known() (known offline.Context, err error) {
	known.Dumps = f.dumps
	if known.Places, err = origin.OpenPlaces(f.mmdb); err != nil {
		return known, err
	}
	store := context.NewStore(context.DefaultConfig())
	for _, list := range []struct {
		paths []string
		read  func(file, source string, in io.Reader) (*directory.List, error)
	}{
		{f.people, func(file, source string, in io.Reader) (*directory.List, error) {
			return directory.ReadPeople(file, source, in)
		}},
		{f.groups, directory.ReadGroups},
		{f.ranges, directory.ReadRanges},
	} {
		for _, path := range list.paths {
			if err := listed(store, path, list.read); err != nil {
				return known, err
			}
		}
	}
	known.Changes = map[string][]context.Change{}
	c := store.Cluster(context.Organization)
	for _, kind := range []context.Kind{context.Person, context.Group, context.Range} {
		for item := range c.Objects(kind, 1) {
			known.Changes[context.Organization] = append(known.Changes[context.Organization], context.Change{
				Key: item.Key, From: item.From, Object: item.Object, Source: item.Source,
			})
		}
	}
	return known, nil
}

// listed takes a list into a store.
func listed(store *context.Store, path string, read func(file, source string, in io.Reader) (*directory.List, error)) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	list, err := read(path, filepath.Base(path), in)
	if err != nil {
		return err
	}
	first, then := directory.PlanList(store, list, 1).Changes()
	store.Apply(context.Organization, append(first, then...)...)
	return nil
}
