package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/auditmill/auditmill/ingest/replay"
	"github.com/auditmill/auditmill/internal/conf"
)

func newReplay(*options) *cobra.Command {
	cfg := replay.DefaultConfig()
	var tokenFile string
	cmd := &cobra.Command{
		Use:   "replay FILE...",
		Short: "Send recorded audit events to a webhook, as an API server would",
		Long: `Send the events of files (JSON lines or EventLists, plain or gzip) in EventLists, repeat what is not accepted, and count
what is. Lines that are no events are named on standard error and not sent. Exit status 0 if every event was accepted.`,
		Example: `  auditmill replay audit.log audit-2026-03-01.log.gz --url https://auditmill:8443 --token-file token --cluster prod
  auditmill replay sample.jsonl.gz --url http://127.0.0.1:8080 --cluster test --rate 1000`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{errors.New("name at least one file; see 'auditmill replay --help'")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if tokenFile != "" {
				token, err := os.ReadFile(tokenFile)
				if err != nil {
					return fmt.Errorf("reading the token: %w", err)
				}
				cfg.Token = conf.Secret(strings.TrimSpace(string(token)))
			}
			if err := cfg.Validate(); err != nil {
				return &usageError{err}
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			out := cmd.ErrOrStderr()
			progress := newProgress(out)
			cfg.Progress = progress.show
			cfg.Report = func(b replay.Bad) { progress.say(b.String()) }
			start := time.Now()
			counts, err := replay.Files(ctx, cfg, args...)
			progress.end()
			took := time.Since(start)
			fmt.Fprintf(out, "%d events accepted in %d batches (%d sent again), %.1f MB in %s, %.0f events/s; %d pieces were no events\n",
				counts.Accepted, counts.Batches, counts.Retried, float64(counts.Bytes)/1e6, took.Round(time.Millisecond),
				float64(counts.Accepted)/took.Seconds(), counts.Bad)
			if err == nil && counts.Bad > 0 {
				return fmt.Errorf("%d pieces were no events and have not been sent", counts.Bad)
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.URL, "url", "", "`URL` of the webhook; without a path, /v1/audit and the cluster are appended")
	flags.StringVar(&tokenFile, "token-file", "", "`file` that holds the bearer token")
	flags.StringVar(&cfg.Cluster, "cluster", "", "`name` of the cluster, for the path")
	flags.Float64Var(&cfg.Rate, "rate", 0, "most `events` per second; 0: as fast as they are accepted")
	flags.IntVar(&cfg.BatchSize, "batch", cfg.BatchSize, "most `events` of one POST")
	flags.IntVar(&cfg.Concurrency, "concurrency", cfg.Concurrency, "POSTs at the same time")
	flags.DurationVar(&cfg.GiveUp, "give-up", cfg.GiveUp, "`time` after which a batch that is not accepted ends the replay")
	flags.BoolVar(&cfg.AsIs, "as-is", false, "keep kind and apiVersion of events, which the webhook of an API server leaves out")
	return cmd
}

// progress draws a line that is overwritten on a terminal, and writes one every five
// seconds elsewhere.
type progress struct {
	out   io.Writer
	tty   bool
	start time.Time
	last  time.Time
	drawn bool
}

func newProgress(out io.Writer) *progress {
	f, ok := out.(*os.File)
	now := time.Now()
	return &progress{out: out, tty: ok && term.IsTerminal(int(f.Fd())), start: now, last: now}
}

func (p *progress) show(c replay.Counts) {
	every := 5 * time.Second
	if p.tty {
		every = 100 * time.Millisecond
	}
	now := time.Now()
	if now.Sub(p.last) < every {
		return
	}
	p.last = now
	line := fmt.Sprintf("%d events accepted, %.0f/s, %d batches sent again",
		c.Accepted, float64(c.Accepted)/now.Sub(p.start).Seconds(), c.Retried)
	if p.tty {
		fmt.Fprint(p.out, "\r\x1b[K", line)
		p.drawn = true
		return
	}
	fmt.Fprintln(p.out, line)
}

func (p *progress) say(line string) {
	p.end()
	fmt.Fprintln(p.out, line)
}

func (p *progress) end() {
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.drawn = false
	}
}
