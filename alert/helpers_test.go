package alert

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"strconv"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

const secretRule = `
title: Secret read
id: 11111111-1111-4111-8111-111111111111
status: test
description: for tests
logsource: {product: kubernetes, service: audit}
detection:
  selection: {verb: get, objectRef.resource: secrets}
  condition: selection
level: high
tags: [attack.credential-access]
x-auditmill:
  summary: "{user} read secret {namespace}/{name}[ as {impersonated_user}]"
  next: Ask.
`

const execRule = `
title: Command in a pod
id: 22222222-2222-4222-8222-222222222222
status: test
description: for tests
logsource: {product: kubernetes, service: audit}
detection:
  selection: {objectRef.subresource: exec}
  condition: selection
level: critical
x-auditmill:
  summary: "{user} ran {command} in {name}"
  next: Look.
`

func testPack() fs.FS {
	return fstest.MapFS{"secret.yml": {Data: []byte(secretRule)}, "deep/exec.yaml": {Data: []byte(execRule)}}
}

func testNow() time.Time { return time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC) }

func testEvent(n int) *schemas.Event {
	e := &schemas.Event{
		Cluster: "prod", Platform: "kubernetes", Source: schemas.SourceWebhook,
		ReceivedAt: testNow().Add(-time.Second).UnixMicro(), EventTime: testNow().Add(-2 * time.Second).UnixMicro(),
		Stage: "ResponseComplete", Verb: "list", Resource: "pods", User: "alice", Actor: "alice", ActorKind: "human",
		SourceIP: "192.0.2.7", Code: 200, Outcome: "success", Raw: []byte(`{}`),
	}
	e.EventID = schemas.ID{byte(n >> 8), byte(n), 1}
	return e
}

func secretEvent(n int) *schemas.Event {
	e := testEvent(n)
	e.Verb, e.Resource, e.Namespace, e.Name = "get", "secrets", "default", fmt.Sprint("s", n)
	return e
}

func batch(t testing.TB, events ...*schemas.Event) []byte {
	t.Helper()
	b := schemas.NewBuilder()
	for _, e := range events {
		b.Append(e)
	}
	record := b.Batch()
	defer record.Release()
	value, err := schemas.Encode(record)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// world is a Kafka with the topics of the service.
type world struct {
	t      testing.TB
	kafka  kafka.Config
	client *kgo.Client
	c      *kfake.Cluster
}

func newWorld(t testing.TB, opts ...kfake.Opt) *world {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.SeedTopics(4, schemas.TopicEnriched, schemas.TopicAlerts, schemas.TopicSignals, schemas.TopicSeen),
		kfake.SeedTopics(1, schemas.TopicNotifications, schemas.TopicSilences, schemas.TopicDead),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w := &world{t: t, kafka: kafka.DefaultConfig(), c: c}
	w.kafka.Brokers = c.ListenAddrs()
	return w
}

// newVirtualWorld is for tests in virtual time, with one member per group at a time.
func newVirtualWorld(t *testing.T) *world {
	t.Helper()
	network := &kfake.VirtualNetwork{}
	w := newWorld(t, kfake.Ports(9092), kfake.ListenFn(network.Listen))
	w.kafka.Dialer = network.DialContext
	return w
}

func (w *world) produce(partition int32, value []byte, headers ...kgo.RecordHeader) {
	w.t.Helper()
	if w.client == nil {
		client, err := kafka.NewClient(w.kafka, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			w.t.Fatal(err)
		}
		w.client = client
		w.t.Cleanup(client.Close)
	}
	if headers == nil {
		headers = []kgo.RecordHeader{version(schemas.Version)}
	}
	r := &kgo.Record{Topic: schemas.TopicEnriched, Partition: partition, Value: value, Headers: headers}
	if err := w.client.ProduceSync(w.t.Context(), r).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

func version(v int) kgo.RecordHeader {
	return kgo.RecordHeader{Key: schemas.HeaderVersion, Value: []byte(strconv.Itoa(v))}
}

// read returns all records of a topic.
func (w *world) read(topic string) []*kgo.Record {
	w.t.Helper()
	client, err := kafka.NewClient(w.kafka, kgo.ConsumeTopics(topic))
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(w.t.Context(), topic)
	if err != nil {
		w.t.Fatal(err)
	}
	left := int64(0) // nothing is compacted or transactional in these tests
	ends.Each(func(end kadm.ListedOffset) { left += end.Offset })
	var records []*kgo.Record
	for int64(len(records)) < left {
		records = append(records, client.PollFetches(w.t.Context()).Records()...)
	}
	return records
}

func (w *world) alerts() []schemas.Alert {
	w.t.Helper()
	var alerts []schemas.Alert
	for _, r := range w.read(schemas.TopicAlerts) {
		var a schemas.Alert
		if err := json.Unmarshal(r.Value, &a); err != nil {
			w.t.Fatal(err)
		}
		if string(r.Key) != a.ID || checkVersion(r) != nil {
			w.t.Errorf("record with key %q and headers %v holds alert %s", r.Key, r.Headers, a.ID)
		}
		alerts = append(alerts, a)
	}
	return alerts
}

// instance is a running service.
type instance struct {
	*Service
	t        testing.TB
	registry *prometheus.Registry
	cancel   context.CancelFunc
	done     chan error
}

func (w *world) start(edit func(*Config, *Deps)) *instance {
	w.t.Helper()
	i := &instance{t: w.t, registry: prometheus.NewRegistry(), done: make(chan error, 1)}
	cfg, deps := DefaultConfig(), Deps{Kafka: w.kafka, Registry: i.registry, Pack: testPack(), Now: testNow}
	if edit != nil {
		edit(&cfg, &deps)
	}
	var err error
	if i.Service, err = New(cfg, deps); err != nil {
		w.t.Fatal(err)
	}
	if w.kafka.Dialer == nil {
		i.more = []kgo.Opt{kgo.HeartbeatInterval(50 * time.Millisecond)}
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	i.cancel = cancel
	go func() { i.done <- i.Run(ctx) }()
	return i
}

func (i *instance) stop() {
	i.t.Helper()
	i.cancel()
	if err := <-i.done; err != nil {
		i.t.Errorf("Run: %v", err)
	}
}

// count returns the sum of a counter or gauge over its labels.
func (i *instance) count(name string) float64 {
	i.t.Helper()
	families, err := i.registry.Gather()
	if err != nil {
		i.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != "auditmill_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(time.Minute)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen in a minute", what)
		}
		<-ticker.C
	}
}
