package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/offline"
)

// ruleFlags are the flags that say which rules a command works on.
type ruleFlags struct {
	paths, lists []string
	level        string
	absent       []string
	compatible   bool
}

func (f *ruleFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.paths, "rules", "r", nil, "rule `PATH`, a file or a directory; may be repeated, Falco files are loaded in this order (default: the shipped rules)")
	flags.StringArrayVar(&f.lists, "lists", nil, "`FILE` of named lists that replaces or extends the shipped ones; may be repeated")
	flags.StringVar(&f.level, "audit-level", "", "highest audit `level` that is recorded: Metadata, Request or RequestResponse; rules that need more are reported as blind")
	flags.StringSliceVar(&f.absent, "absent", nil, "`columns` that the sources never fill, such as groups in a cloud's log; rules that need them are reported as blind")
	flags.BoolVar(&f.compatible, "falco-compatible", false, "keep the known bugs of Falco's field extraction (ka.sourceips, eff_run_as_user, image.repository)")
	complete(cmd, "audit-level", "Metadata", "Request", "RequestResponse")
}

// complete offers the values of a flag to the shell.
func complete(cmd *cobra.Command, flag string, values ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag was defined by the caller
	}
}

// addContext adds the flag for what is known of the cluster beside its events.
func addContext(cmd *cobra.Command, dumps *[]string) {
	cmd.Flags().StringArrayVar(dumps, "context", nil, "`PATH[@TIME]` of what kubectl get -o json printed, a file or a directory; without a time it is taken to be older than the events; may be repeated")
}

// load reads the rules; positional arguments are paths too, for the commands that take them so.
func (f *ruleFlags) load(cmd *cobra.Command, more ...string) (*ir.Pack, error) {
	if f.level != "" && !slices.Contains([]string{"Metadata", "Request", "RequestResponse"}, f.level) {
		return nil, &usageError{fmt.Errorf("--audit-level %q: choose Metadata, Request or RequestResponse", f.level)}
	}
	sources := offline.Sources{
		Paths: append(offline.SplitPaths(f.paths), more...), Lists: offline.SplitPaths(f.lists),
		Options: rule.Options{Compatible: f.compatible, AuditLevel: f.level, Absent: f.absent},
	}
	pack, err := sources.Load()
	if err != nil {
		return nil, err
	}
	for _, note := range pack.Notes {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: note: %s\n", note.Position, note.Text)
	}
	return pack, nil
}

func newRules(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Test, check, list, explain and backtest detection rules",
		Long: `Work with detection rules, Sigma or Falco, without a server. Rows are made by the code of the enrich service and rules
are evaluated by the engine of the alert service, so what is said here is what the services do.`,
		Example: `  auditmill rules test
  auditmill rules match --rules my-rules/ audit.log
  auditmill rules explain --rules my-rules/ secrets-listed event.json`,
	}
	cmd.AddCommand(newRulesMatch(), newRulesTest(), newRulesLint(), newRulesList(), newRulesExplain(), newRulesBacktest(o))
	return cmd
}

