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

// Recorded is the history of the same events in each of some clusters, one cluster after the other.
func Recorded(events [][]byte, clusters ...string) History {
	return func(ctx context.Context, yield func(arrow.RecordBatch, func(int) Origin) error) error {
		for _, cluster := range clusters {
			builder, decoder := schemas.NewBuilder(), enrich.NewOffline()
			var splitter split.Splitter
			flush := func() error {
				batch := builder.Batch()
				defer batch.Release()
				err := yield(batch, func(row int) Origin { return Origin{File: cluster, Line: row + 1} })
				builder.Reset()
				return err
			}
			for _, event := range events {
				var failed error
				splitter.Split(event, func(item *split.Item) bool {
					if item.Fault != nil {
						return true
					}
					row, err := decoder.Event(cluster, item.Raw, &item.Fields, item.Damage)
					if err != nil {
						failed = err
						return false
					}
					builder.Append(row)
					return true
				})
				if failed == nil && builder.Rows() >= batchRows {
					failed = flush()
				}
				if failed != nil {
					return failed
				}
			}
			if err := flush(); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	}
}
