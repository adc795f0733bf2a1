package context

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// span is an entry with the time from which it counts.
type span struct {
	*entry
	from  int64
	drop  bool // another one knows better
	stale bool // it is not known how long it held
	again bool // somebody saw a version that was known before
}

// resolve works out what an object was over time of everything that was said of it: entries in their order. It depends
// on nothing else, so that it does not matter in which order, or how often, things were said. wipes are when the cluster
// was removed.
//
// What the API server says of the order of versions is better than times: a dump does not say when an object became what
// it is, and writes that overlap may end in another order than they happened.
func resolve(entries []*entry, wipes []int64) []*Item {
	spans := make([]span, len(entries))
	one := true
	for i, e := range entries {
		spans[i] = span{entry: e, from: e.item.From}
		one = one && e.uid == entries[0].uid
	}
	switch {
	case len(spans) == 0:
		return nil
	case one:
		spans = ofObject(spans, len(wipes) > 0)
	default:
		adopt(spans)
		// Objects that had the name one after the other.
		slices.SortStableFunc(spans, func(a, b span) int { return strings.Compare(a.uid, b.uid) })
		var all []span
		for len(spans) > 0 {
			n := 1
			for n < len(spans) && spans[n].uid == spans[0].uid {
				n++
			}
			all = append(all, ofObject(spans[:n:n], len(wipes) > 0)...)
			spans = spans[n:]
		}
		spans = all
	}
	spans = slices.DeleteFunc(spans, func(s span) bool { return s.drop })
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), a.compare(b.entry)) })
	f := folder{wipes: wipes, line: make([]*Item, 0, len(spans))}
	for i := range spans {
		f.add(&spans[i], spans)
	}
	f.wipe(math.MaxInt64)
	return f.line
}

// ofObject gives the entries of one object, those with a uid, their times. wiped says that the cluster was removed at some
// time.
func ofObject(spans []span, wiped bool) []span {
	if spans[0].uid == "" {
		return spans
	}
	if len(spans) > 1 || wiped {
		spans = split(spans)
	}
	versions := make([]*span, 0, len(spans))
	for i := range spans {
		if s := &spans[i]; s.rev != 0 {
			versions = append(versions, s)
		}
	}
	slices.SortStableFunc(versions, func(a, b *span) int {
		return cmp.Or(cmp.Compare(a.rev, b.rev), cmp.Compare(inexact(a), inexact(b)), cmp.Compare(a.from, b.from))
	})
	order(versions)
	death(spans)
	return presume(spans)
}

// split makes of runs of versions two: the first and the last.
func split(spans []span) []span {
	for i, n := 0, len(spans); i < n; i++ {
		e := spans[i].entry
		if e.last == 0 {
			continue
		}
		last := *e
		last.item.From, last.rev, last.until, last.last = e.until, e.last, 0, 0
		spans = append(spans, span{entry: &last, from: last.item.From})
		for j := range n {
			// What happened in a run ended with one of its versions; if there were many, not with the last.
			s := &spans[j]
			s.stale = s.stale || e.more && j != i && !s.item.gone && s.from > e.item.From && s.from < e.until && (s.rev == 0 || s.rev > e.rev)
		}
	}
	return spans
}

func inexact(s *span) int {
	if s.item.exact() {
		return 0
	}
	return 1
}

// order sets the times of versions of an object, which come by resource version.
func order(all []*span) {
	versions := once(all)
	// A version was there when a later one was.
	next := int64(math.MaxInt64)
	for _, s := range slices.Backward(versions) {
		if !s.item.exact() {
			continue
		}
		s.drop = s.from >= next && next != math.MaxInt64
		s.from = min(s.from, next)
		next = s.from
	}
	between(versions)
	// Who looked at an earlier version later was given the wrong time.
	next = math.MaxInt64
	above := next // of the versions above this one
	for i, s := range slices.Backward(all) {
		if i == len(all)-1 || all[i+1].rev != s.rev {
			above = next
		}
		switch {
		case s.drop:
		case s.again:
			s.drop = s.from >= above
		default:
			s.drop = s.from >= next
			next = min(next, s.from)
		}
	}
}

// once returns the versions, each once: the first to say so exactly, or else the first. Who saw one again later confirms
// that the object was as it had been: what was recorded between, and could not be followed, changed nothing that lasts.
func once(all []*span) []*span {
	versions := make([]*span, 0, len(all))
	for _, s := range all {
		n := len(versions)
		if n == 0 || versions[n-1].rev != s.rev {
			versions = append(versions, s)
			continue
		}
		s.again = s.from > versions[n-1].from
		s.drop = !s.again
	}
	return versions
}

// between puts what somebody saw between the versions whose time is exact.
func between(versions []*span) {
	before := int64(math.MinInt64)
	var last *Object
	after := make([]int64, len(versions)+1)
	after[len(versions)] = math.MaxInt64
	for i, s := range slices.Backward(versions) {
		after[i] = after[i+1]
		if s.item.exact() && !s.drop {
			after[i] = s.from
		}
	}
	for i, s := range versions {
		switch {
		case s.drop:
		case s.item.exact():
			before, last = s.from, s.item.Object
		case s.from <= before:
			s.from = before + 1 // the dump was taken later than the time that it was given
			s.drop = s.from >= after[i]
		case s.from >= after[i] && before == math.MinInt64:
			s.drop = true // and this one earlier
		case s.from >= after[i]:
			s.from, s.stale = before+1, true // when between the two is not known
			s.drop = s.from >= after[i] || s.item.Object.same(last)
		}
	}
}

