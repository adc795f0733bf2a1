package schemas

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
)

// randomEvent fills columns of every type, or leaves them empty, in runs.
func randomEvent(r *rand.Rand, row int) *Event {
	some := func(n int) string {
		if row/20%3 == 0 || r.IntN(3) == 0 {
			return ""
		}
		return fmt.Sprint("v", r.IntN(n))
	}
	e := &Event{
		EventID: ID{byte(row)}, Cluster: "c", User: some(5), Verb: some(2), AuditID: some(1000), Name: some(20), Team: some(3),
		Code: uint16(r.IntN(2) * 200), EventTime: int64(row), MintedAt: int64(r.IntN(3)), RawPartition: int32(r.IntN(2)),
		Raw: bytes.Repeat([]byte(some(9)), r.IntN(50)),
	}
	if row/50%2 == 0 {
		for range r.IntN(4) {
			e.Groups, e.SourceIPs = append(e.Groups, fmt.Sprint("g", r.IntN(4))), append(e.SourceIPs, some(9))
			e.Annotations = append(e.Annotations, KeyValue{fmt.Sprint("k", r.IntN(4)), some(9)})
			e.Extra = append(e.Extra, KeyValues{fmt.Sprint("x", r.IntN(4)), []string{some(4), "", some(9)}[:r.IntN(4)]})
			e.Grants = append(e.Grants, some(3))
		}
	}
	return e
}

// A Builder encodes what arrow-go encodes of its batches.
func TestBuilderEncode(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	b, reader := NewBuilder(), NewReader()
	for _, rows := range []int{0, 1, 7, 8, 9, 64, 100, 3000, 2} {
		b.Reset()
		for row := range rows {
			b.Append(randomEvent(r, row))
		}
		value, batch := b.Encode(), b.Batch()
		if again := b.Encode(); !bytes.Equal(value, again) {
			t.Errorf("%d rows: encoded twice, the bytes differ", rows)
		}
		byArrow, err := Encode(batch)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(value)
		if err != nil {
			t.Fatalf("%d rows: %v", rows, err)
		}
		want, err := Decode(byArrow)
		if err != nil {
			t.Fatal(err)
		}
		if !array.RecordEqual(want, got) || !got.Schema().Equal(want.Schema()) || int(got.NumRows()) != rows {
			t.Errorf("%d rows: they are not what was appended", rows)
		}
		for i, a := range got.Columns() {
			if w := want.Column(i); a.NullN() != w.NullN() {
				t.Errorf("%d rows: column %s has %d nulls, want %d", rows, got.ColumnName(i), a.NullN(), w.NullN())
			}
		}
		if rows == 0 {
			continue
		}
		opened, err := reader.Open(value)
		if err != nil || int(opened.NumRows()) != rows {
			t.Fatalf("%d rows: a Reader finds %v", rows, err)
		}
		raw, err := opened.Raw(rows - 1)
		if err != nil || !bytes.Equal(raw, got.Column(int(got.NumCols())-1).(*array.Binary).Value(rows-1)) {
			t.Errorf("%d rows: the last original is %q, %v", rows, raw, err)
		}
		mine, err := Split(value)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := Split(byArrow)
		if err != nil {
			t.Fatal(err)
		}
		if mine.Rows != rows || !bytes.Equal(mine.Schema, theirs.Schema) {
			t.Errorf("%d rows: another schema, or %d rows", rows, mine.Rows)
		}
		if len(value) > len(byArrow) {
			t.Errorf("%d rows: %d bytes, arrow-go needs %d", rows, len(value), len(byArrow))
		}
	}
}
