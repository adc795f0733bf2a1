package schemas

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/pierrec/lz4/v4" // arrow-go's codec, which it does not export
)

// Batch is an enriched record opened for reading. It is valid until the Reader's next Open.
type Batch struct {
	// RecordBatch holds all columns but raw.
	arrow.RecordBatch
	raw func() (*array.Binary, error)
}

// Raw returns the original bytes of a row. The column is decompressed at the first call:
// it is most of a batch, and most batches match no rule. An error means that the batch is damaged.
func (b *Batch) Raw(row int) ([]byte, error) {
	raw, err := b.raw()
	if err != nil {
		return nil, fmt.Errorf("reading the Arrow column raw: %w", err)
	}
	return raw.Value(row), nil
}

// Reader opens values of audit.enriched.v1 faster than Decode: it reuses its memory, and
// leaves raw compressed until somebody asks. It is not safe for concurrent use.
type Reader struct {
	schema *arrow.Schema // without raw
	header []byte        // the schema message of this build's own streams
	arena  []byte        // decompressed buffers of the open batch
	used   int
	codec  *lz4.Reader
	dicts  []arrow.ArrayData
}

// NewReader returns a Reader.
func NewReader() *Reader {
	full := ArrowSchema()
	return &Reader{
		schema: arrow.NewSchema(full.Fields()[:full.NumFields()-1], nil),
		header: schemaMessage(full), codec: lz4.NewReader(nil),
	}
}

func schemaMessage(schema *arrow.Schema) []byte {
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(schema))
	if err := w.Close(); err != nil { // writes the schema; a bytes.Buffer does not fail
		return nil
	}
	return bytes.TrimSuffix(out.Bytes(), []byte(endOfStream))
}

const endOfStream = "\xff\xff\xff\xff\x00\x00\x00\x00"

// Open reads a value. Streams of another schema than this build's own (an older writer's)
// are read by arrow-go.
func (r *Reader) Open(value []byte) (*Batch, error) {
	messages, own := bytes.CutPrefix(value, r.header)
	if !own || len(r.header) == 0 {
		return r.openAny(value)
	}
	r.used, r.dicts = 0, r.dicts[:0]
	for {
		m, rest, err := nextMessage(messages)
		if err != nil {
			return nil, fmt.Errorf("reading the Arrow stream at byte %d: %w", len(value)-len(messages), err)
		}
		messages = rest
		switch m.kind {
		case kindDictionary:
			if err := r.dictionary(m); err != nil {
				return nil, fmt.Errorf("reading an Arrow dictionary: %w", err)
			}
		case kindBatch:
			return r.batch(m)
		default:
			return nil, fmt.Errorf("the Arrow stream holds a message of kind %d before its batch", m.kind)
		}
	}
}

func (r *Reader) openAny(value []byte) (*Batch, error) {
	batch, err := Decode(value)
	if err != nil {
		return nil, err
	}
	raw, ok := ColumnArray(batch, "raw").(*array.Binary)
	if !ok || batch.ColumnName(int(batch.NumCols())-1) != "raw" {
		return nil, errors.New("the last column of the Arrow batch is not raw")
	}
	return &Batch{RecordBatch: WithoutLastColumn(batch), raw: func() (*array.Binary, error) { return raw, nil }}, nil
}

const (
	kindDictionary = 2
	kindBatch      = 3
)

type message struct {
	flat   flat
	kind   byte
	header int // position of the header table
	body   []byte
}

// nextMessage cuts one encapsulated message: continuation, length of the metadata, metadata, body.
func nextMessage(data []byte) (m message, rest []byte, err error) {
	if len(data) < 8 || binary.LittleEndian.Uint32(data) != 0xffffffff {
		return m, nil, io.ErrUnexpectedEOF
	}
	size := int(int32(binary.LittleEndian.Uint32(data[4:])))
	if size <= 0 || size > len(data)-8 {
		return m, nil, io.ErrUnexpectedEOF
	}
	m.flat.b = data[8 : 8+size]
	f := &m.flat
	root := f.i32(0)
	m.kind, m.header = f.byteField(root, 1), f.table(f.field(root, 2))
	length := f.int64Field(root, 3)
	if f.bad || length < 0 || length > int64(len(data)-8-size) {
		return m, nil, errors.New("damaged message")
	}
	m.body = data[8+size : 8+size+int(length)]
	return m, data[8+size+int(length):], nil
}

// part is a RecordBatch table: the lengths of its arrays and where their buffers are.
type part struct {
	rows       int64
	nodes      [][2]int64 // length, nulls
	buffers    [][2]int64 // offset, length
	body       []byte
	compressed bool
	reader     *Reader
	node, next int
}

