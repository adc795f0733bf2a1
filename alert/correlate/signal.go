package correlate

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// Signal is the value of one record of audit.signals.v1: a match of a rule that counts for a
// correlation. Its key is the correlation and the group, so a partition has all signals of a group.
type Signal struct {
	V           int    `json:"v"`           // schemas.Version
	Correlation string `json:"correlation"` // id of the correlation it counts for
	Rule        string `json:"rule"`        // id of the rule that matched
	// EventID of the event; of a correlation that counts for another one, the id of its alert.
	EventID string    `json:"event_id"`
	Cluster string    `json:"cluster"`
	Time    time.Time `json:"time"` // event_time
	// Group are the values of the correlation's GroupNames, Values all values of each of its ValueNames.
	Group  []string   `json:"group"`
	Values [][]string `json:"values,omitempty"`
	// Fields are what the correlation's summary and alert group name besides, by ir.Field.String.
	Fields map[string][]string `json:"fields,omitempty"`
	// Retract takes back the signal of the same event to the same group: the event was corrected, and does not belong there.
	Retract bool `json:"retract,omitempty"`
	// Alert is a copy of the event's alert without what the correlation says itself.
	Alert *schemas.Alert `json:"alert,omitempty"`
	// Partition and Offset say where the event stands in audit.enriched.v1, or for the match of a
	// correlation in audit.signals.v1.
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
}

// Clock is the other kind of value: how far a source of signals is in event time. All signals that it
// wrote before are of events up to Time, and those it will write are at most the allowed lateness older.
type Clock struct {
	// Level is 0 for the partitions of audit.enriched.v1. The correlations that count no other correlation
	// are level 1, and so on; the source is then a partition of audit.signals.v1, and nothing older than
	// Time will come of it, lateness included.
	Level int `json:"level"`
	// Partition is the source, and Of how many sources of the level there are.
	Partition int32     `json:"partition"`
	Of        int32     `json:"of"`
	Time      time.Time `json:"time"`
}

type message struct {
	Signal
	Clock *Clock `json:"clock,omitempty"`
}

// Source says where the event of a signal stands.
type Source struct {
	Partition int32
	Offset    int64
}

// maxTuples bounds the groups, and the tuples of values, that one event with lists of values is in; the
// first in the order of the lists stay.
const maxTuples = 64

// Match is a match of a rule as the correlations that count it want to know it.
type Match struct {
	Rule string
	Time time.Time // event_time
	// EventID and Version are those of the row. A higher version of an event replaces what a lower one said.
	EventID string
	Version uint64
	// Values gives the values of any field of the event; nil if it is absent.
	Values func(ir.Field) []string
	// Alert makes the alert of the match, even for a silent rule. It is called at most once, and not at all
	// if no signal has to be sent.
	Alert  func() *schemas.Alert
	Source Source
}

// Signals returns the signals of a match.
//
// A field of group-by that is absent is a value of its own, the empty text; one with several values puts
// the event in one group for each.
func (s *Set) Signals(m Match) []Signal { return s.signals(m, nil) }

// signals returns those signals that pass; all if passes is nil.
func (s *Set) signals(m Match, passes func(f feed, at int64, group []string, values [][]string) bool) []Signal {
	var signals []Signal
	var alert *schemas.Alert
	for _, f := range s.feeds[m.Rule] {
		counted := lookup(f.values, m.Values)
		var extra map[string][]string
		for _, group := range product(lookup(f.group, m.Values)) {
			if passes != nil && !passes(f, m.Time.UnixMicro(), group, counted) {
				continue
			}
			if alert == nil {
				alert = compact(m.Alert())
			}
			if extra == nil {
				extra = f.extra(m.Values)
			}
			signals = append(signals, Signal{
				V: schemas.Version, Correlation: f.ID, Rule: m.Rule, EventID: alert.EventID, Cluster: alert.Cluster,
				Time: m.Time, Group: group, Values: counted, Fields: extra, Alert: alert,
				Partition: m.Source.Partition, Offset: m.Source.Offset,
			})
		}
	}
	return signals
}

// extra are the fields that the correlation's texts need besides its group.
func (f *feed) extra(values func(ir.Field) []string) map[string][]string {
	extra := map[string][]string{}
	for i, v := range lookup(f.fields, values) {
		if len(v) > 0 && !slices.Contains(f.GroupNames, f.fields[i].Name) {
			extra[f.fields[i].String()] = v
		}
	}
	return extra
}

func lookup(fields []ir.Field, values func(ir.Field) []string) [][]string {
	out := make([][]string, len(fields))
	for i, f := range fields {
		for _, v := range values(f) {
			out[i] = append(out[i], strings.Clone(v)) // may share the memory of a batch
		}
	}
	return out
}

