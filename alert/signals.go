package alert

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/alert/correlate"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// pollWait bounds a poll, so that clocks are written while nothing comes; lookInterval is how often the ends of the partitions
// are asked for, so that an idle one is known from one that is behind.
const (
	pollWait     = 2 * time.Second
	lookInterval = 10 * time.Second
)

// sources knows the partitions of audit.enriched.v1 as sources of signals. It is used between polls only.
type sources struct {
	sender *correlate.Sender
	count  int32           // of all partitions
	next   map[int32]int64 // where reading goes on, of those that were read
	looked time.Time
}

// prepareSources reads how many partitions there are.
func (s *Service) prepareSources(ctx context.Context) error {
	topics, err := kadm.NewClient(s.client).ListTopics(ctx, schemas.TopicEnriched, schemas.TopicSignals)
	if err == nil {
		err = topics.Error()
	}
	if err != nil {
		return fmt.Errorf("reading how many partitions %s and %s have: %w; `auditmill topics` creates them",
			schemas.TopicEnriched, schemas.TopicSignals, err)
	}
	s.sources = &sources{
		sender: correlate.NewSender(s.rules.Load().correlations, int32(len(topics[schemas.TopicSignals].Partitions))),
		count:  int32(len(topics[schemas.TopicEnriched].Partitions)), next: map[int32]int64{},
	}
	s.sender.Store(s.sources.sender)
	return nil
}

// signal adds to out what a match says to the correlations that count it.
func (w *worker) signal(
	out *outcome, r *ir.Rule, record *kgo.Record, row int, values func(ir.Field) []string, made func() *schemas.Alert,
) error {
	sender := w.service.sender.Load()
	if sender == nil || !sender.Feeds(r.ID) {
		return nil
	}
	if made().Version > 0 {
		if out.matched == nil {
			out.matched = map[int][]string{}
		}
		out.matched[row] = append(out.matched[row], r.ID)
	}
	records, err := sender.Match(correlate.Match{
		Rule: r.ID, Time: made().Time, EventID: made().EventID, Version: made().Version, Values: values, Alert: made,
		Source: correlate.Source{Partition: record.Partition, Offset: record.Offset},
	})
	out.signals = append(out.signals, records...)
	return err
}

// correct adds to out what takes back signals of events that are corrected in a batch, to correlations whose rules do not match
// them any more.
func (s *Service) correct(out *outcome, record *kgo.Record, batch arrow.RecordBatch) error {
	sender := s.sender.Load()
	versions, ok := schemas.ColumnArray(batch, "version").(*array.Int64)
	if sender == nil || !ok {
		return nil
	}
	for n := range versions.Len() {
		if versions.IsNull(n) || versions.Value(n) <= 0 {
			continue
		}
		c := Correction(batch, n)
		c.Matched, c.Source = out.matched[n], correlate.Source{Partition: record.Partition, Offset: record.Offset}
		records, err := sender.Corrected(c)
		if err != nil {
			return err
		}
		out.signals = append(out.signals, records...)
	}
	return nil
}

// Correction says of which event a row is, and of which version; 0 if it corrects none.
func Correction(batch arrow.RecordBatch, n int) correlate.Correction {
	e := row{batch, n}
	at := e.time("event_time")
	if at.IsZero() {
		at = e.time("received_at")
	}
	return correlate.Correction{EventID: e.text("event_id"), Version: uint64(max(0, e.number("version"))), Time: at}
}

// newest returns the greatest event_time of a batch. What claims to be after it was received counts as that: a sender whose
// clock is ahead must not make all others late.
func newest(batch arrow.RecordBatch) time.Time {
	events, ok := schemas.ColumnArray(batch, "event_time").(*array.Timestamp)
	received, also := schemas.ColumnArray(batch, "received_at").(*array.Timestamp)
	if !ok || !also {
		return time.Time{}
	}
	var latest int64
	for row := range events.Len() {
		if !events.IsNull(row) && !received.IsNull(row) {
			latest = max(latest, min(int64(events.Value(row)), int64(received.Value(row))))
		}
	}
	if latest == 0 {
		return time.Time{}
	}
	return time.UnixMicro(latest).UTC()
}

// tick writes clocks if it is time for them. It must be called between polls, when all signals of what was read are
// acknowledged.
func (s *Service) tick(ctx context.Context) error {
	now := time.Now()
	if now.Sub(s.sources.looked) >= lookInterval {
		s.sources.looked = now
		s.look(ctx, now)
	}
	clocks, err := s.sources.sender.Clocks(now, s.sources.count)
	if err != nil || len(clocks) == 0 {
		return err
	}
	return s.write(ctx, outcome{signals: clocks})
}

// look notes the partitions that are read to their end.
func (s *Service) look(ctx context.Context, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	admin := kadm.NewClient(s.client)
	ends, err := admin.ListCommittedOffsets(ctx, schemas.TopicEnriched)
	if err != nil {
		return // correlations wait a little longer
	}
	committed := s.client.CommittedOffsets()[schemas.TopicEnriched]
	for partition := range s.owned() {
		next := max(s.sources.next[partition], committed[partition].Offset)
		if end, ok := ends.Lookup(schemas.TopicEnriched, partition); ok && end.Err == nil && next >= end.Offset {
			s.sources.sender.CaughtUp(partition, now)
		}
	}
}

// owned returns the partitions that this instance reads.
func (s *Service) owned() map[int32]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[int32]bool, len(s.assigned))
	for p := range s.assigned {
		out[p] = true
	}
	for _, p := range s.lost { // where it goes on when it comes back is another's business
		delete(s.sources.next, p)
	}
	s.lost = nil
	return out
}
