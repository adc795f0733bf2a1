package enrich

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	clusters "github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/feed"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// partition is the state of one partition of audit.raw.v1: its window and the batch that
// is being built. Partitions share nothing, so each may run on its own goroutine.
type partition struct {
	number    int32
	cfg       *Config
	transform *transformer
	window    *window
	builder   *schemas.Builder
	out       output
	crew      *crew

	// What corrections need to know of the rows that were written.
	newest   map[string]int64 // by cluster: the greatest event_time, µs since 1970
	unseen   int64            // no row of any other cluster is of later
	last     latest           // of the row before, in place of a look-up
	batches  batches
	versions map[int64]int64 // of rows that were corrected, by raw offset
	handled  uint64          // changes that all written rows take into account
	settled  settlement      // the same for whoever has the partition next
	took     []late          // changes that the owner before did not take into account
}

// latest is newest of one cluster.
type latest struct {
	cluster string
	time    int64
}

// output is what a partition has to produce in the current transaction.
type output struct {
	records  []*kgo.Record // of audit.enriched.v1, audit.dead.v1 and the topics of the context
	batches  []batchOf
	newest   int64 // event_time of the batch that is being built
	rows     int
	learned  int // changes of the context that events told
	bytes    int
	rejected []string       // reasons of dead letters
	copies   map[string]int // dropped copies by source
	oldest   int64          // received, µs; 0 if none
	late     []error        // writes to context that could not be followed
}

// batchOf is a record of audit.enriched.v1 and the greatest event_time of its rows.
type batchOf struct {
	record *kgo.Record
	newest int64
}

func newPartition(number int32, cfg *Config, crew *crew) *partition {
	return &partition{
		number: number, cfg: cfg, crew: crew,
		transform: newTransformer(), window: newWindow(cfg.DedupeWindow), builder: schemas.NewBuilder(),
		newest: map[string]int64{}, unseen: math.MinInt64, versions: map[int64]int64{}, batches: batches{complete: true}, handled: crew.known.now(),
	}
}

// forget drops everything that an aborted transaction has left behind.
func (p *partition) forget() {
	p.window = newWindow(p.cfg.DedupeWindow)
	p.builder.Reset()
	p.out = output{}
}

// remember takes a record before the first one to be enriched into the window.
func (p *partition) remember(record *kgo.Record) {
	if h, _, err := p.transform.headers(record); err == nil {
		p.window.add(p.transform.hasher.EventID(h.cluster, record.Value), schemas.ID(record.Key), h.source)
		t := p.transform.decoder.eventTime(record.Value)
		if t == 0 {
			t = h.received
		}
		p.wrote(h.cluster, t)
	}
}

// begins notes that a record is the first one that remember took: rows of clusters that have none from then on are older.
func (p *partition) begins(first *kgo.Record) {
	p.unseen = first.Timestamp.Add(skew).UnixMicro()
	if first.Offset == 0 {
		p.unseen = math.MinInt64
	}
}

// wrote notes that there is a row of a cluster and a time.
func (p *partition) wrote(cluster string, t int64) {
	if p.last.cluster != cluster {
		p.flushNewest()
		p.last = latest{cluster, p.newest[cluster]}
	}
	p.last.time = max(p.last.time, t)
}

func (p *partition) flushNewest() {
	if p.last.cluster != "" {
		p.newest[p.last.cluster] = p.last.time
	}
}

// maxVersions bounds what is remembered of corrected rows. Without it a row may be written once more with the same content.
const maxVersions = 1 << 18

// committed notes that records are in the topics. Nobody reads their values any more.
func (p *partition) committed(batches []batchOf, versions map[int64]int64) {
	for _, b := range batches {
		p.batches.add(b.record.Offset, b.newest)
		p.builder.Reuse(b.record.Value)
	}
	if len(p.versions)+len(versions) > maxVersions {
		clear(p.versions)
	}
	maps.Copy(p.versions, versions)
}

// affected returns from when on rows of each cluster may be wrong because of what became known; none if there are no rows
// that late. What is older than within is left as it is: tooLate are the clusters that may have such rows.
func (p *partition) affected(news []late, within time.Duration) (since map[string]int64, tooLate map[string]bool) {
	p.flushNewest()
	since, tooLate = map[string]int64{}, map[string]bool{}
	note := func(l *late, cluster string, newest int64) {
		if newest < l.from() {
			return
		}
		from := l.since
		if oldest := newest - within.Microseconds(); from < oldest {
			from, tooLate[cluster] = oldest, true
		}
		if known, ok := since[cluster]; !ok || from < known {
			since[cluster] = from
		}
	}
	for _, l := range append(news, p.took...) {
		newest, ok := p.newest[l.cluster]
		if !ok {
			newest = p.unseen
		}
		if l.cluster != clusters.Organization {
			note(&l, l.cluster, newest)
			continue
		}
		for cluster, t := range p.newest {
			note(&l, cluster, t)
			newest = max(newest, t)
		}
		note(&l, l.cluster, newest) // of clusters with rows too old to be remembered
	}
	return since, tooLate
}

