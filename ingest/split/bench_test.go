package split

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditmill/auditmill/schemas"
)

// recordedList returns an EventList of n recorded events, without kind and apiVersion as
// the webhook sends them. Events above limit bytes are left out.
func recordedList(tb testing.TB, n, limit int) []byte {
	tb.Helper()
	f, err := os.Open("../../testdata/recording/sample.jsonl.gz")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	body := []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`)
	lines := bufio.NewReader(z)
	for n > 0 {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			tb.Fatal(err)
		}
		if len(line) > limit {
			continue
		}
		body = append(body, '{')
		body = append(body, bytes.TrimPrefix(line, []byte(`{"kind":"Event","apiVersion":"audit.k8s.io/v1",`))...)
		body[len(body)-1] = ','
		n--
	}
	return append(body[:len(body)-1], "]}\n"...)
}

// cpuTime is what the process has used, whatever else runs on the machine.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkSplit is the pure part of the way of an event: split, validate, hash.
func BenchmarkSplit(b *testing.B) {
	for _, bb := range []struct {
		name  string
		limit int
	}{{"all", 1 << 30}, {"below6KiB", 6 << 10}, {"below3KiB", 3 << 10}} {
		b.Run(bb.name, func(b *testing.B) {
			body := recordedList(b, 4000, bb.limit)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			var s Splitter
			var h schemas.Hasher
			events, before := 0, cpuTime(b)
			for b.Loop() {
				s.Split(body, func(item *Item) bool {
					if item.Fault != nil {
						b.Fatal(item.Fault.Detail)
					}
					h.Fingerprint("cluster", &item.Fields)
					events++
					return true
				})
			}
			b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(events)/(cpuTime(b)-before).Seconds(), "events/cpu-s")
			b.ReportMetric(float64(len(body))/4000, "B/event")
		})
	}
}

// The recorded bodies of a real API server hold nothing but events.
func TestRecordedBodies(t *testing.T) {
	files, err := filepath.Glob("../../../shared/data/kube/webhook/post-*[0-9].json.gz")
	if err != nil || len(files) == 0 {
		t.Skip("no recorded bodies here")
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		n, size := 0, 0
		var s Splitter
		s.Split(body, func(item *Item) bool {
			if item.Fault != nil || item.Fields.AuditID == "" || item.Fields.StageTime == "" {
				t.Errorf("%s: %+v", name, item)
			}
			n, size = n+1, size+len(item.Raw)+1
			return true
		})
		head := bytes.IndexByte(body, '[') + 1
		if want := len(body) - head - len("}\n"); size != want {
			t.Errorf("%s: %d events of %d bytes in all, want %d bytes", name, n, size, want)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
