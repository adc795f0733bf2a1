package kafka

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// deadVersion is the major version of the dead-letter format.
const deadVersion = "1"

const (
	maxPart   = 8 << 20
	maxDetail = 1 << 10
)

// The headers of a dead letter. Headers of the original record follow with the prefix
// HeaderOrig.
const (
	HeaderVersion         = "v"
	HeaderReason          = "reason"
	HeaderReasonDetail    = "reason_detail"
	HeaderSourceTopic     = "source_topic"
	HeaderSourcePartition = "source_partition"
	HeaderSourceOffset    = "source_offset"
	HeaderSourceKey       = "source_key"
	HeaderSourceTime      = "source_time" // milliseconds since 1970; absent when unknown
	HeaderPart            = "part"        // from 1; absent when there is one part
	HeaderParts           = "parts"       // absent when there is one part
	HeaderOrig            = "orig."
)

// Dead is something that could not be processed and must not be lost.
type Dead struct {
	// Reason is from a closed set of the service; it is also the label of its metric.
	Reason string
	// Detail says what exactly is wrong. It is cut at 1 KiB.
	Detail string
	// Source is the topic that the value came from, or a name for another source, such as
	// "webhook/prod-eu"; Partition and Offset are -1 then.
	Source    string
	Partition int32
	Offset    int64
	// Key, Value, Headers and Time are those of the original.
	Key     []byte
	Value   []byte
	Headers []kgo.RecordHeader
	Time    time.Time
}

// DeadRecord describes a record that could not be processed.
func DeadRecord(r *kgo.Record, reason string, err error) Dead {
	return Dead{
		Reason: reason, Detail: err.Error(),
		Source: r.Topic, Partition: r.Partition, Offset: r.Offset,
		Key: r.Key, Value: r.Value, Headers: r.Headers, Time: r.Timestamp,
	}
}

// Records returns the dead letter for a topic, for the caller to produce: inside its own
// transaction, or synchronously with WriteDead. A value above 8 MiB becomes several records
// with the same key, and so in the same partition and in order. The records share the
// value's memory.
func (d Dead) Records(topic string) []*kgo.Record {
	parts := slices.Collect(slices.Chunk(d.Value, maxPart))
	if len(parts) == 0 {
		parts = [][]byte{d.Value}
	}
	key := []byte(d.key())
	out := make([]*kgo.Record, len(parts))
	for i, part := range parts {
		headers := d.headers()
		if len(parts) > 1 {
			headers = append(headers,
				header(HeaderPart, strconv.Itoa(i+1)), header(HeaderParts, strconv.Itoa(len(parts))))
		}
		// The timestamp is that of the writing: with the original's, the retention of the
		// topic would at once delete the letter of an old record.
		out[i] = &kgo.Record{Topic: topic, Key: key, Value: part, Headers: headers}
	}
	return out
}

// key is the position in the source. What has none is named by its bytes, so that the
// letter of a sender's repeated attempt has the same key.
func (d Dead) key() string {
	if d.Partition < 0 || d.Offset < 0 {
		sum := sha256.Sum256(d.Value)
		return d.Source + "/" + hex.EncodeToString(sum[:16])
	}
	return fmt.Sprintf("%s/%d/%d", d.Source, d.Partition, d.Offset)
}

func (d Dead) headers() []kgo.RecordHeader {
	out := make([]kgo.RecordHeader, 0, len(d.Headers)+10)
	out = append(out,
		header(HeaderVersion, deadVersion),
		header(HeaderReason, d.Reason),
		header(HeaderReasonDetail, cut(d.Detail)),
		header(HeaderSourceTopic, d.Source),
		header(HeaderSourcePartition, strconv.FormatInt(int64(d.Partition), 10)),
		header(HeaderSourceOffset, strconv.FormatInt(d.Offset, 10)),
	)
	if d.Key != nil {
		out = append(out, kgo.RecordHeader{Key: HeaderSourceKey, Value: d.Key})
	}
	if !d.Time.IsZero() {
		out = append(out, header(HeaderSourceTime, strconv.FormatInt(d.Time.UnixMilli(), 10)))
	}
	for _, h := range d.Headers {
		out = append(out, kgo.RecordHeader{Key: HeaderOrig + h.Key, Value: h.Value})
	}
	return out
}

