package enrich

import (
	"math/rand/v2"
	"testing"
)

// A pass reads every record that has a row of the time in question, in whichever order records of a transaction were noted, and
// also if only the last ones are remembered: what came before is known to be older.
func TestBatchesLeaveNothingOut(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	remembered := 0
	for i := range 400 {
		b := batches{complete: i%2 == 0}
		newest := map[int64]int64{}
		for first := int64(0); first < 40; first += 4 {
			for _, i := range random.Perm(3) { // the fourth is the marker of the transaction
				offset := first + int64(i)
				newest[offset] = random.Int64N(100)
				if b.complete || offset >= 16 {
					b.add(offset, newest[offset])
				}
			}
		}
		from, begin := random.Int64N(100), int64(40)
		for offset, n := range newest {
			if n >= from {
				begin = min(begin, offset)
			}
		}
		next, end := b.from(from)
		if b.know(begin) {
			remembered++
		} else {
			next = begin
		}
		for offset, n := range newest {
			if n >= from && (offset < next || offset >= end) {
				t.Fatalf("from %d on: %d to %d leaves out offset %d with a row of %d", from, next, end, offset, n)
			}
		}
	}
	if remembered <= 200 || remembered == 400 {
		t.Errorf("%d of 400 could be answered from what is remembered", remembered)
	}
}
