package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/alert/notify"
	"github.com/auditmill/auditmill/internal/conf"
)

// silenceWait bounds how long a command waits for Kafka.
const silenceWait = 30 * time.Second

func newSilence(o *options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "silence",
		Short: "Keep alerts from being posted for a while, or acknowledge them",
		Long: `List, add and expire silences, and acknowledge groups of alerts. What is silenced is not posted; it is raised, counted and
loaded all the same, and what is new when the silence ends is told then. Silences are kept in audit.silences.v1. Each change is
an alert itself (rule auditmill.silence), which cannot be silenced.

Exit status: 0 done; 1 Kafka does not answer, or there is no such silence; 2 what was asked for is faulty.`,
		Example: `  auditmill silence list
  auditmill silence add --namespace staging --severity low --for 4h --comment "load test"
  auditmill silence expire 5c0e0a5f2d6b4c1d9a7e3b8f00112233
  auditmill silence ack 0f1e2d3c4b5a69788796a5b4c3d2e1f0 --comment "on it"`,
	}
	cmd.AddCommand(newSilenceList(o), newSilenceAdd(o), newSilenceExpire(o), newSilenceAck(o))
	return cmd
}

// withSilences connects to Kafka for the time of do.
func withSilences(cmd *cobra.Command, o *options, do func(context.Context, *notify.Silences) error) error {
	cfg, err := o.load("kafka")
	if err != nil {
		return err
	}
	silences, err := notify.NewSilences(cfg.Kafka)
	if err != nil {
		return err
	}
	defer silences.Close()
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, silenceWait)
	defer cancel()
	if err := silences.Ready(ctx); err != nil {
		return err
	}
	return do(ctx, silences)
}

// silenceFlags are those of the commands that change something.
type silenceFlags struct {
	by, comment string
	asJSON      bool
}

func (f *silenceFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.by, "by", os.Getenv("USER"), "`name` of who does this; without it that of the account, $USER")
	cmd.Flags().StringVar(&f.comment, "comment", "", "`text` that says why")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	// The documentation is generated on any machine.
	cmd.Flags().Lookup("by").DefValue = ""
}

func (f *silenceFlags) check() error {
	if strings.TrimSpace(f.by) == "" {
		return &usageError{errors.New("--by: is needed where $USER is not set: it is recorded who did this")}
	}
	return nil
}

// periodFlags say until when.
type periodFlags struct{ length, until string }

func (f *periodFlags) add(cmd *cobra.Command, length, usage string) {
	cmd.Flags().StringVar(&f.length, "for", length, usage)
	cmd.Flags().StringVar(&f.until, "until", "", "`time` of the end, like 2026-03-01T18:00:00Z, instead of --for")
}

func (f *periodFlags) end(cmd *cobra.Command, from time.Time) (time.Time, error) {
	if f.until != "" {
		if cmd.Flags().Changed("for") {
			return time.Time{}, &usageError{errors.New("--until: must not be given together with --for")}
		}
		return parseTime("--until", f.until)
	}
	if f.length == "" {
		return time.Time{}, &usageError{errors.New("--for: is needed, or --until")}
	}
	d, err := conf.ParseDuration(f.length)
	if err != nil {
		return time.Time{}, &usageError{fmt.Errorf("--for: %w", err)}
	}
	return from.Add(d), nil
}

func parseTime(flag, text string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, &usageError{fmt.Errorf("%s %q: write the time like 2026-03-01T18:00:00Z or 2026-03-01T18:00:00+01:00", flag, text)}
	}
	return at, nil
}

func newSilenceList(o *options) *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List silences and acknowledgements",
		Long:  "List the silences and acknowledgements that hold or will, the latest to end first; with --all those that ended, too.",
		Example: `  auditmill silence list
  auditmill silence list --all --json | jq -r 'select(.kind == "maintenance").comment'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withSilences(cmd, o, func(ctx context.Context, s *notify.Silences) error {
				found, err := s.List(ctx)
				if err != nil {
					return err
				}
				now := time.Now()
				var shown []notify.Silence
				for i := range found {
					if all || now.Before(found[i].Until) {
						shown = append(shown, found[i])
					}
				}
				return printSilences(cmd.OutOrStdout(), shown, asJSON, now)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "those that ended, too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON lines, with all that was done to each")
	return cmd
}

func printSilences(out io.Writer, silences []notify.Silence, asJSON bool, now time.Time) error {
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		for i := range silences {
			if err := encoder.Encode(&silences[i]); err != nil {
				return fmt.Errorf("printing: %w", err)
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKIND\tSTATE\tFROM\tUNTIL\tBY\tMATCHES\tCOMMENT")
	for i := range silences {
		s := &silences[i]
		state := "active"
		switch {
		case !now.Before(s.Until):
			state = "ended"
		case now.Before(s.From):
			state = "planned"
		}
		// Whoever wrote the record chose its texts.
		short := func(text string) string { return notify.Printable(text, 100) }
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", short(s.ID), short(s.Kind), state,
			s.From.UTC().Format(time.RFC3339), s.Until.UTC().Format(time.RFC3339), short(s.Author), s.Match, short(s.Comment))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

func newSilenceAdd(o *options) *cobra.Command {
	var f silenceFlags
	var period periodFlags
	var match notify.SilenceMatch
	var from string
	cmd := &cobra.Command{
		Use:   "add",
		Short: "Keep alerts from being posted for a while",
		Long: `Keep alerts from being posted for a while. All matchers that are given must match; of one that is given several times any
