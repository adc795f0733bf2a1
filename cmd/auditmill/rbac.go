package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/rbac"
	"github.com/auditmill/auditmill/offline/access"
)

// rbacFlags say what is known, and when and how is asked.
type rbacFlags struct {
	sources   access.Sources
	at        string
	namespace string
	name      string
	groups    []string
	asJSON    bool
	output    output
}

func newRBAC(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rbac",
		Short: "Say who may do what, through which grant, now or at any moment of the past",
		Long: `Answer which grants allow a user a request, who else may, and what a user holds: from what is known now of the cluster, read from
Kafka as 'auditmill context list' shows it, or from what 'kubectl get -o json' printed and from recorded audit events, if --context or
--events name some. --at asks for a moment of the past.

Service accounts are in the groups that follow from their name, people in those that were imported for them; --group adds others.
A time behind "before" is when somebody looked: the grant may be older; "unknown" is longer ago than anything that is recorded.
ROLE CHANGED is there for roles that changed after the binding was made.`,
		Example: `  auditmill rbac why prod alice@example.com get secrets -n payments
  auditmill rbac why prod alice@example.com get secrets -n payments --at 24h
  auditmill rbac who-can prod create pods/exec -n kube-system --context dumps/
  auditmill rbac holds alice@example.com`,
	}
	cmd.AddCommand(newRBACWhy(o), newRBACWhoCan(o), newRBACHolds(o))
	return cmd
}

func (f *rbacFlags) add(cmd *cobra.Command, request, groups bool) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.sources.Dumps, "context", nil, "`PATH[@TIME]` of what kubectl get -o json printed, a file or a directory, instead of Kafka; without a time it is taken to be older than the events; may be repeated")
	flags.StringArrayVar(&f.sources.Events, "events", nil, "`FILE` of audit events that change it, instead of Kafka; may be repeated")
	flags.StringVar(&f.at, "at", "", "`when`: a time (2026-11-01T12:00:00Z) or a duration before now (24h) (default: after all that is known)")
	flags.BoolVar(&f.asJSON, "json", false, "the same as --output json")
	f.output.add(cmd)
	if request {
		flags.StringVarP(&f.namespace, "namespace", "n", "", "`namespace` of the request (default: the whole cluster)")
		flags.StringVar(&f.name, "name", "", "`name` of the object")
	}
	if groups {
		flags.StringArrayVarP(&f.groups, "group", "g", nil, "`group` of the user, besides those that follow from its name and those that were imported; may be repeated")
	}
}

// asked is what is known of the cluster that is asked about.
type asked struct {
	store *context.Store
	state *context.State
	at    time.Time
}

// read reads what is known of the cluster, from the files that are named or from Kafka.
func (f *rbacFlags) read(cmd *cobra.Command, o *options, cluster string) (*asked, error) {
	if err := f.output.check(); err != nil {
		return nil, err
	}
	f.asJSON = f.asJSON || f.output.json()
	at, err := moment("--at", f.at)
	if err != nil {
		return nil, err
	}
	a := &asked{at: at}
	remedy := "name older dumps with --context, or events with --events"
	if len(f.sources.Dumps)+len(f.sources.Events) > 0 {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		a.store, err = access.Load(ctx, cluster, f.sources, func(err error) { fmt.Fprintln(cmd.ErrOrStderr(), "note:", err) })
	} else {
		remedy = "'auditmill context list' names what is known; 'auditmill watch' and 'auditmill context import' tell more"
		a.store, err = o.loadContext(cmd)
	}
	if err != nil {
		return nil, err
	}
	a.state, err = access.State(a.store, cluster, at, remedy)
	return a, err
}

func (f *rbacFlags) request(verb, resource string) *rbac.Request {
	q := rbac.ParseResource(resource)
	q.Verb, q.Namespace, q.Name = verb, f.namespace, f.name
	return &q
}

