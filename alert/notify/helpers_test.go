package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// world is a Kafka and a Slack.
type world struct {
	t       *testing.T
	cluster *kfake.Cluster
	kafka   kafka.Config
	slack   *fakeSlack
	client  *kgo.Client
}

// newWorld is a world on a virtual network, for tests in virtual time.
func newWorld(t *testing.T) *world {
	t.Helper()
	network := &kfake.VirtualNetwork{}
	w := newRealWorld(t, kfake.Ports(9092), kfake.ListenFn(network.Listen))
	w.kafka.Dialer = network.DialContext
	return w
}

// newRealWorld is a world in real time: its Kafka is on the loopback interface.
func newRealWorld(t *testing.T, opts ...kfake.Opt) *world {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1),
		kfake.SeedTopics(4, schemas.TopicAlerts), kfake.SeedTopics(3, schemas.TopicNotifications),
		kfake.SeedTopics(1, schemas.TopicDead, schemas.TopicSilences),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	w := &world{t: t, cluster: cluster, kafka: kafka.DefaultConfig(), slack: newFakeSlack(t)}
	w.kafka.Brokers = cluster.ListenAddrs()
	return w
}

// instance is a running notifier.
type instance struct {
	*Notifier
	t        *testing.T
	registry *prometheus.Registry
	cancel   context.CancelFunc
	done     chan error
	mu       sync.Mutex
	problems []string
}

type option func(*Config, *Deps)

func (w *world) start(options ...option) *instance {
	w.t.Helper()
	i := &instance{t: w.t, registry: prometheus.NewRegistry(), done: make(chan error, 1)}
	slackConfig := DefaultSlackConfig()
	slackConfig.WebhookURL = "http://hooks.slack.test/services/T/B/secret"
	sink, err := NewSlack(slackConfig, w.slack.client())
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := DefaultConfig()
	deps := Deps{
		Kafka: w.kafka, Registry: i.registry, Sink: sink,
		Interval: slackConfig.Interval, Timeout: slackConfig.Timeout, Ready: i.ready,
	}
	for _, o := range options {
		o(&cfg, &deps)
	}
	if i.Notifier, err = New(cfg, deps); err != nil {
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

func (i *instance) ready(problem error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	text := "ready"
	if problem != nil {
		text = problem.Error()
	}
	i.problems = append(i.problems, text)
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
		if f.GetName() != "auditmill_notify_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

func alertID(n int) string { return schemas.AlertID("rule", fmt.Sprint(n)) }

func testAlert(n int) schemas.Alert {
	at := time.Date(2026, 11, 21, 5, 24, 58, 123456000, time.UTC)
	return schemas.Alert{
		ID: alertID(n), Rule: "pod-exec", Title: "Shell in a pod", Severity: high, Time: at, RaisedAt: at,
		Summary: "alice ran a shell", Actor: "alice", Cluster: "prod", Verb: "create", Resource: "pods", Outcome: "success",
	}
}

func (w *world) produce(alerts ...schemas.Alert) {
	w.t.Helper()
	var records []*kgo.Record
	for _, a := range alerts {
		value, err := json.Marshal(a)
		if err != nil {
			w.t.Fatal(err)
		}
		records = append(records, &kgo.Record{
			Topic: schemas.TopicAlerts, Key: []byte(a.ID), Value: value, Headers: versionHeader(),
		})
	}
	w.produceRecords(records...)
}

func (w *world) produceRecords(records ...*kgo.Record) {
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

// group returns the last record of a group.
func (w *world) group(id string) Group {
	w.t.Helper()
	var g Group
	for _, r := range w.read(schemas.TopicNotifications) {
		if string(r.Key) != groupPrefix+id {
			continue
		}
		g = Group{}
		if err := json.Unmarshal(r.Value, &g); err != nil {
			w.t.Fatal(err)
		}
	}
	return g
}

// until waits for a condition, in virtual time or in real time.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.Now().Add(15 * time.Minute)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen in a quarter of an hour", what)
		}
		<-ticker.C
	}
}

// fakeSlack accepts messages on a network of pipes. Each request takes the next fault; without
// one it is accepted.
type fakeSlack struct {
	conns chan net.Conn

	mu       sync.Mutex
	faults   []func(s *fakeSlack, w http.ResponseWriter, r *http.Request, body string)
	accepted []string // bodies
	times    []time.Time
	requests int
	calls    []call
}

func newFakeSlack(t *testing.T) *fakeSlack {
	t.Helper()
	s := &fakeSlack{conns: make(chan net.Conn)}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	listener := &pipeListener{conns: s.conns, closed: make(chan struct{})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return s
}

func (s *fakeSlack) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			server, client := net.Pipe()
			select {
			case s.conns <- server:
				return client, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}}
}

