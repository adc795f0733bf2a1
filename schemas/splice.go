package schemas

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
)

// Frame is a value of audit.enriched.v1 taken apart without looking at its rows. Frames
// with equal Schema can be written one after another as a single Arrow stream: each brings
// its own dictionaries, which replace the ones before. All slices alias the value.
type Frame struct {
	// Schema is the encapsulated schema message.
	Schema []byte
	// Messages are the dictionary and record batch messages, without the end of the stream.
	Messages []byte
	// Rows is the number of rows in Messages.
	Rows int
	// Bytes is what the buffers take when decompressed.
	Bytes int
}

// Split takes a value of audit.enriched.v1 apart. It checks the framing and nothing inside it.
func Split(value []byte) (Frame, error) {
	m, rest, err := nextMessage(value)
	if err != nil {
		return Frame{}, fmt.Errorf("reading the Arrow schema: %w", err)
	}
	if m.kind != kindSchema {
		return Frame{}, fmt.Errorf("the Arrow stream begins with a message of kind %d, not with a schema", m.kind)
	}
	frame := Frame{Schema: value[:len(value)-len(rest)]}
	start := rest
	for len(rest) > 0 && !endsStream(rest) {
		at := len(value) - len(rest)
		if m, rest, err = nextMessage(rest); err != nil {
			return Frame{}, fmt.Errorf("reading the Arrow stream at byte %d: %w", at, err)
		}
		if err := frame.count(m); err != nil {
			return Frame{}, fmt.Errorf("reading the Arrow stream at byte %d: %w", at, err)
		}
	}
	frame.Messages = start[:len(start)-len(rest)]
	if frame.Rows == 0 {
		return Frame{}, errors.New("the Arrow stream holds no rows")
	}
	return frame, nil
}

const kindSchema = 1

// endsStream reports whether the stream ends here; what follows does not belong to it.
func endsStream(data []byte) bool {
	return len(data) >= 8 && string(data[:8]) == endOfStream
}

func (frame *Frame) count(m message) error {
	table := m.header
	switch m.kind {
	case kindBatch:
		frame.Rows += int(m.flat.int64Field(table, 0))
	case kindDictionary:
		table = m.flat.table(m.flat.field(table, 1))
	default:
		return fmt.Errorf("message of kind %d", m.kind)
	}
	compressed := m.flat.field(table, 3) != 0
	m.flat.pairs(table, 2, func(offset, length int64) {
		if offset < 0 || length < 0 || offset > int64(len(m.body))-length {
			m.flat.bad = true
			return
		}
		if compressed && length >= 8 {
			// The length before compression comes first; −1 says that it was not worth it.
			if n := int64(binary.LittleEndian.Uint64(m.body[offset:])); n >= 0 {
				length = n
			}
		}
		frame.Bytes += int(length)
	})
	if m.flat.bad || frame.Rows < 0 || frame.Bytes < 0 {
		return errors.New("damaged message")
	}
	return nil
}

// HasValues reports whether a column holds anything but nulls in a frame, without looking at it. column is its place in the
// schema; the columns before it must not be lists or maps.
func (frame *Frame) HasValues(column int) bool {
	for rest := frame.Messages; len(rest) > 0; {
		m, after, err := nextMessage(rest)
		if err != nil {
			return true // Split has seen that this cannot be
		}
		rest = after
		if m.kind != kindBatch {
			continue
		}
		at, found := 0, false
		m.flat.pairs(m.header, 1, func(length, nulls int64) {
			found = found || at == column && nulls < length
			at++
		})
		if found || at <= column {
			return true
		}
	}
	return false
}

// EndOfStream returns the bytes that end an Arrow stream.
func EndOfStream() []byte { return []byte(endOfStream) }

// SchemaOf decodes the Schema of a Frame and refuses one of a newer version.
func SchemaOf(message []byte) (*arrow.Schema, error) {
	r, err := ipc.NewReader(io.MultiReader(bytes.NewReader(message), strings.NewReader(endOfStream)))
	if err != nil {
		return nil, fmt.Errorf("reading the Arrow schema: %w", err)
	}
	defer r.Release()
	if err := checkSchema(r.Schema()); err != nil {
		return nil, err
	}
	return r.Schema(), nil
}
