package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/directory"
)

// organization is what the cluster of people, groups and ranges is called on the command line, where a star would have to
// be quoted.
const organization = "organization"

// clusterOf is the name of a cluster on the command line.
func clusterOf(text string) string {
	if text == organization {
		return context.Organization
	}
	return text
}

func nameOf(cluster string) string {
	if cluster == context.Organization {
		return organization
	}
	return cluster
}

// kindOf reads a kind: as Kubernetes calls it, in any case, or as a resource.
func kindOf(text string) (context.Kind, error) {
	all := directory.Kinds()
	names := make([]string, len(all))
	for i, k := range all {
		names[i] = k.String()
		plural := strings.ToLower(k.String()) + "s"
		if strings.EqualFold(text, k.String()) || strings.EqualFold(text, plural) || text != "" && strings.EqualFold(text, k.Resource()) ||
			k == context.Person && strings.EqualFold(text, "people") {
			return k, nil
		}
	}
	return 0, &usageError{fmt.Errorf("%q is no kind that is followed: there are %s", text, strings.Join(names, ", "))}
}

// whenFlag is a moment of the past.
type whenFlag struct{ text string }

func (w *whenFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.text, "at", "", "`when`: a time (2026-11-01T12:00:00Z) or a duration before now (24h) (default: now)")
}

func (w *whenFlag) micros() (int64, error) {
	at, err := moment("--at", w.text)
	if err != nil {
		return 0, err
	}
	if at.IsZero() {
		return math.MaxInt64, nil
	}
	return at.UnixMicro(), nil
}

