package notify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// maxBatch bounds the alerts that are counted, and recorded, at a time.
const maxBatch = 1000

// consume counts alerts as long as there is room; the rest waits in Kafka.
func (n *session) consume(ctx context.Context) error {
	for {
		if err := n.store.room(ctx); err != nil {
			return err
		}
		fetches := n.client.PollRecords(ctx, maxBatch)
		err := n.accept(ctx, fetches)
		n.client.AllowRebalance()
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// accept counts alerts: groups are recorded first, with the ids of the alerts that are new in
// them, then each alert, and only then are their offsets marked. So an alert that is delivered
// again is known, wherever this process was killed.
func (n *session) accept(ctx context.Context, fetches kgo.Fetches) error {
	if err := n.fetchErrors(ctx, fetches); err != nil {
		return err
	}
	now := time.Now()
	counted := map[string]struct{}{} // groups
	var states []State
	records := fetches.Records()
	for _, r := range records {
		a, err := n.acceptRecord(ctx, r)
		if err != nil {
			return err
		}
		if a == nil {
			continue
		}
		if n.memory.has(a.ID) {
			// The same alert again: it tells more, if the event was corrected, or it was delivered again.
			if group := n.store.improve(a, n.router.receivers(a)); group != "" {
				counted[group] = struct{}{}
			} else {
				n.metrics.duplicates.Inc()
			}
			continue
		}
		n.memory.add(a.ID, now, now)
		g := n.store.add(a, n.router.receivers(a), now)
		counted[g.ID] = struct{}{}
		states = append(states, State{AlertID: a.ID, GroupID: g.ID, PostedAt: now.UTC(), State: stateCounted})
	}
	if len(counted) > 0 {
		ids := slices.Sorted(maps.Keys(counted))
		if err := n.save(ctx, ids); err != nil {
			return err
		}
		n.store.release(ids)
		if len(states) > 0 {
			if err := n.markCounted(ctx, states); err != nil {
				return err
			}
		}
		n.store.marked(ids)
	}
	n.client.MarkCommitRecords(records...)
	return nil
}

// acceptRecord returns the alert in a record; nil if there is none.
func (n *session) acceptRecord(ctx context.Context, r *kgo.Record) (*schemas.Alert, error) {
	alert, err := decodeAlert(r)
	var newer *versionError
	switch {
	case errors.As(err, &newer):
		return nil, fmt.Errorf("reading %s/%d at offset %d: %w", r.Topic, r.Partition, r.Offset, err)
	case err != nil:
		return nil, n.bury(ctx, r, reasonMalformed, err)
	}
	return alert, nil
}

// fetchErrors returns an error that ends the service; kgo retries the others itself.
func (n *Notifier) fetchErrors(ctx context.Context, fetches kgo.Fetches) error {
	var fatal error
	fetches.EachError(func(topic string, partition int32, err error) {
		switch {
		case ctx.Err() != nil:
		case kafka.Fatal(err):
			fatal = fmt.Errorf("reading %s/%d: %w", topic, partition, err)
		default:
			n.log.Warn("reading from Kafka is delayed", "topic", topic, "partition", partition, "err", err)
		}
	})
	return fatal
}

const lagInterval = 10 * time.Second

func (n *session) watchLag(ctx context.Context) error {
	adm := kadm.NewClient(n.client)
	ticker := time.NewTicker(lagInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		lag, err := kafka.Lag(ctx, adm, n.cfg.Group, schemas.TopicAlerts)
		if err != nil {
			n.log.Debug("lag not known", "topic", schemas.TopicAlerts, "err", err)
			continue
		}
		n.metrics.lag.Set(float64(lag[schemas.TopicAlerts]))
	}
}
