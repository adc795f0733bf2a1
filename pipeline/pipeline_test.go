package pipeline

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/internal/embedded/clickhouse"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/load"
	"github.com/auditmill/auditmill/schemas"
)

func TestMain(m *testing.M) {
	clickhouse.RunChildIfAsked()
	os.Exit(m.Run())
}

func TestDefaultsAreValid(t *testing.T) {
	if _, err := conf.Load(DefaultConfig(), conf.Options{}); err != nil {
		t.Error(err)
	}
}

func TestFaultsNameTheirKeys(t *testing.T) {
	_, err := conf.Load(DefaultConfig(), conf.Options{Set: []string{
		"embedded.kafka.port=70000", "embedded.data_dir=", "topics.partitions=0", "topics.replication=0", "enrich.max_rows=0",
	}})
	for _, key := range []string{"embedded.kafka.port", "embedded.data_dir", "topics.partitions", "topics.replication", "enrich.max_rows"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("no fault for %s in: %v", key, err)
		}
	}
}

func TestTopicsError(t *testing.T) {
	if err := TopicsError([]kafka.TopicState{{Name: "a", Status: kafka.TopicOK}, {Name: "b", Status: kafka.TopicCreated}}); err != nil {
		t.Error(err)
	}
	err := TopicsError([]kafka.TopicState{
		{Name: "a", Status: kafka.TopicMissing},
		{Name: "b", Status: kafka.TopicDiffers, Diffs: []kafka.Diff{{Key: "partitions", Want: "12", Got: "3"}}},
	})
	if err == nil || !strings.Contains(err.Error(), "a is missing") || !strings.Contains(err.Error(), "b: partitions is 3, should be 12") {
		t.Errorf("got: %v", err)
	}
}

// Servers on a directory are prepared once and found as they were the next time.
func TestServersAreDurable(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Embedded.DataDir = t.TempDir()
	cfg.Embedded.Kafka.Port, cfg.Embedded.ClickHouse.Port, cfg.Embedded.Kafka.Sync = 0, 0, false
	for round := range 2 {
		s, err := StartServers(t.Context(), cfg.Embedded, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Configure(&cfg)
		states, err := EnsureTopics(t.Context(), &cfg, false)
		if err != nil {
			t.Fatal(err)
		}
		want := kafka.TopicMissing
		if round == 1 {
			want = kafka.TopicOK
		}
		if len(states) != len(schemas.Topics(1)) || slices.ContainsFunc(states, func(s kafka.TopicState) bool { return s.Status != want }) {
			t.Errorf("round %d: topics are %+v, want all %s", round, states, want)
		}
		if warning, err := ReplicationWarning(t.Context(), &cfg, states); warning != "" || err != nil {
			t.Errorf("round %d: the embedded Kafka is warned of: %q, %v", round, warning, err)
		}
		if err := Prepare(t.Context(), &cfg); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		conn, err := load.Connect(cfg.ClickHouse)
		if err != nil {
			t.Fatal(err)
		}
		if err := load.Query(t.Context(), conn, cfg.ClickHouse.Database, "SELECT count() FROM events", "TSV", io.Discard); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if text := s.Describe(); !strings.Contains(text, s.ProxyAddr) || strings.Contains(text, s.ClickHouse.Password()) {
			t.Errorf("the description lacks the address or tells the admin's password:\n%s", text)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
