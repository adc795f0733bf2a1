package context_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/enrich/context"
)

// world plays what happens in a cluster, and what audit stream, watch and dumps say of it.
type world struct {
	r        *rand.Rand
	at       int64
	revision int
	live     map[context.Key]*context.Object
	said     []context.Change // in the order in which it happened
	synced   int64            // when the watch looked last
	uids     int
}

func newWorld(seed uint64) *world {
	return &world{r: rand.New(rand.NewPCG(seed, 7)), at: 1_700_000_000_000_000, live: map[context.Key]*context.Object{}}
}

func (w *world) keys() []context.Key {
	all := []context.Key{}
	for i := range 3 {
		n := strconv.Itoa(i)
		all = append(all,
			context.Key{Kind: context.ClusterRole, Name: "r" + n}, context.Key{Kind: context.ClusterRoleBinding, Name: "b" + n},
			context.Key{Kind: context.Pod, Namespace: "n", Name: "p" + n}, context.Key{Kind: context.ServiceAccount, Namespace: "n", Name: "s" + n})
	}
	return all
}

// version makes another version of an object.
func (w *world) version(key context.Key, before *context.Object) *context.Object {
	w.revision++
	o := &context.Object{}
	if before != nil {
		o.Metadata = before.Metadata
	} else {
		w.uids++
		o.Metadata.UID = "u" + strconv.Itoa(w.uids)
		o.Metadata.CreationTimestamp = time.UnixMicro(w.at).UTC().Format(time.RFC3339)
	}
	o.Metadata.ResourceVersion = strconv.Itoa(w.revision)
	switch key.Kind {
	case context.ClusterRole:
		o.Rules = []context.Rule{{Verbs: []string{"v" + strconv.Itoa(w.r.IntN(4))}, Resources: []string{"pods"}}}
		if w.r.IntN(2) == 0 {
			o.Metadata.Labels = map[string]string{"to": "r0"}
		}
		if key.Name == "r0" {
			o.AggregationRule = &context.AggregationRule{Selectors: []context.Selector{{MatchLabels: map[string]string{"to": "r0"}}}}
		}
	case context.ClusterRoleBinding:
		o.RoleRef = &context.RoleRef{Kind: "ClusterRole", Name: "r" + strconv.Itoa(w.r.IntN(3))}
		o.Subjects = []context.Subject{{Kind: "Group", Name: "g" + strconv.Itoa(w.r.IntN(3))}}
	case context.Pod:
		o.Pod = &context.PodInfo{Node: "node", IPs: []string{"10.0.0." + strconv.Itoa(w.r.IntN(3))}}
	default:
		o.Metadata.Annotations = map[string]string{"eks.amazonaws.com/role-arn": strconv.Itoa(w.r.IntN(2))}
	}
	return o
}

// step lets something happen.
func (w *world) step() {
	w.at += 1 + w.r.Int64N(3_000_000)
	key := w.keys()[w.r.IntN(12)]
	before := w.live[key]
	switch w.r.IntN(12) {
	case 0: // the watch lists again what it did not see
		w.list()
		return
	case 1:
		w.said = append(w.said, context.Change{From: w.at, Doubt: true, Source: context.SourceAudit})
		return
	}
	change := context.Change{Key: key, From: w.at, Source: context.SourceAudit, By: "somebody"}
	if before != nil && w.r.IntN(12) == 0 {
		// Something is recorded that changes nothing: an empty patch, or a deletion that is accepted only.
		if change.Stale = w.r.IntN(2) == 0; w.r.IntN(2) == 0 {
			change.UID = before.Metadata.UID
		}
		w.said = append(w.said, change)
		return
	}
	if before != nil && w.r.IntN(4) == 0 {
		delete(w.live, key)
		if change.UID = before.Metadata.UID; w.r.IntN(3) == 0 {
			change.UID = "" // level Metadata
		}
	} else {
		w.live[key] = w.version(key, before)
		change.Object = w.live[key]
		switch w.r.IntN(8) {
		case 0: // level Metadata
			change.Object, change.Stale, change.UID = nil, true, ""
		case 1: // level Request
			o := *change.Object
			o.Metadata.ResourceVersion = ""
			change.Object = &o
		}
	}
	if w.r.IntN(10) != 0 { // else the stream lost it
		w.said = append(w.said, change)
	}
}

