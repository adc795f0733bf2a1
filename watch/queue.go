package watch

import (
	stdcontext "context"
	"sync"
	"time"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/internal/kafka"
)

// queue holds what was seen of a cluster until the audit stream has had its chance to tell it.
type queue struct {
	wait time.Duration
	wake chan struct{} // holds one if something was put

	mu      sync.Mutex
	waiting []waiting // the oldest first
	taken   time.Time // when the oldest of those was put that are being written; zero if none are
	keys    map[context.Key]int
}

type waiting struct {
	sighting
	put, due time.Time
}

func newQueue(wait time.Duration) *queue {
	return &queue{wait: wait, wake: make(chan struct{}, 1), keys: map[context.Key]int{}}
}

func (q *queue) put(now time.Time, all ...sighting) {
	q.mu.Lock()
	for _, s := range all {
		q.waiting = append(q.waiting, waiting{s, now, now.Add(q.wait)})
		q.keys[s.change.Key]++
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// has says whether something of an object waits.
func (q *queue) has(key context.Key) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.keys[key] > 0
}

// oldest returns when the oldest was put of those that are not written; zero if all are.
func (q *queue) oldest() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.taken.IsZero() && len(q.waiting) > 0 {
		return q.waiting[0].put
	}
	return q.taken
}

// most bounds what is written at a time.
const most = 5000

// take returns what is due, in order, and otherwise how long until something is: 0 if nothing waits. What was taken before
// is written.
func (q *queue) take(now time.Time) (due []sighting, next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	q.taken = time.Time{}
	for ; n < len(q.waiting) && n < most && !q.waiting[n].due.After(now); n++ {
		s := q.waiting[n].sighting
		due = append(due, s)
		if q.keys[s.change.Key]--; q.keys[s.change.Key] == 0 {
			delete(q.keys, s.change.Key)
		}
	}
	if n > 0 {
		q.taken = q.waiting[0].put
	}
	clear(q.waiting[:n]) // frees the objects
	if q.waiting = q.waiting[n:]; len(q.waiting) == 0 {
		q.waiting = nil
		return due, 0
	}
	return due, max(q.waiting[0].due.Sub(now), 1)
}

// run hands on what is due until ctx ends or handing on fails.
func (q *queue) run(ctx stdcontext.Context, write func(stdcontext.Context, []sighting) error) error {
	for ctx.Err() == nil {
		due, next := q.take(time.Now())
		switch {
		case len(due) > 0:
			if err := write(ctx, due); err != nil {
				return err
			}
		case next > 0:
			_ = kafka.Pause(ctx, next) // the loop ends with ctx
		default:
			select {
			case <-q.wake:
			case <-ctx.Done():
			}
		}
	}
	return nil
}
