package notify

import (
	"container/list"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/schemas"
)

// store holds the groups. Those that are told and quiet are bounded by number, the oldest are
// forgotten first; those that a receiver must still be told of are never forgotten. All its
// methods may be called concurrently.
type store struct {
	cfg   Config
	quiet quieter

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	groups  map[string]*Group
	// shown are the groups by the id of the alert that their message shows.
	shown map[string]*Group
	// changes are the receivers whose messages can be changed.
	changes map[string]bool
	// untold and stale are the groups that a receiver was not told of, and of which it does
	// not know the latest, by its name.
	untold map[string]map[*Group]struct{}
	stale  map[string]map[*Group]struct{}
	// all and whole are the groups, and those that are not trimmed, the oldest change first.
	all, whole list.List
}

type order struct{ all, whole *list.Element }

// quieter says what people want to hear of a group.
type quieter interface {
	check(g *Group, now time.Time) verdict
}

// verdict is what people want to hear of a group.
type verdict struct {
	// silent is until when nothing is to be posted about it.
	silent time.Time
	// known is until when only its message is to be changed: it is acknowledged.
	known time.Time
	// note is what its message is to say about that.
	note string
}

func newStore(cfg Config, receivers []string, quiet quieter) *store {
	s := &store{
		cfg: cfg, quiet: quiet, changed: make(chan struct{}), groups: map[string]*Group{}, shown: map[string]*Group{},
		changes: map[string]bool{}, untold: map[string]map[*Group]struct{}{}, stale: map[string]map[*Group]struct{}{},
	}
	for _, name := range receivers {
		s.untold[name], s.stale[name] = map[*Group]struct{}{}, map[*Group]struct{}{}
	}
	return s
}

// signal wakes those who wait. The lock must be held.
func (s *store) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// restore takes in a group that was read from Kafka.
func (s *store) restore(g *Group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.groups[g.ID]; old != nil {
		s.remove(old)
	}
	s.groups[g.ID] = g
	s.file(g)
}

// file puts a group where it belongs after a change. The lock must be held.
func (s *store) file(g *Group) {
	s.shown[g.Alert.ID] = g
	if g.order.all == nil {
		g.order.all = s.all.PushBack(g)
	} else {
		s.all.MoveToBack(g.order.all)
	}
	if g.order.whole == nil {
		g.order.whole = s.whole.PushBack(g)
	} else {
		s.whole.MoveToBack(g.order.whole)
	}
	for _, name := range g.Routes {
		s.sort(g, name)
	}
	for e := s.whole.Front(); e != nil && s.whole.Len() > s.cfg.WholeMax; {
		old, next := e.Value.(*Group), e.Next()
		if !s.pending(old) {
			old.trim()
			s.whole.Remove(e)
			old.order.whole = nil
		}
		e = next
	}
	for e := s.all.Front(); e != nil && s.all.Len() > s.cfg.GroupsMax; {
		old, next := e.Value.(*Group), e.Next()
		if !s.pending(old) {
			s.remove(old)
			delete(s.groups, old.ID)
		}
		e = next
	}
}

// sort notes whether a receiver must be told of a group. The lock must be held.
func (s *store) sort(g *Group, receiver string) {
	untold, stale := s.untold[receiver], s.stale[receiver]
	if untold == nil {
		return // not configured any more
	}
	t := g.Told[receiver]
	delete(untold, g)
	delete(stale, g)
	switch {
	case t == nil:
		untold[g] = struct{}{}
	case g.Revision > t.Revision && t.changeable() && s.changes[receiver],
		g.Count > t.Count || g.Waking > t.Waking || s.quiet.check(g, time.Now()).note != t.Note:
		stale[g] = struct{}{}
	}
}

// review sorts all groups again, after people changed what they want to hear.
func (s *store) review() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.groups {
		for _, name := range g.Routes {
			s.sort(g, name)
		}
	}
	s.signal()
}

func (s *store) pending(g *Group) bool {
	for _, name := range g.Routes {
		if _, ok := s.untold[name][g]; ok {
			return true
		}
		if _, ok := s.stale[name][g]; ok {
			return true
		}
	}
	return false
}

func (s *store) remove(g *Group) {
	delete(s.shown, g.Alert.ID)
	s.all.Remove(g.order.all)
	if g.order.whole != nil {
		s.whole.Remove(g.order.whole)
	}
	for name := range s.untold {
		delete(s.untold[name], g)
		delete(s.stale[name], g)
	}
}

// backlog is the number of groups that some receiver was not told of at all.
func (s *store) backlog() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.longest()
}

func (s *store) longest() int {
	most := 0
	for _, groups := range s.untold {
		most = max(most, len(groups))
	}
	return most
}

func (s *store) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.groups)
}

