package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	shortestWait = 100 * time.Millisecond
	longestWait  = 10 * time.Second
)

// Produce returns when all records are acknowledged. It repeats those that failed, with growing pauses, and gives up only on
// errors that stay and when ctx ends.
func Produce(ctx context.Context, client *kgo.Client, log *slog.Logger, records ...*kgo.Record) error {
	for wait := shortestWait; len(records) > 0; wait = min(2*wait, longestWait) {
		var failed []*kgo.Record
		var cause error
		for _, result := range client.ProduceSync(ctx, records...) {
			if result.Err != nil {
				cause = result.Err
				failed = append(failed, result.Record)
			}
		}
		records = failed
		if cause == nil {
			return nil
		}
		if Fatal(cause) || ctx.Err() != nil {
			return fmt.Errorf("producing to %s: %w", failed[0].Topic, cause)
		}
		log.Warn("cannot produce, trying again", "topic", failed[0].Topic, "err", cause)
		if err := Pause(ctx, wait); err != nil {
			return fmt.Errorf("producing to %s: %w", failed[0].Topic, errors.Join(err, cause))
		}
	}
	return nil
}

// Pause waits for d, or until ctx ends, whose error it returns then.
func Pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
