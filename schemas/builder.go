package schemas

import (
	"slices"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Builder turns events into record batches. It reuses its memory: a batch is valid
// until the next Append after Reset. It is not safe for concurrent use.
//
// The builders of arrow-go are not used because they box dictionary values and allocate
// per batch; these cost a comparison per value that is as the one before, and nothing per value that is empty.
type Builder struct {
	schema  *arrow.Schema
	header  []byte // the schema message
	columns []columnBuilder
	texts   []*dictColumn   // of them
	dense   []columnBuilder // the others that every row is told to
	sparse  []sparseColumn  // and those that are only if they are not empty
	dicts   []*dictBuilder  // of the columns, in order
	nodes   int             // of a batch
	buffers int
	rows    int
	bytes   int
	spare   []byte // for the next value of Encode
}

// NewBuilder returns an empty Builder.
func NewBuilder() *Builder {
	b := &Builder{schema: ArrowSchema()}
	b.header = schemaMessage(b.schema)
	var empty streamWriter
	for _, c := range Columns() {
		column := newColumnBuilder(c)
		b.columns = append(b.columns, column)
		if text, ok := column.(*dictColumn); ok {
			b.texts = append(b.texts, text)
		} else if at, ok := c.offset(); ok {
			b.sparse = append(b.sparse, sparseColumn{at + unsafe.Sizeof(uintptr(0)), column})
		} else {
			b.dense = append(b.dense, column)
		}
		if d := column.dictionary(); d != nil {
			b.dicts = append(b.dicts, d)
		}
		column.write(&empty)
	}
	b.nodes, b.buffers = len(empty.nodes)/2, len(empty.buffers)/2
	return b
}

// Append adds e as a row and copies what it needs of it.
func (b *Builder) Append(e *Event) {
	row, p := b.rows, unsafe.Pointer(e)
	for _, c := range b.texts {
		if s := *(*string)(unsafe.Add(p, c.at)); s != "" {
			c.put(s, row)
		}
	}
	for i := range b.sparse {
		if c := &b.sparse[i]; *(*int)(unsafe.Add(p, c.length)) != 0 {
			c.column.append(e, row)
		}
	}
	for _, c := range b.dense {
		c.append(e, row)
	}
	b.rows++
	b.bytes += len(e.Raw) + rowOverhead
}

// sparseColumn is a column of strings, lists or maps. length is where in an Event their length stands: behind the pointer
// that strings and slices begin with.
type sparseColumn struct {
	length uintptr
	column columnBuilder
}

// offset returns where in an Event the value of a column stands, false if it is a number or not in the Event as it is.
func (c *Column) offset() (at uintptr, ok bool) {
	var e Event
	var field unsafe.Pointer
	switch {
	case c.str != nil:
		field = unsafe.Pointer(c.str(&e))
	case c.list != nil:
		field = unsafe.Pointer(c.list(&e))
	case c.kv != nil:
		field = unsafe.Pointer(c.kv(&e))
	case c.kvs != nil:
		field = unsafe.Pointer(c.kvs(&e))
	default:
		return 0, false
	}
	return uintptr(field) - uintptr(unsafe.Pointer(&e)), true
}

// rowOverhead is what a row takes beside its raw bytes, for Bytes: measured on
// recorded events, before compression.
const rowOverhead = 600

// Rows returns the number of rows since the last Reset.
func (b *Builder) Rows() int { return b.rows }

// Bytes returns about how many bytes the rows since the last Reset take uncompressed.
func (b *Builder) Bytes() int { return b.bytes }

// Batch returns the rows since the last Reset.
func (b *Builder) Batch() arrow.RecordBatch {
	arrays := make([]arrow.Array, len(b.columns))
	for i, c := range b.columns {
		c.fill(b.rows)
		data := c.data(b.rows)
		arrays[i] = array.MakeFromData(data)
		data.Release()
	}
	batch := array.NewRecordBatch(b.schema, arrays, int64(b.rows))
	for _, a := range arrays {
		a.Release()
	}
	return batch
}

// Encode returns the rows since the last Reset as a value of audit.enriched.v1: what the function Encode makes of Batch,
// in half the time.
func (b *Builder) Encode() []byte {
	s, _ := streamWriters.Get().(*streamWriter)
	defer streamWriters.Put(s)
	s.out = append(s.out[:0], b.header...)
	for id, d := range b.dicts {
		s.begin(kindDictionary, 1, 3)
		d.values.write(s)
		s.end(int64(id), d.values.count())
	}
	s.begin(kindBatch, b.nodes, b.buffers)
	for _, c := range b.columns {
		c.fill(b.rows)
		c.write(s)
	}
	s.end(0, b.rows)
	s.out = append(s.out, endOfStream...)
	value := append(b.spare[:0], s.out...)
	b.spare = nil
	return value
}

// Reuse gives back a value of Encode that nobody reads any more: a later one may take its place.
func (b *Builder) Reuse(value []byte) {
	if cap(value) > cap(b.spare) {
		b.spare = value
	}
}

// Reset starts a new batch.
func (b *Builder) Reset() {
	for _, c := range b.columns {
		c.reset()
	}
	b.rows, b.bytes = 0, 0
}

// columnBuilder builds a column. It is not asked about rows that are empty, but for those of numbers: what is missing before
// a row is filled up when something comes, or when all is read.
type columnBuilder interface {
	append(e *Event, row int)
	fill(rows int) // before data and write
	data(rows int) arrow.ArrayData
	write(s *streamWriter)
	dictionary() *dictBuilder // nil if there is none
	reset()
}

func newColumnBuilder(c Column) columnBuilder {
	dt := c.Type.arrow()
	switch c.Type {
	case TypeID:
		return &idBuilder{get: c.id, dt: dt}
	case TypeDict:
		at, _ := c.offset()
		return &dictColumn{at: at, dictBuilder: newDictBuilder()}
	case TypeString:
		return &stringColumn{get: c.str, stringBuilder: newStringBuilder(dt)}
	case TypeTime, TypeInt64:
		return &numBuilder[int64]{get: c.num, dt: dt}
	case TypeInt32:
		return &numBuilder[int32]{get: c.num, dt: dt, zeroIsValue: true}
	case TypeUint16:
		return &numBuilder[uint16]{get: c.num, dt: dt}
	case TypeStrings:
		return &listColumn[*stringBuilder]{get: c.list, listBuilder: newListBuilder(dt, newStringBuilder(arrow.BinaryTypes.String))}
	case TypeDicts:
		return &listColumn[*dictBuilder]{get: c.list, listBuilder: newListBuilder(dt, newDictBuilder())}
	case TypeMap:
		return &mapColumn{
			get: c.kv, dt: dt.(*arrow.MapType), offsets: []int32{0}, keys: newDictBuilder(),
			values: newStringBuilder(arrow.BinaryTypes.String),
		}
	case TypeMapList:
		return &mapListColumn{
			get: c.kvs, dt: dt.(*arrow.MapType), offsets: []int32{0}, keys: newDictBuilder(),
			values: newListBuilder(arrow.ListOf(arrow.BinaryTypes.String), newStringBuilder(arrow.BinaryTypes.String)),
		}
	default:
		return &bytesColumn{get: c.raw, stringBuilder: newStringBuilder(dt)}
	}
}

// validity is a bitmap with its number of nulls; without bits, nothing is null.
type validity struct {
	bits  []byte
	nulls int
}

// null says that the values from n to rows are null; all before n was said.
func (v *validity) null(n, rows int) {
	if n >= rows {
		return
	}
	if v.nulls == 0 { // until here all are valid
		v.bits = slices.Grow(v.bits, (n+7)/8)[:(n+7)/8]
		for i := range v.bits {
			v.bits[i] = 0xff
		}
		if n&7 != 0 {
			v.bits[n>>3] = 1<<(n&7) - 1
		}
	}
	v.nulls += rows - n
	size := (rows + 7) / 8
	v.bits = append(v.bits, make([]byte, size-len(v.bits))...)
}

// valid says that the value at n is not null.
func (v *validity) valid(n int) {
	if v.nulls == 0 {
		return
	}
	if n&7 == 0 {
		v.bits = append(v.bits, 0)
	}
	v.bits[n>>3] |= 1 << (n & 7)
}

// buffer returns nil when nothing is null, as Arrow allows.
func (v *validity) buffer() *memory.Buffer {
	if v.nulls == 0 {
		return nil
	}
	return memory.NewBufferBytes(v.bits)
}

func (v *validity) write(s *streamWriter) { s.buffer(v.bits) }

func (v *validity) reset() { v.bits, v.nulls = v.bits[:0], 0 }

// zeros appends n zeros.
func zeros[T any](values []T, n int) []T {
	if n <= 0 {
		return values
	}
	values = slices.Grow(values, n)
	clear(values[len(values) : len(values)+n])
	return values[:len(values)+n]
}

// numBuilder builds columns of numbers; 0 is null unless zeroIsValue.
type numBuilder[T int64 | int32 | uint16] struct {
	get         func(*Event) int64
	dt          arrow.DataType
	zeroIsValue bool
	valid       validity
	values      []T
}

func (b *numBuilder[T]) append(e *Event, row int) {
	v := b.get(e)
	if v == 0 && !b.zeroIsValue {
		return
	}
	b.fill(row)
	b.valid.valid(row)
	b.values = append(b.values, T(v))
}

func (b *numBuilder[T]) fill(rows int) {
	if n := len(b.values); n < rows {
		b.valid.null(n, rows)
		b.values = zeros(b.values, rows-n)
	}
}

func (b *numBuilder[T]) data(rows int) arrow.ArrayData {
	return array.NewData(b.dt, rows, []*memory.Buffer{b.valid.buffer(), memory.NewBufferBytes(bytesOf(b.values))}, nil, b.valid.nulls, 0)
}

func (b *numBuilder[T]) write(s *streamWriter) {
	s.node(len(b.values), b.valid.nulls)
	b.valid.write(s)
	s.buffer(bytesOf(b.values))
}

func (b *numBuilder[T]) dictionary() *dictBuilder { return nil }
func (b *numBuilder[T]) reset()                   { b.valid.reset(); b.values = b.values[:0] }

// idBuilder builds columns of IDs; they are never null.
type idBuilder struct {
	get    func(*Event) ID
	dt     arrow.DataType
	values []byte
}

func (b *idBuilder) append(e *Event, _ int) {
	id := b.get(e)
	b.values = append(b.values, id[:]...)
}

func (b *idBuilder) data(rows int) arrow.ArrayData {
	return array.NewData(b.dt, rows, []*memory.Buffer{nil, memory.NewBufferBytes(b.values)}, nil, 0, 0)
}

func (b *idBuilder) write(s *streamWriter) {
	s.node(len(b.values)/len(ID{}), 0)
	s.buffer(nil)
	s.buffer(b.values)
}

func (b *idBuilder) fill(int)                 {}
func (b *idBuilder) dictionary() *dictBuilder { return nil }
func (b *idBuilder) reset()                   { b.values = b.values[:0] }

// stringBuilder builds utf8 or binary values.
type stringBuilder struct {
	dt      arrow.DataType
	valid   validity
	offsets []int32
	bytes   []byte
}

func newStringBuilder(dt arrow.DataType) *stringBuilder {
	return &stringBuilder{dt: dt, offsets: []int32{0}}
}

func (b *stringBuilder) add(s string) {
	b.valid.valid(b.count())
	b.bytes = append(b.bytes, s...)
	b.offsets = append(b.offsets, int32(len(b.bytes)))
}

func (b *stringBuilder) addAll(values []string) {
	for _, s := range values {
		b.add(s)
	}
}

func (b *stringBuilder) count() int { return len(b.offsets) - 1 }

func (b *stringBuilder) fill(rows int) {
	if n := b.count(); n < rows {
		b.valid.null(n, rows)
		b.offsets = again(b.offsets, rows-n)
	}
}

// again appends the last offset n times: nothing is added.
func again(offsets []int32, n int) []int32 {
	last := offsets[len(offsets)-1]
	for range n {
		offsets = append(offsets, last)
	}
	return offsets
}

func (b *stringBuilder) data(int) arrow.ArrayData {
	return array.NewData(b.dt, b.count(), []*memory.Buffer{
		b.valid.buffer(), memory.NewBufferBytes(bytesOf(b.offsets)), memory.NewBufferBytes(b.bytes),
	}, nil, b.valid.nulls, 0)
}

func (b *stringBuilder) write(s *streamWriter) {
	s.node(b.count(), b.valid.nulls)
	b.valid.write(s)
	s.buffer(bytesOf(b.offsets))
	s.text(b.bytes)
}

func (b *stringBuilder) dictionary() *dictBuilder { return nil }

func (b *stringBuilder) reset() {
	b.valid.reset()
	b.offsets, b.bytes = b.offsets[:1], b.bytes[:0]
}

type stringColumn struct {
	*stringBuilder
	get func(*Event) *string
}

func (c *stringColumn) append(e *Event, row int) {
	c.fill(row)
	c.add(*c.get(e))
}

type bytesColumn struct {
	*stringBuilder
	get func(*Event) []byte
}

func (c *bytesColumn) append(e *Event, _ int) {
	raw := c.get(e)
	c.add(unsafe.String(unsafe.SliceData(raw), len(raw)))
}

func bytesOf[T int64 | int32 | uint16](values []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(T(0))))
}
