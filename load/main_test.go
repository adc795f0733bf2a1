package load

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/internal/embedded/clickhouse"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// engine is the ClickHouse that all tests share; each has a database of its own.
var engine struct {
	once   sync.Once
	server *clickhouse.Server
	err    error
	dir    string
}

func TestMain(m *testing.M) {
	clickhouse.RunChildIfAsked()
	code := m.Run()
	if engine.server != nil {
		if err := engine.server.Stop(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		_ = os.RemoveAll(engine.dir)
	}
	os.Exit(code)
}

func testServer(tb testing.TB) *clickhouse.Server {
	tb.Helper()
	engine.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		cfg := clickhouse.DefaultConfig()
		if cfg.Library, engine.err = clickhouse.Library(ctx, clickhouse.LibraryConfig{
			Path: os.Getenv("AUDITMILL_TEST_LIBCHDB"), Progress: clickhouse.NewProgress(os.Stderr),
		}); engine.err != nil {
			return
		}
		//nolint:usetesting // it outlives the first test
		if engine.dir, engine.err = os.MkdirTemp("", "auditmill-load-"); engine.err != nil {
			return
		}
		cfg.Dir, cfg.MaxMemory = engine.dir, 3<<30
		engine.server, engine.err = clickhouse.Start(ctx, cfg)
	})
	if engine.err != nil {
		tb.Fatal(engine.err)
	}
	return engine.server
}

var databases atomic.Int64

// testClickHouse returns a new, empty database.
func testClickHouse(tb testing.TB) ClickHouse {
	tb.Helper()
	server := testServer(tb)
	c := DefaultClickHouse()
	c.Addresses = []string{server.HTTPAddr()}
	c.Database = fmt.Sprintf("test_%d", databases.Add(1))
	c.User, c.Password = server.User(), conf.Secret(server.Password())
	c.QueryTimeout = 30 * time.Second
	c.Retention, c.AlertRetention = 0, 0 // the recording is older than any retention
	return c
}

func testConn(tb testing.TB, c ClickHouse) Conn {
	tb.Helper()
	conn, err := Connect(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// testDatabase returns a new database with all migrations.
func testDatabase(tb testing.TB) (ClickHouse, Conn) {
	tb.Helper()
	c := testClickHouse(tb)
	conn := testConn(tb, c)
	if _, err := Migrate(tb.Context(), conn, c.SQL()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = conn.Exec(context.WithoutCancel(tb.Context()), "DROP DATABASE IF EXISTS "+c.Database+" SYNC")
	})
	return c, conn
}

// ask returns the result of a query as tab-separated text.
func ask(tb testing.TB, conn Conn, c ClickHouse, sql string, args ...any) string {
	tb.Helper()
	var out bytes.Buffer
	if err := Query(tb.Context(), conn, c.Database, fmt.Sprintf(sql, args...), "TSV", &out); err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSuffix(out.String(), "\n")
}

func testKafka(tb testing.TB, partitions int32) kafka.Config {
	tb.Helper()
	_, cfg := testCluster(tb, partitions)
	return cfg
}

func testCluster(tb testing.TB, partitions int32) (*kfake.Cluster, kafka.Config) {
	tb.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second),
		kfake.BrokerConfigs(map[string]string{"message.max.bytes": "67108864"}),
		kfake.SeedTopics(partitions, schemas.TopicEnriched), kfake.SeedTopics(1, schemas.TopicAlerts, schemas.TopicDead))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(cluster.Close)
	cfg := kafka.DefaultConfig()
	cfg.Brokers = cluster.ListenAddrs()
	return cluster, cfg
}

// recorded returns events of the recording; those that do not fit the few fields below stay out.
func recorded(tb testing.TB, limit int) []*schemas.Event {
	tb.Helper()
	f, err := os.Open("../testdata/recording/sample.jsonl.gz")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	var events []*schemas.Event
	lines := bufio.NewReaderSize(z, 1<<20)
	for len(events) < limit {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			tb.Fatal(err)
		}
		if e := decodeEvent(bytes.TrimSpace(line), len(events)); e != nil {
			events = append(events, e)
		}
	}
	return events
}

type recordedEvent struct {
	Level, AuditID, Stage, RequestURI, Verb, UserAgent string
	User                                               struct {
		Username, UID string
		Groups        []string
		Extra         map[string][]string
	}
	SourceIPs                                []string
	ObjectRef                                struct{ Resource, Namespace, Name, APIGroup, APIVersion, Subresource string }
	ResponseStatus                           struct{ Code uint16 }
	RequestReceivedTimestamp, StageTimestamp time.Time
	Annotations                              map[string]string
}

func decodeEvent(line []byte, n int) *schemas.Event {
	var r recordedEvent
	if json.Unmarshal(line, &r) != nil {
		return nil
	}
	e := &schemas.Event{
		Cluster: "test", Platform: "kubernetes", Source: schemas.SourceFile,
		ReceivedAt: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixMicro() + int64(n)*1000,
		EventTime:  r.RequestReceivedTimestamp.UnixMicro(), StageTime: r.StageTimestamp.UnixMicro(),
		Level: r.Level, Stage: r.Stage, AuditID: r.AuditID, Verb: r.Verb, RequestURI: r.RequestURI,
		APIGroup: r.ObjectRef.APIGroup, APIVersion: r.ObjectRef.APIVersion, Resource: r.ObjectRef.Resource,
		Subresource: r.ObjectRef.Subresource, Namespace: r.ObjectRef.Namespace, Name: r.ObjectRef.Name,
		UserAgent: r.UserAgent, Code: r.ResponseStatus.Code, User: r.User.Username, UserUID: r.User.UID,
		Groups: r.User.Groups, SourceIPs: r.SourceIPs, Actor: r.User.Username, Raw: line,
		Outcome: outcome(&r), Decision: r.Annotations["authorization.k8s.io/decision"],
	}
	for k, v := range r.User.Extra {
		e.Extra = append(e.Extra, schemas.KeyValues{Key: k, Values: v})
	}
	for k, v := range r.Annotations {
		e.Annotations = append(e.Annotations, schemas.KeyValue{Key: k, Value: v})
	}
	var h schemas.Hasher
	e.EventID = h.EventID(e.Cluster, strconv.AppendInt(slices.Clip(line), int64(n), 10))
	return e
}

