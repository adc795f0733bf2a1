package schemas

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
)

func encodedBatch(tb testing.TB, first, rows int) []byte {
	tb.Helper()
	b := NewBuilder()
	for i := range rows {
		e := sampleEvent(first + i)
		e.Verb = []string{"a", "b", "c", "d", "e"}[(first+i)%5] // another order of the dictionary in each batch
		b.Append(e)
	}
	value, err := Encode(b.Batch())
	if err != nil {
		tb.Fatal(err)
	}
	return value
}

func TestSplitFramesJoin(t *testing.T) {
	values := [][]byte{encodedBatch(t, 0, 3), encodedBatch(t, 3, 1), encodedBatch(t, 4, 100)}
	var joined []byte
	for i, value := range values {
		frame, err := Split(value)
		if err != nil {
			t.Fatal(err)
		}
		if want := []int{3, 1, 100}[i]; frame.Rows != want {
			t.Errorf("value %d has %d rows, want %d", i, frame.Rows, want)
		}
		if rows := frame.Rows; frame.Bytes < 300*rows {
			t.Errorf("value %d: %d bytes for %d rows", i, frame.Bytes, rows)
		}
		if i == 0 {
			joined = slices.Clone(frame.Schema)
		}
		joined = append(joined, frame.Messages...)
	}
	joined = append(joined, EndOfStream()...)

	r, err := ipc.NewReader(bytes.NewReader(joined))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	for i, value := range values {
		if !r.Next() {
			t.Fatalf("batch %d is missing: %v", i, r.Err())
		}
		want, err := Decode(value)
		if err != nil {
			t.Fatal(err)
		}
		if !array.RecordEqual(r.RecordBatch(), want) {
			t.Errorf("batch %d differs after joining", i)
		}
		want.Release()
	}
	if r.Next() {
		t.Error("a batch too many")
	}
}

func TestSplitRefuses(t *testing.T) {
	value := encodedBatch(t, 0, 10)
	frame, err := Split(value)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string][]byte{
		"empty":          nil,
		"text":           []byte("hello, world: not Arrow"),
		"schema only":    frame.Schema,
		"no schema":      frame.Messages,
		"cut in a batch": value[:len(value)-100],
		"two schemas":    slices.Concat(frame.Schema, frame.Schema, frame.Messages),
	} {
		if _, err := Split(value); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSchemaOfRefusesNewerVersions(t *testing.T) {
	frame, err := Split(encodedBatch(t, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	schema, err := SchemaOf(frame.Schema)
	if err != nil || !schema.Equal(ArrowSchema()) {
		t.Errorf("schema %v, %v", schema, err)
	}
	newer := bytes.Replace(frame.Schema, []byte("\x01\x00\x00\x001\x00"), []byte("\x01\x00\x00\x009\x00"), 1)
	if bytes.Equal(newer, frame.Schema) {
		t.Fatal("the version was not found in the schema message")
	}
	if _, err := SchemaOf(newer); !errors.Is(err, ErrNewerVersion) {
		t.Errorf("version 9: %v, want ErrNewerVersion", err)
	}
}

func FuzzSplit(f *testing.F) {
	value := encodedBatch(f, 0, 5)
	f.Add(value)
	f.Add(value[:len(value)/2])
	f.Fuzz(func(t *testing.T, value []byte) {
		frame, err := Split(value)
		if err == nil && len(frame.Schema)+len(frame.Messages) > len(value) {
			t.Errorf("frame of %d+%d bytes from %d", len(frame.Schema), len(frame.Messages), len(value))
		}
	})
}

func BenchmarkSplit(b *testing.B) {
	value := encodedBatch(b, 0, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Split(value); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "events/s")
}

// TestHasValues looks for the column version in frames with and without corrections, and in damaged ones.
func TestHasValues(t *testing.T) {
	place := slices.IndexFunc(Columns(), func(c Column) bool { return c.Name == "version" })
	for _, c := range Columns()[:place+1] {
		if c.Type >= TypeStrings && c.Type <= TypeMapList {
			t.Fatalf("column %s before version is a list", c.Name)
		}
	}
	for _, corrected := range []int{-1, 0, 99} {
		b := NewBuilder()
		for i := range 100 {
			e := Event{Cluster: "c", Verb: "get", Raw: []byte("{}")}
			if i == corrected {
				e.Version = 7
			}
			b.Append(&e)
		}
		frame, err := Split(b.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if got := frame.HasValues(place); got != (corrected >= 0) {
			t.Errorf("with row %d corrected: %v", corrected, got)
		}
		frame.Messages = frame.Messages[:len(frame.Messages)-10]
		if !frame.HasValues(place) {
			t.Error("a damaged frame is taken for one without corrections")
		}
	}
}
