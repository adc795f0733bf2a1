package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// sink turns the records of one topic into rows of one table.
type sink interface {
	// prepare looks at a record when it arrives. An error is fatal; a record that is merely
	// broken comes back with item.bad.
	prepare(ctx context.Context, record *kgo.Record) (item, error)
	// joins reports whether it may share an insert with first.
	joins(first, it *item) bool
	countDuplicates(ctx context.Context)
	// insert is one attempt to insert all items under a token.
	insert(ctx context.Context, token string, items []item) error
	// compare inserts what of the items the table lacks, in parts as small as need be, and
	// gives what is refused to bury. token is the one that earlier attempts had. It may be repeated
	// after an error.
	compare(ctx context.Context, token string, items []item, bury func(kafka.Dead) error) error
}

// load inserts a range; it returns when every row is in the table or in the dead-letter topic.
// Errors of ClickHouse are repeated for ever.
func (p *partition) load(ctx context.Context, s *span, items []item) error {
	good, err := p.buryBad(ctx, items)
	if err != nil || len(good) == 0 {
		return err
	}
	pause := newBackoff(p.service.cfg.RetryMin, p.service.cfg.RetryMax)
	repeated := p.pending != nil && p.pending.first == s.first
	for attempts := 0; ; repeated = true {
		err := p.attempt(ctx, s, good)
		if err == nil {
			if repeated {
				p.sink.countDuplicates(ctx)
			}
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.service.metrics.retries.WithLabelValues(retryReason(err)).Inc()
		p.service.log.Warn("insert failed, repeating", "topic", p.topic, "partition", p.id, "offset", s.first,
			"rows", s.rows, "reason", retryReason(err), "err", err)
		// A server without memory may still have enough for a part.
		if !mayPass(err) || exceptionCode(err) == codeMemoryLimit {
			attempts++
		}
		if !s.careful && p.distrusts(s, err, attempts) {
			// Committed before the first part goes in under another token.
			s.careful = true
			if err := p.commit(ctx, s.first, s.metadata()); err != nil {
				return err
			}
			continue
		}
		if err := pause.wait(ctx, p.quit); err != nil {
			return err
		}
	}
}

// attempt inserts a range as a whole, or what the table lacks of it.
func (p *partition) attempt(ctx context.Context, s *span, items []item) error {
	token := s.token(p.source, p.id)
	if s.careful {
		return p.sink.compare(ctx, token, items, func(d kafka.Dead) error { return p.bury(ctx, d) })
	}
	return p.sink.insert(ctx, token, items)
}

// distrusts reports whether a range can no longer be repeated as a whole: ClickHouse refuses something in
// it, or may have forgotten the token.
func (p *partition) distrusts(s *span, err error, attempts int) bool {
	return isRefusal(err) || errors.Is(err, errCompare) || attempts >= maxAttempts || time.Since(s.started) > p.service.cfg.TrustDedup
}

// maxAttempts is how often a range may fail for what may lie in its rows before it is split.
const maxAttempts = 5

// buryBad gives broken items to the dead-letter topic and returns the others that hold rows.
func (p *partition) buryBad(ctx context.Context, items []item) ([]item, error) {
	good := make([]item, 0, len(items))
	for _, it := range items {
		switch {
		case it.bad != nil:
			if err := p.bury(ctx, kafka.DeadRecord(it.record, reasonUndecodable, it.bad)); err != nil {
				return nil, err
			}
		case it.rows > 0:
			good = append(good, it)
		}
	}
	return good, nil
}

// bury writes a dead letter and returns when Kafka has it.
func (p *partition) bury(ctx context.Context, d kafka.Dead) error {
	pause := newBackoff(p.service.cfg.RetryMin, p.service.cfg.RetryMax)
	for {
		err := kafka.WriteDead(ctx, p.service.client, schemas.TopicDead, d)
		if err == nil {
			p.service.metrics.stage.Bad(d.Reason).Inc()
			p.service.log.Warn("gave to the dead-letter topic", "topic", d.Source, "partition", d.Partition,
				"offset", d.Offset, "reason", d.Reason, "err", d.Detail)
			return nil
		}
		if kafka.Fatal(err) {
			return fmt.Errorf("burying %s/%d/%d: %w", d.Source, d.Partition, d.Offset, err)
		}
		p.service.log.Warn("writing a dead letter failed, repeating", "topic", d.Source, "partition", d.Partition,
			"offset", d.Offset, "err", err)
		if err := pause.wait(ctx, p.quit); err != nil {
			return err
		}
	}
}

// checkVersion reads the record's version header: fatal if newer, bad if missing or no number.
func checkVersion(record *kgo.Record) (bad, fatal error) {
	for _, h := range record.Headers {
		if h.Key == schemas.HeaderVersion {
			return classify(schemas.CheckVersion(h.Value, false))
		}
	}
	return schemas.CheckVersion(nil, true), nil
}
