package correlate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// position is what a commit says: the next offset to evaluate, from where to replay before it, and the
// times of the clocks.
type position struct {
	next, replay int64
	times        []int64
}

const positionVersion = "1"

func (p position) String() string {
	fields := []string{positionVersion, strconv.FormatInt(p.replay, 10)}
	for _, t := range p.times {
		fields = append(fields, strconv.FormatInt(t, 10))
	}
	return strings.Join(fields, " ")
}

// readPosition reads the metadata of a commit. One of another writer has no memory: all is replayed that
// the topic still has, which costs time and nothing else.
func readPosition(next int64, metadata *string) position {
	all := position{next: next}
	if metadata == nil {
		return all
	}
	fields := strings.Fields(*metadata)
	if len(fields) < 2 || fields[0] != positionVersion {
		return all
	}
	p := position{next: next}
	for i, field := range fields[1:] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil || i == 0 && n < 0 || n < never || n > latest {
			return all
		}
		if i == 0 {
			p.replay = min(n, next)
		} else {
			p.times = append(p.times, n)
		}
	}
	return p
}

// partition is what this instance knows of one partition of audit.signals.v1.
type partition struct {
	id        int32
	engine    *Engine
	next      int64 // everything before is evaluated and written
	restore   position
	replaying bool
	clocked   time.Time
	committed int64
}

// effects are what is written after some records and before they are committed.
type effects struct {
	records []*kgo.Record
	after   []*kgo.Record // what says that those are written
	alerts  []schemas.Alert
	next    map[int32]int64
	signals int
	bytes   int
}

// partition returns what is known of a partition, which may have to be read first.
func (s *Service) partition(ctx context.Context, id int32) (*partition, error) {
	set := s.set.Load()
	p := s.partitions[id]
	if p != nil {
		if p.engine.set != set {
			p.engine.Replace(set)
		}
		return p, nil
	}
	p = &partition{id: id, engine: NewEngine(set, s.cfg.Limits.share(int(s.all)), s.deps.Now)}
	if at, ok := s.positions[id]; ok {
		p.restore, p.replaying, p.next, p.committed = at, true, at.next, at.next
	}
	if err := s.recall(ctx, p); err != nil {
		return nil, err
	}
	p.engine.Replay(p.restore.times)
	s.partitions[id] = p
	return p, nil
}

// recall reads the memory of first_seen.
func (s *Service) recall(ctx context.Context, p *partition) error {
	ends, err := kadm.NewClient(s.client).ListEndOffsets(ctx, schemas.TopicSeen)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("reading where %s ends: %w", schemas.TopicSeen, err)
	}
	end, ok := ends.Lookup(schemas.TopicSeen, p.id)
	if !ok || end.Offset == 0 {
		return nil
	}
	client, err := kafka.NewClient(s.deps.Kafka, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		schemas.TopicSeen: {p.id: kgo.NewOffset().AtStart()},
	}))
	if err != nil {
		return fmt.Errorf("correlate: %w", err)
	}
	defer client.Close()
	known := map[string]*Seen{}
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("reading %s/%d: %w", schemas.TopicSeen, p.id, err)
		}
		if err := s.check(ctx, fetches); err != nil {
			return err
		}
		for r := range fetches.RecordsAll() {
			next = r.Offset + 1
			if r.Value == nil {
				delete(known, string(r.Key))
				continue
			}
			if err := checkVersion(r); err != nil {
				return err
			}
			m, err := decodeSeen(r.Value)
			if err != nil { // it forgets one combination, which is better than all
				s.metrics.stage.Bad(reasonUndecoded).Inc()
				s.log.Error("memory of a first_seen not readable", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
				continue
			}
			known[string(r.Key)] = m
		}
	}
	for _, m := range known {
		p.engine.Remember(m)
	}
	return nil
}

