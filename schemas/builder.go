package schemas

import (
	"strings"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Builder turns events into record batches. It reuses its memory: a batch is valid
// until the next Append after Reset. It is not safe for concurrent use.
//
// The builders of arrow-go are not used because they box dictionary values and allocate
// per batch; these cost a map look-up per dictionary value and nothing else.
type Builder struct {
	schema  *arrow.Schema
	columns []columnBuilder
	rows    int
	bytes   int
}

// NewBuilder returns an empty Builder.
func NewBuilder() *Builder {
	b := &Builder{schema: ArrowSchema()}
	for _, c := range Columns() {
		b.columns = append(b.columns, newColumnBuilder(c))
	}
	return b
}

// Append adds e as a row and copies what it needs of it.
func (b *Builder) Append(e *Event) {
	for _, c := range b.columns {
		c.append(e)
	}
	b.rows++
	b.bytes += len(e.Raw) + rowOverhead
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

// Reset starts a new batch.
func (b *Builder) Reset() {
	for _, c := range b.columns {
		c.reset()
	}
	b.rows, b.bytes = 0, 0
}

type columnBuilder interface {
	append(e *Event)
	data(rows int) arrow.ArrayData
	reset()
}

func newColumnBuilder(c Column) columnBuilder {
	dt := c.Type.arrow()
	switch c.Type {
	case TypeID:
		return &idBuilder{get: c.id, dt: dt}
	case TypeDict:
		return &dictColumn{get: c.str, dict: newDictBuilder()}
	case TypeString:
		return &stringColumn{get: c.str, values: newStringBuilder(dt)}
	case TypeTime, TypeInt64:
		return &numBuilder[int64]{get: c.num, dt: dt}
	case TypeInt32:
		return &numBuilder[int32]{get: c.num, dt: dt, zeroIsValue: true}
	case TypeUint16:
		return &numBuilder[uint16]{get: c.num, dt: dt}
	case TypeStrings:
		return &listColumn{get: c.list, lists: listBuilder{dt: dt, child: newStringBuilder(arrow.BinaryTypes.String)}}
	case TypeDicts:
		return &listColumn{get: c.list, lists: listBuilder{dt: dt, child: newDictBuilder()}}
	case TypeMap:
		return &mapColumn{
			get: c.kv, dt: dt.(*arrow.MapType), keys: newDictBuilder(),
			values: newStringBuilder(arrow.BinaryTypes.String),
		}
	case TypeMapList:
		return &mapListColumn{
			get: c.kvs, dt: dt.(*arrow.MapType), keys: newDictBuilder(),
			values: listBuilder{dt: arrow.ListOf(arrow.BinaryTypes.String), child: newStringBuilder(arrow.BinaryTypes.String)},
		}
	default:
		return &bytesColumn{get: c.raw, values: newStringBuilder(dt)}
	}
}

// validity is a bitmap with its number of nulls.
type validity struct {
	bits  []byte
	n     int
	nulls int
}

func (v *validity) append(valid bool) {
	if v.n&7 == 0 {
		v.bits = append(v.bits, 0)
	}
	if valid {
		v.bits[v.n>>3] |= 1 << (v.n & 7)
	} else {
		v.nulls++
	}
	v.n++
}

// buffer returns nil when nothing is null, as Arrow allows.
func (v *validity) buffer() *memory.Buffer {
	if v.nulls == 0 {
		return nil
	}
	return memory.NewBufferBytes(v.bits)
}

func (v *validity) reset() { v.bits, v.n, v.nulls = v.bits[:0], 0, 0 }

// numBuilder builds columns of numbers; 0 is null unless zeroIsValue.
type numBuilder[T int64 | int32 | uint16] struct {
	get         func(*Event) int64
	dt          arrow.DataType
	zeroIsValue bool
	valid       validity
	values      []T
}

func (b *numBuilder[T]) append(e *Event) {
	v := b.get(e)
	b.valid.append(v != 0 || b.zeroIsValue)
	b.values = append(b.values, T(v))
}

func (b *numBuilder[T]) data(rows int) arrow.ArrayData {
	return array.NewData(b.dt, rows, []*memory.Buffer{b.valid.buffer(), bufferOf(b.values)}, nil, b.valid.nulls, 0)
}

func (b *numBuilder[T]) reset() { b.valid.reset(); b.values = b.values[:0] }

// idBuilder builds columns of IDs; they are never null.
type idBuilder struct {
	get    func(*Event) ID
	dt     arrow.DataType
	values []byte
}

func (b *idBuilder) append(e *Event) {
	id := b.get(e)
	b.values = append(b.values, id[:]...)
}

func (b *idBuilder) data(rows int) arrow.ArrayData {
	return array.NewData(b.dt, rows, []*memory.Buffer{nil, memory.NewBufferBytes(b.values)}, nil, 0, 0)
}

func (b *idBuilder) reset() { b.values = b.values[:0] }

// valueBuilder builds the values of strings, plain or as codes of a dictionary.
type valueBuilder interface {
	// add appends s; an empty s is null if nullable.
	add(s string, nullable bool)
	count() int
	array() arrow.ArrayData
	reset()
}

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

func (b *stringBuilder) add(s string, nullable bool) {
	b.valid.append(s != "" || !nullable)
	b.bytes = append(b.bytes, s...)
	b.offsets = append(b.offsets, int32(len(b.bytes)))
}

func (b *stringBuilder) count() int { return len(b.offsets) - 1 }

func (b *stringBuilder) array() arrow.ArrayData {
	return array.NewData(b.dt, b.count(),
		[]*memory.Buffer{b.valid.buffer(), bufferOf(b.offsets), memory.NewBufferBytes(b.bytes)}, nil, b.valid.nulls, 0)
}

func (b *stringBuilder) reset() {
	b.valid.reset()
	b.offsets, b.bytes = b.offsets[:1], b.bytes[:0]
}

// dictBuilder builds dictionary-encoded strings. Values keep their place in the map from
// batch to batch, so that a value costs an allocation once and not once per batch.
type dictBuilder struct {
	valid   validity
	codes   []int32
	entries map[string]*dictEntry
	batch   uint32
	values  *stringBuilder
	last    string
	code    int32
}

type dictEntry struct {
	key   string
	batch uint32 // the batch in which code is valid
	code  int32
}

// maxDictEntries bounds what a dictBuilder remembers between batches.
const maxDictEntries = 1 << 16

func newDictBuilder() *dictBuilder {
	return &dictBuilder{
		entries: make(map[string]*dictEntry), batch: 1, code: -1,
		values: newStringBuilder(arrow.BinaryTypes.String),
	}
}

func (b *dictBuilder) add(s string, nullable bool) {
	if s == "" && nullable {
		b.valid.append(false)
		b.codes = append(b.codes, 0)
		return
	}
	b.valid.append(true)
	if b.code < 0 || s != b.last {
		b.last, b.code = b.lookup(s)
	}
	b.codes = append(b.codes, b.code)
}

func (b *dictBuilder) lookup(s string) (string, int32) {
	entry := b.entries[s]
	if entry == nil {
		entry = &dictEntry{key: strings.Clone(s)} // s may share memory with an event
		b.entries[entry.key] = entry
	}
	if entry.batch != b.batch {
		entry.batch, entry.code = b.batch, int32(b.values.count())
		b.values.add(s, false)
	}
	return entry.key, entry.code
}

func (b *dictBuilder) count() int { return len(b.codes) }

func (b *dictBuilder) array() arrow.ArrayData {
	values := b.values.array()
	defer values.Release()
	return array.NewDataWithDictionary(dictionaryType(), len(b.codes),
		[]*memory.Buffer{b.valid.buffer(), bufferOf(b.codes)}, b.valid.nulls, 0, values.(*array.Data))
}

func (b *dictBuilder) reset() {
	b.valid.reset()
	b.codes = b.codes[:0]
	b.values.reset()
	b.last, b.code = "", -1
	b.batch++
	if len(b.entries) > maxDictEntries || b.batch == 0 {
		clear(b.entries)
		b.batch = 1
	}
}

type dictColumn struct {
	get  func(*Event) string
	dict *dictBuilder
}

func (c *dictColumn) append(e *Event)          { c.dict.add(c.get(e), true) }
func (c *dictColumn) data(int) arrow.ArrayData { return c.dict.array() }
func (c *dictColumn) reset()                   { c.dict.reset() }

type stringColumn struct {
	get    func(*Event) string
	values *stringBuilder
}

func (c *stringColumn) append(e *Event)          { c.values.add(c.get(e), true) }
func (c *stringColumn) data(int) arrow.ArrayData { return c.values.array() }
func (c *stringColumn) reset()                   { c.values.reset() }

type bytesColumn struct {
	get    func(*Event) []byte
	values *stringBuilder
}

func (c *bytesColumn) append(e *Event) {
	raw := c.get(e)
	c.values.add(unsafe.String(unsafe.SliceData(raw), len(raw)), false)
}
func (c *bytesColumn) data(int) arrow.ArrayData { return c.values.array() }
func (c *bytesColumn) reset()                   { c.values.reset() }

// listBuilder builds lists of strings; none is null, since ClickHouse knows no null array.
type listBuilder struct {
	dt      arrow.DataType
	offsets []int32
	child   valueBuilder
}

func (b *listBuilder) add(values []string) {
	if len(b.offsets) == 0 {
		b.offsets = append(b.offsets, 0)
	}
	for _, v := range values {
		b.child.add(v, false)
	}
	b.offsets = append(b.offsets, int32(b.child.count()))
}

func (b *listBuilder) array() arrow.ArrayData {
	child := b.child.array()
	defer child.Release()
	if len(b.offsets) == 0 {
		b.offsets = append(b.offsets, 0)
	}
	return array.NewData(b.dt, len(b.offsets)-1,
		[]*memory.Buffer{nil, bufferOf(b.offsets)}, []arrow.ArrayData{child}, 0, 0)
}

func (b *listBuilder) reset() {
	b.offsets = b.offsets[:0]
	b.child.reset()
}

type listColumn struct {
	get   func(*Event) []string
	lists listBuilder
}

func (c *listColumn) append(e *Event)          { c.lists.add(c.get(e)) }
func (c *listColumn) data(int) arrow.ArrayData { return c.lists.array() }
func (c *listColumn) reset()                   { c.lists.reset() }

// mapData assembles a map array from the arrays of its keys and values.
func mapData(dt *arrow.MapType, rows int, offsets []int32, keys, values arrow.ArrayData) arrow.ArrayData {
	defer keys.Release()
	defer values.Release()
	entries := array.NewData(dt.Elem(), keys.Len(), []*memory.Buffer{nil}, []arrow.ArrayData{keys, values}, 0, 0)
	defer entries.Release()
	return array.NewData(dt, rows, []*memory.Buffer{nil, bufferOf(offsets)}, []arrow.ArrayData{entries}, 0, 0)
}

type mapColumn struct {
	get     func(*Event) []KeyValue
	dt      *arrow.MapType
	offsets []int32
	keys    *dictBuilder
	values  *stringBuilder
}

func (c *mapColumn) append(e *Event) {
	entries := c.get(e)
	for _, kv := range entries {
		c.keys.add(kv.Key, false)
		c.values.add(kv.Value, false)
	}
	if len(c.offsets) == 0 {
		c.offsets = append(c.offsets, 0)
	}
	c.offsets = append(c.offsets, int32(c.keys.count()))
}

func (c *mapColumn) data(rows int) arrow.ArrayData {
	return mapData(c.dt, rows, c.offsets, c.keys.array(), c.values.array())
}

func (c *mapColumn) reset() {
	c.offsets = c.offsets[:0]
	c.keys.reset()
	c.values.reset()
}

type mapListColumn struct {
	get     func(*Event) []KeyValues
	dt      *arrow.MapType
	offsets []int32
	keys    *dictBuilder
	values  listBuilder
}

func (c *mapListColumn) append(e *Event) {
	entries := c.get(e)
	for _, kv := range entries {
		c.keys.add(kv.Key, false)
		c.values.add(kv.Values)
	}
	if len(c.offsets) == 0 {
		c.offsets = append(c.offsets, 0)
	}
	c.offsets = append(c.offsets, int32(c.keys.count()))
}

func (c *mapListColumn) data(rows int) arrow.ArrayData {
	return mapData(c.dt, rows, c.offsets, c.keys.array(), c.values.array())
}

func (c *mapListColumn) reset() {
	c.offsets = c.offsets[:0]
	c.keys.reset()
	c.values.reset()
}

func bufferOf[T int64 | int32 | uint16](values []T) *memory.Buffer {
	if len(values) == 0 {
		return memory.NewBufferBytes(nil)
	}
	size := len(values) * int(unsafe.Sizeof(values[0]))
	return memory.NewBufferBytes(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), size))
}
