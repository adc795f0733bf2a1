package schemas

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAppendRowJSON(t *testing.T) {
	b := NewBuilder()
	e := sampleEvent(1)
	e.Verb, e.UserAgent = `a"b`, "<\x00\xff>"
	b.Append(e)
	e.Raw = []byte("\xff not JSON")
	b.Append(e)
	batch := b.Batch()
	defer batch.Release()
	want := map[string]any{
		"event_id": "01000000000000000000000000000000", "fingerprint": "00000000000000000000000000000000",
		"cluster": "prod", "platform": "kubernetes", "source": "webhook", "received_at": "1970-01-01T00:00:01.000001Z",
		"raw_partition": 0.0, "raw_offset": 1.0, "event_time": "1970-01-01T00:00:00.900001Z", "verb": `a"b`,
		"audit_id": "id-1", "resource": "pods", "groups": []any{"a", "system:authenticated"}, "code": 200.0,
		"extra":       map[string]any{"k": []any{"v1", "v2"}, "empty": []any{}},
		"annotations": map[string]any{"authorization.k8s.io/decision": "allow", "n": "1"},
		"user_agent":  "<\x00\ufffd>", "source_ips": []any{"10.0.0.1"}, "raw": map[string]any{"i": 1.0},
	}
	for row, raw := range []any{want["raw"], "\ufffd not JSON"} {
		var got map[string]any
		if err := json.Unmarshal(AppendRowJSON(nil, batch, row), &got); err != nil {
			t.Fatal(err)
		}
		want["raw"] = raw
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("row %d: (-want +got)\n%s", row, diff)
		}
	}
	var whole map[string]any
	if err := json.Unmarshal(AppendWholeRowJSON(nil, batch, 0), &whole); err != nil {
		t.Fatal(err)
	}
	if team, ok := whole["team"]; len(whole) != len(Columns()) || !ok || team != nil || !cmp.Equal(whole["grants"], []any{}) || !cmp.Equal(whole["namespace_labels"], map[string]any{}) {
		t.Errorf("of %d columns the whole row has %d: team %v, grants %v, namespace_labels %v",
			len(Columns()), len(whole), team, whole["grants"], whole["namespace_labels"])
	}
	short := WithoutLastColumn(batch)
	defer short.Release()
	var got map[string]any
	if err := json.Unmarshal(AppendRowJSON(nil, short, 0), &got); err != nil || got["raw"] != nil || got["verb"] == nil {
		t.Errorf("without the last column: %v %v", got, err)
	}
}
