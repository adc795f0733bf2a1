package enrich

import (
	"encoding/binary"

	"github.com/auditmill/auditmill/schemas"
)

// window remembers the last events of one partition and tells which are copies of one
// another. It depends on nothing but the records at the offsets that it covers: reading
// them again after a rebalance gives the same answers.
type window struct {
	next    int64 // offset that must come next; -1 before the first
	size    int
	ring    []seen // the last size records, in offset order from head
	head    int
	ids     table[sourceSet]
	prints  table[sourceCounts]
	sources []string
}

type seen struct {
	id, print schemas.ID
	source    uint8
	counted   bool // in prints
}

// maxSources is how many sources a window tells apart. More share the last place: then
// some copies stay, none is lost.
const maxSources = 8

// sourceSet says from which sources an event_id came, and how many records hold it.
type sourceSet struct {
	records uint32
	sources uint8
}

// sourceCounts says how many distinct events of one fingerprint each source sent.
type sourceCounts [maxSources]uint16

func newWindow(size int) *window {
	return &window{next: -1, size: size}
}

// add takes the next record and reports whether it is a copy of an event before it:
//   - the same bytes came already, or
//   - another source sent this fingerprint more often than this source did so far: this
//     record is its version of one of those.
//
// The same fingerprint from the same source with other bytes is another event: the client
// chooses the auditID, so all of the fingerprint may be equal by intent.
func (w *window) add(id, fingerprint schemas.ID, source string) (copied bool) {
	s := w.source(source)
	entry := seen{id: id, print: fingerprint, source: s}
	set := w.ids.put(id)
	copied = set.records > 0
	if set.sources&(1<<s) == 0 {
		// First time that this source sends these bytes: one more of its events.
		counts := w.prints.put(fingerprint)
		for other, n := range counts {
			if other != int(s) && n > counts[s] {
				copied = true
			}
		}
		if counts[s] < ^uint16(0) {
			counts[s]++
			entry.counted = true
		}
	}
	set.records++
	set.sources |= 1 << s
	w.push(entry)
	return copied
}

func (w *window) push(entry seen) {
	if len(w.ring) < w.size {
		w.ring = append(w.ring, entry)
		return
	}
	w.forget(w.ring[w.head])
	w.ring[w.head] = entry
	w.head = (w.head + 1) % w.size
}

func (w *window) forget(old seen) {
	if set := w.ids.put(old.id); set.records > 1 {
		set.records--
	} else {
		w.ids.remove(old.id)
	}
	// Without the oldest record the counts say nothing any more: what is left of another
	// source would make this source's next event look like a copy. Start over; at worst a
	// copy stays.
	if old.counted {
		w.prints.remove(old.print)
	}
}

func (w *window) source(name string) uint8 {
	for i, s := range w.sources {
		if s == name {
			return uint8(i)
		}
	}
	if len(w.sources) < maxSources {
		w.sources = append(w.sources, name)
	}
	return uint8(len(w.sources) - 1)
}

// table is a map by ID. IDs are hashes already, so a part of one says where it is: a look-up waits for memory once.
type table[V any] struct {
	slots []slot[V] // a power of two; an ID is at its place or, if that is taken, as soon after it as there is room
	used  int
}

type slot[V any] struct {
	key   schemas.ID
	full  bool
	value V
}

func (t *table[V]) place(key *schemas.ID) int {
	return int(binary.LittleEndian.Uint64(key[:]) & uint64(len(t.slots)-1))
}

// put returns the value of key, a zero one if there was none. It is valid until the next call.
func (t *table[V]) put(key schemas.ID) *V {
	if t.used >= len(t.slots)/4*3 {
		t.grow()
	}
	i := t.place(&key)
	for ; t.slots[i].full; i = (i + 1) & (len(t.slots) - 1) {
		if t.slots[i].key == key {
			return &t.slots[i].value
		}
	}
	t.slots[i] = slot[V]{key: key, full: true}
	t.used++
	return &t.slots[i].value
}

func (t *table[V]) grow() {
	old := t.slots
	t.slots, t.used = make([]slot[V], max(64, 2*len(old))), 0
	for i := range old {
		if old[i].full {
			*t.put(old[i].key) = old[i].value
		}
	}
}

func (t *table[V]) remove(key schemas.ID) {
	if t.used == 0 {
		return
	}
	mask := len(t.slots) - 1
	i := t.place(&key)
	for ; t.slots[i].key != key; i = (i + 1) & mask {
		if !t.slots[i].full {
			return
		}
	}
	if !t.slots[i].full {
		return // the zero ID
	}
	t.used--
	// Those behind it that are not at their places move up.
	for j := (i + 1) & mask; t.slots[j].full; j = (j + 1) & mask {
		if home := t.place(&t.slots[j].key); (j-home)&mask >= (j-i)&mask {
			t.slots[i], i = t.slots[j], j
		}
	}
	t.slots[i] = slot[V]{}
}