// add enriches records, which follow one another. It waits for context until patience ends. An error is fatal: the service
// must stop and must not commit.
func (p *partition) add(patience context.Context, records []*kgo.Record) error {
	p.transform.join = p.crew.begin()
	defer func() { p.crew.end(p.transform.join) }()
	for _, record := range records {
		if err := p.addOne(patience, record); err != nil {
			return fmt.Errorf("enriching %s/%d offset %d: %w", record.Topic, record.Partition, record.Offset, err)
		}
		p.window.next = record.Offset + 1
	}
	return nil
}

func (p *partition) addOne(patience context.Context, record *kgo.Record) error {
	h, newer, err := p.transform.headers(record)
	if newer {
		return err
	}
	if err != nil {
		p.reject(record, reasonHeaders, err)
		return nil
	}
	id := p.transform.hasher.EventID(h.cluster, record.Value)
	if p.window.add(id, schemas.ID(record.Key), h.source) {
		if p.out.copies == nil {
			p.out.copies = make(map[string]int)
		}
		p.out.copies[h.source]++
		return nil
	}
	e, err := p.transform.enrich(record, &h, id)
	if err != nil {
		p.reject(record, reasonDecode, err)
		return nil
	}
	p.await(patience, e)
	if err := p.learn(e); err != nil {
		return err
	}
	p.wrote(h.cluster, e.EventTime)
	p.out.newest = max(p.out.newest, e.EventTime)
	p.builder.Append(e)
	if p.out.oldest == 0 || h.received < p.out.oldest {
		p.out.oldest = h.received
	}
	if p.builder.Rows() >= p.cfg.MaxRows || p.builder.Bytes() >= int(p.cfg.MaxBytes) {
		p.cut()
	}
	return nil
}

func (p *partition) reject(record *kgo.Record, reason string, err error) {
	p.out.records = append(p.out.records, kafka.DeadRecord(record, reason, err).Records(schemas.TopicDead)...)
	p.out.rejected = append(p.out.rejected, reason)
}

// await joins the event again as long as it names what may still become known.
func (p *partition) await(patience context.Context, e *schemas.Event) {
	for p.transform.waits(e) {
		news := p.crew.known.news()
		// What came between the look-up and news is not missed.
		if p.transform.join.Join(e); !p.transform.waits(e) {
			return
		}
		p.crew.end(p.transform.join) // others go on meanwhile
		select {
		case <-news:
		case <-patience.Done():
		}
		p.transform.join = p.crew.begin()
		p.transform.join.Join(e)
		if patience.Err() != nil {
			p.transform.join.gaveUp(e)
			return
		}
	}
}

// learn takes what the event says of the context: here at once, and to the topics in the same transaction as the event.
func (p *partition) learn(e *schemas.Event) error {
	changes, err := p.crew.known.store.FromEvent(e.Cluster, e)
	if err != nil {
		p.out.late = append(p.out.late, err)
	}
	if len(changes) == 0 {
		return nil
	}
	cluster := strings.Clone(e.Cluster)
	records, err := feed.Records(cluster, changes)
	if err != nil {
		return err
	}
	p.out.records = append(p.out.records, records...)
	p.out.learned += len(changes)
	feed.Apply(p.crew.known.store, cluster, changes, p.crew.known.learned)
	return nil
}

// cut ends the batch that is being built and makes a record of it.
func (p *partition) cut() {
	rows := p.builder.Rows()
	if rows == 0 {
		return
	}
	record := enrichedRecord(p.builder, p.number)
	p.out.records = append(p.out.records, record)
	p.out.batches = append(p.out.batches, batchOf{record, p.out.newest})
	p.out.rows += rows
	p.out.bytes += len(record.Value)
	p.out.newest = 0
}

// enrichedRecord makes the record of what was built, and resets the builder.
func enrichedRecord(builder *schemas.Builder, partition int32) *kgo.Record {
	value := builder.Encode()
	builder.Reset()
	return &kgo.Record{
		Topic: schemas.TopicEnriched, Partition: partition, Value: value,
		Headers: []kgo.RecordHeader{{Key: schemas.HeaderVersion, Value: fmt.Append(nil, schemas.Version)}},
	}
}

// take ends the current batch and returns what is to be produced.
func (p *partition) take() output {
	p.cut()
	out := p.out
	p.out = output{}
	return out
}
