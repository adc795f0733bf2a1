package load

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/schemas"
)

// fate is what a fault does to one insert.
type fate int

const (
	pass     fate = iota
	refuse        // fails and did not happen
	swallow       // happened, but the answer is lost
	hang          // happened, and the answer never comes
	overload      // ClickHouse says that it has no memory
)

// faultyProxy stands between the service and ClickHouse.
type faultyProxy struct {
	addr string

	mu      sync.Mutex
	inserts int
	plan    func(insert int, query url.Values) fate
}

func newFaultyProxy(t *testing.T, target string, plan func(insert int, query url.Values) fate) *faultyProxy {
	t.Helper()
	p := &faultyProxy{plan: plan}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target})
	forward.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch p.fateOf(r) {
		case pass:
			forward.ServeHTTP(w, r)
		case refuse:
			_, _ = io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler)
		case swallow:
			forward.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		case hang:
			ctx := context.WithoutCancel(r.Context())
			forward.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
			<-r.Context().Done()
		case overload:
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("X-ClickHouse-Exception-Code", "241")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "Code: 241. DB::Exception: (total) memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)")
		}
	}))
	t.Cleanup(server.Close)
	p.addr = strings.TrimPrefix(server.URL, "http://")
	return p
}

func (p *faultyProxy) fateOf(r *http.Request) fate {
	query := r.URL.Query()
	if query.Get("query") == "" { // a statement without data comes in the body
		sql, err := io.ReadAll(r.Body)
		if err != nil {
			return refuse
		}
		r.Body = io.NopCloser(bytes.NewReader(sql))
		query.Set("query", string(sql))
	}
	if !strings.HasPrefix(query.Get("query"), "INSERT INTO") {
		return pass
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inserts++
	return p.plan(p.inserts, query)
}

func (p *faultyProxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inserts
}

func TestFailedInserts(t *testing.T) {
	for _, test := range []struct {
		name string
		fate fate
	}{{"did not happen", refuse}, {"happened but the answer was lost", swallow}, {"no memory", overload}} {
		t.Run(test.name, func(t *testing.T) {
			c, conn := testDatabase(t)
			k := testKafka(t, 2)
			client := testClient(t, k)
			proxy := newFaultyProxy(t, c.Addresses[0], func(n int, _ url.Values) fate {
				if n%3 != 0 {
					return test.fate
				}
				return pass
			})
			through := c
			through.Addresses = []string{proxy.addr}
			events := recorded(t, 1000)
			s := start(t, testConfig(), k, through)
			produce(t, client, schemas.TopicEnriched, 0, values(t, 0, 0, 50, events[:600])...)
			produce(t, client, schemas.TopicEnriched, 1, values(t, 1, 0, 50, events[600:])...)
			awaitEvents(t, conn, c, 1000)
			s.stop(t)
			checkCounts(t, conn, c, 1000)
			if proxy.count() < 3 {
				t.Errorf("only %d inserts: nothing was repeated", proxy.count())
			}
		})
	}
}

// TestKilledInTheMiddle ends the service without any grace at each point of a range, starts another and looks
// whether the rows are there once.
func TestKilledInTheMiddle(t *testing.T) {
	for _, test := range []struct {
		name   string
		fate   fate
		trust  time.Duration
		merged bool // whether a compared range is expected
	}{
		{"between the pending commit and the insert", refuse, time.Hour, false},
		{"between the insert and its commit", swallow, time.Hour, false},
		{"while the insert runs", hang, time.Hour, false},
		{"before the insert, too long ago for tokens", refuse, time.Nanosecond, true},
		{"after the insert, too long ago for tokens", swallow, time.Nanosecond, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, conn := testDatabase(t)
			k := testKafka(t, 1)
			client := testClient(t, k)
			events := recorded(t, 1500)
			produce(t, client, schemas.TopicEnriched, 0, values(t, 0, 0, 50, events[:500])...)

			reached := make(chan struct{}, 100)
			proxy := newFaultyProxy(t, c.Addresses[0], func(int, url.Values) fate {
				reached <- struct{}{}
				return test.fate
			})
			through := c
			through.Addresses = []string{proxy.addr}
			cfg := testConfig()
			cfg.DrainTimeout = time.Nanosecond
			cfg.RetryMin, cfg.RetryMax = time.Hour, time.Hour // the first attempt is the only one
			first := start(t, cfg, k, through)
			<-reached
			first.stop(t)
			pending := committed(t, client, 0)
			if _, ok, err := parseSpan(pending.Metadata); !ok || err != nil {
				t.Fatalf("no range is pending after the kill: %q", pending.Metadata)
			}

			// What comes meanwhile must not be drawn into the repeated range.
			produce(t, client, schemas.TopicEnriched, 0, values(t, 0, 500, 50, events[500:])...)
			cfg = testConfig()
			cfg.TrustDedup = test.trust
			second := start(t, cfg, k, c)
			awaitEvents(t, conn, c, 1500)
			eventually(t, "the commit", func() bool { return committed(t, client, 0).At == 30 })
			second.stop(t)
			checkCounts(t, conn, c, 1500)
			if got := committed(t, client, 0); got.Metadata != "" {
				t.Errorf("metadata after all is done: %q", got.Metadata)
			}
			if got := testutil.ToFloat64(second.metrics.replays); got != 1 {
				t.Errorf("%v ranges were repeated, want 1", got)
			}
			if got := testutil.ToFloat64(second.metrics.compared) > 0; got != test.merged {
				t.Errorf("compared with the table: %v, want %v", got, test.merged)
			}
		})
	}
}

