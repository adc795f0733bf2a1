package watch

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/auditmill/auditmill/enrich/context"
)

// sighting is a version of an object as an API server showed it, or that there is no such object.
type sighting struct {
	change   context.Change // Key.Kind is 0 for the end of a list, which holds the kind in Complete
	since    int64          // if not 0: when it became so is not known, only that it was after this time; µs since 1970
	restored bool           // the cluster was set back to an earlier state: its resource versions begin anew
}

// unseen is since when a sighting may have been so if its object was never looked at before.
const unseen = 1

// news returns what a sighting adds to what is known of its object, item; nil if nothing is known or the object does not
// exist. complete says that all objects of the kind were known before.
func (s *sighting) news(item *context.Item, complete bool) (c context.Change, is bool) {
	c = s.change
	switch {
	case c.Object == nil && !s.deletes(item):
		return c, false
	case c.Object != nil && !s.differs(item):
		return c, false
	case c.Object == nil:
	case s.restored || sameUID(item, &c) && (revision(item.Object) == 0 || revision(item.Object) == revision(c.Object)):
		// Resource versions would say that this is older, or nothing new: what was known before a restoration would stay the
		// newest for ever, and something else said of this very version would stand. So times count.
		fresh := *c.Object
		fresh.Metadata.ResourceVersion = ""
		c.Object = &fresh
	case sameUID(item, &c) && revision(item.Object) > revision(c.Object):
		return c, false // the audit stream was faster
	}
	c.Seen = s.seen(item, complete)
	return c, true
}

// deletes says whether the sighting that there is no such object is news.
func (s *sighting) deletes(item *context.Item) bool {
	if item == nil {
		return false
	}
	if known := uidOf(item); known != "" && s.change.UID != "" {
		return known == s.change.UID // else it is another one by now
	}
	return item.From <= s.change.From
}

// differs says whether what is known is not what was seen. Resource versions do not count: most changes of pods and nodes
// are to nothing that is kept.
func (s *sighting) differs(item *context.Item) bool {
	if item == nil || item.Object == nil || item.Stale || uidOf(item) != s.change.Object.Metadata.UID {
		return true
	}
	if item.Source == context.SourceAggregation {
		return true // worked out here alone: the topic has what the role was before
	}
	return !bytes.Equal(essence(item.Object), essence(s.change.Object))
}

// seen returns when the object was last looked at before, if since then it may have become what it is at any time: 0 if
// it just became so, or if nobody claimed to know everything until now.
func (s *sighting) seen(item *context.Item, complete bool) int64 {
	if s.since == 0 {
		return 0
	}
	at := s.since
	switch {
	case item != nil && (s.change.Object == nil || sameUID(item, &s.change)):
		at = max(at, item.From)
	case !complete:
		return 0 // that there may have been others is known
	default:
		at = max(at, created(s.change.Object)) // it was not there before
	}
	if at <= unseen || at >= s.change.From {
		return 0
	}
	return at
}

func uidOf(item *context.Item) string {
	if item == nil || item.Object == nil {
		return ""
	}
	return item.Object.Metadata.UID
}

func sameUID(item *context.Item, c *context.Change) bool {
	return item != nil && item.Object != nil && c.Object != nil && item.Object.Metadata.UID == c.Object.Metadata.UID
}

// essence is an object as JSON without its resource version. The order of the rules of an aggregated role means nothing, and
// enrich, which works them out too, may have another.
func essence(o *context.Object) []byte {
	e := *o
	e.Metadata.ResourceVersion = ""
	if e.AggregationRule != nil {
		e.Rules = slices.Clone(e.Rules)
		slices.SortFunc(e.Rules, func(x, y context.Rule) int { return bytes.Compare(text(x), text(y)) })
	}
	return text(&e)
}

func text(v any) []byte {
	t, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, numbers and slices of them
	}
	return t
}

func revision(o *context.Object) uint64 {
	if o == nil {
		return 0
	}
	n, err := strconv.ParseUint(o.Metadata.ResourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// created returns when an object was created, rounded down to the second; 0 if that is not known.
func created(o *context.Object) int64 {
	t, err := time.Parse(time.RFC3339, o.Metadata.CreationTimestamp)
	if err != nil {
		return 0
	}
	return t.UnixMicro()
}
