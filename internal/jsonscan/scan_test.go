package jsonscan

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

var samples = []string{
	`{}`, `[]`, `null`, `true`, `false`, `0`, `-0`, `1.5e-7`, `-12E+3`, `""`, `"a"`, `"é\u00e9\ud83d\ude00\ud83d\n\/"`,
	`{"a":1,"b":[1,2,{"c":null}],"a":"x"}`, " \n{ \"a\" :\t[ 1 , 2 ] }\r ", `["12345678","1234567\"","\\\\\\\\\\\\\\\\"]`,
	``, ` `, `{`, `[`, `"`, `"\`, `"\u12`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `[1,]`, `[1 2]`, `{a:1}`, `{"a" 1}`,
	`01`, `1.`, `.5`, `-`, `+1`, `1e`, `tru`, `truE`, `nul`, `fals`, `"` + "\x01" + `"`, "\"\xff\"", `"\x"`, `1 2`, `{}}`, `]`, "\"12345678\x1f\"",
}

// The rules of RFC 8259 are those of encoding/json, so it is the oracle.
func FuzzValid(f *testing.F) {
	for _, s := range samples {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := Valid(data)
		if want := json.Valid(data); (err == nil) != want {
			t.Fatalf("Valid(%q) = %v, encoding/json says %v", data, err, want)
		}
		compareFast(t, data)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(data) {
				t.Fatalf("Valid(%q): offset outside the text: %v", data, err)
			}
			return
		}
		compareValue(t, data)
	})
}

// compareFast checks that the fast way and the slow one take the same values to the same end.
func compareFast(t *testing.T, data []byte) {
	t.Helper()
	for at := range min(len(data)+1, 64) {
		end, err := skip(data, at, 0)
		got := fast(data, at)
		if err != nil && got >= 0 || err == nil && got != end && !deep(data[at:end]) {
			t.Fatalf("%q at %d: the fast way ends at %d, the slow one at %d: %v", data, at, got, end, err)
		}
		valueAt, err := skipKey(data, at)
		if keyEnd, value, ok := Key(data, at); ok != (err == nil) || ok && (value != valueAt || data[keyEnd-1] != '"') {
			t.Fatalf("%q at %d: the fast way says that a key ends at %d, %d, the slow one at %d: %v",
				data, at, keyEnd, value, valueAt, err)
		}
		if walked, err := walk(data[at:]); err == nil && walked != end-at {
			t.Fatalf("%q at %d: walking ends at %d, skipping at %d", data, at, walked, end-at)
		}
	}
}

// deep reports whether value may be nested too deeply for the fast way.
func deep(value []byte) bool {
	return bytes.Count(value, []byte("["))+bytes.Count(value, []byte("{")) >= fastDepth
}

// walk enters whatever can be entered of the value that text begins with, and returns where it ends.
func walk(text []byte) (int, error) {
	if text = bytes.Clone(text); len(text) == 0 || text[0] != '{' && text[0] != '[' {
		return Skip(text, 0)
	}
	it := Iter{data: text, object: text[0] == '{'}
	walkAll(&it)
	return it.End(), it.Err()
}

func walkAll(it *Iter) {
	for it.NextKey() {
		if c := it.First(); c != '{' && c != '[' {
			it.Skip()
			continue
		}
		inner := it.Enter()
		walkAll(&inner)
		it.Leave(&inner)
	}
}

func compareValue(t *testing.T, data []byte) {
	t.Helper()
	data = bytes.TrimSpace(data)
	switch data[0] {
	case '{':
		var want map[string]json.RawMessage
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatal(err)
		}
		it := Object(data)
		for it.Next() {
			key, _ := String(append(append([]byte{'"'}, it.Key()...), '"'))
			if _, ok := want[key]; !ok || !KeyIs(it.Key(), key) {
				t.Fatalf("key %q of %q", key, data)
			}
			compareValue(t, it.Value())
		}
		if it.Err() != nil || it.End() != len(data) {
			t.Fatalf("walking %q: %v, ended at %d", data, it.Err(), it.End())
		}
		for key, raw := range want {
			if got, ok := Get(data, key); !ok || !bytes.Equal(got, raw) {
				t.Fatalf("Get(%q, %q) = %q, want %q", data, key, got, raw)
			}
			if got, end, ok := Member(data, 0, key); !ok && !deep(data) || ok && (!bytes.Equal(got, raw) || end != len(data)) {
				t.Fatalf("Member(%q, %q) = %q, %d, %v, want %q", data, key, got, end, ok, raw)
			}
		}
	case '[':
		var want []json.RawMessage
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatal(err)
		}
		it, n := Array(data), 0
		for it.Next() {
			if !bytes.Equal(it.Value(), want[n]) || !bytes.HasPrefix(data[it.Offset():], it.Value()) {
				t.Fatalf("element %d of %q = %q", n, data, it.Value())
			}
			compareValue(t, it.Value())
			n++
		}
		if n != len(want) || it.Err() != nil {
			t.Fatalf("%d elements of %q, want %d: %v", n, data, len(want), it.Err())
		}
		for it, n = Array(data), 0; it.NextKey(); n++ {
			if text, ok := it.Text(); !ok {
				it.Skip()
			} else if got, _ := String(want[n]); got != string(text) || !Plain(text) || !bytes.Equal(it.Value(), want[n]) {
				t.Fatalf("element %d of %q is the text %q", n, data, text)
			}
		}
		if n != len(want) || it.Err() != nil {
			t.Fatalf("%d elements of %q with their texts, want %d: %v", n, data, len(want), it.Err())
		}
	case '"':
		var want string
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatal(err)
		}
		if got, ok := String(data); !ok || got != want {
			t.Fatalf("String(%q) = %q, want %q", data, got, want)
		}
	}
}

func TestInt(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "-7": -7, "9223372036854775807": 1<<63 - 1, "200": 200} {
		if got, ok := Int([]byte(text)); !ok || got != want {
			t.Errorf("Int(%s) = %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "-", "1.0", "1e3", `"1"`, "9223372036854775808", "99999999999999999999999", "null"} {
		if got, ok := Int([]byte(text)); ok {
			t.Errorf("Int(%s) = %d, want none", text, got)
		}
	}
}

func TestDepth(t *testing.T) {
	deep := strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)
	if err := Valid([]byte(deep)); err != nil {
		t.Errorf("%d deep: %v", MaxDepth, err)
	}
	if err := Valid([]byte("[" + deep + "]")); err == nil {
		t.Errorf("%d deep: no error", MaxDepth+1)
	}
}

func BenchmarkValid(b *testing.B) {
	f, err := os.Open("../../testdata/recording/sample.jsonl.gz")
	if err != nil {
		b.Skip("no recording: ", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		b.Fatal(err)
	}
	var lines [][]byte
	size := 0
	for s := bufio.NewReader(z); ; {
		line, err := s.ReadBytes('\n')
		if err != nil {
			break
		}
		lines, size = append(lines, line), size+len(line)
	}
	b.SetBytes(int64(size / len(lines)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := Valid(lines[i%len(lines)]); err != nil {
			b.Fatal(err)
		}
	}
}
