package enrich

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	clusters "github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// A correction is a pass over rows that were written before something became known of their time. It reads
// audit.enriched.v1, works each row of the clusters in question out again, and writes those that are different with a higher
// version. It runs beside the enriching of new events, which does not wait for it; what it writes goes into the transactions
// of the service. Only one runs at a time, over all partitions that need it.
type correction struct {
	spans  map[int32]*span
	out    chan corrected // closed when the pass is over
	err    error          // valid then
	cancel context.CancelFunc
}

// span is what a pass has to do in one partition.
type span struct {
	since    map[string]int64 // by cluster, µs since 1970
	next     int64            // offset in audit.enriched.v1
	end      int64            // the first offset that is right already
	handled  uint64           // changes that are taken into account with this pass
	settled  settlement
	versions map[int64]int64 // of rows that were corrected before, by raw offset
}

// from returns from when on rows of a cluster may be wrong; false if none are.
func (s *span) from(cluster string) (since int64, ok bool) {
	since, ok = s.since[cluster]
	// That counts for each cluster, also for those that affected does not know.
	if all, told := s.since[clusters.Organization]; told && (!ok || all < since) {
		return all, true
	}
	return since, ok
}

// corrected is one record with rows that a pass has written anew.
type corrected struct {
	partition int32
	record    *kgo.Record
	newest    int64 // event_time, µs since 1970
	versions  map[int64]int64
}

// reach is how much earlier than a change rows may be different: they are explained by a state of shortly after, if only
// that agrees with the API server.
const reach = time.Second

// rest is how much longer than the last pass the pause before the next one is: changes that never end must not take more than
// their part of the processor.
const rest = 3

// skew is by how much the clock of an API server may be ahead of ours.
const skew = time.Minute

// correct starts a pass if something became known late, and returns the records that the running one has ready.
func (s *Service) correct(ctx context.Context, owned map[int32]bool) ([]corrected, error) {
	if s.pass == nil && time.Since(s.passed) >= max(s.cfg.CorrectInterval, rest*s.lasted) {
		if err := s.startPass(ctx, owned); err != nil {
			return nil, err
		}
	}
	if s.pass == nil {
		return nil, nil
	}
	var ready []corrected
	for {
		select {
		case c, open := <-s.pass.out:
			if !open {
				s.endPass()
				return ready, nil
			}
			ready = append(ready, c)
		default:
			return ready, nil
		}
	}
}

// startPass starts a pass over the partitions whose rows may be wrong.
func (s *Service) startPass(ctx context.Context, owned map[int32]bool) error {
	spans, tooLate := map[int32]*span{}, map[string]bool{}
	for number := range owned {
		p := s.partition(number)
		settled := s.settlement() // before the changes are counted: none of them may be missing
		news, upTo := s.known.after(p.handled)
		since, late := p.affected(news, s.cfg.CorrectWithin)
		maps.Copy(tooLate, late)
		if len(since) == 0 {
			p.handled, p.settled, p.took = upTo, settled, nil
			continue
		}
		spans[number] = &span{since: since, handled: upTo, settled: settled, versions: maps.Clone(p.versions)}
	}
	s.passed = time.Now()
	if len(spans) == 0 {
		return nil
	}
	s.tooLate(slices.Sorted(maps.Keys(tooLate)))
	if err := s.locate(ctx, spans); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	s.pass = &correction{spans: spans, out: make(chan corrected, 16), cancel: cancel}
	go s.pass.run(ctx, s)
	return nil
}

// tooLate notes that something became known so late that not all rows of clusters are corrected, if they have older ones.
func (s *Service) tooLate(names []string) {
	if len(names) == 0 {
		return
	}
	s.metrics.tooLate.Add(float64(len(names)))
	s.deps.Logger.Warn("something became known of times so long ago that rows from then stay as they are; enrich.correct_within says how far back rows are corrected",
		"clusters", names[:min(len(names), 10)], "correct_within", s.cfg.CorrectWithin.String())
}

