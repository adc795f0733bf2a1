package schemas

import (
	"bytes"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
)

func encoded(tb testing.TB, rows int) []byte {
	tb.Helper()
	b := NewBuilder()
	for i := range rows {
		b.Append(sampleEvent(i))
	}
	value, err := Encode(b.Batch())
	if err != nil {
		tb.Fatal(err)
	}
	return value
}

func TestReaderAgreesWithDecode(t *testing.T) {
	r := NewReader()
	for _, rows := range []int{1, 2, 7, 8, 9, 1000, 3} {
		value := encoded(t, rows)
		if !bytes.HasPrefix(value, r.header) {
			t.Fatal("the reader does not know its own schema")
		}
		got, err := r.Open(value)
		if err != nil {
			t.Fatal(err)
		}
		want, err := Decode(value)
		if err != nil {
			t.Fatal(err)
		}
		short := WithoutLastColumn(want)
		if !array.RecordEqual(short, got.RecordBatch) {
			t.Errorf("%d rows: batches differ", rows)
		}
		raw := ColumnArray(want, "raw").(*array.Binary)
		for row := range rows {
			if b, err := got.Raw(row); err != nil || !bytes.Equal(b, raw.Value(row)) {
				t.Fatalf("raw of row %d = %q, %v", row, b, err)
			}
		}
	}
}

// A stream of another writer takes the general way and reads the same.
func TestReaderReadsOtherSchemas(t *testing.T) {
	r := NewReader()
	r.header = nil
	got, err := r.Open(encoded(t, 10))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := got.Raw(3); err != nil || string(b) != `{"i":3}` || got.NumCols() != int64(len(Columns())-1) {
		t.Errorf("raw = %q, %v; %d columns", b, err, got.NumCols())
	}
}

// Damaged bytes give an error or a batch that can be read to its end.
func FuzzReader(f *testing.F) {
	value := encoded(f, 5)
	f.Add(len(value), 0, byte(0))
	f.Add(len(value)-9, 0, byte(0))
	f.Fuzz(func(_ *testing.T, size, at int, b byte) {
		damaged := bytes.Clone(value[:min(max(size, 0), len(value))])
		r := NewReader()
		if len(damaged) > len(r.header) {
			damaged[len(r.header)+(at&0x7fffffff)%(len(damaged)-len(r.header))] ^= b
		}
		batch, err := r.Open(damaged)
		if err != nil {
			return
		}
		for row := range int(batch.NumRows()) {
			AppendRowJSON(nil, batch, row)
			if _, err := batch.Raw(row); err != nil {
				return
			}
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	value := encoded(b, 4000)
	r := NewReader()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Open(value); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/4000, "ns/event")
}
