package enrich

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

const testPartitions = 4

// bed is a broker with the topics, and a producer of raw records.
type bed struct {
	t       *testing.T
	broker  *kfake.Cluster
	kafka   kafka.Config
	client  *kgo.Client
	records []*kgo.Record
}

func newBed(t *testing.T) *bed {
	t.Helper()
	broker, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.SeedTopics(testPartitions, schemas.TopicRaw, schemas.TopicEnriched), kfake.SeedTopics(1, schemas.TopicDead),
		kfake.SeedTopics(schemas.ContextPartitions, schemas.TopicContext, schemas.TopicCredentials),
		kfake.BrokerConfigs(map[string]string{"message.max.bytes": strconv.Itoa(schemas.MaxRecordBytes), "group.initial.rebalance.delay.ms": "0"}),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	cfg := kafka.DefaultConfig()
	cfg.Brokers = broker.ListenAddrs()
	client, err := kafka.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &bed{t: t, broker: broker, kafka: cfg, client: client}
}

// rawRecord is a record as ingest writes it.
func rawRecord(tb testing.TB, raw []byte, cluster, source string) *kgo.Record {
	tb.Helper()
	var d decoder
	e, err := d.decode(raw, "")
	if err != nil {
		tb.Fatal(err)
	}
	var h schemas.Hasher
	fingerprint := h.Fingerprint(cluster, &schemas.FingerprintFields{
		AuditID: e.AuditID, Stage: e.Stage, RequestReceived: strconv.FormatInt(e.EventTime, 10),
		StageTime: strconv.FormatInt(e.StageTime, 10), Username: e.User, Verb: e.Verb, RequestURI: e.RequestURI,
		Code: strconv.Itoa(int(e.Code)),
	})
	return &kgo.Record{
		Topic: schemas.TopicRaw, Key: fingerprint[:], Value: raw,
		Headers: []kgo.RecordHeader{
			{Key: schemas.HeaderVersion, Value: []byte("1")},
			{Key: schemas.HeaderCluster, Value: []byte(cluster)},
			{Key: schemas.HeaderSource, Value: []byte(source)},
			{Key: schemas.HeaderReceived, Value: []byte("1800000000000000")}, // long after the event: it is a replay
		},
	}
}

func (b *bed) produce(records ...*kgo.Record) {
	b.t.Helper()
	if err := b.client.ProduceSync(b.t.Context(), records...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
	b.records = append(b.records, records...)
}

func (b *bed) config(instance string) Config {
	cfg := DefaultConfig()
	cfg.Instance, cfg.MaxWait, cfg.MaxPollRecords = instance, 5*time.Millisecond, 200
	return cfg
}

// start runs an instance; stop ends it and returns its error.
func (b *bed) start(cfg Config) (stop func() error) {
	b.t.Helper()
	return b.startWith(cfg, b.kafka)
}

func (b *bed) startWith(cfg Config, config kafka.Config) (stop func() error) {
	b.t.Helper()
	_, stop = b.service(cfg, config)
	return stop
}

func (b *bed) service(cfg Config, config kafka.Config) (s *Service, stop func() error) {
	b.t.Helper()
	s, err := New(cfg, Deps{Kafka: config})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, func() error {
		cancel(errors.New("stopped by the test")) // a process gives a cause too, which is no failure
		return <-done
	}
}

// row is what the tests look at of an enriched row.
type row struct {
	partition int32
	id        string
}

// follow reads enriched rows, oldest first, until enough says so.
func (b *bed) follow(topic string, each func(*kgo.Record) (enough bool)) {
	b.t.Helper()
	client, err := kafka.NewClient(b.kafka, kgo.ConsumeTopics(topic))
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			b.t.Fatalf("waiting for %s: %v", topic, ctx.Err())
		}
		for it := fetches.RecordIter(); !it.Done(); {
			if each(it.Next()) {
				return
			}
		}
	}
}

func (b *bed) rows(r *kgo.Record) []row {
	b.t.Helper()
	batch, err := schemas.Decode(r.Value)
	if err != nil {
		b.t.Fatal(err)
	}
	defer batch.Release()
	ids := schemas.ColumnArray(batch, "event_id").(*array.FixedSizeBinary)
	from := schemas.ColumnArray(batch, "raw_partition").(*array.Int32)
	versions := schemas.ColumnArray(batch, "version").(*array.Int64)
	var out []row
	for i := range ids.Len() {
		if !versions.IsNull(i) {
			continue // a correction of another row
		}
		if from.Value(i) != r.Partition {
			b.t.Fatalf("a row of raw partition %d is on enriched partition %d", from.Value(i), r.Partition)
		}
		out = append(out, row{r.Partition, schemas.ID(ids.Value(i)).String()})
	}
	return out
}

