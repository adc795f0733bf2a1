package kafka

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// crash returns a copy of a running broker's files: what a kill at this moment would leave.
func crash(t *testing.T, s *Server) string {
	t.Helper()
	dir := t.TempDir()
	err := filepath.WalkDir(s.cfg.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.cfg.Dir, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(dir, rel), 0o700)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, rel), data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// stageTxn opens a transaction with a record in both partitions of "out" and an offset of "in"
// with metadata, and leaves it open.
func stageTxn(t *testing.T, addr, txid, value string, offset int64) *kgo.Client {
	t.Helper()
	ctx := testContext(t)
	client := newClient(t, addr, kgo.TransactionalID(txid), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for partition := range int32(2) {
		record := &kgo.Record{Topic: "out", Partition: partition, Value: []byte(value)}
		if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	id, epoch, err := client.ProducerID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = txid, id, epoch
	req.Group, req.Generation = "group", -1
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic = "in"
	part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	part.Offset, part.Metadata = offset, new("pending "+value)
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopics(ctx, "in")
	if err != nil {
		t.Fatal(err)
	}
	req.Topics[0].TopicID = topics["in"].ID
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range resp.Topics {
		for _, part := range topic.Partitions {
			if part.ErrorCode != 0 {
				t.Fatalf("staging offsets: error %d", part.ErrorCode)
			}
		}
	}
	return client
}

type committed struct {
	Offset   int64
	Metadata string
}

func groupOffset(t *testing.T, addr string) committed {
	t.Helper()
	offsets, err := kadm.NewClient(newClient(t, addr)).FetchOffsets(testContext(t), "group")
	if errors.Is(err, kerr.GroupIDNotFound) {
		return committed{-1, ""}
	}
	if err != nil {
		t.Fatal(err)
	}
	offset, _ := offsets.Lookup("in", 0)
	return committed{offset.At, offset.Metadata}
}

// TestEndOfTransaction ends the broker at every step of the end of a transaction.
func TestEndOfTransaction(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig(t.TempDir()))
	createTopic(t, s.Addr(), "in", 1, nil)
	createTopic(t, s.Addr(), "out", 2, nil)
	client := stageTxn(t, s.Addr(), "id", "v", 7)

	open := crash(t, s)
	decided := ""
	s.cluster.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		if decided == "" {
			decided = crash(t, s)
		}
		return nil, nil, false
	})
	if err := client.EndTransaction(testContext(t), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	ended := crash(t, s)
	marked := func(t *testing.T) string {
		t.Helper()
		// The broker got as far as the end of the first partition.
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(decided)); err != nil {
			t.Fatal(err)
		}
		for _, suffix := range []string{segmentSuffix, indexSuffix} {
			name := filepath.Join(logsDir, "partitions", "out-0", "0"+suffix)
			copyFile(t, filepath.Join(ended, name), filepath.Join(dir, name))
		}
		return dir
	}
	unanswered := func(t *testing.T) string {
		t.Helper()
		// The broker got as far as the offsets.
		dir := marked(t)
		for _, suffix := range []string{segmentSuffix, indexSuffix} {
			name := filepath.Join(logsDir, "partitions", "out-1", "0"+suffix)
			copyFile(t, filepath.Join(ended, name), filepath.Join(dir, name))
		}
		copyFile(t, filepath.Join(ended, logsDir, "groups.log"), filepath.Join(dir, logsDir, "groups.log"))
		return dir
	}
	for _, tc := range []struct {
		name string
		dir  func(*testing.T) string
		want []string
		done bool
	}{
		{"open", func(*testing.T) string { return open }, nil, false},
		{"decided", func(*testing.T) string { return decided }, []string{"v", "v"}, true},
		{"first partition marked", marked, []string{"v", "v"}, true},
		{"all but the answer", unanswered, []string{"v", "v"}, true},
		{"ended", func(*testing.T) string { return ended }, []string{"v", "v"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := tc.dir(t)
			want := committed{-1, ""}
			if tc.done {
				want = committed{7, "pending v"}
			}
			// The second crash reads what the first recovery wrote.
			for range 2 {
				again := startServer(t, testConfig(dir))
				if got := groupOffset(t, again.Addr()); got != want {
					t.Errorf("offset: got %+v, want %+v", got, want)
				}
				if !tc.done {
					// The transaction is open until its producer comes back.
					next := newClient(t, again.Addr(), kgo.TransactionalID("id"))
					if _, _, err := next.ProducerID(testContext(t)); err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(tc.want, readAll(t, again.Addr(), "out")); diff != "" {
					t.Errorf("records: %s", diff)
				}
				dir = crash(t, again)
			}
		})
	}
}

