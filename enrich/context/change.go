package context

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Sources of changes that have a fixed name; dumps are called "import:" and the name of the file.
const (
	SourceAudit       = "audit"
	SourceWatch       = "watch"
	SourceAggregation = "aggregation" // worked out as the API server's controller does
	SourceNamespace   = "namespace"   // it went not later than its namespace
	sourceImport      = "import:"
)

// Change is what happened to an object, or to what is known of it.
type Change struct {
	Key    Key
	From   int64   // since when, µs since 1970
	Object *Object // nil if it was deleted or is not known
	UID    string  // of a deleted object, if known: another of the same name stays
	Source string
	By     string // the actor that changed it, if that is recorded
	Stale  bool   // it changed, and how is not known; Object, if any, is what it was or may be
	// Seen says that the change happened after this time and not later than From: somebody looked at both times, and at
	// none between (µs since 1970; 0 if From is all that is known). What is said of the object between is Stale; with
	// Complete, what was there of these kinds between is Doubtful. A watch that was away may set it to when it was in
	// sync last, in all changes that it finds when it lists again. What is known exactly, from the audit stream, stands.
	Seen int64

	Complete []Kind // instead of an object: from then on all objects of these kinds are known
	Doubt    bool   // instead of an object: something changed that could not be followed
	// Removed says, instead of an object, that the cluster is gone: from then on nothing is known of it, until something
	// is said that is later.
	Removed bool
}

func (c *Change) deletes() bool { return c.Object == nil && !c.Stale }

func (c *Change) uid() string {
	if c.Object != nil && c.Object.Metadata.UID != "" {
		return c.Object.Metadata.UID
	}
	return c.UID
}

// entry is a change of one object, as it was said. Its item is never changed: readers have it.
type entry struct {
	item Item
	uid  string
	seen int64
	rev  uint64 // the resource version, which grows with each change to any object of a cluster; 0 if it is not known
	// A run of versions that say the same is one entry: the last was of that time and resource version.
	until int64
	last  uint64
	more  bool // there were others between
}

func entryOf(c *Change) *entry {
	e := &entry{
		item: Item{Key: c.Key, Object: c.Object, From: c.From, Source: c.Source, By: c.By, Stale: c.Stale, gone: c.deletes()},
		uid:  c.uid(), seen: c.Seen,
	}
	if c.Object != nil && !c.Stale {
		e.rev, _ = strconv.ParseUint(c.Object.Metadata.ResourceVersion, 10, 64) // 0 if it is none
	}
	return e
}

// change returns what was said.
func (e *entry) change() Change {
	c := Change{
		Key: e.item.Key, From: e.item.From, Object: e.item.Object, Source: e.item.Source, By: e.item.By, Stale: e.item.Stale, Seen: e.seen,
	}
	if c.Object == nil {
		c.UID = e.uid
	}
	return c
}

// exact says whether From is the time of the change itself, not that of somebody who looked.
func (i *Item) exact() bool { return i.Source == SourceAudit }

// rank orders what happened at one time: what is known best comes last, and counts.
func (i *Item) rank() int {
	switch {
	case i.Stale:
		return 0
	case i.gone:
		return 1
	}
	return 2
}

// compare orders entries of one object by time, and those of one time by what they say, so that it does not matter in
// which order they came.
func (e *entry) compare(o *entry) int {
	if d := cmp.Or(
		cmp.Compare(e.item.From, o.item.From), cmp.Compare(e.item.rank(), o.item.rank()), cmp.Compare(e.rev, o.rev),
		strings.Compare(e.uid, o.uid), strings.Compare(e.item.Source, o.item.Source), cmp.Compare(e.seen, o.seen),
		strings.Compare(e.item.By, o.item.By),
	); d != 0 || e.item.Object == o.item.Object {
		return d
	}
	if e.item.Object.same(o.item.Object) {
		return 0
	}
	return strings.Compare(e.item.Object.text(), o.item.Object.text())
}

// text is the object as JSON; "" for nil.
func (o *Object) text() string {
	if o == nil {
		return ""
	}
	text, err := o.MarshalJSON()
	if err != nil {
		return ""
	}
	return string(text)
}

// same says whether two objects say the same, resource versions aside.
func (o *Object) same(p *Object) bool {
	if o == p {
		return true
	}
	return o != nil && p != nil && o.Metadata.same(&p.Metadata) &&
		slices.EqualFunc(o.Rules, p.Rules, func(x, y Rule) bool { return x.Equal(&y) }) &&
		o.AggregationRule.same(p.AggregationRule) && samePointer(o.RoleRef, p.RoleRef) && slices.Equal(o.Subjects, p.Subjects) &&
		o.Pod.same(p.Pod) && o.Node.same(p.Node) && samePointer(o.Credential, p.Credential) && o.Person.same(p.Person) &&
		o.Group.same(p.Group) && samePointer(o.Range, p.Range)
}

// samePointer says whether two pointers are to equal values, or both nil.
func samePointer[T comparable](x, y *T) bool { return x == y || x != nil && y != nil && *x == *y }
