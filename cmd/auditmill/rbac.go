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
}

func newRBAC() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rbac",
		Short: "Say who may do what, through which grant, now or at any moment of the past",
		Long: `Answer from what 'kubectl get -o json' printed and from recorded audit events: which grants allow a user a request, who
else may, and what a user holds. State between two dumps is followed through the events.`,
		Example: `  auditmill rbac why prod alice@example.com get secrets -n payments --context dumps/
  auditmill rbac who-can prod create pods/exec -n kube-system --context dumps/
  auditmill rbac holds prod system:serviceaccount:ci:deployer --context dumps/ --events audit.jsonl.gz`,
	}
	cmd.AddCommand(newRBACWhy(), newRBACWhoCan(), newRBACHolds())
	return cmd
}

func (f *rbacFlags) add(cmd *cobra.Command, request, groups bool) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.sources.Dumps, "context", nil, "`PATH[@TIME]` of what kubectl get -o json printed, a file or a directory; without a time it is taken to be older than the events; may be repeated")
	flags.StringArrayVar(&f.sources.Events, "events", nil, "`FILE` of audit events that change it; may be repeated")
	flags.StringVar(&f.at, "at", "", "`when`: a time (2026-11-01T12:00:00Z) or a duration before now (24h) (default: after all events)")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	if request {
		flags.StringVarP(&f.namespace, "namespace", "n", "", "`namespace` of the request (default: the whole cluster)")
		flags.StringVar(&f.name, "name", "", "`name` of the object")
	}
	if groups {
		flags.StringArrayVarP(&f.groups, "group", "g", nil, "`group` of the user, besides those that follow from its name; may be repeated")
	}
}

// state reads the sources and returns the state that is asked about.
func (f *rbacFlags) state(cmd *cobra.Command, cluster string) (*context.State, error) {
	at, err := moment("--at", f.at)
	if err != nil {
		return nil, err
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	store, err := access.Load(ctx, cluster, f.sources, func(err error) { fmt.Fprintln(cmd.ErrOrStderr(), "note:", err) })
	if err != nil {
		return nil, err
	}
	return access.State(store, cluster, at)
}

func (f *rbacFlags) request(verb, resource string) *rbac.Request {
	q := rbac.ParseResource(resource)
	q.Verb, q.Namespace, q.Name = verb, f.namespace, f.name
	return &q
}

func (f *rbacFlags) groupsOf(user string) []string {
	return append(rbac.GroupsOf(user), f.groups...)
}

func newRBACWhy() *cobra.Command {
	var f rbacFlags
	cmd := &cobra.Command{
		Use:   "why CLUSTER USER VERB RESOURCE",
		Short: "Say which grants allow a user a request",
		Long: `Print every binding, role, rule and subject that allows the user the request, and how much the user may do besides.
RESOURCE is written pods, pods/exec, deployments.apps/scale, or /healthz for a path. Exit status 1: it is not allowed.`,
		Example: `  auditmill rbac why prod alice@example.com get secrets -n payments -g team-payments --context dumps/
  auditmill rbac why prod system:serviceaccount:ci:deployer create pods/exec -n web --context dumps/ --events audit.jsonl.gz --at 2026-11-21T03:31:00Z`,
		Args: exactly(4),
		RunE: func(cmd *cobra.Command, args []string) error {
			state, err := f.state(cmd, args[0])
			if err != nil {
				return err
			}
			user := args[1]
			answer := access.Why(state, user, f.groupsOf(user), f.request(args[2], args[3]))
			if f.asJSON {
				if err := printJSON(cmd.OutOrStdout(), answer); err != nil {
					return err
				}
			} else if err := printAnswer(cmd.OutOrStdout(), answer); err != nil {
				return err
			}
			if !answer.Allowed {
				return fmt.Errorf("%s may not %s %s", printableText(user), args[2], args[3])
			}
			return nil
		},
	}
	f.add(cmd, true, true)
	return cmd
}

func newRBACWhoCan() *cobra.Command {
	var f rbacFlags
	cmd := &cobra.Command{
		Use:   "who-can CLUSTER VERB RESOURCE",
		Short: "Say who may make a request, and by which grants",
		Long: `Print every user, group and service account that some binding allows the request. Members of system:masters may do
everything besides. RESOURCE is written as for 'auditmill rbac why'.`,
		Example: `  auditmill rbac who-can prod get secrets -n payments --context dumps/
  auditmill rbac who-can prod create pods/exec -n kube-system --context dumps/`,
		Args: exactly(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			state, err := f.state(cmd, args[0])
			if err != nil {
				return err
			}
			matches := rbac.WhoCan(state, f.request(args[1], args[2]))
			if f.asJSON {
				return printJSON(cmd.OutOrStdout(), matches)
			}
			return printMatches(cmd.OutOrStdout(), matches)
		},
	}
	f.add(cmd, true, false)
	return cmd
}

func newRBACHolds() *cobra.Command {
	var f rbacFlags
	cmd := &cobra.Command{
		Use:   "holds CLUSTER USER",
		Short: "Say which roles a user holds, and how much that is",
		Long:  `Print the bindings of a user with their rules, the breadth of the rights from 0 to 100, and the dangerous permissions among them.`,
		Example: `  auditmill rbac holds prod alice@example.com -g team-payments -g developers --context dumps/
  auditmill rbac holds prod system:serviceaccount:ci:deployer --context dumps/ --events audit.jsonl.gz --at 2026-11-21T03:31:00Z`,
		Args: exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			state, err := f.state(cmd, args[0])
			if err != nil {
				return err
			}
			r, groups := rbac.NewResolver(), f.groupsOf(args[1])
			holdings, standing := r.Holds(state, args[1], groups), r.Standing(state, args[1], groups)
			if f.asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]any{"holds": holdings, "standing": standing})
			}
			printHoldings(cmd.OutOrStdout(), holdings)
			printStanding(cmd.OutOrStdout(), standing)
			return nil
		},
	}
	f.add(cmd, false, true)
	return cmd
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

func printAnswer(out io.Writer, a *access.Answer) error {
	switch {
	case a.Masters:
		fmt.Fprintln(out, "allowed: members of system:masters may do everything")
	case a.Allowed:
		fmt.Fprintf(out, "allowed in %d ways\n", len(a.Matches))
	default:
		fmt.Fprintln(out, "not allowed by RBAC")
	}
	if !a.Complete {
		fmt.Fprintln(out, "not all roles and bindings are known: there may be more")
	}
	if len(a.Matches) > 0 {
		if err := printMatches(out, a.Matches); err != nil {
			return err
		}
	}
	printStanding(out, a.Standing)
	return nil
}

func printMatches(out io.Writer, matches []rbac.Match) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SUBJECT\tBINDING\tROLE\tRULE")
	for _, m := range matches {
		fmt.Fprintf(w, "%s %s\t%s %s\t%s %s\t%d\n", m.SubjectKind, printableText(m.Subject), m.BindingKind, printableText(m.Binding),
			m.RoleKind, printableText(m.Role), m.Rule)
	}
	return w.Flush()
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

func printHoldings(out io.Writer, holdings []rbac.Holding) {
	for _, h := range holdings {
		fmt.Fprintf(out, "%s → %s", printableText(h.Binding.String()), printableText(h.Role.String()))
		if h.From > 0 {
			fmt.Fprintf(out, ", since %s", stamp(time.UnixMicro(h.From)))
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