func header(key, value string) kgo.RecordHeader {
	return kgo.RecordHeader{Key: key, Value: []byte(value)}
}

// cut shortens a detail to maxDetail bytes and never inside a character.
func cut(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxDetail {
		return s
	}
	const end = "…"
	s = s[:maxDetail-len(end)]
	for len(s) > 0 {
		if r, size := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || size != 1 {
			break
		}
		s = s[:len(s)-1]
	}
	return s + end
}

// WriteDead produces dead letters and returns when all are acknowledged. On an error none
// of them may be counted as written; writing them again does no harm, because the key names
// the source.
func WriteDead(ctx context.Context, cl *kgo.Client, topic string, letters ...Dead) error {
	var records []*kgo.Record
	for _, d := range letters {
		records = append(records, d.Records(topic)...)
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("writing to the dead-letter topic %s: %w", topic, err)
	}
	return nil
}

// ReadDead puts a dead letter together again from all its parts, in any order.
func ReadDead(records ...*kgo.Record) (Dead, error) {
	if len(records) == 0 {
		return Dead{}, errors.New("reading a dead letter: no records")
	}
	type numbered struct {
		n int
		r *kgo.Record
	}
	parts := make([]numbered, 0, len(records))
	for _, r := range records {
		n, total, err := partOf(r)
		if err == nil && total != len(records) {
			err = fmt.Errorf("has %d parts, got %d", total, len(records))
		}
		if err != nil {
			return Dead{}, fmt.Errorf("reading the dead letter %q: %w", r.Key, err)
		}
		parts = append(parts, numbered{n, r})
	}
	slices.SortFunc(parts, func(a, b numbered) int { return cmp.Compare(a.n, b.n) })
	d, err := readHeaders(parts[0].r)
	if err != nil {
		return Dead{}, fmt.Errorf("reading the dead letter %q: %w", records[0].Key, err)
	}
	for i, p := range parts {
		if p.n != i+1 || string(p.r.Key) != string(parts[0].r.Key) {
			return Dead{}, fmt.Errorf("reading the dead letter %q: part %d is missing",
				parts[0].r.Key, i+1)
		}
		d.Value = append(d.Value, p.r.Value...)
	}
	return d, nil
}

func partOf(r *kgo.Record) (n, total int, err error) {
	n, total = 1, 1
	for _, h := range r.Headers {
		switch h.Key {
		case HeaderVersion:
			if string(h.Value) != deadVersion {
				return 0, 0, fmt.Errorf("has version %q, this program reads %s", h.Value, deadVersion)
			}
		case HeaderPart:
			n, err = strconv.Atoi(string(h.Value))
		case HeaderParts:
			total, err = strconv.Atoi(string(h.Value))
		}
		if err != nil {
			return 0, 0, fmt.Errorf("header %s: %w", h.Key, err)
		}
	}
	return n, total, nil
}

func readHeaders(r *kgo.Record) (Dead, error) {
	var d Dead
	for _, h := range r.Headers {
		var err error
		switch h.Key {
		case HeaderReason:
			d.Reason = string(h.Value)
		case HeaderReasonDetail:
			d.Detail = string(h.Value)
		case HeaderSourceTopic:
			d.Source = string(h.Value)
		case HeaderSourcePartition:
			var n int64
			n, err = strconv.ParseInt(string(h.Value), 10, 32)
			d.Partition = int32(n)
		case HeaderSourceOffset:
			d.Offset, err = strconv.ParseInt(string(h.Value), 10, 64)
		case HeaderSourceKey:
			d.Key = h.Value
		case HeaderSourceTime:
			var ms int64
			ms, err = strconv.ParseInt(string(h.Value), 10, 64)
			d.Time = time.UnixMilli(ms)
		default:
			if orig, ok := strings.CutPrefix(h.Key, HeaderOrig); ok {
				d.Headers = append(d.Headers, kgo.RecordHeader{Key: orig, Value: h.Value})
			}
		}
		if err != nil {
			return Dead{}, fmt.Errorf("header %s: %w", h.Key, err)
		}
	}
	return d, nil
}
