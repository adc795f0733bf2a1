package load

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/auditmill/auditmill/schemas"
)

// span is a range of offsets of one partition, both ends included, that is or was about to
// be inserted. It is written as the metadata of the commit before the insert, so that whoever has the
// partition after a crash repeats exactly this insert.
type span struct {
	first, last int64
	rows        int
	started     time.Time // of the first attempt
	// careful says that parts of the range may be in the table already under other tokens: compare
	// row by row. It is never taken back.
	careful bool
}

const spanPrefix = "pending:"

// metadata is what the commit before the insert carries.
func (s span) metadata() string {
	mode := "t"
	if s.careful {
		mode = "c"
	}
	return fmt.Sprintf("%s%d-%d:%d:%d:%s", spanPrefix, s.first, s.last, s.rows, s.started.UnixMilli(), mode)
}

// parseSpan reads the metadata of a commit. ok is false if no insert was pending.
func parseSpan(metadata string) (s span, ok bool, err error) {
	text, ok := strings.CutPrefix(metadata, spanPrefix)
	if !ok {
		return span{}, false, nil // of a tool that set offsets, or of a plain consumer
	}
	parts := strings.Split(text, ":")
	ends := strings.Split(parts[0], "-")
	if len(parts) != 4 || len(ends) != 2 || parts[3] != "t" && parts[3] != "c" {
		return span{}, false, fmt.Errorf("reading the commit metadata %.100q: not in a form that this build knows; "+
			"run the build that wrote it", metadata)
	}
	var numbers [4]int64
	for i, text := range []string{ends[0], ends[1], parts[1], parts[2]} {
		if numbers[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return span{}, false, fmt.Errorf("reading the commit metadata %.100q: %w", metadata, err)
		}
	}
	s = span{
		first: numbers[0], last: numbers[1], rows: int(numbers[2]), started: time.UnixMilli(numbers[3]),
		careful: parts[3] == "c",
	}
	if s.first < 0 || s.last < s.first {
		return span{}, false, fmt.Errorf("reading the commit metadata %.100q: the range is empty", metadata)
	}
	return s, true, nil
}

// token names the insert of a span to ClickHouse. source tells apart Kafka clusters and topics that
// were deleted and made anew: their offsets begin again, and an insert whose token is known
// is dropped whatever it holds.
func (s span) token(source string, partition int32) string {
	return fmt.Sprintf("%s/%d/%d-%d/v%d", source, partition, s.first, s.last, schemas.Version)
}
