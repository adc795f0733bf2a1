package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Topic is a topic as it should be.
type Topic struct {
	Name       string
	Partitions int32
	// Replication is the number of replicas; -1 takes the broker's default and is not
	// checked.
	Replication int16
	// Configs are the topic configurations that matter; others are not looked at.
	Configs map[string]string
}

// TopicStatus says how a topic compares with what it should be.
type TopicStatus string

// The states of a topic.
const (
	TopicOK      TopicStatus = "ok"
	TopicCreated TopicStatus = "created"
	TopicMissing TopicStatus = "missing"
	TopicDiffers TopicStatus = "differs"
)

// TopicState is a topic as it is.
type TopicState struct {
	Name       string
	Status     TopicStatus
	Partitions int32
	// Replication is the smallest number of replicas of any partition.
	Replication int16
	Diffs       []Diff
}

// Diff is one thing that is not as it should be: partitions, replication, or a
// configuration.
type Diff struct {
	Key, Want, Got string
}

// String writes "key is got, should be want".
func (d Diff) String() string {
	return fmt.Sprintf("%s is %s, should be %s", d.Key, d.Got, d.Want)
}

// EnsureTopics compares topics with what they should be and, if create is set, creates
// those that are missing. It never changes a topic that exists: more partitions would send
// the same key elsewhere, and configurations belong to whoever runs the brokers. The result
// has one state per topic, in the order given.
func EnsureTopics(
	ctx context.Context, cl *kgo.Client, topics []Topic, create bool,
) ([]TopicState, error) {
	adm := kadm.NewClient(cl)
	found, err := listTopics(ctx, cl, topics)
	if err != nil {
		return nil, err
	}
	created := map[string]bool{}
	var errs []error
	for _, t := range topics {
		if _, exists := found[t.Name]; exists || !create {
			continue
		}
		if err := createTopic(ctx, adm, t); err != nil {
			errs = append(errs, err)
			continue
		}
		created[t.Name] = true
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if len(created) > 0 {
		if found, err = awaitTopics(ctx, cl, topics, created); err != nil {
			return nil, err
		}
	}
	configs, err := topicConfigs(ctx, adm, found)
	if err != nil {
		return nil, err
	}
	states := make([]TopicState, len(topics))
	for i, t := range topics {
		states[i] = compare(t, found[t.Name], configs[t.Name])
		if created[t.Name] && states[i].Status == TopicOK {
			states[i].Status = TopicCreated
		}
	}
	return states, nil
}

// listTopics asks a broker. It does not use kadm, which answers from the client's cache for
// some seconds, and so would not see a topic that was just created.
func listTopics(
	ctx context.Context, cl *kgo.Client, topics []Topic,
) (map[string]kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, t := range topics {
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = new(t.Name)
		req.Topics = append(req.Topics, rt)
	}
	res, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, fmt.Errorf("listing topics: %w", err)
	}
	found := make(map[string]kmsg.MetadataResponseTopic, len(res.Topics))
	for _, t := range res.Topics {
		err := kerr.ErrorForCode(t.ErrorCode)
		switch {
		case t.Topic == nil, errors.Is(err, kerr.UnknownTopicOrPartition):
		case err != nil:
			return nil, fmt.Errorf("listing the topic %s: %w", *t.Topic, err)
		default:
			found[*t.Topic] = t
		}
	}
	return found, nil
}

func createTopic(ctx context.Context, adm *kadm.Client, t Topic) error {
	configs := make(map[string]*string, len(t.Configs))
	for k, v := range t.Configs {
		configs[k] = new(v)
	}
	res, err := adm.CreateTopic(ctx, t.Partitions, t.Replication, configs, t.Name)
	if err == nil {
		err = res.Err
	}
	switch {
	case err == nil, errors.Is(err, kerr.TopicAlreadyExists):
		// Another instance may have created it since we listed; the comparison follows.
		return nil
	case res.ErrMessage != "":
		return fmt.Errorf("creating the topic %s: %w: %s", t.Name, err, res.ErrMessage)
	}
	return fmt.Errorf("creating the topic %s: %w", t.Name, err)
}

// awaitTopics lists the topics until those that were created are visible with leaders: a
// broker learns of a topic a moment after the controller has created it.
func awaitTopics(
	ctx context.Context, cl *kgo.Client, topics []Topic, created map[string]bool,
) (map[string]kmsg.MetadataResponseTopic, error) {
	for {
		found, err := listTopics(ctx, cl, topics)
		if err != nil && !Transient(err) {
			return nil, err
		}
		visible := 0
		for name := range created {
			if t, ok := found[name]; ok && allLed(t) {
				visible++
			}
		}
		if err == nil && visible == len(created) {
			return found, nil
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return nil, fmt.Errorf("waiting for the new topics: %w", err)
		}
	}
}

func allLed(t kmsg.MetadataResponseTopic) bool {
	for _, p := range t.Partitions {
		if p.ErrorCode != 0 || p.Leader < 0 {
			return false
		}
	}
	return len(t.Partitions) > 0
}

func topicConfigs(
	ctx context.Context, adm *kadm.Client, found map[string]kmsg.MetadataResponseTopic,
) (map[string]map[string]string, error) {
	if len(found) == 0 {
		return nil, nil
	}
	described, err := adm.DescribeTopicConfigs(ctx, slices.Collect(maps.Keys(found))...)
	if err != nil {
		return nil, fmt.Errorf("reading the configurations of topics: %w", err)
	}
	out := make(map[string]map[string]string, len(described))
	for _, rc := range described {
		if rc.Err != nil {
			return nil, fmt.Errorf("reading the configuration of the topic %s: %w", rc.Name, rc.Err)
		}
		out[rc.Name] = make(map[string]string, len(rc.Configs))
		for _, c := range rc.Configs {
			out[rc.Name][c.Key] = c.MaybeValue()
		}
	}
	return out, nil
}

func compare(want Topic, got kmsg.MetadataResponseTopic, configs map[string]string) TopicState {
	s := TopicState{Name: want.Name, Status: TopicOK, Partitions: int32(len(got.Partitions))}
	if len(got.Partitions) == 0 {
		s.Status = TopicMissing
		return s
	}
	for _, p := range got.Partitions {
		if n := int16(len(p.Replicas)); s.Replication == 0 || n < s.Replication {
			s.Replication = n
		}
	}
	differ := func(key, want, got string) {
		s.Status = TopicDiffers
		s.Diffs = append(s.Diffs, Diff{Key: key, Want: want, Got: got})
	}
	if s.Partitions != want.Partitions {
		differ("partitions", decimal(want.Partitions), decimal(s.Partitions))
	}
	if want.Replication > 0 && s.Replication != want.Replication {
		differ("replication", decimal(want.Replication), decimal(s.Replication))
	}
	for key, value := range want.Configs {
		if has := configs[key]; !sameConfig(has, value) {
			differ(key, value, has)
		}
	}
	slices.SortStableFunc(s.Diffs, func(a, b Diff) int { return strings.Compare(a.Key, b.Key) })
	return s
}

// sameConfig compares the values of a configuration; the order in a list such as
// "compact,delete" says nothing.
func sameConfig(a, b string) bool {
	as, bs := strings.Split(a, ","), strings.Split(b, ",")
	slices.Sort(as)
	slices.Sort(bs)
	return slices.Equal(as, bs)
}

func decimal[T int16 | int32](n T) string { return strconv.FormatInt(int64(n), 10) }
