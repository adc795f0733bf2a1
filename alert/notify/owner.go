package notify

import (
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// oneOwner is a balancer that gives all partitions to one member of the group. It stays with
// the member that has them, so that instances come and go without a pause in posting. For
// everything else it is the balancer within, whose metadata say who owns what.
type oneOwner struct{ kgo.GroupBalancer }

// ProtocolName differs from that of the balancer within: the two do not agree on who owns what.
func (oneOwner) ProtocolName() string { return "auditmill-one-owner" }

func (b oneOwner) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	c, err := kgo.NewConsumerBalancer(b, members)
	if err != nil {
		return nil, nil, err
	}
	return c, c.MemberTopics(), nil
}

// Balance gives everything to the member that says so of the latest generation.
func (oneOwner) Balance(c *kgo.ConsumerBalancer, topics map[string]int32) kgo.IntoSyncAssignment {
	var owner *kmsg.JoinGroupResponseMember
	var owns int
	generation := int32(-1)
	c.EachMember(func(m *kmsg.JoinGroupResponseMember, meta *kmsg.ConsumerMemberMetadata) {
		n := 0
		for _, t := range meta.OwnedPartitions {
			n += len(t.Partitions)
		}
		g := meta.Generation
		if n == 0 {
			g = -1
		}
		if owner == nil || g > generation || g == generation && n > owns {
			owner, owns, generation = m, n, g
		}
	})
	plan := c.NewPlan()
	for topic, partitions := range topics {
		for p := range partitions {
			plan.AddPartition(owner, topic, p)
		}
	}
	plan.AdjustCooperative(c)
	return plan
}
