package webhook

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
)

// limits holds what one cluster may use, so that it cannot starve the others.
type limits struct {
	memory *semaphore.Weighted
	rate   bucket
}

// bucket is a token bucket that may go into debt: how many events a body holds is known
// only after it was read, and refusing it then would have it sent again.
type bucket struct {
	rate, burst float64

	mu     sync.Mutex
	tokens float64
	at     time.Time
}

// admit reports whether the bucket is out of debt.
func (b *bucket) admit(now time.Time) bool {
	if b.rate <= 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now)
	return b.tokens > 0
}

// take takes n tokens, whether they are there or not.
func (b *bucket) take(now time.Time, n int) {
	if b.rate <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now)
	b.tokens -= float64(n)
}

func (b *bucket) fill(now time.Time) {
	if b.at.IsZero() {
		b.tokens = b.burst
	} else {
		b.tokens = min(b.burst, b.tokens+b.rate*now.Sub(b.at).Seconds())
	}
	b.at = now
}

// lease is memory that one request holds: of its cluster's share and of the whole.
type lease struct {
	share, whole *semaphore.Weighted
	wait         time.Duration
	gauge        prometheus.Gauge
	held         int64
}

// grow takes n bytes more, waiting as long as is allowed, and reports whether it got them.
func (l *lease) grow(ctx context.Context, n int64) bool {
	ctx, cancel := context.WithTimeout(ctx, l.wait)
	defer cancel()
	// The share first: a cluster that has used up its own must not queue for the whole.
	if l.share.Acquire(ctx, n) != nil {
		return false
	}
	if l.whole.Acquire(ctx, n) != nil {
		l.share.Release(n)
		return false
	}
	l.held += n
	l.gauge.Add(float64(n))
	return true
}

// shrink gives n bytes back.
func (l *lease) shrink(n int64) {
	l.whole.Release(n)
	l.share.Release(n)
	l.held -= n
	l.gauge.Sub(float64(n))
}

// end gives everything back.
func (l *lease) end() { l.shrink(l.held) }