func (r *Reader) part(m message, table int) (*part, error) {
	f := &m.flat
	p := &part{rows: f.int64Field(table, 0), body: m.body, reader: r}
	f.pairs(table, 1, func(a, b int64) { p.nodes = append(p.nodes, [2]int64{a, b}) })
	f.pairs(table, 2, func(a, b int64) { p.buffers = append(p.buffers, [2]int64{a, b}) })
	if at := f.field(table, 3); at != 0 {
		p.compressed = true
		if codec := f.byteField(f.table(at), 0); codec != 0 {
			return nil, fmt.Errorf("buffers are compressed with codec %d, not LZ4", codec)
		}
	}
	if f.bad {
		return nil, errors.New("damaged message")
	}
	return p, nil
}

func (r *Reader) dictionary(m message) error {
	f := &m.flat
	id, delta := f.int64Field(m.header, 0), f.byteField(m.header, 2)
	if f.bad || delta != 0 || id != int64(len(r.dicts)) {
		return fmt.Errorf("dictionary %d, wanted %d", id, len(r.dicts))
	}
	p, err := r.part(m, f.table(f.field(m.header, 1)))
	if err != nil {
		return err
	}
	data, err := p.array(arrow.BinaryTypes.String, nil)
	if err != nil {
		return err
	}
	r.dicts = append(r.dicts, data)
	return nil
}

func (r *Reader) batch(m message) (*Batch, error) {
	p, err := r.part(m, m.header)
	if err != nil {
		return nil, fmt.Errorf("reading the Arrow batch: %w", err)
	}
	fields := r.schema.Fields()
	arrays := make([]arrow.Array, len(fields))
	dicts := r.dicts
	for i, field := range fields {
		data, err := p.array(field.Type, &dicts)
		if err != nil {
			return nil, fmt.Errorf("reading the Arrow column %s: %w", field.Name, err)
		}
		if int64(data.Len()) != p.rows {
			return nil, fmt.Errorf("the Arrow column %s has %d rows of %d", field.Name, data.Len(), p.rows)
		}
		arrays[i] = array.MakeFromData(data)
	}
	batch := &Batch{RecordBatch: array.NewRecordBatch(r.schema, arrays, p.rows)}
	var raw *array.Binary
	batch.raw = func() (*array.Binary, error) {
		if raw == nil {
			data, err := p.array(arrow.BinaryTypes.Binary, nil)
			if err != nil {
				return nil, err
			}
			raw = array.NewBinaryData(data.(*array.Data))
		}
		return raw, nil
	}
	return batch, nil
}

// array assembles the next array of the part. Everything that an array could be asked for
// later is checked here, so damaged bytes give an error and never a panic.
func (p *part) array(dt arrow.DataType, dicts *[]arrow.ArrayData) (arrow.ArrayData, error) {
	n, nulls, valid, err := p.validity()
	if err != nil {
		return nil, err
	}
	switch t := dt.(type) {
	case *arrow.DictionaryType:
		return p.codes(t, n, nulls, valid, dicts)
	case *arrow.StringType, *arrow.BinaryType:
		offsets, last, err := p.offsets(n)
		if err != nil {
			return nil, err
		}
		values, err := p.buffer(last)
		if err != nil {
			return nil, err
		}
		return array.NewData(dt, n, []*memory.Buffer{valid, offsets, values}, nil, nulls, 0), nil
	case *arrow.ListType:
		return p.list(dt, t.Elem(), n, nulls, valid, dicts)
	case *arrow.MapType:
		return p.list(dt, t.Elem(), n, nulls, valid, dicts)
	case *arrow.StructType:
		return p.structure(t, n, nulls, valid, dicts)
	case arrow.FixedWidthDataType:
		values, err := p.buffer(n * t.Bytes())
		if err != nil {
			return nil, err
		}
		return array.NewData(dt, n, []*memory.Buffer{valid, values}, nil, nulls, 0), nil
	}
	return nil, fmt.Errorf("type %s is unknown here", dt)
}

// validity returns the number of values of the next array, that of its nulls, and the bitmap
// that says which are valid, nil if all are.
func (p *part) validity() (int, int, *memory.Buffer, error) {
	if p.node >= len(p.nodes) {
		return 0, 0, nil, errors.New("too few arrays")
	}
	length, nulls := p.nodes[p.node][0], p.nodes[p.node][1]
	p.node++
	if length < 0 || length > MaxRecordBytes || nulls < 0 || nulls > length {
		return 0, 0, nil, fmt.Errorf("%d values, %d nulls", length, nulls)
	}
	n := int(length)
	bitmap := (n + 7) / 8
	if nulls == 0 {
		bitmap = 0 // may be left out
	}
	valid, err := p.buffer(bitmap)
	if err != nil {
		return 0, 0, nil, err
	}
	if nulls == 0 {
		return n, 0, nil, nil
	}
	if set := bitutil.CountSetBits(valid.Bytes(), 0, n); int64(n-set) != nulls {
		return 0, 0, nil, fmt.Errorf("%d nulls, the validity bitmap has %d", nulls, n-set)
	}
	return n, int(nulls), valid, nil
}

