package context

import (
	"math"
	"slices"
	"time"
)

// reappears is how much later than a deletion a write must be answered to say that there was none: one that came before it
// may be answered after it.
const reappears = int64(10 * time.Second / time.Microsecond)

// adopt says of deletions that do not name their object which it was: the one that had the name then.
func adopt(spans []span) {
	if !slices.ContainsFunc(spans, func(s span) bool { return s.item.gone && s.uid == "" }) {
		return
	}
	lives := livesOf(spans)
	for i := range spans {
		s := &spans[i]
		if s.uid != "" || !s.item.gone {
			continue
		}
		uid, begin := "", int64(math.MinInt64)
		for u, l := range lives {
			if l.begin <= s.from && (l.begin > begin || l.begin == begin && u > uid) {
				uid, begin = u, l.begin
			}
		}
		l, known := lives[uid]
		if !known || max(l.end, l.last) < s.from {
			continue // it was gone by then
		}
		l.end = min(l.end, s.from)
		lives[uid] = l
		named := *s.entry
		named.uid = uid
		s.entry = &named
	}
}

// life is from when to when there was an object.
type life struct {
	begin, last int64 // when it was there
	end         int64 // when it was deleted first, as is said
}

// livesOf returns the lives of objects by their uids.
func livesOf(spans []span) map[string]life {
	lives := map[string]life{}
	for i := range spans {
		s := &spans[i]
		if s.uid == "" {
			continue
		}
		l, known := lives[s.uid]
		if !known {
			l = life{begin: math.MaxInt64, last: math.MinInt64, end: math.MaxInt64}
		}
		if s.item.gone {
			l.end = min(l.end, s.from)
		} else {
			l.begin, l.last = min(l.begin, s.begin()), max(l.last, s.from)
		}
		lives[s.uid] = l
	}
	return lives
}

// begin is when the object was there at the latest: API servers round down when it was created.
func (s *span) begin() int64 {
	if s.item.Object == nil {
		return s.from
	}
	created := s.item.Object.Metadata.created()
	switch {
	case created == 0:
		return s.from
	case s.item.exact():
		return min(s.from, created+time.Second.Microseconds())
	}
	return created + time.Second.Microseconds()
}

// death finds when the object was deleted, and drops what is said of it later: it does not come back. If it was there
// later all the same, it was not deleted: what was recorded was another request, or something held the object, or who
// looked did not see everything. Then nothing is known of it between.
func death(spans []span) {
	for since := int64(math.MinInt64); ; {
		dead := deletion(spans, since)
		if dead == nil {
			return
		}
		back := revival(spans, dead)
		for i := range spans {
			switch s := &spans[i]; {
			case s == dead || s == back || s.from <= since:
			case s.from < dead.from:
				s.drop = s.drop || s.item.gone
			case back == nil || s.from < back.from:
				s.drop = true
			}
		}
		if back == nil {
			return
		}
		dead.entry = &entry{
			item: Item{Key: dead.item.Key, From: dead.from, Source: dead.item.Source, By: dead.item.By, Stale: true}, uid: dead.uid,
		}
		since = back.from
	}
}

// deletion returns the first deletion after a time, nil if there is none: of those whose time is exact, if any.
func deletion(spans []span, since int64) *span {
	var exact, other *span
	for i := range spans {
		s := &spans[i]
		if s.drop || !s.item.gone || s.from <= since {
			continue
		}
		first := &other
		if s.item.exact() {
			first = &exact
		}
		if *first == nil || s.from < (*first).from {
			*first = s
		}
	}
	if exact != nil || other == nil {
		return exact
	}
	// Somebody noticed, and said since when too early.
	noticed := other.from
	for i := range spans {
		if s := &spans[i]; !s.drop && !s.item.gone && s.item.exact() && s.from <= noticed+reappears {
			other.from = max(other.from, s.from+1)
		}
	}
	return other
}

// revival returns what shows first that the object was there after its deletion, nil if nothing does.
func revival(spans []span, dead *span) (back *span) {
	after := dead.from
	for i := range spans {
		s := &spans[i]
		if s.drop || s.item.gone || s.from <= after || s.item.exact() && s.from < after+reappears {
			continue
		}
		if back == nil || s.from < back.from {
			back = s
		}
	}
	return back
}
