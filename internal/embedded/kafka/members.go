package kafka

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// memberPeriod is how often silent members are looked for.
const memberPeriod = 2 * time.Second

// members watches who is heard of in consumer groups. The broker forgets a member that
// stops its heartbeats, but not one whose process dies while it waits for its group to
// come together: that one would keep its partitions for ever. It is made to leave here.
type members struct {
	log *slog.Logger
	mu  sync.Mutex
	// due holds, for each member, until when it must be heard of again.
	due map[member]deadline
}

type member struct{ group, id string }

type deadline struct {
	at      time.Time
	session time.Duration
}

func watchMembers(cluster *kfake.Cluster, log *slog.Logger) *members {
	m := &members{log: log, due: make(map[member]deadline)}
	for _, key := range []kmsg.Key{kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.LeaveGroup} {
		cluster.ControlKey(key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
			m.hear(req, time.Now())
			return nil, nil, false
		})
	}
	return m
}

// hear notes a request of a member.
func (m *members) hear(req kmsg.Request, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch r := req.(type) {
	case *kmsg.JoinGroupRequest:
		if r.MemberID == "" {
			return // the answer to this one gives it a name, under which it comes again
		}
		session := time.Duration(r.SessionTimeoutMillis) * time.Millisecond
		// It may have to wait for the others this long.
		wait := time.Duration(r.RebalanceTimeoutMillis) * time.Millisecond
		m.due[member{r.Group, r.MemberID}] = deadline{at: now.Add(wait + session), session: session}
	case *kmsg.SyncGroupRequest:
		m.extend(member{r.Group, r.MemberID}, now)
	case *kmsg.HeartbeatRequest:
		m.extend(member{r.Group, r.MemberID}, now)
	case *kmsg.LeaveGroupRequest:
		delete(m.due, member{r.Group, r.MemberID})
		for _, left := range r.Members {
			delete(m.due, member{r.Group, left.MemberID})
		}
	}
}

// extend gives a member that works two sessions: the broker itself acts after one.
func (m *members) extend(who member, now time.Time) {
	if d, ok := m.due[who]; ok {
		d.at = now.Add(2 * d.session)
		m.due[who] = d
	}
}

// silent returns the members that were not heard of in time, and forgets them.
func (m *members) silent(now time.Time) []member {
	m.mu.Lock()
	defer m.mu.Unlock()
	var gone []member
	for who, d := range m.due {
		if now.After(d.at) {
			gone = append(gone, who)
			delete(m.due, who)
		}
	}
	return gone
}

// expel makes silent members leave until ctx ends. A member that the broker has forgotten
// by itself is an error in the answer, which is as good.
func (m *members) expel(ctx context.Context, client *kgo.Client) {
	ticker := time.NewTicker(memberPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for _, who := range m.silent(now) {
				m.leave(ctx, client, who)
			}
		}
	}
}

func (m *members) leave(ctx context.Context, client *kgo.Client, who member) {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = who.group
	left := kmsg.NewLeaveGroupRequestMember()
	left.MemberID = who.id
	req.Members = append(req.Members, left)
	if _, err := req.RequestWith(ctx, client); err != nil && ctx.Err() == nil {
		m.log.Warn("kafka could not remove a silent group member", "group", who.group, "err", err)
	}
}
