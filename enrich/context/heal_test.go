package context_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditmill/auditmill/enrich/context"
)

const minute = 60 * second

var boundKey = context.Key{Kind: context.ClusterRoleBinding, Name: "b"}

// version is what is said of the binding b: that it grants role.
type version struct {
	at       int64 // s after the beginning
	role     string
	uid      string
	revision int
	created  int64 // s after the beginning; 0 if it is not said
	source   string
	seen     int64 // s after the beginning
}

func (v version) change() context.Change {
	c := context.Change{Key: boundKey, From: began + v.at*second, Source: v.source}
	if v.source == "" {
		c.Source = context.SourceAudit
	}
	if v.seen != 0 {
		c.Seen = began + v.seen*second
	}
	switch v.role {
	case "-":
		c.UID = v.uid
		return c
	case "?":
		c.UID, c.Stale = v.uid, true
		return c
	}
	c.Object = &context.Object{
		Metadata: context.Metadata{UID: v.uid}, RoleRef: &context.RoleRef{Kind: "ClusterRole", Name: v.role},
		Subjects: []context.Subject{{Kind: "User", Name: "u"}},
	}
	if v.revision != 0 {
		c.Object.Metadata.ResourceVersion = strconv.Itoa(v.revision)
	}
	if v.created != 0 {
		c.Object.Metadata.CreationTimestamp = time.UnixMicro(began + v.created*second).UTC().Format(time.RFC3339)
	}
	return c
}

// granted is what the binding grants at a time, s after the beginning: "-" if there is none, "?" if that is not known.
func granted(s *context.Store, at int64) string {
	item := s.Cluster(cluster).Find(boundKey, began+at*second)
	switch {
	case item == nil:
		return "-"
	case item.Stale || item.Object == nil:
		return "?"
	}
	return item.Object.RoleRef.Name
}

