package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

const (
	janitorTimeout = time.Minute
	// compactGrowth is how much compacted topics must have grown for another compaction.
	compactGrowth = 16 << 20
)

// janitor deletes what is past its retention and compacts. The broker can do both, but would
// empty an idle partition, which then forgets its offsets with the next start, and would lose a
// compacted topic to a crash in the middle.
type janitor struct {
	server *Server
	log    *slog.Logger
	client *kgo.Client
	admin  *kadm.Client
	cancel context.CancelFunc
	done   chan struct{}
	// kept is closed when no heartbeats are sent for others any more.
	kept chan struct{}
	// compacted is the size of all compacted topics after the last compaction.
	compacted int64
}

func startJanitor(s *Server, m *members) (*janitor, error) {
	// Topics as they are now, not as they were five seconds ago.
	opts := []kgo.Opt{kgo.SeedBrokers(s.addr), kgo.MetadataMinAge(10 * time.Millisecond)}
	if s.cfg.Username != "" {
		opts = append(opts, kgo.SASL(scram.Auth{User: s.cfg.Username, Pass: s.cfg.Password}.AsSha256Mechanism()))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("creating the janitor's client: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	j := &janitor{
		server: s, log: s.log, client: client, admin: kadm.NewClient(client), cancel: cancel,
		done: make(chan struct{}), kept: make(chan struct{}),
	}
	if err := j.unhide(ctx); err != nil {
		cancel()
		client.Close()
		return nil, err
	}
	go j.run(ctx, s.cfg.JanitorPeriod)
	go func() {
		defer close(j.kept)
		m.keep(ctx, s.cluster, client)
	}()
	return j, nil
}

func (j *janitor) stop() {
	j.cancel()
	<-j.done
	<-j.kept
	j.client.Close()
}

func (j *janitor) run(ctx context.Context, period time.Duration) {
	defer close(j.done)
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		round, cancel := context.WithTimeout(ctx, janitorTimeout)
		err := j.round(round, time.Now())
		cancel()
		if err != nil && ctx.Err() == nil {
			j.log.Warn("kafka retention did not run", "err", err)
		}
	}
}

// topicPolicy is what a topic's configuration says about its past.
type topicPolicy struct {
	delete, compact bool
	lag             bool   // a version is kept for a while although there is a newer one
	cleanup         string // as configured
	maxAge          time.Duration
	maxBytes        int64
}

// round applies retention and compaction once.
func (j *janitor) round(ctx context.Context, now time.Time) error {
	policies, err := j.policies(ctx)
	if err != nil {
		return err
	}
	ends, err := j.admin.ListEndOffsets(ctx, keys(policies)...)
	if err != nil {
		return fmt.Errorf("listing end offsets: %w", err)
	}
	cuts := make(kadm.Offsets)
	for topic, policy := range policies {
		if !policy.delete {
			continue
		}
		if err := j.cutsOf(ctx, topic, policy, ends[topic], now, cuts); err != nil {
			return err
		}
	}
	if len(cuts) > 0 {
		deleted, err := j.admin.DeleteRecords(ctx, cuts)
		if err = errors.Join(err, deleted.Error()); err != nil {
			return fmt.Errorf("deleting old records: %w", err)
		}
	}
	return j.compact(ctx, policies, ends)
}

func keys(policies map[string]topicPolicy) []string {
	topics := make([]string, 0, len(policies))
	for topic := range policies {
		topics = append(topics, topic)
	}
	return topics
}

func (j *janitor) policies(ctx context.Context) (map[string]topicPolicy, error) {
	topics, err := j.admin.ListTopics(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing topics: %w", err)
	}
	policies := make(map[string]topicPolicy, len(topics))
	if len(topics) == 0 {
		return policies, nil
	}
	configs, err := j.admin.DescribeTopicConfigs(ctx, topics.Names()...)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration of topics: %w", err)
	}
	for _, config := range configs {
		if config.Err != nil {
			return nil, fmt.Errorf("reading the configuration of topic %s: %w", config.Name, config.Err)
		}
		policies[config.Name] = policyOf(config.Configs, j.server.cfg.RetentionBytes)
	}
	return policies, nil
}

func policyOf(configs []kadm.Config, maxBytes int64) topicPolicy {
	policy := topicPolicy{delete: true, maxAge: -1, maxBytes: maxBytes}
	for _, config := range configs {
		if config.Source != kmsg.ConfigSourceDynamicTopicConfig {
			// The defaults are this package's own.
			continue
		}
		value := config.MaybeValue()
		switch config.Key {
		case "cleanup.policy":
			policy.cleanup = value
			value = strings.ToLower(value)
			policy.compact = strings.Contains(value, "compact")
			policy.delete = strings.Contains(value, "delete")
		case "min.compaction.lag.ms":
			policy.lag = value != "0"
		case "retention.ms":
			if ms, err := strconv.ParseInt(value, 10, 64); err == nil && ms >= 0 {
				policy.maxAge = time.Duration(ms) * time.Millisecond
			}
		case "retention.bytes":
			if bytes, err := strconv.ParseInt(value, 10, 64); err == nil && bytes > 0 {
				policy.maxBytes = bytes
			}
		}
	}
	return policy
}

