package schemas

import (
	"math/bits"
	"strings"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// dictBuilder builds dictionary-encoded strings. Values keep their place in the map from
// batch to batch, so that a value costs an allocation once and not once per batch.
type dictBuilder struct {
	valid   validity
	codes   []int32
	entries map[string]*dictEntry
	recent  [256]*dictEntry // of entries, the last ones by a cheap hash; those of an earlier batch too
	list    []*dictEntry    // of the last list or map
	batch   uint32
	values  *stringBuilder
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
		entries: make(map[string]*dictEntry), batch: 1,
		values: newStringBuilder(arrow.BinaryTypes.String),
	}
}

// addKey adds key i of a map. Most maps have the same keys in the same places.
func (b *dictBuilder) addKey(i int, s string) {
	if i >= len(b.list) {
		b.list = append(b.list, b.lookup(s)) // the keys before it are there
	} else if entry := b.list[i]; entry.batch != b.batch || entry.key != s {
		b.list[i] = b.lookup(s)
	}
	b.codes = append(b.codes, b.list[i].code)
}

// addAll adds a list, which often is the same as the one before.
func (b *dictBuilder) addAll(values []string) {
	same := len(values) == len(b.list)
	for i := 0; same && i < len(values); i++ {
		same = b.list[i].batch == b.batch && b.list[i].key == values[i]
	}
	if !same {
		b.list = b.list[:0]
		for _, s := range values {
			b.list = append(b.list, b.lookup(s))
		}
	}
	for _, entry := range b.list {
		b.codes = append(b.codes, entry.code)
	}
}

func (b *dictBuilder) lookup(s string) *dictEntry {
	at := place(s) % uint64(len(b.recent))
	entry := b.recent[at]
	if entry == nil || entry.key != s {
		if entry = b.entries[s]; entry == nil {
			entry = &dictEntry{key: strings.Clone(s)} // s may share memory with an event
			b.entries[entry.key] = entry
		}
		b.recent[at] = entry
	}
	if entry.batch != b.batch {
		entry.batch, entry.code = b.batch, int32(b.values.count())
		b.values.add(s)
	}
	return entry
}

// place is a cheap hash: of names, most of what tells them apart stands at the end or in the middle.
func place(s string) uint64 {
	const word, odd = 8, 0x9e3779b97f4a7c15
	n := len(s)
	if n < word {
		h := uint64(n)
		for _, c := range []byte(s) {
			h = h<<7 ^ uint64(c)
		}
		return h * odd >> 32
	}
	p := unsafe.Pointer(unsafe.StringData(s))
	return ((load64(p, n-word)^uint64(n))*odd ^ load64(p, (n-word)/2)) * odd >> 32
}

func (b *dictBuilder) count() int { return len(b.codes) }

func (b *dictBuilder) data(int) arrow.ArrayData {
	values := b.values.data(0)
	defer values.Release()
	return array.NewDataWithDictionary(dictionaryType(), len(b.codes),
		[]*memory.Buffer{b.valid.buffer(), memory.NewBufferBytes(bytesOf(b.codes))}, b.valid.nulls, 0, values.(*array.Data))
}

func (b *dictBuilder) write(s *streamWriter) {
	s.node(len(b.codes), b.valid.nulls)
	b.valid.write(s)
	s.buffer(bytesOf(b.codes))
}

func (b *dictBuilder) dictionary() *dictBuilder { return b }

func (b *dictBuilder) reset() {
	b.valid.reset()
	b.codes = b.codes[:0]
	b.values.reset()
	b.batch++
	if len(b.entries) > maxDictEntries || b.batch == 0 {
		clear(b.entries)
		clear(b.recent[:])
		b.batch, b.list = 1, nil
	}
}

