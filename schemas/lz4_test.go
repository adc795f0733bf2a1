package schemas

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/pierrec/lz4/v4"
)

func unframed(t testing.TB, frame []byte) []byte {
	t.Helper()
	plain, err := io.ReadAll(lz4.NewReader(bytes.NewReader(frame)))
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

var lz4Searches = []lz4Search{lz4Texts, lz4Numbers}

func TestLZ4(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	noise := make([]byte, 9<<20)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	text := []byte(strings.Repeat(`{"kind":"Event","verb":"get","user":{"username":"system:serviceaccount:a:b"}}`, 1000))
	mixed := bytes.Clone(noise[:300<<10])
	for range 2000 {
		from, to, n := r.IntN(len(mixed)), r.IntN(len(mixed)), r.IntN(600)
		copy(mixed[to:min(to+n, len(mixed))], mixed[from:])
	}
	var w lz4Writer
	for name, src := range map[string][]byte{
		"nothing": nil, "a byte": {1}, "noise": noise[:100<<10], "text": text, "mixed": mixed, "long noise": noise,
		"zeros": make([]byte, 5<<20), "many blocks": bytes.Repeat(text, 120),
	} {
		t.Run(name, func(t *testing.T) {
			for _, search := range lz4Searches {
				frame := w.appendFrame([]byte("before"), src, search)
				if !bytes.Equal(unframed(t, frame[len("before"):]), src) {
					t.Fatal("another text comes back")
				}
				if most := len(src) + 64; len(frame) > most {
					t.Errorf("%d bytes for %d", len(frame), len(src))
				}
				if again := new(lz4Writer).appendFrame([]byte("before"), src, search); !bytes.Equal(again, frame) {
					t.Error("fresh memory gives other bytes")
				}
			}
		})
	}
	for n := range 200 { // the ends of blocks
		for _, src := range [][]byte{text[:n], mixed[:n], append(bytes.Repeat([]byte("a"), n), noise[:n%7]...)} {
			for _, search := range lz4Searches {
				if !bytes.Equal(unframed(t, w.appendFrame(nil, src, search)), src) {
					t.Fatalf("%q: another text comes back", src)
				}
			}
		}
	}
}

// Positions are counted in 32 bits, and the count begins anew before it ends.
func TestLZ4Wraps(t *testing.T) {
	text := []byte(strings.Repeat("all the same, all the same, and this. ", 30))
	want := new(lz4Writer).appendFrame(nil, text, lz4Texts)
	w := &lz4Writer{base: 1<<32 - lz4MaxPlain - 3*lz4Window}
	for range 6 {
		if got := w.appendFrame(nil, text, lz4Texts); !bytes.Equal(got, want) {
			t.Fatalf("other bytes at %d", w.base)
		}
	}
	if w.base > 1<<20 {
		t.Errorf("the count did not begin anew: %d", w.base)
	}
}

func FuzzLZ4(f *testing.F) {
	f.Add([]byte("abcabcabcabcabcabcabcabcabc"), uint8(3))
	f.Add(bytes.Repeat([]byte{0}, 100), uint8(200))
	var w lz4Writer
	f.Fuzz(func(t *testing.T, src []byte, times uint8) {
		src = bytes.Repeat(src, int(times)+1)
		for _, search := range lz4Searches {
			if !bytes.Equal(unframed(t, w.appendFrame(nil, src, search)), src) {
				t.Error("another text comes back")
			}
		}
	})
}

// BenchmarkLZ4 compresses the recorded events, one behind the other.
func BenchmarkLZ4(b *testing.B) {
	f, err := os.Open("../testdata/recording/sample.jsonl.gz")
	if err != nil {
		b.Skip(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		b.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		b.Fatal(err)
	}
	text = text[:min(len(text), lz4MaxBlock)]
	b.Run("ours", func(b *testing.B) {
		var w lz4Writer
		var out []byte
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			out = w.appendFrame(out[:0], text, lz4Texts)
		}
		b.ReportMetric(float64(len(text))/float64(len(out)), "ratio")
	})
	b.Run("pierrec", func(b *testing.B) {
		var out bytes.Buffer
		w := lz4.NewWriter(&out)
		if err := w.Apply(lz4.ChecksumOption(false), lz4.BlockSizeOption(lz4.Block64Kb)); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			out.Reset()
			w.Reset(&out)
			if _, err := w.Write(text); err != nil {
				b.Fatal(err)
			}
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(text))/float64(out.Len()), "ratio")
	})
}
