package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// errStopped says that the partition is to be given away.
var errStopped = errors.New("the partition is given away")

// partition is the work on one partition while this instance owns it. One goroutine, run, takes
// records off the queue in ranges; the poll loop adds to it.
type partition struct {
	topicPartition
	service *Service
	sink    sink
	source  string
	pending *span // found when the partition was assigned

	quit   chan struct{}      // closed: begin nothing new
	cancel context.CancelFunc // abandons what runs
	done   chan struct{}      // closed when run has returned

	mu        sync.Mutex // guards what follows
	queue     []item
	bytes     int // of the records in queue
	paused    bool
	replaying bool
	highWater int64
	next      int64         // the offset after the last record that is done
	more      chan struct{} // has a token when queue has grown
}

// item is a record on its way.
type item struct {
	record *kgo.Record
	came   time.Time
	frame  schemas.Frame // of an event record
	rows   int
	bytes  int   // that the insert takes
	bad    error // why the record can only go to the dead-letter topic

	corrections bool // whether some rows may correct earlier ones
}

func newPartition(s *Service, key topicPartition, source string, pending *span) *partition {
	return &partition{
		topicPartition: key, service: s, sink: s.sinks[key.topic], source: source, pending: pending, next: -1,
		replaying: pending != nil,
		quit:      make(chan struct{}), done: make(chan struct{}), more: make(chan struct{}, 1),
	}
}

// add queues records. An error is fatal: a record that this build must not guess at.
func (p *partition) add(ctx context.Context, records []*kgo.Record, highWater int64) error {
	now := time.Now()
	items := make([]item, 0, len(records))
	for _, record := range records {
		it, err := p.sink.prepare(ctx, record)
		if err != nil {
			return fmt.Errorf("reading %s partition %d offset %d: %w", p.topic, p.id, record.Offset, err)
		}
		it.record, it.came = record, now
		items = append(items, it)
		p.service.metrics.stage.In.Add(float64(it.rows))
		p.service.metrics.stage.BytesIn.Add(float64(len(record.Value)))
	}
	limit := p.service.share()
	p.mu.Lock()
	defer p.mu.Unlock()
	added := 0
	for _, it := range items {
		added += len(it.record.Value)
	}
	p.queue = append(p.queue, items...)
	p.bytes += added
	p.highWater = highWater
	p.service.metrics.buffered.Add(float64(added))
	// A range to be repeated may be larger than the share is now, and must come whole.
	if p.bytes >= limit && !p.paused && !p.replaying {
		p.paused = true
		p.service.metrics.paused.Inc()
		p.service.client.PauseFetchPartitions(map[string][]int32{p.topic: {p.id}})
	}
	select {
	case p.more <- struct{}{}:
	default:
	}
	return nil
}

// remove takes n items off the queue, whose effect has happened.
func (p *partition) remove(n int) {
	limit := p.service.share()
	p.mu.Lock()
	defer p.mu.Unlock()
	removed := 0
	for _, it := range p.queue[:n] {
		removed += len(it.record.Value)
	}
	p.next = p.queue[n-1].record.Offset + 1
	clear(p.queue[:n]) // lets go of the records
	p.queue = p.queue[n:]
	p.bytes -= removed
	p.service.metrics.buffered.Sub(float64(removed))
	if p.paused && p.bytes < limit/2 {
		p.unpause()
	}
}

func (p *partition) unpause() {
	p.paused = false
	p.service.metrics.paused.Dec()
	p.service.client.ResumeFetchPartitions(map[string][]int32{p.topic: {p.id}})
}

// drop forgets the queue of a partition that was given away.
func (p *partition) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.service.metrics.buffered.Sub(float64(p.bytes))
	p.queue, p.bytes = nil, 0
	if p.paused {
		p.unpause()
	}
}

func (p *partition) lag() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next < 0 {
		return int64(len(p.queue))
	}
	// The end of a transaction takes an offset of its own, which is no record.
	if len(p.queue) == 0 && p.highWater-p.next <= 1 {
		return 0
	}
	return max(0, p.highWater-p.next)
}

// run inserts range after range until the partition is given away.
func (p *partition) run(ctx context.Context) {
	defer close(p.done)
	err := p.replay(ctx)
	for err == nil {
		err = p.step(ctx)
	}
	if ctx.Err() == nil && !errors.Is(err, errStopped) {
		p.service.fail(fmt.Errorf("loading %s partition %d: %w", p.topic, p.id, err))
	}
}

// replay repeats the insert that was pending when the partition came here: exactly its records,
// even if more have come since.
func (p *partition) replay(ctx context.Context) error {
	if p.pending == nil {
		return nil
	}
	s := *p.pending
	for {
		if n, ok := p.covers(s); ok {
			p.mu.Lock()
			p.replaying = false
			p.mu.Unlock()
			return p.replayItems(ctx, s, p.items(n))
		}
		if err := p.waitMore(ctx, nil); err != nil {
			return err
		}
	}
}

func (p *partition) replayItems(ctx context.Context, s span, items []item) error {
	p.service.metrics.replays.Inc()
	rows := 0
	for _, it := range items {
		rows += it.rows
	}
	p.service.log.Info("repeating the insert that was pending", "topic", p.topic, "partition", p.id,
		"offset", s.first, "rows", rows)
	if rows != s.rows {
		p.service.metrics.missing.Add(float64(max(0, s.rows-rows)))
		p.service.log.Error("kafka no longer has all records of a pending insert", "topic", p.topic,
			"partition", p.id, "offset", s.first, "rows", rows, "want_rows", s.rows)
		s.careful = true
	}
	if time.Since(s.started) > p.service.cfg.TrustDedup {
		s.careful = true
	}
	if len(items) == 0 {
		return p.commit(ctx, s.last+1, "")
	}
	return p.finish(ctx, &s, items)
}

