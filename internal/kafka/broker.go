package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// WaitForBroker returns when a broker answers, or with an error that says what to check:
// when the context ends, or at once when waiting cannot help, as with a wrong password.
func WaitForBroker(ctx context.Context, cl *kgo.Client, cfg Config) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := ping(ctx, cl)
		if err == nil {
			return nil
		}
		at := strings.Join(cfg.Brokers, ", ")
		if Fatal(err) {
			return fmt.Errorf("reaching Kafka at %s: %w; %s", at, err, remedy(ClassOf(err)))
		}
		if ctxErr := sleep(ctx, wait); ctxErr != nil {
			return fmt.Errorf("reaching Kafka at %s: %w; %s", at,
				errors.Join(ctxErr, err), remedy(ClassOf(err)))
		}
	}
}

// ping bounds one attempt, so that a broker that accepts connections and says nothing does
// not use up the whole wait and its error is known when the wait is over.
func ping(ctx context.Context, cl *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return cl.Ping(ctx)
}

// IsApache reports whether the brokers are of Apache Kafka, or near enough to answer questions
// about its quorum of controllers, which the embedded Kafka does not have.
func IsApache(ctx context.Context, cl *kgo.Client) (bool, error) {
	res, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(res.ErrorCode)
	}
	if err != nil {
		return false, fmt.Errorf("asking Kafka what it can do: %w", err)
	}
	return slices.ContainsFunc(res.ApiKeys, func(k kmsg.ApiVersionsResponseApiKey) bool {
		return k.ApiKey == int16(kmsg.DescribeQuorum)
	}), nil
}

func remedy(class Class) string {
	switch class {
	case ClassAuth:
		return "check kafka.sasl.mechanism, kafka.sasl.username and the password"
	case ClassTLS:
		return "check kafka.tls.enabled, kafka.tls.ca_file and kafka.tls.server_name, and that " +
			"the listener speaks TLS"
	default:
		return "check that kafka.brokers is right, that a broker runs there and can be reached " +
			"from here, and that kafka.tls and kafka.sasl (user and password too) fit its listener"
	}
}

// Lag returns, by topic, how many records wait for a consumer group. Topics names those
// to look at even if the group has committed nothing of them yet; all their records wait
// then. Transaction markers take offsets too, so on a topic written by transactions up to
// one marker per partition may remain counted when all is read.
func Lag(
	ctx context.Context, adm *kadm.Client, group string, topics ...string,
) (map[string]int64, error) {
	commits, err := adm.FetchOffsets(ctx, group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("reading the offsets of group %s: %w", group, err)
	}
	lag := map[string]int64{}
	for topic := range commits {
		lag[topic] = 0
	}
	for _, topic := range topics {
		lag[topic] = 0
	}
	if len(lag) == 0 {
		return lag, nil
	}
	names := make([]string, 0, len(lag))
	for topic := range lag {
		names = append(names, topic)
	}
	starts, err := adm.ListStartOffsets(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("reading the first offsets for group %s: %w", group, err)
	}
	ends, err := adm.ListCommittedOffsets(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("reading the last offsets for group %s: %w", group, err)
	}
	var errs []error
	ends.Each(func(end kadm.ListedOffset) {
		if end.Err != nil {
			errs = append(errs, fmt.Errorf("reading the last offset of %s/%d: %w",
				end.Topic, end.Partition, end.Err))
			return
		}
		from := int64(0)
		if start, ok := starts.Lookup(end.Topic, end.Partition); ok && start.Err == nil {
			from = start.Offset
		}
		if c, ok := commits.Lookup(end.Topic, end.Partition); ok && c.Err == nil {
			from = max(from, c.At)
		}
		lag[end.Topic] += max(0, end.Offset-from)
	})
	return lag, errors.Join(errs...)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
