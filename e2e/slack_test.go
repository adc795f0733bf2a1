package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/auditmill/auditmill/alert/notify"
	"github.com/auditmill/auditmill/ingest/replay"
	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/load"
	"github.com/auditmill/auditmill/offline"
	"github.com/auditmill/auditmill/schemas"
)

// slackRun is one way to play matches through all services to Slack.
type slackRun struct {
	matches, groups int
	rate            float64 // of events per second
	trouble         int     // percent of the requests to Slack that fail
	kills           int     // at least so many, of the instances of alert
}

// matches is how many events match: as many as AUDITMILL_E2E_MATCHES says, or few for everyday runs. They find the same
// faults, less often.
func matches(t *testing.T) int {
	t.Helper()
	text := os.Getenv("AUDITMILL_E2E_MATCHES")
	if text == "" {
		return 2000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 500 {
		t.Fatalf("AUDITMILL_E2E_MATCHES is %q, want a number of at least 500", text)
	}
	return n
}

// TestSlackKill plays matches to a Slack that fails, while instances of alert are killed, and once more to one that works,
// undisturbed. No group is lost, none is posted twice without such a reason, and what Slack shows is what ClickHouse has.
func TestSlackKill(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes of killing and restarting")
	}
	t.Run("undisturbed", func(t *testing.T) {
		slackRun{matches: 1000, groups: 60, rate: 200}.play(t)
	})
	t.Run("killed", func(t *testing.T) {
		n := matches(t)
		slackRun{matches: n, groups: max(60, n/300), rate: max(100, float64(n)/60), trouble: 12, kills: 6 + n/20_000}.play(t)
	})
}

func (run slackRun) play(t *testing.T) {
	t.Helper()
	begin := time.Now()
	slack := newSlackServer(t, run.trouble)
	f := newFleet(t)
	ruleDir := f.writeRules()
	clusters := []string{"c0", "c1", "c2", "c3"}
	events := run.events(clusters)
	want := expectedGroups(t, ruleDir, events)
	if len(want) != run.groups {
		t.Fatalf("the events make %d groups, want %d", len(want), run.groups)
	}
	kafkaPort, chPort, port := freePort(t), freePort(t), freePort(t)
	config := fmt.Sprintf(`
kafka: {brokers: ["127.0.0.1:%[1]d"]}
topics: {partitions: 4, replication: 1}
clickhouse: {addresses: ["127.0.0.1:%[2]d"]}
embedded: {data_dir: %[3]q, clickhouse: {port: %[2]d}, kafka: {port: %[1]d, sync: false}}
ops: {listen: "127.0.0.1:0"}
ingest: {webhook: {listen: "127.0.0.1:%[4]d", anonymous: [%[5]s]}}
alert:
  session_timeout: 6s
  rules: {embedded: false, directories: [%[6]q]}
  slack: {bot_token: xoxb-test, channel: C1, api_url: "%[7]s/api/", interval: 50ms, timeout: 5s}
  notify:
    {session_timeout: 6s, retry_min: 100ms, retry_max: 2s, update_interval: 1s, digest_above: 10, digest_interval: 2s}
`, kafkaPort, chPort, f.dir, port, strings.Join(clusters, ", "), ruleDir, slack.URL)
	if err := os.WriteFile(f.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	f.firstLine(f.start("kafka", "embedded", "kafka"))
	credentials := strings.Fields(f.firstLine(f.start("clickhouse", "embedded", "clickhouse")))
	t.Setenv("AUDITMILL_CLICKHOUSE_USER", credentials[1])
	t.Setenv("AUDITMILL_CLICKHOUSE_PASSWORD", credentials[2])
	f.run("topics", "--create")
	f.run("migrate", "--apply")
	for _, name := range []string{"ingest", "enrich", "load"} {
		f.start(name, name)
	}
	victims := []*proc{f.start("alert0", "alert"), f.start("alert1", "alert")}
	server := load.DefaultClickHouse()
	server.Addresses = []string{fmt.Sprintf("127.0.0.1:%d", chPort)}
	server.User, server.Password = credentials[1], conf.Secret(credentials[2])
	conn, err := load.Connect(server)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	told := follow(t, fmt.Sprintf("127.0.0.1:%d", kafkaPort))

	killing, stopKilling := context.WithCancel(t.Context())
	enough, killed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(killed)
		slack.disturb(killing, victims, run.kills, enough)
	}()
	started := time.Now()
	run.send(t, fmt.Sprintf("http://127.0.0.1:%d", port), events)
	sent := time.Now()
	waitFor(t, conn, "SELECT toInt64(count()) FROM auditmill.alerts FINAL", int64(run.matches))
	loaded := time.Now()
	told.until(slack, "a group is told of", want, func(g *notify.Group, _ int) bool { return g.Told[notify.DefaultReceiver] != nil })
	<-enough
	stopKilling()
	<-killed
	told.until(slack, "the latest of a group is told", want, func(g *notify.Group, n int) bool {
		s := g.Told[notify.DefaultReceiver]
		return g.Count == uint64(n) && s != nil && (s.State == "digest" || s.Count == g.Count && s.Waking == g.Waking)
	})
	t.Logf("%d matches in %d groups: ready after %s, sent in %s, loaded %s later, settled %s after that; %d kills", run.matches, run.groups,
		started.Sub(begin).Round(time.Second), sent.Sub(started).Round(time.Second), loaded.Sub(sent).Round(time.Second),
		time.Since(loaded).Round(time.Second), slack.kills)
	t.Log(slack)
	checkAlerts(t, conn, run.matches, want)
	run.checkSlack(t, slack, told, want)
	run.checkTwice(t, slack, told)
}

