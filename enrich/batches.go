package enrich

import "slices"

// batches remembers where the last records of a partition of audit.enriched.v1 are and how new their rows, so that a
// correction reads no more than it must.
type batches struct {
	all      []wroteBatch // by offset
	complete bool         // nothing was written before the first of them
}

type wroteBatch struct {
	offset int64
	newest int64 // greatest event_time of the rows, µs since 1970
}

// maxBatches bounds it: at ten a second this is an hour and more.
const maxBatches = 1 << 16

// add notes a record. Those of one transaction may come in any order.
func (b *batches) add(offset, newest int64) {
	if len(b.all) >= 2*maxBatches {
		b.all, b.complete = slices.Clone(b.all[maxBatches:]), false
	}
	at := len(b.all)
	for at > 0 && b.all[at-1].offset > offset {
		at--
	}
	b.all = slices.Insert(b.all, at, wroteBatch{offset, newest})
}

// know says whether all records from an offset on are remembered.
func (b *batches) know(offset int64) bool {
	return b.complete || len(b.all) > 0 && b.all[0].offset <= offset
}

// from returns the offset of the first record with a row of time t or later, and the offset after the last one, among those that
// are remembered.
func (b *batches) from(t int64) (next, end int64) {
	if len(b.all) == 0 {
		return 0, 0
	}
	end = b.all[len(b.all)-1].offset + 1
	if i := slices.IndexFunc(b.all, func(w wroteBatch) bool { return w.newest >= t }); i >= 0 {
		return b.all[i].offset, end
	}
	return end, end
}