// Who sees an object later says what it is, also if something was recorded that could not be followed, or was misread.
func TestHealed(t *testing.T) {
	const watch, dump = context.SourceWatch, "import:x"
	for _, tt := range []struct {
		name string
		said []version
		want string // what is granted each 100 s, from 50 on
	}{
		{
			"changed, and as it was when seen",
			[]version{{at: 0, role: "a", uid: "1", revision: 5}, {at: 100, role: "?"}, {at: 200, role: "a", uid: "1", revision: 5, source: dump}},
			"a?aa",
		},
		{
			"changed, and another when seen",
			[]version{{at: 0, role: "a", uid: "1", revision: 5}, {at: 100, role: "?"}, {at: 200, role: "b", uid: "1", revision: 6, source: watch}},
			"a?bb",
		},
		{
			"changed, with its uid, and as it was when seen",
			[]version{{at: 0, role: "a", uid: "1", revision: 5}, {at: 100, role: "?", uid: "1"}, {at: 200, role: "a", uid: "1", revision: 5, source: watch}},
			"a?aa",
		},
		{
			"as it was when written without effect",
			[]version{{at: 0, role: "a", uid: "1", revision: 5}, {at: 100, role: "?"}, {at: 200, role: "a", uid: "1", revision: 5}},
			"a?aa",
		},
		{
			"seen before only, by two",
			[]version{
				{at: 0, role: "a", uid: "1", revision: 5, source: watch},
				{at: 100, role: "?"},
				{at: 200, role: "a", uid: "1", revision: 5, source: dump},
				{at: 300, role: "?"},
			},
			"a?a?",
		},
		{
			"seen before it changed again",
			[]version{
				{at: 0, role: "a", uid: "1", revision: 5},
				{at: 100, role: "?"},
				{at: 200, role: "b", uid: "1", revision: 6},
				{at: 300, role: "a", uid: "1", revision: 5, source: dump}, // taken earlier than it says
			},
			"a?bb",
		},
		{
			"seen the same after a time away",
			[]version{{at: 0, role: "a", uid: "1", revision: 5}, {at: 200, role: "a", uid: "1", revision: 5, source: watch, seen: 100}},
			"aaaa",
		},
		{
			"a deletion that was accepted only",
			[]version{{at: 0, role: "a", uid: "1", revision: 5}, {at: 100, role: "-", uid: "1"}, {at: 200, role: "a", uid: "1", revision: 6, source: watch}},
			"a?aa",
		},
		{
			"a deletion that does not say of which",
			[]version{{at: 0, role: "a", uid: "1", revision: 5}, {at: 100, role: "-"}, {at: 200, role: "a", uid: "1", revision: 5, source: dump}},
			"a?aa",
		},
		{
			"deletions again and again",
			[]version{
				{at: 0, role: "a", uid: "1", revision: 5},
				{at: 100, role: "-"},
				{at: 120, role: "-", uid: "1"},
				{at: 150, role: "-"},
				{at: 200, role: "a", uid: "1", revision: 5, source: watch},
				{at: 300, role: "-", uid: "1"},
			},
			"a?a-",
		},
		{
			"deleted without a word, seen, and deleted at last",
			[]version{
				{at: 0, role: "a", uid: "1", revision: 5},
				{at: 100, role: "-", uid: "1"},
				{at: 200, role: "b", uid: "1", revision: 6, source: watch},
				{at: 300, role: "-", uid: "1", source: watch},
			},
			"a?b-",
		},
		{
			"not in a dump that was not of all",
			[]version{
				{at: 0, role: "a", uid: "1", revision: 5, source: watch},
				{at: 100, role: "-", uid: "1", source: dump},
				{at: 200, role: "a", uid: "1", revision: 5, source: watch},
			},
			"a?aa",
		},
		{
			"not in a dump that was not of all, and written later",
			[]version{
				{at: 0, role: "a", uid: "1", revision: 5}, {at: 100, role: "-", uid: "1", source: dump}, {at: 200, role: "b", uid: "1", revision: 6},
			},
			"a?bb",
		},
		{
			"written long after a deletion",
			[]version{{at: 0, role: "a", uid: "1", revision: 5}, {at: 100, role: "-", uid: "1"}, {at: 200, role: "b", uid: "1", revision: 6}},
			"a?bb",
		},
		{
			"a write that was answered after the deletion",
			[]version{{at: 0, role: "a", uid: "1", revision: 5}, {at: 100, role: "-", uid: "1"}, {at: 105, role: "b", uid: "1", revision: 6}},
			"a---",
		},
		{
			"a dump soon after the deletion",
			[]version{{at: 0, role: "a", uid: "1", revision: 5}, {at: 100, role: "-", uid: "1"}, {at: 105, role: "a", uid: "1", revision: 5, source: dump}},
			"aaaa",
		},
		{
			"created anew",
			[]version{
				{at: 0, role: "a", uid: "1", revision: 5, created: 1},
				{at: 100, role: "-"},
				{at: 200, role: "b", uid: "2", revision: 9, created: 180, source: watch},
			},
			"a-bb",
		},
		{
			"created anew, in the same second",
			[]version{
				{at: 0, role: "a", uid: "1", revision: 5, created: 1},
				{at: 100, role: "-"},
				{at: 200, role: "b", uid: "2", revision: 9, created: 100, source: watch},
			},
			"a-bb",
		},
		{
			"the one created anew, by a name alone",
			[]version{
				{at: 0, role: "a", uid: "1", revision: 5, created: 1},
				{at: 60, role: "-", uid: "1"},
				{at: 70, role: "b", uid: "2", revision: 9, created: 70},
				{at: 100, role: "-"},
				{at: 200, role: "b", uid: "2", revision: 9, source: watch, created: 70},
			},
			"a?bb",
		},
		{
			"deleted by name alone, as was the next, of which nothing is known",
			[]version{{at: 0, role: "a", uid: "1", revision: 5}, {at: 100, role: "-"}, {at: 200, role: "?"}, {at: 300, role: "-"}},
			"a-?-",
		},
		{
			"another of its name was deleted, of which nothing else is known",
			[]version{{at: 0, role: "a", uid: "1", revision: 5}, {at: 200, role: "-", uid: "2"}},
			"??--",
		},
		{
			"the same, but it was seen afterwards",
			[]version{{at: 0, role: "a", uid: "1", revision: 5}, {at: 200, role: "-", uid: "2"}, {at: 300, role: "a", uid: "1", revision: 5, source: watch}},
			"aaaa",
		},
		{
			"the one before was deleted, which was answered late",
			[]version{{at: 10, role: "a", uid: "2", revision: 5}, {at: 15, role: "-", uid: "1"}},
			"aaaa",
		},
		{
			"the one before was seen to be deleted late",
			[]version{{at: 0, role: "b", uid: "1", revision: 4}, {at: 100, role: "a", uid: "2", revision: 5}, {at: 200, role: "-", uid: "1", source: watch}},
			"baaa",
		},
		{
			"never seen before",
			[]version{{at: 100, role: "-"}, {at: 200, role: "a", uid: "1", revision: 5, created: 10, source: dump}},
			"-?aa",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			orders := [][]int{nil, nil}
			for i := range tt.said {
				orders[0], orders[1] = append(orders[0], i), append([]int{i}, orders[1]...)
			}
			for _, order := range orders {
				s := context.NewStore(context.DefaultConfig())
				for _, i := range order {
					s.Apply(cluster, tt.said[i].change())
				}
				var got strings.Builder
				for i := range int64(4) {
					got.WriteString(granted(s, 50+100*i))
				}
				if got.String() != tt.want {
					t.Errorf("said in the order %v: got %s, want %s", order, got.String(), tt.want)
				}
			}
		})
	}
}
