package enrich

import (
	"math/rand/v2"
	"testing"

	"github.com/auditmill/auditmill/schemas"
)

type arrival struct {
	id, print byte
	source    string
	copied    bool
}

func TestWindow(t *testing.T) {
	const webhook, file = schemas.SourceWebhook, schemas.SourceFile
	for name, arrivals := range map[string][]arrival{
		"a batch is retried":                       {{1, 1, webhook, false}, {2, 2, webhook, false}, {1, 1, webhook, true}, {2, 2, webhook, true}},
		"two sources":                              {{1, 1, webhook, false}, {2, 1, file, true}, {3, 3, file, false}, {4, 3, webhook, true}},
		"two sources, the same bytes":              {{1, 1, webhook, false}, {1, 1, file, true}, {1, 1, file, true}},
		"one fingerprint, one source, other bytes": {{1, 1, webhook, false}, {2, 1, webhook, false}, {3, 1, webhook, false}},
		"chosen audit IDs seen by both sources": {
			{1, 1, webhook, false}, {2, 1, webhook, false}, {3, 1, file, true}, {4, 1, file, true}, {5, 1, file, false},
		},
		"interleaved":           {{1, 1, webhook, false}, {3, 1, file, true}, {2, 1, webhook, false}, {4, 1, file, true}},
		"retry between sources": {{1, 1, webhook, false}, {1, 1, webhook, true}, {3, 1, file, true}, {2, 1, webhook, false}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWindow(100)
			for i, a := range arrivals {
				if got := w.add(schemas.ID{a.id}, schemas.ID{a.print}, a.source); got != a.copied {
					t.Errorf("arrival %d: copied = %v, want %v", i, got, a.copied)
				}
			}
		})
	}
}

func TestWindowForgets(t *testing.T) {
	w := newWindow(2)
	for i, want := range []bool{false, false, true, false} {
		// 1 2 2 1: the first 1 is out of the window when the second comes
		if got := w.add(schemas.ID{[]byte{1, 2, 2, 1}[i]}, schemas.ID{[]byte{1, 2, 2, 1}[i]}, "webhook"); got != want {
			t.Errorf("arrival %d: copied = %v, want %v", i, got, want)
		}
	}
	if w.ids.used > 2 || w.prints.used > 2 || len(w.ring) > 2 {
		t.Errorf("window of 2 holds %d ids, %d fingerprints, %d records", w.ids.used, w.prints.used, len(w.ring))
	}
}

// A copy whose original is forgotten must not take a new event with it.
func TestWindowNeverDropsTheOnlyCopy(t *testing.T) {
	w := newWindow(2)
	w.add(schemas.ID{1}, schemas.ID{9}, "webhook")
	w.add(schemas.ID{2}, schemas.ID{9}, "file") // copy of 1
	w.add(schemas.ID{3}, schemas.ID{8}, "file") // 1 is forgotten
	if w.add(schemas.ID{4}, schemas.ID{9}, "webhook") {
		t.Error("an event with other bytes was dropped as a copy")
	}
}

// Whatever comes, in whatever order: each fingerprint keeps at least as many events as the
// source that sent most of it, and none is kept twice for the same bytes in the window.
func TestWindowProperty(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		w := newWindow(1000)
		distinct := map[byte]map[string]map[schemas.ID]bool{}
		kept := map[byte]int{}
		for range 300 {
			mark, source := byte(random.IntN(5)), []string{"webhook", "file", "kafka"}[random.IntN(3)]
			id := schemas.ID{mark, byte(random.IntN(4)), source[0]}
			if !w.add(id, schemas.ID{mark}, source) {
				kept[mark]++
			}
			if distinct[mark] == nil {
				distinct[mark] = map[string]map[schemas.ID]bool{}
			}
			if distinct[mark][source] == nil {
				distinct[mark][source] = map[schemas.ID]bool{}
			}
			distinct[mark][source][id] = true
		}
		for mark, sources := range distinct {
			most := 0
			for _, ids := range sources {
				most = max(most, len(ids))
			}
			if kept[mark] != most {
				t.Fatalf("seed %d: kept %d events of a fingerprint that one source sent %d times", seed, kept[mark], most)
			}
		}
	}
}

// A table is a map, also where IDs crowd.
func TestTable(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, places := range []int{1, 7, 1 << 16} {
		var got table[int]
		want := map[schemas.ID]int{}
		for step := range 20_000 {
			place := r.IntN(places)
			id := schemas.ID{byte(place), byte(place >> 8), 8: byte(r.IntN(40))}
			if r.IntN(5) < 2 {
				got.remove(id)
				delete(want, id)
			} else {
				v := got.put(id)
				if *v != want[id] {
					t.Fatalf("%d places, step %d: %x is %d, want %d", places, step, id, *v, want[id])
				}
				*v, want[id] = step, step
			}
			if got.used != len(want) {
				t.Fatalf("%d places, step %d: %d are in it, want %d", places, step, got.used, len(want))
			}
		}
		for id, v := range want {
			if found := got.put(id); *found != v {
				t.Errorf("%d places: %x is %d, want %d", places, id, *found, v)
			}
		}
		if got.used != len(want) || len(got.slots) > 4*max(64, 3*len(want)) {
			t.Errorf("%d places: %d of %d slots for %d", places, got.used, len(got.slots), len(want))
		}
	}
}
