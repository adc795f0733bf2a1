// Package raw writes events to audit.raw.v1 and what is no event to audit.dead.v1.
//
// Comes in: a piece of a sender's bytes and where it comes from. Goes out: one record
// per event, its value a sub-slice of that piece, its key the fingerprint; dead letters
// for the rest. Guaranteed: Wait returns nil only when every record and dead letter of
// the batch was acknowledged by all in-sync replicas; nothing is left out silently.
package raw

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/ingest/split"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// The reasons of dead letters beside those of package split.
const (
	ReasonRefused  = "refused"   // a large event that Kafka did not take
	ReasonLongLine = "long_line" // a part of a line that is too long to be an event
)

// Reasons returns the closed set of reasons of dead letters.
func Reasons() []string { return append(split.Reasons(), ReasonRefused, ReasonLongLine) }

// smallEnough is a size that every topic takes: the default max.message.bytes is 1 MB. A
// smaller record that is refused as too large means a misconfigured topic, which is no
// fault of the event.
const smallEnough = 900 << 10

// Origin says where a piece comes from.
type Origin struct {
	Cluster string
	// Source is one of the Source constants of package schemas.
	Source string
	// Place names the sender for people who read dead letters: webhook/prod.
	Place    string
	Received time.Time
}

// A Batch is what one piece of a sender's bytes became. Its methods are not safe for
// concurrent use.
type Batch struct {
	w      *Writer
	origin Origin
	ctx    context.Context //nolint:containedctx // kgo keeps it with each record; see Begin
	start  time.Time

	headers, damaged []kgo.RecordHeader
	damage           string // what damaged says

	records []kgo.Record // a slab; records in it are referenced by kgo
	keys    []byte       // a slab

	// Events, Bad and Bytes count events, dead letters and the bytes of both.
	Events, Bad, Bytes int

	pending  atomic.Int64
	promised func(*kgo.Record, error) // promise, made a value once and not for each record
	done     chan struct{}
	release  func()

	mu      sync.Mutex
	err     error         // the first one; guarded by mu
	refused []*kgo.Record // events that Kafka found too large; guarded by mu
}

// Begin starts a batch. The context bounds both the wait for room in the buffer and the
// delivery of the records. It should end by a deadline and not with a request: when the
// first record of a partition is cancelled, kgo fails all that wait behind it.
//
// A record that is on its way when the context ends may still be written although Wait
// reports an error. The sender then repeats it; enrich drops the copy.
//
// release is called when nothing refers to the split bytes any more, which may be after
// Wait has returned; nil is allowed.
func (w *Writer) Begin(ctx context.Context, origin Origin, release func()) *Batch {
	b := &Batch{
		w: w, origin: origin, ctx: ctx, start: time.Now(), done: make(chan struct{}), release: release,
	}
	b.promised = b.promise
	b.headers = []kgo.RecordHeader{
		{Key: schemas.HeaderVersion, Value: w.version},
		{Key: schemas.HeaderCluster, Value: []byte(origin.Cluster)},
		{Key: schemas.HeaderSource, Value: []byte(origin.Source)},
		{Key: schemas.HeaderReceived, Value: strconv.AppendInt(nil, schemas.Micros(origin.Received), 10)},
	}
	b.pending.Store(1) // Wait takes it away
	return b
}

// Split produces the events and faults of body. It stops early if the context ends or the
// client fails for good; Wait says so. body must stay as it is until it is released.
func (b *Batch) Split(body []byte) {
	s, _ := b.w.splitters.Get().(*splitter)
	if s == nil {
		s = &splitter{}
	}
	defer b.w.splitters.Put(s)
	s.split.Split(body, func(item *split.Item) bool {
		if item.Fault != nil {
			b.Dead(item.Fault.Reason, item.Fault.Detail, item.Raw)
		} else {
			b.event(item, s.hasher.Fingerprint(b.origin.Cluster, &item.Fields))
		}
		return b.ctx.Err() == nil
	})
	if err := b.ctx.Err(); err != nil {
		b.fail(err)
	}
}

type splitter struct {
	split  split.Splitter
	hasher schemas.Hasher
}

