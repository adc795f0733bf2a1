package alert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// worker evaluates the rules on one record after the other. It is not safe for concurrent use.
type worker struct {
	service   *Service
	rules     *ruleset // that evaluator is of
	evaluator *rule.Evaluator
	reader    *schemas.Reader
	parsed    int64
}

// outcome is what came of one record of audit.enriched.v1.
type outcome struct {
	rows, bytes int
	received    time.Time
	newest      time.Time
	alerts      []*kgo.Record
	signals     []*kgo.Record
	rules       []*ir.Rule       // by alert
	matched     map[int][]string // ids of the rules that feed correlations, by row, of rows that correct earlier ones
	dead        *kafka.Dead
}

// errNewer marks a record of a newer format than this build reads: to go on would be to guess.
var errNewer = errors.New("newer format")

func (w *worker) evaluate(r *kgo.Record) (outcome, error) {
	out := outcome{bytes: len(r.Value)}
	bury := func(reason string, err error) (outcome, error) {
		dead := kafka.DeadRecord(r, reason, err)
		out.dead = &dead
		return out, nil
	}
	if err := checkVersion(r); errors.Is(err, errNewer) {
		return out, fmt.Errorf("reading %s/%d at offset %d: %w", r.Topic, r.Partition, r.Offset, err)
	} else if err != nil {
		return bury(reasonHeaders, err)
	}
	batch, err := w.reader.Open(r.Value)
	if err != nil {
		return bury(reasonUndecoded, err)
	}
	out.rows = int(batch.NumRows())
	if out.rows > 0 {
		out.received = row{batch, 0}.time("received_at")
	}
	out.newest = newest(batch)
	failed := w.match(&out, r, batch, &err)
	if err == nil && failed == nil {
		failed = w.service.correct(&out, r, batch)
	}
	stats := w.evaluator.Stats()
	w.service.metrics.parsed.Add(float64(stats.Parsed - w.parsed))
	w.parsed = stats.Parsed
	if err = errors.Join(err, failed); err != nil {
		out.alerts, out.signals, out.rules = nil, nil, nil
		return bury(reasonUndecoded, err)
	}
	return out, nil
}

// match adds to out what the rows of a batch raise and say to correlations. err becomes that of the engine.
func (w *worker) match(out *outcome, r *kgo.Record, batch arrow.RecordBatch, err *error) (failed error) {
	w.take()
	now, first, last := w.service.deps.Now(), w.service.cfg.Rules.Matching == "first", -1
	*err = w.evaluator.Match(batch, func(index, row int) {
		matched := &w.rules.pack.Rules[index]
		values := func(f ir.Field) []string { return w.evaluator.Values(row, f) }
		var made *schemas.Alert
		makeAlert := func() *schemas.Alert {
			if made == nil {
				a := Make(&matched.Meta, batch, row, values, now)
				made = &a
			}
			return made
		}
		if signalErr := w.signal(out, matched, r, row, values, makeAlert); signalErr != nil {
			failed = signalErr
		}
		if matched.Silent || first && row == last {
			return
		}
		last = row
		record, recordErr := record(makeAlert())
		if recordErr != nil {
			failed = recordErr
			return
		}
		out.alerts, out.rules = append(out.alerts, record), append(out.rules, matched)
	})
	return failed
}

// take makes the set in use the one that is evaluated.
func (w *worker) take() {
	if rules := w.service.rules.Load(); rules != w.rules {
		w.rules, w.evaluator, w.parsed = rules, rules.set.NewEvaluator(), 0
	}
}

func checkVersion(r *kgo.Record) error {
	var value []byte
	missing := true
	for _, h := range r.Headers {
		if h.Key == schemas.HeaderVersion {
			value, missing = h.Value, false
		}
	}
	err := schemas.CheckVersion(value, missing)
	if v, convErr := strconv.Atoi(string(value)); err != nil && convErr == nil && v > schemas.Version {
		return fmt.Errorf("%w: %w", errNewer, err)
	}
	return err
}

// process evaluates the records of one partition, in order, and returns when everything
// that came of them is acknowledged by Kafka.
func (w *worker) process(ctx context.Context, records []*kgo.Record) error {
	for _, r := range records {
		if r.Attrs.IsControl() {
			continue
		}
		start := time.Now()
		out, err := w.evaluate(r)
		if err != nil {
			return err
		}
		w.service.metrics.stage.In.Add(float64(out.rows))
		w.service.metrics.stage.BytesIn.Add(float64(out.bytes))
		if err := w.service.write(ctx, out); err != nil {
			return err
		}
		if sender := w.service.sender.Load(); sender != nil {
			sender.Evaluated(r.Partition, out.newest, time.Now())
		}
		bytes := 0
		for i, alert := range out.alerts {
			w.service.metrics.raised.WithLabelValues(out.rules[i].ID, out.rules[i].Level).Inc()
			bytes += len(alert.Value)
		}
		if out.dead != nil {
			w.service.metrics.stage.Bad(out.dead.Reason).Inc()
		}
		w.service.metrics.stage.Done(out.rows, bytes, start, out.received)
	}
	return nil
}

// write produces what came of a record and returns when it is acknowledged.
func (s *Service) write(ctx context.Context, out outcome) error {
	pending := slices.Concat(out.signals, out.alerts)
	if out.dead != nil {
		pending = out.dead.Records(schemas.TopicDead)
	}
	return kafka.Produce(ctx, s.client, s.log, pending...)
}
