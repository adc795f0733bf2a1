package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// enrichedTwice returns how many rows of audit.enriched.v1 come from a raw record that an earlier row comes from too, and
// correct nothing: it tells a fault of enrich from one of load.
func enrichedTwice(t *testing.T, brokers []string, want int) int {
	t.Helper()
	cfg := kafka.DefaultConfig()
	cfg.Brokers = brokers
	client, err := kafka.NewClient(cfg, kgo.ConsumeTopics(schemas.TopicEnriched))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	type position struct {
		partition int32
		offset    int64
	}
	seen := make(map[position]int64)
	twice := 0
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		fetches := client.PollFetches(ctx)
		ended := ctx.Err() != nil
		cancel()
		fetches.EachRecord(func(r *kgo.Record) {
			batch, err := schemas.Decode(r.Value)
			if err != nil {
				t.Fatal(err)
			}
			defer batch.Release()
			offsets := schemas.ColumnArray(batch, "raw_offset").(*array.Int64)
			versions := schemas.ColumnArray(batch, "version").(*array.Int64)
			first := -1
			for i := range offsets.Len() {
				if versions.Value(i) > 0 {
					continue
				}
				at := position{r.Partition, offsets.Value(i)}
				if before, ok := seen[at]; ok {
					twice++
					if first < 0 {
						first = i
						t.Logf("enriched/%d offset %d: raw offset %d was in offset %d already", r.Partition, r.Offset, at.offset, before)
					}
				}
				seen[at] = r.Offset
			}
		})
		if ended || len(seen) >= want && fetches.Empty() {
			return twice
		}
	}
}