// rulesForSlack have different severities and match all events.
const rulesForSlack = `title: Secret read
id: 3b0ff8a4-4b4b-4c39-9d21-0b1e6c2f0001
logsource: {product: kubernetes, service: audit}
detection: {selection: {objectRef.resource: secrets}, condition: selection}
level: high
---
title: Pod deleted
id: 3b0ff8a4-4b4b-4c39-9d21-0b1e6c2f0002
logsource: {product: kubernetes, service: audit}
detection: {selection: {objectRef.resource: pods}, condition: selection}
level: critical
---
title: ConfigMap read
id: 3b0ff8a4-4b4b-4c39-9d21-0b1e6c2f0003
logsource: {product: kubernetes, service: audit}
detection: {selection: {objectRef.resource: configmaps}, condition: selection}
level: low
`

func (f *fleet) writeRules() string {
	f.t.Helper()
	dir := filepath.Join(f.dir, "rules")
	if err := os.Mkdir(dir, 0o700); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "slack.yml"), []byte(rulesForSlack), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return dir
}

const slackEvent = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"00000000-0000-4000-8000-%012[1]d",` +
	`"stage":"ResponseComplete","requestURI":"/api/v1/namespaces/team-%[2]d/%[3]s/x","verb":"get",` +
	`"user":{"username":"user-%[4]d","groups":["system:authenticated"]},"sourceIPs":["192.0.2.10"],"userAgent":"kubectl/v1.34.1",` +
	`"objectRef":{"resource":"%[3]s","namespace":"team-%[2]d","name":"x","apiVersion":"v1"},` +
	`"responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"%[5]s","stageTimestamp":"%[5]s",` +
	`"annotations":{"authorization.k8s.io/decision":"allow"}}`

// events are those of each cluster. The first half of the groups begins one after the other, the second half at once; some go on
// after a pause that makes them news again.
func (run slackRun) events(clusters []string) map[string][][]byte {
	out := map[string][][]byte{}
	start := time.Now().Add(-2 * time.Hour)
	begun := 0
	for i := range run.matches {
		g := rand.IntN(max(1, begun)) // goes on
		switch half := run.groups / 2; {
		case begun < half && i*run.groups/run.matches >= begun, i >= run.matches/2 && begun < run.groups:
			g = begun
			begun++
		case rand.IntN(2) == 0:
			g = max(0, begun-1-rand.IntN(4)) // the latest go on most
		}
		at := start.Add(time.Duration(i) * time.Hour / time.Duration(run.matches)).UTC().Format("2006-01-02T15:04:05.000000Z")
		cluster := clusters[g%len(clusters)]
		resource := []string{"secrets", "pods", "configmaps"}[g%3]
		out[cluster] = append(out[cluster], fmt.Appendf(nil, slackEvent, i, g%7, resource, g, at))
	}
	return out
}

