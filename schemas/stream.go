package schemas

import (
	"encoding/binary"
	"slices"
	"sync"
)

// streamWriter writes Arrow IPC streams of one schema message by message: what Encode writes, without building arrays for
// it first, which for a small batch takes longer than all else. The metadata of a message is a flatbuffer of a form that
// does not change, so it is written as it is; Arrow's format documentation (Message.fbs) has the names used here.
type streamWriter struct {
	out     []byte
	nodes   []int64 // length and number of nulls of each array
	buffers []int64 // offset and length of each buffer
	start   int     // of the message in out
	body    int     // of its body
	kind    byte    // kindDictionary or kindBatch
	lz4     lz4Writer
}

//nolint:gochecknoglobals // memory for reuse, and nothing else
var streamWriters = sync.Pool{New: func() any { return new(streamWriter) }}

// The metadata of a message: the root's offset, the table Message, in a dictionary's the table DictionaryBatch, then the
// tables RecordBatch and BodyCompression, and two vectors. Each table follows its vtable.
const (
	prefixBytes     = 8 // before the metadata: continuation, size
	messageBytes    = 40
	dictionaryBytes = 24
	batchBytes      = 64
	pairBytes       = 16 // a FieldNode or a Buffer
)

// leastCompressed is the size below which a buffer stays as it is: a frame costs 19 bytes, and a reader's time.
const leastCompressed = 64

// begin starts a message that will have so many nodes and buffers.
func (s *streamWriter) begin(kind byte, nodes, buffers int) {
	s.start, s.kind, s.nodes, s.buffers = len(s.out), kind, s.nodes[:0], s.buffers[:0]
	size := prefixBytes + messageBytes + batchBytes + pairBytes*(nodes+buffers)
	if kind == kindDictionary {
		size += dictionaryBytes
	}
	s.out = slices.Grow(s.out, size)[:s.start+size]
	clear(s.out[s.start:])
	s.body = len(s.out)
}

func (s *streamWriter) node(length, nulls int) {
	s.nodes = append(s.nodes, int64(length), int64(nulls))
}

// buffer appends a buffer of numbers.
func (s *streamWriter) buffer(b []byte) { s.compressed(b, lz4Numbers) }

// text appends a buffer of texts.
func (s *streamWriter) text(b []byte) { s.compressed(b, lz4Texts) }

// compressed appends a buffer: its size and an LZ4 frame, or −1 and the bytes themselves if that is not longer.
func (s *streamWriter) compressed(b []byte, search lz4Search) {
	at := len(s.out)
	if len(b) > 0 {
		s.out = binary.LittleEndian.AppendUint64(s.out, uint64(len(b)))
		if len(b) >= leastCompressed {
			s.out = s.lz4.appendFrame(s.out, b, search)
		}
		if len(b) < leastCompressed || len(s.out)-at-8 >= len(b) {
			s.out = append(binary.LittleEndian.AppendUint64(s.out[:at], ^uint64(0)), b...)
		}
	}
	s.buffers = append(s.buffers, int64(at-s.body), int64(len(s.out)-at))
	for len(s.out)&7 != 0 {
		s.out = append(s.out, 0)
	}
}

// end writes the metadata of the message, which is about so many rows; id is that of a dictionary.
func (s *streamWriter) end(id int64, rows int) {
	m := s.out[s.start+prefixBytes : s.body]
	le := binary.LittleEndian
	le.PutUint32(s.out[s.start:], 0xffffffff)
	le.PutUint32(s.out[s.start+4:], uint32(len(m)))
	tables := func(at int, values ...uint16) { // vtables
		for i, v := range values {
			le.PutUint16(m[at+2*i:], v)
		}
	}
	offset := func(at, to int) { le.PutUint32(m[at:], uint32(to-at)) }
	back := func(at, vtable int) { le.PutUint32(m[at:], uint32(at-vtable)) }
	number := func(at int, v int64) { le.PutUint64(m[at:], uint64(v)) }

	const version5 = 4
	offset(0, 16)
	tables(4, 12, 24, 16, 18, 4, 8) // version, header_type, header, bodyLength
	back(16, 4)
	number(24, int64(len(s.out)-s.body))
	m[32], m[34] = version5, s.kind
	at := messageBytes // of the vtable of RecordBatch
	if s.kind == kindDictionary {
		offset(20, at+8)
		tables(at, 8, 16, 8, 4) // id, data
		back(at+8, at)
		offset(at+12, at+dictionaryBytes+16)
		number(at+16, id)
		at += dictionaryBytes
	} else {
		offset(20, at+16)
	}
	tables(at, 12, 24, 8, 4, 16, 20) // length, nodes, buffers, compression
	back(at+16, at)
	offset(at+20, at+52)
	number(at+24, int64(rows))
	buffers := at + 56 + 8*len(s.nodes) + 4
	offset(at+32, buffers)
	offset(at+36, at+44)
	tables(at+40, 4, 4) // what is not there has its default: LZ4_FRAME, BUFFER
	back(at+44, at+40)
	vector := func(at int, pairs []int64) {
		le.PutUint32(m[at:], uint32(len(pairs)/2))
		for i, v := range pairs {
			number(at+4+8*i, v)
		}
	}
	vector(at+52, s.nodes)
	vector(buffers, s.buffers)
}
