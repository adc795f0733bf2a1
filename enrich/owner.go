package enrich

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// own notes that partitions are ours.
func (s *Service) own(numbers []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owned == nil {
		s.owned = map[int32]bool{}
	}
	for _, n := range numbers {
		s.owned[n] = false
	}
}

// disown notes that partitions are no longer ours. There may be none: a rebalance that takes nothing away says so too.
func (s *Service) disown(numbers []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = true
	for _, n := range numbers {
		delete(s.owned, n)
	}
}

// disownAll is for the end of a session.
func (s *Service) disownAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.owned)
}

// readopt makes all partitions that are ours as if they were so since shortly: what was corrected in an aborted transaction is
// to be corrected again also where no record comes again.
func (s *Service) readopt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.owned {
		s.owned[n] = false
	}
}

// fresh returns the partitions that are ours since the last call.
func (s *Service) fresh() (numbers []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, adopted := range s.owned {
		if !adopted {
			numbers, s.owned[n] = append(numbers, n), true
		}
	}
	return numbers
}

// again makes fresh partitions fresh again, those that are still ours.
func (s *Service) again(fresh []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range fresh {
		if _, ours := s.owned[n]; ours {
			s.owned[n] = false
		}
	}
}

// adopted returns the partitions that are ours and prepared.
func (s *Service) adopted() map[int32]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	numbers := maps.Clone(s.owned)
	maps.DeleteFunc(numbers, func(_ int32, adopted bool) bool { return !adopted })
	return numbers
}

// adopt prepares partitions that are ours since shortly: rows of them may be wrong also if no record comes, and others may have
// had them meanwhile.
func (s *Service) adopt(ctx context.Context) error {
	fresh := s.fresh()
	if len(fresh) == 0 {
		return nil
	}
	commits, err := s.commits(ctx)
	var starts kadm.ListedOffsets
	if err == nil {
		if starts, err = kadm.NewClient(s.client).ListStartOffsets(ctx, schemas.TopicRaw); err == nil {
			err = starts.Error()
		}
	}
	if err != nil {
		if kafka.Fatal(err) && ctx.Err() == nil {
			return fmt.Errorf("reading the commits of group %s: %w", s.cfg.Group, err)
		}
		if !errors.Is(err, kerr.UnstableOffsetCommit) { // the transaction of the owner before ends soon, or is ended
			s.deps.Logger.Warn("cannot read the group's commits, trying again", "group", s.cfg.Group, "err", err)
		}
		s.again(fresh)
		return nil
	}
	if s.pass.touches(fresh) {
		s.dropPass() // others may have written meanwhile
	}
	gaps := map[int32]int64{}
	for _, number := range fresh {
		commit, ok := commits.Lookup(schemas.TopicRaw, number)
		if !ok || commit.At <= 0 {
			continue
		}
		p := s.partition(number)
		p.window = newWindow(s.cfg.DedupeWindow)
		p.window.next = commit.At
		s.takeOver(p, commit.Metadata)
		if start, ok := starts.Lookup(schemas.TopicRaw, number); ok && start.Offset < commit.At {
			gaps[number] = commit.At
		}
	}
	if len(gaps) == 0 {
		return nil
	}
	return s.rebuild(ctx, gaps)
}

// commits returns what the group has committed, once no transaction can change it.
func (s *Service) commits(ctx context.Context) (kadm.OffsetResponses, error) {
	commits, err := kadm.NewClient(s.client).FetchOffsetsForTopics(kadm.RequireStable(ctx), s.cfg.Group, schemas.TopicRaw)
	if err == nil {
		err = commits.Error()
	}
	return commits, err
}

func (s *Service) partition(number int32) *partition {
	p := s.partitions[number]
	if p == nil {
		p = newPartition(number, &s.cfg, s.crew)
		p.settled = s.settlement()
		p.handled = s.known.now()
		s.partitions[number] = p
	}
	return p
}

// settle writes into the commit of each partition what its rows take into account.
func (s *Service) settle(request *kmsg.TxnOffsetCommitRequest) error {
	for i := range request.Topics {
		for j := range request.Topics[i].Partitions {
			of := &request.Topics[i].Partitions[j]
			if p := s.partitions[of.Partition]; p != nil {
				metadata := p.settled.String()
				of.Metadata = &metadata
			}
		}
	}
	return nil
}

// settlement is what an event takes into account that is enriched now.
func (s *Service) settlement() settlement {
	return settlement{position: s.follower.Position(), time: time.Now()}
}

// takeOver finds out what the owners before did not take into account in the rows that they wrote.
func (s *Service) takeOver(p *partition, metadata string) {
	p.took, p.batches = nil, batches{}
	p.unseen = time.Now().Add(skew).UnixMicro()
	p.handled = s.known.now()
	settled, err := parseSettlement(metadata)
	if err != nil {
		s.deps.Logger.Warn("what the rows written before take into account is not known: all that are not too old are looked at",
			"partition", p.number, "err", err)
	}
	p.settled, p.took = settled, fold(s.known.unsettled(settled)) // they may be many, and so may the partitions
}

// bridge rebuilds the windows of partitions whose next record is not the one that follows the last.
func (s *Service) bridge(ctx context.Context, upTo map[int32]int64) error {
	if len(upTo) == 0 {
		return nil
	}
	commits, err := s.commits(ctx)
	if err != nil {
		return fmt.Errorf("reading the commits of group %s: %w", s.cfg.Group, err)
	}
	for number := range upTo {
		commit, _ := commits.Lookup(schemas.TopicRaw, number)
		s.takeOver(s.partition(number), commit.Metadata)
	}
	return s.rebuild(ctx, upTo)
}

// rebuild reads the records before the given offsets into the windows of their partitions.
func (s *Service) rebuild(ctx context.Context, upTo map[int32]int64) error {
	start := time.Now()
	from := make(map[int32]kgo.Offset)
	for number, offset := range upTo {
		from[number] = kgo.NewOffset().At(max(0, offset-int64(s.cfg.DedupeWindow)))
	}
	client, err := kafka.NewClient(s.deps.Kafka,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{schemas.TopicRaw: from}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return fmt.Errorf("rebuilding the deduplication window: %w", err)
	}
	defer client.Close()
	records, begun := 0, map[int32]bool{}
	for waiting := len(upTo); waiting > 0; {
		fetches := client.PollRecords(ctx, s.cfg.MaxPollRecords)
		if ctx.Err() != nil {
			// With half a window copies would pass: nothing may be committed.
			return errStopped
		}
		if err := s.check(fetches); err != nil {
			return fmt.Errorf("rebuilding the deduplication window: %w", err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end, open := upTo[r.Partition]
			if !open {
				return
			}
			if r.Offset < end {
				p := s.partitions[r.Partition]
				p.remember(r)
				if records++; !begun[r.Partition] {
					p.begins(r)
				}
			}
			begun[r.Partition] = true
			if r.Offset >= end-1 {
				s.partitions[r.Partition].window.next = end
				delete(upTo, r.Partition)
				waiting--
				client.PauseFetchPartitions(map[string][]int32{schemas.TopicRaw: {r.Partition}})
			}
		})
	}
	s.metrics.rebuilt.Add(float64(records))
	s.deps.Logger.Info("deduplication window rebuilt", "records", records, "duration", time.Since(start))
	return nil
}
