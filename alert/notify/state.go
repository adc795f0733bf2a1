package notify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// State is the value of a record of audit.notifications.v1 with an alert's id as the key: the
// alert is counted in its group. See Group for what was posted.
type State struct {
	AlertID  string    `json:"alert_id"`
	GroupID  string    `json:"group_id,omitempty"`
	PostedAt time.Time `json:"posted_at"`
	// State is counted, or that of a Told in what earlier versions wrote. A marker belongs to
	// no alert: see catchUp.
	State string `json:"state"`
}

const (
	statePosted  = "posted"
	stateDigest  = "digest"
	stateRefused = "refused"
	stateExpired = "expired"
	stateCounted = "counted"
	stateMarker  = "marker"
)

// memory is the set of alerts that are counted in their groups. It is bounded by age and number:
// the oldest are forgotten first. An alert that was forgotten is counted again only if
// Kafka delivers it again. It may be used concurrently.
type memory struct {
	keep time.Duration
	max  int

	mu    sync.Mutex
	known map[[16]byte]struct{}
	order []remembered // a ring: the oldest at head
	head  int
}

type remembered struct {
	id [16]byte
	at int64 // seconds since 1970
}

func newMemory(keep time.Duration, most int) *memory {
	return &memory{keep: keep, max: most, known: map[[16]byte]struct{}{}}
}

// add remembers an alert that was dealt with at the given time.
func (m *memory) add(alertID string, at, now time.Time) {
	if now.Sub(at) > m.keep {
		return
	}
	id := shortID(alertID)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.known[id]; ok {
		return
	}
	m.known[id] = struct{}{}
	m.order = append(m.order, remembered{id, at.Unix()})
	m.trim(now)
}

func (m *memory) has(alertID string) bool {
	id := shortID(alertID)
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.known[id]
	return ok
}

func (m *memory) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.known)
}

func (m *memory) trim(now time.Time) {
	oldest := now.Add(-m.keep).Unix()
	for m.head < len(m.order) && (len(m.known) > m.max || m.order[m.head].at < oldest) {
		delete(m.known, m.order[m.head].id)
		m.head++
	}
	if m.head > 1024 && m.head > len(m.order)/2 {
		m.order = append([]remembered(nil), m.order[m.head:]...)
		m.head = 0
	}
}

// shortID is the 16 bytes of an alert id, or a hash of an id of another form.
func shortID(alertID string) (id [16]byte) {
	if len(alertID) == 2*len(id) {
		if _, err := hex.Decode(id[:], []byte(alertID)); err == nil {
			return id
		}
	}
	sum := sha256.Sum256([]byte(alertID))
	return [16]byte(sum[:16])
}

// positions is how far each partition of the followed topics was read.
type positions struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	next    map[place]int64
}

// place is a partition of a topic.
type place struct {
	topic     string
	partition int32
}

func newPositions() *positions {
	return &positions{changed: make(chan struct{}), next: map[place]int64{}}
}

func (p *positions) advance(at place, next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next[at] = next
	close(p.changed)
	p.changed = make(chan struct{})
}

// reach blocks until every partition was read beyond the offset given for it.
func (p *positions) reach(ctx context.Context, offsets map[place]int64) error {
	for {
		p.mu.Lock()
		changed, missing := p.changed, 0
		for at, offset := range offsets {
			if p.next[at] <= offset {
				missing++
			}
		}
		p.mu.Unlock()
		if missing == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("reading what was posted before: %d partitions to go: %w", missing, ctx.Err())
		}
	}
}

func decodeState(value []byte) (State, error) {
	var s State
	if err := json.Unmarshal(value, &s); err != nil {
		return s, fmt.Errorf("decoding the state of a notification: %w", err)
	}
	return s, nil
}