// groupsOf returns the groups of a user, and who that is.
func (f *rbacFlags) groupsOf(a *asked, cluster, user string) ([]string, *context.Item) {
	groups, person := access.Groups(a.store, cluster, user, a.at)
	for _, g := range f.groups {
		if !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	return groups, person
}

func newRBACWhy(o *options) *cobra.Command {
	var f rbacFlags
	cmd := &cobra.Command{
		Use:   "why CLUSTER USER VERB RESOURCE",
		Short: "Say which grants allow a user a request",
		Long: `Print every binding, role, rule and subject that allows the user the request, since when and by whom, and how much the user may do
besides. RESOURCE is written pods, pods/exec, deployments.apps/scale, or /healthz for a path. Exit status 1: it is not allowed.`,
		Example: `  auditmill rbac why prod alice@example.com get secrets -n payments --at 2026-11-21T03:31:00Z
  auditmill rbac why prod alice@example.com get secrets -n payments -g team-payments --context dumps/
  auditmill rbac why prod system:serviceaccount:ci:deployer create pods/exec -n web --context dumps/ --events audit.jsonl.gz`,
		Args: exactly(4),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := f.read(cmd, o, args[0])
			if err != nil {
				return err
			}
			user := args[1]
			groups, person := f.groupsOf(a, args[0], user)
			answer := access.Why(a.state, user, groups, f.request(args[2], args[3]))
			if person != nil {
				answer.ID, answer.Person = person.Key.Name, person.Object.Person
			}
			if f.asJSON {
				if err := printJSON(cmd.OutOrStdout(), answer); err != nil {
					return err
				}
			} else if err := printAnswer(cmd.OutOrStdout(), args[0], answer); err != nil {
				return err
			}
			if !answer.Allowed {
				return fmt.Errorf("%s may not %s %s", printableText(user), args[2], args[3])
			}
			return nil
		},
		ValidArgsFunction: completeArguments(o, "cluster", "", "verb", "resource"),
	}
	f.add(cmd, true, true)
	return cmd
}

func newRBACWhoCan(o *options) *cobra.Command {
	var f rbacFlags
	cmd := &cobra.Command{
		Use:   "who-can CLUSTER VERB RESOURCE",
		Short: "Say who may make a request, and by which grants",
		Long: `Print every user, group and service account that some binding allows the request, since when and by whom. Members of
system:masters may do everything besides. RESOURCE is written as for 'auditmill rbac why'.`,
		Example: `  auditmill rbac who-can prod get secrets -n payments
  auditmill rbac who-can prod create pods/exec -n kube-system --context dumps/`,
		Args: exactly(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := f.read(cmd, o, args[0])
			if err != nil {
				return err
			}
			grants := access.Grants(a.state, rbac.WhoCan(a.state, f.request(args[1], args[2])))
			if f.asJSON {
				return printJSON(cmd.OutOrStdout(), grants)
			}
			noteIncomplete(cmd.OutOrStdout(), a.state)
			return printGrants(cmd.OutOrStdout(), grants)
		},
		ValidArgsFunction: completeArguments(o, "cluster", "verb", "resource"),
	}
	f.add(cmd, true, false)
	return cmd
}

func newRBACHolds(o *options) *cobra.Command {
	var f rbacFlags
	cmd := &cobra.Command{
		Use:   "holds [CLUSTER] USER",
		Short: "Say which roles a user holds, and how much that is",
		Long: `Print the bindings of a user with their rules, since when and by whom, the breadth of the rights from 0 to 100, and the dangerous
permissions among them. Without CLUSTER, for each cluster in which the user holds any.`,
		Example: `  auditmill rbac holds alice@example.com
  auditmill rbac holds prod alice@example.com -g team-payments -g developers --context dumps/
  auditmill rbac holds prod system:serviceaccount:ci:deployer --context dumps/ --events audit.jsonl.gz --at 2026-11-21T03:31:00Z`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.RangeArgs(1, 2)(cmd, args); err != nil {
				return &usageError{fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				a, err := f.read(cmd, o, args[0])
				if err != nil {
					return err
				}
				held := f.holds(a, args[0], args[1])
				if f.asJSON {
					return printJSON(cmd.OutOrStdout(), held)
				}
				held.print(cmd.OutOrStdout())
				return nil
			}
			return f.holdsAnywhere(cmd, o, args[0])
		},
		ValidArgsFunction: completeArguments(o, "cluster"),
	}
	f.add(cmd, false, true)
	return cmd
}

// held is what a user holds in a cluster.
type held struct {
	Cluster  string         `json:"cluster"`
	User     string         `json:"user"`
	Groups   []string       `json:"groups"`
	Holds    []heldBinding  `json:"holds"`
	Standing *rbac.Standing `json:"standing"`
	Complete bool           `json:"complete"` // all roles and bindings are known

	state    *context.State
	person   *context.Item
	holdings []rbac.Holding
}