// expectOnce waits until every distinct event of the raw records is there, sends a last
// one and reads on until that, so that anything that came twice has been seen too.
func (b *bed) expectOnce() {
	b.t.Helper()
	for i := range testPartitions {
		// Of this call: those of one before may be read before everything else is.
		last := rawRecord(b.t, fmt.Appendf(nil, `{"auditID":"last-%d-%d"}`, len(b.records), i), "end", schemas.SourceWebhook)
		last.Partition = int32(i)
		client, err := kafka.NewClient(b.kafka, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			b.t.Fatal(err)
		}
		if err := client.ProduceSync(b.t.Context(), last).FirstErr(); err != nil {
			b.t.Fatal(err)
		}
		client.Close()
		b.records = append(b.records, last)
	}
	var h schemas.Hasher
	want := map[string]bool{}
	last := map[string]bool{}
	for _, r := range b.records {
		id := h.EventID(string(r.Headers[1].Value), r.Value).String()
		want[id] = true
		if string(r.Headers[1].Value) == "end" {
			last[id] = true
		}
	}
	got := map[string]int{}
	b.follow(schemas.TopicEnriched, func(r *kgo.Record) bool {
		for _, row := range b.rows(r) {
			got[row.id]++
			delete(last, row.id)
		}
		return len(last) == 0
	})
	for id := range want {
		if got[id] != 1 {
			b.t.Errorf("event %s is there %d times", id, got[id])
		}
	}
	if len(got) != len(want) {
		b.t.Errorf("%d distinct events came out, %d went in", len(got), len(want))
	}
}

