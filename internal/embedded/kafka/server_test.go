package kafka

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("TEST_KAFKA_BROKER"); dir != "" {
		os.Exit(brokerMain(dir))
	}
	os.Exit(m.Run())
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func testConfig(dir string) Config {
	cfg := DefaultConfig()
	cfg.Dir = dir
	return cfg
}

func startServer(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newClient(t testing.TB, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addr),
		kgo.ProducerBatchMaxBytes(40 << 20),
		kgo.BrokerMaxReadBytes(256 << 20),
		kgo.FetchMaxWait(50 * time.Millisecond),
		kgo.RequestRetries(50),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func createTopic(t testing.TB, addr, topic string, partitions int32, configs map[string]string) {
	t.Helper()
	values := make(map[string]*string, len(configs))
	for key, value := range configs {
		values[key] = new(value)
	}
	admin := kadm.NewClient(newClient(t, addr))
	if _, err := admin.CreateTopic(testContext(t), partitions, 1, values, topic); err != nil {
		t.Fatal(err)
	}
}

// readAll returns the committed values of a topic, partition after partition.
func readAll(t testing.TB, addr, topic string) []string {
	t.Helper()
	ctx := testContext(t)
	client := newClient(t, addr, kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	ends, err := kadm.NewClient(client).ListCommittedOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	starts, err := kadm.NewClient(client).ListStartOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	open := make(map[int32]int64)
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(topic, end.Partition)
		if end.Offset > start.Offset {
			open[end.Partition] = end.Offset
		}
	})
	values := make(map[int32][]string)
	for len(open) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				values[r.Partition] = append(values[r.Partition], string(r.Value))
			}
			if r.Offset+1 >= open[r.Partition] {
				delete(open, r.Partition)
			}
		})
	}
	var all []string
	for partition := range int32(64) {
		all = append(all, values[partition]...)
	}
	return all
}

func produce(t testing.TB, client *kgo.Client, topic string, values ...string) {
	t.Helper()
	for _, value := range values {
		record := &kgo.Record{Topic: topic, Key: []byte(value), Value: []byte(value)}
		if err := client.ProduceSync(testContext(t), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStartStop(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	s := startServer(t, cfg)
	createTopic(t, s.Addr(), "large", 1, nil)
	large := &kgo.Record{Topic: "large", Value: bytes.Repeat([]byte("x"), 32<<20)}
	client := newClient(t, s.Addr())
	if err := client.ProduceSync(testContext(t), large).FirstErr(); err != nil {
		t.Fatal(err)
	}
	client.Close()

	if _, err := Start(cfg); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "pid") {
		t.Errorf("second start: got %v", err)
	}
	id := s.ClusterID()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	cfg.ClusterID = "another"
	again := startServer(t, cfg)
	if again.ClusterID() != id {
		t.Errorf("cluster id: got %q, want %q", again.ClusterID(), id)
	}
	if got := readAll(t, again.Addr(), "large"); len(got) != 1 || len(got[0]) != 32<<20 {
		t.Errorf("records after a restart: got %d", len(got))
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	for _, password := range []string{"first", "second"} {
		cfg.Username, cfg.Password = "auditmill", password
		s := startServer(t, cfg)
		for _, tc := range []struct {
			password string
			want     bool
		}{{password, true}, {"wrong", false}} {
			client := newClient(t, s.Addr(), kgo.SASL(scram.Auth{
				User: "auditmill", Pass: tc.password,
			}.AsSha256Mechanism()), kgo.RequestRetries(0))
			if err := client.Ping(testContext(t)); (err == nil) != tc.want {
				t.Errorf("password %q of %q: got %v", tc.password, password, err)
			}
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}
