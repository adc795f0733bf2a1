package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/alert/rules"
	"github.com/auditmill/auditmill/enrich"
	"github.com/auditmill/auditmill/ingest/replay"
	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/load"
	"github.com/auditmill/auditmill/offline"
	"github.com/auditmill/auditmill/testdata/recording"
)

// scale is how many clusters send the recording of 5,683 events: 36 make 204,588 distinct
// events. That many are sent in CI, where AUDITMILL_E2E_SCALE says so, and to Apache Kafka; the
// few of an everyday run find the same faults, less often.
func scale(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("AUDITMILL_E2E_SCALE"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("AUDITMILL_E2E_SCALE is %q, want a number of clusters", text)
		}
		return n
	}
	if os.Getenv("AUDITMILL_E2E_BROKERS") != "" {
		return 36
	}
	return 4
}

// TestKill plays the recording as many clusters, a part of them twice, through two instances of every service, while one
// process after the other is killed: services, Kafka and ClickHouse. The people become known in the middle of it, and the
// networks when all is over, while those who correct rows are killed. Afterwards every distinct event is in ClickHouse exactly
// once, says who it was and why it was allowed as if all had been known from the beginning, the rollups agree with the events,
// and every expected alert is there once by id.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes of killing and restarting")
	}
	lines, err := recording.Lines()
	if err != nil {
		t.Fatal(err)
	}
	clusters := scale(t)
	f := newFleet(t)
	chPort := freePort(t)
	brokers, victims := f.kafka()
	names := make([]string, clusters)
	for i := range names {
		names[i] = "c" + strconv.Itoa(i)
	}
	f.writeConfig(brokers, chPort, names)
	clickHouse := f.start("clickhouse", "embedded", "clickhouse", "--set", "embedded.data_dir="+f.dir)
	credentials := strings.Fields(f.firstLine(clickHouse))
	t.Setenv("AUDITMILL_CLICKHOUSE_USER", credentials[1])
	t.Setenv("AUDITMILL_CLICKHOUSE_PASSWORD", credentials[2])
	said := f.run("topics", "--create")
	lone := os.Getenv("AUDITMILL_E2E_BROKERS") != "" && len(brokers) == 1
	if strings.Contains(said, "warning: one replica only of audit.raw.v1") != lone {
		t.Errorf("a lone Apache Kafka: %t; auditmill topics said:\n%s", lone, said)
	}
	f.run("migrate", "--apply")

	victims = append(victims, clickHouse.kill)
	var urls []string
	var enrichers []*proc
	for i := range 2 {
		port := freePort(t)
		urls = append(urls, fmt.Sprintf("http://127.0.0.1:%d", port))
		instance := strconv.Itoa(i)
		for _, args := range [][]string{
			{"ingest", "--set", fmt.Sprintf("ingest.webhook.listen=127.0.0.1:%d", port)},
			{"enrich", "--set", "enrich.instance=" + instance},
			{"alert"},
			{"load"},
		} {
			p := f.start(args[0]+instance, append(args, "--set", "ops.listen=127.0.0.1:0")...)
			if victims = append(victims, p.kill); args[0] == "enrich" {
				enrichers = append(enrichers, p)
			}
		}
	}

	killing, stopKilling := context.WithCancel(t.Context())
	killed := make(chan int)
	go func() { killed <- killAtRandom(killing, victims) }()
	err = send(t.Context(), names[:clusters/2], urls, lines)
	importing := make(chan error, 1)
	go func() { importing <- f.imports("--people", "people.csv", recording.People()) }()
	err = errors.Join(err, send(t.Context(), names[clusters/2:], urls, lines), <-importing)
	stopKilling()
	t.Logf("%d processes were killed", <-killed)
	if err != nil {
		t.Fatal(err)
	}

	cfg := load.DefaultClickHouse()
	cfg.Addresses = []string{fmt.Sprintf("127.0.0.1:%d", chPort)}
	cfg.User, cfg.Password = credentials[1], conf.Secret(credentials[2])
	conn, err := load.Connect(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	waitFor(t, conn, "SELECT toInt64(count()) FROM auditmill.events", int64(clusters*len(lines)))
	f.killWhileCorrecting(conn, brokers, enrichers)
	known := known(t)
	for _, cluster := range names {
		expectRows(t, conn, lines, known, cluster)
	}
	t.Logf("%d of %d rows were corrected", ask(t, conn, "SELECT toInt64(uniqExact(event_id)) FROM auditmill.event_rows WHERE version > 0"),
		clusters*len(lines))

	expected, err := rules.ExpectedAlerts()
	if err != nil {
		t.Fatal(err)
	}
	singles, correlated := offlineAlerts(t, lines, known, names)
	if len(singles.want) != clusters*len(expected) {
		t.Fatalf("without servers there are %d alerts on single events, want %d for each cluster", len(singles.want), len(expected))
	}
	waitFor(t, conn, "SELECT toInt64(count()) FROM auditmill.alerts FINAL WHERE "+singles.are, int64(len(singles.want)))
	waitFor(t, conn, "SELECT toInt64(count()) FROM auditmill.alerts FINAL WHERE id IN ("+correlated.ids+")", correlated.n)
	if got := ask(t, conn, "SELECT toInt64(count()) FROM auditmill.events"); got != int64(clusters*len(lines)) {
		showOffsets(t, brokers)
	}
	if twice := enrichedTwice(t, brokers, clusters*len(lines)); twice > 0 {
		t.Errorf("%d raw records were enriched twice", twice)
	}
	for question, want := range map[string]int64{
		"SELECT toInt64(count()) FROM auditmill.events":                                                                    int64(clusters * len(lines)),
		"SELECT toInt64(uniqExact(fingerprint)) FROM auditmill.events":                                                     int64(clusters * len(lines)),
		"SELECT toInt64(uniqExact(event_id)) FROM auditmill.events":                                                        int64(clusters * len(lines)),
		"SELECT toInt64(uniqExact(raw_partition, raw_offset)) FROM auditmill.events":                                       int64(clusters * len(lines)),
		"SELECT toInt64(sum(events)) FROM auditmill.activity_per_minute":                                                   int64(clusters * len(lines)),
		"SELECT toInt64(sum(events)) FROM auditmill.intake_per_minute":                                                     int64(clusters * len(lines)),
		"SELECT toInt64(uniqExact(rule, fingerprint)) - toInt64(uniqExact(id)) FROM auditmill.alerts WHERE " + singles.are: 0,
		// What waits for a watermark may be decided otherwise when events are later than the rule allows, as they are here.
		"SELECT toInt64(count()) FROM auditmill.alerts FINAL WHERE id IN (" + correlated.ids + ")":                                               correlated.n,
		"SELECT toInt64(count()) FROM auditmill.alerts FINAL WHERE " + correlated.eager + " AND id NOT IN (" + correlated.ids + ")" + notEarly:   0,
		"SELECT toInt64(count()) FROM (SELECT cluster FROM auditmill.events GROUP BY cluster HAVING count() = " + strconv.Itoa(len(lines)) + ")": int64(clusters),
	} {
		if got := ask(t, conn, question); got != want {
			t.Errorf("%s = %d, want %d", question, got, want)
		}
	}
	singles.expect(t, conn)
}

