package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// Topics is the section topics of the configuration.
type Topics struct {
	Partitions  int32 `mapstructure:"partitions" doc:"partitions of audit.raw.v1 and audit.enriched.v1: the most instances of enrich, alert or load that work at once"`
	Replication int16 `mapstructure:"replication" doc:"replicas of each topic; -1: the broker's default"`
}

// Validate returns every fault, each with its key.
func (t Topics) Validate() error {
	var errs []error
	if t.Partitions < 1 || t.Partitions > 10_000 {
		errs = append(errs, errors.New("partitions: must be 1 to 10000"))
	}
	if t.Replication == 0 || t.Replication < -1 {
		errs = append(errs, errors.New("replication: must be at least 1, or -1 for the broker's default"))
	}
	return errors.Join(errs...)
}

// EnsureTopics compares the pipeline's topics with what the broker has and, if create is
// set, creates those that are missing.
func EnsureTopics(ctx context.Context, cfg *Config, create bool) ([]kafka.TopicState, error) {
	client, err := kafka.NewClient(cfg.Kafka)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if err := kafka.WaitForBroker(ctx, client, cfg.Kafka); err != nil {
		return nil, err
	}
	var topics []kafka.Topic
	for _, t := range schemas.Topics(cfg.Topics.Partitions) {
		topics = append(topics, kafka.Topic{
			Name: t.Name, Partitions: t.Partitions, Replication: cfg.Topics.Replication, Configs: t.Configs,
		})
	}
	return kafka.EnsureTopics(ctx, client, topics, create)
}

// ReplicationWarning says which topics have a single replica on an Apache Kafka, and what that
// risks; empty if none. The embedded Kafka is different: it has one replica of everything, on
// disk, and recovers from a crash.
func ReplicationWarning(ctx context.Context, cfg *Config, states []kafka.TopicState) (string, error) {
	var single []string
	for _, s := range states {
		if s.Replication == 1 {
			single = append(single, s.Name)
		}
	}
	if len(single) == 0 {
		return "", nil
	}
	client, err := kafka.NewClient(cfg.Kafka)
	if err != nil {
		return "", err
	}
	defer client.Close()
	apache, err := kafka.IsApache(ctx, client)
	if err != nil || !apache {
		return "", err
	}
	return fmt.Sprintf("one replica only of %s: a crash of its broker can leave a transaction open for ever, "+
		"behind which nothing is read, and a lost disk loses events; create topics with topics.replication=3 "+
		"unless you are only trying things out", strings.Join(single, ", ")), nil
}

// TopicsError says what is wrong with topics; nil if all is as it should be.
func TopicsError(states []kafka.TopicState) error {
	var wrong []string
	for _, s := range states {
		switch s.Status {
		case kafka.TopicMissing:
			wrong = append(wrong, s.Name+" is missing")
		case kafka.TopicDiffers:
			for _, d := range s.Diffs {
				wrong = append(wrong, s.Name+": "+d.String())
			}
		case kafka.TopicOK, kafka.TopicCreated:
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("topics are not as they should be:\n  %s", strings.Join(wrong, "\n  "))
}
