package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/ingest/replay"
	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/load"
	"github.com/auditmill/auditmill/offline"
	"github.com/auditmill/auditmill/testdata/recording"
)

// TestLiveReplayAndBacktestAgree sends the recording, whose people and networks are known, through all services and then asks
// for its rows and alerts: what is in the file, in the topic and in the table, and what was raised. All are the same, column
// for column and id for id.
func TestLiveReplayAndBacktestAgree(t *testing.T) {
	lines, err := recording.Lines()
	if err != nil {
		t.Fatal(err)
	}
	f := newFleet(t)
	kafkaPort, chPort, port := freePort(t), freePort(t), freePort(t)
	config := fmt.Sprintf(`
kafka: {brokers: ["127.0.0.1:%[1]d"]}
topics: {partitions: 4, replication: 1}
clickhouse: {addresses: ["127.0.0.1:%[2]d"]}
embedded: {data_dir: %[3]q, clickhouse: {port: %[2]d}, kafka: {port: %[1]d, sync: false}}
ops: {listen: "127.0.0.1:0"}
ingest: {webhook: {listen: "127.0.0.1:%[4]d", anonymous: [c0]}}
`, kafkaPort, chPort, f.dir, port)
	if err := os.WriteFile(f.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	f.firstLine(f.start("kafka", "embedded", "kafka"))
	credentials := strings.Fields(f.firstLine(f.start("clickhouse", "embedded", "clickhouse")))
	t.Setenv("AUDITMILL_CLICKHOUSE_USER", credentials[1])
	t.Setenv("AUDITMILL_CLICKHOUSE_PASSWORD", credentials[2])
	f.run("topics", "--create")
	f.run("migrate", "--apply")
	known := known(t)
	for flag, list := range map[string][]byte{"--people": recording.People(), "--ranges": recording.Networks()} {
		if err := f.imports(flag, strings.TrimLeft(flag, "-"), list); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"ingest", "enrich", "alert", "load"} {
		f.start(name, name)
	}
	cfg := replay.DefaultConfig()
	// As a webhook sends them they would have other bytes, and so other ids, than in the file.
	cfg.URL, cfg.Cluster, cfg.AsIs = fmt.Sprintf("http://127.0.0.1:%d", port), "c0", true
	if _, err := replay.Events(t.Context(), cfg, lines); err != nil {
		t.Fatal(err)
	}
	server := load.DefaultClickHouse()
	server.Addresses = []string{fmt.Sprintf("127.0.0.1:%d", chPort)}
	server.User, server.Password = credentials[1], conf.Secret(credentials[2])
	conn, err := load.Connect(server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	waitFor(t, conn, "SELECT toInt64(count()) FROM auditmill.events", int64(len(lines)))

	pack, err := offline.Sources{}.Load()
	if err != nil {
		t.Fatal(err)
	}
	broker := kafka.DefaultConfig()
	broker.Brokers = []string{fmt.Sprintf("127.0.0.1:%d", kafkaPort)}
	raise := func(name string, history offline.History) []string {
		raised, err := offline.Raise(t.Context(), pack, history)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var alerts []string
		for id, a := range raised.Arrived {
			alerts = append(alerts, a.Title+" "+id)
		}
		slices.Sort(alerts)
		return alerts
	}
	file := offline.Recorded(lines, known, "c0")
	want := raise("file", file)
	if len(want) < 100 {
		t.Fatalf("only %d alerts", len(want))
	}
	expectRows(t, conn, lines, known, "c0")
	topic := offline.Topic(broker, time.Time{})
	rows := map[string]map[string]string{}
	for name, history := range map[string]offline.History{"file": file, "topic": topic} {
		if rows[name], err = offline.Rows(t.Context(), history); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if wrong := unlike(rows["file"], rows["topic"]); len(wrong) > 0 {
		t.Errorf("the file and the topic differ in %d rows, such as %s", len(wrong), wrong[0])
	}
	if d := cmp.Diff(want, raise("table", offline.ClickHouse(conn, "auditmill", offline.Range{}))); d != "" {
		t.Errorf("the file and the table differ (-file +table):\n%s", d)
	}
	// What rows told first that were corrected later is in the topic, and was raised.
	first := raise("all rows", offline.ClickHouse(conn, "auditmill", offline.Range{Versions: true}))
	early := func(alert string) bool { return !slices.Contains(want, alert) && slices.Contains(first, alert) }
	if d := cmp.Diff(want, slices.DeleteFunc(raise("topic", topic), early)); d != "" {
		t.Errorf("the file and the topic differ (-file +topic):\n%s", d)
	}
	waiting := []string{"''"}
	for i := range pack.Correlations {
		if c := &pack.Correlations[i]; !offline.OnArrival(c) {
			waiting = append(waiting, "'"+c.ID+"'")
		}
	}
	where := " FROM auditmill.alerts FINAL WHERE rule NOT IN (" + strings.Join(waiting, ", ") + ")"
	waitFor(t, conn, "SELECT toInt64(count())"+where, int64(len(want)))
	var live []string
	raised, err := conn.Query(t.Context(), "SELECT concat(title, ' ', id)"+where)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raised.Close() }()
	for raised.Next() {
		var alert string
		if err := raised.Scan(&alert); err != nil {
			t.Fatal(err)
		}
		live = append(live, alert)
	}
	if err := raised.Err(); err != nil {
		t.Fatal(err)
	}
	live = slices.DeleteFunc(live, early)
	slices.Sort(live)
	if d := cmp.Diff(want, live); d != "" {
		t.Errorf("the file and what was raised differ (-file +live):\n%s", d)
	}
}
