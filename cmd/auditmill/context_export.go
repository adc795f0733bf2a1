package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/directory"
)

func newContextExport(o *options) *cobra.Command {
	var when whenFlag
	cmd := &cobra.Command{
		Use:   "export CLUSTER",
		Short: "Print what is known of a cluster as kubectl would, or all people as JSON lines",
		Long: `Print a List of the objects of a cluster, of which only what is used is known, as --context of other commands and 'auditmill context
import' read it. Of the cluster ` + organization + `, print the people as 'auditmill context import --people' reads them.`,
		Example: `  auditmill context export prod --at 2026-11-21T03:31:00Z > prod.json
  auditmill context export organization > people.jsonl`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := when.micros()
			if err != nil {
				return err
			}
			store, err := o.loadContext(cmd)
			if err != nil {
				return err
			}
			cluster := store.Cluster(clusterOf(args[0]))
			if cluster == nil {
				return fmt.Errorf("nothing is known of cluster %q; 'auditmill context list' names those that are", args[0])
			}
			if args[0] == organization {
				return exportPeople(cmd.OutOrStdout(), cluster, at)
			}
			return exportCluster(cmd.OutOrStdout(), cluster, at)
		},
		ValidArgsFunction: completeArguments(o, "cluster"),
	}
	when.add(cmd)
	return cmd
}

func sorted(cluster *context.Cluster, kind context.Kind, at int64) []*context.Item {
	items := slices.Collect(cluster.Objects(kind, at))
	slices.SortFunc(items, func(a, b *context.Item) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	return items
}

func exportPeople(out io.Writer, cluster *context.Cluster, at int64) error {
	for _, item := range sorted(cluster, context.Person, at) {
		line := struct {
			ID string `json:"id"`
			*context.PersonInfo
		}{item.Key.Name, item.Object.Person}
		if err := printJSONLine(out, line); err != nil {
			return err
		}
	}
	return nil
}

func exportCluster(out io.Writer, cluster *context.Cluster, at int64) error {
	items := []map[string]any{}
	for _, kind := range directory.Kinds() {
		if kind.Resource() == "" {
			continue // not of Kubernetes
		}
		for _, item := range sorted(cluster, kind, at) {
			if item.Object == nil {
				continue
			}
			text, err := json.Marshal(item.Object)
			if err != nil {
				return err
			}
			object := map[string]any{}
			if err := json.Unmarshal(text, &object); err != nil {
				return err
			}
			object["kind"], object["apiVersion"] = kind.String(), "v1"
			if group := kind.APIGroup(); group != "" {
				object["apiVersion"] = group + "/v1"
			}
			metadata, _ := object["metadata"].(map[string]any)
			if metadata == nil {
				metadata = map[string]any{}
				object["metadata"] = metadata
			}
			metadata["name"] = item.Key.Name
			if item.Key.Namespace != "" {
				metadata["namespace"] = item.Key.Namespace
			}
			items = append(items, object)
		}
	}
	return printJSON(out, map[string]any{"kind": "List", "apiVersion": "v1", "items": items})
}

// printJSONLine prints a value in a line of its own.
func printJSONLine(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}
