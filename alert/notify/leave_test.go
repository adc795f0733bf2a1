package notify

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// An instance that waits to join, because the group waits for one that was killed, stops when it is told to.
func TestStopWhileTheGroupWaitsForTheDead(t *testing.T) {
	w := newRealWorld(t)
	client, err := kafka.NewClient(w.kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = DefaultConfig().Group, "consumer", 300_000, 600_000
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name = oneOwner{}.ProtocolName()
	protocol.Metadata = kgo.CooperativeStickyBalancer().JoinGroupMetadata([]string{schemas.TopicAlerts}, nil, 0)
	join.Protocols = append(join.Protocols, protocol)
	for range 2 { // the first answer is the id to join with
		resp, err := join.RequestWith(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		join.MemberID = resp.MemberID
	}
	members := func() (ids []string) {
		groups, err := kadm.NewClient(client).DescribeGroups(t.Context(), join.Group)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range groups[join.Group].Members {
			ids = append(ids, m.MemberID)
		}
		return ids
	}
	i := w.start(w.bot)
	until(t, "an attempt to join", func() bool { return len(members()) == 2 })
	i.stop()
	if !slices.Contains(members(), join.MemberID) {
		t.Error("the instance waited for the dead one")
	}
}