func (s *fakeSlack) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.requests++
	var fault func(*fakeSlack, http.ResponseWriter, *http.Request, string)
	if len(s.faults) > 0 {
		fault, s.faults = s.faults[0], s.faults[1:]
	}
	s.mu.Unlock()
	if fault != nil {
		fault(s, w, r, string(body))
		return
	}
	if strings.HasPrefix(r.URL.Path, "/api/") {
		s.serveAPI(w, r.URL.Path, string(body))
		return
	}
	s.accept(string(body))
	_, _ = io.WriteString(w, "ok")
}

func (s *fakeSlack) accept(body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted = append(s.accepted, body)
	s.times = append(s.times, time.Now())
}

// call is a call of Slack's Web API.
type call struct {
	method, channel, ts, thread, blocks, text string
	broadcast                                 bool
	at                                        time.Time
}

func (s *fakeSlack) serveAPI(w http.ResponseWriter, path, body string) {
	form, err := url.ParseQuery(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := call{
		method: strings.TrimPrefix(path, "/api/chat."), channel: form.Get("channel"), ts: form.Get("ts"),
		thread: form.Get("thread_ts"), blocks: form.Get("blocks"), text: form.Get("text"),
		broadcast: form.Get("reply_broadcast") == "true", at: time.Now(),
	}
	if c.ts == "" {
		c.ts = fmt.Sprintf("%d.%06d", 1_700_000_000, len(s.calls))
	}
	s.calls = append(s.calls, c)
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"ok":true,"channel":"C1","ts":%q}`, c.ts)
}

func (s *fakeSlack) called() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]call(nil), s.calls...)
}

// bot makes the default receiver a channel that a bot posts to.
func (w *world) bot(_ *Config, d *Deps) {
	c := DefaultSlackConfig()
	c.BotToken, c.Channel, c.APIURL = "xoxb-1", "#alerts", "http://slack.test/api"
	sink, err := NewSlack(c, w.slack.client())
	if err != nil {
		w.t.Error(err)
	}
	d.Sink = sink
}

func (s *fakeSlack) fail(faults ...func(*fakeSlack, http.ResponseWriter, *http.Request, string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

func (s *fakeSlack) posts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.accepted...)
}

var alertPattern = regexp.MustCompile(`alert:? ([0-9a-f]{32})`)

// counts returns how often each alert was accepted.
func (s *fakeSlack) counts(t *testing.T) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, body := range s.posts() {
		m := alertPattern.FindStringSubmatch(body)
		if m == nil {
			t.Fatalf("no alert id in %s", body)
		}
		counts[m[1]]++
	}
	return counts
}

type fault = func(*fakeSlack, http.ResponseWriter, *http.Request, string)

func answer(status int, body string, header ...string) fault {
	return func(_ *fakeSlack, w http.ResponseWriter, _ *http.Request, _ string) {
		for _, h := range header {
			key, value, _ := strings.Cut(h, ": ")
			w.Header().Set(key, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func hang(_ *fakeSlack, _ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() }

// hangBriefly answers when the client has waited long enough for partitions to move meanwhile.
func hangBriefly(s *fakeSlack, w http.ResponseWriter, _ *http.Request, body string) {
	<-time.After(200 * time.Millisecond)
	s.accept(body)
	_, _ = io.WriteString(w, "ok")
}

func closeConnection(*fakeSlack, http.ResponseWriter, *http.Request, string) {
	panic(http.ErrAbortHandler)
}

func acceptAndLose(s *fakeSlack, _ http.ResponseWriter, _ *http.Request, body string) {
	s.accept(body)
	panic(http.ErrAbortHandler)
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
