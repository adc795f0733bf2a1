package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// versionError is a record in a newer format than this build reads.
type versionError struct{ err error }

func (e *versionError) Error() string { return e.err.Error() }

func (e *versionError) Unwrap() error { return e.err }

// checkVersion returns a *versionError for a record of a newer version.
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
		return &versionError{err}
	}
	return err
}

func decodeAlert(r *kgo.Record) (*schemas.Alert, error) {
	if err := checkVersion(r); err != nil {
		return nil, err
	}
	var a schemas.Alert
	if err := json.Unmarshal(r.Value, &a); err != nil {
		return nil, fmt.Errorf("decoding an alert: %w", err)
	}
	if a.ID == "" {
		return nil, errors.New("decoding an alert: it has no id")
	}
	return &a, nil
}

func versionHeader() []kgo.RecordHeader {
	return []kgo.RecordHeader{{Key: schemas.HeaderVersion, Value: []byte(strconv.Itoa(schemas.Version))}}
}

func (s *State) record(key string) (*kgo.Record, error) {
	value, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding the state of a notification: %w", err)
	}
	return &kgo.Record{
		Topic: schemas.TopicNotifications, Key: []byte(key), Value: value, Headers: versionHeader(),
	}, nil
}

// markerKey is the key of the records that only serve to be read back. Compaction keeps
// one of them per partition.
const markerKey = "marker"

// partitioner puts markers into the partition they name and everything else by its key.
type partitioner struct{ kgo.Partitioner }

func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return topicPartitioner{p.Partitioner.ForTopic(topic)}
}

type topicPartitioner struct{ kgo.TopicPartitioner }

func (p topicPartitioner) Partition(r *kgo.Record, n int) int {
	if r.Topic != schemas.TopicAlerts && string(r.Key) == markerKey {
		return int(r.Partition)
	}
	return p.TopicPartitioner.Partition(r, n)
}

// follow reads what any instance recorded, from the beginning. Once this instance posts it is
// the only one that writes groups, and knows them better than what comes back.
func (n *session) follow(ctx context.Context, client *kgo.Client) error {
	for {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := n.fetchErrors(ctx, fetches); err != nil {
			return err
		}
		now := time.Now()
		for iter := fetches.RecordIter(); !iter.Done(); {
			r := iter.Next()
			if err := n.learn(r, now); err != nil {
				return fmt.Errorf("reading %s/%d at offset %d: %w", r.Topic, r.Partition, r.Offset, err)
			}
			n.read.advance(place{r.Topic, r.Partition}, r.Offset+1)
		}
	}
}

// learn takes in one record.
func (n *session) learn(r *kgo.Record, now time.Time) error {
	err := checkVersion(r)
	if _, ok := errors.AsType[*versionError](err); ok {
		return err
	}
	switch {
	case err != nil:
	case r.Topic == schemas.TopicSilences:
		err = n.learnSilence(r)
	case len(r.Value) > 0 && !n.active.Load():
		n.learning.Lock()
		defer n.learning.Unlock()
		if strings.HasPrefix(string(r.Key), groupPrefix) {
			err = n.learnGroup(r.Value, now)
		} else {
			err = n.learnState(r.Value, now)
		}
	}
	if err != nil {
		n.log.Warn("record cannot be read", "topic", r.Topic, "partition", r.Partition,
			"offset", r.Offset, "err", err)
	}
	return nil
}

func (n *session) learnSilence(r *kgo.Record) error {
	silence, err := decodeSilence(r)
	if err != nil || silence == nil {
		return err
	}
	n.silenced.apply(silence)
	if n.active.Load() {
		n.store.review()
	}
	return nil
}

func (n *session) learnGroup(value []byte, now time.Time) error {
	var g Group
	if err := json.Unmarshal(value, &g); err != nil {
		return fmt.Errorf("decoding the state of a group: %w", err)
	}
	if g.ID == "" || now.Sub(g.UpdatedAt) > n.cfg.Remember {
		return nil
	}
	for _, id := range g.Unmarked {
		if !n.memory.has(id) {
			n.loose[id] = State{AlertID: id, GroupID: g.ID, PostedAt: g.UpdatedAt, State: stateCounted}
		}
		n.memory.add(id, g.UpdatedAt, now)
	}
	g.Unmarked = nil // see markLoose
	if len(g.Told) == 0 {
		// Whoever was to be told may not be configured any more.
		g.Routes = n.router.receivers(&g.Alert)
	}
	n.store.restore(&g)
	return nil
}

// markLoose writes the records of alerts that whoever was killed had counted and not yet marked:
// the next record of their groups says nothing of them, and they may be delivered again.
func (n *session) markLoose(ctx context.Context) error {
	n.learning.Lock()
	states := slices.Collect(maps.Values(n.loose))
	n.learning.Unlock()
	for chunk := range slices.Chunk(states, maxBatch) {
		if err := n.markCounted(ctx, chunk); err != nil {
			return err
		}
	}
	return nil
}