type heldBinding struct {
	rbac.Holding
	Origin access.Origin
}

func (f *rbacFlags) holds(a *asked, cluster, user string) *held {
	h := &held{Cluster: cluster, User: user, Holds: []heldBinding{}, Complete: a.state.CompleteRBAC() && !a.state.Doubtful(), state: a.state}
	h.Groups, h.person = f.groupsOf(a, cluster, user)
	r := rbac.NewResolver()
	h.holdings, h.Standing = r.Holds(a.state, user, h.Groups), r.Standing(a.state, user, h.Groups)
	for i := range h.holdings {
		b := heldBinding{Holding: h.holdings[i]}
		if item, ok := a.state.Get(b.Binding); ok {
			b.Origin = access.OriginOf(item)
		}
		h.Holds = append(h.Holds, b)
	}
	return h
}

func (h *held) print(out io.Writer) {
	if h.person != nil {
		printPerson(out, h.Cluster, h.User, h.person.Key.Name, h.person.Object.Person, h.Groups)
	}
	noteIncomplete(out, h.state)
	printHoldings(out, h.state, h.holdings)
	printStanding(out, h.Standing)
}

// holdsAnywhere answers for all clusters that are known.
func (f *rbacFlags) holdsAnywhere(cmd *cobra.Command, o *options, user string) error {
	if len(f.sources.Dumps)+len(f.sources.Events) > 0 {
		return &usageError{fmt.Errorf("name the cluster that --context and --events are of: %s CLUSTER %s", cmd.CommandPath(), user)}
	}
	if err := f.output.check(); err != nil {
		return err
	}
	at, err := moment("--at", f.at)
	if err != nil {
		return err
	}
	store, err := o.loadContext(cmd)
	if err != nil {
		return err
	}
	all := []*held{}
	for _, cluster := range store.Clusters() {
		state, err := access.State(store, cluster, at, "")
		if err != nil {
			continue // nothing is known of it at that time
		}
		if h := f.holds(&asked{store: store, state: state, at: at}, cluster, user); len(h.Holds) > 0 {
			all = append(all, h)
		}
	}
	if f.asJSON || f.output.json() {
		return printJSON(cmd.OutOrStdout(), all)
	}
	if len(all) == 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "%s holds nothing in the clusters that are known\n", printableText(user))
	}
	for i, h := range all {
		if i > 0 {
			fmt.Fprintln(cmd.OutOrStdout())
		}
		fmt.Fprintf(cmd.OutOrStdout(), "cluster %s\n", printableText(h.Cluster))
		h.print(cmd.OutOrStdout())
	}
	return nil
}

// exactly is cobra.ExactArgs with our exit code.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(cmd, args); err != nil {
			return &usageError{fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
		}
		return nil
	}
}

