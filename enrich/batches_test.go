package enrich

import (
	"math/rand/v2"
	"testing"
)

// A pass reads every record that has a row of the time in question, in whichever order records of a transaction were noted.
func TestBatchesLeaveNothingOut(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		b := batches{complete: true}
		newest := map[int64]int64{}
		for first := int64(0); first < 40; first += 4 {
			for _, i := range random.Perm(3) { // the fourth is the marker of the transaction
				offset := first + int64(i)
				newest[offset] = random.Int64N(100)
				b.add(offset, newest[offset])
			}
		}
		from := random.Int64N(100)
		next, end := b.from(from)
		for offset, n := range newest {
			if n >= from && (offset < next || offset >= end) {
				t.Fatalf("from %d on: %d to %d leaves out offset %d with a row of %d", from, next, end, offset, n)
			}
		}
	}
}