// product returns the combinations of one value of each list; an empty list counts as one empty text.
func product(lists [][]string) [][]string {
	out := [][]string{{}}
	for _, list := range lists {
		if len(list) == 0 {
			list = []string{""}
		}
		var longer [][]string
		for _, head := range out {
			for _, v := range list {
				tuple := append(slices.Clone(head), v)
				if len(longer) < maxTuples && !slices.ContainsFunc(longer, func(t []string) bool { return slices.Equal(t, tuple) }) {
					longer = append(longer, tuple)
				}
			}
		}
		out = longer
	}
	return out
}

// compact copies an alert without what a correlation has of its own.
func compact(a *schemas.Alert) *schemas.Alert {
	c := *a
	c.ID, c.Rule, c.Title, c.Severity, c.Summary, c.Next, c.Query, c.GroupID = "", "", "", "", "", "", "", ""
	c.Tags, c.EventIDs, c.Values = nil, nil, nil
	return &c
}

// Record returns the record of s, for any client whose partitioner goes by keys.
func (s *Signal) Record() (*kgo.Record, error) {
	value, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding a signal: %w", err)
	}
	return newRecord([]byte(s.Correlation+"\x00"+joined(s.Group)), value), nil
}

func newRecord(key, value []byte) *kgo.Record {
	return &kgo.Record{
		Topic: schemas.TopicSignals, Key: key, Value: value,
		Headers: []kgo.RecordHeader{{Key: schemas.HeaderVersion, Value: []byte(strconv.Itoa(schemas.Version))}},
	}
}

// joined is a text that tells lists of texts apart.
func joined(texts []string) string {
	var b []byte
	for _, t := range texts {
		b = binary.AppendUvarint(b, uint64(len(t)))
		b = append(b, t...)
	}
	return string(b)
}

// split is the inverse of joined.
func split(s string) ([]string, error) {
	texts, rest := []string{}, []byte(s)
	for len(rest) > 0 {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return nil, errors.New("a list of texts is cut off")
		}
		texts = append(texts, string(rest[n:n+int(size)]))
		rest = rest[n+int(size):]
	}
	return texts, nil
}

// Records returns the records of signals.
func Records(signals []Signal) ([]*kgo.Record, error) {
	records := make([]*kgo.Record, len(signals))
	for i := range signals {
		r, err := signals[i].Record()
		if err != nil {
			return nil, err
		}
		records[i] = r
	}
	return records, nil
}

// Records returns one record of c for each partition of audit.signals.v1.
func (c Clock) Records(partitions int32) ([]*kgo.Record, error) {
	value, err := json.Marshal(struct {
		V     int   `json:"v"`
		Clock Clock `json:"clock"`
	}{schemas.Version, c})
	if err != nil {
		return nil, fmt.Errorf("encoding a clock: %w", err)
	}
	records := make([]*kgo.Record, partitions)
	for i, key := range clockKeys(partitions) {
		records[i] = newRecord(key, value)
	}
	return records, nil
}

// clockKeys returns a key for each partition, so that clocks need no partitioner of their own.
func clockKeys(partitions int32) [][]byte {
	keys, missing := make([][]byte, partitions), partitions
	partitioner := kgo.StickyKeyPartitioner(nil).ForTopic(schemas.TopicSignals)
	for n := 0; missing > 0; n++ {
		key := []byte("clock-" + strconv.Itoa(n))
		p := partitioner.Partition(&kgo.Record{Key: key}, int(partitions))
		if keys[p] == nil {
			keys[p] = key
			missing--
		}
	}
	return keys
}

// latest bounds the times that are believed, so that sums of times cannot overflow.
const latest = 1 << 53 // µs: the year 2255

// decode reads the value of a record: either a signal, or a clock if that is not nil.
func decode(value []byte) (*Signal, *Clock, error) {
	var m message
	if err := json.Unmarshal(value, &m); err != nil {
		return nil, nil, fmt.Errorf("decoding a signal: %w", err)
	}
	if c := m.Clock; c != nil {
		if c.Level < 0 || c.Partition < 0 || c.Partition >= c.Of || !believed(c.Time) {
			return nil, nil, fmt.Errorf("decoding a signal: no clock can be %+v", *c)
		}
		return nil, c, nil
	}
	switch s := &m.Signal; {
	case s.Correlation == "" || s.Rule == "" || s.EventID == "":
		return nil, nil, errors.New("decoding a signal: correlation, rule or event_id is missing")
	case !believed(s.Time):
		return nil, nil, fmt.Errorf("decoding a signal: time is %s", s.Time)
	default:
		return s, nil, nil
	}
}

func believed(t time.Time) bool {
	micro := t.UnixMicro()
	return micro >= 0 && micro <= latest
}
