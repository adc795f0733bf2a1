package correlate

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

const partitions = 4

// world is a Kafka with the topics of the service.
type world struct {
	t      testing.TB
	kafka  kafka.Config
	c      *kfake.Cluster
	client *kgo.Client
}

func newWorld(t testing.TB, opts ...kfake.Opt) *world {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.SeedTopics(partitions, schemas.TopicSignals, schemas.TopicSeen),
		kfake.SeedTopics(2, schemas.TopicAlerts), kfake.SeedTopics(1, schemas.TopicDead),
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

func (w *world) produce(records ...*kgo.Record) {
	w.t.Helper()
	if w.client == nil {
		client, err := kafka.NewClient(w.kafka)
		if err != nil {
			w.t.Fatal(err)
		}
		w.client = client
		w.t.Cleanup(client.Close)
	}
	if err := w.client.ProduceSync(w.t.Context(), records...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) signal(c ir.Correlation, s sample) {
	w.t.Helper()
	r, err := s.signal(c).Record()
	if err != nil {
		w.t.Fatal(err)
	}
	w.produce(r)
}

// clock says that the only source is at a time.
func (w *world) clock(t time.Time) {
	w.t.Helper()
	records, err := Clock{Of: 1, Time: t}.Records(partitions)
	if err != nil {
		w.t.Fatal(err)
	}
	w.produce(records...)
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

// alerts returns what was told last of each alert, and how often it was told.
func (w *world) alerts() (last map[string]schemas.Alert, told map[string]int) {
	w.t.Helper()
	last, told = map[string]schemas.Alert{}, map[string]int{}
	for _, r := range w.read(schemas.TopicAlerts) {
		var a schemas.Alert
		if err := json.Unmarshal(r.Value, &a); err != nil {
			w.t.Fatal(err)
		}
		if string(r.Key) != a.ID || checkVersion(r) != nil {
			w.t.Errorf("record with key %q and headers %v holds alert %s", r.Key, r.Headers, a.ID)
		}
		last[a.ID] = a
		told[a.ID]++
	}
	return last, told
}

// instance is a running service.
type instance struct {
	*Service
	t        testing.TB
	registry *prometheus.Registry
	cancel   context.CancelFunc
	done     chan error
}

func (w *world) start(set *Set, edit func(*Config, *Deps)) *instance {
	w.t.Helper()
	i := &instance{t: w.t, registry: prometheus.NewRegistry(), done: make(chan error, 1)}
	cfg, deps := DefaultConfig(), Deps{Kafka: w.kafka, Registry: i.registry, Set: set, Now: testNow}
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
		if f.GetName() != "auditmill_correlate_"+name {
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
