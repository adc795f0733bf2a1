package ingest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// answerProduce returns an answer with one error code for every partition of a request.
func answerProduce(req kmsg.Request, code int16) kmsg.Response {
	r := req.(*kmsg.ProduceRequest)
	res := r.ResponseKind().(*kmsg.ProduceResponse)
	for _, t := range r.Topics {
		rt := kmsg.ProduceResponseTopic{Topic: t.Topic, TopicID: t.TopicID}
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, code
			rt.Partitions = append(rt.Partitions, rp)
		}
		res.Topics = append(res.Topics, rt)
	}
	return res
}

// faulty has the broker do something else with the first n produce requests.
func faulty(c *kfake.Cluster, n int, do func(kmsg.Request) (kmsg.Response, error, bool)) {
	var seen atomic.Int32
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if int(seen.Add(1)) > n {
			return nil, nil, false
		}
		return do(req)
	})
}

// lossy is a network that loses the next answers to produce requests: the broker has done
// what it was asked, and the connection breaks.
type lossy struct{ answers atomic.Int32 }

func (l *lossy) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	return &lossyConn{Conn: conn, network: l}, err
}

type lossyConn struct {
	net.Conn
	network *lossy
	produce atomic.Bool
}

func (c *lossyConn) Write(p []byte) (int, error) {
	if len(p) > 6 && binary.BigEndian.Uint16(p[4:]) == uint16(kmsg.Produce) {
		c.produce.Store(true)
	}
	return c.Conn.Write(p)
}

func (c *lossyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil && c.produce.Load() && c.network.answers.Add(-1) >= 0 {
		_ = c.Close()
		return 0, io.EOF
	}
	return n, err
}