// dictColumn is a column of dictionary-encoded strings. Codes stand at their row, plus one: 0 is for the rows that nothing
// was said of. What is told of a value that is as the one before is on one line of the processor's cache.
type dictColumn struct {
	at       uintptr // of the string in an Event
	codes    []int32 // of a row and, for a while, more
	last     string  // the value before; empty at the beginning of a batch
	lastCode int32
	done     int    // rows whose codes are final
	marks    []byte // a bit for each of these that is not null
	*dictBuilder
}

func (c *dictColumn) put(s string, row int) {
	if s != c.last {
		entry := c.lookup(s)
		c.last, c.lastCode = entry.key, entry.code+1
	}
	if row >= len(c.codes) {
		c.grow(row + 1)
	}
	c.codes[row] = c.lastCode
}

func (c *dictColumn) append(e *Event, row int) {
	if s := *(*string)(unsafe.Add(unsafe.Pointer(e), c.at)); s != "" {
		c.put(s, row)
	}
}

// grow makes room for so many rows, and as many again.
func (c *dictColumn) grow(rows int) {
	const least = 64
	n := len(c.codes)
	if rows = max(rows, 2*n, least); rows > cap(c.codes) {
		c.codes = append(make([]int32, 0, rows), c.codes...)
	}
	c.codes = c.codes[:rows]
	clear(c.codes[n:])
}

// fill makes the codes of all rows final.
func (c *dictColumn) fill(rows int) {
	if c.done == rows {
		return
	}
	if len(c.codes) < rows {
		c.grow(rows)
	}
	c.codes = c.codes[:rows]
	if c.done&7 != 0 {
		c.finish(min(rows, c.done|7+1)) // to the end of the byte that was begun
	}
	for c.done < rows {
		c.marks = append(c.marks, 0)
		c.finish(min(rows, c.done+8))
	}
	c.dictBuilder.codes = c.codes
	if c.valid.nulls > 0 {
		c.valid.bits = c.marks
	}
}

// finish makes the codes up to a row final, which have their bits in one byte.
func (c *dictColumn) finish(to int) {
	codes, marks, first := c.codes[c.done:to], uint32(0), c.done&7
	for i, code := range codes {
		is := uint32(code|-code) >> 31 // 1 unless it is 0
		marks |= is << i
		codes[i] = code - int32(is)
	}
	c.marks[len(c.marks)-1] |= byte(marks << first)
	c.valid.nulls += len(codes) - bits.OnesCount32(marks)
	c.done = to
}

func (c *dictColumn) reset() {
	c.codes, c.dictBuilder.codes, c.marks = c.codes[:0], nil, c.marks[:0]
	c.last, c.done = "", 0
	c.valid = validity{}
	c.dictBuilder.reset()
}

// valueBuilder builds the values of lists, plain or as codes of a dictionary.
type valueBuilder interface {
	*stringBuilder | *dictBuilder
	addAll(values []string)
	count() int
	data(rows int) arrow.ArrayData
	write(s *streamWriter)
	dictionary() *dictBuilder
	reset()
}

// listBuilder builds lists of strings; none is null, since ClickHouse knows no null array.
type listBuilder[V valueBuilder] struct {
	dt      arrow.DataType
	offsets []int32
	child   V
}

func newListBuilder[V valueBuilder](dt arrow.DataType, child V) listBuilder[V] {
	return listBuilder[V]{dt: dt, offsets: []int32{0}, child: child}
}

func (b *listBuilder[V]) add(values []string) {
	b.child.addAll(values)
	b.offsets = append(b.offsets, int32(b.child.count()))
}

func (b *listBuilder[V]) fill(rows int) { b.offsets = again(b.offsets, rows+1-len(b.offsets)) }

func (b *listBuilder[V]) data(int) arrow.ArrayData {
	child := b.child.data(0)
	defer child.Release()
	return array.NewData(b.dt, len(b.offsets)-1,
		[]*memory.Buffer{nil, memory.NewBufferBytes(bytesOf(b.offsets))}, []arrow.ArrayData{child}, 0, 0)
}

