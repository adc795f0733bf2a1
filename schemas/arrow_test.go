package schemas

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
)

func sampleEvent(i int) *Event {
	e := &Event{
		Cluster: "prod", Platform: "kubernetes", Source: SourceWebhook, ReceivedAt: int64(1_000_000 + i),
		RawPartition: 0, RawOffset: int64(i), EventTime: int64(900_000 + i), Verb: []string{"get", "list"}[i%2],
		AuditID: fmt.Sprint("id-", i), Resource: "pods", Groups: []string{"a", "system:authenticated"},
		Extra:       []KeyValues{{"k", []string{"v1", "v2"}}, {"empty", nil}},
		Annotations: []KeyValue{{"authorization.k8s.io/decision", "allow"}, {"n", fmt.Sprint(i)}},
		Raw:         []byte(fmt.Sprintf(`{"i":%d}`, i)), Code: uint16(i % 3 * 200),
		SourceIPs: []string{"10.0.0.1"},
	}
	e.EventID[0] = byte(i)
	return e
}

func TestBatchRoundTrip(t *testing.T) {
	b := NewBuilder()
	for round := range 3 {
		b.Reset()
		for i := range 100 + round {
			b.Append(sampleEvent(i))
		}
		batch := b.Batch()
		value, err := Encode(batch)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(value)
		if err != nil {
			t.Fatal(err)
		}
		if !array.RecordEqual(batch, got) {
			t.Errorf("round %d: decoded batch differs", round)
		}
		verb := ColumnArray(got, "verb").(*array.Dictionary)
		if n := verb.Dictionary().Len(); n != 2 {
			t.Errorf("round %d: verb has %d dictionary values, want 2", round, n)
		}
		if s := ColumnArray(got, "extra").ValueStr(1); s != `[{"key":"k","value":["v1","v2"]},{"key":"empty","value":[]}]` {
			t.Errorf("round %d: extra = %s", round, s)
		}
		if !ColumnArray(got, "user").IsNull(0) || !ColumnArray(got, "code").IsNull(0) || ColumnArray(got, "raw_offset").IsNull(1) {
			t.Errorf("round %d: wrong nulls", round)
		}
		got.Release()
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, value := range map[string]string{"empty": "", "text": "hello, world: not Arrow", "zeros": strings.Repeat("\x00", 64)} {
		if _, err := Decode([]byte(value)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestColumnsAreUnique(t *testing.T) {
	seen := map[string]bool{}
	columns := Columns()
	for _, c := range columns {
		if seen[c.Name] || seen[c.Path] {
			t.Errorf("column %s: name or path is used twice", c.Name)
		}
		seen[c.Name] = true
		if c.Path != "" && c.Path != c.Name {
			seen[c.Path] = true
		}
		if c.Doc == "" || c.Group == "" {
			t.Errorf("column %s: no doc or group", c.Name)
		}
	}
	if last := columns[len(columns)-1].Name; last != "raw" {
		t.Errorf("last column is %s, want raw", last)
	}
}

func TestFingerprintSeparatesFields(t *testing.T) {
	var h Hasher
	a := h.Fingerprint("c", &FingerprintFields{AuditID: "ab", Stage: "c"})
	b := h.Fingerprint("c", &FingerprintFields{AuditID: "a", Stage: "bc"})
	if a == b {
		t.Error("fields run into each other")
	}
	if h.EventID("c", []byte("x")) == h.EventID("d", []byte("x")) {
		t.Error("the cluster does not count")
	}
}
