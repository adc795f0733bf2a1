package schemas

import (
	"strings"

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
	recent  [64]*dictEntry // of entries, the last ones by a cheap hash; those of an earlier batch too
	last    *dictEntry
	list    []*dictEntry // of the last list
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
		entries: make(map[string]*dictEntry), batch: 1, last: &dictEntry{},
		values: newStringBuilder(arrow.BinaryTypes.String),
	}
}

func (b *dictBuilder) add(s string) {
	b.valid.valid(len(b.codes))
	if b.last.batch != b.batch || s != b.last.key {
		b.last = b.lookup(s)
	}
	b.codes = append(b.codes, b.last.code)
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
		b.valid.valid(len(b.codes))
		b.codes = append(b.codes, entry.code)
	}
}

func (b *dictBuilder) lookup(s string) *dictEntry {
	at := 0
	if n := len(s); n > 0 {
		at = (n + int(s[n-1])*5 + int(s[n/2])*17) % len(b.recent)
	}
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

func (b *dictBuilder) count() int { return len(b.codes) }

func (b *dictBuilder) fill(rows int) {
	if n := len(b.codes); n < rows {
		b.valid.null(n, rows)
		b.codes = zeros(b.codes, rows-n)
	}
}

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
		b.batch, b.last, b.list = 1, &dictEntry{}, nil
	}
}

type dictColumn struct {
	*dictBuilder
	get func(*Event) string
}

func (c *dictColumn) append(e *Event, row int) {
	if s := c.get(e); s != "" {
		c.fill(row)
		c.add(s)
	}
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
	get func(*Event) []string
}

func (c *listColumn[V]) append(e *Event, row int) {
	if values := c.get(e); len(values) > 0 {
		c.fill(row)
		c.add(values)
	}
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
	get     func(*Event) []KeyValue
	dt      *arrow.MapType
	offsets []int32
	keys    *dictBuilder
	values  *stringBuilder
}

func (c *mapColumn) append(e *Event, row int) {
	entries := c.get(e)
	if len(entries) == 0 {
		return
	}
	c.fill(row)
	for i := range entries {
		c.keys.add(entries[i].Key)
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
	get     func(*Event) []KeyValues
	dt      *arrow.MapType
	offsets []int32
	keys    *dictBuilder
	values  listBuilder[*stringBuilder]
}

func (c *mapListColumn) append(e *Event, row int) {
	entries := c.get(e)
	if len(entries) == 0 {
		return
	}
	c.fill(row)
	for i := range entries {
		c.keys.add(entries[i].Key)
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
