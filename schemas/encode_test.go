package schemas

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
)

// A replay must give the same bytes, whatever was encoded before in the same memory.
func TestEncodeRepeats(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	batches := make([]arrow.RecordBatch, 6)
	want := make([][]byte, len(batches))
	for i := range batches {
		builder := NewBuilder()
		for row := range 1 + random.IntN(400) {
			raw := bytes.Repeat(fmt.Appendf(nil, "%x", random.Uint64()), random.IntN(200))
			if row%3 == 0 {
				for j := range raw {
					raw[j] = byte(random.Uint32()) // does not compress
				}
			}
			builder.Append(&Event{
				Raw: raw, User: fmt.Sprint(random.IntN(50)), AuditID: fmt.Sprint(row), Groups: []string{"a", fmt.Sprint(row % 7)},
			})
		}
		batches[i] = builder.Batch()
		defer batches[i].Release()
		value, err := new(encoder).encode(batches[i]) // in fresh memory
		if err != nil {
			t.Fatal(err)
		}
		want[i] = value
	}
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for n := range 30 {
				i := (n*7 + worker) % len(batches)
				value, err := Encode(batches[i])
				if err != nil || !bytes.Equal(value, want[i]) {
					t.Errorf("batch %d: %v, %d bytes, not the %d that fresh memory gave", i, err, len(value), len(want[i]))
					return
				}
			}
		})
	}
	group.Wait()
	for i := range want {
		batch, err := Decode(want[i])
		if err != nil {
			t.Fatal(err)
		}
		if batch.NumRows() != batches[i].NumRows() {
			t.Errorf("batch %d: %d rows, want %d", i, batch.NumRows(), batches[i].NumRows())
		}
		batch.Release()
	}
}

func TestRecycler(t *testing.T) {
	var r recycler
	first := r.Allocate(recycled + 1)
	if len(first) != recycled+1 || cap(first) != 2*recycled {
		t.Fatalf("len %d, cap %d", len(first), cap(first))
	}
	r.Free(first)
	if second := r.Allocate(2 * recycled); &second[0] != &first[0] {
		t.Error("a buffer that fits is not used again")
	} else if third := r.Allocate(2 * recycled); &third[0] == &first[0] {
		t.Error("a buffer is given out twice")
	} else if larger := r.Reallocate(3*recycled, second); len(larger) != 3*recycled || &larger[0] == &second[0] {
		t.Error("a buffer does not grow")
	}
	for n := range len(r.free) + 20 {
		r.Free(make([]byte, (n+1)*recycled))
	}
	for n := range r.free {
		if b := r.free[n]; cap(b) <= 20*recycled {
			t.Errorf("of many, one of the smallest is kept: %d", cap(b))
		}
	}
}