// endPass takes note that a pass is over; its records are in ready of correct.
func (s *Service) endPass() {
	pass := s.pass
	s.pass = nil
	pass.cancel()
	s.lasted, s.passed = time.Since(s.passed), time.Now()
	if pass.err != nil {
		if !errors.Is(pass.err, context.Canceled) {
			s.deps.Logger.Warn("correcting rows is repeated", "err", pass.err)
		}
		return // what it was about is still unhandled
	}
	for number, span := range pass.spans {
		if p := s.partitions[number]; p != nil {
			p.handled, p.settled, p.took = span.handled, span.settled, nil
		}
	}
}

// dropPass ends a pass whose records may not have been written. It begins anew.
func (s *Service) dropPass() {
	if s.pass == nil {
		return
	}
	s.pass.cancel()
	for range s.pass.out { // until its goroutine has ended
	}
	s.pass = nil
}

// touches says whether the pass has to do with one of these partitions.
func (c *correction) touches(numbers []int32) bool {
	return c != nil && slices.ContainsFunc(numbers, func(n int32) bool { return c.spans[n] != nil })
}

// touchesOthers says whether the pass has to do with partitions that are not ours.
func (c *correction) touchesOthers(owned map[int32]bool) bool {
	if c == nil {
		return false
	}
	for number := range c.spans {
		if !owned[number] {
			return true
		}
	}
	return false
}

// locate sets where each span begins and ends in audit.enriched.v1.
func (s *Service) locate(ctx context.Context, spans map[int32]*span) error {
	adm := kadm.NewClient(s.client)
	var unsure []int32 // with records that batches do not know
	var oldest int64 = math.MaxInt64
	for number, span := range spans {
		p := s.partitions[number]
		first := slices.Min(slices.Collect(maps.Values(span.since))) - reach.Microseconds()
		if span.next, span.end = p.batches.from(first); !p.batches.complete {
			unsure, oldest = append(unsure, number), min(oldest, first-skew.Microseconds())
		}
	}
	if len(unsure) == 0 {
		return nil
	}
	begins, err := adm.ListOffsetsAfterMilli(ctx, max(0, oldest/1000), schemas.TopicEnriched)
	if err == nil {
		err = begins.Error()
	}
	var ends kadm.ListedOffsets
	if err == nil {
		if ends, err = adm.ListCommittedOffsets(ctx, schemas.TopicEnriched); err == nil {
			err = ends.Error()
		}
	}
	if err != nil {
		if kafka.Fatal(err) {
			return fmt.Errorf("looking for rows to correct in %s: %w", schemas.TopicEnriched, err)
		}
		clear(spans) // at the next opportunity
		s.deps.Logger.Warn("cannot look for rows to correct, trying again", "topic", schemas.TopicEnriched, "err", err)
		return nil
	}
	for _, number := range unsure {
		begin, _ := begins.Lookup(schemas.TopicEnriched, number)
		end, _ := ends.Lookup(schemas.TopicEnriched, number)
		span := spans[number]
		switch {
		case begin.Offset < 0:
			span.next = max(span.end, end.Offset)
		case !s.partitions[number].batches.know(begin.Offset):
			span.next = begin.Offset
		}
		span.end = max(span.end, end.Offset)
	}
	return nil
}

// run is the goroutine of a pass.
func (c *correction) run(ctx context.Context, s *Service) {
	defer close(c.out)
	c.err = c.read(ctx, s)
}

func (c *correction) read(ctx context.Context, s *Service) error {
	from := map[int32]kgo.Offset{}
	for number, span := range c.spans {
		if span.next < span.end {
			from[number] = kgo.NewOffset().At(span.next)
		}
	}
	if len(from) == 0 {
		return nil
	}
	client, err := kafka.NewClient(s.deps.Kafka,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{schemas.TopicEnriched: from}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.KeepControlRecords()) // the last record may be the marker of a transaction
	if err != nil {
		return err
	}
	defer client.Close()
	w := newRewriter(s)
	for done := map[int32]bool{}; len(done) < len(from); {
		fetches := client.PollRecords(ctx, 16) // each has up to 8,192 rows
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.check(fetches); err != nil {
			return err
		}
		for r := range fetches.RecordsAll() {
			span := c.spans[r.Partition]
			if done[r.Partition] {
				continue
			}
			if r.Offset < span.end && !r.Attrs.IsControl() {
				if err := w.record(ctx, c, r, span); err != nil {
					return err
				}
			}
			// The last record may be of an aborted transaction and not be seen: what comes behind it tells as well.
			if r.Offset >= span.end-1 {
				if err := w.flush(ctx, c, r.Partition); err != nil {
					return err
				}
				client.PauseFetchPartitions(map[string][]int32{schemas.TopicEnriched: {r.Partition}})
				done[r.Partition] = true
			}
		}
	}
	return nil
}