// expectedGroups are the numbers of alerts by group that the rules raise without a server.
func expectedGroups(t *testing.T, ruleDir string, events map[string][][]byte) map[string]map[string]bool {
	t.Helper()
	pack, err := offline.Sources{Paths: []string{ruleDir}}.Load()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]bool{} // alert ids
	for cluster, lines := range events {
		raised, err := offline.Raise(t.Context(), pack, offline.Recorded(lines, offline.Context{}, cluster))
		if err != nil {
			t.Fatal(err)
		}
		for id, a := range raised.Arrived {
			if want[a.GroupID] == nil {
				want[a.GroupID] = map[string]bool{}
			}
			want[a.GroupID][id] = true
		}
	}
	return want
}

func (run slackRun) send(t *testing.T, url string, events map[string][][]byte) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	for cluster, lines := range events {
		group.Go(func() error {
			cfg := replay.DefaultConfig()
			// As a webhook sends them they would have other bytes, and so other ids, than without a server.
			cfg.URL, cfg.Cluster, cfg.AsIs = url, cluster, true
			cfg.Rate, cfg.BatchSize = run.rate/float64(len(events)), max(10, int(run.rate/40))
			counts, err := replay.Events(ctx, cfg, lines)
			if err == nil && counts.Accepted != int64(len(lines)) {
				err = fmt.Errorf("%d of %d accepted", counts.Accepted, len(lines))
			}
			if err != nil {
				return fmt.Errorf("sending %s: %w", cluster, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// patience is how long nothing may move. The embedded Kafka waits for one that was killed while it joined as long as for one
// that is slow to join, and begins anew when another joins.
const patience = 3 * time.Minute

// quiet is how long a kill waits for requests to Slack: in the end there is nothing left to say.
const quiet = 20 * time.Second

// disturb kills one victim after the other until ctx ends: mostly while messages are on their way, and sometimes before anybody
// has taken over from the one before. It closes enough after least kills.
func (s *slackServer) disturb(ctx context.Context, victims []*proc, least int, enough chan struct{}) {
	if least == 0 {
		close(enough)
		return
	}
	for n := 1; ; n++ {
		if rand.IntN(6) > 0 {
			s.wait(ctx, 1+rand.IntN(60), quiet)
		} else {
			s.wait(ctx, 1<<30, time.Duration(1+rand.IntN(4000))*time.Millisecond)
		}
		if ctx.Err() != nil {
			return
		}
		s.killed()
		victims[rand.IntN(len(victims))].kill()
		if n == least {
			close(enough)
		}
	}
}

// wait waits for a number of requests, but not longer than most.
func (s *slackServer) wait(ctx context.Context, requests int, most time.Duration) {
	late := time.After(most)
	before, changed := s.seen()
	for now := before; now < before+requests; now, changed = s.seen() {
		select {
		case <-changed:
		case <-late:
			return
		case <-ctx.Done():
			return
		}
	}
}

// records are the groups as audit.notifications.v1 has them.
type records struct {
	t      *testing.T
	client *kgo.Client
	groups map[string]*notify.Group
}

func follow(t *testing.T, broker string) *records {
	t.Helper()
	cfg := kafka.DefaultConfig()
	cfg.Brokers = []string{broker}
	client, err := kafka.NewClient(cfg, kgo.ConsumeTopics(schemas.TopicNotifications))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &records{t, client, map[string]*notify.Group{}}
}

// until reads on until ok holds for every group, given the number of its alerts. It fails if nothing moves.
func (r *records) until(slack *slackServer, what string, want map[string]map[string]bool, ok func(*notify.Group, int) bool) {
	r.t.Helper()
	for deadline, last := time.Now().Add(patience), 0; ; {
		missing := 0
		example := ""
		for id, alerts := range want {
			if g := r.groups[id]; g == nil || !ok(g, len(alerts)) {
				missing++
				example = fmt.Sprintf("%s with %d alerts is recorded as %s", id, len(alerts), asJSON(g))
			}
		}
		if missing == 0 {
			return
		}
		if n := slack.count(); n > last {
			deadline, last = time.Now().Add(patience), n
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not so for %d of %d groups; %s", what, missing, len(want), example)
		}
		r.read()
	}
}

func asJSON(g *notify.Group) string {
	b, err := json.Marshal(g)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// read takes in the next records, for at most a moment.
func (r *records) read() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 200*time.Millisecond)
	defer cancel()
	for _, record := range r.client.PollFetches(ctx).Records() {
		if !strings.HasPrefix(string(record.Key), "group/") {
			continue
		}
		g := &notify.Group{}
		if err := json.Unmarshal(record.Value, g); err != nil {
			r.t.Fatal(err)
		}
		r.groups[g.ID] = g
	}
}
