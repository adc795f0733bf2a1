package enrich

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	clusters "github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/schemas"
)

// sameEvents fails unless two rows are the same, whether or not their callers were remembered.
func sameEvents(t *testing.T, got, want *schemas.Event, raw []byte) {
	t.Helper()
	a, b := *got, *want
	a.Caller, b.Caller = 0, 0
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		x, y := va.Field(i), vb.Field(i)
		if x.Kind() == reflect.Slice && x.Len() == 0 && y.Len() == 0 {
			continue // nil or not
		}
		if !reflect.DeepEqual(x.Interface(), y.Interface()) {
			t.Fatalf("%s is %v, without memory it is %v: %s", va.Type().Field(i).Name, x, y, raw)
		}
	}
}

// Rows are the same whether or not anything of their callers is remembered, while the context changes as the events say.
func TestCallersAreRemembered(t *testing.T) {
	store := clusters.NewStore(clusters.DefaultConfig())
	with, without := newTransformer(), newTransformer()
	with.join, without.join = NewJoiner(store, nil), NewJoiner(store, nil)
	without.join.callers = nil
	var fields schemas.FingerprintFields
	known := map[uint64]string{}
	remembered := 0
	for round := range 2 {
		for i, raw := range recording(t) {
			h := headers{cluster: fmt.Sprint("c", i%2), source: schemas.SourceFile, received: int64(i)}
			id := with.hasher.EventID(h.cluster, raw)
			fingerprint := with.hasher.Fingerprint(h.cluster, &fields)
			got, err := with.event(raw, &h, id, fingerprint)
			if err != nil {
				t.Fatal(err)
			}
			want, err := without.event(raw, &h, id, fingerprint)
			if err != nil {
				t.Fatal(err)
			}
			if want.Caller != 0 {
				t.Fatalf("caller %d without memory", want.Caller)
			}
			sameEvents(t, got, want, raw)
			if with.waits(got) != without.waits(want) {
				t.Fatalf("waits is %t: %s", with.waits(got), raw)
			}
			who := fmt.Sprintf("%q %q %q %q", got.User, got.UserUID, got.Groups, got.Extra)
			if before, ok := known[got.Caller]; ok && got.Caller != 0 {
				remembered++
				if before != who {
					t.Fatalf("caller %d is %s, and before was %s", got.Caller, who, before)
				}
			}
			known[got.Caller] = who
			if round == 0 || i%7 == 0 {
				// What cannot be followed is not what this is about.
				_, _, _ = store.Event(h.cluster, got)
			}
		}
	}
	if remembered == 0 {
		t.Error("no caller came twice")
	}
}

func FuzzCallers(f *testing.F) {
	for _, user := range []string{
		`{"username":"a","uid":"1","groups":["g","h"],"extra":{"k":["v"]}}`, `{"username":"a"}`, `{"username":"}"}`, `{"username":"\u0061}}"}`,
		`{}`, `null`, `5`, `"}"`, `{"username":5}`, `{"groups":[5]}`, `{"extra":{"a":{}}}`, `{"username":"a","username":"b"}`, `{"username":"a"`,
		`{ "username" : "a" } `, `{"username":"a","x":{"y":{}}}`, `{"extra":{"k":["}}"]}}`,
	} {
		f.Add(user, `,"verb":"get"`, user)
		f.Add(user, `,"user":null`, `{"username":"b","groups":[]}`)
		f.Add(user, ``, user+`}`)
	}
	f.Fuzz(func(t *testing.T, first, between, second string) {
		with, without := decoder{known: newCallers()}, decoder{}
		for _, raw := range []string{
			`{"user":` + first + between + `}`, `{"user":` + second + between + `}`, `{"user":` + first + `}`,
			`{"user":` + first + `,"user":` + second + `}`, `{"a":1,"user":` + first + between,
		} {
			for range 2 {
				got, err := with.decode([]byte(raw), "")
				want, wrong := without.decode([]byte(strings.Clone(raw)), "")
				if fmt.Sprint(err) != fmt.Sprint(wrong) {
					t.Fatalf("%q: %v, without memory %v", raw, err, wrong)
				}
				if err == nil {
					got.Raw, want.Raw = nil, nil
					sameEvents(t, got, want, []byte(raw))
				}
			}
		}
	})
}

// What is remembered of callers is bounded, and outlives the memory of the events that it came from.
func TestCallersAreBounded(t *testing.T) {
	d := decoder{known: newCallers()}
	raw := make([]byte, 0, 2000)
	for i := range maxCallers * 3 {
		raw = fmt.Appendf(raw[:0], `{"user":{"username":"u%d","groups":["g%d"],"extra":{"k":["v%d"]}}, "verb":"get"}`, i, i, i)
		if _, err := d.decode(raw, ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(d.known.young) + len(d.known.old); n > maxCallers {
		t.Errorf("%d callers are remembered, at most %d should be", n, maxCallers)
	}
	last := maxCallers*3 - 1
	raw = fmt.Appendf(raw[:0], `{"user":{"username":"u%d","groups":["g%d"],"extra":{"k":["v%d"]}}, "verb":"list"}`, last, last, last)
	e, err := d.decode(raw, "")
	if err != nil || e.Caller == 0 {
		t.Fatalf("caller %d, %v", e.Caller, err)
	}
	if got, want := fmt.Sprintf("%s %s %s", e.User, e.Groups, e.Extra), fmt.Sprintf("u%d [g%d] [{k [v%d]}]", last, last, last); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	long := fmt.Appendf(nil, `{"user":{"username":"%s"}, "verb":"get"}`, strings.Repeat("u", maxCallerBytes))
	for range 2 {
		if e, err = d.decode(long, ""); err != nil || e.Caller != 0 || len(e.User) != maxCallerBytes {
			t.Errorf("a caller of %d bytes has number %d, %v", len(e.User), e.Caller, err)
		}
	}
}