// checkVersion refuses a record of a newer format: to go on would be to guess.
func checkVersion(r *kgo.Record) error {
	var value []byte
	missing := true
	for _, h := range r.Headers {
		if h.Key == schemas.HeaderVersion {
			value, missing = h.Value, false
		}
	}
	if err := schemas.CheckVersion(value, missing); err != nil {
		return fmt.Errorf("reading %s/%d at offset %d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	return nil
}

// evaluate takes the records of one partition and adds what comes of them to out.
func (s *Service) evaluate(ctx context.Context, f kgo.FetchTopicPartition, out *effects) error {
	p, err := s.partition(ctx, f.Partition)
	if err != nil {
		return err
	}
	for _, r := range f.Records {
		if p.replaying && r.Offset >= p.restore.next {
			s.endReplay(p, out)
		}
		if err := s.add(p, r, out); err != nil {
			return err
		}
		if err := s.collect(p, out); err != nil {
			return err
		}
	}
	last := f.Records[len(f.Records)-1]
	s.metrics.behind(p.id, f.HighWatermark-last.Offset-1)
	if p.replaying {
		return nil
	}
	if out.next == nil {
		out.next = map[int32]int64{}
	}
	out.next[p.id] = last.Offset + 1
	return s.promise(p, out)
}

// endReplay sets the clocks to what they were when the last owner had everything written.
func (s *Service) endReplay(p *partition, out *effects) {
	p.engine.Restore(p.restore.times)
	_ = s.collect(p, out) // as a replay it writes the memory of first_seen at most
	p.replaying = false
}

func (s *Service) add(p *partition, r *kgo.Record, out *effects) error {
	signal, clock, err := (*Signal)(nil), (*Clock)(nil), checkVersion(r)
	reason := reasonHeaders
	if errors.Is(err, schemas.ErrNewerVersion) {
		return err
	}
	if err == nil {
		reason = reasonUndecoded
		signal, clock, err = decode(r.Value)
	}
	switch {
	case err != nil && p.replaying: // it is in the dead-letter topic
	case err != nil:
		s.log.Error("signal given to the dead-letter topic", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
		s.metrics.stage.Bad(reason).Inc()
		dead := kafka.DeadRecord(r, reason, err)
		out.records = append(out.records, dead.Records(schemas.TopicDead)...)
	case clock != nil:
		p.engine.Clock(*clock)
	default:
		p.engine.Add(signal, r.Offset)
	}
	if !p.replaying {
		s.metrics.stage.In.Inc()
		s.metrics.stage.BytesIn.Add(float64(len(r.Value)))
		out.signals++
	}
	return nil
}

// collect makes records of what the engine gave. A replay writes nothing but what first_seen remembers.
func (s *Service) collect(p *partition, out *effects) error {
	o := p.engine.Take()
	for i := range o.Seen {
		r, err := o.Seen[i].Record(p.id)
		if err != nil {
			return err
		}
		out.after = append(out.after, r)
	}
	if p.replaying {
		return nil
	}
	records, err := Records(o.Signals)
	if err != nil {
		return err
	}
	out.records = append(out.records, records...)
	for i := range o.Alerts {
		a := &o.Alerts[i]
		if s.deps.Complete != nil {
			s.deps.Complete(a)
		}
		value, err := json.Marshal(a)
		if err != nil {
			return fmt.Errorf("encoding an alert: %w", err)
		}
		out.records = append(out.records, &kgo.Record{
			Topic: schemas.TopicAlerts, Key: []byte(a.ID), Value: value,
			Headers: []kgo.RecordHeader{{Key: schemas.HeaderVersion, Value: []byte(strconv.Itoa(schemas.Version))}},
		})
		out.alerts = append(out.alerts, *a)
		out.bytes += len(value)
	}
	return nil
}

// promise writes how far the correlations are that others count.
func (s *Service) promise(p *partition, out *effects) error {
	depth := p.engine.set.depth()
	now := time.Now()
	if depth < 2 || now.Sub(p.clocked) < clockInterval {
		return nil
	}
	p.clocked = now
	for level := 1; level < depth; level++ {
		at := micro(p.engine.Promise(level))
		if !believed(at) {
			continue
		}
		records, err := Clock{Level: level, Partition: p.id, Of: s.all, Time: at}.Records(s.all)
		if err != nil {
			return err
		}
		out.after = append(out.after, records...)
	}
	return nil
}

// write produces and returns when all is acknowledged. It gives up only on errors that stay, and when
// ctx ends. What first_seen remembers and the clocks of chains come after the rest: they say that it is there.
func (s *Service) write(ctx context.Context, out *effects) error {
	start := time.Now()
	for _, records := range [][]*kgo.Record{out.records, out.after} {
		if err := kafka.Produce(ctx, s.client, s.log, records...); err != nil {
			return err
		}
	}
	for i := range out.alerts {
		s.metrics.raised.WithLabelValues(out.alerts[i].Rule, out.alerts[i].Severity).Inc()
	}
	if out.signals > 0 {
		s.metrics.stage.Done(out.signals, out.bytes, start, time.Time{})
	}
	return nil
}

// commit commits what is written. A commit that fails is made up for by a later one, or by a replay.
func (s *Service) commit(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commitLocked(ctx)
}

func (s *Service) commitLocked(ctx context.Context) {
	offsets, metadata := map[int32]kgo.EpochOffset{}, map[int32]string{}
	for id, p := range s.partitions {
		s.count(p)
		if p.replaying || p.next <= p.committed {
			continue
		}
		offsets[id] = kgo.EpochOffset{Epoch: -1, Offset: p.next}
		metadata[id] = position{replay: p.engine.ReplayFrom(p.next), times: p.engine.Times()}.String()
	}
	if len(offsets) == 0 {
		return
	}
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				m := metadata[req.Topics[i].Partitions[j].Partition]
				req.Topics[i].Partitions[j].Metadata = &m
			}
		}
		return nil
	})
	var failed error
	s.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{schemas.TopicSignals: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			if failed = err; err != nil {
				return
			}
			for _, topic := range resp.Topics {
				for _, p := range topic.Partitions {
					if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
						failed = err
					} else if known := s.partitions[p.Partition]; known != nil {
						known.committed = offsets[p.Partition].Offset
					}
				}
			}
		})
	if failed != nil {
		s.log.Warn("offsets not committed, trying again", "topic", schemas.TopicSignals, "err", failed)
	}
}

func (s *Service) count(p *partition) {
	c := p.engine.Counts()
	s.metrics.unknown.Add(float64(c.Unknown))
	p.engine.counts.Unknown = 0
	s.metrics.counted(p.id, c)
}

// partitioner puts what first_seen remembers where it says, and everything else by its key.
type partitioner struct{ kgo.Partitioner }

func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	if topic == schemas.TopicSeen {
		return kgo.ManualPartitioner().ForTopic(topic)
	}
	return p.Partitioner.ForTopic(topic)
}
