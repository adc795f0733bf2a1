package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/load"
	"github.com/auditmill/auditmill/offline"
)

type backtestOptions struct {
	rules        ruleFlags
	against      []string
	from         string
	since, until string
	where        string
	dumps        []string
	asJSON       bool
}

func newRulesBacktest(o *options) *cobra.Command {
	var b backtestOptions
	cmd := &cobra.Command{
		Use:   "backtest [EVENTS…]",
		Short: "Say what rules would have raised on history",
		Long: `Evaluate rules on history with the engine of the alert service: how many alerts each rule would have raised, for whom and
on which day, with examples. History is the files given, with what --context and the files themselves tell of who and why, or with
--from clickhouse the table events, or with --from kafka what audit.enriched.v1 still holds. With --against, what changes between
two sets of rules.`,
		Example: `  auditmill rules backtest --rules new/ audit-2026-11.jsonl.gz
  auditmill rules backtest --rules new/ --against old/ --from clickhouse --since 720h
  auditmill rules backtest --from clickhouse --since 2026-11-01T00:00:00Z --where "cluster = 'prod'"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return b.run(cmd, o, args)
		},
	}
	b.rules.add(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&b.against, "against", nil, "rule `PATH` to compare with; may be repeated")
	flags.StringVar(&b.from, "from", "files", "where the history is: `files`, clickhouse or kafka")
	flags.StringVar(&b.since, "since", "", "begin `when`: a duration before now (24h) or a time (2026-11-01T00:00:00Z)")
	flags.StringVar(&b.until, "until", "", "end `when`, in the same forms; of clickhouse only")
	flags.StringVar(&b.where, "where", "", "`SQL` condition on the columns of events; of clickhouse only")
	addContext(cmd, &b.dumps)
	flags.BoolVar(&b.asJSON, "json", false, "print the reports as one JSON object")
	complete(cmd, "from", "files", "clickhouse", "kafka")
	return cmd
}

func (b *backtestOptions) run(cmd *cobra.Command, o *options, args []string) error {
	packs, err := b.packs(cmd)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	history, closeHistory, err := b.history(cmd, o, args)
	if err != nil {
		return err
	}
	defer closeHistory()
	reports, err := offline.Backtest(ctx, history, progressOf(cmd.ErrOrStderr()), packs...)
	if err != nil {
		return err
	}
	return b.print(cmd.OutOrStdout(), reports)
}

// packs returns the rules and, if asked for, those to compare with, first.
func (b *backtestOptions) packs(cmd *cobra.Command) ([]*ir.Pack, error) {
	pack, err := b.rules.load(cmd)
	if err != nil || len(b.against) == 0 {
		return []*ir.Pack{pack}, err
	}
	before := b.rules
	before.paths = b.against
	old, err := before.load(cmd)
	return []*ir.Pack{old, pack}, err
}

func (b *backtestOptions) history(cmd *cobra.Command, o *options, args []string) (offline.History, func(), error) {
	nothing := func() {}
	since, err := moment("--since", b.since)
	if err != nil {
		return nil, nothing, err
	}
	until, err := moment("--until", b.until)
	if err != nil {
		return nil, nothing, err
	}
	if err := b.check(args); err != nil {
		return nil, nothing, err
	}
	switch b.from {
	case "files":
		bad := func(bad offline.Bad) { fmt.Fprintln(cmd.ErrOrStderr(), bad) }
		return offline.Files(args, "", offline.Context{Dumps: b.dumps}, bad), nothing, nil
	case "kafka":
		cfg, err := o.load("kafka")
		return offline.Topic(cfg.Kafka, since), nothing, err
	case "clickhouse":
		cfg, err := o.load("clickhouse")
		if err != nil {
			return nil, nothing, err
		}
		conn, err := load.Connect(cfg.ClickHouse)
		if err != nil {
			return nil, nothing, err
		}
		closeConn := func() { _ = conn.Close() } // only idle connections are left
		return offline.ClickHouse(conn, cfg.ClickHouse.Database, offline.Range{From: since, To: until, Where: b.where}), closeConn, nil
	}
	return nil, nothing, &usageError{fmt.Errorf("--from %q: choose files, clickhouse or kafka", b.from)}
}

// check says which flags do not go together.
func (b *backtestOptions) check(args []string) error {
	if (b.from == "files") != (len(args) > 0) {
		return &usageError{errors.New("name files of events, or say --from clickhouse or --from kafka")}
	}
	if b.from != "files" && len(b.dumps) > 0 {
		return &usageError{fmt.Errorf("--context does not go with --from %s, which has who and why already", b.from)}
	}
	if b.from != "clickhouse" && (b.where != "" || b.until != "") || b.from == "files" && b.since != "" {
		return &usageError{fmt.Errorf("--since, --until and --where do not go with --from %s", b.from)}
	}
	return nil
}

// moment reads a time, or a duration before now; the zero time for nothing.
func moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, &usageError{fmt.Errorf("%s %q: write a duration such as 24h or a time such as 2026-11-01T00:00:00Z", flag, text)}
	}
	return t, nil
}

// progressOf shows the number of events so far, on a terminal.
func progressOf(out io.Writer) func(int) {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	start, last := time.Now(), time.Time{}
	return func(events int) {
		if now := time.Now(); now.Sub(last) > time.Second/5 {
			last = now
			fmt.Fprintf(out, "\r%d events, %.0f/s ", events, float64(events)/now.Sub(start).Seconds())
		}
	}
}

func (b *backtestOptions) print(out io.Writer, reports []*offline.Report) error {
	after := reports[len(reports)-1]
	var diff []offline.Difference
	if len(reports) == 2 {
		diff = offline.Diff(reports[0], after)
	}
	if b.asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(struct {
			Report *offline.Report      `json:"report"`
			Before *offline.Report      `json:"before,omitempty"`
			Diff   []offline.Difference `json:"diff,omitempty"`
		}{after, map[bool]*offline.Report{true: reports[0]}[len(reports) == 2], diff})
	}
	fmt.Fprintf(out, "%d events from %s to %s: %d alerts of %d rules\n\n", after.Events, stamp(after.From), stamp(after.To), after.Matches, len(after.Rules))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ALERTS\tSEVERITY\tRULE\tACTORS\tBY DAY")
	for _, r := range after.Rules {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", r.Alerts, r.Severity, r.Rule, actors(r), days(r))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	for _, r := range after.Rules {
		fmt.Fprintf(out, "\n%s\n", r.Rule)
		for _, m := range r.Examples {
			fmt.Fprintf(out, "  %s  %s:%d  %s\n", stamp(m.Time), m.File, m.Line, m.Output)
		}
	}
	if len(reports) < 2 {
		return nil
	}
	fmt.Fprintf(out, "\nCompared with --against: %d alerts before, %d after\n", reports[0].Matches, after.Matches)
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, d := range diff {
		fmt.Fprintf(w, "  %+d\t%d → %d\t%s\n", d.After-d.Before, d.Before, d.After, d.Rule)
	}
	return w.Flush()
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func actors(r *offline.RuleReport) string {
	const top = 3
	var texts []string
	for _, actor := range r.TopActors(top) {
		texts = append(texts, fmt.Sprintf("%s (%d)", printableText(actor), r.Actors[actor]))
	}
	if n := len(r.Actors); n > top {
		texts = append(texts, fmt.Sprintf("%d more", n-top))
	}
	return strings.Join(texts, ", ")
}

// printableText keeps control characters of a name away from the terminal.
func printableText(s string) string {
	q := fmt.Sprintf("%q", s)
	return q[1 : len(q)-1]
}

func days(r *offline.RuleReport) string {
	const top = 7
	all := slices.Sorted(maps.Keys(r.Days))
	var texts []string
	for _, day := range all[max(0, len(all)-top):] {
		short := day
		if _, monthAndDay, ok := strings.Cut(day, "-"); ok {
			short = monthAndDay
		}
		texts = append(texts, fmt.Sprintf("%s: %d", short, r.Days[day]))
	}
	return strings.Join(texts, ", ")
}