func newRulesMatch() *cobra.Command {
	var f ruleFlags
	var matching string
	var dumps []string
	cmd := &cobra.Command{
		Use:   "match --rules PATH… EVENTS…",
		Short: "Evaluate rules on files of audit events, and print each match as a JSON line",
		Long: `Evaluate rules on recorded audit events and print one JSON object for each match: rule, file and line of the event,
audit_id, severity, output. EVENTS are files of JSON lines, EventLists or arrays, plain or gzip; - is standard input. They are read
twice: who and why are known from --context, and from the writes among the events themselves, whatever their order.

Exit status: 0 done, with or without matches; 1 a file of events cannot be read; 2 a rule file does not load: the
errors of all files are on standard error.`,
		Example: `  auditmill rules match --rules falco.yaml --matching first audit.log
  auditmill rules match --rules my-rules/ --rules more.yml audit-*.jsonl.gz | jq .output`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{fmt.Errorf("name at least one file of events, or - for standard input; see '%s --help'", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if matching != string(offline.MatchAll) && matching != string(offline.MatchFirst) {
				return &usageError{fmt.Errorf("--matching %q: choose first or all", matching)}
			}
			pack, err := f.load(cmd)
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			out := bufio.NewWriter(cmd.OutOrStdout())
			encoder := json.NewEncoder(out)
			encoder.SetEscapeHTML(false)
			counts, err := offline.MatchFiles(ctx, pack, offline.Matching(matching), args, offline.Context{Dumps: dumps},
				func(m *offline.Match) error { return encoder.Encode(m) },
				func(b offline.Bad) { fmt.Fprintf(cmd.ErrOrStderr(), "%s\n", b) })
			if flushed := out.Flush(); err == nil && flushed != nil {
				err = ignoreClosedPipe(flushed)
			}
			if counts.Bad > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d pieces are no audit events, see above\n", counts.Bad)
			}
			return err
		},
	}
	f.add(cmd)
	addContext(cmd, &dumps)
	cmd.Flags().StringVar(&matching, "matching", string(offline.MatchAll), "how many rules may match an event: `first` of them in their order, or all")
	complete(cmd, "matching", "first", "all")
	return cmd
}