// covers reports whether the queue has all of a span, and how many items of it.
func (p *partition) covers(s span) (n int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n < len(p.queue) && p.queue[n].record.Offset <= s.last {
		n++
	}
	return n, n < len(p.queue) || n > 0 && p.queue[n-1].record.Offset == s.last
}

// step inserts the next range when it is due.
func (p *partition) step(ctx context.Context) error {
	if err := p.await(ctx); err != nil {
		return err
	}
	release, err := p.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	n, _, _ := p.cut() // what has come while we waited goes along
	items := p.items(n)
	s := span{first: items[0].record.Offset, last: items[n-1].record.Offset, started: time.Now()}
	for _, it := range items {
		s.rows += it.rows
	}
	if err := p.commit(ctx, s.first, s.metadata()); err != nil {
		return err
	}
	return p.finish(ctx, &s, items)
}

// finish inserts a range whose commit as pending has happened, and commits that it is done.
func (p *partition) finish(ctx context.Context, s *span, items []item) error {
	m := p.service.metrics
	m.running.Inc()
	defer m.running.Dec()
	if err := p.load(ctx, s, items); err != nil {
		return err
	}
	if err := p.commit(ctx, s.last+1, ""); err != nil {
		return err
	}
	bytes := 0
	for _, it := range items {
		bytes += it.bytes
	}
	m.stage.Done(s.rows, bytes, items[0].came, items[0].record.Timestamp)
	p.remove(len(items))
	p.service.lag()
	return nil
}

func (p *partition) items(n int) []item {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queue[:n:n]
}

// await returns when a range is due: it is full, or old enough and small inserts are not too frequent.
func (p *partition) await(ctx context.Context) error {
	for {
		n, full, age := p.cut()
		if n > 0 && full {
			return nil
		}
		if n > 0 && age >= p.service.cfg.MaxAge {
			return p.reserve(ctx)
		}
		var timer *time.Timer
		if n > 0 {
			timer = time.NewTimer(p.service.cfg.MaxAge - age)
		}
		if err := p.waitMore(ctx, timer); err != nil {
			return err
		}
	}
}

// waitMore waits for records, or for the timer if it is not nil.
func (p *partition) waitMore(ctx context.Context, timer *time.Timer) error {
	var expired <-chan time.Time
	if timer != nil {
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-p.more:
	case <-expired:
	case <-p.quit:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// reserve waits for the turn of a small insert.
func (p *partition) reserve(ctx context.Context) error {
	r := p.service.small.Reserve()
	timer := time.NewTimer(r.Delay())
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return nil
		case <-p.more:
			if _, full, _ := p.cut(); full {
				r.Cancel()
				return nil
			}
		case <-p.quit:
			return errStopped
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// slot waits for one of the inserts that may run at the same time.
func (p *partition) slot(ctx context.Context) (release func(), err error) {
	select {
	case p.service.slots <- struct{}{}:
		return func() { <-p.service.slots }, nil
	case <-p.quit:
		return nil, errStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// cut says how many items the next insert takes, whether it is as large as it can get, and
// how long the first has waited.
func (p *partition) cut() (n int, full bool, age time.Duration) {
	cfg := p.service.cfg
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return 0, false, 0
	}
	age = time.Since(p.queue[0].came)
	rows, bytes := 0, 0
	for n < len(p.queue) {
		it := &p.queue[n]
		rows, bytes = rows+it.rows, bytes+it.bytes
		if n > 0 && (rows > cfg.MaxRows || bytes > int(cfg.MaxBytes) || !p.sink.joins(&p.queue[0], it)) {
			return n, true, age
		}
		n++
	}
	// Of a paused partition no more will come.
	return n, rows >= cfg.MaxRows || bytes >= int(cfg.MaxBytes) || p.paused, age
}

// commit commits an offset with metadata and returns when Kafka has it. It repeats what may pass; a commit
// of an instance that lost the partition is refused until that instance learns of it.
func (p *partition) commit(ctx context.Context, offset int64, metadata string) error {
	pause := newBackoff(p.service.cfg.RetryMin, p.service.cfg.RetryMax)
	for {
		err := p.tryCommit(ctx, offset, metadata)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if kafka.Fatal(err) {
			return fmt.Errorf("committing offset %d: %w", offset, err)
		}
		p.service.log.Warn("commit failed, repeating", "topic", p.topic, "partition", p.id, "offset", offset, "err", err)
		if err := pause.wait(ctx, p.quit); err != nil {
			return err
		}
	}
}

func (p *partition) tryCommit(ctx context.Context, offset int64, metadata string) error {
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				req.Topics[i].Partitions[j].Metadata = &metadata
			}
		}
		return nil
	})
	var result error
	seen := false
	offsets := map[string]map[int32]kgo.EpochOffset{p.topic: {p.id: {Epoch: -1, Offset: offset}}}
	p.service.client.CommitOffsetsSync(ctx, offsets,
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			if result = err; err != nil {
				return
			}
			for _, topic := range resp.Topics {
				for _, partition := range topic.Partitions {
					seen = true
					result = errors.Join(result, kerr.ErrorForCode(partition.ErrorCode))
				}
			}
		})
	if result == nil && !seen {
		return kerr.RebalanceInProgress // the client no longer counts the partition as ours
	}
	return result
}