// events returns n records of the recording, each delivered about twice, in random order
// but for the retries' distance.
func (b *bed) events(n int) []*kgo.Record {
	random := rand.New(rand.NewPCG(1, 2))
	var out []*kgo.Record
	for i, raw := range recording(b.t)[:n] {
		r := rawRecord(b.t, raw, "c"+strconv.Itoa(i%2), schemas.SourceWebhook)
		for range 1 + random.IntN(2) {
			again := *r
			out = append(out, &again)
		}
	}
	random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func TestEachEventOnce(t *testing.T) {
	b := newBed(t)
	b.produce(b.events(800)...)
	stop := b.start(b.config("a"))
	b.expectOnce()
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A copy that arrives after a restart is recognised: the window is read again.
func TestCopiesAfterRestart(t *testing.T) {
	b := newBed(t)
	events := b.events(300)
	b.produce(events...)
	stop := b.start(b.config("a"))
	b.expectOnce()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, r := range events {
		again := *r
		b.produce(&again)
	}
	if err := b.client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop = b.start(b.config("b"))
	b.records = slices.Clip(b.records)
	n := 0
	var h schemas.Hasher
	fresh := rawRecord(t, []byte(`{"auditID":"fresh"}`), "end2", schemas.SourceWebhook)
	b.produce(fresh)
	id := h.EventID("end2", fresh.Value).String()
	b.follow(schemas.TopicEnriched, func(r *kgo.Record) bool {
		for _, row := range b.rows(r) {
			n++
			if row.id == id {
				return true
			}
		}
		return false
	})
	b.expectOnce()
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// The webhook and the log file of one API server give each event once, although the bytes
// differ: the log has kind and apiVersion.
func TestTwoSources(t *testing.T) {
	b := newBed(t)
	var first, second []*kgo.Record
	for i, raw := range recording(t)[:400] {
		webhook := []byte(strings.Replace(string(raw), `"kind":"Event","apiVersion":"audit.k8s.io/v1",`, "", 1))
		one, two := rawRecord(t, webhook, "c", schemas.SourceWebhook), rawRecord(t, raw, "c", schemas.SourceFile)
		if i%2 == 0 {
			one, two = two, one
		}
		first, second = append(first, one), append(second, two)
	}
	b.produce(first...)
	stop := b.start(b.config("a"))
	want := b.records
	if err := b.client.ProduceSync(t.Context(), second...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	b.records = want
	b.expectOnce()
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// Each step of a transaction fails, with and without having happened; an instance that
// stops is followed by another.
func TestFaults(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.TxnOffsetCommit, kmsg.EndTxn, kmsg.AddOffsetsToTxn, kmsg.Fetch} {
		t.Run(kmsg.NameForKey(key.Int16()), func(t *testing.T) {
			b := newBed(t)
			b.produce(b.events(400)...)
			n := 0
			b.broker.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
				b.broker.KeepControl()
				n++
				if n%3 == 2 && n < 20 {
					return nil, errors.New("connection cut by the test"), true
				}
				return nil, nil, false
			})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				for i := 0; ctx.Err() == nil; i++ {
					stop := b.start(b.config("a"))
					select {
					case <-ctx.Done():
					case <-time.After(time.Duration(50+20*i) * time.Millisecond):
					}
					if err := stop(); err != nil && ctx.Err() == nil {
						t.Log("instance ended:", err)
					}
				}
			}()
			b.expectOnce()
			cancel()
			<-done
		})
	}
}

func TestTwoInstancesWithMovingPartitions(t *testing.T) {
	b := newBed(t)
	events := b.events(1500)
	stopA := b.start(b.config("a"))
	for i, chunk := range [][]*kgo.Record{events[:500], events[500:1000], events[1000:1500], events[1500:]} {
		b.produce(chunk...)
		if i == 1 {
			stopB := b.start(b.config("b"))
			defer func() {
				if err := stopB(); err != nil {
					t.Error(err)
				}
			}()
		}
		if i == 2 {
			if err := stopA(); err != nil {
				t.Error(err)
			}
		}
	}
	b.expectOnce()
}

func TestBadRecords(t *testing.T) {
	b := newBed(t)
	good := rawRecord(t, []byte(`{"auditID":"good"}`), "c", schemas.SourceWebhook)
	noJSON := rawRecord(t, []byte(`{"auditID":"x"}`), "c", schemas.SourceWebhook)
	noJSON.Value = []byte(`{"auditID":`)
	foreign := &kgo.Record{Topic: schemas.TopicRaw, Key: []byte("k"), Value: []byte(`{}`)}
	b.produce(good)
	if err := b.client.ProduceSync(t.Context(), noJSON, foreign).FirstErr(); err != nil {
		t.Fatal(err)
	}
	stop := b.start(b.config("a"))
	b.expectOnce()
	reasons := map[string]string{}
	b.follow(schemas.TopicDead, func(r *kgo.Record) bool {
		d, err := kafka.ReadDead(r)
		if err != nil {
			t.Fatal(err)
		}
		reasons[d.Reason] = string(d.Value)
		return len(reasons) == 2
	})
	if reasons[reasonDecode] != `{"auditID":` || reasons[reasonHeaders] != `{}` {
		t.Errorf("dead letters: %v", reasons)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestNewerVersionStops(t *testing.T) {
	b := newBed(t)
	r := rawRecord(t, []byte(`{}`), "c", schemas.SourceWebhook)
	r.Headers[0].Value = []byte("2")
	b.produce(r)
	s, err := New(b.config("a"), Deps{Kafka: b.kafka})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "upgrade") {
		t.Errorf("Run = %v, want a refusal that names the remedy", err)
	}
}

func TestUnequalPartitions(t *testing.T) {
	b := newBed(t)
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, schemas.TopicRaw), kfake.SeedTopics(2, schemas.TopicEnriched),
		kfake.SeedTopics(1, schemas.TopicContext, schemas.TopicCredentials))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	b.kafka.Brokers = broker.ListenAddrs()
	s, err := New(b.config("a"), Deps{Kafka: b.kafka})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "must be equal") {
		t.Errorf("Run = %v", err)
	}
}

func TestExplainFenced(t *testing.T) {
	s, err := New(DefaultConfig(), Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.explain(kerr.ProducerFenced); !errors.Is(err, kerr.ProducerFenced) || !strings.Contains(err.Error(), "enrich.instance") {
		t.Error(err)
	}
}

func TestConfigFaults(t *testing.T) {
	err := Config{}.Validate()
	if err == nil {
		t.Fatal("an empty configuration passes")
	}
	for _, key := range []string{"group", "max_rows", "max_bytes", "max_wait", "max_poll_records", "dedupe_window", "session_timeout", "transaction_timeout"} {
		if !strings.Contains(err.Error(), key+": ") {
			t.Errorf("no fault for %s in: %v", key, err)
		}
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}
