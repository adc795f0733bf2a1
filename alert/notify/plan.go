package notify

import (
	"cmp"
	"slices"
	"time"
)

// job is what a receiver is to be told now.
type job struct {
	kind  Kind
	reply bool
	// groups are one, or those of a digest, the most severe first.
	groups []*Group
	// told are what each group will have been told.
	told    []Told
	message Message
	plain   bool
}

// demoteAfter is the number of failures after which a group lets the others go first: it may
// be the one that the receiver chokes on.
const demoteAfter = 3

type candidate struct {
	group    *Group
	kind     Kind
	at       time.Time
	note     string
	failures int
}

func (c candidate) compare(o candidate) int {
	first := func(k Kind) int {
		if k == KindUpdate {
			return 1 // news before changes of what is known
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(c.failures, o.failures), cmp.Compare(first(c.kind), first(o.kind)),
		cmp.Compare(rank(c.group.Severity), rank(o.group.Severity)), c.at.Compare(o.at), cmp.Compare(c.group.ID, o.group.ID),
	)
}

// next returns what the receiver is to be told now; if nothing, the time at which that may
// change without a signal, or zero, and the channel of the signal.
func (s *store) next(o *outlet, now time.Time) (*job, time.Time, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var later time.Time
	soonest := func(t time.Time) {
		if !t.IsZero() && (later.IsZero() || t.Before(later)) {
			later = t
		}
	}
	fresh := s.candidates(o, s.untold[o.name], now, soonest)
	if j, at, wait := s.digest(o, fresh, now); j != nil {
		return j, time.Time{}, s.changed
	} else if wait {
		soonest(at)
		fresh = nil
	}
	ready := append(s.candidates(o, s.stale[o.name], now, soonest), fresh...)
	if len(ready) == 0 {
		return nil, later, s.changed
	}
	return s.single(o, slices.MinFunc(ready, candidate.compare)), time.Time{}, s.changed
}

// candidates are the groups that are due now.
func (s *store) candidates(o *outlet, groups map[*Group]struct{}, now time.Time, later func(time.Time)) []candidate {
	var out []candidate
	for g := range groups {
		if g.held {
			continue
		}
		v := s.quiet.check(g, now)
		kind, at := g.due(o.name, o.pace, v.note, v.known.After(now) || v.silent.After(now))
		if t := g.Told[o.name]; v.silent.After(now) && (kind != KindUpdate || t.Note == v.note) {
			// Of a silence only the message says that it is one.
			later(v.silent)
			continue
		}
		switch {
		case kind == "" && v.known.After(now):
			later(v.known)
		case kind == "":
		case at.After(now) && kind != KindNew:
			later(at)
		default:
			c := candidate{group: g, kind: kind, at: at, note: v.note}
			if t := g.tries[o.name]; t != nil && t.failures >= demoteAfter {
				c.failures = t.failures
			}
			out = append(out, c)
		}
	}
	return out
}

// digest returns the job of a digest if so many groups wait that people are told of most of
// them at once. wait says that the rest waits for the next digest, at the time returned.
func (s *store) digest(o *outlet, fresh []candidate, now time.Time) (j *job, at time.Time, wait bool) {
	if !o.pace.can.Digest || s.cfg.DigestAbove == 0 || len(fresh) <= s.cfg.DigestAbove {
		return nil, at, false
	}
	next := o.digestAt.Add(s.cfg.DigestInterval)
	if next.After(now) && len(fresh) < s.cfg.Backlog/2 {
		// Until the next digest a few of the most severe are posted by themselves.
		return nil, next, o.singles <= 0
	}
	slices.SortFunc(fresh, candidate.compare)
	j = &job{kind: KindDigest}
	for _, c := range fresh[min(s.cfg.DigestSingle, len(fresh)-1):] {
		j.groups = append(j.groups, c.group)
		j.told = append(j.told, Told{State: stateDigest, Count: c.group.Count, Waking: c.group.Waking, Revision: c.group.Revision})
	}
	j.message = newDigest(j.groups, min(s.cfg.DigestSingle, len(fresh)-1), now)
	j.plain, j.message.Repeat = o.digestTry.plain, o.digestTry.repeat
	return j, at, false
}

func (s *store) single(o *outlet, c candidate) *job {
	g := c.group
	j := &job{kind: c.kind, reply: g.answers(o.name, c.kind, o.pace.can), groups: []*Group{g}}
	j.told = []Told{{State: statePosted, Count: g.Count, Waking: g.Waking, Note: c.note, Revision: g.Revision}}
	j.message = newGroupMessage(g, c.kind, c.note)
	j.message.Buttons = s.cfg.API.SigningSecret != "" && groupIDPattern.MatchString(g.ID)
	if t := g.Told[o.name]; t != nil && (j.reply || c.kind == KindUpdate) {
		j.message.At = Receipt{Channel: t.Channel, TS: t.TS}
	}
	if t := g.Told[o.name]; t != nil {
		j.message.Before = t.Count
	}
	if t := g.tries[o.name]; t != nil {
		j.plain, j.message.Repeat = t.plain, t.repeat
	}
	return j
}
