package feed

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/auditmill/auditmill/schemas"
)

// Position is a place in the topics: the offset that comes next in each partition of audit.context.v1, then of
// audit.credentials.v1.
type Position struct{ context, credentials []int64 }

func (p Position) clone() Position {
	return Position{slices.Clone(p.context), slices.Clone(p.credentials)}
}

func (p *Position) passed(topic string, partition int32, offset int64) {
	of := &p.context
	if topic == schemas.TopicCredentials {
		of = &p.credentials
	}
	for len(*of) <= int(partition) {
		*of = append(*of, 0)
	}
	(*of)[partition] = max((*of)[partition], offset+1)
}

// Beyond says whether p is behind o in any partition.
func (p Position) Beyond(o Position) bool {
	return beyond(p.context, o.context) || beyond(p.credentials, o.credentials)
}

func beyond(a, b []int64) bool {
	for i, offset := range a {
		if i >= len(b) && offset > 0 || i < len(b) && offset > b[i] {
			return true
		}
	}
	return false
}

// String is what ParsePosition reads.
func (p Position) String() string { return join(p.context) + ";" + join(p.credentials) }

func join(offsets []int64) string {
	texts := make([]string, len(offsets))
	for i, o := range offsets {
		texts[i] = strconv.FormatInt(o, 10)
	}
	return strings.Join(texts, ",")
}

// ParsePosition reads what String wrote.
func ParsePosition(text string) (p Position, err error) {
	first, second, ok := strings.Cut(text, ";")
	if !ok {
		return p, fmt.Errorf("%.100q is no position in the context: want offsets, a semicolon, offsets", text)
	}
	if p.context, err = split(first); err == nil {
		p.credentials, err = split(second)
	}
	return p, err
}

func split(text string) (offsets []int64, err error) {
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		o, err := strconv.ParseInt(part, 10, 64)
		if err != nil || o < 0 {
			return nil, fmt.Errorf("%.100q is no position in the context: %q is no offset", text, part)
		}
		offsets = append(offsets, o)
	}
	return offsets, nil
}
