package kafka

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestSilentMembers(t *testing.T) {
	m := &members{due: make(map[member]deadline)}
	start := time.Unix(0, 0)
	join := func(id string, at time.Duration) {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.MemberID, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = "g", id, 6000, 20000
		m.hear(req, start.Add(at))
	}
	for _, id := range []string{"", "dies waiting", "works", "dies working", "leaves"} {
		join(id, 0)
	}
	for _, id := range []string{"works", "dies working"} {
		req := kmsg.NewPtrSyncGroupRequest()
		req.Group, req.MemberID = "g", id
		m.hear(req, start.Add(10*time.Second))
	}
	for at := 13 * time.Second; at <= 40*time.Second; at += 3 * time.Second {
		req := kmsg.NewPtrHeartbeatRequest()
		req.Group, req.MemberID = "g", "works"
		m.hear(req, start.Add(at))
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group, leave.Members = "g", []kmsg.LeaveGroupRequestMember{{MemberID: "leaves"}}
	m.hear(leave, start)

	for _, tt := range []struct {
		at   time.Duration
		want []member
	}{
		{20 * time.Second, nil},
		{23 * time.Second, []member{{"g", "dies working"}}},
		{25 * time.Second, nil},
		{27 * time.Second, []member{{"g", "dies waiting"}}},
		{40 * time.Second, nil},
	} {
		if diff := cmp.Diff(tt.want, m.silent(start.Add(tt.at)), cmp.AllowUnexported(member{})); diff != "" {
			t.Errorf("after %s: (-want +got)\n%s", tt.at, diff)
		}
	}
}