value. A value may hold * for any characters and ? for one. With --from it is a maintenance window, which begins then.`,
		Example: `  auditmill silence add --rule pod-exec --actor 'alice@*' --for 4h --comment "debugging the checkout"
  auditmill silence add --cluster prod-eu --from 2026-03-01T18:00:00Z --for 2h --comment "upgrade of the control plane"`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			start, kind := time.Now(), notify.KindSilence
			if from != "" {
				kind = notify.KindMaintenance
				var err error
				if start, err = parseTime("--from", from); err != nil {
					return err
				}
			}
			until, err := period.end(cmd, start)
			if err != nil {
				return err
			}
			return addSilence(cmd, o, &f, notify.Silence{Kind: kind, Match: match, From: start, Until: until})
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&match.Rules, "rule", nil, "`id` of the rule; may be repeated, as all matchers")
	flags.StringArrayVar(&match.Severities, "severity", nil, "`severity` of the group: critical, high, medium, low or informational")
	flags.StringArrayVar(&match.Clusters, "cluster", nil, "`name` of the cluster")
	flags.StringArrayVar(&match.Actors, "actor", nil, "`name` of the actor")
	flags.StringArrayVar(&match.Namespaces, "namespace", nil, "`name` of the namespace")
	flags.StringArrayVar(&match.Tags, "tag", nil, "`tag` of the rule")
	flags.StringVar(&match.Group, "group", "", "`id` of one group of alerts, as its message shows it")
	flags.StringVar(&from, "from", "", "`time` of the beginning, like 2026-03-01T18:00:00Z; now without it")
	period.add(cmd, "", "`time` that it holds, like 4h or 7d, a year at most")
	f.add(cmd)
	complete(cmd, "severity", "critical", "high", "medium", "low", "informational")
	return cmd
}

func newSilenceAck(o *options) *cobra.Command {
	var f silenceFlags
	var period periodFlags
	cmd := &cobra.Command{
		Use:   "ack GROUP",
		Short: "Say that somebody knows of a group of alerts",
		Long: `Acknowledge a group of alerts: its message says who knows and is changed when more come in, but the group is not news until the
acknowledgement ends. GROUP is the id of the group, as its message shows it.`,
		Example: `  auditmill silence ack 0f1e2d3c4b5a69788796a5b4c3d2e1f0
  auditmill silence ack 0f1e2d3c4b5a69788796a5b4c3d2e1f0 --for 3d --comment "waiting for the vendor"`,
		Args: oneID("group"),
		RunE: func(cmd *cobra.Command, args []string) error {
			start := time.Now()
			until, err := period.end(cmd, start)
			if err != nil {
				return err
			}
			return addSilence(cmd, o, &f, notify.Silence{
				Kind: notify.KindAcknowledgement, Match: notify.SilenceMatch{Group: args[0]}, From: start, Until: until,
			})
		},
	}
	period.add(cmd, "24h", "`time` that it holds, like 4h or 7d")
	f.add(cmd)
	return cmd
}

// addSilence writes a silence and prints its id.
func addSilence(cmd *cobra.Command, o *options, f *silenceFlags, silence notify.Silence) error {
	if err := f.check(); err != nil {
		return err
	}
	silence.Author, silence.Comment = f.by, f.comment
	if err := silence.Validate(); err != nil {
		return &usageError{err}
	}
	if !time.Now().Before(silence.Until) {
		return &usageError{fmt.Errorf("until: is over: %s", silence.Until.UTC().Format(time.RFC3339))}
	}
	return withSilences(cmd, o, func(ctx context.Context, s *notify.Silences) error {
		added, err := s.Add(ctx, silence, "cli")
		if err != nil {
			return err
		}
		return printSilence(cmd.OutOrStdout(), &added, f.asJSON, "until")
	})
}

func newSilenceExpire(o *options) *cobra.Command {
	var f silenceFlags
	cmd := &cobra.Command{
		Use:   "expire ID",
		Short: "End a silence or an acknowledgement now",
		Long:  "End a silence or an acknowledgement now. What it held back is told. One that has ended stays as it is.",
		Example: `  auditmill silence expire 5c0e0a5f2d6b4c1d9a7e3b8f00112233
  auditmill silence expire 5c0e0a5f2d6b4c1d9a7e3b8f00112233 --by carol --comment "nobody knew of it"`,
		Args: oneID("silence"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return withSilences(cmd, o, func(ctx context.Context, s *notify.Silences) error {
				expired, err := s.Expire(ctx, args[0], f.by, "cli", f.comment)
				if errors.Is(err, notify.ErrNoSilence) {
					return fmt.Errorf("%w; 'auditmill silence list --all' shows all", err)
				}
				if err != nil {
					return err
				}
				return printSilence(cmd.OutOrStdout(), &expired, f.asJSON, "ended")
			})
		},
	}
	f.add(cmd)
	return cmd
}

func printSilence(out io.Writer, s *notify.Silence, asJSON bool, what string) error {
	if asJSON {
		return printSilences(out, []notify.Silence{*s}, true, time.Time{})
	}
	_, err := fmt.Fprintf(out, "%s  %s of %s, %s %s\n", s.ID, s.Kind, cmp.Or(s.Match.String(), "nothing"), what, s.Until.UTC().Format(time.RFC3339))
	if err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	return nil
}

// oneID takes one argument, with our exit code for others.
func oneID(of string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 || strings.TrimSpace(args[0]) == "" {
			return &usageError{fmt.Errorf("name the id of one %s; see '%s --help'", of, cmd.CommandPath())}
		}
		return nil
	}
}
