package schemas

import (
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Comparer tells whether who and why of a row are still what they are worked out to be. It is not safe for concurrent use.
type Comparer struct {
	columns []Column
	schema  *arrow.Schema // of the batch that was compared last
	at      []int         // where the columns are in it; -1: its writer did not have it
	list    []string
}

// NewComparer returns a Comparer.
func NewComparer() *Comparer {
	c := &Comparer{}
	for _, column := range Columns() {
		if column.Group == GroupWho || column.Group == GroupWhy {
			c.columns = append(c.columns, column)
		}
	}
	return c
}

// Differs returns the first column of who and why that is not the same in a row of a batch and in e; empty if none.
func (c *Comparer) Differs(batch arrow.RecordBatch, row int, e *Event) string {
	if c.schema != batch.Schema() {
		c.schema, c.at = batch.Schema(), c.at[:0]
		for _, column := range c.columns {
			at := slices.IndexFunc(c.schema.Fields(), func(f arrow.Field) bool { return f.Name == column.Name })
			c.at = append(c.at, at)
		}
	}
	for i := range c.columns {
		if at := c.at[i]; at < 0 || !c.same(&c.columns[i], batch.Column(at), row, e) {
			return c.columns[i].Name
		}
	}
	return ""
}

func (c *Comparer) same(column *Column, a arrow.Array, row int, e *Event) bool {
	switch {
	case column.str != nil:
		return Text(a, row) == *column.str(e)
	case column.num != nil:
		return number(a, row) == column.num(e)
	case column.list != nil:
		c.list = c.list[:0]
		list, ok := a.(array.ListLike)
		if !ok {
			return false
		}
		start, end := list.ValueOffsets(row)
		for i := start; i < end; i++ {
			c.list = append(c.list, Text(list.ListValues(), int(i)))
		}
		return slices.Equal(c.list, *column.list(e))
	case column.kv != nil:
		m, ok := a.(*array.Map)
		if !ok {
			return false
		}
		want := *column.kv(e)
		start, end := m.ValueOffsets(row)
		if int(end-start) != len(want) {
			return false
		}
		for i, kv := range want {
			if Text(m.Keys(), int(start)+i) != kv.Key || Text(m.Items(), int(start)+i) != kv.Value {
				return false
			}
		}
		return true
	}
	return false
}

// Text returns a string of a column of an enriched batch, plain or of a dictionary; empty for null.
func Text(a arrow.Array, i int) string {
	if a.IsNull(i) {
		return ""
	}
	switch a := a.(type) {
	case *array.String:
		return a.Value(i)
	case *array.Dictionary:
		if values, ok := a.Dictionary().(*array.String); ok {
			return values.Value(a.GetValueIndex(i))
		}
	}
	return a.ValueStr(i)
}

func number(a arrow.Array, i int) int64 {
	if a.IsNull(i) {
		return 0
	}
	switch a := a.(type) {
	case *array.Timestamp:
		return int64(a.Value(i))
	case *array.Int64:
		return a.Value(i)
	case *array.Int32:
		return int64(a.Value(i))
	case *array.Uint16:
		return int64(a.Value(i))
	}
	return 0
}

// Origin is what a row says of where its event came from: with the original bytes it is all that is needed to work the
// row out again.
type Origin struct {
	EventID, Fingerprint    ID
	Cluster, Source, Damage string
	ReceivedAt, EventTime   int64 // µs since 1970
	RawPartition            int32
	RawOffset, Version      int64
}

// OriginOf reads the origin of a row. It fails on a batch that lacks one of the columns.
func OriginOf(batch arrow.RecordBatch, row int) (o Origin, err error) {
	column := func(name string) arrow.Array {
		a := ColumnArray(batch, name)
		if a == nil && err == nil {
			err = fmt.Errorf("the batch has no column %s", name)
		}
		return a
	}
	id := func(name string) (id ID) {
		if a, ok := column(name).(*array.FixedSizeBinary); ok {
			copy(id[:], a.Value(row))
		}
		return id
	}
	text := func(name string) string {
		if a := column(name); a != nil {
			return Text(a, row)
		}
		return ""
	}
	num := func(name string) int64 {
		if a := column(name); a != nil {
			return number(a, row)
		}
		return 0
	}
	o = Origin{
		EventID: id("event_id"), Fingerprint: id("fingerprint"),
		Cluster: text("cluster"), Source: text("source"), Damage: text("damage"),
		ReceivedAt: num("received_at"), EventTime: num("event_time"),
		RawPartition: int32(num("raw_partition")), RawOffset: num("raw_offset"),
	}
	if a := ColumnArray(batch, "version"); a != nil { // older writers corrected nothing
		o.Version = number(a, row)
	}
	return o, err
}
