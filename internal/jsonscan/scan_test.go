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
