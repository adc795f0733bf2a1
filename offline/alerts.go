package offline

import (
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/enrich"
	"github.com/auditmill/auditmill/ingest/split"
	"github.com/auditmill/auditmill/schemas"
)

// Alerts are what a pack raises on a history, by id. The services raise the same, with the same ids.
type Alerts struct {
	// Arrived are those that are raised as soon as their events are there, and so do not depend on what comes when.
	Arrived map[string]schemas.Alert
	// Decided are those that wait until nothing earlier can come any more.
	Decided map[string]schemas.Alert
}

// Raise evaluates a pack on a history.
func Raise(ctx context.Context, pack *ir.Pack, history History) (*Alerts, error) {
	engine, err := newEngine(pack)
	if err != nil {
		return nil, err
	}
	waits := map[string]bool{}
	for i := range pack.Correlations {
		waits[pack.Correlations[i].ID] = !OnArrival(&pack.Correlations[i])
	}
	out := &Alerts{Arrived: map[string]schemas.Alert{}, Decided: map[string]schemas.Alert{}}
	add := func(f *found) error { //nolint:unparam // the engine allows an error
		if waits[f.alert.Rule] {
			out.Decided[f.alert.ID] = *f.alert
		} else {
			out.Arrived[f.alert.ID] = *f.alert
		}
		return nil
	}
	err = history(ctx, func(batch arrow.RecordBatch, origin func(int) Origin) error { return engine.batch(batch, origin, add) })
	if err == nil {
		err = engine.end(add)
	}
	return out, err
}

// OnArrival reports whether more events can only make a correlation true, so that it need not wait.
func OnArrival(c *ir.Correlation) bool {
	switch c.Type {
	case ir.EventCount, ir.ValueCount, ir.ValueSum, ir.Temporal, ir.TemporalOrdered:
		return !slices.ContainsFunc(c.Condition, func(b ir.Bound) bool {
			return b.Relation != ir.Greater && b.Relation != ir.GreaterOrEqual
		})
	default:
		return false
	}
}

// Recorded is the history of the same events in each of some clusters, one cluster after the other, with what is known of
// them in the end. more is what is known beside the events.
func Recorded(events [][]byte, more Context, clusters ...string) History {
	return func(ctx context.Context, yield func(arrow.RecordBatch, func(int) Origin) error) error {
		for _, cluster := range clusters {
			if err := recorded(ctx, events, more, cluster, yield); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	}
}

func recorded(
	ctx context.Context, events [][]byte, more Context, cluster string, yield func(arrow.RecordBatch, func(int) Origin) error,
) error {
	l, err := more.learner(ctx, cluster)
	if err != nil {
		return err
	}
	err = eachItem(events, func(_ int, item *split.Item) error {
		l.event(item)
		return nil
	})
	if err != nil {
		return err
	}
	builder, decoder, joiner := schemas.NewBuilder(), enrich.NewOffline(), l.joiner()
	var lines []int
	flush := func() error {
		batch := builder.Batch()
		defer batch.Release()
		err := yield(batch, func(row int) Origin { return Origin{File: cluster, Line: lines[row]} })
		builder.Reset()
		lines = lines[:0]
		return err
	}
	err = eachItem(events, func(line int, item *split.Item) error {
		row, err := decoder.Event(cluster, item.Raw, &item.Fields, item.Damage)
		if err != nil {
			return err
		}
		joiner.Join(row)
		builder.Append(row)
		lines = append(lines, line)
		if builder.Rows() >= batchRows {
			return flush()
		}
		return nil
	})
	if err != nil || builder.Rows() == 0 {
		return err
	}
	return flush()
}

// eachItem calls yield for what is an event, with its line, from 1.
func eachItem(events [][]byte, yield func(line int, item *split.Item) error) (failed error) {
	var splitter split.Splitter
	for i, event := range events {
		splitter.Split(event, func(item *split.Item) bool {
			if item.Fault == nil {
				failed = yield(i+1, item)
			}
			return failed == nil
		})
		if failed != nil {
			return failed
		}
	}
	return nil
}
