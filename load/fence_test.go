package load

import (
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditmill/auditmill/schemas"
)

// TestNothingIsInsertedBeforeTheCommit lets Kafka refuse commits, as it does those of an instance that has lost its
// partitions without knowing. No insert may be sent before its range is written down.
func TestNothingIsInsertedBeforeTheCommit(t *testing.T) {
	c, conn := testDatabase(t)
	cluster, k := testCluster(t, 1)
	client := testClient(t, k)
	var refused, allowed atomic.Int64
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if refused.Add(1) > 10 {
			allowed.Add(1)
			return nil, nil, false
		}
		commit, ok := req.(*kmsg.OffsetCommitRequest)
		if !ok {
			return nil, nil, false
		}
		resp, ok := commit.ResponseKind().(*kmsg.OffsetCommitResponse)
		if !ok {
			return nil, nil, false
		}
		for _, topic := range commit.Topics {
			answer := kmsg.NewOffsetCommitResponseTopic()
			answer.Topic, answer.TopicID = topic.Topic, topic.TopicID
			for _, partition := range topic.Partitions {
				p := kmsg.NewOffsetCommitResponseTopicPartition()
				p.Partition, p.ErrorCode = partition.Partition, kerr.IllegalGeneration.Code
				answer.Partitions = append(answer.Partitions, p)
			}
			resp.Topics = append(resp.Topics, answer)
		}
		return resp, nil, true
	})
	proxy := newFaultyProxy(t, c.Addresses[0], func(int, url.Values) fate {
		if allowed.Load() == 0 {
			t.Error("an insert was sent although no commit was accepted")
		}
		return pass
	})
	through := c
	through.Addresses = []string{proxy.addr}
	produce(t, client, schemas.TopicEnriched, 0, values(t, 0, 0, 100, recorded(t, 500))...)
	s := start(t, testConfig(), k, through)
	awaitEvents(t, conn, c, 500)
	s.stop(t)
	checkCounts(t, conn, c, 500)
}
