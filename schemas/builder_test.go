package schemas

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// anyText returns texts of all lengths, many of which are alike at the beginning, at the end, or but for a byte.
func anyText(r *rand.Rand) string {
	n := r.IntN(40)
	text := []byte(strings.Repeat("ab", 20)[:n])
	if n > 0 && r.IntN(2) == 0 {
		text[r.IntN(n)] = byte('c' + r.IntN(3))
	}
	return string(text)
}

// anyEvent fills some of all columns that are texts, lists or maps.
func anyEvent(r *rand.Rand, columns []Column, part int) *Event {
	e := &Event{EventID: ID{byte(r.Uint32())}, EventTime: r.Int64N(3), Raw: []byte(anyText(r))}
	for i := range columns {
		if r.IntN(4) >= part {
			continue
		}
		c, text := &columns[i], anyText(r)
		switch {
		case c.str != nil:
			*c.str(e) = text
		case c.list != nil:
			for range r.IntN(5) {
				*c.list(e) = append(*c.list(e), anyText(r))
			}
		case c.kv != nil:
			for range r.IntN(5) {
				*c.kv(e) = append(*c.kv(e), KeyValue{text, anyText(r)}, KeyValue{anyText(r), text})
			}
		case c.kvs != nil:
			for range r.IntN(5) {
				*c.kvs(e) = append(*c.kvs(e), KeyValues{text, []string{anyText(r), text}[:r.IntN(3)]})
			}
		}
	}
	return e
}

// Whatever is in an event is in its row, and nothing else: of all columns, in batches of all lengths, one behind the other.
func TestBuilderKeepsEverything(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	columns, b := Columns(), NewBuilder()
	for round := range 60 {
		b.Reset()
		events := make([]*Event, r.IntN(80))
		for i := range events {
			events[i] = anyEvent(r, columns, round%5)
			b.Append(events[i])
			if r.IntN(30) == 0 {
				b.Batch().Release() // asking for the rows so far changes nothing
			}
		}
		batch := b.Batch()
		checkRows(t, columns, batch, events)
		if len(events) == 0 {
			continue
		}
		decoded, err := Decode(b.Encode())
		if err != nil {
			t.Fatal(err)
		}
		checkRows(t, columns, decoded, events)
	}
}

func checkRows(t *testing.T, columns []Column, batch arrow.RecordBatch, events []*Event) {
	t.Helper()
	if int(batch.NumRows()) != len(events) {
		t.Fatalf("%d rows of %d events", batch.NumRows(), len(events))
	}
	compare := NewComparer()
	for i := range columns {
		c, a := &columns[i], batch.Column(i)
		for row, e := range events {
			if same := c.raw != nil && bytes.Equal(a.(*array.Binary).Value(row), e.Raw) ||
				c.id != nil && bytes.Equal(a.(*array.FixedSizeBinary).Value(row), func() []byte { id := c.id(e); return id[:] }()) ||
				c.kvs != nil && sameLists(a.(*array.Map), row, *c.kvs(e)) || compare.same(c, a, row, e); !same {
				t.Fatalf("%s of row %d of %d is %s of %+v", c.Name, row, len(events), a.ValueStr(row), e)
			}
			if c.str != nil && a.IsNull(row) != (*c.str(e) == "") {
				t.Fatalf("%s of row %d of %d: null is %t for %q", c.Name, row, len(events), a.IsNull(row), *c.str(e))
			}
		}
	}
}

func sameLists(a *array.Map, row int, want []KeyValues) bool {
	start, end := a.ValueOffsets(row)
	got := make([]KeyValues, 0, len(want))
	values := a.Items().(*array.List)
	for i := int(start); i < int(end); i++ {
		from, to := values.ValueOffsets(i)
		kvs := KeyValues{Key: Text(a.Keys(), i)}
		for j := from; j < to; j++ {
			kvs.Values = append(kvs.Values, Text(values.ListValues(), int(j)))
		}
		got = append(got, kvs)
	}
	return slices.EqualFunc(got, want, func(a, b KeyValues) bool { return a.Key == b.Key && slices.Equal(a.Values, b.Values) })
}

// Texts may lie at the very ends of memory, and the memory of an event may be used again for the next one.
func TestBuilderCopies(t *testing.T) {
	b, memory := NewBuilder(), make([]byte, 0, 64)
	e := &Event{}
	for i := range 50 {
		memory = fmt.Appendf(memory[:0], "%0*d", 1+i%20, i)
		raw := slices.Clip(memory)
		e.Reset()
		e.Raw, e.User, e.Name = raw, unsafe.String(&raw[0], len(raw)), unsafe.String(&raw[0], len(raw))
		e.Groups = append(e.Groups[:0], unsafe.String(&raw[0], len(raw)))
		e.Annotations = append(e.Annotations[:0], KeyValue{unsafe.String(&raw[0], len(raw)), unsafe.String(&raw[0], len(raw))})
		b.Append(e)
	}
	batch := b.Batch()
	for i := range 50 {
		want := fmt.Sprintf("%0*d", 1+i%20, i)
		for _, name := range []string{"user", "name"} {
			if got := Text(ColumnArray(batch, name), i); got != want {
				t.Errorf("row %d: %s is %q, want %q", i, name, got, want)
			}
		}
		for _, name := range []string{"groups", "annotations"} {
			if got := ColumnArray(batch, name).ValueStr(i); !strings.Contains(got, `"`+want+`"`) {
				t.Errorf("row %d: %s are %s, want %q", i, name, got, want)
			}
		}
	}
}
