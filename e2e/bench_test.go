package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditmill/auditmill/alert/rules"
	"github.com/auditmill/auditmill/ingest/replay"
	"github.com/auditmill/auditmill/testdata/recording"
)

// loadClusters are more than the deduplication window holds, so that each pass of the
// recording counts as new.
const loadClusters = 600

// BenchmarkWebhookToSlack measures from the start of the POST of an event to the webhook until
// Slack has the message about it, while the recording is sent at a fixed rate: a process per
// service, the embedded Kafka and ClickHouse, and a server that takes the place of Slack.
// Run it with -benchtime 200x or so: one operation is one alert. Slack itself takes one
// message a second per channel; that limit is off.
func BenchmarkWebhookToSlack(b *testing.B) {
	for _, rate := range []int{0, 2000, 5000, 10_000} {
		b.Run(fmt.Sprintf("rate=%d", rate), func(b *testing.B) { webhookToSlack(b, float64(rate)) })
	}
}

func webhookToSlack(b *testing.B, rate float64) {
	b.Helper()
	slack := newFakeSlack(b)
	url, services := startForLatency(b, slack.URL)
	p := prober{b: b, slack: slack, url: url + "/v1/audit/probe?timeout=30s"}
	for range 3 { // until every service has its partitions
		p.probe()
	}
	ctx, stop := context.WithCancel(b.Context())
	sent := make(chan int64)
	begin := time.Now()
	go func() {
		n, err := sendQuiet(ctx, url, rate)
		if err != nil && ctx.Err() == nil {
			b.Error(err)
		}
		sent <- n
	}()
	if rate > 0 {
		<-time.After(5 * time.Second) // until the load is what it stays
	}
	var took []time.Duration
	for b.Loop() {
		took = append(took, p.probe())
		<-time.After(50 * time.Millisecond)
	}
	stop()
	n, elapsed := <-sent, time.Since(begin)
	slices.Sort(took)
	for _, q := range []int{50, 99, 100} {
		ms := float64(took[(len(took)*q+99)/100-1].Microseconds()) / 1000
		b.ReportMetric(ms, fmt.Sprintf("p%d-ms", q))
	}
	b.ReportMetric(float64(n)/elapsed.Seconds(), "sent-events/s")
	for _, s := range services {
		b.ReportMetric(s.peakMiB(b), s.name+"-peak-MiB")
	}
}

// startForLatency starts everything but the senders.
func startForLatency(b *testing.B, slack string) (url string, services []*proc) {
	b.Helper()
	f := newFleet(b)
	kafkaPort, chPort, port := freePort(b), freePort(b), freePort(b)
	names := []string{"probe"}
	for i := range loadClusters {
		names = append(names, "c"+strconv.Itoa(i))
	}
	config := fmt.Sprintf(`
kafka: {brokers: ["127.0.0.1:%[1]d"]}
topics: {partitions: 12, replication: 1}
clickhouse: {addresses: ["127.0.0.1:%[2]d"]}
embedded: {data_dir: %[3]q, clickhouse: {port: %[2]d}, kafka: {port: %[1]d, sync: false}}
alert: {slack: {webhook_url: %[4]q, interval: 0s}}
ops: {listen: "127.0.0.1:0"}
ingest: {webhook: {listen: "127.0.0.1:%[5]d", anonymous: [%[6]s]}}
`, kafkaPort, chPort, f.dir, slack, port, strings.Join(names, ", "))
	if err := os.WriteFile(f.config, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	f.firstLine(f.start("kafka", "embedded", "kafka"))
	credentials := strings.Fields(f.firstLine(f.start("clickhouse", "embedded", "clickhouse")))
	b.Setenv("AUDITMILL_CLICKHOUSE_USER", credentials[1])
	b.Setenv("AUDITMILL_CLICKHOUSE_PASSWORD", credentials[2])
	f.run("topics", "--create")
	f.run("migrate", "--apply")
	for _, name := range []string{"ingest", "enrich", "alert", "load"} {
		services = append(services, f.start(name, name))
	}
	return fmt.Sprintf("http://127.0.0.1:%d", port), services
}

// sendQuiet sends the recording without the events that raise alerts, again and again as one
// cluster after the other, and returns how many events were accepted.
func sendQuiet(ctx context.Context, url string, rate float64) (int64, error) {
	if rate == 0 {
		return 0, nil
	}
	lines, err := recording.Lines()
	if err != nil {
		return 0, err
	}
	expected, err := rules.ExpectedAlerts()
	if err != nil {
		return 0, err
	}
	for _, e := range expected {
		lines[e.Line-1] = nil
	}
	lines = slices.DeleteFunc(lines, func(line []byte) bool { return line == nil })
	cfg := replay.DefaultConfig()
	cfg.URL, cfg.Rate = url, rate
	total := int64(0)
	for i := 0; ctx.Err() == nil; i++ {
		cfg.Cluster = "c" + strconv.Itoa(i%loadClusters)
		counts, err := replay.Events(ctx, cfg, lines)
		total += counts.Accepted
		if err != nil {
			return total, fmt.Errorf("sending %s: %w", cfg.Cluster, err)
		}
	}
	return total, nil
}

// fakeSlack tells when the message about a probe arrived.
type fakeSlack struct {
	*httptest.Server
	arrived chan arrival
}

type arrival struct {
	probe string
	at    time.Time
}

var probeName = regexp.MustCompile(`probe-pod-[0-9]+`)

func newFakeSlack(b *testing.B) *fakeSlack {
	b.Helper()
	s := &fakeSlack{arrived: make(chan arrival, 1000)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := time.Now()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.arrived <- arrival{string(probeName.Find(body)), at}
		_, _ = io.WriteString(w, "ok")
	}))
	b.Cleanup(s.Close)
	return s
}

