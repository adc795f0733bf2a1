package enrich

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/schemas"
)

// recording returns the lines of the shipped recording.
func recording(tb testing.TB) [][]byte {
	tb.Helper()
	return recorded(tb, "../testdata/recording/sample.jsonl.gz")
}

func recorded(tb testing.TB, path string) [][]byte {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	var lines [][]byte
	for r := bufio.NewReader(z); ; {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return lines
		}
		if err != nil {
			tb.Fatal(err)
		}
		lines = append(lines, bytes.TrimSuffix(line, []byte("\n")))
	}
}

// reference is how encoding/json reads the columns' paths.
type reference struct {
	Level, AuditID, Stage, RequestURI, Verb, UserAgent string
	User, ImpersonatedUser                             struct {
		Username, UID string
		Groups        []string
		Extra         map[string][]string
	}
	AuthenticationMetadata struct{ ImpersonationConstraint string }
	SourceIPs              []string
	ObjectRef              struct {
		Resource, Namespace, Name, UID, APIGroup, APIVersion, ResourceVersion, Subresource string
	}
	ResponseStatus struct {
		Status, Reason, Message string
		Code                    uint16
	}
	RequestReceivedTimestamp, StageTimestamp time.Time
	Annotations                              map[string]string
	RequestObject, ResponseObject            json.RawMessage
}

func (r *reference) event() map[string]any {
	return map[string]any{
		"level": r.Level, "auditID": r.AuditID, "stage": r.Stage, "uri": r.RequestURI, "verb": r.Verb, "agent": r.UserAgent,
		"user": r.User.Username, "uid": r.User.UID, "groups": list(r.User.Groups), "extra": multi(r.User.Extra),
		"iuser": r.ImpersonatedUser.Username, "igroups": list(r.ImpersonatedUser.Groups), "iextra": multi(r.ImpersonatedUser.Extra),
		"constraint": r.AuthenticationMetadata.ImpersonationConstraint, "ips": list(r.SourceIPs),
		"ref": r.ObjectRef, "status": r.ResponseStatus, "annotations": r.Annotations,
		"received": micro(r.RequestReceivedTimestamp), "staged": micro(r.StageTimestamp),
		"decision": r.Annotations["authorization.k8s.io/decision"], "reason": r.Annotations["authorization.k8s.io/reason"],
		"request": string(r.RequestObject), "response": string(r.ResponseObject),
	}
}

func decoded(e *schemas.Event) map[string]any {
	var ref reference
	ref.ObjectRef.Resource, ref.ObjectRef.Namespace, ref.ObjectRef.Name, ref.ObjectRef.UID = e.Resource, e.Namespace, e.Name, e.ObjectUID
	ref.ObjectRef.APIGroup, ref.ObjectRef.APIVersion = e.APIGroup, e.APIVersion
	ref.ObjectRef.ResourceVersion, ref.ObjectRef.Subresource = e.ResourceVersion, e.Subresource
	ref.ResponseStatus.Status, ref.ResponseStatus.Reason = e.Status, e.Reason
	ref.ResponseStatus.Message, ref.ResponseStatus.Code = e.Message, e.Code
	var annotations map[string]string
	if len(e.Annotations) > 0 {
		annotations = map[string]string{}
	}
	for _, a := range e.Annotations {
		annotations[a.Key] = a.Value
	}
	return map[string]any{
		"level": e.Level, "auditID": e.AuditID, "stage": e.Stage, "uri": e.RequestURI, "verb": e.Verb, "agent": e.UserAgent,
		"user": e.User, "uid": e.UserUID, "groups": list(e.Groups), "extra": entries(e.Extra),
		"iuser": e.ImpersonatedUser, "igroups": list(e.ImpersonatedGroups), "iextra": entries(e.ImpersonatedExtra),
		"constraint": e.ImpersonationConstraint, "ips": list(e.SourceIPs),
		"ref": ref.ObjectRef, "status": ref.ResponseStatus, "annotations": annotations,
		"received": e.EventTime, "staged": e.StageTime, "decision": e.Decision, "reason": e.DecisionReason,
		"request": string(e.RequestObject), "response": string(e.ResponseObject),
	}
}

func list(l []string) string { return strings.Join(l, "\x00") }

func multi(m map[string][]string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		out[k] = list(v)
	}
	return out
}

func entries(kvs []schemas.KeyValues) map[string]string {
	out := map[string]string{}
	for _, kv := range kvs {
		out[kv.Key] = list(kv.Values)
	}
	return out
}

func micro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func TestDecodeAgreesWithEncodingJSON(t *testing.T) {
	var d decoder
	for i, raw := range recording(t) {
		var want reference
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		e, err := d.decode(raw, "")
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		if diff := cmp.Diff(want.event(), decoded(e)); diff != "" {
			t.Fatalf("line %d: (-want +got)\n%s", i+1, diff)
		}
		if e.Damage != "" || e.Duration < 0 {
			t.Errorf("line %d: damage %q, duration %d", i+1, e.Damage, e.Duration)
		}
	}
}