// TestOpenTransaction goes on with a transaction after a crash and after an orderly end.
func TestOpenTransaction(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		again func(*testing.T, *Server) string
	}{
		{"crash", crash},
		{"stop", func(t *testing.T, s *Server) string {
			t.Helper()
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			return s.cfg.Dir
		}},
		{"stop and crash", func(t *testing.T, s *Server) string {
			t.Helper()
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			return crash(t, startServer(t, s.cfg))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, testConfig(t.TempDir()))
			createTopic(t, s.Addr(), "in", 1, nil)
			createTopic(t, s.Addr(), "out", 2, nil)
			client := stageTxn(t, s.Addr(), "id", "v", 7)
			id, epoch, err := client.ProducerID(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			again := startServer(t, testConfig(tc.again(t, s)))
			end := kmsg.NewPtrEndTxnRequest()
			end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = "id", id, epoch, true
			resp, err := end.RequestWith(testContext(t), newClient(t, again.Addr()))
			if err != nil || resp.ErrorCode != 0 {
				t.Fatalf("ending the transaction: %v, %+v", err, resp)
			}
			if diff := cmp.Diff([]string{"v", "v"}, readAll(t, again.Addr(), "out")); diff != "" {
				t.Errorf("records: %s", diff)
			}
			if got, want := groupOffset(t, again.Addr()), (committed{7, "pending v"}); got != want {
				t.Errorf("offset: got %+v, want %+v", got, want)
			}
		})
	}
}

// TestDamagedEnds cuts files as a kill in the middle of a write does.
func TestDamagedEnds(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig(t.TempDir()))
	createTopic(t, s.Addr(), "in", 1, nil)
	produce(t, newClient(t, s.Addr()), "in", "a", "b")
	dir := crash(t, s)
	for _, damage := range []string{"\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x01\x00half a batch"} {
		for _, name := range []string{"partitions/in-0/0.dat", "partitions/in-0/0.idx", "groups.log", "pids.log"} {
			if err := appendToFile(filepath.Join(dir, logsDir, name), []byte(damage)); err != nil {
				t.Fatal(err)
			}
		}
		again := startServer(t, testConfig(dir))
		admin := kadm.NewClient(newClient(t, again.Addr()))
		var commit kadm.Offsets
		commit.AddOffset("in", 0, 2, -1)
		if err := admin.CommitAllOffsets(testContext(t), "group", commit); err != nil {
			t.Fatal(err)
		}
		dir = crash(t, again)
	}
	again := startServer(t, testConfig(dir))
	if got := groupOffset(t, again.Addr()); got.Offset != 2 {
		t.Errorf("offset: got %+v, want 2", got)
	}
	if diff := cmp.Diff([]string{"a", "b"}, readAll(t, again.Addr(), "in")); diff != "" {
		t.Errorf("records: %s", diff)
	}
}

// TestRetriedBatch sends a batch again that was stored before the crash but not acknowledged.
func TestRetriedBatch(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig(t.TempDir()))
	createTopic(t, s.Addr(), "in", 1, nil)
	var raw []byte
	s.cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if produce, ok := req.(*kmsg.ProduceRequest); ok {
			raw = slices.Clone(produce.Topics[0].Partitions[0].Records)
		}
		return nil, nil, false
	})
	client := newClient(t, s.Addr())
	produce(t, client, "in", "a", "b")
	again := startServer(t, testConfig(crash(t, s)))
	admin := kadm.NewClient(newClient(t, again.Addr()))
	topics, err := admin.ListTopics(testContext(t), "in")
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 1000
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.TopicID = "in", topics["in"].ID
	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = raw
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(testContext(t), newClient(t, again.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Topics[0].Partitions[0]; got.ErrorCode != 0 || got.BaseOffset != 1 {
		t.Errorf("answer: got error %d, offset %d; want offset 1", got.ErrorCode, got.BaseOffset)
	}
	if diff := cmp.Diff([]string{"a", "b"}, readAll(t, again.Addr(), "in")); diff != "" {
		t.Errorf("records: %s", diff)
	}
}

// TestFormat fails when the broker's files are no longer what recovery understands.
func TestFormat(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig(t.TempDir()))
	createTopic(t, s.Addr(), "in", 1, nil)
	produce(t, newClient(t, s.Addr()), "in", "a")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	dir := partitionDir(s.logs(), "in", 0)
	var want snapshot
	if _, err := readJSON(filepath.Join(dir, snapshotFile), &want); err != nil {
		t.Fatal(err)
	}
	part, err := scanPartition("in", 0, dir)
	if err != nil {
		t.Fatal(err)
	}
	got := part.snapshot(0)
	for i := range got.Segments {
		got.Segments[i].batches = 0
	}
	got.CreatedAt, want.CreatedAt = time.Time{}, time.Time{}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(segmentInfo{})); diff != "" {
		t.Errorf("summary of the broker (-) and of recovery (+):\n%s", diff)
	}
}