// list is what a watch says that was away.
func (w *world) list() {
	for _, key := range w.keys() {
		change := context.Change{Key: key, From: w.at, Seen: w.synced, Source: context.SourceWatch, Object: w.live[key]}
		w.said = append(w.said, change)
	}
	w.said = append(w.said, context.Change{From: w.at, Seen: w.synced, Source: context.SourceWatch, Complete: []context.Kind{
		context.Role, context.ClusterRole, context.RoleBinding, context.ClusterRoleBinding, context.Pod, context.ServiceAccount,
	}})
	w.synced = w.at
}

// answers are all that a store says of a time.
func answers(s *context.Store, at int64) string {
	c := s.Cluster(cluster)
	if c == nil {
		return ""
	}
	all := map[string]string{}
	for kind := context.Role; kind <= context.Range; kind++ {
		for item := range c.Objects(kind, at) {
			text := "?"
			if !item.Stale {
				since := item.From
				if item.Object.AggregationRule != nil {
					since = 0 // its rules are worked out anew each time one of its parts is mentioned
				}
				text = fmt.Sprintf("since %d by %s %s", since, item.By, content(item.Object))
			}
			all[item.Key.String()] = text
		}
		if c.Complete(kind, at) {
			all["complete "+kind.String()] = ""
		}
	}
	if state := c.At(at); state != nil {
		all["doubtful"] = strconv.FormatBool(state.Doubtful())
		for subject, bindings := range state.Subjects() {
			var names []string
			for _, b := range bindings {
				if !b.Stale {
					names = append(names, b.Key.Name)
				}
			}
			slices.Sort(names)
			if len(names) > 0 {
				all["of "+subject.Name] = strings.Join(names, ",")
			}
		}
	}
	for i := range 3 {
		ip := "10.0.0." + strconv.Itoa(i)
		if a, ok := c.Address(ip, at); ok {
			all[ip] = a.Pod.Name + "@" + a.Node
		}
	}
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s: %s\n", k, all[k])
	}
	return b.String()
}

// content is an object as JSON without its resource version.
func content(o *context.Object) string {
	c := *o
	c.Metadata.ResourceVersion = ""
	b, err := c.MarshalJSON()
	if err != nil {
		panic(err)
	}
	return string(b)
}