func (b *Batch) event(item *split.Item, fingerprint schemas.ID) {
	b.Events++
	b.Bytes += len(item.Raw)
	if len(b.records) == cap(b.records) {
		// Slabs grow with the batch: one event should not pay for many. Full ones are kept
		// alive by kgo as long as it needs them.
		n := min(max(16, 2*cap(b.records)), 512)
		b.records, b.keys = make([]kgo.Record, 0, n), make([]byte, 0, n*len(fingerprint))
	}
	from := len(b.keys)
	b.keys = append(b.keys, fingerprint[:]...)
	b.records = append(b.records, kgo.Record{
		Topic: schemas.TopicRaw, Key: b.keys[from:len(b.keys):len(b.keys)], Value: item.Raw,
		Headers: b.headersFor(item.Damage), Timestamp: b.origin.Received,
	})
	b.produce(&b.records[len(b.records)-1])
}

func (b *Batch) headersFor(damage string) []kgo.RecordHeader {
	if damage == "" {
		return b.headers
	}
	if damage != b.damage {
		b.damage = damage
		b.damaged = append(slices.Clip(b.headers),
			kgo.RecordHeader{Key: schemas.HeaderDamage, Value: []byte(damage)})
	}
	return b.damaged
}

// Dead produces a dead letter. Like what Split takes, value must stay as it is.
func (b *Batch) Dead(reason, detail string, value []byte) {
	b.Bury(kafka.Dead{
		Reason: reason, Detail: detail, Source: b.origin.Place, Partition: -1, Offset: -1, Value: value,
	})
}

// Bury produces a dead letter that says itself where it is from.
func (b *Batch) Bury(letter kafka.Dead) {
	b.Bad++
	b.Bytes += len(letter.Value)
	b.bury(letter)
}

func (b *Batch) bury(letter kafka.Dead) {
	b.w.metrics.bad(b.origin, letter.Reason)
	letter.Headers = append(letter.Headers, b.headers...)
	if letter.Time.IsZero() {
		letter.Time = b.origin.Received
	}
	for _, r := range letter.Records(schemas.TopicDead) {
		b.produce(r)
	}
}

func (b *Batch) produce(r *kgo.Record) {
	b.pending.Add(1)
	b.w.client.Produce(b.ctx, r, b.promised)
}

// promise is called by kgo for each record, one after the other, and must not block.
func (b *Batch) promise(r *kgo.Record, err error) {
	switch {
	case err == nil:
	case kafka.ClassOf(err) == kafka.ClassTooLarge && r.Topic == schemas.TopicRaw && len(r.Value) > smallEnough:
		b.mu.Lock()
		b.refused = append(b.refused, r)
		b.mu.Unlock()
	default:
		b.fail(fmt.Errorf("writing to %s: %w", r.Topic, err))
	}
	b.settle()
}

func (b *Batch) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
}

// settle takes one away from pending and, with the last one, ends the batch.
func (b *Batch) settle() {
	if b.pending.Add(-1) > 0 {
		return
	}
	b.mu.Lock()
	refused := b.refused
	b.refused = nil
	b.mu.Unlock()
	if len(refused) == 0 {
		if b.release != nil {
			b.release()
		}
		close(b.done)
		return
	}
	b.pending.Add(1)
	// Producing inside a promise may block on promises that come after it.
	go func() {
		for _, r := range refused {
			b.bury(kafka.Dead{
				Reason: ReasonRefused, Detail: fmt.Sprintf(
					"an event of %d bytes is more than Kafka takes; raise max.message.bytes of %s to %d",
					len(r.Value), schemas.TopicRaw, schemas.MaxRecordBytes),
				Source: b.origin.Place, Partition: -1, Offset: -1, Key: r.Key, Value: r.Value,
			})
		}
		b.settle()
	}()
}

// Wait ends the batch and returns when everything is acknowledged, or with an error: the
// first failure, or that of ctx. It must be called once, even if its result is not needed.
func (b *Batch) Wait(ctx context.Context) error {
	b.w.metrics.in(b)
	b.settle()
	select {
	case <-b.done:
	case <-ctx.Done():
		return fmt.Errorf("waiting for acknowledgement: %w", ctx.Err())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.w.metrics.out(b)
	}
	return b.err
}
