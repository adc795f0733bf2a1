package kafka

import (
	"math"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// limitFetches keeps answers from being cut short by the limit of the whole answer: of the
// partition at which it stops there, the broker sends records but not which of them were
// aborted, and a reader of committed records takes them all. The limits of the partitions do
// not have this fault, so they take the place of the other.
func limitFetches(cluster *kfake.Cluster) {
	cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if fetch, ok := req.(*kmsg.FetchRequest); ok {
			shareLimit(fetch)
		}
		return nil, nil, false
	})
}

// shareLimit divides what the answer may hold among the partitions.
func shareLimit(req *kmsg.FetchRequest) {
	// In a session a request names only some of its partitions. A client that gets none goes
	// on without.
	if req.SessionEpoch == 0 {
		req.SessionEpoch = -1
	}
	var partitions int32
	for _, topic := range req.Topics {
		partitions += int32(len(topic.Partitions))
	}
	if partitions == 0 {
		return
	}
	// The broker sends the first batch of an answer whatever its size, so none waits for ever.
	share := max(req.MaxBytes/partitions, 1)
	for _, topic := range req.Topics {
		for i := range topic.Partitions {
			topic.Partitions[i].PartitionMaxBytes = min(topic.Partitions[i].PartitionMaxBytes, share)
		}
	}
	req.MaxBytes = math.MaxInt32
}
