package correlate

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// clockInterval is how often a source writes its clock.
	clockInterval = 2 * time.Second
	// idleAfter is how long a source that has read everything waits before it goes by the clock on the wall.
	idleAfter = 30 * time.Second
	// thinnerSize bounds what a Sender remembers to thin signals; beyond it more are sent than needed.
	thinnerSize = 100_000
)

// Sender makes what alert writes into audit.signals.v1: signals and clocks. It may be used concurrently.
type Sender struct {
	partitions int32

	mu      sync.Mutex
	set     *Set
	seed    maphash.Seed
	sent    [2]map[uint64]slot // the older generation goes when the newer one is full
	recall  *recall
	clocks  map[int32]*sourceClock
	clocked time.Time
}

// slot is what was sent last of a combination of values.
type slot struct{ number, earliest int64 }

type sourceClock struct {
	time  time.Time
	wall  time.Time // when time moved
	idle  time.Time // up to here everything was read, and there was nothing
	wrote time.Time
}

// NewSender returns a sender for a topic of that many partitions.
func NewSender(set *Set, partitions int32) *Sender {
	s := &Sender{partitions: partitions, seed: maphash.MakeSeed(), recall: newRecall(), clocks: map[int32]*sourceClock{}}
	s.Replace(set)
	return s
}

// Replace lets another set decide from now on.
func (s *Sender) Replace(set *Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set, s.sent = set, [2]map[uint64]slot{{}, {}}
}

// Feeds reports whether the matches of a rule count for some correlation.
func (s *Sender) Feeds(rule string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set.Feeds(rule)
}

// Match returns the records of a match. A first_seen or an absence gets one signal per group, combination of
// values and slot, so that a rule that matches every event of a cluster costs no more.
func (s *Sender) Match(m Match) ([]*kgo.Record, error) {
	s.mu.Lock()
	signals := s.set.signals(m, s.passes)
	signals = append(s.recall.take(s.set, m, signals), signals...)
	s.mu.Unlock()
	return Records(signals)
}

// Corrected returns the records that take back what was said of an event before it was corrected, to correlations whose
// rules do not match it any more. It is called after the matches of the row.
func (s *Sender) Corrected(c Correction) ([]*kgo.Record, error) {
	s.mu.Lock()
	back := s.recall.unmatched(s.set, c)
	s.mu.Unlock()
	return Records(back)
}

// passes reports whether a signal tells anything that one before it did not.
func (s *Sender) passes(f feed, at int64, group []string, values [][]string) bool {
	if f.mode != seen && f.mode != absent {
		return true
	}
	var h maphash.Hash
	h.SetSeed(s.seed)
	write := func(texts []string) {
		_, _ = h.WriteString(joined([]string{joined(texts)})) // it returns no errors
	}
	write([]string{f.ID, joined(group)})
	if f.mode == seen {
		for _, list := range values {
			write(list)
		}
	}
	key, number := h.Sum64(), floorDiv(at, f.slot)
	last, ok := s.sent[1][key]
	if !ok {
		last, ok = s.sent[0][key]
	}
	if ok && last.number == number && last.earliest <= at {
		return false
	}
	if len(s.sent[1]) >= thinnerSize {
		s.sent[0], s.sent[1] = s.sent[1], map[uint64]slot{}
	}
	s.sent[1][key] = slot{number, at}
	return true
}

// Evaluated notes that the signals of all events of a partition of audit.enriched.v1 that were read so far are
// acknowledged. newest is the greatest event_time of them, where one that is after the event's
// received_at counts as that: a sender whose clock is ahead must not make all others late.
func (s *Sender) Evaluated(partition int32, newest, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clock(partition, now)
	if newest.After(c.time) {
		c.time = newest
	}
	c.wall, c.idle = now, time.Time{}
}

// CaughtUp notes that at a time on the wall everything in a partition was read and evaluated.
func (s *Sender) CaughtUp(partition int32, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock(partition, now).idle = now
}

func (s *Sender) clock(partition int32, now time.Time) *sourceClock {
	c := s.clocks[partition]
	if c == nil {
		c = &sourceClock{wall: now}
		s.clocks[partition] = c
	}
	return c
}

// Forget drops the partitions that another instance reads from now on.
func (s *Sender) Forget(partitions ...int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range partitions {
		delete(s.clocks, p)
	}
}

// Clocks returns the clocks of the partitions that were noted, if it is time for them. sources is the number of
// partitions of audit.enriched.v1.
func (s *Sender) Clocks(now time.Time, sources int32) ([]*kgo.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set.Len() == 0 || now.Sub(s.clocked) < clockInterval {
		return nil, nil
	}
	s.clocked = now
	var records []*kgo.Record
	for partition, c := range s.clocks {
		at := c.time
		if c.idle.Sub(c.wall) >= idleAfter && c.idle.After(at) {
			at = c.idle
		}
		if !at.After(c.wrote) || !believed(at) {
			continue
		}
		of, err := Clock{Partition: partition, Of: sources, Time: at}.Records(s.partitions)
		if err != nil {
			return nil, err
		}
		c.wrote = at
		records = append(records, of...)
	}
	return records, nil
}