// prober sends events that raise an alert, one at a time.
type prober struct {
	b     *testing.B
	slack *fakeSlack
	url   string
	n     int
}

const probeEvent = `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[{"level":"Metadata",` +
	`"auditID":"00000000-0000-4000-8000-%012[1]d","stage":"ResponseStarted",` +
	`"requestURI":"/api/v1/namespaces/kube-system/pods/probe-pod-%[1]d/exec?command=sh","verb":"get",` +
	`"user":{"username":"mallory","groups":["system:authenticated"]},"sourceIPs":["192.0.2.10"],"userAgent":"kubectl/v1.34.1",` +
	`"objectRef":{"resource":"pods","namespace":"kube-system","name":"probe-pod-%[1]d","apiVersion":"v1","subresource":"exec"},` +
	`"responseStatus":{"metadata":{},"code":101},"requestReceivedTimestamp":"%[2]s","stageTimestamp":"%[2]s",` +
	`"annotations":{"authorization.k8s.io/decision":"allow"}}]}`

func (p *prober) probe() time.Duration {
	p.b.Helper()
	p.n++
	name := "probe-pod-" + strconv.Itoa(p.n)
	begin := time.Now()
	event := fmt.Sprintf(probeEvent, p.n, begin.UTC().Format("2006-01-02T15:04:05.000000Z"))
	p.post([]byte(event))
	deadline := time.After(time.Minute)
	for {
		select {
		case a := <-p.slack.arrived:
			if a.probe == name {
				return a.at.Sub(begin)
			}
		case <-deadline:
			p.b.Fatalf("no message about %s after a minute", name)
		}
	}
}

// post repeats until the webhook, which may just start, has taken the event.
func (p *prober) post(body []byte) {
	p.b.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(100 * time.Millisecond) {
		response, err := http.Post(p.url, "application/json", bytes.NewReader(body))
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("the webhook answered %s", response.Status)
		}
		if time.Now().After(deadline) {
			p.b.Fatal(err)
		}
	}
}

var highWater = regexp.MustCompile(`VmHWM:\s+([0-9]+) kB`)

// peakMiB is the most memory that the process ever had resident.
func (p *proc) peakMiB(b *testing.B) float64 {
	b.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "status"))
	if err != nil {
		return 0 // not Linux
	}
	found := highWater.FindSubmatch(status)
	if found == nil {
		b.Fatalf("%s has ended", p.name)
	}
	kb, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return kb / 1024
}
