package enrich

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

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
}

// output is what a partition has to produce in the current transaction.
type output struct {
	records  []*kgo.Record // of audit.enriched.v1 and audit.dead.v1
	rows     int
	bytes    int
	rejected []string       // reasons of dead letters
	copies   map[string]int // dropped copies by source
	oldest   int64          // received, µs; 0 if none
}

func newPartition(number int32, cfg *Config) *partition {
	return &partition{
		number: number, cfg: cfg,
		transform: newTransformer(), window: newWindow(cfg.DedupeWindow), builder: schemas.NewBuilder(),
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
	}
}

// add enriches records, which follow one another. An error is fatal: the service must stop
// and must not commit.
func (p *partition) add(records []*kgo.Record) error {
	for _, record := range records {
		if err := p.addOne(record); err != nil {
			return fmt.Errorf("enriching %s/%d offset %d: %w", record.Topic, record.Partition, record.Offset, err)
		}
		p.window.next = record.Offset + 1
	}
	return nil
}

func (p *partition) addOne(record *kgo.Record) error {
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
	p.builder.Append(e)
	if p.out.oldest == 0 || h.received < p.out.oldest {
		p.out.oldest = h.received
	}
	if p.builder.Rows() >= p.cfg.MaxRows || p.builder.Bytes() >= int(p.cfg.MaxBytes) {
		return p.cut()
	}
	return nil
}

func (p *partition) reject(record *kgo.Record, reason string, err error) {
	p.out.records = append(p.out.records, kafka.DeadRecord(record, reason, err).Records(schemas.TopicDead)...)
	p.out.rejected = append(p.out.rejected, reason)
}

// cut ends the batch that is being built and makes a record of it.
func (p *partition) cut() error {
	rows := p.builder.Rows()
	if rows == 0 {
		return nil
	}
	value := p.builder.Encode()
	p.builder.Reset()
	p.out.records = append(p.out.records, &kgo.Record{
		Topic: schemas.TopicEnriched, Partition: p.number, Value: value,
		Headers: []kgo.RecordHeader{{Key: schemas.HeaderVersion, Value: fmt.Append(nil, schemas.Version)}},
	})
	p.out.rows += rows
	p.out.bytes += len(value)
	return nil
}

// take ends the current batch and returns what is to be produced.
func (p *partition) take() (output, error) {
	err := p.cut()
	out := p.out
	p.out = output{}
	return out, err
}
