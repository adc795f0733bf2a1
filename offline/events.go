package offline

import (
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/auditmill/auditmill/enrich"
	"github.com/auditmill/auditmill/ingest/replay"
	"github.com/auditmill/auditmill/ingest/split"
	"github.com/auditmill/auditmill/internal/jsonscan"
	"github.com/auditmill/auditmill/schemas"
)

// Origin is where an event was read.
type Origin struct {
	File string
	Line int // from 1
}

// Bad is a piece of a file that is no event.
type Bad struct {
	Origin
	Reason, Detail string
}

func (b Bad) String() string { return fmt.Sprintf("%s:%d: %s: %s", b.File, b.Line, b.Reason, b.Detail) }

// Bounds of a batch of recorded events.
const (
	batchRows  = 8192
	batchBytes = 16 << 20
)

// ReadFiles calls yield for batches of the events of files, in their order, as they finally stand in audit.enriched.v1: with
// what is known of who and why, from the events themselves and from more. rows[i] says where row i comes from. The batch is
// valid until yield returns. bad is called for what is no event. The files are read twice.
func ReadFiles(
	ctx context.Context, paths []string, cluster string, more Context,
	yield func(batch arrow.RecordBatch, rows []Origin) error, bad func(Bad),
) error {
	sources, remove, err := twice(paths)
	if err != nil {
		return err
	}
	defer remove()
	l, err := more.learner(ctx, cluster)
	if err != nil {
		return err
	}
	for _, s := range sources {
		err := replay.ReadFile(s.path, func(item *split.Item, _ int) error {
			if item.Fault == nil || saysEvent(item) {
				l.event(item)
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	return readRows(ctx, sources, cluster, l.joiner().Join, yield, bad)
}

// ReadRows calls yield for batches of the events of files, with what each event tells of itself alone. It calls each for
// each event before it becomes a row of a batch. The event is valid until each returns.
func ReadRows(
	ctx context.Context, paths []string, cluster string, each func(*schemas.Event),
	yield func(batch arrow.RecordBatch, rows []Origin) error, bad func(Bad),
) error {
	sources := make([]source, len(paths))
	for i, path := range paths {
		sources[i] = source{path, path}
	}
	return readRows(ctx, sources, cluster, each, yield, bad)
}

func readRows(
	ctx context.Context, sources []source, cluster string, each func(*schemas.Event),
	yield func(batch arrow.RecordBatch, rows []Origin) error, bad func(Bad),
) error {
	r := reader{enrich: enrich.NewOffline(), builder: schemas.NewBuilder(), yield: yield}
	for _, s := range sources {
		err := replay.ReadFile(s.path, func(item *split.Item, line int) error {
			at := Origin{s.name, line}
			if item.Fault != nil && !saysEvent(item) {
				bad(Bad{at, item.Fault.Reason, item.Fault.Detail})
				return ctx.Err()
			}
			e, err := r.enrich.Event(cluster, item.Raw, &item.Fields, item.Damage)
			if err != nil {
				bad(Bad{at, "decode", err.Error()})
				return ctx.Err()
			}
			each(e)
			r.builder.Append(e)
			r.rows = append(r.rows, at)
			if r.builder.Rows() >= batchRows || r.builder.Bytes() >= batchBytes {
				if err := r.flush(); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	return r.flush()
}

// saysEvent reports whether an object that ingest would not take for an audit event calls itself one. Test data
// leaves out what the API server never does.
func saysEvent(item *split.Item) bool {
	if item.Fault.Reason != split.ReasonNotEvent || len(item.Raw) == 0 || item.Raw[0] != '{' {
		return false
	}
	kind, ok := jsonscan.Get(item.Raw, "kind")
	return ok && string(kind) == `"Event"`
}

type reader struct {
	enrich  *enrich.Offline
	builder *schemas.Builder
	rows    []Origin
	yield   func(arrow.RecordBatch, []Origin) error
}

func (r *reader) flush() error {
	if r.builder.Rows() == 0 {
		return nil
	}
	batch := r.builder.Batch()
	defer batch.Release()
	err := r.yield(batch, r.rows)
	r.builder.Reset()
	r.rows = r.rows[:0]
	return err
}
