package split

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/internal/jsonscan"
	"github.com/auditmill/auditmill/schemas"
)

// got is an Item with copies of what it shares.
type got struct {
	Raw, Reason, Damage string
}

func collect(t *testing.T, body string) (items []got) {
	t.Helper()
	var s Splitter
	s.Split([]byte(body), func(item *Item) bool {
		if string(item.Raw) != body[item.Offset:item.Offset+len(item.Raw)] {
			t.Fatalf("Raw %q is not at offset %d of %q", item.Raw, item.Offset, body)
		}
		g := got{Raw: string(item.Raw), Damage: item.Damage}
		if item.Fault != nil {
			g.Reason = item.Fault.Reason
			if !strings.HasPrefix(item.Fault.Detail, fmt.Sprintf("at byte %d: ", item.Offset)) {
				t.Errorf("detail does not say where: %s", item.Fault.Detail)
			}
		}
		items = append(items, g)
		return true
	})
	return items
}

const (
	a = `{"auditID":"a","stage":"ResponseComplete"}`
	b = `{ "level":"Metadata" , "auditID":"b", "stage":"Panic","n":[1,{"x":"}]"}] }`
	c = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"c"}`
	v = `{"kind":"Event","apiVersion":"audit.k8s.io/v1beta1","stage":"RequestReceived","verb":"get"}`
)

func ok(raws ...string) (items []got) {
	for _, raw := range raws {
		items = append(items, got{Raw: raw})
	}
	return items
}

func TestSplitForms(t *testing.T) {
	head := `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`
	for _, tt := range []struct {
		name, body string
		want       []got
	}{
		{"list", head + a + "," + b + "," + c + "]}\n", ok(a, b, c)},
		{
			"older versions", head + v + "," + strings.Replace(v, "v1beta1", "v1alpha1", 1) + "]}",
			ok(v, strings.Replace(v, "v1beta1", "v1alpha1", 1)),
		},
		{"white space", " {\n\"kind\" : \"EventList\" , \"items\" : [ " + a + " ,\n" + b + " ] } ", ok(a, b)},
		{"items first", `{"items":[` + a + `,` + b + `],"kind":"EventList"}`, ok(a, b)},
		{"items in the middle", `{"apiVersion":"x","items":[` + a + `],"kind":"EventList"}`, ok(a)},
		{"items without kind", `{"items":[` + a + `]}`, ok(a)},
		{"items twice", head + a + `],"items":[` + b + `]}`, ok(a, b)},
		{"escaped keys", `{"k\u0069nd":"EventL\u0069st","\u0069tems":[{"audit\u0049D":"x"}]}`, ok(`{"audit\u0049D":"x"}`)},
		{"no items", head + `]}`, nil},
		{"null items", `{"kind":"EventList","items":null}`, nil},
		{"absent items", `{"kind":"EventList"}`, nil},
		{"event", c, ok(c)},
		{"event with items", `{"auditID":"x","items":[` + a + `]}`, ok(`{"auditID":"x","items":[` + a + `]}`)},
		{"event with items first", `{"items":[` + a + `],"auditID":"x"}`, ok(`{"items":[` + a + `],"auditID":"x"}`)},
		{"array", `[` + a + `,` + b + `]`, ok(a, b)},
		{"array of lists", `[` + head + a + `]},` + b + `]`, ok(a, b)},
		{"empty array", ` [ ] `, nil},
		{"lines", a + "\n" + b + "\r\n" + c + "\n", ok(a, b, c)},
		{"lines of lists", head + a + "]}\n" + head + b + "]}\n", ok(a, b)},
		{"concatenated", a + b + c, ok(a, b, c)},
		{"byte order mark", "\xef\xbb\xbf" + a, ok(a)},
		{"empty", "", nil},
		{"blank", " \n\t\r\n", nil},
		{"invalid UTF-8", "{\"auditID\":\"\xff\xfe\"}", ok("{\"auditID\":\"\xff\xfe\"}")},
		{
			"huge numbers", `{"auditID":"x","n":1` + strings.Repeat("0", 5000) + `e999999}`,
			ok(`{"auditID":"x","n":1` + strings.Repeat("0", 5000) + `e999999}`),
		},
		{
			"truncated by the API server", `{"auditID":"x","annotations":{"audit.k8s.io/truncated":"true"}}`,
			[]got{{Raw: `{"auditID":"x","annotations":{"audit.k8s.io/truncated":"true"}}`, Damage: DamageTruncated}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, collect(t, tt.body)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func bad(raw, reason string) got { return got{Raw: raw, Reason: reason} }

func found(raw string) got { return got{Raw: raw, Damage: DamageRecovered} }

func TestSplitFaults(t *testing.T) {
	head := `{"kind":"EventList","items":[`
	deep := `{"auditID":"d","x":` + strings.Repeat("[", jsonscan.MaxDepth+1) + strings.Repeat("]", jsonscan.MaxDepth+1) + `}`
	large := `{"auditID":"l","x":"` + strings.Repeat("x", schemas.MaxEventBytes) + `"}`
	for _, tt := range []struct {
		name, body string
		want       []got
	}{
		{"cut in an item", head + a + "," + b + `,{"auditID":"x","sta`, []got{{Raw: a}, {Raw: b}, bad(`{"auditID":"x","sta`, ReasonTruncated)}},
		{"cut in an escape", head + a + `,{"auditID":"\u00`, []got{{Raw: a}, bad(`{"auditID":"\u00`, ReasonTruncated)}},
		{"cut in a number", head + a + `,{"auditID":-`, []got{{Raw: a}, bad(`{"auditID":-`, ReasonTruncated)}},
		{"cut after an item", head + a, []got{{Raw: a}, bad("", ReasonTruncated)}},
		{"cut after a comma", head + a + ",", []got{{Raw: a}, bad("", ReasonTruncated)}},
		{"cut after the items", head + a + "]", []got{{Raw: a}, bad("", ReasonTruncated)}},
		{"cut in the head", `{"kind":"EventList","metad`, []got{bad(`{"kind":"EventList","metad`, ReasonTruncated)}},
		{"cut line", a + "\n" + `{"auditID":"x` + "\n" + b + "\n", []got{{Raw: a}, bad(`{"auditID":"x`, ReasonTruncated), {Raw: b}}},
		{"cut line inside an object", `{"auditID":"x","user":{"a":1` + "\n" + b + "\n" + c, []got{bad(`{"auditID":"x","user":{"a":1`, ReasonTruncated), {Raw: b}, {Raw: c}}},
		{"bad line", a + "\n{oops}\n" + b, []got{{Raw: a}, bad(`{oops}`, ReasonSyntax), {Raw: b}}},
		{"text", "hello world", []got{bad("hello world", ReasonSyntax)}},
		{"text between lines", a + "\nE1121 panic: {}\n" + b, []got{{Raw: a}, bad("E1121 panic: {}", ReasonSyntax), {Raw: b}}},
		{"text before an event", "log: " + a, []got{bad("log: ", ReasonSyntax), {Raw: a}}},
		{"html", "<html></html>", []got{bad("<html></html>", ReasonSyntax)}},
		{"bad item", head + a + `,{"auditID":oops},` + b + "]}", []got{{Raw: a}, bad(`{"auditID":oops}`, ReasonSyntax), {Raw: b}}},
		{"bad first and last item", head + `{1},` + a + `,{2}]}`, []got{bad(`{1}`, ReasonSyntax), {Raw: a}, bad(`{2}`, ReasonSyntax)}},
		{"bad word", head + a + `,oops,` + b + "]}", []got{{Raw: a}, bad(`oops`, ReasonSyntax), {Raw: b}}},
		{"no item between commas", head + a + `,,` + b + "]}", []got{{Raw: a}, bad("", ReasonSyntax), {Raw: b}}},
		{"comma at the end", head + a + `,]}`, []got{{Raw: a}, bad("", ReasonSyntax)}},
		{"no comma", head + a + b + `]}`, []got{{Raw: a}, bad("", ReasonSyntax), {Raw: b}}},
		{"text between items", head + a + `oops,` + b + `]}`, []got{{Raw: a}, bad("", ReasonSyntax), bad("oops", ReasonSyntax), {Raw: b}}},
		{
			"quote missing", head + a + `,{"auditID":"x},` + b + "," + c + "]}",
			[]got{{Raw: a}, bad(`{"auditID":"x},`, ReasonSyntax), found(b), found(c)},
		},
		{
			"brace missing", head + a + `,{"auditID":"x","user":{"n":"m"},` + b + "," + c + "]}\n" + a,
			[]got{{Raw: a}, bad(`{"auditID":"x","user":{"n":"m"},`, ReasonSyntax), found(b), found(c), {Raw: a}},
		},
		{"control character", head + "{\"auditID\":\"x\ny\"}," + b + "]}", []got{bad("{\"auditID\":\"x\ny\"},", ReasonSyntax), found(b)}},
		{"cut list, next line", head + a + `,{"auditID":"x","user":[` + "\n[" + b + "]\n" + c, []got{{Raw: a}, bad(`{"auditID":"x","user":[`, ReasonTruncated), {Raw: b}, {Raw: c}}},
		{
			"broken head", `{"kind":"EventList","metadata":{oops},"items":[` + a + "," + b + "]}",
			[]got{bad(`"metadata":{oops},"items":`, ReasonSyntax), {Raw: a}, {Raw: b}},
		},
		{"broken tail", head + a + `],oops}` + "\n" + b, []got{{Raw: a}, bad("", ReasonSyntax), bad("oops}", ReasonSyntax), {Raw: b}}},
		{"two closings", head + a + `]}}` + b, []got{{Raw: a}, bad(`}`, ReasonSyntax), {Raw: b}}},
		{"too deep", head + a + "," + deep + "," + b + "]}", []got{{Raw: a}, bad(deep, ReasonTooDeep), {Raw: b}}},
		{"too large", head + a + "," + large + "," + b + "]}", []got{{Raw: a}, bad(large, ReasonTooLarge), {Raw: b}}},
		{"no events", head + `1,"x",null,true,[` + a + `],{},{"log":"x"},` + a + `]}`, []got{
			bad("1", ReasonNotEvent), bad(`"x"`, ReasonNotEvent), bad("null", ReasonNotEvent), bad("true", ReasonNotEvent),
			bad("["+a+"]", ReasonNotEvent), bad("{}", ReasonNotEvent), bad(`{"log":"x"}`, ReasonNotEvent),
			{Raw: a},
		}},
		{"list in a list", head + head + a + "]}," + a + "]}", []got{bad(head+a+"]}", ReasonNotEvent), {Raw: a}}},
		{"other kinds", `{"kind":"Pod","auditID":"x"}{"kind":7,"auditID":"x"}{"kind":"PodList","items":[` + a + `]}`, []got{
			bad(`{"kind":"Pod","auditID":"x"}`, ReasonNotEvent), bad(`{"kind":7,"auditID":"x"}`, ReasonNotEvent),
			bad(`{"kind":"PodList","items":[`+a+`]}`, ReasonNotEvent),
		}},
		{"core event", `{"kind":"Event","apiVersion":"v1","auditID":"x"}`, []got{bad(`{"kind":"Event","apiVersion":"v1","auditID":"x"}`, ReasonNotEvent)}},
		{"items no array", `{"kind":"EventList","items":{}}`, []got{bad(`{"kind":"EventList","items":{}}`, ReasonNotEvent)}},
		{"stage without verb", `{"stage":"Panic"}`, []got{bad(`{"stage":"Panic"}`, ReasonNotEvent)}},
		{"auditID no string", `{"auditID":7}`, []got{bad(`{"auditID":7}`, ReasonNotEvent)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, collect(t, tt.body)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// The fields must be those that any JSON decoder finds, whatever the encoding.
func TestFields(t *testing.T) {
	full := schemas.FingerprintFields{
		AuditID: "i", Stage: "ResponseComplete", RequestReceived: "2026-11-21T03:29:35.069667Z", StageTime: "t",
		Username: "ünal <x>", Verb: "list", RequestURI: "/api?a=1&b=2", Code: "200",
	}
	with := func(change func(*schemas.FingerprintFields)) schemas.FingerprintFields {
		f := full
		change(&f)
		return f
	}
	form := `{"auditID":%s,"stage":"ResponseComplete","requestURI":"/api?a=1\u0026b=2","verb":"list",` +
		`"user":{"uid":"u","username":%s,"groups":["username"]},"responseStatus":{"metadata":{"code":7},"code":%s},` +
		`"requestReceivedTimestamp":"2026-11-21T03:29:35.069667Z","stageTimestamp":"t"}`
	for _, tt := range []struct {
		name, body string
		want       schemas.FingerprintFields
	}{
		{"plain", fmt.Sprintf(form, `"i"`, `"ünal <x>"`, "200"), full},
		{"escaped", fmt.Sprintf(form, `"\u0069"`, `"\u00fcnal \u003cx\u003e"`, "200"), full},
		{"floating point", fmt.Sprintf(form, `"i"`, `"ünal <x>"`, "200.0"), full},
		{"exponent", fmt.Sprintf(form, `"i"`, `"ünal <x>"`, "2e2"), full},
		{"code 0", fmt.Sprintf(form, `"i"`, `"ünal <x>"`, "0"), with(func(f *schemas.FingerprintFields) { f.Code = "" })},
		{"code of no number", fmt.Sprintf(form, `"i"`, `"ünal <x>"`, `"x"`), with(func(f *schemas.FingerprintFields) { f.Code = `"x"` })},
		{"huge code", fmt.Sprintf(form, `"i"`, `"ünal <x>"`, "1e400"), with(func(f *schemas.FingerprintFields) { f.Code = "1e400" })},
		{"user is null", fmt.Sprintf(form, `"i"`, `"x"},"user":null,"u":{"x":1`, "200"), with(func(f *schemas.FingerprintFields) { f.Username = "" })},
		{"duplicate key", fmt.Sprintf(form, `"first","auditID":"i"`, `"first","username":"ünal <x>"`, "1,\"code\":200"), full},
		{"invalid UTF-8", fmt.Sprintf(form, `"i"`, "\"\xff\"", "200"), with(func(f *schemas.FingerprintFields) { f.Username = "\ufffd" })},
		{"as the API server writes it", fmt.Sprintf(form, `"i"`, `"\ufffd"`, "200"), with(func(f *schemas.FingerprintFields) { f.Username = "\ufffd" })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s Splitter
			n := 0
			s.Split([]byte(`[{"auditID":"before","verb":"x","user":{"username":"y"}},`+tt.body+`]`), func(item *Item) bool {
				if n++; n == 2 {
					if diff := cmp.Diff(tt.want, item.Fields); diff != "" {
						t.Errorf("-want +got:\n%s", diff)
					}
				}
				return true
			})
			if n != 2 {
				t.Errorf("%d items, want 2", n)
			}
		})
	}
}

func TestSplitStops(t *testing.T) {
	for _, body := range []string{a + a + a, "[" + a + "," + a + "]", "[1,2,3]", `{"items":[` + a + "," + a + "]}"} {
		n := 0
		var s Splitter
		s.Split([]byte(body), func(*Item) bool { n++; return false })
		if n != 1 {
			t.Errorf("%s: %d items after yield returned false, want 1", body, n)
		}
	}
}

func TestManyItems(t *testing.T) {
	const n = 100_000
	body := `{"kind":"EventList","items":[` + strings.Repeat(a+",", n-1) + a + `]}`
	if items := collect(t, body); len(items) != n {
		t.Errorf("%d items, want %d", len(items), n)
	}
}

// A hostile body must not become more dead letters or more work than it has bytes to pay for.
func TestFaultsAreBounded(t *testing.T) {
	const n = 1 << 14
	for name, body := range map[string]string{
		"numbers":       "[" + strings.Repeat("1,", n) + "1]",
		"open objects":  "[" + strings.Repeat(`{x,`, n),
		"open strings":  "[" + strings.Repeat(`{"x,`, n),
		"near events":   "[{x" + strings.Repeat(`,{"auditID":1,"stage":[`, n),
		"open lists":    strings.Repeat(`{"kind":"EventList",x`, n),
		"heads":         `{"kind":"EventList",x` + strings.Repeat(`"items"`, n),
		"broken braces": strings.Repeat(`{x}`, n),
		"nested lists":  strings.Repeat(`{"items":[`, n),
		"commas":        "[" + strings.Repeat(`,`, n) + "]",
		"closings":      strings.Repeat(`]`, n),
		"list in tail":  strings.Repeat(`{"items":[],"":`, n),
		"list in list":  strings.Repeat(`{"items":[],"items":[`, n),
		"far line":      "[" + strings.Repeat(`{"x",`+a+`,`, n) + "\n{",
		"look-ahead":    "[" + strings.Repeat(`{"items":[{}],"x":[`, n),
	} {
		t.Run(name, func(t *testing.T) {
			var s Splitter
			items, joined := 0, 0
			s.Split([]byte(body), func(item *Item) bool {
				items++
				joined += len(item.Raw)
				return true
			})
			if items > 2*maxFaults {
				t.Errorf("%d faults, want at most %d", items, 2*maxFaults)
			}
			if joined > len(body) {
				t.Errorf("the faults hold %d bytes of %d", joined, len(body))
			}
			if slack := 2 * len(body); s.budget < -slack {
				t.Errorf("searched %d bytes beyond the budget", -s.budget)
			}
		})
	}
}

var seeds = []string{
	`{"kind":"EventList","items":[` + a + `,` + b + `]}`, `[` + a + `,1,` + b + `]`, a + "\n" + b + "\n{oops}\n" + c, a + b,
	`{"items":[` + a + `],"kind":"EventList"}`, `{"kind":"EventList","metadata":{x},"items":[` + a + `]}`,
	`[` + a + `,{"auditID":"x,` + b + `]`, `[` + a + `,{"auditID":[},` + b + `]`, `{"items":[` + a + `,,]}`, "hello {\n" + a,
	"\xef\xbb\xbf" + a, `{"auditID":"\ud800` + "\xff" + `"}`, `[[` + a + `]]`, `{"kind":"EventList","items":[1`, `-`, `"\u12`, `]`, `{}}`,
}

// The splitter never panics, agrees with encoding/json on what is JSON, accounts for
// every byte of a broken input that is not a separator, and splits a concatenation of
// valid inputs into the events of both.
func FuzzSplit(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		items := collect(t, string(body))
		end, events, syntaxFaults := 0, 0, 0
		var s Splitter
		s.Split(body, func(item *Item) bool {
			if item.Offset < end {
				t.Fatalf("%q: the item at %d overlaps the one before, which ends at %d", body, item.Offset, end)
			}
			end = item.Offset + len(item.Raw)
			switch {
			case item.Fault == nil:
				events++
				if !json.Valid(item.Raw) {
					t.Fatalf("event %q of %q is not JSON", item.Raw, body)
				}
				sameInAnyOrder(t, item)
			case item.Fault.Reason != ReasonNotEvent && item.Fault.Reason != ReasonTooLarge:
				syntaxFaults++
			}
			return true
		})
		if events+len(items) > maxFaults {
			return // joined faults have one reason
		}
		if valid := isStream(body); valid != (syntaxFaults == 0) {
			t.Fatalf("%q: encoding/json says valid: %v; got %d syntax faults: %v", body, valid, syntaxFaults, items)
		}
		if syntaxFaults == 0 && !bytes.HasPrefix(body, []byte("\xef\xbb\xbf")) {
			twice := append(append(bytes.Clone(body), '\n'), body...)
			if diff := cmp.Diff(append(items, items...), collect(t, string(twice))); diff != "" {
				t.Fatalf("%q twice: -want +got:\n%s", body, diff)
			}
		}
		around := `{"kind":"EventList","items":[` + a + `]}` + "\n" + string(body) + "\n" + c
		all := collect(t, around)
		if len(all) == 0 || all[0] != (got{Raw: a}) || !slices.Contains(all, got{Raw: c}) && !slices.Contains(all, found(c)) {
			t.Fatalf("%q cost its neighbours: %v", body, all)
		}
	})
}

// isStream reports whether body is JSON values one after the other. A number or a word
// right before another value is not told apart by encoding/json alone, which is fine
// here: both sides read 1true as two values.
// sameInAnyOrder checks that the fields do not depend on the order of the keys, as a shipper
// that sorts them would change it; of equal keys it keeps the last one.
func sameInAnyOrder(t *testing.T, item *Item) {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(item.Raw, &members); err != nil {
		t.Fatal(err)
	}
	sorted, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	var s Splitter
	s.Split(sorted, func(other *Item) bool {
		if other.Fault != nil || other.Fields != item.Fields || item.Damage == "" && other.Damage != "" {
			t.Fatalf("%q gives %+v, in order of its keys %+v", item.Raw, item, other)
		}
		return true
	})
}

// The recorded events have their keys in the order of the API server.
func TestOrderOfKeys(t *testing.T) {
	n := 0
	var s Splitter
	s.Split(recordedList(t, 500, 1<<30), func(item *Item) bool {
		sameInAnyOrder(t, item)
		n++
		return true
	})
	if n != 500 {
		t.Errorf("%d events, want 500", n)
	}
}

func isStream(body []byte) bool {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	d := json.NewDecoder(bytes.NewReader(body))
	for d.More() {
		var raw json.RawMessage
		if d.Decode(&raw) != nil {
			return false
		}
	}
	return len(bytes.TrimSpace(body[min(int(d.InputOffset()), len(body)):])) == 0
}
