package file

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/auditmill/auditmill/internal/kafka"
)

// nowhere takes everything at once, so that only the reading is measured.
type nowhere struct{ bytes int }

func (n *nowhere) Publish(_ context.Context, _ string, body []byte) error {
	n.bytes += len(body)
	return nil
}

func (n *nowhere) Dead(context.Context, string, kafka.Dead) error { return nil }

// BenchmarkRead reads a file of recorded events from its begin to its end.
func BenchmarkRead(b *testing.B) {
	text, events := recorded(b)
	for name, content := range map[string]string{"plain": string(text), "gzip": pack(string(text))} {
		b.Run(name, func(b *testing.B) {
			cfg := DefaultConfig()
			dir := b.TempDir()
			cfg.Follow, cfg.Inputs = false, []Input{{Path: filepath.Join(dir, "audit.log"), Cluster: "prod"}}
			if err := os.WriteFile(cfg.Inputs[0].Path, []byte(content), 0o600); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			run := 0
			for b.Loop() {
				run++
				cfg.Checkpoint = filepath.Join(b.TempDir(), fmt.Sprint(run))
				out := &nowhere{}
				s, err := New(cfg, out, Deps{})
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Run(b.Context()); err != nil || out.bytes != len(text) {
					b.Fatalf("read %d bytes of %d, error %v", out.bytes, len(text), err)
				}
			}
			b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// recorded gives about 64 MiB of the recording that is shipped.
func recorded(b *testing.B) (text []byte, events int) {
	b.Helper()
	f, err := os.Open("../../testdata/recording/sample.jsonl.gz")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		b.Fatal(err)
	}
	var once bytes.Buffer
	if _, err := once.ReadFrom(zip); err != nil {
		b.Fatal(err)
	}
	text = bytes.Repeat(once.Bytes(), 1+64<<20/once.Len())
	return text, bytes.Count(text, []byte{'\n'})
}