// rewriter works rows out again.
type rewriter struct {
	reader    *schemas.Reader
	compare   *schemas.Comparer
	transform *transformer
	building  map[int32]*rewritten
	cfg       *Config
	metrics   *metrics
}

type rewritten struct {
	builder  *schemas.Builder
	newest   int64
	versions map[int64]int64
}

func newRewriter(s *Service) *rewriter {
	w := &rewriter{
		reader: schemas.NewReader(), compare: schemas.NewComparer(), transform: newTransformer(),
		building: map[int32]*rewritten{}, cfg: &s.cfg, metrics: s.metrics,
	}
	w.transform.join = NewJoiner(s.known.store, s.places)
	return w
}

// record looks at the rows of one record.
func (w *rewriter) record(ctx context.Context, c *correction, r *kgo.Record, span *span) error {
	batch, err := w.reader.Open(r.Value)
	if err != nil {
		return fmt.Errorf("reading %s/%d at offset %d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	names := schemas.ColumnArray(batch.RecordBatch, "cluster")
	times, ok := schemas.ColumnArray(batch.RecordBatch, "event_time").(*array.Timestamp)
	if names == nil || !ok {
		return fmt.Errorf("reading %s/%d at offset %d: no columns cluster and event_time", r.Topic, r.Partition, r.Offset)
	}
	for row := range int(batch.NumRows()) {
		since, ok := span.from(schemas.Text(names, row))
		if !ok || times.IsNull(row) || int64(times.Value(row)) < since-reach.Microseconds() {
			continue
		}
		if err := w.row(batch, row, span); err != nil {
			return fmt.Errorf("correcting row %d of %s/%d at offset %d: %w", row, r.Topic, r.Partition, r.Offset, err)
		}
		b := w.building[r.Partition]
		if b != nil && (b.builder.Rows() >= w.cfg.MaxRows || b.builder.Bytes() >= int(w.cfg.MaxBytes)) {
			if err := w.flush(ctx, c, r.Partition); err != nil {
				return err
			}
		}
	}
	return nil
}

// row works a row out and keeps it if it is different.
func (w *rewriter) row(batch *schemas.Batch, row int, span *span) error {
	origin, err := schemas.OriginOf(batch.RecordBatch, row)
	if err != nil {
		return err
	}
	if origin.Version < span.versions[origin.RawOffset] {
		return nil // there is a later one
	}
	raw, err := batch.Raw(row)
	if err != nil {
		return err
	}
	h := headers{cluster: origin.Cluster, source: origin.Source, received: origin.ReceivedAt}
	e, err := w.transform.event(raw, &h, origin.EventID, origin.Fingerprint)
	if err != nil {
		return err
	}
	e.Damage, e.RawPartition, e.RawOffset = origin.Damage, origin.RawPartition, origin.RawOffset
	column := w.compare.Differs(batch.RecordBatch, row, e)
	if column == "" {
		return nil
	}
	e.Version = max(time.Now().UnixMicro(), origin.Version+1)
	b := w.building[origin.RawPartition]
	if b == nil {
		b = &rewritten{builder: schemas.NewBuilder(), versions: map[int64]int64{}}
		w.building[origin.RawPartition] = b
	}
	b.builder.Append(e)
	b.newest = max(b.newest, e.EventTime)
	b.versions[origin.RawOffset] = e.Version
	w.metrics.corrected.WithLabelValues(column).Inc()
	return nil
}

// flush hands on what was written of a partition so far.
func (w *rewriter) flush(ctx context.Context, c *correction, partition int32) error {
	b := w.building[partition]
	if b == nil || b.builder.Rows() == 0 {
		return nil
	}
	record := enrichedRecord(b.builder, partition)
	select {
	case c.out <- corrected{partition: partition, record: record, newest: b.newest, versions: b.versions}:
	case <-ctx.Done():
		return ctx.Err()
	}
	b.versions, b.newest = map[int64]int64{}, 0
	return nil
}