func newRulesTest() *cobra.Command {
	var f ruleFlags
	var verbose bool
	cmd := &cobra.Command{
		Use:   "test [PATH…]",
		Short: "Run the cases that rules carry",
		Long: `Run the cases under x-auditmill.cases of each rule: events that must match and events that must not, sequences for
correlations. A case that fails is explained by the parts of the condition. Exit status 1 if one fails.`,
		Example: `  auditmill rules test
  auditmill rules test my-rules/ --verbose`,
		RunE: func(cmd *cobra.Command, args []string) error {
			pack, err := f.load(cmd, args...)
			if err != nil {
				return err
			}
			return testRules(cmd.OutOrStdout(), pack, verbose)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "print the cases that pass, too")
	return cmd
}

func testRules(out io.Writer, pack *ir.Pack, verbose bool) error {
	start := time.Now()
	passed, failed := 0, 0
	var broken error
	offline.RunCases(pack, func(r *offline.CaseResult) {
		switch {
		case r.Passed():
			passed++
			if verbose {
				fmt.Fprintf(out, "ok    %s: %s\n", r.Rule, r.Case.Name)
			}
			return
		case r.Err != nil:
			fmt.Fprintf(out, "FAIL  %s: %s\n      %s: %v\n", r.Rule, r.Case.Name, r.Case.Position, r.Err)
		default:
			fmt.Fprintf(out, "FAIL  %s: %s\n      %s: %d alerts, want %d\n", r.Rule, r.Case.Name, r.Case.Position, r.Got, r.Case.Alerts)
		}
		failed++
		if r.Why != nil {
			if err := r.Why.Write(indented{out}); err != nil {
				broken = err
			}
		}
	})
	if broken != nil {
		return broken
	}
	without := offline.WithoutCases(pack)
	fmt.Fprintf(out, "%d cases of %d rules passed, %d failed, %d rules have none (%s)\n", passed,
		len(pack.Rules)+len(pack.Correlations)-len(without), failed, len(without), time.Since(start).Round(time.Millisecond))
	if failed > 0 {
		return fmt.Errorf("%d cases failed", failed)
	}
	return nil
}

// indented puts spaces before each line.
type indented struct{ out io.Writer }

func (i indented) Write(p []byte) (int, error) {
	text := "      " + strings.ReplaceAll(strings.TrimSuffix(string(p), "\n"), "\n", "\n      ") + "\n"
	if _, err := io.WriteString(i.out, text); err != nil {
		return 0, err
	}
	return len(p), nil
}

func newRulesLint() *cobra.Command {
	var f ruleFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "lint [PATH…]",
		Short: "Check rules for what is not wrong but worth a look",
		Long: `Check rules: missing metadata, conditions that match too much, parts that can never hold, rules that this deployment's
data cannot satisfy. Faults that keep a rule from loading are errors of every command. Exit status 1 if something is found.`,
		Example: `  auditmill rules lint my-rules/
  auditmill rules lint --audit-level Metadata --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			pack, err := f.load(cmd, args...)
			if err != nil {
				return err
			}
			findings := offline.Lint(pack)
			out := cmd.OutOrStdout()
			for _, finding := range findings {
				if asJSON {
					if err := json.NewEncoder(out).Encode(finding); err != nil {
						return err
					}
					continue
				}
				fmt.Fprintf(out, "%s: %s: %s\n", finding.Position, finding.Kind, finding.Text)
			}
			if len(findings) > 0 {
				return fmt.Errorf("%d findings in %d rules", len(findings), len(pack.Rules)+len(pack.Correlations))
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%d rules, nothing found\n", len(pack.Rules)+len(pack.Correlations))
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON lines")
	return cmd
}

func newRulesList() *cobra.Command {
	var f ruleFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [PATH…]",
		Short: "List rules",
		Long: `List rules with their severity, the audit level that they need, their ATT&CK techniques, and whether this deployment's data
can satisfy them at all (--audit-level says what is recorded).`,
		Example: `  auditmill rules list
  auditmill rules list --audit-level Metadata
  auditmill rules list my-rules/ --json | jq -r .title`,
		RunE: func(cmd *cobra.Command, args []string) error {
			pack, err := f.load(cmd, args...)
			if err != nil {
				return err
			}
			return listRules(cmd.OutOrStdout(), rule.List(pack), asJSON)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON lines")
	return cmd
}

func listRules(out io.Writer, rules []rule.Listed, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(out)
		for _, r := range rules {
			if err := encoder.Encode(r); err != nil {
				return fmt.Errorf("printing: %w", err)
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SEVERITY\tKIND\tAUDIT LEVEL\tTECHNIQUES\tCASES\tTITLE")
	for _, r := range rules {
		title := r.Title
		if r.CannotEvaluate != "" {
			title += "  (cannot evaluate: " + r.CannotEvaluate + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", r.Severity, r.Kind, r.AuditLevel, strings.Join(r.Techniques, " "), r.Cases, title)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

func newRulesExplain() *cobra.Command {
	var f ruleFlags
	cmd := &cobra.Command{
		Use:   "explain RULE EVENT",
		Short: "Show which parts of a rule's condition hold for an event",
		Long: `Show which parts of a rule's condition hold for an event, with the values of the fields. RULE is an id, a name or a title;
EVENT is a file with one audit event, or - for standard input. Exit status 1 if the rule does not match.`,
		Example: `  auditmill rules explain "Secrets listed" event.json
  grep 7d4e1f0a audit.log | auditmill rules explain --rules my-rules/ my-rule -`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(2)(cmd, args); err != nil {
				return &usageError{fmt.Errorf("name a rule and a file with one event: %w", err)}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			pack, err := f.load(cmd)
			if err != nil {
				return err
			}
			step, err := explain(cmd.InOrStdin(), pack, args[0], args[1])
			if err != nil {
				return err
			}
			if err := step.Write(cmd.OutOrStdout()); err != nil {
				return fmt.Errorf("printing: %w", err)
			}
			if !step.Holds {
				return errors.New("the rule does not match the event")
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func explain(in io.Reader, pack *ir.Pack, name, path string) (*offline.Step, error) {
	r, err := offline.Find(pack, name)
	if err != nil {
		return nil, &usageError{err}
	}
	var event []byte
	if path == "-" {
		event, err = io.ReadAll(in)
	} else {
		event, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the event: %w", err)
	}
	batch, err := offline.Batch([][]byte{event})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer batch.Release()
	explainer, err := offline.NewExplainer(r)
	if err != nil {
		return nil, err
	}
	return explainer.Explain(batch, 0)
}