func (p *part) codes(
	dt *arrow.DictionaryType, n, nulls int, valid *memory.Buffer, dicts *[]arrow.ArrayData,
) (arrow.ArrayData, error) {
	codes, err := p.buffer(4 * n)
	if err != nil {
		return nil, err
	}
	if len(*dicts) == 0 {
		return nil, errors.New("its dictionary is missing")
	}
	dict := (*dicts)[0]
	*dicts = (*dicts)[1:]
	size := uint32(max(dict.Len(), 1)) // the code under a null is 0
	for _, code := range arrow.Uint32Traits.CastFromBytes(codes.Bytes())[:n] {
		if code >= size {
			return nil, fmt.Errorf("code %d is not in its dictionary of %d", code, dict.Len())
		}
	}
	if dict.Len() == 0 && nulls != n {
		return nil, errors.New("its dictionary is empty")
	}
	return array.NewDataWithDictionary(dt, n, []*memory.Buffer{valid, codes}, nulls, 0, dict.(*array.Data)), nil
}

func (p *part) list(
	dt, elem arrow.DataType, n, nulls int, valid *memory.Buffer, dicts *[]arrow.ArrayData,
) (arrow.ArrayData, error) {
	offsets, last, err := p.offsets(n)
	if err != nil {
		return nil, err
	}
	child, err := p.array(elem, dicts)
	if err != nil {
		return nil, err
	}
	if child.Len() < last {
		return nil, fmt.Errorf("%d elements, its lists need %d", child.Len(), last)
	}
	return array.NewData(dt, n, []*memory.Buffer{valid, offsets}, []arrow.ArrayData{child}, nulls, 0), nil
}

func (p *part) structure(
	dt *arrow.StructType, n, nulls int, valid *memory.Buffer, dicts *[]arrow.ArrayData,
) (arrow.ArrayData, error) {
	children := make([]arrow.ArrayData, dt.NumFields())
	for i, field := range dt.Fields() {
		child, err := p.array(field.Type, dicts)
		if err != nil {
			return nil, err
		}
		if child.Len() < n {
			return nil, fmt.Errorf("field %s has %d values of %d", field.Name, child.Len(), n)
		}
		children[i] = child
	}
	return array.NewData(dt, n, []*memory.Buffer{valid}, children, nulls, 0), nil
}

// offsets returns the n+1 offsets of strings or lists and the last of them.
func (p *part) offsets(n int) (*memory.Buffer, int, error) {
	least := 4 * (n + 1)
	if n == 0 {
		least = 0
	}
	buffer, err := p.buffer(least)
	if err != nil || n == 0 {
		return buffer, 0, err
	}
	previous := int32(0)
	for _, offset := range arrow.Int32Traits.CastFromBytes(buffer.Bytes())[:n+1] {
		if offset < previous {
			return nil, 0, errors.New("offsets go backwards")
		}
		previous = offset
	}
	return buffer, int(previous), nil
}

// buffer returns the next buffer, decompressed, of at least so many bytes.
func (p *part) buffer(least int) (*memory.Buffer, error) {
	if p.next >= len(p.buffers) {
		return nil, errors.New("too few buffers")
	}
	from, size := p.buffers[p.next][0], p.buffers[p.next][1]
	p.next++
	if from < 0 || size < 0 || from > int64(len(p.body)) || size > int64(len(p.body))-from {
		return nil, errors.New("a buffer lies outside the message")
	}
	data := p.body[from : from+size]
	if p.compressed && size > 0 {
		var err error
		if data, err = p.reader.decompress(data); err != nil {
			return nil, err
		}
	}
	if len(data) < least {
		return nil, fmt.Errorf("a buffer has %d bytes of %d", len(data), least)
	}
	return memory.NewBufferBytes(data), nil
}

func (r *Reader) decompress(data []byte) ([]byte, error) {
	if len(data) < 8 {
		return nil, io.ErrUnexpectedEOF
	}
	size := int64(binary.LittleEndian.Uint64(data))
	if data = data[8:]; size == -1 {
		return data, nil // stored: compression would not have saved anything
	}
	if size < 0 || size > maxBatchBytes {
		return nil, fmt.Errorf("a buffer says that it has %d bytes", size)
	}
	out := r.alloc(int(size))
	r.codec.Reset(bytes.NewReader(data))
	if _, err := io.ReadFull(r.codec, out); err != nil {
		return nil, fmt.Errorf("decompressing: %w", err)
	}
	return out, nil
}

// maxBatchBytes bounds one buffer of a batch: 8,192 events are below, and so is one of MaxEventBytes.
const maxBatchBytes = 1 << 28

// alloc returns n bytes of the arena, aligned as Arrow wants.
func (r *Reader) alloc(n int) []byte {
	const align = 64
	from := (r.used + align - 1) &^ (align - 1)
	if from+n > len(r.arena) {
		// The old arena lives on in the buffers that were cut from it.
		r.arena, from = make([]byte, max(2*len(r.arena), n, 1<<16)), 0
	}
	r.used = from + n
	return r.arena[from : from+n : from+n]
}