func outcome(r *recordedEvent) string {
	switch {
	case r.Stage == "RequestReceived":
		return "received"
	case r.ResponseStatus.Code == 403:
		return "denied"
	case r.ResponseStatus.Code >= 400:
		return "failed"
	}
	return "success"
}

// values turns events into records of rows each, as if from a partition of audit.raw.v1.
func values(tb testing.TB, partition int32, firstOffset int64, rows int, events []*schemas.Event) [][]byte {
	tb.Helper()
	b := schemas.NewBuilder()
	var out [][]byte
	for i, e := range events {
		copied := *e
		copied.RawPartition, copied.RawOffset = partition, firstOffset+int64(i)
		b.Append(&copied)
		if b.Rows() == rows || i == len(events)-1 {
			out = append(out, b.Encode())
			b.Reset()
		}
	}
	return out
}

func testClient(tb testing.TB, cfg kafka.Config, opts ...kgo.Opt) *kgo.Client {
	tb.Helper()
	client, err := kafka.NewClient(cfg, append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return client
}

func produce(tb testing.TB, client *kgo.Client, topic string, partition int32, values ...[]byte) {
	tb.Helper()
	var records []*kgo.Record
	for _, value := range values {
		records = append(records, &kgo.Record{
			Topic: topic, Partition: partition, Value: value,
			Headers: []kgo.RecordHeader{{Key: schemas.HeaderVersion, Value: []byte("1")}},
		})
	}
	if err := client.ProduceSync(tb.Context(), records...).FirstErr(); err != nil {
		tb.Fatal(err)
	}
}

// consumed returns everything in a topic.
func consumed(tb testing.TB, cfg kafka.Config, topic string) []*kgo.Record {
	tb.Helper()
	client := testClient(tb, cfg, kgo.ConsumeTopics(topic))
	ctx, cancel := context.WithTimeout(tb.Context(), 500*time.Millisecond)
	defer cancel()
	var all []*kgo.Record
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return all
		}
		all = append(all, fetches.Records()...)
	}
}

// testConfig makes small ranges without waiting.
func testConfig() Config {
	cfg := DefaultConfig()
	cfg.MaxRows, cfg.MaxAge, cfg.SmallPerSecond = 1000, 20*time.Millisecond, 1000
	cfg.RetryMin, cfg.RetryMax = 5*time.Millisecond, 50*time.Millisecond
	cfg.SessionTimeout = 6 * time.Second
	return cfg
}

// running is a service that runs in a test.
type running struct {
	*Service
	cancel context.CancelFunc
	done   chan error
}

func start(tb testing.TB, cfg Config, k kafka.Config, c ClickHouse) *running {
	tb.Helper()
	log := slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	s, err := New(cfg, Deps{Kafka: k, ClickHouse: c, Logger: log, Registry: prometheus.NewRegistry()})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	r := &running{Service: s, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- s.Run(ctx) }()
	return r
}

func (r *running) stop(tb testing.TB) {
	tb.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		tb.Errorf("Run: %v", err)
	}
}

// eventually polls, because ClickHouse and Kafka cannot be asked to call back.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-timeout.C:
			tb.Fatalf("not within a minute: %s", what)
		}
	}
}

// checkOnce waits until want events are in the table and checks that none is there twice and that the
// rollups agree.
func awaitEvents(tb testing.TB, conn Conn, c ClickHouse, want int) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%d events", want), func() bool {
		// The rollups are written after the events, within the same insert.
		return ask(tb, conn, c, "SELECT (SELECT uniqExact(event_id) FROM events) >= %d"+
			" AND (SELECT sum(events) FROM activity_per_minute) >= %d AND (SELECT sum(events) FROM intake_per_minute) >= %d",
			want, want, want) == "1"
	})
}

// checkCounts checks that every event is there once and that the rollups agree with events.
func checkCounts(tb testing.TB, conn Conn, c ClickHouse, want int) {
	tb.Helper()
	n := strconv.Itoa(want)
	if got := ask(tb, conn, c, "SELECT count(), uniqExact(event_id) FROM events"); got != n+"\t"+n {
		tb.Errorf("rows and distinct events: %q, want %d of each", got, want)
	}
	for _, rollup := range schemas.Rollups() {
		sums, keys := []string{}, []string{}
		for _, s := range rollup.Sums {
			sums = append(sums, "sum("+s[0]+") AS "+s[0])
		}
		for _, k := range rollup.Columns {
			keys = append(keys, k[0])
		}
		names := strings.Join(keys, ", ")
		stored := "SELECT " + names + ", " + strings.Join(sums, ", ") + " FROM " + rollup.Table + " GROUP BY " + names +
			" HAVING sum(" + rollup.Table + ".events) != 0" // of actors that a correction took all from
		truth := rollup.Select(c.SQL(), "")
		if diff := ask(tb, conn, c, "SELECT count() FROM ((%s EXCEPT ALL %s) UNION ALL (%s EXCEPT ALL %s))",
			stored, truth, truth, stored); diff != "0" {
			tb.Errorf("%s has %s rows that differ from events", rollup.Table, diff)
		}
	}
}