// room blocks until the backlog is below its bound.
func (s *store) room(ctx context.Context) error {
	for {
		s.mu.Lock()
		full, changed := s.longest() >= s.cfg.Backlog, s.changed
		s.mu.Unlock()
		if !full {
			return ctx.Err()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// records returns the records of groups as they are now, and gives each to produce before
// anybody can change it again: so the last record is the latest state.
func (s *store) records(ids []string, produce func(*kgo.Record)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		g := s.groups[id]
		if g == nil {
			continue
		}
		r, err := g.record()
		if err != nil {
			return err
		}
		produce(r)
	}
	return nil
}

// finish notes that a job is done. It returns the groups to be recorded.
func (s *store) finish(o *outlet, j *job, state, reason string, r Receipt, now time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, len(j.groups))
	for i, g := range j.groups {
		told := j.told[i]
		if state != statePosted {
			told.State = state
		}
		told.Reason, told.Channel, told.TS = reason, r.Channel, r.TS
		g.tell(o.name, j.kind, j.reply, told, now)
		s.sort(g, o.name)
		ids[i] = g.ID
	}
	s.signal()
	return ids
}

// failed notes a failure of a job.
func (s *store) failed(o *outlet, j *job, e *Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &o.digestTry
	if j.kind != KindDigest {
		t = j.groups[0].try(o.name)
	}
	t.repeat = t.repeat || e.Unknown
	t.plain = t.plain || e.Class == Refused || e.Class == Doubtful
	if e.Class == Transient && e.RetryAfter == 0 {
		t.failures++
	}
}

// spend notes that a message was posted, for the pace of digests.
func (s *store) spend(o *outlet, kind Kind, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch kind {
	case KindDigest:
		o.digestAt, o.singles, o.digestTry = now, s.cfg.DigestSingle, try{}
	case KindNew:
		o.singles--
	case KindUpdate, KindAgain, KindRepeat:
	}
}

// gone notes that the message of a group is not there any more: a person deleted it. What is
// new since is posted anew.
func (s *store) gone(o *outlet, j *job) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := j.groups[0]
	if t := g.Told[o.name]; t != nil && j.kind == KindUpdate {
		t.Channel, t.TS = "", ""
	} else {
		delete(g.Told, o.name)
	}
	s.sort(g, o.name)
	s.signal()
	return []string{g.ID}
}

// alert is the newest alert of a group.
func (s *store) alert(g *Group) schemas.Alert {
	s.mu.Lock()
	defer s.mu.Unlock()
	return g.Alert
}

// source is the newest alert of a group as the record that it came in, for the dead-letter topic.
func (s *store) source(g *Group) (*kgo.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, err := json.Marshal(g.Alert)
	if err != nil {
		return nil, fmt.Errorf("encoding an alert: %w", err)
	}
	return &kgo.Record{
		Topic: schemas.TopicAlerts, Partition: -1, Offset: -1, Key: []byte(g.Alert.ID), Value: value,
		Headers: versionHeader(), Timestamp: g.UpdatedAt,
	}, nil
}

// add counts an alert in its group, which is not posted before it is recorded: see release.
func (s *store) add(a *schemas.Alert, routes []string, now time.Time) *Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := groupID(a)
	g := s.groups[id]
	if g == nil {
		g = &Group{ID: id, held: true}
		s.groups[id] = g
	}
	delete(s.shown, g.Alert.ID)
	g.add(a, s.cfg.Quiet, now)
	// At once: the group may be recorded, with this alert counted, because it was posted just now.
	g.Unmarked = append(g.Unmarked, a.ID)
	g.route(routes)
	s.file(g)
	return g
}

// improve takes an alert that was counted before and may tell more now. It returns the id of the group whose message is to say
// so; empty if no message shows the alert, or it tells nothing new. Receivers that only now turn out to be the right ones
// are told of the group.
func (s *store) improve(a *schemas.Alert, routes []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.shown[a.ID]
	if g == nil || a.Version <= g.Alert.Version {
		return ""
	}
	g.improve(a)
	g.route(routes)
	s.file(g)
	return g.ID
}

// route adds receivers.
func (g *Group) route(names []string) {
	for _, name := range names {
		if !slices.Contains(g.Routes, name) {
			g.Routes = append(g.Routes, name)
		}
	}
}

// marked notes that all alerts of groups have their own records by now.
func (s *store) marked(ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if g := s.groups[id]; g != nil {
			g.Unmarked = nil
		}
	}
}

// release lets groups be posted, since they are recorded.
func (s *store) release(ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if g := s.groups[id]; g != nil {
			g.held = false
		}
	}
	s.signal()
}

// lastPost is when the receiver was told anything last. A clock that is ahead of ours does not
// count.
func (s *store) lastPost(receiver string, now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var last time.Time
	for _, g := range s.groups {
		t := g.Told[receiver]
		if t == nil {
			continue
		}
		for _, at := range []time.Time{t.PostedAt, t.UpdatedAt} {
			if at.After(last) && !at.After(now) {
				last = at
			}
		}
	}
	return last
}
