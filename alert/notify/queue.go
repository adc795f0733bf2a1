package notify

import (
	"cmp"
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// item is an alert that waits to be posted.
type item struct {
	record   *kgo.Record
	message  Message
	owner    *partition
	seq      uint64
	failures int
	plain    bool
	taken    time.Time
}

// demoteAfter is the number of failures after which an alert lets the others go first: it
// may be the alert that Slack chokes on.
const demoteAfter = 3

func (it *item) less(other *item) bool {
	demoted := func(i *item) int {
		if i.failures >= demoteAfter {
			return i.failures
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(demoted(it), demoted(other)),
		cmp.Compare(rank(it.message.Severity), rank(other.message.Severity)),
		cmp.Compare(it.seq, other.seq),
	) < 0
}

// partition tracks which alerts of an assigned partition are done. Alerts are posted in
// order of severity, but only what has nothing undone before it may be committed.
type partition struct {
	topic   string
	id      int32
	pending []pendingOffset
	gone    bool
}

type pendingOffset struct {
	offset kgo.EpochOffset
	done   bool
}

// queue holds the alerts that were fetched and are not done. It is bounded by capacity;
// what comes beyond waits in Kafka. All its methods may be called concurrently.
type queue struct {
	capacity int

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced at every change
	waiting    itemHeap
	current    *item // taken and neither done nor released
	partitions map[int32]*partition
	// generation counts assignments: see take.
	generation int
	seq        uint64
	length     int
}

func newQueue(capacity int) *queue {
	return &queue{capacity: capacity, changed: make(chan struct{}), partitions: map[int32]*partition{}}
}

// wait blocks until condition, called with the lock held, is true. It returns with the
// lock held unless ctx ended.
func (q *queue) wait(ctx context.Context, condition func() bool) error {
	q.mu.Lock()
	for !condition() {
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		q.mu.Lock()
	}
	return nil
}

// signal wakes those who wait. The lock must be held.
func (q *queue) signal() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// room blocks until alerts fit in and returns how many.
func (q *queue) room(ctx context.Context) (int, error) {
	if err := q.wait(ctx, func() bool { return q.length < q.capacity }); err != nil {
		return 0, err
	}
	defer q.mu.Unlock()
	return q.capacity - q.length, nil
}

// assign starts to track partitions of the topic.
func (q *queue) assign(topic string, ids []int32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		q.partitions[id] = &partition{topic: topic, id: id}
	}
	q.generation++
	q.signal()
}

// revoke forgets the alerts of partitions and waits until none of them is being posted, so
// that whoever gets the partition next finds the record of that post.
func (q *queue) revoke(ctx context.Context, ids []int32) {
	gone := map[int32]bool{}
	for _, id := range ids {
		gone[id] = true
	}
	err := q.wait(ctx, func() bool {
		q.forget(gone)
		return q.current == nil || !gone[q.current.owner.id]
	})
	if err != nil {
		q.lose(ids)
		return
	}
	defer q.mu.Unlock()
	q.drop(gone)
}

// lose forgets partitions that another instance may own already.
func (q *queue) lose(ids []int32) {
	gone := map[int32]bool{}
	for _, id := range ids {
		gone[id] = true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forget(gone)
	q.drop(gone)
}

// forget removes the waiting alerts of partitions.
func (q *queue) forget(gone map[int32]bool) {
	kept := q.waiting[:0]
	for _, it := range q.waiting {
		if !gone[it.owner.id] {
			kept = append(kept, it)
		}
	}
	q.length -= len(q.waiting) - len(kept)
	clear(q.waiting[len(kept):])
	q.waiting = kept
	heap.Init(&q.waiting)
}

func (q *queue) drop(gone map[int32]bool) {
	for id := range gone {
		if p := q.partitions[id]; p != nil {
			p.gone = true
			delete(q.partitions, id)
		}
	}
	q.signal()
}

// add queues an alert, in the order of offsets within a partition. It reports whether the
// partition is assigned.
func (q *queue) add(record *kgo.Record, message Message) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.partitions[record.Partition]
	if p == nil {
		return false
	}
	p.pending = append(p.pending, pendingOffset{offset: after(record)})
	q.seq++
	q.length++
	heap.Push(&q.waiting, &item{record: record, message: message, owner: p, seq: q.seq})
	q.signal()
	return true
}

// skip notes a record that is done without being queued.
func (q *queue) skip(record *kgo.Record) (map[string]map[int32]kgo.EpochOffset, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.partitions[record.Partition]
	if p == nil {
		return nil, false
	}
	p.pending = append(p.pending, pendingOffset{offset: after(record)})
	return p.finish(record.Offset)
}

// next blocks until an alert waits or partitions were assigned since the generation that
// is given. It returns the present one.
func (q *queue) next(ctx context.Context, generation int) (int, error) {
	err := q.wait(ctx, func() bool { return len(q.waiting) > 0 || q.generation != generation })
	if err != nil {
		return 0, err
	}
	defer q.mu.Unlock()
	return q.generation, nil
}

// take returns the most severe alert, which must be given back by done or release. It
// returns nil if there is none or partitions were assigned since generation: what was
// posted from those must be known first.
func (q *queue) take(generation int, now time.Time) *item {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 || q.generation != generation {
		return nil
	}
	q.current = heap.Pop(&q.waiting).(*item)
	q.current.taken = now
	return q.current
}

// done finishes the alert that was taken. It returns what may be committed, if anything.
func (q *queue) done(it *item) (map[string]map[int32]kgo.EpochOffset, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.current = nil
	q.length--
	q.signal()
	return it.owner.finish(it.record.Offset)
}

// release gives back the alert that was taken, to be taken again.
func (q *queue) release(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.current = nil
	if it.owner.gone || q.partitions[it.owner.id] != it.owner {
		q.length--
	} else {
		heap.Push(&q.waiting, it)
	}
	q.signal()
}

// len is the number of alerts that are fetched and not done.
func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.length
}

// finish marks an offset done and returns the offset to commit if it moved.
func (p *partition) finish(offset int64) (map[string]map[int32]kgo.EpochOffset, bool) {
	if p.gone {
		return nil, false
	}
	for i := range p.pending {
		if p.pending[i].offset.Offset == offset+1 {
			p.pending[i].done = true
			break
		}
	}
	n := 0
	for n < len(p.pending) && p.pending[n].done {
		n++
	}
	if n == 0 {
		return nil, false
	}
	commit := p.pending[n-1].offset
	p.pending = append(p.pending[:0], p.pending[n:]...)
	return map[string]map[int32]kgo.EpochOffset{p.topic: {p.id: commit}}, true
}

func after(r *kgo.Record) kgo.EpochOffset {
	return kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
}

// itemHeap is a heap of items, the first to be posted on top.
type itemHeap []*item

func (h itemHeap) Len() int           { return len(h) }
func (h itemHeap) Less(i, j int) bool { return h[i].less(h[j]) }
func (h itemHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *itemHeap) Push(x any)        { *h = append(*h, x.(*item)) }
func (h *itemHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}