// sender repeats each batch until it is accepted, as an API server does, only faster.
func sender(ctx context.Context, url func() string, batches [][]byte) error {
	client := &http.Client{}
	defer client.CloseIdleConnections()
	for _, body := range batches {
		for {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url()+"/v1/audit/prod", strings.NewReader(string(body)))
			if err != nil {
				return err
			}
			req.Header.Set("Authorization", "Bearer "+testToken)
			res, err := client.Do(req)
			if err == nil {
				_ = res.Body.Close()
				if res.StatusCode == http.StatusOK {
					break
				}
				if res.StatusCode != http.StatusServiceUnavailable && res.StatusCode != http.StatusTooManyRequests {
					return fmt.Errorf("status %d", res.StatusCode)
				}
			}
			timer := time.NewTimer(20 * time.Millisecond)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

const (
	faultBatches = 12
	faultEvents  = 40
)

func eventLine(id int) string {
	return fmt.Sprintf(`{"level":"Metadata","auditID":"%d","stage":"ResponseComplete","verb":"get"}`, id)
}

func numberedBatches() (batches [][]byte) {
	for i := range faultBatches {
		lines := make([]string, faultEvents)
		for j := range lines {
			lines[j] = eventLine(i*faultEvents + j)
		}
		batches = append(batches, []byte(`{"kind":"EventList","items":[`+strings.Join(lines, ",")+`]}`))
	}
	return batches
}

// everything reads the raw topic to its end and returns how often each event is there.
func everything(t *testing.T, cfg kafka.Config) map[string]int {
	t.Helper()
	copies := map[string]int{}
	cl, err := kafka.NewClient(cfg, kgo.ConsumeTopics(schemas.TopicRaw), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ends := 0
	for p := range int32(12) {
		r := &kgo.Record{Topic: schemas.TopicRaw, Partition: p, Value: []byte("end")}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for ends < 12 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		for _, r := range fetches.Records() {
			if string(r.Value) == "end" {
				ends++
				continue
			}
			copies[string(r.Value)]++
		}
	}
	return copies
}

func checkEverything(t *testing.T, copies map[string]int, n, mostCopies int) {
	t.Helper()
	for id := range n {
		if c := copies[eventLine(id)]; c < 1 || c > mostCopies {
			t.Errorf("event %d is there %d times, want 1 to %d", id, c, mostCopies)
		}
	}
	if len(copies) != n {
		t.Errorf("%d distinct events, want %d", len(copies), n)
	}
}

// Whatever happens to a produce request, an accepted batch is there, and copies come only
// from a sender that was told to repeat.
func TestProduceFaults(t *testing.T) {
	for _, tt := range []struct {
		name string
		most int // copies of an event
		do   func(*kfake.Cluster, *lossy)
	}{
		{"failed and not persisted, passes", 1, func(c *kfake.Cluster, _ *lossy) {
			faulty(c, 3, func(req kmsg.Request) (kmsg.Response, error, bool) {
				return answerProduce(req, kerr.NotEnoughReplicas.Code), nil, true
			})
		}},
		{"failed and not persisted, for good", 1, func(c *kfake.Cluster, _ *lossy) {
			faulty(c, 3, func(req kmsg.Request) (kmsg.Response, error, bool) {
				return answerProduce(req, kerr.PolicyViolation.Code), nil, true
			})
		}},
		{"connection broken, not persisted", 1, func(c *kfake.Cluster, _ *lossy) {
			faulty(c, 3, func(kmsg.Request) (kmsg.Response, error, bool) {
				return nil, io.ErrUnexpectedEOF, true
			})
		}},
		{"persisted, answer lost", 1, func(_ *kfake.Cluster, l *lossy) { l.answers.Store(3) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, cfg := startKafka(t)
			network := &lossy{}
			clean := cfg
			cfg.Dialer = network.dial
			tt.do(c, network)
			_, url, stop := start(t, testConfig(), Deps{Kafka: cfg})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := sender(ctx, func() string { return url }, numberedBatches()); err != nil {
				t.Fatal(err)
			}
			if err := stop(); err != nil {
				t.Errorf("Run: %v", err)
			}
			if network.answers.Load() > 0 {
				t.Error("no answer was lost")
			}
			checkEverything(t, everything(t, clean), faultBatches*faultEvents, tt.most)
		})
	}
}

// A service that is cut off in the middle of requests, again and again, loses nothing that
// it accepted.
func TestKilledMidway(t *testing.T) {
	c, cfg := startKafka(t)
	config := testConfig()
	config.Webhook.DrainTimeout = time.Nanosecond // hang up on whoever waits
	var url atomic.Value
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, first, stop := start(t, config, Deps{Kafka: cfg})
	url.Store(first)

	var senders sync.WaitGroup
	batches := numberedBatches()
	for i := range 3 {
		senders.Go(func() {
			if err := sender(ctx, func() string { return url.Load().(string) }, batches[i*4:i*4+4]); err != nil {
				t.Errorf("sender: %v", err)
			}
		})
	}
	for range 4 {
		reached, goOn := make(chan struct{}), make(chan struct{})
		var once sync.Once
		c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			once.Do(func() { close(reached) })
			<-goOn
			return nil, nil, false
		})
		select {
		case <-reached:
		case <-waitFor(&senders):
		}
		ended := make(chan error, 1)
		go func() { ended <- stop() }()
		close(goOn)
		if err := <-ended; err != nil {
			t.Log("somebody had to be cut off: ", err)
		}
		var next string
		_, next, stop = start(t, config, Deps{Kafka: cfg})
		url.Store(next)
	}
	senders.Wait()
	_ = stop()
	checkEverything(t, everything(t, cfg), faultBatches*faultEvents, 6)
}

func waitFor(wg *sync.WaitGroup) <-chan struct{} {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	return done
}

// Files are read to their end although Kafka refuses at first, and a second run adds
// nothing.
func TestFilesToKafka(t *testing.T) {
	c, cfg := startKafka(t)
	dir := t.TempDir()
	var lines strings.Builder
	for id := range 500 {
		lines.WriteString(eventLine(id) + "\n")
	}
	lines.WriteString("{oops}\n")
	if err := os.WriteFile(filepath.Join(dir, "audit.log"), []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	config := DefaultConfig()
	config.File.Inputs = append(config.File.Inputs, fileInput(filepath.Join(dir, "audit.log"), "prod"))
	config.File.Checkpoint = filepath.Join(t.TempDir(), "checkpoint.json")
	config.File.Follow = false
	faulty(c, 2, func(kmsg.Request) (kmsg.Response, error, bool) { return nil, io.ErrUnexpectedEOF, true })
	for range 2 {
		s, err := New(config, Deps{Kafka: cfg})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	checkEverything(t, everything(t, cfg), 500, 1)
	dead, err := kafka.ReadDead(consume(t, cfg, schemas.TopicDead, 1)...)
	if err != nil || string(dead.Value) != "{oops}" || dead.Source != "file/prod" {
		t.Errorf("dead letter %+v: %v", dead, err)
	}
}
