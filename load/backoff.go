package load

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff waits longer each time, with jitter, up to a limit.
type backoff struct{ next, limit time.Duration }

func newBackoff(first, limit time.Duration) *backoff { return &backoff{first, limit} }

// wait returns an error if ctx ends or quit, which may be nil, is closed meanwhile.
func (b *backoff) wait(ctx context.Context, quit <-chan struct{}) error {
	timer := time.NewTimer(b.next/2 + rand.N(b.next/2+1))
	defer timer.Stop()
	b.next = min(2*b.next, b.limit)
	select {
	case <-timer.C:
		return nil
	case <-quit:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}