func printJSON(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func printAnswer(out io.Writer, cluster string, a *access.Answer) error {
	if a.Person != nil {
		printPerson(out, cluster, a.User, a.ID, a.Person, a.Groups)
	}
	switch {
	case a.Masters:
		fmt.Fprintln(out, "allowed: members of system:masters may do everything")
	case len(a.Matches) == 1:
		fmt.Fprintln(out, "allowed in 1 way")
	case a.Allowed:
		fmt.Fprintf(out, "allowed in %d ways\n", len(a.Matches))
	default:
		fmt.Fprintln(out, "not allowed by RBAC")
	}
	if !a.Complete {
		fmt.Fprintln(out, incomplete)
	}
	if len(a.Matches) > 0 {
		if err := printGrants(out, a.Matches); err != nil {
			return err
		}
	}
	printStanding(out, a.Standing)
	return nil
}

const incomplete = "not all roles and bindings are known: there may be more"

func noteIncomplete(out io.Writer, state *context.State) {
	if !state.CompleteRBAC() || state.Doubtful() {
		fmt.Fprintln(out, incomplete)
	}
}

// printPerson says who a user is, and in which groups that person is.
func printPerson(out io.Writer, cluster, user, id string, p *context.PersonInfo, groups []string) {
	fmt.Fprintf(out, "%s is %s", printableText(user), printableText(id))
	var about []string
	for _, text := range []string{p.Name, p.Team, map[string]string{"false": "left"}[p.Active]} {
		if text != "" {
			about = append(about, printableText(text))
		}
	}
	if len(about) > 0 {
		fmt.Fprintf(out, " (%s)", strings.Join(about, ", "))
	}
	fmt.Fprintf(out, ", in the groups %s\n", printableText(strings.Join(groups, ", ")))
	if others := otherNames(user, cluster, p.Usernames); len(others) > 0 {
		fmt.Fprintf(out, "also called %s, which may be allowed something else\n", printableText(strings.Join(others, ", ")))
	}
}

// otherNames returns what a cluster calls somebody besides user.
func otherNames(user, cluster string, usernames []string) (others []string) {
	for _, name := range usernames {
		if rest, scoped := strings.CutPrefix(name, "cluster/"); scoped {
			of, own, _ := strings.Cut(rest, "/")
			if of != cluster {
				continue
			}
			name = own
		}
		if name != user && !slices.Contains(others, name) {
			others = append(others, name)
		}
	}
	return others
}

func printGrants(out io.Writer, grants []access.Grant) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SUBJECT\tBINDING\tROLE\tRULE\tSINCE\tBY\tROLE CHANGED")
	for i := range grants {
		g := &grants[i]
		changed := ""
		if g.ChangedRole != nil {
			changed = originText(g.ChangedRole)
		}
		fmt.Fprintf(w, "%s %s\t%s %s\t%s %s\t%d\t%s\t%s\t%s\n", g.SubjectKind, printableText(g.Subject), g.BindingKind, printableText(g.Binding),
			g.RoleKind, printableText(g.Role), g.Rule, sinceText(&g.Origin), printableText(g.By), changed)
	}
	return w.Flush()
}

// originText says since when something is so, and by whom.
func originText(o *access.Origin) string {
	text := sinceText(o)
	if o.By != "" {
		text += ", by " + printableText(o.By)
	}
	if o.Stale {
		text += ", and since: how is not known"
	}
	return text
}

// sinceText says since when something is so, as far as is known.
func sinceText(o *access.Origin) string {
	switch {
	case o.Exact:
		return stamp(o.Since)
	case !o.Created.IsZero() && !o.Created.Before(o.Since.Truncate(time.Second)):
		return stamp(o.Created)
	case !o.Since.IsZero():
		return "before " + stamp(o.Since)
	}
	return "unknown"
}

func printStanding(out io.Writer, s *rbac.Standing) {
	fmt.Fprintf(out, "breadth %d of 100", s.Breadth)
	if s.ClusterAdmin {
		fmt.Fprint(out, ", cluster-admin or equivalent")
	}
	fmt.Fprintln(out)
	for _, d := range rbac.Dangers() {
		if slices.Contains(s.Dangerous, d.ID) {
			fmt.Fprintf(out, "  %s (%s): %s\n", d.ID, d.Severity, d.Why)
		}
	}
}

func printHoldings(out io.Writer, state *context.State, holdings []rbac.Holding) {
	for i := range holdings {
		h := &holdings[i]
		fmt.Fprintf(out, "%s → %s", printableText(h.Binding.String()), printableText(h.Role.String()))
		if item, ok := state.Get(h.Binding); ok {
			o := access.OriginOf(item)
			o.Stale = false // h is, if the role is, too
			fmt.Fprint(out, ", since "+originText(&o))
		}
		if h.Missing {
			fmt.Fprint(out, ", which does not exist")
		}
		if h.Stale {
			fmt.Fprint(out, ", which changed since: how is not known")
		}
		fmt.Fprintln(out)
		for _, r := range h.Rules {
			fmt.Fprintf(out, "  %s\n", ruleText(&r))
		}
	}
}

// ruleText writes a rule in a line: verbs, resources with their groups or paths, names.
func ruleText(r *context.Rule) string {
	text := strings.Join(r.Verbs, ",")
	if len(r.NonResourceURLs) > 0 {
		text += " " + strings.Join(r.NonResourceURLs, ",")
	}
	if len(r.Resources) > 0 {
		text += " " + strings.Join(r.Resources, ",")
		if groups := strings.Join(r.APIGroups, ","); strings.HasPrefix(groups, ",") {
			text += " of the core group and " + groups[1:]
		} else if groups != "" {
			text += " of " + groups
		}
	}
	if len(r.ResourceNames) > 0 {
		text += " named " + strings.Join(r.ResourceNames, ",")
	}
	return printableText(text)
}