func (n *session) learnState(value []byte, now time.Time) error {
	s, err := decodeState(value)
	if err == nil && s.AlertID != "" && s.State != stateMarker {
		delete(n.loose, s.AlertID)
		n.memory.add(s.AlertID, s.PostedAt, now)
	}
	return err
}

// catchUp returns when all that was recorded before it was called is known. It writes a
// marker into each partition of the topics that it follows and waits until it is read back:
// unlike an end offset a marker cannot be compacted away, and an instance that may not
// write there finds out before it posts what it cannot record.
func (n *session) catchUp(ctx context.Context) error {
	for wait := n.cfg.RetryMin; ; wait = min(2*wait, n.cfg.RetryMax) {
		offsets, err := n.writeMarkers(ctx)
		if err == nil {
			return n.read.reach(ctx, offsets)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if kafka.Fatal(err) {
			return err
		}
		n.log.Warn("what was posted before is not known yet", "topic", schemas.TopicNotifications, "err", err)
		if err := kafka.Pause(ctx, wait); err != nil {
			return err
		}
	}
}

func (n *session) writeMarkers(ctx context.Context) (map[place]int64, error) {
	followed := []string{schemas.TopicNotifications, schemas.TopicSilences}
	topics, err := kadm.NewClient(n.client).ListTopics(ctx, followed...)
	if err == nil {
		err = topics.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("listing the partitions of %s, which auditmill topics creates: %w", strings.Join(followed, " and "), err)
	}
	var records []*kgo.Record
	for _, topic := range followed {
		for id := range topics[topic].Partitions {
			marker := State{PostedAt: time.Now().UTC(), State: stateMarker}
			r, err := marker.record(markerKey)
			if err != nil {
				return nil, err
			}
			r.Topic, r.Partition = topic, id
			records = append(records, r)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	offsets := make(map[place]int64, len(records))
	for _, result := range n.client.ProduceSync(ctx, records...) {
		if result.Err != nil {
			return nil, fmt.Errorf("writing a marker to %s: %w", result.Record.Topic, result.Err)
		}
		offsets[place{result.Record.Topic, result.Record.Partition}] = result.Record.Offset
	}
	return offsets, nil
}

// save records groups as they are. It returns when that is durable; it gives up only on errors
// that stay, and once ctx has ended after one more attempt.
func (n *session) save(ctx context.Context, ids []string) error {
	return n.insist(ctx, "the record of a notification", func(ctx context.Context) error {
		var failed error
		var mu sync.Mutex
		var written sync.WaitGroup
		err := n.store.records(ids, func(r *kgo.Record) {
			written.Add(1)
			n.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
				written.Done()
			})
		})
		written.Wait()
		return errors.Join(err, failed)
	})
}

// markCounted records that alerts are counted.
func (n *session) markCounted(ctx context.Context, states []State) error {
	records := make([]*kgo.Record, len(states))
	for i := range states {
		r, err := states[i].record(states[i].AlertID)
		if err != nil {
			return err
		}
		records[i] = r
	}
	return n.insist(ctx, "the record of an alert", func(ctx context.Context) error {
		return n.client.ProduceSync(ctx, records...).FirstErr()
	})
}

// Reasons for the dead-letter topic; those of refusals are the sink's.
const reasonMalformed = "malformed"

// bury gives an alert to the dead-letter topic and returns when that is durable.
func (n *session) bury(ctx context.Context, r *kgo.Record, reason string, cause error) error {
	n.log.Error("alert given to the dead-letter topic", "topic", r.Topic, "partition", r.Partition,
		"offset", r.Offset, "reason", reason, "err", cause)
	err := n.insist(ctx, "a dead letter", func(ctx context.Context) error {
		return kafka.WriteDead(ctx, n.client, schemas.TopicDead, kafka.DeadRecord(r, reason, cause))
	})
	if err == nil {
		n.metrics.dead.WithLabelValues(reason).Inc()
	}
	return err
}

// insist repeats a write to Kafka as long as that can help.
func (n *session) insist(ctx context.Context, what string, write func(context.Context) error) error {
	for wait := n.cfg.RetryMin; ; wait = min(2*wait, n.cfg.RetryMax) {
		attempt, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		err := write(attempt)
		cancel()
		if err == nil {
			return nil
		}
		if kafka.Fatal(err) || ctx.Err() != nil {
			return fmt.Errorf("writing %s: %w", what, err)
		}
		n.log.Warn("writing to Kafka is delayed", "err", err)
		if err := kafka.Pause(ctx, wait); err != nil && ctx.Err() == nil {
			return err
		}
	}
}
