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
	begins := beginsOf(spans)
	for i := range spans {
		s := &spans[i]
		if s.uid != "" || !s.item.gone {
			continue
		}
		uid, begin := "", int64(math.MinInt64)
		for u, b := range begins {
			if b <= s.from && (b > begin || b == begin && u > uid) {
				uid, begin = u, b
			}
		}
		if uid != "" && alive(spans, uid, s.from) {
			named := *s.entry
			named.uid = uid
			s.entry = &named
		}
	}
}

// beginsOf returns since when objects were there at the latest, by their uids.
func beginsOf(spans []span) map[string]int64 {
	begins := map[string]int64{}
	for i := range spans {
		if s := &spans[i]; s.uid != "" && !s.item.gone {
			begin, known := begins[s.uid]
			if !known || s.begin() < begin {
				begins[s.uid] = s.begin()
			}
		}
	}
	return begins
}

// alive says whether an object was there at a time, by what is said of it by its uid: not if it was deleted and not seen since,
// unless something is said of it later.
func alive(spans []span, uid string, at int64) bool {
	there, gone := false, int64(math.MinInt64)
	for i := range spans { // by time
		switch s := &spans[i]; {
		case s.uid != uid:
		case s.from >= at:
			return true
		case s.item.gone:
			there, gone = false, s.from
		default:
			there = there || gone == math.MinInt64 || !s.item.exact() || s.from >= gone+reappears
		}
	}
	return there
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
			case s == dead || s == back || s.from <= since || s.from < dead.from && !s.item.gone:
			case s.from < dead.from && s.from < dead.from-reappears:
				s.doubt()
			case s.from < dead.from || back == nil || s.from < back.from:
				s.drop = true
			}
		}
		if back == nil {
			return
		}
		dead.doubt()
		since = back.from
	}
}

// doubt makes of a deletion that something changed that is not known.
func (s *span) doubt() {
	s.entry = &entry{item: Item{Key: s.item.Key, From: s.from, Source: s.item.Source, By: s.item.By, Stale: true}, uid: s.uid}
}

// deletion returns when the object was deleted after a time, nil if it was not: of those whose time is exact, if any, the
// last, since nobody deletes what is not there.
func deletion(spans []span, since int64) *span {
	var exact, other *span
	for i := range spans {
		s := &spans[i]
		switch {
		case s.drop || !s.item.gone || s.from <= since:
		case s.item.exact():
			if exact == nil || s.from >= exact.from {
				exact = s
			}
		case other == nil || s.from < other.from:
			other = s
		}
	}
	if exact != nil || other == nil {
		return exact
	}
	notice(spans, other)
	return other
}

// notice sets when a deletion was that somebody noticed, who said since when too early.
func notice(spans []span, dead *span) {
	noticed := dead.from
	for i := range spans {
		if s := &spans[i]; !s.drop && !s.item.gone && s.item.exact() && s.from <= noticed+reappears {
			dead.from = max(dead.from, s.from+1)
		}
	}
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
