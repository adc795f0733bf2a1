package notify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/auditmill/auditmill/internal/kafka"
)

// outlet tells one receiver about the groups that are routed to it, one message after the
// other, the most severe first.
type outlet struct {
	*session
	name     string
	sink     Sink
	interval time.Duration // shortest time between two messages
	timeout  time.Duration // of one attempt
	giveUp   time.Duration // after which a message becomes a dead letter; 0 for never
	pace     pace

	notBefore time.Time
	failures  int       // in a row
	failing   time.Time // since when; zero if the last attempt went well
	blocked   bool
	// Of the digest; the store reads and changes them under its lock.
	digestAt  time.Time
	singles   int
	digestTry try
}

func (o *outlet) run(ctx context.Context) error {
	for {
		// First wait, then choose: what comes in meanwhile may be more severe.
		if err := kafka.Pause(ctx, time.Until(o.notBefore)); err != nil {
			return err
		}
		j, at, changed := o.store.next(o, time.Now())
		if j == nil {
			if err := sleep(ctx, at, changed); err != nil {
				return err
			}
			continue
		}
		if err := o.attempt(ctx, j); err != nil {
			return err
		}
	}
}

// sleep waits for a time, unless it is zero, or a signal.
func sleep(ctx context.Context, until time.Time, signal <-chan struct{}) error {
	var timeout <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-timeout:
	case <-signal:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// attempt makes one attempt to do a job.
func (o *outlet) attempt(ctx context.Context, j *job) error {
	start := time.Now()
	if raised := j.message.RaisedAt; o.cfg.MaxAge > 0 && j.kind != KindDigest && !raised.IsZero() && start.Sub(raised) > o.cfg.MaxAge {
		o.metrics.expired.Inc()
		return o.finish(ctx, j, stateExpired, "", Receipt{})
	}
	// A post is not broken off when the service stops: its outcome would be unknown.
	post, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.timeout)
	receipt, err := o.sink.Post(post, &j.message, j.plain)
	cancel()
	now := time.Now()
	o.metrics.attempt.Observe(now.Sub(start).Seconds())
	if err != nil {
		return o.failed(ctx, j, asError(err))
	}
	o.notBefore, o.failures, o.failing = now.Add(o.interval), 0, time.Time{}
	o.unblock()
	o.store.spend(o, j.kind, now)
	if err := o.finish(ctx, j, statePosted, "", receipt); err != nil {
		return fmt.Errorf("an alert was posted and may be posted again: %w", err)
	}
	o.count(j, now, receipt)
	return nil
}

func (o *outlet) count(j *job, now time.Time, r Receipt) {
	m := &j.message
	switch j.kind {
	case KindUpdate:
		o.metrics.updates.WithLabelValues(o.name).Inc()
		return
	case KindDigest:
		o.metrics.digests.WithLabelValues(o.name).Inc()
		o.metrics.digested.WithLabelValues(o.name).Add(float64(len(j.groups)))
	case KindNew, KindAgain, KindRepeat:
		o.metrics.posted.WithLabelValues(o.name, m.Severity).Inc()
		if j.kind == KindNew && !m.RaisedAt.IsZero() {
			o.metrics.delay.Observe(max(0, now.Sub(m.RaisedAt).Seconds()))
		}
	}
	if o.deps.Observe != nil {
		o.deps.Observe(m, r)
	}
}

// finish records that a job is done.
func (o *outlet) finish(ctx context.Context, j *job, state, reason string, r Receipt) error {
	return o.save(ctx, o.store.finish(o, j, state, reason, r, time.Now()))
}

// maxRetryAfter bounds how long a sink can keep us waiting with one answer.
const maxRetryAfter = time.Hour

// failed decides what follows on an error of the sink.
func (o *outlet) failed(ctx context.Context, j *job, e *Error) error {
	now := time.Now()
	if e.Unknown {
		o.metrics.unknown.Inc()
	}
	invalid := e.Class == Refused || e.Class == Doubtful
	o.store.failed(o, j, e)
	if o.failing.IsZero() {
		o.failing = now
	}
	switch {
	case e.Class == Gone:
		// The message was deleted by hand; what comes next is posted as a new one.
		o.log.Info("message is not there any more", "receiver", o.name, "rule", j.message.Rule, "err", e.Err)
		return o.save(ctx, o.store.gone(o, j))
	case e.Class == Refused && j.plain:
		return o.refused(ctx, j, e)
	case o.giveUp > 0 && now.Sub(o.failing) > o.giveUp && now.Sub(j.message.waiting) > o.giveUp:
		o.notBefore = now.Add(o.cfg.RetryMin)
		return o.refused(ctx, j, e)
	case invalid && !j.plain:
		o.notBefore = now.Add(o.interval)
		o.log.Error("message refused, trying it without layout", "receiver", o.name, "rule", j.message.Rule,
			"reason", e.Reason, "err", e.Err)
	case e.Class == Transient:
		o.failures++
		o.notBefore = now.Add(max(min(e.RetryAfter, maxRetryAfter), o.backoff()))
		o.log.Warn("alert not posted yet", "receiver", o.name, "rule", j.message.Rule, "reason", e.Reason, "err", e.Err)
	default:
		o.notBefore = now.Add(o.cfg.RetryMax)
		if err := o.block(ctx, e); err != nil {
			return err
		}
	}
	o.metrics.retries.WithLabelValues(o.name, e.Reason).Inc()
	return nil
}

// backoff doubles with each failure in a row; the random part keeps receivers apart.
func (o *outlet) backoff() time.Duration {
	d := o.cfg.RetryMin << min(o.failures-1, 16)
	if d <= 0 || d > o.cfg.RetryMax {
		d = o.cfg.RetryMax
	}
	return d/2 + rand.N(d/2+1)
}

// refused gives up a job: what the sink will never accept, or has not for too long, goes to
// the dead-letter topic, and the other receivers are told.
func (o *outlet) refused(ctx context.Context, j *job, e *Error) error {
	for _, g := range j.groups {
		r, err := o.store.source(g)
		if err != nil {
			return err
		}
		if err := o.bury(ctx, r, e.Reason, e.Err); err != nil {
			return err
		}
	}
	if err := o.complain(ctx, j.groups, e); err != nil {
		return err
	}
	return o.finish(ctx, j, stateRefused, e.Reason, Receipt{})
}

// block says loudly that a person must act. Posting is tried again all the same.
func (o *outlet) block(ctx context.Context, e *Error) error {
	o.log.Error("no alert can be posted until somebody acts", "receiver", o.name, "reason", e.Reason, "err", e.Err)
	first := !o.blocked
	o.blocked = true
	o.metrics.blocked.WithLabelValues(o.name).Set(1)
	o.problem(o.name, e)
	if first {
		return o.complain(ctx, nil, e)
	}
	return nil
}

func (o *outlet) unblock() {
	if !o.blocked {
		return
	}
	o.log.Info("alerts are posted again", "receiver", o.name)
	o.blocked = false
	o.metrics.blocked.WithLabelValues(o.name).Set(0)
	o.problem(o.name, nil)
}
