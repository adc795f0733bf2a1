package enrich

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	clusters "github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/feed"
)

// knowledge is what is known of the clusters, and from when on it became known late. All partitions share it.
type knowledge struct {
	store *clusters.Store

	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, when something new is known
	late    []late        // in the order in which it became known
	eras    []era         // what was before
	folded  uint64        // changes in eras
}

// era is a stretch of changes of which only the sum is remembered, by cluster: since the earliest, known with the last. Who has
// to look at one of them looks at more than it must.
type era struct {
	upTo uint64 // changes up to its end
	late []late
}

// late is something that became known.
type late struct {
	cluster string
	kind    clusters.Kind
	since   int64 // from when on something is different, µs since 1970
	at      feed.Position
	learned time.Time // zero if it came from the topics
}

// from is the earliest event_time of rows that may be different.
func (l *late) from() int64 {
	if l.kind <= clusters.ClusterRoleBinding {
		return l.since - reach.Microseconds()
	}
	return l.since
}

// Bounds of what is remembered of late changes: so many one by one, and so many eras before them.
const (
	maxLate = 1 << 16
	eraLong = maxLate / 4
	maxEras = 64
)

func newKnowledge(store *clusters.Store) *knowledge {
	return &knowledge{store: store, changed: make(chan struct{})}
}

// learned notes that something is different that an event told.
func (k *knowledge) learned(a feed.Applied) { k.note(a, time.Now()) }

// read notes that something is different that the topics told.
func (k *knowledge) read(a feed.Applied) { k.note(a, time.Time{}) }

func (k *knowledge) note(a feed.Applied, learned time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.late = append(k.late, late{cluster: a.Cluster, kind: a.Kind, since: a.Since, at: a.At, learned: learned})
	if len(k.late) >= maxLate+eraLong {
		k.folded += eraLong
		k.eras = append(k.eras, era{upTo: k.folded, late: fold(k.late[:eraLong])})
		k.late = slices.Clone(k.late[eraLong:])
		if len(k.eras) > maxEras {
			k.eras[1].late = fold(append(k.eras[0].late, k.eras[1].late...))
			k.eras = slices.Delete(k.eras, 0, 1)
		}
	}
	close(k.changed)
	k.changed = make(chan struct{})
}

// fold makes one change of all of a cluster that were told by the topics, and one of all that were learned of events.
func fold(all []late) []late {
	type kind struct {
		cluster string
		learned bool
	}
	sum := map[kind]late{}
	for _, l := range all {
		of := kind{l.cluster, !l.learned.IsZero()}
		if before, ok := sum[of]; ok {
			l.since, l.kind = min(l.since, before.since), min(l.kind, before.kind)
		}
		sum[of] = l
	}
	return slices.Collect(maps.Values(sum))
}

// news returns a channel that is closed when something new is known.
func (k *knowledge) news() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changed
}

// now is the number of changes so far.
func (k *knowledge) now() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.folded + uint64(len(k.late))
}

// after returns what became known from a number of changes on, and the number up to which it does.
func (k *knowledge) after(n uint64) (all []late, upTo uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.eras {
		if e.upTo > n {
			all = append(all, e.late...)
		}
	}
	first := max(n, k.folded) - k.folded
	return append(all, k.late[min(first, uint64(len(k.late))):]...), k.folded + uint64(len(k.late))
}

// unsettled returns what became known behind a settlement: what the topics say behind its position, and what was learned here
// from events since then, or shortly before, so that it may not have been in the topics yet.
func (k *knowledge) unsettled(at settlement) []late {
	all, _ := k.after(0)
	return slices.DeleteFunc(all, func(l late) bool {
		if l.learned.IsZero() {
			return !l.at.Beyond(at.position)
		}
		return l.learned.Before(at.time.Add(-settling))
	})
}

// settling is longer than it takes from learning something of an event until it is in the topics, whatever the clocks say.
const settling = time.Minute

// settlement is what the rows of a partition take into account: everything in the topics before a position.
type settlement struct {
	position feed.Position
	time     time.Time
}

const settlementPrefix = "context:"

// String is the metadata of the partition's commit.
func (s settlement) String() string {
	return settlementPrefix + s.position.String() + "@" + strconv.FormatInt(s.time.UnixMilli(), 10)
}

// parseSettlement reads the metadata of a commit. What says nothing of the context, as of an earlier build, or of a tool that
// set offsets, settles nothing.
func parseSettlement(metadata string) (s settlement, err error) {
	text, ok := strings.CutPrefix(metadata, settlementPrefix)
	if !ok {
		return s, nil
	}
	position, at, _ := strings.Cut(text, "@")
	p, err := feed.ParsePosition(position)
	if err != nil {
		return s, fmt.Errorf("reading the commit metadata: %w", err)
	}
	ms, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return s, fmt.Errorf("reading the commit metadata: %.40q is no time in ms", at)
	}
	return settlement{position: p, time: time.UnixMilli(ms)}, nil
}
