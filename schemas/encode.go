package schemas

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Encode writes one record batch as an Arrow IPC stream, its buffers LZ4-compressed:
// the value of a record of audit.enriched.v1.
func Encode(batch arrow.RecordBatch) ([]byte, error) {
	e, _ := encoders.Get().(*encoder)
	if e == nil {
		e = new(encoder)
	}
	defer encoders.Put(e)
	return e.encode(batch)
}

//nolint:gochecknoglobals // memory for reuse, and nothing else
var encoders sync.Pool

// encoder is the memory that encoding takes beside its result.
type encoder struct {
	out     bytes.Buffer
	buffers recycler
}

func (e *encoder) encode(batch arrow.RecordBatch) ([]byte, error) {
	e.out.Reset()
	w := ipc.NewWriter(&e.out, ipc.WithSchema(batch.Schema()), ipc.WithLZ4(), ipc.WithCompressConcurrency(1),
		ipc.WithAllocator(&e.buffers))
	if err := w.Write(batch); err != nil {
		return nil, fmt.Errorf("writing an Arrow batch of %d rows: %w", batch.NumRows(), err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("closing the Arrow stream: %w", err)
	}
	return bytes.Clone(e.out.Bytes()), nil
}

// recycler gives out buffers again that were freed: clearing and collecting those that the
// columns are compressed into takes longer than anything else that Encode allocates.
// What a buffer held before stays in it: the writer copies from a buffer what it put there.
type recycler struct {
	memory.GoAllocator
	free [64][]byte // about as many as a full batch has buffers of that size
}

// recycled is the least size that is worth it. Sizes are multiples of it, so that a buffer
// also fits the next batch, which is about as large.
const recycled = 16 << 10

// Allocate implements memory.Allocator.
func (r *recycler) Allocate(size int) []byte {
	if size < recycled {
		return r.GoAllocator.Allocate(size)
	}
	best := -1
	for i, b := range r.free {
		if cap(b) >= size && (best < 0 || cap(b) < cap(r.free[best])) {
			best = i
		}
	}
	if best < 0 {
		return r.GoAllocator.Allocate((size + recycled - 1) / recycled * recycled)[:size]
	}
	b := r.free[best]
	r.free[best] = nil
	return b[:size]
}

// Reallocate implements memory.Allocator.
func (r *recycler) Reallocate(size int, b []byte) []byte {
	if size <= cap(b) {
		return b[:size]
	}
	larger := r.Allocate(size)
	copy(larger, b)
	r.Free(b)
	return larger
}

// Free implements memory.Allocator. Of more buffers than it keeps it drops the smallest.
func (r *recycler) Free(b []byte) {
	if cap(b) < recycled {
		return
	}
	for i, kept := range r.free {
		if cap(b) > cap(kept) {
			r.free[i], b = b, kept
		}
	}
}