// moments are the times at which something may differ.
func moments(said []context.Change) []int64 {
	var all []int64
	for i := range said {
		all = append(all, said[i].From-1, said[i].From, said[i].From+1)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Whatever is said, in whichever order and how often, the answers are the same for all times; and what Apply reports is
// the first time of which an answer differs, or that none does.
func TestSaidInAnyOrder(t *testing.T) {
	for seed := range uint64(40) {
		w := newWorld(seed)
		for range 30 {
			w.step()
		}
		if w.r.IntN(3) == 0 {
			at := w.said[w.r.IntN(len(w.said))].From
			// Before all else: what it ended is forgotten in between versions that say the same.
			w.said = slices.Insert(w.said, 0, context.Change{From: at + 1, Removed: true, Source: "context remove"})
		}
		want := context.NewStore(context.DefaultConfig())
		want.Apply(cluster, w.said...)
		got := context.NewStore(context.DefaultConfig())
		times := moments(w.said)
		order := w.r.Perm(len(w.said))
		if w.said[0].Removed {
			order = append([]int{0}, slices.DeleteFunc(order, func(i int) bool { return i == 0 })...)
		}
		for len(order) > 0 {
			n := 1 + w.r.IntN(min(4, len(order)))
			var changes []context.Change
			for _, i := range order[:n] {
				changes = append(changes, w.said[i])
				if w.r.IntN(3) == 0 {
					changes = append(changes, w.said[i])
				}
			}
			order = order[n:]
			before := make([]string, len(times))
			for i, at := range times {
				before[i] = answers(got, at)
			}
			since, changed := got.Apply(cluster, changes...)
			for i, at := range times {
				after := answers(got, at)
				if after != before[i] && (!changed || at < since) {
					t.Fatalf("seed %d: %d differs, but Apply says %d %t:\n%s", seed, at, since, changed, cmp.Diff(before[i], after))
				}
			}
			if again, twice := got.Apply(cluster, changes...); twice {
				t.Fatalf("seed %d: the same again is different since %d: %+v", seed, again, changes)
			}
		}
		for _, at := range times {
			if diff := cmp.Diff(answers(want, at), answers(got, at)); diff != "" {
				t.Fatalf("seed %d at %d (-in order +in another):\n%s", seed, at, diff)
			}
		}
	}
}

// Versions that say the same are kept as one. What turns out to have been between them does not last for longer than it did.
func TestVersionBetween(t *testing.T) {
	key := context.Key{Kind: context.ServiceAccount, Namespace: "n", Name: "s"}
	version := func(revision int64, role string) context.Change {
		return context.Change{Key: key, From: began + revision*second, Source: context.SourceAudit, Object: &context.Object{Metadata: context.Metadata{
			UID: "u", ResourceVersion: strconv.FormatInt(revision, 10), Annotations: map[string]string{"eks.amazonaws.com/role-arn": role},
		}}}
	}
	said := []context.Change{version(12, "a"), version(14, "b"), version(19, "a"), version(20, "a")}
	for _, order := range [][]int{{0, 1, 2, 3}, {0, 3, 2, 1}, {3, 0, 2, 1}, {0, 3, 1, 2}, {3, 2, 1, 0}} {
		s := context.NewStore(context.DefaultConfig())
		for _, i := range order {
			s.Apply(cluster, said[i])
		}
		var got []string
		for _, revision := range []int64{13, 15, 19, 21} {
			got = append(got, s.Cluster(cluster).Find(key, began+revision*second).Object.Metadata.Annotations["eks.amazonaws.com/role-arn"])
		}
		if want := []string{"a", "b", "a", "a"}; !slices.Equal(got, want) {
			t.Errorf("said in the order %v: %q, want %q", order, got, want)
		}
	}
}

// A topic holds what was said, by those who write it as they must, and forgets.
type topic struct {
	store   *context.Store // of the writer
	records []context.Change
}

func (p *topic) write(c context.Change) {
	if c.Object != nil && (c.Source == context.SourceWatch || !c.Key.Kind.RBAC()) {
		// A watch says nothing that is known; neither does the stream of objects that are written all the time.
		at := int64(math.MaxInt64)
		if c.Source == context.SourceAudit {
			at = c.From - 1
		}
		if item := p.store.Cluster(cluster).Find(c.Key, at); item != nil && !item.Stale && content(item.Object) == content(c.Object) {
			return
		}
	}
	for n := 0; ; n++ {
		p.records = append(p.records, c)
		p.store.Apply(cluster, c)
		again, ok := p.store.Later(cluster, &c)
		if !ok || n > 3 {
			return
		}
		c = again
	}
}

// compact forgets all but the last record of each key, but for those that are newer than lag; and of those the deletions that
// are among the first dead.
func (p *topic) compact(t *testing.T, lag, dead int) []context.Change {
	t.Helper()
	var kept []context.Change
	has := map[string]bool{}
	for i, c := range slices.Backward(p.records) {
		key := context.RecordKey(cluster, &c)
		if i < len(p.records)-lag {
			if has[key] {
				continue
			}
			has[key] = true
			if _, deletion := context.Tombstone(cluster, &c); deletion && i < dead {
				continue
			}
		}
		kept = append(kept, throughRecord(t, c))
	}
	slices.Reverse(kept)
	return kept
}

// throughRecord writes a change as the topic has it and reads it.
func throughRecord(t *testing.T, c context.Change) context.Change {
	t.Helper()
	var name string
	var read context.Change
	var err error
	if headers, ok := context.Tombstone(cluster, &c); ok {
		name, read, err = context.ParseTombstone(context.RecordKey(cluster, &c), headers)
	} else {
		text, e := context.AppendRecord(nil, cluster, &c)
		if e != nil {
			t.Fatal(e)
		}
		name, read, err = context.ParseRecord(text)
	}
	if err != nil || name != cluster {
		t.Fatalf("%+v became %q %+v: %v", c, name, read, err)
	}
	return read
}

// lessKnown says whether what differs is not known in got. late says that records may be older than what was forgotten before
// they came: then an object may have been something else in between.
func lessKnown(want, got string, late bool) bool {
	known := map[string]string{}
	for line := range strings.Lines(want) {
		key, value, _ := strings.Cut(line, ": ")
		known[key] = value
	}
	for line := range strings.Lines(got) {
		key, value, _ := strings.Cut(line, ": ")
		switch derived := !strings.Contains(key, " ") || strings.HasPrefix(key, "of "); {
		case derived:
		case key == "ClusterRole r0":
			// Its rules are worked out of parts of which older versions are forgotten, unless its own newest record says
			// them: a watch writes that.
		case !lessKnownOf(known[key], value, late):
			return false
		}
		delete(known, key)
	}
	for key, value := range known {
		if value == "?\n" {
			continue // it may be there, or was held when it was deleted by a name that says nothing any more
		}
		if strings.Contains(key, " ") && !strings.HasPrefix(key, "of ") && !strings.HasPrefix(key, "complete ") {
			return false // it is said not to exist
		}
	}
	return true
}

// lessKnownOf says whether all that got says of an object want says too: since when it is so may be known to be earlier, and
// by whom.
func lessKnownOf(want, got string, late bool) bool {
	if want == got || got == "?\n" {
		return true
	}
	var since, earlier int64
	var by, whom string
	if n, _ := fmt.Sscanf(got, "since %d by", &since); n != 1 {
		return false
	}
	if n, _ := fmt.Sscanf(want, "since %d by", &earlier); n != 1 {
		return false
	}
	_, got, _ = strings.Cut(got, " by ")
	_, want, _ = strings.Cut(want, " by ")
	by, got, _ = strings.Cut(got, " ")
	whom, want, _ = strings.Cut(want, " ")
	return got == want && (late || since >= earlier && (by == "" || by == whom))
}

// A compacted topic says the same of all times since its lag, or less: never something else.
func TestCompaction(t *testing.T) {
	for seed := range uint64(60) {
		w := newWorld(seed)
		for range 80 {
			w.step()
		}
		p := &topic{store: context.NewStore(context.DefaultConfig())}
		late, lateness := []context.Change{}, w.r.IntN(2)*6
		for i, c := range w.said {
			if lateness > 0 && w.r.IntN(lateness) == 0 && i < len(w.said)-10 {
				late = append(late, c)
				continue
			}
			p.write(c)
			if len(late) > 0 && w.r.IntN(4) == 0 {
				p.write(late[0])
				late = late[1:]
			}
		}
		for _, c := range late {
			p.write(c)
		}
		lag := w.r.IntN(len(p.records))
		got := context.NewStore(context.DefaultConfig())
		got.Apply(cluster, p.compact(t, lag, w.r.IntN(len(p.records)-lag+1))...)
		newest := int64(math.MinInt64)
		for _, c := range p.records[:len(p.records)-lag] {
			newest = max(newest, c.From)
		}
		for _, at := range moments(w.said) {
			if at <= newest+1 {
				continue
			}
			want, got := answers(p.store, at), answers(got, at)
			if diff := cmp.Diff(want, got); diff != "" && !lessKnown(want, got, lateness > 0) {
				t.Fatalf("seed %d at %d (-all +compacted by all but %d of %d):\n%s", seed, at, lag, len(p.records), diff)
			}
		}
	}
}
