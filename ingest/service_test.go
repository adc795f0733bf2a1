package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/ingest/file"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/internal/run"
	"github.com/auditmill/auditmill/schemas"
)

const testToken = "s3cret"

func sha(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// startKafka runs a broker on the loopback interface with the topics of ingest.
func startKafka(t testing.TB, opts ...kfake.Opt) (*kfake.Cluster, kafka.Config) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.SeedTopics(12, schemas.TopicRaw), kfake.SeedTopics(3, schemas.TopicDead),
		kfake.BrokerConfigs(map[string]string{"message.max.bytes": fmt.Sprint(schemas.MaxRecordBytes)}),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	cfg := kafka.DefaultConfig()
	cfg.Brokers = c.ListenAddrs()
	return c, cfg
}

// start runs a service and returns the URL of its webhook.
func start(t testing.TB, cfg Config, deps Deps) (s *Service, url string, stop func() error) {
	t.Helper()
	s, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	addr, err := s.Addr(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s, "http://" + addr, stop
}

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Webhook.Listen = "127.0.0.1:0"
	cfg.Webhook.Tokens = []Token{{Cluster: "prod", SHA256: sha(testToken)}}
	return cfg
}

func post(t testing.TB, url, token, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

// consume returns the next n records of a topic.
func consume(t testing.TB, cfg kafka.Config, topic string, n int) []*kgo.Record {
	t.Helper()
	cl, err := kafka.NewClient(cfg, kgo.ConsumeTopics(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var records []*kgo.Record
	for len(records) < n {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", len(records), n, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

func headersOf(r *kgo.Record) map[string]string {
	m := map[string]string{}
	for _, h := range r.Headers {
		m[h.Key] = string(h.Value)
	}
	return m
}

func TestWebhookToKafka(t *testing.T) {
	_, cfg := startKafka(t)
	ready := run.NewReady("ingest")
	_, url, stop := start(t, testConfig(), Deps{Kafka: cfg, Ready: ready})

	plain := `{"level":"Metadata","auditID":"a","stage":"Panic","verb":"get","user":{"username":"u"}}`
	stripped := `{"auditID":"b","annotations":{"audit.k8s.io/truncated":"true"}}`
	before := time.Now()
	res := post(t, url+"/v1/audit/prod?timeout=30s", testToken,
		`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`+plain+`,{oops},`+stripped+"]}\n")
	if body, err := io.ReadAll(res.Body); res.StatusCode != http.StatusOK || len(body) != 0 || err != nil {
		t.Fatalf("status %d, body %q, %v", res.StatusCode, body, err)
	}
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}

	var h schemas.Hasher
	want := map[string]schemas.ID{
		plain:    h.Fingerprint("prod", &schemas.FingerprintFields{AuditID: "a", Stage: "Panic", Verb: "get", Username: "u"}),
		stripped: h.Fingerprint("prod", &schemas.FingerprintFields{AuditID: "b"}),
	}
	for _, r := range consume(t, cfg, schemas.TopicRaw, 2) {
		if id, ok := want[string(r.Value)]; !ok || string(r.Key) != string(id[:]) {
			t.Errorf("record %s has key %x", r.Value, r.Key)
		}
		headers := headersOf(r)
		var received int64
		if _, err := fmt.Sscan(headers["received"], &received); err != nil || received < before.UnixMicro() {
			t.Errorf("received is %s: %v", headers["received"], err)
		}
		delete(headers, "received")
		wantHeaders := map[string]string{"v": "1", "cluster": "prod", "source": "webhook"}
		if string(r.Value) == stripped {
			wantHeaders["damage"] = "truncated"
		}
		if diff := cmp.Diff(wantHeaders, headers); diff != "" {
			t.Errorf("headers: -want +got:\n%s", diff)
		}
	}
	dead, err := kafka.ReadDead(consume(t, cfg, schemas.TopicDead, 1)...)
	if err != nil {
		t.Fatal(err)
	}
	if string(dead.Value) != "{oops}" || dead.Reason != "syntax" || dead.Source != "webhook/prod" || dead.Time.IsZero() {
		t.Errorf("dead letter %+v", dead)
	}
}

func TestNothingConfigured(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	if _, err := New(DefaultConfig(), Deps{Kafka: kafka.DefaultConfig()}); err == nil || !strings.Contains(err.Error(), "ingest.file.inputs") {
		t.Errorf("no source configured: %v", err)
	}
}

func fileInput(path, cluster string) file.Input { return file.Input{Path: path, Cluster: cluster} }
