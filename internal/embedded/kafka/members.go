package kafka

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// waitingPeriod is how often a heartbeat is sent for a member that waits: well below the shortest session.
	waitingPeriod = shortestSession / 4
	// longestJoin bounds how long a group comes together after the last member has joined. The broker waits anew with
	// each that joins, also with one that only comes again because its request timed out, so that two who ask for a
	// minute each could wait for ever for a third that died.
	longestJoin = 20 * time.Second
)

// members sends heartbeats for the members of consumer groups that wait for the others, as they themselves do not. The
// broker's sessions go on meanwhile: it would remove a member that waits for longer and never answer it, and would count
// wrongly from then on who has joined. And it begins no session when it answers a member whose process has died, which
// would then keep its partitions for ever.
type members struct {
	log *slog.Logger
	mu  sync.Mutex
	// waiting holds those whose last request was to join or to sync.
	waiting map[member]*wait
}

type member struct{ group, id string }

// wait is what a member waits for: that its group leaves a state.
type wait struct {
	state string
	// epoch is the generation of the group, negative when it is not known yet.
	epoch int32
}

// The states of a group in which the broker answers neither who joins nor who syncs.
const (
	preparing  = "PreparingRebalance"
	completing = "CompletingRebalance"
)

func watchMembers(cluster *kfake.Cluster, log *slog.Logger) *members {
	m := &members{log: log, waiting: make(map[member]*wait)}
	for _, key := range []kmsg.Key{kmsg.JoinGroup, kmsg.SyncGroup, kmsg.LeaveGroup} {
		cluster.ControlKey(key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
			m.hear(req)
			return nil, nil, false
		})
	}
	return m
}

// hear notes a request of a member.
func (m *members) hear(req kmsg.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch r := req.(type) {
	case *kmsg.JoinGroupRequest:
		r.RebalanceTimeoutMillis = min(r.RebalanceTimeoutMillis, int32(longestJoin.Milliseconds()))
		if r.MemberID != "" { // else the answer gives it an id, with which it comes again
			m.waiting[member{r.Group, r.MemberID}] = &wait{state: preparing, epoch: -1}
		}
	case *kmsg.SyncGroupRequest:
		m.waiting[member{r.Group, r.MemberID}] = &wait{state: completing, epoch: r.Generation}
	case *kmsg.LeaveGroupRequest:
		delete(m.waiting, member{r.Group, r.MemberID})
		for _, left := range r.Members {
			delete(m.waiting, member{r.Group, left.MemberID})
		}
	}
}

// keep sends heartbeats for members that wait until ctx ends.
func (m *members) keep(ctx context.Context, cluster *kfake.Cluster, client *kgo.Client) {
	ticker := time.NewTicker(waitingPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			for who, wait := range m.snapshot() {
				if err := m.beat(ctx, cluster, client, who, wait); err != nil && ctx.Err() == nil {
					m.log.Warn("no heartbeat for a group member that waits", "group", who.group, "err", err)
				}
			}
		}
	}
}

func (m *members) snapshot() map[member]*wait {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.waiting)
}

// beat sends one heartbeat, also to a member that has been answered meanwhile: that begins its session.
func (m *members) beat(ctx context.Context, cluster *kfake.Cluster, client *kgo.Client, who member, w *wait) error {
	group := cluster.GroupInfo(who.group)
	if group == nil {
		m.forget(who, w)
		return nil
	}
	if w.epoch < 0 {
		w.epoch = group.Epoch
	}
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = who.group, who.id, group.Epoch
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case errors.Is(err, kerr.IllegalGeneration):
		return nil // the group has moved on since it was looked at; the next round sees more
	case errors.Is(err, kerr.UnknownMemberID), group.State != w.state, group.Epoch != w.epoch:
		m.forget(who, w)
	}
	return nil
}

// forget ends a wait, unless another has begun.
func (m *members) forget(who member, w *wait) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting[who] == w {
		delete(m.waiting, who)
	}
}
