package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// showOffsets prints where every partition and group stands: what one needs to tell who
// does not go on. A committed end below the end is an open transaction.
func showOffsets(t *testing.T, brokers []string) {
	t.Helper()
	cfg := kafka.DefaultConfig()
	cfg.Brokers = brokers
	client, err := kafka.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	adm := kadm.NewClient(client)
	topics := []string{schemas.TopicRaw, schemas.TopicEnriched, schemas.TopicAlerts, schemas.TopicDead}
	ends, err := adm.ListEndOffsets(t.Context(), topics...)
	if err != nil {
		t.Log("no offsets:", err)
		return
	}
	stable, err := adm.ListCommittedOffsets(t.Context(), topics...)
	if err != nil {
		t.Log("no committed offsets:", err)
		return
	}
	groups := []string{"auditmill-enrich", "auditmill-alert", "auditmill-load"}
	committed := adm.FetchManyOffsets(t.Context(), groups...)
	var lines []string
	ends.Each(func(end kadm.ListedOffset) {
		line := fmt.Sprintf("%s/%d: end %d", end.Topic, end.Partition, end.Offset)
		if s, ok := stable.Lookup(end.Topic, end.Partition); ok && s.Offset != end.Offset {
			line += fmt.Sprintf(", committed end %d", s.Offset)
		}
		for _, group := range groups {
			if at, ok := committed[group].Fetched.Lookup(end.Topic, end.Partition); ok {
				line += fmt.Sprintf(", %s at %d %s", group, at.At, at.Metadata)
			}
		}
		lines = append(lines, line)
	})
	slices.Sort(lines)
	t.Logf("where everybody is:\n%s", strings.Join(lines, "\n"))
}