// presume sees to it that an object whose first known change is no creation was something else before.
func presume(spans []span) []span {
	const second = int64(time.Second / time.Microsecond)
	var first *span
	for i := range spans {
		if s := &spans[i]; !s.drop && (first == nil || s.from < first.from) {
			first = s
		}
	}
	if first == nil || first.item.Object == nil || !first.item.exact() {
		return spans
	}
	created := first.item.Object.Metadata.created()
	if created == 0 || created+2*second > first.from {
		return spans
	}
	stub := &entry{item: Item{Key: first.item.Key, From: created, Source: first.item.Source, Stale: true}, uid: first.uid}
	return append(spans, span{entry: stub, from: created})
}

// folder makes of spans, by time, what an object was.
type folder struct {
	wipes []int64
	line  []*Item
	uid   string // of the last item
	loose bool   // whether the last item has no resource version
}

// now is what the object is, nil if there is none.
func (f *folder) now() *Item {
	if n := len(f.line); n > 0 && !f.line[n-1].gone {
		return f.line[n-1]
	}
	return nil
}

// end is the time of the last item.
func (f *folder) end() int64 {
	if n := len(f.line); n > 0 {
		return f.line[n-1].From
	}
	return math.MinInt64
}

// wipe ends the object when the cluster was removed.
func (f *folder) wipe(until int64) {
	for len(f.wipes) > 0 && f.wipes[0] <= until {
		if item := f.now(); item != nil && item.From <= f.wipes[0] {
			f.put(&Item{Key: item.Key, From: f.wipes[0], Source: item.Source, gone: true}, "", false)
		}
		f.wipes = f.wipes[1:]
	}
}

// add adds a span, the next of all.
func (f *folder) add(s *span, all []span) {
	f.wipe(s.from)
	now := f.now()
	switch {
	case !s.item.gone || now != nil && f.about(s):
		f.gap(s)
	case now == nil || !f.follows(s, all):
		return // it is not known anyhow; or another object has the name
	default:
		stale := now.copy() // it went unseen, nobody knows when
		stale.From, stale.Stale = now.From+1, true
		f.put(stale, f.uid, false)
	}
	item := s.at()
	loose := s.rev == 0 && !item.Stale && !item.gone && item.exact()
	if now = f.now(); now != nil && !item.gone {
		if now.repeats(item) {
			f.loose = f.loose && loose
			return
		}
		item = f.after(now, item, s, loose)
	}
	f.put(item, s.uid, loose)
}

// after returns the item with what is known of it only by the one before.
func (f *folder) after(now, item *Item, s *span, loose bool) *Item {
	next := item.copy()
	switch {
	case item.Object == nil && f.about(s):
		next.Object = now.Object
	case now.From == item.From && loose && f.loose && !now.Object.same(item.Object):
		next.Stale = true // one event, followed from two states
	default:
		return item
	}
	return next
}

// follows says whether the deletion of another object says that the one that there is was gone by then: if nothing else is
// known of the other, which then came and took the name unseen, as when events were lost.
func (f *folder) follows(s *span, all []span) bool {
	if !s.item.exact() || s.from < f.now().From+reappears {
		return false
	}
	return !slices.ContainsFunc(all, func(o span) bool {
		return !o.item.gone && (o.uid == s.uid || o.uid == f.uid && o.from > s.from)
	})
}

// about says whether a span may be about the object that there is.
func (f *folder) about(s *span) bool { return s.uid == "" || f.uid == "" || s.uid == f.uid }

// repeats says whether the next item adds nothing to one.
func (i *Item) repeats(next *Item) bool {
	return !i.Stale && !next.Stale && next.plain() && i.Object.same(next.Object)
}

// plain says whether a version that says the same as the one before can be left out. The rules of an aggregated role may
// have been others between, which were worked out.
func (i *Item) plain() bool { return i.Object.AggregationRule == nil }

// at returns the item from when on it counts.
func (s *span) at() *Item {
	if s.from == s.item.From && (!s.stale || s.item.Stale) {
		return &s.item
	}
	item := s.item.copy()
	item.From, item.Stale = s.from, item.Stale || s.stale
	return item
}

func (i *Item) copy() *Item {
	c := *i
	return &c
}

// gap marks what was last known of the object before it was seen to be something else.
func (f *folder) gap(s *span) {
	if s.seen == 0 || s.seen >= s.from || s.item.exact() || s.again {
		return
	}
	now := f.now()
	if now != nil && !now.Stale {
		stale := now.copy()
		stale.From, stale.Stale = max(now.From, s.seen), true
		f.put(stale, f.uid, false)
	}
	if s.item.Object == nil || now != nil && (s.uid == "" || s.uid == f.uid) {
		return
	}
	// It came to be without being seen, so it may have been something else at first.
	if created := max(s.seen, s.item.Object.Metadata.created(), f.end()); created < s.from {
		f.put(&Item{Key: s.item.Key, From: created, Source: s.item.Source, Stale: true}, s.uid, false)
	}
}

// put appends an item; of one time only the last counts.
func (f *folder) put(item *Item, uid string, loose bool) {
	if n := len(f.line); n > 0 && f.line[n-1].From >= item.From {
		f.line = f.line[:n-1]
	}
	f.line, f.uid, f.loose = append(f.line, item), uid, loose
}

// differ returns since when two lines are not the same; false if they are.
func differ(x, y []*Item) (since int64, ok bool) {
	for i := range max(len(x), len(y)) {
		switch {
		case i >= len(x):
			return y[i].From, true
		case i >= len(y):
			return x[i].From, true
		case x[i] != y[i] && !x[i].same(y[i]):
			return min(x[i].From, y[i].From), true
		}
	}
	return 0, false
}

func (i *Item) same(o *Item) bool {
	return i.From == o.From && i.Stale == o.Stale && i.gone == o.gone && i.By == o.By && i.Source == o.Source && i.Object.same(o.Object)
}
