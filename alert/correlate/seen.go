package correlate

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/schemas"
)

// Seen is the value of one record of audit.seen.v1: what a first_seen remembers of a combination of values, or
// of a group that none of its combinations is remembered of. It stands in the partition with the number
// of that of its signals, by a key of correlation, group and combination; a record without a value
// forgets it.
type Seen struct {
	V           int      `json:"v"`
	Correlation string   `json:"correlation"`
	Group       []string `json:"group"`
	Values      []string `json:"values"`
	Whole       bool     `json:"whole"` // the group, not a combination
	// From Start to End there was no pause of the correlation's timespan.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// GroupStart and GroupEnd are the same for all combinations of the group, with pauses four times as long.
	GroupStart time.Time `json:"group_start"`
	GroupEnd   time.Time `json:"group_end"`
	Forgotten  bool      `json:"-"`

	tuple string
}

// wholeGroup stands for a combination in the key of a group; joined makes no such text.
const wholeGroup = "\xff"

// Record returns the record of s for a partition.
func (s *Seen) Record(partition int32) (*kgo.Record, error) {
	r := &kgo.Record{
		Topic: schemas.TopicSeen, Partition: partition,
		Key:     []byte(joined([]string{s.Correlation, joined(s.Group), s.tuple})),
		Headers: []kgo.RecordHeader{{Key: schemas.HeaderVersion, Value: []byte(strconv.Itoa(schemas.Version))}},
	}
	if s.Forgotten {
		return r, nil
	}
	var err error
	if r.Value, err = json.Marshal(s); err != nil {
		return nil, fmt.Errorf("encoding what was seen: %w", err)
	}
	return r, nil
}

func decodeSeen(value []byte) (*Seen, error) {
	var s Seen
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, fmt.Errorf("decoding what was seen: %w", err)
	}
	if s.Correlation == "" || !believed(s.Start) || !believed(s.End) || !believed(s.GroupStart) || !believed(s.GroupEnd) ||
		s.End.Before(s.Start) || s.GroupEnd.Before(s.GroupStart) {
		return nil, errors.New("decoding what was seen: a field is missing or impossible")
	}
	s.tuple = joined(s.Values)
	if s.Whole {
		s.tuple = wholeGroup
	}
	return &s, nil
}

// Remember takes what was written before a restart, before any signal is added.
func (e *Engine) Remember(s *Seen) {
	st := e.byID[s.Correlation]
	if st == nil || st.mode != seen || len(s.Group) != len(st.GroupNames) || !s.Whole && len(s.Values) != len(st.ValueNames) {
		return
	}
	g := st.group(s.Group)
	g.newest = max(g.newest, s.GroupEnd.UnixMicro())
	g.presence, _ = merge(g.presence, stretch{start: s.GroupStart.UnixMicro(), end: s.GroupEnd.UnixMicro()},
		remembered*st.span)
	st.schedulePresence(g)
	if s.Whole {
		return
	}
	t := g.tuples[s.tuple]
	if t == nil {
		t = &tuple{key: s.tuple, dirty: -1}
		t.node = node{index: -1, group: g, tuple: t}
		g.tuples[s.tuple] = t
		st.tuples++
	}
	t.writtenAt = s.End.UnixMicro()
	t.stretches = []stretch{{start: s.Start.UnixMicro(), end: s.End.UnixMicro(), decided: true}}
	st.scheduleTuple(t)
}

// write gives out what is known of a tuple, as far as it is decided.
func (st *state) write(g *group, t *tuple) {
	decided := -1
	for i := range t.stretches {
		if t.stretches[i].decided {
			decided = i
		}
	}
	if decided < 0 || len(g.presence) == 0 {
		return
	}
	s := t.stretches[decided]
	p := g.presenceAt(s.start)
	values, err := split(t.key)
	if err != nil {
		return // joined made the key
	}
	st.engine.out.Seen = append(st.engine.out.Seen, Seen{
		V: schemas.Version, Correlation: st.ID, Group: g.values, Values: values, tuple: t.key,
		Start: micro(s.start), End: micro(s.end), GroupStart: micro(p.start), GroupEnd: micro(p.end),
	})
	t.writtenAt = s.end
	if decided == len(t.stretches)-1 {
		t.dirty = -1
	}
}

// presenceAt is when the group was there around a time, or before it.
func (g *group) presenceAt(at int64) stretch {
	p := g.presence[0]
	for _, o := range g.presence {
		if o.start <= at {
			p = o
		}
	}
	return p
}

// writeGroup gives out what is known of a group when one of its tuples is forgotten.
func (st *state) writeGroup(g *group) {
	s := Seen{V: schemas.Version, Correlation: st.ID, Group: g.values, Whole: true, tuple: wholeGroup}
	if len(g.presence) == 0 {
		s.Forgotten = true
	} else {
		p := g.presenceAt(st.watermark)
		s.Start, s.End, s.GroupStart, s.GroupEnd = micro(p.start), micro(p.end), micro(p.start), micro(p.end)
	}
	st.engine.out.Seen = append(st.engine.out.Seen, s)
}
