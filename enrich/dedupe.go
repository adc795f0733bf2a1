package enrich

import "github.com/auditmill/auditmill/schemas"

// window remembers the last events of one partition and tells which are copies of one
// another. It depends on nothing but the records at the offsets that it covers: reading
// them again after a rebalance gives the same answers.
type window struct {
	next    int64 // offset that must come next; -1 before the first
	size    int
	ring    []seen // the last size records, in offset order from head
	head    int
	ids     map[schemas.ID]sourceSet
	prints  map[schemas.ID]sourceCounts
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
	return &window{
		next: -1, size: size,
		ids: make(map[schemas.ID]sourceSet), prints: make(map[schemas.ID]sourceCounts),
	}
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
	set, counts := w.ids[id], w.prints[fingerprint]
	copied = set.records > 0
	if set.sources&(1<<s) == 0 {
		// First time that this source sends these bytes: one more of its events.
		for other, n := range counts {
			if other != int(s) && n > counts[s] {
				copied = true
			}
		}
		if counts[s] < ^uint16(0) {
			counts[s]++
			entry.counted = true
			w.prints[fingerprint] = counts
		}
	}
	set.records++
	set.sources |= 1 << s
	w.ids[id] = set
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
	set := w.ids[old.id]
	if set.records--; set.records == 0 {
		delete(w.ids, old.id)
	} else {
		w.ids[old.id] = set
	}
	// Without the oldest record the counts say nothing any more: what is left of another
	// source would make this source's next event look like a copy. Start over; at worst a
	// copy stays.
	if old.counted {
		delete(w.prints, old.print)
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