func newContextList(o *options) *cobra.Command {
	var cluster, kind, source string
	var when whenFlag
	var out output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what is known of clusters and of the organization",
		Long: `List how many objects of each kind are known of each cluster and of the organization (people, groups and ranges), and whether that
is all of them. With --kind, list the objects: since when they are as they are, where that is known from and who made them so.`,
		Example: `  auditmill context list
  auditmill context list --cluster prod --kind ClusterRoleBinding
  auditmill context list --kind people --output json | jq -r 'select(.object.person.active == "false").name'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := when.micros()
			if err == nil {
				err = out.check()
			}
			var k context.Kind
			if err == nil && kind != "" {
				k, err = kindOf(kind)
			}
			if err != nil {
				return err
			}
			store, err := o.loadContext(cmd)
			if err != nil {
				return err
			}
			names := store.Clusters()
			if cluster != "" {
				if store.Cluster(clusterOf(cluster)) == nil {
					return fmt.Errorf("nothing is known of cluster %q; 'auditmill context list' names those that are", cluster)
				}
				names = []string{clusterOf(cluster)}
			}
			if k == 0 && source == "" {
				return printCounts(cmd.OutOrStdout(), store, names, at, out.json())
			}
			return printObjects(cmd.OutOrStdout(), store, names, k, source, at, out.json())
		},
	}
	cmd.Flags().StringVar(&cluster, "cluster", "", "`name` of a cluster, or "+organization)
	cmd.Flags().StringVar(&kind, "kind", "", "`kind` of objects, such as RoleBinding or Person")
	cmd.Flags().StringVar(&source, "source", "", "`name` of where it is known from: audit, watch or import:NAME")
	when.add(cmd)
	out.add(cmd)
	completeCluster(cmd, o, "cluster")
	completeKind(cmd, "kind")
	return cmd
}

// count is how many objects of a kind are known of a cluster.
type count struct {
	Cluster  string `json:"cluster"`
	Kind     string `json:"kind"`
	Objects  int    `json:"objects"`
	Complete bool   `json:"complete"`
	Changed  string `json:"changed"` // last
}

func printCounts(out io.Writer, store *context.Store, names []string, at int64, asJSON bool) error {
	all := []count{}
	for _, name := range names {
		cluster := store.Cluster(name)
		for _, k := range directory.Kinds() {
			c, last := count{Cluster: nameOf(name), Kind: k.String(), Complete: cluster.Complete(k, at)}, int64(0)
			for item := range cluster.Objects(k, at) {
				c.Objects++
				last = max(last, item.From)
			}
			if c.Objects > 0 || c.Complete {
				c.Changed = stampOf(last)
				all = append(all, c)
			}
		}
	}
	if asJSON {
		return printJSON(out, all)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CLUSTER\tKIND\tOBJECTS\tALL KNOWN\tLAST CHANGE")
	for i := range all {
		c := &all[i]
		known := "no"
		switch {
		case c.Cluster == organization:
			known = "" // nobody says so
		case c.Complete:
			known = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", printableText(c.Cluster), c.Kind, c.Objects, known, c.Changed)
	}
	return w.Flush()
}

// known is an object, or a version of it, as it is printed.
type known struct {
	Cluster   string            `json:"cluster"`
	Kind      string            `json:"kind"`
	Namespace string            `json:"namespace,omitempty"`
	Name      string            `json:"name"`
	From      string            `json:"from"`
	Until     string            `json:"until,omitempty"`
	Source    string            `json:"source,omitempty"`
	By        string            `json:"by,omitempty"`
	Stale     bool              `json:"stale,omitempty"`  // it changed since in a way that is not known
	Absent    bool              `json:"absent,omitempty"` // it did not exist
	Changed   []directory.Field `json:"changed,omitempty"`
	Object    *context.Object   `json:"object,omitempty"`
}

func knownOf(cluster string, item *context.Item) known {
	return known{
		Cluster: nameOf(cluster), Kind: item.Key.Kind.String(), Namespace: item.Key.Namespace, Name: item.Key.Name, From: stampOf(item.From),
		Source: item.Source, By: item.By, Stale: item.Stale, Object: item.Object,
	}
}

func printObjects(out io.Writer, store *context.Store, names []string, only context.Kind, source string, at int64, asJSON bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if !asJSON {
		fmt.Fprintln(w, "CLUSTER\tOBJECT\tSINCE\tSOURCE\tBY")
	}
	for _, name := range names {
		var items []*context.Item
		for _, k := range directory.Kinds() {
			if only != 0 && k != only {
				continue
			}
			for item := range store.Cluster(name).Objects(k, at) {
				if source == "" || item.Source == source {
					items = append(items, item)
				}
			}
		}
		slices.SortFunc(items, func(a, b *context.Item) int {
			return cmp.Or(cmp.Compare(a.Key.Kind, b.Key.Kind), cmp.Compare(a.Key.Namespace, b.Key.Namespace), cmp.Compare(a.Key.Name, b.Key.Name))
		})
		for _, item := range items {
			k := knownOf(name, item)
			if asJSON {
				if err := printJSONLine(out, &k); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", printableText(k.Cluster), printableText(item.Key.String()), k.From, printableText(k.Source), printableText(k.By))
		}
	}
	return w.Flush()
}

func newContextShow(o *options) *cobra.Command {
	var namespace string
	var when whenFlag
	var history bool
	var out output
	cmd := &cobra.Command{
		Use:   "show CLUSTER KIND NAME",
		Short: "Show what is known of one object, now or in the past",
		Long: `Show an object as events are enriched with it: since when it is so, where that is known from, and who made it so. NAME may be
NAMESPACE/NAME. --history shows every version that is still known, the oldest first; Kafka keeps the last version of each object for
ever, and older ones until it cleans up. People, groups and ranges are of the cluster ` + organization + `.`,
		Example: `  auditmill context show prod ClusterRoleBinding cluster-admin
  auditmill context show prod RoleBinding payments/deployers --at 2026-11-21T03:31:00Z
  auditmill context show organization Person alice@corp.example --history --output json`,
		Args: exactly(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := when.micros()
			if err == nil {
				err = out.check()
			}
			var kind context.Kind
			if err == nil {
				kind, err = kindOf(args[1])
			}
			if err != nil {
				return err
			}
			key := keyOf(kind, namespace, args[2])
			if kind.Namespaced() && key.Namespace == "" {
				return &usageError{fmt.Errorf("%s %s: name its namespace with -n, or write NAMESPACE/NAME", kind, args[2])}
			}
			store, err := o.loadContext(cmd)
			if err != nil {
				return err
			}
			versions := versionsOf(store.Cluster(clusterOf(args[0])), key, at, history)
			if len(versions) == 0 {
				return fmt.Errorf("%s is not known in cluster %s%s", key, args[0], map[bool]string{true: " at that time"}[when.text != ""])
			}
			return printVersions(cmd.OutOrStdout(), clusterOf(args[0]), versions, out.json())
		},
		ValidArgsFunction: completeArguments(o, "cluster", "kind"),
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "`namespace` of the object")
	cmd.Flags().BoolVar(&history, "history", false, "every version that is known")
	when.add(cmd)
	out.add(cmd)
	cmd.MarkFlagsMutuallyExclusive("at", "history")
	return cmd
}

func keyOf(kind context.Kind, namespace, name string) context.Key {
	key := context.Key{Kind: kind, Namespace: namespace, Name: name}
	if kind.Namespaced() && namespace == "" {
		if n, rest, ok := strings.Cut(name, "/"); ok {
			key.Namespace, key.Name = n, rest
		}
	}
	return key
}

// versionsOf returns the version at a time, or all.
func versionsOf(cluster *context.Cluster, key context.Key, at int64, history bool) []context.Change {
	if history {
		return cluster.History(key)
	}
	item := cluster.Find(key, at)
	if item == nil {
		return nil
	}
	return []context.Change{{Key: key, Object: item.Object, From: item.From, Source: item.Source, By: item.By, Stale: item.Stale}}
}

func printVersions(out io.Writer, cluster string, versions []context.Change, asJSON bool) error {
	var before *context.Object
	for i := range versions {
		v := &versions[i]
		k := knownOf(cluster, &context.Item{Key: v.Key, Object: v.Object, From: v.From, Source: v.Source, By: v.By, Stale: v.Stale})
		k.Absent = v.Object == nil && !v.Stale
		if before != nil && v.Object != nil {
			k.Changed = directory.Compare(before, v.Object)
		}
		before = v.Object
		if i+1 < len(versions) {
			k.Until = stampOf(versions[i+1].From)
		}
		err := error(nil)
		if asJSON {
			err = printJSONLine(out, &k)
		} else {
			err = printKnown(out, &k)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func printKnown(out io.Writer, k *known) error {
	name := k.Name
	if k.Namespace != "" {
		name = k.Namespace + "/" + name
	}
	fmt.Fprintf(out, "%s %s of %s, from %s", k.Kind, printableText(name), printableText(k.Cluster), k.From)
	if k.Until != "" {
		fmt.Fprint(out, " until "+k.Until)
	}
	if k.Absent {
		fmt.Fprint(out, ": did not exist")
	}
	fmt.Fprint(out, ", source "+printableText(k.Source))
	if k.By != "" {
		fmt.Fprint(out, ", by "+printableText(k.By))
	}
	if k.Stale {
		fmt.Fprint(out, "; it has changed since, how is not known")
	}
	fmt.Fprintln(out)
	if k.Absent {
		return nil
	}
	if k.Changed != nil {
		for i := range k.Changed {
			fmt.Fprintf(out, "  %s\n", printableText(k.Changed[i].String()))
		}
		return nil
	}
	if k.Object == nil {
		fmt.Fprintln(out, "  what it says is not known")
		return nil
	}
	return printJSON(out, k.Object)
}

func newContextRemove(o *options) *cobra.Command {
	var source string
	var yes bool
	cmd := &cobra.Command{
		Use:   "remove CLUSTER",
		Short: "Forget a cluster that is no more, or what one source said",
		Long: `Forget everything that is known of a cluster: from now on nothing is, until something new is said of it. With --source instead,
remove the people, groups and ranges that a list brought which is not imported any more. Asks before it does, unless --yes says not to.`,
		Example: `  auditmill context remove staging-2024
  auditmill context remove --source import:people.csv --yes`,
		Args: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (source != "") || len(args) > 1 {
				return &usageError{fmt.Errorf("name one cluster, or a list by --source; see '%s --help'", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if source != "" {
				return removeSource(cmd, o, source, yes)
			}
			return removeCluster(cmd, o, args[0], yes)
		},
		ValidArgsFunction: completeArguments(o, "cluster"),
	}
	cmd.Flags().StringVar(&source, "source", "", "`name` of a list: import:NAME, as 'auditmill context list --kind people' shows it")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func removeSource(cmd *cobra.Command, o *options, source string, yes bool) error {
	name, ok := strings.CutPrefix(source, "import:")
	if !ok {
		return &usageError{fmt.Errorf("--source %q: want import:NAME; what audit events and watches say cannot be removed", source)}
	}
	store, err := o.loadContext(cmd)
	if err != nil {
		return err
	}
	none := &directory.List{Name: name, Kinds: []context.Kind{context.Person, context.Group, context.Range}}
	plan := directory.PlanList(store, none, time.Now().UnixMicro())
	if plan.Empty() {
		return fmt.Errorf("no people, groups or ranges are of %q; 'auditmill context list --cluster %s --kind people' names the sources", source, organization)
	}
	if err := confirm(cmd, yes, false, fmt.Sprintf("remove %d objects of %s", plan.Present, printableText(source))); err != nil {
		return err
	}
	first, _ := plan.Changes()
	return o.writeChanges(cmd, context.Organization, first)
}

func removeCluster(cmd *cobra.Command, o *options, name string, yes bool) error {
	cluster := clusterOf(name)
	store, err := o.loadContext(cmd)
	if err != nil {
		return err
	}
	n := 0
	for _, k := range directory.Kinds() {
		for range store.Cluster(cluster).Objects(k, math.MaxInt64) {
			n++
		}
	}
	if n == 0 {
		return fmt.Errorf("nothing is known of cluster %q; 'auditmill context list' names those that are", name)
	}
	if err := confirm(cmd, yes, false, fmt.Sprintf("forget cluster %s and its %d objects", printableText(name), n)); err != nil {
		return err
	}
	change := context.Change{Removed: true, From: time.Now().UnixMicro(), Source: "cli"}
	return o.writeChanges(cmd, cluster, []context.Change{change})
}

// writeChanges writes changes and says how many.
func (o *options) writeChanges(cmd *cobra.Command, cluster string, changes []context.Change) error {
	cfg, err := o.load("kafka")
	if err != nil {
		return err
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	n, err := write(ctx, cmd, cfg.Kafka, cluster, changes)
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), writtenText(n))
	return nil
}

// loadContext reads what is known now from the configured Kafka.
func (o *options) loadContext(cmd *cobra.Command) (*context.Store, error) {
	cfg, err := o.load("kafka")
	if err != nil {
		return nil, err
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	return liveContext(ctx, cmd, cfg.Kafka)
}
