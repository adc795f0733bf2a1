package context

import (
	"cmp"
	"slices"
	"time"
)

// entry is a change in the log.
type entry struct {
	Change
	seq  uint64
	dead bool // superseded by one that knows better

	presumed bool // says only that an object was there before its first known change
}

func (e *entry) compare(o *entry) int {
	return cmp.Or(cmp.Compare(e.From, o.From), cmp.Compare(e.seq, o.seq))
}

// insert puts a change where it belongs and returns from when on that matters.
func (c *Cluster) insert(change *Change) (since int64, ok bool) {
	if change.Key.Kind == 0 {
		return c.add(change), true
	}
	known := c.versions[change.Key]
	if n := len(known); n > 0 && known[n-1].precedes(change) {
		return c.add(change), true
	}
	known = slices.Clone(known) // it changes below
	since = change.From
	for _, e := range known {
		switch e.against(change) {
		case redundant:
			return 0, false
		case superseded:
			e.dead = true
			since = min(since, e.From)
		case before:
			change.From = max(change.From, e.From+1)
		case after:
			since = min(since, e.From)
			c.move(e, change.From+1)
		case independent:
		}
	}
	since = min(since, c.add(change))
	if change.exact() && change.Object != nil {
		since = min(since, c.presume(change))
	}
	return since, true
}

// precedes says that nothing that is known of the object can contradict the change: the next recorded write.
func (e *entry) precedes(change *Change) bool {
	return !e.dead && e.exact() && change.exact() && e.From < change.From && e.Object != nil && change.Object != nil &&
		e.uid() == change.uid() && e.revision() != 0 && e.revision() < change.revision()
}

// verdict is what a known version of an object means for another.
type verdict int

const (
	independent verdict = iota
	redundant           // the other says nothing new
	superseded          // the known one is the other, whose time is exact
	before              // the known one came before the other
	after               // the known one came after the other
)

// against compares by what the API server says of the order of versions, which is better than times: a dump does not
// say when an object became what it is, and writes that overlap may end in another order than they happened.
func (e *entry) against(change *Change) verdict {
	uid := change.uid()
	switch {
	case e.dead:
		return independent
	case uid == "", e.uid() != uid:
		return independent
	case e.deletes():
		switch {
		case e.From <= change.From:
			return redundant // an object does not come back; another of the name has another uid
		case change.deletes():
			return superseded // somebody noticed later
		}
		return independent
	case change.deletes():
		if e.From >= change.From {
			return superseded
		}
		return independent
	case e.revision() == 0 || change.revision() == 0:
		return independent
	}
	return e.againstRevision(change)
}

// againstRevision is against for two versions of one object.
func (e *entry) againstRevision(change *Change) verdict {
	better := change.exact() && !e.exact()
	switch cmp.Compare(e.revision(), change.revision()) {
	case 0:
		if !better && (e.exact() || e.From <= change.From) {
			return redundant
		}
		return superseded
	case 1:
		switch {
		case e.From > change.From:
			return independent
		case better:
			return after // the dump was taken later than the time it was given
		}
		return redundant
	default:
		switch {
		case e.From < change.From:
			return independent
		case better:
			return superseded // the dump was taken earlier than the time it was given
		}
		return before
	}
}

// presume sees to it that an object whose first known change is no creation was something else before, and returns the
// earliest time for which that changed something.
func (c *Cluster) presume(change *Change) (since int64) {
	uid, since := change.uid(), change.From
	var first *entry
	for _, e := range c.versions[change.Key] {
		switch {
		case e.dead || e.uid() != uid || uid == "":
		case e.presumed:
			e.dead = true
			since = min(since, e.From)
		case first == nil:
			first = e
		}
	}
	if first == nil || first.Object == nil || !first.exact() {
		return since
	}
	const second = int64(time.Second / time.Microsecond)
	created := first.Object.Metadata.created()
	if created == 0 || created+2*second > first.From {
		return since
	}
	c.seq++
	stub := &entry{Change: Change{Key: change.Key, From: created, Source: change.Source, Stale: true, UID: uid}, seq: c.seq, presumed: true}
	if c.trimmed {
		stub.From = max(stub.From, c.line.Load().states[0].from)
	}
	c.put(stub)
	return min(since, stub.From)
}

// add puts a change into the log and returns its time.
func (c *Cluster) add(change *Change) int64 {
	c.seq++
	c.put(&entry{Change: *change, seq: c.seq})
	return change.From
}

func (c *Cluster) put(e *entry) {
	c.log = put(c.log, e)
	if e.Key.Kind != 0 {
		c.versions[e.Key] = put(c.versions[e.Key], e)
	}
}

// put keeps the order; the end is where nearly all belong.
func put(list []*entry, e *entry) []*entry {
	if n := len(list); n == 0 || list[n-1].compare(e) < 0 {
		return append(list, e)
	}
	i, _ := slices.BinarySearchFunc(list, e, (*entry).compare)
	return slices.Insert(list, i, e)
}

// move gives an entry another time.
func (c *Cluster) move(e *entry, from int64) {
	e.dead = true
	moved := e.Change
	moved.From = from
	c.add(&moved)
}
