package kafka

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func produceKeyed(t *testing.T, addr, topic string, pairs ...string) {
	t.Helper()
	client := newClient(t, addr, kgo.ProducerBatchCompression(kgo.NoCompression()))
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		record := &kgo.Record{Topic: topic, Key: []byte(key), Value: []byte(value)}
		if err := client.ProduceSync(testContext(t), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func endOffset(t *testing.T, addr, topic string) int64 {
	t.Helper()
	ends, err := kadm.NewClient(newClient(t, addr)).ListEndOffsets(testContext(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	return end.Offset
}

func TestRetention(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	cfg.RetentionBytes = 100 << 10
	s := startServer(t, cfg)
	hour := fmt.Sprint(time.Hour.Milliseconds())
	for topic, configs := range map[string]map[string]string{
		"aged":    {"cleanup.policy": "delete", "retention.ms": hour},
		"kept":    {"cleanup.policy": "delete"},
		"state":   {"cleanup.policy": "compact"},
		"sized":   {"cleanup.policy": "delete", "segment.bytes": "20000"},
		"history": {"cleanup.policy": "compact,delete", "retention.ms": hour},
	} {
		createTopic(t, s.Addr(), topic, 1, configs)
		produceKeyed(t, s.Addr(), topic, "a=1", "b=1", "a=2")
	}
	large := strings.Repeat("x", 10_000)
	for range 20 {
		produceKeyed(t, s.Addr(), "sized", "k="+large)
	}
	if err := s.janitor.round(testContext(t), time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, s.Addr(), "aged"); len(got) != 3 {
		t.Errorf("aged before its time: %v", got)
	}
	// Retention by size goes by whole segments.
	if got := len(readAll(t, s.Addr(), "sized")); got < 8 || got > 12 {
		t.Errorf("sized: %d records", got)
	}
	if err := s.janitor.round(testContext(t), time.Now().Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string][]string{
		"aged": {"2"}, "kept": {"1", "1", "2"}, "state": {"1", "1", "2"}, "history": {"2"},
	} {
		if diff := cmp.Diff(want, readAll(t, s.Addr(), topic)); diff != "" {
			t.Errorf("%s: %s", topic, diff)
		}
	}
}

// TestCompaction compacts, and interrupts a compaction in the middle.
func TestCompaction(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig(t.TempDir()))
	createTopic(t, s.Addr(), "state", 1, map[string]string{"cleanup.policy": "compact"})
	produceKeyed(t, s.Addr(), "state", "a=1", "b=1", "a=2", "c=1")

	links := filepath.Join(s.cfg.Dir, compactingDir, "state-0")
	if err := linkSegments(partitionDir(s.logs(), "state", 0), links); err != nil {
		t.Fatal(err)
	}
	before := crash(t, s)
	s.janitor.compacted = -compactGrowth
	if err := s.janitor.round(testContext(t), time.Now()); err != nil {
		t.Fatal(err)
	}
	want := []string{"1", "2", "1"}
	if diff := cmp.Diff(want, readAll(t, s.Addr(), "state")); diff != "" {
		t.Errorf("compacted: %s", diff)
	}
	if _, err := os.Stat(links); !os.IsNotExist(err) {
		t.Errorf("links stayed: %v", err)
	}
	for name, tc := range map[string]struct {
		damage func(dir string) error
		want   []string
	}{
		"before it began": {func(string) error { return nil }, []string{"1", "1", "2", "1"}},
		"files removed":   {func(dir string) error { return os.RemoveAll(dir) }, []string{"1", "1", "2", "1"}},
		"half written": {func(dir string) error {
			return os.Truncate(segmentPath(dir, 0, segmentSuffix), 100)
		}, []string{"1", "1", "2", "1"}},
		"written": {func(dir string) error {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			return os.CopyFS(dir, os.DirFS(partitionDir(s.logs(), "state", 0)))
		}, want},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(before)); err != nil {
				t.Fatal(err)
			}
			if err := tc.damage(partitionDir(filepath.Join(dir, logsDir), "state", 0)); err != nil {
				t.Fatal(err)
			}
			again := startServer(t, testConfig(dir))
			if diff := cmp.Diff(tc.want, readAll(t, again.Addr(), "state")); diff != "" {
				t.Errorf("after a restart: %s", diff)
			}
		})
	}
}

// TestCompactionLag compacts beside a topic of which old versions are kept for a while, and is interrupted while that is hidden.
func TestCompactionLag(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig(t.TempDir()))
	createTopic(t, s.Addr(), "state", 1, map[string]string{"cleanup.policy": "compact"})
	createTopic(t, s.Addr(), "versions", 1, map[string]string{"cleanup.policy": "compact", "min.compaction.lag.ms": "3600000"})
	for _, topic := range []string{"state", "versions"} {
		produceKeyed(t, s.Addr(), topic, "a=1", "b=1", "a=2", "c=1")
	}
	s.janitor.compacted = -compactGrowth
	if err := s.janitor.round(testContext(t), time.Now()); err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string][]string{"state": {"1", "2", "1"}, "versions": {"1", "1", "2", "1"}} {
		if diff := cmp.Diff(want, readAll(t, s.Addr(), topic)); diff != "" {
			t.Errorf("%s: %s", topic, diff)
		}
	}
	expectPolicy := func(s *Server, want string) {
		t.Helper()
		policies, err := s.janitor.policies(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := policies["versions"].cleanup; got != want {
			t.Errorf("cleanup.policy is %s, want %s", got, want)
		}
	}
	expectPolicy(s, "compact")

	policies, err := s.janitor.policies(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.janitor.setCleanup(testContext(t), policies, strings.ToUpper); err != nil {
		t.Fatal(err)
	}
	expectPolicy(s, "COMPACT")
	again := startServer(t, testConfig(crash(t, s)))
	expectPolicy(again, "compact")
}

// TestEmptyPartition restarts on a partition that has lost its last record.
func TestEmptyPartition(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig(t.TempDir()))
	createTopic(t, s.Addr(), "history", 1,
		map[string]string{"cleanup.policy": "compact,delete", "retention.ms": "0"})
	produceKeyed(t, s.Addr(), "history", "a=1", "b=1", "a=2")
	s.janitor.compacted = -compactGrowth
	if err := s.janitor.round(testContext(t), time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, s.Addr(), "history"); len(got) != 0 {
		t.Fatalf("records stayed: %v", got)
	}
	crashed := crash(t, s)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{crashed, s.cfg.Dir} {
		again := startServer(t, testConfig(dir))
		if got := endOffset(t, again.Addr(), "history"); got < 3 {
			t.Errorf("end offset: got %d, want at least 3", got)
		}
		produceKeyed(t, again.Addr(), "history", "c=3")
		if diff := cmp.Diff([]string{"3"}, readAll(t, again.Addr(), "history")); diff != "" {
			t.Errorf("records: %s", diff)
		}
	}
}