// corrected selects the ids of events whose first row was not the last: such a row may have raised what the last one would not.
const corrected = "(SELECT lower(hex(event_id)) FROM auditmill.event_rows WHERE version > 0)"

// notEarly is the condition that no event of an alert was corrected.
const notEarly = " AND id NOT IN (SELECT id FROM (SELECT id, arrayJoin(event_ids) AS event FROM auditmill.alerts) WHERE event IN " + corrected + ")"

// expect compares the alerts on single events with those that must be there.
func (s *singles) expect(t *testing.T, conn load.Conn) {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT concat(rule, ' ', fingerprint), toInt64(count()), toInt64(max(event_id IN "+corrected+
		")) FROM auditmill.alerts FINAL WHERE "+s.are+" GROUP BY 1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	there, early := 0, 0
	for rows.Next() {
		var key string
		var n, corrected int64
		if err := rows.Scan(&key, &n, &corrected); err != nil {
			t.Fatal(err)
		}
		switch {
		case n != 1:
			t.Errorf("the alert %s is there %d times", key, n)
		case s.want[key]:
			there++
		case corrected == 1:
			early++
		default:
			t.Errorf("the alert %s should not be there", key)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if there != len(s.want) {
		t.Errorf("%d of %d alerts are missing", len(s.want)-there, len(s.want))
	}
	t.Logf("%d alerts more were raised by rows that were corrected later", early)
}

// singles are the alerts that single events must raise.
type singles struct {
	are  string          // condition in SQL
	want map[string]bool // by rule and fingerprint
}

// correlations are the alerts that correlations must raise.
type correlations struct {
	ids   string // as a list in SQL
	n     int64
	eager string // condition for alerts of rules that need not wait for anything
}

// offlineAlerts returns what the rules raise on the same events without a server.
func offlineAlerts(t *testing.T, lines [][]byte, known offline.Context, clusters []string) (s singles, c correlations) {
	t.Helper()
	pack, err := offline.Sources{}.Load()
	if err != nil {
		t.Fatal(err)
	}
	several := map[string]bool{}
	for i := range pack.Correlations {
		several[pack.Correlations[i].ID] = true
	}
	raised, err := offline.Raise(t.Context(), pack, offline.Recorded(lines, known, clusters...))
	if err != nil {
		t.Fatal(err)
	}
	s.want = map[string]bool{}
	ids := []string{"''"}
	waiting := []string{"''"}
	for id, a := range raised.Arrived {
		if several[a.Rule] {
			ids = append(ids, "'"+id+"'")
		} else {
			s.want[a.Rule+" "+a.Fingerprint] = true
		}
	}
	for id := range several {
		if i := slices.IndexFunc(pack.Correlations, func(c ir.Correlation) bool { return c.ID == id }); !offline.OnArrival(&pack.Correlations[i]) {
			waiting = append(waiting, "'"+id+"'")
		}
	}
	all := make([]string, 0, len(several))
	for id := range several {
		all = append(all, "'"+id+"'")
	}
	in := "rule IN (" + strings.Join(all, ", ") + ")"
	s.are = "NOT " + in
	return s, correlations{
		ids: strings.Join(ids, ", "), n: int64(len(ids) - 1), eager: in + " AND rule NOT IN (" + strings.Join(waiting, ", ") + ")",
	}
}

// kafka starts the embedded Kafka as a process of its own, or uses the brokers that the
// environment names.
func (f *fleet) kafka() (brokers []string, kills []func()) {
	f.t.Helper()
	if addresses := os.Getenv("AUDITMILL_E2E_BROKERS"); addresses != "" {
		brokers = strings.Split(addresses, ",")
		return brokers, f.apacheKafka(brokers, os.Getenv("AUDITMILL_E2E_KAFKA_DIR"))
	}
	port := freePort(f.t)
	brokers = []string{fmt.Sprintf("127.0.0.1:%d", port)}
	f.writeConfig(brokers, port, nil)
	p := f.start("kafka", "embedded", "kafka", "--set", "embedded.data_dir="+f.dir, "--set", fmt.Sprintf("embedded.kafka.port=%d", port))
	f.firstLine(p)
	return brokers, []func(){p.kill}
}

func (f *fleet) writeConfig(brokers []string, chPort int, names []string) {
	f.t.Helper()
	config := fmt.Sprintf(`
kafka: {brokers: ["%s"]}
topics: {partitions: 8, replication: %d}
clickhouse: {addresses: ["127.0.0.1:%d"]}
embedded: {clickhouse: {port: %[3]d}, kafka: {sync: false}}
load: {session_timeout: 6s}
enrich: {session_timeout: 6s}
ingest: {webhook: {anonymous: [%s]}}
`, strings.Join(brokers, `", "`), min(len(brokers), 3), chPort, strings.Join(names, ", "))
	if err := os.WriteFile(f.config, []byte(config), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// killAtRandom kills one victim after the other until ctx ends, and returns how many.
func killAtRandom(ctx context.Context, victims []func()) int {
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for n := 0; ; n++ {
		select {
		case <-time.After(time.Duration(500+random.IntN(1500)) * time.Millisecond):
		case <-ctx.Done():
			return n
		}
		// The first round takes every one of them, in case the run is short.
		if n < len(victims) {
			victims[n]()
		} else {
			victims[random.IntN(len(victims))]()
		}
	}
}

// killWhileCorrecting tells of the networks when all rows are written, so that many must be written again, and kills those
// who do that in the middle of it.
func (f *fleet) killWhileCorrecting(conn load.Conn, brokers []string, enrichers []*proc) {
	f.t.Helper()
	members := f.newMembers(brokers, len(enrichers), nil)
	if err := f.imports("--ranges", "networks.txt", recording.Networks()); err != nil {
		f.t.Fatal(err)
	}
	const sql = "SELECT toInt64(count()) FROM auditmill.event_rows WHERE source_zone != ''"
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for i := range 3 {
		// A pass begins when partitions are owned, and is soon over.
		<-time.After(time.Duration(random.IntN(1500)) * time.Millisecond)
		enrichers[i%len(enrichers)].kill()
		f.t.Logf("%d rows were corrected when %s was killed", ask(f.t, conn, sql), enrichers[i%len(enrichers)].name)
		members = f.newMembers(brokers, len(enrichers), members)
	}
}

// newMembers waits until the group of enrich has so many members, each with partitions, who are not those of before, and
// returns them.
func (f *fleet) newMembers(brokers []string, n int, before []string) []string {
	f.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		f.t.Fatal(err)
	}
	defer client.Close()
	name, state := enrich.DefaultConfig().Group, ""
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		groups, err := kadm.NewClient(client).DescribeGroups(f.t.Context(), name)
		if err == nil {
			group := groups[name]
			var members []string
			for _, m := range group.Members {
				if c, ok := m.Assigned.AsConsumer(); ok && len(c.Topics) > 0 {
					members = append(members, m.MemberID)
				}
			}
			slices.Sort(members)
			if state = group.State; state == "Stable" && len(members) == n && !slices.Equal(members, before) {
				return members
			}
		}
		<-time.After(100 * time.Millisecond)
	}
	f.t.Fatalf("group %s is %s and did not come together", name, state)
	return nil
}

// send plays every cluster once, and every fourth once more through the other instance.
func send(ctx context.Context, names, urls []string, lines [][]byte) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(6)
	for i, cluster := range names {
		for copies := range 1 + i%4/3 {
			group.Go(func() error {
				cfg := replay.DefaultConfig()
				cfg.URL, cfg.Cluster, cfg.Rate = urls[(i+copies)%len(urls)], cluster, 1000
				counts, err := replay.Events(ctx, cfg, lines)
				if err != nil {
					return fmt.Errorf("sending %s: %w", cluster, err)
				}
				if counts.Accepted != int64(len(lines)) {
					return fmt.Errorf("sending %s: %d of %d accepted", cluster, counts.Accepted, len(lines))
				}
				return nil
			})
		}
	}
	return group.Wait()
}

func ask(t testing.TB, conn load.Conn, sql string) int64 {
	t.Helper()
	var n int64
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// waitFor waits until a count has reached want and stayed there for some seconds, or has
// not moved for a minute.
func waitFor(t *testing.T, conn load.Conn, sql string, want int64) {
	t.Helper()
	last, moved := int64(-1), time.Now()
	for {
		var n int64
		if err := conn.QueryRow(t.Context(), sql).Scan(&n); err == nil && n != last {
			last, moved = n, time.Now()
		}
		if still := time.Since(moved); last >= want && still > 3*time.Second || still > 2*time.Minute {
			return
		}
		<-time.After(200 * time.Millisecond)
	}
}