// cutsOf adds the offsets up to which the records of a topic are to be deleted. The last record
// stays: a partition without any would begin again at offset zero after a restart.
func (j *janitor) cutsOf(ctx context.Context, topic string, policy topicPolicy,
	ends map[int32]kadm.ListedOffset, now time.Time, cuts kadm.Offsets,
) error {
	young := make(map[int32]kadm.ListedOffset)
	if policy.maxAge >= 0 {
		listed, err := j.admin.ListOffsetsAfterMilli(ctx, now.Add(-policy.maxAge).UnixMilli(), topic)
		if err != nil {
			return fmt.Errorf("listing offsets by age: %w", err)
		}
		young = listed[topic]
	}
	for id, end := range ends {
		if end.Err != nil || end.Offset == 0 {
			continue
		}
		var cut int64
		if first, ok := young[id]; ok && first.Err == nil {
			cut = first.Offset
		}
		if policy.maxBytes > 0 {
			bySize, err := cutBySize(partitionDir(j.server.logs(), topic, id), policy.maxBytes)
			if err != nil {
				return fmt.Errorf("measuring %s/%d: %w", topic, id, err)
			}
			if bySize > cut {
				j.log.Warn("kafka deletes records for their size", "topic", topic, "partition", id, "offset", bySize)
				cut = bySize
			}
		}
		if cut = min(cut, end.Offset-1); cut > 0 {
			cuts.AddOffset(topic, id, cut, -1)
		}
	}
	return nil
}

// cutBySize returns the start of the oldest segment that may stay.
func cutBySize(dir string, limit int64) (int64, error) {
	bases, err := segmentBases(dir)
	if err != nil {
		return 0, err
	}
	var total int64
	for i, base := range slices.Backward(bases) {
		info, err := os.Stat(segmentPath(dir, base, segmentSuffix))
		if err != nil {
			return 0, err
		}
		if total += info.Size(); total > limit && i < len(bases)-1 {
			return bases[i+1], nil
		}
	}
	return 0, nil
}

// compact has the broker rewrite the compacted topics when they have grown enough. What it
// rewrites stays linked until it is done.
func (j *janitor) compact(ctx context.Context, policies map[string]topicPolicy, ends kadm.ListedOffsets) error {
	var dirs []string
	for topic, policy := range policies {
		if !policy.compact || policy.lag {
			continue
		}
		if !policy.delete && policy.maxAge >= 0 {
			j.log.Warn("kafka compacts nothing: a topic is compacted but has a retention time; "+
				"remove its retention.ms", "topic", topic)
			return nil
		}
		for id := range ends[topic] {
			dirs = append(dirs, partitionDir(j.server.logs(), topic, id))
		}
	}
	size, err := sizeOf(dirs)
	if err != nil || size < j.compacted+compactGrowth {
		return err
	}
	if err := j.rememberOffsets(ends); err != nil {
		return fmt.Errorf("writing down offsets: %w", err)
	}
	links := filepath.Join(j.server.cfg.Dir, compactingDir)
	for _, dir := range dirs {
		if err := linkSegments(dir, filepath.Join(links, filepath.Base(dir))); err != nil {
			return fmt.Errorf("linking segments before compaction: %w", err)
		}
	}
	err = j.setCleanup(ctx, policies, strings.ToUpper)
	if err == nil {
		j.server.cluster.Compact()
	}
	if err := errors.Join(err, j.unhide(ctx)); err != nil {
		return err
	}
	if err := os.RemoveAll(links); err != nil {
		return fmt.Errorf("removing links after compaction: %w", err)
	}
	j.compacted, err = sizeOf(dirs)
	j.log.Info("kafka compacted topics", "before", size, "after", j.compacted)
	return err
}

// setCleanup changes the letters of cleanup.policy where a version must be kept for a while although there is a newer one. The
// broker does not know min.compaction.lag.ms, it would drop that version at once, and who reads the topic from its beginning
// would never learn what was so. It compacts no topic whose policy is in capitals.
func (j *janitor) setCleanup(ctx context.Context, policies map[string]topicPolicy, letters func(string) string) error {
	for topic, policy := range policies {
		value := letters(policy.cleanup)
		if !policy.compact || !policy.lag || value == policy.cleanup {
			continue
		}
		answers, err := j.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "cleanup.policy", Value: &value}}, topic)
		if err == nil {
			_, err = answers.On(topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
		}
		if err != nil {
			return fmt.Errorf("setting cleanup.policy of topic %s to %s: %w", topic, value, err)
		}
	}
	return nil
}

// unhide makes the policies of topics what they were before setCleanup, also if the process was killed in between.
func (j *janitor) unhide(ctx context.Context) error {
	policies, err := j.policies(ctx)
	if err != nil {
		return err
	}
	return j.setCleanup(ctx, policies, strings.ToLower)
}

func sizeOf(dirs []string) (int64, error) {
	var size int64
	for _, dir := range dirs {
		bases, err := segmentBases(dir)
		if err != nil {
			return 0, err
		}
		for _, base := range bases {
			info, err := os.Stat(segmentPath(dir, base, segmentSuffix))
			if err != nil {
				return 0, err
			}
			size += info.Size()
		}
	}
	return size, nil
}