func (b *listBuilder[V]) write(s *streamWriter) {
	s.node(len(b.offsets)-1, 0)
	s.buffer(nil)
	s.buffer(bytesOf(b.offsets))
	b.child.write(s)
}

func (b *listBuilder[V]) dictionary() *dictBuilder { return b.child.dictionary() }

func (b *listBuilder[V]) reset() {
	b.offsets = b.offsets[:1]
	b.child.reset()
}

type listColumn[V valueBuilder] struct {
	listBuilder[V]
	get func(*Event) *[]string
}

func (c *listColumn[V]) append(e *Event, row int) {
	c.fill(row)
	c.add(*c.get(e))
}

// mapData assembles a map array from the arrays of its keys and values.
func mapData(dt *arrow.MapType, rows int, offsets []int32, keys, values arrow.ArrayData) arrow.ArrayData {
	defer keys.Release()
	defer values.Release()
	entries := array.NewData(dt.Elem(), keys.Len(), []*memory.Buffer{nil}, []arrow.ArrayData{keys, values}, 0, 0)
	defer entries.Release()
	return array.NewData(dt, rows, []*memory.Buffer{nil, memory.NewBufferBytes(bytesOf(offsets))}, []arrow.ArrayData{entries}, 0, 0)
}

// writeMap writes what mapData assembles, but for the values.
func writeMap(s *streamWriter, offsets []int32, keys *dictBuilder) {
	s.node(len(offsets)-1, 0)
	s.buffer(nil)
	s.buffer(bytesOf(offsets))
	s.node(keys.count(), 0)
	s.buffer(nil)
	keys.write(s)
}

type mapColumn struct {
	get     func(*Event) *[]KeyValue
	dt      *arrow.MapType
	offsets []int32
	keys    *dictBuilder
	values  *stringBuilder
}

func (c *mapColumn) append(e *Event, row int) {
	entries := *c.get(e)
	c.fill(row)
	for i := range entries {
		c.keys.addKey(i, entries[i].Key)
		c.values.add(entries[i].Value)
	}
	c.offsets = append(c.offsets, int32(c.keys.count()))
}

func (c *mapColumn) fill(rows int) { c.offsets = again(c.offsets, rows+1-len(c.offsets)) }

func (c *mapColumn) data(rows int) arrow.ArrayData {
	return mapData(c.dt, rows, c.offsets, c.keys.data(0), c.values.data(0))
}

func (c *mapColumn) write(s *streamWriter) {
	writeMap(s, c.offsets, c.keys)
	c.values.write(s)
}

func (c *mapColumn) dictionary() *dictBuilder { return c.keys }

func (c *mapColumn) reset() {
	c.offsets = c.offsets[:1]
	c.keys.reset()
	c.values.reset()
}

type mapListColumn struct {
	get     func(*Event) *[]KeyValues
	dt      *arrow.MapType
	offsets []int32
	keys    *dictBuilder
	values  listBuilder[*stringBuilder]
}

func (c *mapListColumn) append(e *Event, row int) {
	entries := *c.get(e)
	c.fill(row)
	for i := range entries {
		c.keys.addKey(i, entries[i].Key)
		c.values.add(entries[i].Values)
	}
	c.offsets = append(c.offsets, int32(c.keys.count()))
}

func (c *mapListColumn) fill(rows int) { c.offsets = again(c.offsets, rows+1-len(c.offsets)) }

func (c *mapListColumn) data(rows int) arrow.ArrayData {
	return mapData(c.dt, rows, c.offsets, c.keys.data(0), c.values.data(0))
}

func (c *mapListColumn) write(s *streamWriter) {
	writeMap(s, c.offsets, c.keys)
	c.values.write(s)
}

func (c *mapListColumn) dictionary() *dictBuilder { return c.keys }

func (c *mapListColumn) reset() {
	c.offsets = c.offsets[:1]
	c.keys.reset()
	c.values.reset()
}
