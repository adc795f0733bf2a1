package watch

import (
	"bytes"
	stdcontext "context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/feed"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// patience bounds each wait; it is long because the machine may be busy, and reached only by failing tests.
const patience = 30 * time.Second

// topic is a broker with the topics of the context, and what they say, followed.
type topic struct {
	kafka   kafka.Config
	store   *context.Store
	client  *kgo.Client
	changed chan struct{}
}

func newTopic(t *testing.T) *topic {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1),
		kfake.SeedTopics(schemas.ContextPartitions, schemas.TopicContext, schemas.TopicCredentials))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	to := &topic{kafka: kafka.DefaultConfig(), store: context.NewStore(context.DefaultConfig()), changed: make(chan struct{}, 1)}
	to.kafka.Brokers = broker.ListenAddrs()
	if to.client, err = kafka.NewClient(to.kafka); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(to.client.Close)
	follower := feed.NewFollower(to.kafka, to.store, feed.Deps{Applied: func(feed.Applied) {
		select {
		case to.changed <- struct{}{}:
		default:
		}
	}})
	ctx, cancel := stdcontext.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- follower.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-follower.Caught()
	return to
}

// until waits until the topic says something.
func (to *topic) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	limit := time.After(patience)
	for !is() {
		select {
		case <-to.changed:
		case <-limit:
			t.Fatalf("the topic does not say that %s", what)
		}
	}
}

func (to *topic) find(cluster string, kind context.Kind, namespace, name string) *context.Item {
	return to.store.Cluster(cluster).Find(context.Key{Kind: kind, Namespace: namespace, Name: name}, latest)
}

func (to *topic) count(cluster string, kind context.Kind) (n int) {
	for range to.store.Cluster(cluster).Objects(kind, latest) {
		n++
	}
	return n
}

// tell writes changes as enrich does with those of the audit stream.
func (to *topic) tell(t *testing.T, cluster string, changes ...context.Change) {
	t.Helper()
	records, err := feed.Records(cluster, changes)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// records is the number of records of the topic.
func (to *topic) records(t *testing.T) (n int64) {
	t.Helper()
	ends, err := kadm.NewClient(to.client).ListEndOffsets(t.Context(), schemas.TopicContext)
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

// readiness is what a service says of its readiness.
type readiness struct {
	mu      sync.Mutex
	now     error
	all     []string
	changed chan struct{}
}

func newReadiness() *readiness {
	return &readiness{now: errors.New("starting"), changed: make(chan struct{}, 1)}
}

func (r *readiness) Set(_ string, err error) {
	r.mu.Lock()
	r.now = err
	r.all = append(r.all, fmt.Sprint(err))
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *readiness) get() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *readiness) until(t *testing.T) {
	t.Helper()
	limit := time.After(patience)
	for r.get() != nil {
		select {
		case <-r.changed:
		case <-limit:
			t.Fatalf("never ready: %v", r.get())
		}
	}
}

// buffer is a log.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// running is a service that runs.
type running struct {
	*Service
	ready *readiness
	log   *buffer
	stop  func()
}

// start runs a service until the test ends or stop is called.
func start(t *testing.T, to *topic, cfg Config, change ...func(*Service)) *running {
	t.Helper()
	r := &running{ready: newReadiness(), log: &buffer{}}
	reg := prometheus.NewRegistry()
	s, err := New(cfg, Deps{
		Kafka: to.kafka, Ready: r.ready, Registry: reg,
		Logger: slog.New(slog.NewTextHandler(io.MultiWriter(r.log, t.Output()), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range s.clusters {
		w.retry = 20 * time.Millisecond
	}
	for _, c := range change {
		c(s)
	}
	r.Service = s
	ctx, cancel := stdcontext.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the service ended with %v", err)
		}
		if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
			t.Errorf("metrics: %v %v", problems, err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// kubeconfig writes a kubeconfig with one context for each server, called like it.
func kubeconfig(t *testing.T, token string, servers map[string]string) string {
	t.Helper()
	type named map[string]any
	var clusters, contexts []named
	for name, url := range servers {
		clusters = append(clusters, named{"name": name, "cluster": named{"server": url, "insecure-skip-tls-verify": true}})
		contexts = append(contexts, named{"name": name, "context": named{"cluster": name, "user": "watcher"}})
	}
	text, err := json.Marshal(named{
		"apiVersion": "v1", "kind": "Config", "clusters": clusters, "contexts": contexts, "current-context": contexts[0]["name"],
		"users": []named{{"name": "watcher", "user": named{"token": token}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// quick is the default configuration for clusters, without a wait for the audit stream.
func quick(clusters ...Cluster) Config {
	cfg := DefaultConfig()
	cfg.Clusters, cfg.Wait, cfg.Resync = clusters, 0, 0
	return cfg
}

// do sends JSON, and returns what came back.
func do(t *testing.T, client *http.Client, method, url, token, contentType string, body any) (int, []byte) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", contentType)
	res, err := client.Do(req)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, answer
}
