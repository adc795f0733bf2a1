package offline

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// History gives the events of the past in batches, oldest first as far as its store keeps an order. origin says where a
// row comes from, for examples.
type History func(ctx context.Context, yield func(batch arrow.RecordBatch, origin func(row int) Origin) error) error

// Report says what a pack would have raised.
type Report struct {
	Events  int           `json:"events"`
	Bad     int           `json:"bad,omitempty"`
	From    time.Time     `json:"from"` // event_time of the first and the last event
	To      time.Time     `json:"to"`
	Matches int           `json:"matches"`
	Rules   []*RuleReport `json:"rules"` // those that would have fired, most first
	Notes   []string      `json:"notes,omitempty"`
}

// RuleReport says what one rule would have raised.
type RuleReport struct {
	Rule     string         `json:"rule"`
	RuleID   string         `json:"rule_id"`
	Severity string         `json:"severity"`
	Alerts   int            `json:"alerts"`
	Actors   map[string]int `json:"actors"` // by actor; those beyond the first MaxActors together as "(others)"
	Days     map[string]int `json:"days"`   // by day of event_time, UTC
	Examples []*Match       `json:"examples"`
}

// Bounds of a RuleReport.
const (
	MaxActors   = 1000
	MaxExamples = 3
	others      = "(others)"
	unknown     = "(unknown)"
)

func (r *RuleReport) add(m *Match, actor string) {
	r.Alerts++
	if _, known := r.Actors[actor]; !known && len(r.Actors) >= MaxActors {
		actor = others
	}
	r.Actors[actor]++
	day := unknown
	if !m.Time.IsZero() {
		day = m.Time.UTC().Format(time.DateOnly)
	}
	r.Days[day]++
	if len(r.Examples) < MaxExamples {
		r.Examples = append(r.Examples, m)
	}
}

// TopActors returns the n actors with the most alerts.
func (r *RuleReport) TopActors(n int) []string {
	actors := slices.SortedFunc(maps.Keys(r.Actors), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Actors[b], r.Actors[a]), cmp.Compare(a, b))
	})
	return actors[:min(n, len(actors))]
}

// Backtest evaluates packs on the same history in one pass, and returns a report for each. progress, if not nil, is called after
// each batch with the number of events so far.
func Backtest(ctx context.Context, history History, progress func(events int), packs ...*ir.Pack) ([]*Report, error) {
	runs := make([]*backtest, len(packs))
	for i, pack := range packs {
		engine, err := newEngine(pack)
		if err != nil {
			return nil, err
		}
		runs[i] = &backtest{engine: engine, byID: map[string]*RuleReport{}}
	}
	events := 0
	err := history(ctx, func(batch arrow.RecordBatch, origin func(int) Origin) error {
		for _, run := range runs {
			if err := run.batch(batch, origin); err != nil {
				return err
			}
		}
		events += int(batch.NumRows())
		if progress != nil {
			progress(events)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	reports := make([]*Report, len(runs))
	for i, run := range runs {
		if reports[i], err = run.end(); err != nil {
			return nil, err
		}
	}
	return reports, nil
}

type backtest struct {
	engine *engine
	report Report
	byID   map[string]*RuleReport
}

func (b *backtest) batch(batch arrow.RecordBatch, origin func(int) Origin) error {
	b.report.Events += int(batch.NumRows())
	for row := range int(batch.NumRows()) {
		if at := when(batch, row); !at.IsZero() {
			if b.report.From.IsZero() || at.Before(b.report.From) {
				b.report.From = at
			}
			if at.After(b.report.To) {
				b.report.To = at
			}
		}
	}
	return b.engine.batch(batch, origin, b.add)
}

func (b *backtest) add(f *found) error {
	r := b.byID[f.match.RuleID]
	if r == nil {
		r = &RuleReport{
			Rule: f.match.Rule, RuleID: f.match.RuleID, Severity: f.match.Severity,
			Actors: map[string]int{}, Days: map[string]int{},
		}
		b.byID[f.match.RuleID] = r
	}
	b.report.Matches++
	r.add(f.match, f.alert.Actor)
	return nil
}

func (b *backtest) end() (*Report, error) {
	if err := b.engine.end(b.add); err != nil {
		return nil, err
	}
	b.report.Rules = slices.SortedFunc(maps.Values(b.byID), func(a, c *RuleReport) int {
		return cmp.Or(cmp.Compare(c.Alerts, a.Alerts), cmp.Compare(a.RuleID, c.RuleID))
	})
	return &b.report, nil
}

// Difference is how the alerts of a rule differ between two reports.
type Difference struct {
	Rule   string `json:"rule"`
	RuleID string `json:"rule_id"`
	Before int    `json:"before"`
	After  int    `json:"after"`
}

// Diff returns the rules whose number of alerts differs, the largest change first.
func Diff(before, after *Report) []Difference {
	byID := map[string]*Difference{}
	at := func(r *RuleReport) *Difference {
		if byID[r.RuleID] == nil {
			byID[r.RuleID] = &Difference{Rule: r.Rule, RuleID: r.RuleID}
		}
		return byID[r.RuleID]
	}
	for _, r := range before.Rules {
		at(r).Before = r.Alerts
	}
	for _, r := range after.Rules {
		at(r).After = r.Alerts
	}
	var out []Difference
	for _, d := range byID {
		if d.Before != d.After {
			out = append(out, *d)
		}
	}
	change := func(d Difference) int { return max(d.After-d.Before, d.Before-d.After) }
	slices.SortFunc(out, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(change(b), change(a)), cmp.Compare(a.RuleID, b.RuleID))
	})
	return out
}

// Files is the history of recorded events. more is what is known beside them.
func Files(paths []string, cluster string, more Context, bad func(Bad)) History {
	return func(ctx context.Context, yield func(arrow.RecordBatch, func(int) Origin) error) error {
		return ReadFiles(ctx, paths, cluster, more, func(batch arrow.RecordBatch, rows []Origin) error {
			return yield(batch, func(row int) Origin { return rows[row] })
		}, bad)
	}
}
