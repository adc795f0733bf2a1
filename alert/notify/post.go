package notify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// post posts the queued alerts, one after the other, the most severe first.
func (n *Notifier) post(ctx context.Context) error {
	known := 0 // generation of the assignment whose past is known
	for {
		generation, err := n.queue.next(ctx, known)
		if err != nil {
			return err
		}
		if generation != known {
			if err := n.catchUp(ctx); err != nil {
				return err
			}
			known = generation
			continue
		}
		// First wait, then choose: what comes in meanwhile may be more severe.
		if err := pause(ctx, n.wait()); err != nil {
			return err
		}
		it := n.queue.take(known, time.Now())
		if it == nil {
			continue
		}
		if err := n.attempt(ctx, it); err != nil {
			return err
		}
	}
}

// wait is how long to wait before the next attempt. The instances share a channel, so a
// post of another one counts too, once its record was read.
func (n *Notifier) wait() time.Duration {
	return max(time.Until(n.notBefore), time.Until(n.memory.lastPost().Add(n.deps.Interval)))
}

// attempt makes one attempt to post an alert and gives it back to the queue, done or not.
func (n *Notifier) attempt(ctx context.Context, it *item) error {
	if n.memory.has(it.message.ID) {
		n.metrics.duplicates.Inc()
		n.mark(n.queue.done(it))
		return nil
	}
	start := time.Now()
	if raised := it.message.RaisedAt; n.cfg.MaxAge > 0 && !raised.IsZero() && start.Sub(raised) > n.cfg.MaxAge {
		n.metrics.expired.Inc()
		return n.finish(ctx, it, State{PostedAt: start.UTC(), State: stateExpired})
	}
	// A post is not broken off when the service stops: its outcome would be unknown.
	post, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.deps.Timeout)
	receipt, err := n.deps.Sink.Post(post, &it.message, it.plain)
	cancel()
	now := time.Now()
	n.metrics.attempt.Observe(now.Sub(start).Seconds())
	if err != nil {
		return n.failed(ctx, it, asError(err))
	}
	n.notBefore, n.failures = now.Add(n.deps.Interval), 0
	n.unblock()
	state := State{Channel: receipt.Channel, TS: receipt.TS, PostedAt: now.UTC(), State: statePosted}
	if err := n.finish(ctx, it, state); err != nil {
		return fmt.Errorf("an alert was posted and may be posted again: %w", err)
	}
	n.metrics.posted.WithLabelValues(it.message.Severity).Inc()
	if !it.message.RaisedAt.IsZero() {
		n.metrics.delay.Observe(max(0, now.Sub(it.message.RaisedAt).Seconds()))
	}
	if n.deps.Observe != nil {
		n.deps.Observe(&it.message, receipt)
	}
	return nil
}

// finish records what became of an alert and lets its offset be committed, in this order.
func (n *Notifier) finish(ctx context.Context, it *item, s State) error {
	s.AlertID, s.Sink = it.message.ID, n.deps.Sink.Name()
	n.memory.add(s.AlertID, s.PostedAt, s.PostedAt)
	if err := n.remember(ctx, s); err != nil {
		return err
	}
	n.mark(n.queue.done(it))
	return nil
}

// maxRetryAfter bounds how long a sink can keep us waiting with one answer.
const maxRetryAfter = time.Hour

// failed decides what follows on an error of the sink.
func (n *Notifier) failed(ctx context.Context, it *item, e *Error) error {
	if e.Unknown {
		n.metrics.unknown.Inc()
		it.message.Repeat = true
	}
	switch {
	case e.Class == Refused && it.plain:
		return n.refused(ctx, it, e)
	case (e.Class == Refused || e.Class == Doubtful) && !it.plain:
		it.plain = true
		n.notBefore = time.Now().Add(n.deps.Interval)
		n.log.Error("message refused, trying it without layout", "rule", it.message.Rule, "reason", e.Reason, "err", e.Err)
	case e.Class == Transient:
		n.failures++
		if e.RetryAfter == 0 {
			it.failures++
		}
		n.notBefore = time.Now().Add(max(min(e.RetryAfter, maxRetryAfter), n.backoff()))
		n.log.Warn("alert not posted yet", "rule", it.message.Rule, "reason", e.Reason, "err", e.Err)
	default:
		n.notBefore = time.Now().Add(n.cfg.RetryMax)
		n.block(e)
	}
	n.metrics.retries.WithLabelValues(e.Reason).Inc()
	n.queue.release(it)
	return nil
}

// backoff doubles with each failure in a row; the random part keeps instances apart.
func (n *Notifier) backoff() time.Duration {
	d := n.cfg.RetryMin << min(n.failures-1, 16)
	if d <= 0 || d > n.cfg.RetryMax {
		d = n.cfg.RetryMax
	}
	return d/2 + rand.N(d/2+1)
}

// refused gives an alert to the dead-letter topic that the sink will never accept.
func (n *Notifier) refused(ctx context.Context, it *item, e *Error) error {
	if err := n.bury(ctx, it.record, e.Reason, e.Err); err != nil {
		return err
	}
	return n.finish(ctx, it, State{PostedAt: time.Now().UTC(), State: stateRefused, Reason: e.Reason})
}

// block says loudly that a person must act. Posting is tried again all the same.
func (n *Notifier) block(e *Error) {
	n.log.Error("no alert can be posted until somebody acts", "reason", e.Reason, "err", e.Err)
	n.blocked = true
	n.metrics.blocked.Set(1)
	if n.deps.Ready != nil {
		n.deps.Ready(e)
	}
}

func (n *Notifier) unblock() {
	if !n.blocked {
		return
	}
	n.log.Info("alerts are posted again")
	n.blocked = false
	n.metrics.blocked.Set(0)
	if n.deps.Ready != nil {
		n.deps.Ready(nil)
	}
}
