package watch

import (
	stdcontext "context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// memory remembers until when all changes of a cluster were seen and written, in the metadata of a commit of a consumer
// group that has no members: whoever watches next knows for how long nobody did.
type memory struct {
	adm   *kadm.Client
	group string
}

func newMemory(client *kgo.Client, group string) *memory {
	return &memory{kadm.NewClient(client), group}
}

func (m *memory) groupOf(cluster string) string { return m.group + "/" + cluster }

// load returns what was saved. What cannot be read counts as nothing: less is said then.
func (m *memory) load(ctx stdcontext.Context, cluster string) (map[context.Kind]time.Time, error) {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		offsets, err := m.adm.FetchOffsets(ctx, m.groupOf(cluster))
		if err == nil {
			o, ok := offsets.Lookup(schemas.TopicContext, 0)
			if err = o.Err; err == nil {
				if !ok {
					return nil, nil
				}
				return parseTimes(o.Metadata), nil
			}
		}
		if errors.Is(err, kerr.GroupIDNotFound) {
			return nil, nil
		}
		if kafka.Fatal(err) || ctx.Err() != nil || kafka.Pause(ctx, wait) != nil {
			return nil, fmt.Errorf("reading the commit of group %q: %w", m.groupOf(cluster), err)
		}
	}
}

// save replaces what was saved.
func (m *memory) save(ctx stdcontext.Context, cluster string, times map[context.Kind]time.Time) error {
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: schemas.TopicContext, Partition: 0, At: 0, LeaderEpoch: -1, Metadata: formatTimes(times)})
	answer, err := m.adm.CommitOffsets(ctx, m.groupOf(cluster), offsets)
	if err == nil {
		err = answer.Error()
	}
	if err != nil {
		return fmt.Errorf("committing in group %q: %w", m.groupOf(cluster), err)
	}
	return nil
}

// formatTimes writes times as "roles=1700000000000000 pods=…", µs since 1970. It stays far below the 4 KiB of a commit.
func formatTimes(times map[context.Kind]time.Time) string {
	parts := make([]string, 0, len(times))
	for _, kind := range slices.Sorted(maps.Keys(times)) {
		if !times[kind].IsZero() {
			parts = append(parts, kind.Resource()+"="+strconv.FormatInt(times[kind].UnixMicro(), 10))
		}
	}
	return strings.Join(parts, " ")
}

// parseTimes reads what formatTimes wrote, and leaves out what it does not understand.
func parseTimes(text string) map[context.Kind]time.Time {
	times := map[context.Kind]time.Time{}
	for part := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(part, "=")
		r, ok := resourceOf(name)
		if at, err := strconv.ParseInt(value, 10, 64); ok && err == nil && at > 0 {
			times[r.kind] = time.UnixMicro(at)
		}
	}
	return times
}