func TestDecodeDamage(t *testing.T) {
	for name, tt := range map[string]struct{ raw, damage string }{
		"nothing":             {`{}`, ""},
		"null everywhere":     {`{"user":null,"objectRef":null,"sourceIPs":null,"annotations":null,"verb":null,"responseStatus":null}`, ""},
		"wrong types":         {`{"verb":1,"user":"x","sourceIPs":{},"objectRef":[],"annotations":{"a":1}}`, "bad verb, bad user, bad sourceIPs, bad objectRef, bad annotations"},
		"twice":               {`{"verb":"get","verb":"list"}`, "duplicate verb"},
		"twice, one escaped":  {`{"verb":"get","\u0076erb":"list"}`, `duplicate \u0076erb`},
		"bad time":            {`{"stageTimestamp":"2026-02-30T00:00:00.000000Z"}`, "bad stageTimestamp"},
		"huge code":           {`{"responseStatus":{"code":99999999999999999999999}}`, "bad responseStatus.code"},
		"negative code":       {`{"responseStatus":{"code":-1}}`, "bad responseStatus.code"},
		"truncated by sender": {`{"annotations":{"audit.k8s.io/truncated":"true"}}`, "truncated"},
		"annotation twice":    {`{"annotations":{"a":"1","a":"2"}}`, "duplicate annotation"},
	} {
		t.Run(name, func(t *testing.T) {
			var d decoder
			e, err := d.decode([]byte(tt.raw), "")
			if err != nil {
				t.Fatal(err)
			}
			if e.Damage != tt.damage {
				t.Errorf("damage = %q, want %q", e.Damage, tt.damage)
			}
			if strings.HasPrefix(name, "twice") && e.Verb != "list" {
				t.Errorf("verb = %q: the last one counts", e.Verb)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, raw := range []string{"", "null", "[]", `"x"`, `{"a":1`, `{} {}`, `{"verb":"a` + "\n" + `"}`} {
		var d decoder
		if _, err := d.decode([]byte(raw), ""); err == nil {
			t.Errorf("%q: no error", raw)
		}
	}
}

func TestDecodeForms(t *testing.T) {
	var d decoder
	e, err := d.decode([]byte(`{"requestReceivedTimestamp":"2026-11-21T03:00:00Z","stageTimestamp":"2026-11-21T04:00:00.0000015+01:00",`+
		`"userAgent":"bad \ud800 and `+"\xff"+`","requestURI":"/a?b=1\u0026c","user":{"extra":{"a\/b":["1","\u0032"]}}}`), "")
	if err != nil {
		t.Fatal(err)
	}
	if e.Duration != 1 || e.UserAgent != "bad \ufffd and \ufffd" || e.RequestURI != "/a?b=1&c" {
		t.Errorf("duration %d, agent %q, uri %q", e.Duration, e.UserAgent, e.RequestURI)
	}
	if diff := cmp.Diff([]schemas.KeyValues{{Key: "a/b", Values: []string{"1", "2"}}}, e.Extra); diff != "" {
		t.Error(diff)
	}
	if e, err = d.decode([]byte(`{"requestObject":"skipped-too-big-size-object","responseObject":{},"responseObject":[7]}`), ""); err != nil {
		t.Fatal(err)
	}
	if e.RequestObject != nil || string(e.ResponseObject) != "[7]" {
		t.Errorf("bodies %q and %q", e.RequestObject, e.ResponseObject)
	}
}

// What encoding/json reads without error is read the same; nothing panics.
func FuzzDecode(f *testing.F) {
	for i, raw := range recording(f) {
		if i%500 == 0 && len(raw) < 4000 {
			f.Add(raw)
		}
	}
	f.Add([]byte(`{"verb":"get","user":{"groups":["a"],"extra":{"k":["v"]}},"responseStatus":{"code":1e2}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var d decoder
		e, err := d.decode(raw, "")
		var object map[string]json.RawMessage
		if jsonErr := json.Unmarshal(raw, &object); (err == nil) != (jsonErr == nil && object != nil) {
			t.Fatalf("decode: %v, encoding/json: %v", err, jsonErr)
		}
		if err != nil || e.Damage != "" {
			return
		}
		var want string
		if json.Unmarshal(object["verb"], &want) == nil && e.Verb != want {
			t.Fatalf("verb = %q, want %q", e.Verb, want)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	lines := recording(b)
	size := 0
	for _, l := range lines {
		size += len(l)
	}
	var d decoder
	b.SetBytes(int64(size / len(lines)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := d.decode(lines[i%len(lines)], ""); err != nil {
			b.Fatal(err)
		}
	}
}
