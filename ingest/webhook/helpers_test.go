package webhook

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/ingest/raw"
	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

const event = `{"auditID":"a","stage":"ResponseComplete","verb":"get"}`

func sha(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// testConfig lets prod send with "prod-1" and "prod-2", and dev with "dev-1".
func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	cfg.Tokens = []Token{
		{Cluster: "prod", SHA256: sha("prod-1")},
		{Cluster: "prod", SHA256: sha("prod-2")},
		{Cluster: "dev", SHA256: sha("dev-1")},
		{Cluster: "east", SHA256: sha("both")},
		{Cluster: "west", SHA256: sha("both")},
	}
	return cfg
}

// fixture is a running webhook with its own broker.
type fixture struct {
	*Server
	broker *kfake.Cluster
	kafka  kafka.Config
	url    string
	stop   context.CancelFunc
	ended  chan error
}

func start(t *testing.T, cfg Config) *fixture {
	t.Helper()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	broker, err := kfake.NewCluster(
		kfake.NumBrokers(1), kfake.SeedTopics(3, schemas.TopicRaw), kfake.SeedTopics(3, schemas.TopicDead),
		kfake.BrokerConfigs(map[string]string{"message.max.bytes": fmt.Sprint(schemas.MaxRecordBytes)}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	f := &fixture{broker: broker, kafka: kafka.DefaultConfig(), ended: make(chan error, 1)}
	f.kafka.Brokers = broker.ListenAddrs()
	client, err := kafka.NewClient(f.kafka, raw.Options(time.Millisecond)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	f.Server, err = New(cfg, raw.NewWriter(client, raw.NewMetrics(nil, cfg.Clusters())), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	addr, err := f.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.url = "http://" + addr.String()
	if cfg.TLS.CertFile != "" {
		f.url = "https://" + addr.String()
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.stop = cancel
	go func() { f.ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-f.ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return f
}

// answer is what came back.
type answer struct {
	status        int
	header        http.Header
	Error, Remedy string
}

// request says what to send; what is empty gets a default that is accepted.
type request struct {
	method, path, token string
	header              map[string]string
	body                io.Reader
	client              *http.Client
}

func (f *fixture) send(t *testing.T, rq request) answer {
	t.Helper()
	if rq.method == "" {
		rq.method = http.MethodPost
	}
	if rq.body == nil {
		rq.body = bytes.NewReader([]byte(event))
	}
	req, err := http.NewRequestWithContext(t.Context(), rq.method, f.url, rq.body)
	if err != nil {
		t.Fatal(err)
	}
	if rq.path != "" {
		// As it is: a client that parsed it would tidy it up.
		req.URL.Opaque = "//" + req.URL.Host + rq.path
		if path, err := url.PathUnescape(rq.path); err == nil {
			req.URL.Path = path
		}
	} else {
		req.URL.Path = "/v1/audit"
	}
	req.Header.Set("Content-Type", "application/json")
	if rq.token != "" {
		req.Header.Set("Authorization", "Bearer "+rq.token)
	}
	for k, v := range rq.header {
		req.Header.Set(k, v)
	}
	client := rq.client
	if client == nil {
		client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		defer client.CloseIdleConnections()
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, header: res.Header}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode == http.StatusOK {
		if len(text) > 0 {
			t.Errorf("200 with a body: %s", text)
		}
		return a
	}
	if err := json.Unmarshal(text, &a); err != nil || a.Error == "" || a.Remedy == "" {
		t.Errorf("status %d: %s is no reason with a remedy: %v", res.StatusCode, text, err)
	}
	if want := map[int]string{429: "3", 503: "3"}[a.status]; a.header.Get("Retry-After") != want {
		t.Errorf("status %d: Retry-After is %q, want %q", a.status, a.header.Get("Retry-After"), want)
	}
	if a.status >= 300 && a.status < 400 {
		t.Errorf("status %d: a redirect", a.status)
	}
	return a
}

// consume returns the next n records of a topic.
func (f *fixture) consume(t *testing.T, topic string, n int) []*kgo.Record {
	t.Helper()
	cl, err := kafka.NewClient(f.kafka, kgo.ConsumeTopics(topic))
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

// idle fails the test unless all memory was given back.
func (f *fixture) idle(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	whole := int64(f.cfg.MaxInflight)
	if err := f.handler.whole.Acquire(ctx, whole); err != nil {
		t.Fatal("memory was not given back")
	}
	f.handler.whole.Release(whole)
}

// authority signs certificates into files.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.sign(t, "ca", x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: "ca"},
	})
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// sign writes name.pem and name.key.
func (a *authority) sign(t *testing.T, name string, template x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if a.cert == nil {
		a.cert, a.key = &template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.key == key {
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, a.file(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

func (a *authority) signServer(t *testing.T) {
	t.Helper()
	a.sign(t, "server", x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func small(cfg Config) Config {
	cfg.MaxBody, cfg.MaxInflight = 256*conf.KiB, conf.MiB
	return cfg
}