// TestRollupsAreRepaired lets the rows of a range be in events and not in the rollups, as a server
// that dies between the two leaves it, when it is too late for tokens.
func TestRollupsAreRepaired(t *testing.T) {
	c, conn := testDatabase(t)
	k := testKafka(t, 1)
	client := testClient(t, k)
	events := recorded(t, 800)
	parts := values(t, 0, 0, 50, events)
	for _, table := range []string{"activity_per_minute_mv", "intake_per_minute_mv"} {
		if err := conn.Exec(t.Context(), "DETACH TABLE "+c.Database+"."+table); err != nil {
			t.Fatal(err)
		}
	}
	in := &inserter{conn: conn, timeout: c.QueryTimeout, metrics: newMetrics(nil)}
	for _, value := range parts[:6] {
		if err := in.insert(t.Context(), c.Database+".event_rows", "ArrowStream", once(), 50, bytes.NewReader(value)); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"activity_per_minute_mv", "intake_per_minute_mv"} {
		if err := conn.Exec(t.Context(), "ATTACH TABLE "+c.Database+"."+table); err != nil {
			t.Fatal(err)
		}
	}
	produce(t, client, schemas.TopicEnriched, 0, parts...)
	commitPending(t, client, 0, span{first: 0, last: 9, rows: 500, started: time.Now().Add(-time.Hour)})
	s := start(t, testConfig(), k, c)
	awaitEvents(t, conn, c, 800)
	eventually(t, "the commit", func() bool { return committed(t, client, 0).At == 16 })
	s.stop(t)
	checkCounts(t, conn, c, 800)
	if got := testutil.ToFloat64(s.metrics.present); got != 300 {
		t.Errorf("%v rows were found present, want 300", got)
	}
}

func TestClickHouseComesBack(t *testing.T) {
	c, conn := testDatabase(t)
	k := testKafka(t, 2)
	client := testClient(t, k)
	events := recorded(t, 4000)
	var down sync.Map
	proxy := newFaultyProxy(t, c.Addresses[0], func(int, url.Values) fate {
		if _, ok := down.Load("down"); ok {
			return refuse
		}
		return pass
	})
	through := c
	through.Addresses = []string{proxy.addr}
	cfg := testConfig()
	cfg.MaxBuffer = 1 << 20
	s := start(t, cfg, k, through)
	produce(t, client, schemas.TopicEnriched, 0, values(t, 0, 0, 50, events[:500])...)
	awaitEvents(t, conn, c, 500)

	down.Store("down", true)
	before := proxy.count()
	produce(t, client, schemas.TopicEnriched, 0, values(t, 0, 500, 50, events[500:2000])...)
	for i := range 40 { // far more than may wait
		produce(t, client, schemas.TopicEnriched, 1, values(t, 1, int64(i)*50, 50, events[2000+i*50:2050+i*50])...)
	}
	eventually(t, "ten attempts", func() bool { return proxy.count() >= before+10 })
	if got := testutil.ToFloat64(s.metrics.buffered); got > float64(3*cfg.MaxBuffer) {
		t.Errorf("%v bytes wait while ClickHouse is away, limit %d", got, cfg.MaxBuffer)
	}
	down.Delete("down")
	awaitEvents(t, conn, c, 4000)
	s.stop(t)
	checkCounts(t, conn, c, 4000)
	if got := testutil.ToFloat64(s.metrics.buffered); got != 0 {
		t.Errorf("%v bytes wait after the end", got)
	}
}

// TestPartitionsMove runs two instances, of which one comes and goes while events flow.
func TestPartitionsMove(t *testing.T) {
	c, conn := testDatabase(t)
	k := testKafka(t, 4)
	client := testClient(t, k)
	events := recorded(t, 4000)
	steady := start(t, testConfig(), k, c)
	produceAll := func(from, to int) {
		for i := from; i < to; i += 50 {
			partition := int32(i / 50 % 4)
			produce(t, client, schemas.TopicEnriched, partition, values(t, partition, int64(i), 10, events[i:i+50])...)
		}
	}
	produceAll(0, 1000)
	for round := range 3 {
		other := start(t, testConfig(), k, c)
		produceAll(1000+1000*round, 1500+1000*round)
		eventually(t, "the other has partitions", func() bool {
			other.mu.Lock()
			defer other.mu.Unlock()
			return len(other.partitions) > 0
		})
		produceAll(1500+1000*round, 2000+1000*round)
		other.stop(t)
	}
	awaitEvents(t, conn, c, 4000)
	steady.stop(t)
	checkCounts(t, conn, c, 4000)
}

func committed(t *testing.T, client *kgo.Client, partition int32) kadm.Offset {
	t.Helper()
	offsets, err := kadm.NewClient(client).FetchOffsets(t.Context(), testConfig().Group)
	if err != nil {
		t.Fatal(err)
	}
	o, _ := offsets.Lookup(schemas.TopicEnriched, partition)
	return o.Offset
}

func commitPending(t *testing.T, client *kgo.Client, partition int32, s span) {
	t.Helper()
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{
		Topic: schemas.TopicEnriched, Partition: partition, At: s.first, LeaderEpoch: -1, Metadata: s.metadata(),
	})
	resp, err := kadm.NewClient(client).CommitOffsets(t.Context(), testConfig().Group, offsets)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		t.Fatal(fmt.Errorf("committing: %w", err))
	}
}
