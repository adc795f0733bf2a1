package file

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/auditmill/auditmill/internal/kafka"
)

// recorder is a publisher that remembers what it was given.
type recorder struct {
	clusters []string
	bodies   []string
	dead     []kafka.Dead
	// fail is asked before each call, and its error returned; kept says that the body
	// was published all the same.
	fail func() (err error, kept bool)
}

func (r *recorder) Publish(_ context.Context, cluster string, body []byte) error {
	err, kept := r.failure()
	if kept {
		r.clusters = append(r.clusters, cluster)
		r.bodies = append(r.bodies, string(body))
	}
	return err
}

func (r *recorder) Dead(_ context.Context, cluster string, letter kafka.Dead) error {
	err, kept := r.failure()
	if kept {
		letter.Value = bytes.Clone(letter.Value)
		r.clusters = append(r.clusters, cluster)
		r.dead = append(r.dead, letter)
	}
	return err
}

func (r *recorder) failure() (err error, kept bool) { //nolint:revive // see fail
	if r.fail == nil {
		return nil, true
	}
	return r.fail()
}

func (r *recorder) text() string { return strings.Join(r.bodies, "") }

// bench is a directory of logs, a source that reads it, and a clock.
type bench struct {
	*testing.T
	dir  string
	cfg  Config
	out  *recorder
	time time.Time
	logs bytes.Buffer
	reg  *prometheus.Registry
	src  *Source
}

func newBench(t *testing.T, paths ...string) *bench {
	t.Helper()
	b := &bench{T: t, dir: t.TempDir(), out: &recorder{}, time: time.Now(), cfg: DefaultConfig()}
	b.cfg.Checkpoint = filepath.Join(t.TempDir(), "state", "files.json")
	for _, p := range paths {
		b.cfg.Inputs = append(b.cfg.Inputs, Input{Path: b.path(p), Cluster: "prod"})
	}
	t.Cleanup(b.stop)
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) start() {
	b.Helper()
	b.reg = prometheus.NewRegistry()
	s, err := New(b.cfg, b.out, Deps{
		Logger: slog.New(slog.NewTextHandler(&b.logs, nil)), Registry: b.reg,
	})
	if err != nil {
		b.Fatal(err)
	}
	s.now = func() time.Time { return b.time }
	if err := s.open(); err != nil {
		b.Fatal(err)
	}
	b.src = s
}

// stop ends the source in good order; crash ends it without a last checkpoint.
func (b *bench) stop() {
	if b.src != nil {
		if err := b.src.close(); err != nil {
			b.Error(err)
		}
		b.src = nil
	}
}

func (b *bench) crash() {
	b.src.checkpoint.dirty = false
	b.stop()
}

// scan lets a second pass, and the source look until it has nothing to do.
func (b *bench) scan() {
	b.Helper()
	if b.src == nil {
		b.start()
	}
	b.time = b.time.Add(time.Second)
	for range 100 {
		if !b.src.pass(b.Context()) {
			return
		}
	}
	b.Fatal("the source has something to do for ever")
}

func (b *bench) append(name, text string) {
	b.Helper()
	f, err := os.OpenFile(b.path(name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		b.Fatal(err)
	}
	b.touch(name)
}

// touch gives a file the time of the test's clock.
func (b *bench) touch(name string) {
	b.Helper()
	b.time = b.time.Add(time.Millisecond)
	b.must(os.Chtimes(b.path(name), b.time, b.time))
}

func (b *bench) rename(from, to string) {
	b.Helper()
	b.must(os.Rename(b.path(from), b.path(to)))
}

func (b *bench) remove(name string) {
	b.Helper()
	b.must(os.Remove(b.path(name)))
}

func (b *bench) truncate(name string) {
	b.Helper()
	b.must(os.Truncate(b.path(name), 0))
	b.touch(name)
}

func (b *bench) copy(from, to string) {
	b.Helper()
	b.write(to, b.read(from))
}

// compress writes a compressed copy, as rotation does before it removes the original.
func (b *bench) compress(from, to string) {
	b.Helper()
	b.write(to, pack(b.read(from)))
}

func (b *bench) read(name string) string {
	b.Helper()
	text, err := os.ReadFile(b.path(name))
	b.must(err)
	return string(text)
}

func (b *bench) write(name, text string) {
	b.Helper()
	b.must(os.WriteFile(b.path(name), []byte(text), 0o600))
	b.touch(name)
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// wantText checks everything that was published so far.
func (b *bench) wantText(want string) {
	b.Helper()
	if got := b.out.text(); got != want {
		b.Errorf("published\n%s\nwant\n%s\nlogs\n%s", brief(got), brief(want), b.logs.String())
	}
}

func (b *bench) wantMetric(name string, want float64) {
	b.Helper()
	if got := b.metric(name, ""); got != want {
		b.Errorf("%s is %v, want %v", name, got, want)
	}
}

func (b *bench) metric(name, reason string) float64 {
	b.Helper()
	families, err := b.reg.Gather()
	b.must(err)
	for _, f := range families {
		if f.GetName() != "auditmill_ingest_file_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if l := m.GetLabel(); reason == "" || l[0].GetValue() == reason {
				return value(m)
			}
		}
	}
	b.Fatalf("there is no metric %s{%s}", name, reason)
	return 0
}

func value(m *dto.Metric) float64 {
	if m.GetGauge() != nil {
		return m.GetGauge().GetValue()
	}
	return m.GetCounter().GetValue()
}

func pack(text string) string {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, err := io.WriteString(z, text)
	if err != nil || z.Close() != nil {
		return ""
	}
	return buf.String()
}

// lines gives events that differ from each other.
func lines(first, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"kind":"Event","auditID":"%06d","pad":"%s"}`+"\n", first+i, strings.Repeat("x", (first+i)*7%300))
	}
	return b.String()
}

// once leaves out the lines that were there before.
func once(text string) string {
	seen := map[string]bool{}
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !seen[line] {
			b.WriteString(line)
		}
		seen[line] = true
	}
	return b.String()
}

// brief shortens what lines made to their numbers.
func brief(s string) string {
	s = regexp.MustCompile(`\{"kind":"Event","auditID":"0*(\d+)","pad":"x*"\}\n`).ReplaceAllString(s, "$1 ")
	if len(s) > 600 {
		return fmt.Sprintf("%s…%s (%d bytes)", s[:300], s[len(s)-300:], len(s))
	}
	return s
}

func sortStrings(all []string) []string {
	slices.Sort(all)
	return all
}
