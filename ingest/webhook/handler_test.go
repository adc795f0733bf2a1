package webhook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// A path is taken, or there is nothing at it; it is never redirected to another.
func TestPaths(t *testing.T) {
	f := start(t, testConfig())
	for path, want := range map[string]int{
		"/v1/audit": 200, "/v1/audit/": 200, "/v1/audit/prod": 200, "/v1/audit/prod/": 200, "/v1/audit?timeout=30s": 200,
		"/v1/audit/prod?timeout=30s": 200, "/v1/audit/pr%6fd": 200,
		"/": 404, "//v1/audit": 404, "/v1//audit": 404, "/v1/audit//": 404, "/v1/audit//prod": 404, "/v1/audit/prod/x": 404,
		"/v1/audit/prod//": 404, "/v1/./audit": 404, "/x/../v1/audit": 404, "/v1/audits": 404, "/V1/audit": 404, "/v1/audit/%2F": 404,
		"/v1": 404, "/metrics": 404, "/v1/audit/..": 403,
	} {
		if a := f.send(t, request{path: path, token: "prod-1"}); a.status != want {
			t.Errorf("%s: status %d, want %d", path, a.status, want)
		}
	}
}

func TestAnswers(t *testing.T) {
	cfg := small(testConfig())
	f := start(t, cfg)
	header := func(k, v string) map[string]string { return map[string]string{k: v} }
	for _, tt := range []struct {
		name string
		rq   request
		want int
	}{
		{"get", request{method: "GET", token: "prod-1"}, 405},
		{"put", request{method: "PUT", token: "prod-1"}, 405},
		{"delete", request{method: "DELETE", token: "prod-1"}, 405},
		{"charset", request{token: "prod-1", header: header("Content-Type", "application/json; charset=utf-8")}, 200},
		{"lines", request{token: "prod-1", header: header("Content-Type", "application/x-ndjson")}, 200},
		{"no type", request{token: "prod-1", header: header("Content-Type", "")}, 200},
		{"protobuf", request{token: "prod-1", header: header("Content-Type", "application/vnd.kubernetes.protobuf")}, 415},
		{"form", request{token: "prod-1", header: header("Content-Type", "application/x-www-form-urlencoded")}, 415},
		{"bad type", request{token: "prod-1", header: header("Content-Type", "a/b/c;;")}, 415},
		{"brotli", request{token: "prod-1", header: header("Content-Encoding", "br")}, 415},
		{"identity", request{token: "prod-1", header: header("Content-Encoding", "identity")}, 200},
		{"not gzip", request{token: "prod-1", header: header("Content-Encoding", "gzip")}, 400},
		{"empty", request{token: "prod-1", body: strings.NewReader("")}, 400},
		{"nothing but garbage", request{token: "prod-1", body: strings.NewReader("\x00\xff{]")}, 200},
		{"empty list", request{token: "prod-1", body: strings.NewReader(`{"kind":"EventList","items":[]}`)}, 200},
		{"as large as allowed", request{token: "prod-1", body: strings.NewReader(event + strings.Repeat(" ", int(cfg.MaxBody)-len(event)))}, 200},
		{"one byte more", request{token: "prod-1", body: strings.NewReader(event + strings.Repeat(" ", int(cfg.MaxBody)-len(event)+1))}, 413},
		{"one byte more, chunked", request{token: "prod-1", body: io.MultiReader(strings.NewReader(event + strings.Repeat(" ", int(cfg.MaxBody)-len(event)+1)))}, 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := f.send(t, tt.rq)
			if a.status != tt.want {
				t.Errorf("status %d (%s), want %d", a.status, a.Error, tt.want)
			}
			if (a.header.Get("Allow") == "POST") != (tt.want == 405) {
				t.Errorf("Allow is %q", a.header.Get("Allow"))
			}
		})
	}
	f.idle(t)
}

// zip compresses what write writes, while it is read.
func zip(write func(io.Writer) error) io.Reader {
	r, w := io.Pipe()
	go func() {
		z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err == nil {
			err = write(z)
		}
		if err == nil {
			err = z.Close()
		}
		w.CloseWithError(err)
	}()
	return r
}

func TestGzip(t *testing.T) {
	f := start(t, small(testConfig()))
	gzipped := map[string]string{"Content-Encoding": "gzip"}
	good := func() request {
		return request{token: "prod-1", header: gzipped, body: zip(func(w io.Writer) error {
			_, err := io.WriteString(w, event)
			return err
		})}
	}
	if a := f.send(t, good()); a.status != 200 {
		t.Fatalf("status %d: %s", a.status, a.Error)
	}
	if r := f.consume(t, schemas.TopicRaw, 1); string(r[0].Value) != event {
		t.Errorf("stored %s", r[0].Value)
	}
	whole, err := io.ReadAll(good().body)
	if err != nil {
		t.Fatal(err)
	}
	cut := request{token: "prod-1", header: gzipped, body: bytes.NewReader(whole[:len(whole)-6])}
	if a := f.send(t, cut); a.status != 400 {
		t.Errorf("cut: status %d", a.status)
	}
	corrupt := bytes.Clone(whole)
	corrupt[len(corrupt)-7] ^= 0xff
	if a := f.send(t, request{token: "prod-1", header: gzipped, body: bytes.NewReader(corrupt)}); a.status != 400 {
		t.Errorf("bad checksum: status %d", a.status)
	}
	if a := f.send(t, good()); a.status != 200 {
		t.Errorf("after bad ones: status %d: %s", a.status, a.Error)
	}
	f.idle(t)
}

// A gibibyte of zeros is a megabyte compressed. It must cost no more memory than a body
// may take, and the next good request must be served.
func TestGzipBomb(t *testing.T) {
	cfg := testConfig()
	cfg.MaxBody, cfg.MaxInflight = 8*conf.MiB, 32*conf.MiB
	f := start(t, cfg)
	// Members of gzip may follow one another, so one sixteenth is compressed and sent 16 times.
	member, err := io.ReadAll(zip(func(w io.Writer) error {
		zeros := make([]byte, conf.MiB)
		for range 64 {
			if _, err := w.Write(zeros); err != nil {
				return err
			}
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	bomb := bytes.NewReader(bytes.Repeat(member, 16))
	a := f.send(t, request{token: "prod-1", header: map[string]string{"Content-Encoding": "gzip"}, body: bomb})
	if a.status != 413 {
		t.Errorf("status %d, want 413", a.status)
	}
	f.idle(t)
	if a := f.send(t, request{token: "prod-1"}); a.status != 200 {
		t.Errorf("after the bomb: status %d: %s", a.status, a.Error)
	}
}

func TestLargeEvent(t *testing.T) {
	f := start(t, testConfig())
	large := `{"auditID":"large","stage":"Panic","x":"` + strings.Repeat("x", 20<<20) + `"}`
	body := `{"kind":"EventList","items":[` + event + `,` + large + `,` + event + `]}`
	if a := f.send(t, request{token: "prod-1", body: strings.NewReader(body)}); a.status != 200 {
		t.Fatalf("status %d: %s", a.status, a.Error)
	}
	for _, r := range f.consume(t, schemas.TopicRaw, 2) {
		if string(r.Value) != event {
			t.Errorf("stored %.60s", r.Value)
		}
	}
	dead, err := kafka.ReadDead(f.consume(t, schemas.TopicDead, 3)...)
	if err != nil {
		t.Fatal(err)
	}
	if string(dead.Value) != large || dead.Reason != "too_large" {
		t.Errorf("dead letter of %d bytes, reason %s, want %d bytes", len(dead.Value), dead.Reason, len(large))
	}
	f.idle(t)
}

func TestManyItems(t *testing.T) {
	const n = 100_000
	f := start(t, testConfig())
	body := &bytes.Buffer{}
	body.WriteString(`{"kind":"EventList","items":[`)
	for i := range n {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(body, `{"auditID":"%d"}`, i)
	}
	body.WriteString(`]}`)
	if a := f.send(t, request{token: "prod-1", body: body}); a.status != 200 {
		t.Fatalf("status %d: %s", a.status, a.Error)
	}
	seen := map[string]bool{}
	for _, r := range f.consume(t, schemas.TopicRaw, n) {
		seen[string(r.Value)] = true
	}
	if len(seen) != n {
		t.Errorf("%d distinct events, want %d", len(seen), n)
	}
}

// A body that does not come is answered before the API server hangs up, and the memory it
// took is free again.
func TestSlowSender(t *testing.T) {
	cfg := testConfig()
	cfg.BodyTimeout = 50 * time.Millisecond
	f := start(t, cfg)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	fmt.Fprintf(conn, "POST /v1/audit HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer prod-1\r\nContent-Length: 1000\r\n\r\n%s", event)
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "HTTP/1.1 503 ") || !strings.Contains(string(text), "Retry-After: 3\r\n") {
		t.Errorf("answer: %s", text)
	}
	f.idle(t)
	if a := f.send(t, request{token: "prod-1"}); a.status != 200 {
		t.Errorf("after the slow one: status %d: %s", a.status, a.Error)
	}
}

// What a sender claims to be going to send costs nothing.
func TestClaimsCostNothing(t *testing.T) {
	f := start(t, testConfig())
	for range 64 { // 64 times the largest body is far beyond max_inflight
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(f.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		fmt.Fprintf(conn, "POST /v1/audit HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer prod-1\r\nContent-Length: %d\r\n\r\n{", f.cfg.MaxBody)
	}
	if a := f.send(t, request{token: "prod-1"}); a.status != 200 {
		t.Errorf("status %d: %s", a.status, a.Error)
	}
}

// One cluster that has used up its memory or its rate gets 429; others go on.
func TestOneClusterDoesNotStarveOthers(t *testing.T) {
	cfg := small(testConfig())
	cfg.InflightWait = 10 * time.Millisecond
	cfg.Rate, cfg.Burst = 0.001, 5
	f := start(t, cfg)
	if !f.handler.limits["prod"].memory.TryAcquire(int64(cfg.MaxInflight / 2)) {
		t.Fatal("no memory at the start")
	}
	if a := f.send(t, request{token: "prod-1"}); a.status != 429 {
		t.Errorf("no memory: status %d, want 429", a.status)
	}
	if a := f.send(t, request{token: "dev-1"}); a.status != 200 {
		t.Errorf("other cluster: status %d: %s", a.status, a.Error)
	}
	f.handler.limits["prod"].memory.Release(int64(cfg.MaxInflight / 2))

	ten := func() io.Reader { return strings.NewReader(strings.Repeat(event+"\n", 10)) }
	if a := f.send(t, request{token: "prod-1", body: ten()}); a.status != 200 {
		t.Errorf("first: status %d: %s", a.status, a.Error)
	}
	if a := f.send(t, request{token: "prod-2", body: ten()}); a.status != 429 {
		t.Errorf("above the rate: status %d, want 429", a.status)
	}
	if a := f.send(t, request{token: "dev-1"}); a.status != 200 {
		t.Errorf("other cluster: status %d: %s", a.status, a.Error)
	}
}

func TestBucket(t *testing.T) {
	at := time.Unix(0, 0)
	b := bucket{rate: 10, burst: 20}
	for _, step := range []struct {
		after time.Duration
		take  int
		want  bool
	}{
		{0, 0, true},
		{0, 15, true},
		{0, 100, true},
		{0, 0, false},
		{9 * time.Second, 0, false},
		{time.Second, 0, true},
		{time.Hour, 20, true},
		{0, 0, false},
	} {
		at = at.Add(step.after)
		if got := b.admit(at); got != step.want {
			t.Errorf("after %v: %v, want %v; tokens %v", step.after, got, step.want, b.tokens)
		}
		b.take(at, step.take)
	}
}

// A sender that is refused while it is still writing must see the answer and not a broken
// connection, or it would not know when to come again.
func TestRefusedSenderSeesTheAnswer(t *testing.T) {
	cfg := testConfig()
	cfg.Rate, cfg.Burst = 0.001, 1
	f := start(t, cfg)
	for range 2 {
		f.send(t, request{token: "prod-1"})
	}
	for range 5 {
		if a := f.send(t, request{token: "prod-1", body: bytes.NewReader(make([]byte, 8<<20))}); a.status != 429 {
			t.Errorf("status %d, want 429", a.status)
		}
	}
}

// While Kafka does not answer, the sender gets 503 in time; afterwards its repetition is
// stored.
func TestKafkaAway(t *testing.T) {
	cfg := testConfig()
	cfg.Timeout, cfg.BodyTimeout, cfg.InflightWait = time.Second, time.Second/2, time.Second/2
	f := start(t, cfg)
	away := true
	f.broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		f.broker.KeepControl()
		if !away {
			return nil, nil, false
		}
		return nil, io.ErrUnexpectedEOF, true // closes the connection: not persisted
	})
	if a := f.send(t, request{token: "prod-1"}); a.status != 503 {
		t.Errorf("status %d, want 503", a.status)
	}
	f.broker.Control(func(kmsg.Request) (kmsg.Response, error, bool) { away = false; return nil, nil, false })
	var status int
	for range 20 {
		if status = f.send(t, request{token: "prod-1"}).status; status == 200 {
			break
		}
	}
	if status != 200 {
		t.Fatalf("status %d after Kafka is back", status)
	}
	if r := f.consume(t, schemas.TopicRaw, 1); string(r[0].Value) != event {
		t.Errorf("stored %s", r[0].Value)
	}
	f.idle(t)
}

// An event that the topic refuses as too large is kept as a dead letter, and the events
// beside it as events.
func TestTopicRefusesLargeEvent(t *testing.T) {
	f := start(t, testConfig())
	large := `{"auditID":"large","x":"` + strings.Repeat("x", 2<<20) + `"}`
	f.broker.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		return refuse(req.(*kmsg.ProduceRequest)), nil, true
	})
	if a := f.send(t, request{token: "prod-1", body: strings.NewReader(large)}); a.status != 200 {
		t.Fatalf("status %d: %s", a.status, a.Error)
	}
	dead, err := kafka.ReadDead(f.consume(t, schemas.TopicDead, 1)...)
	if err != nil {
		t.Fatal(err)
	}
	if string(dead.Value) != large || dead.Reason != "refused" || len(dead.Key) != 16 {
		t.Errorf("dead letter of %d bytes, reason %s, key %x", len(dead.Value), dead.Reason, dead.Key)
	}
	f.idle(t)
}

// refuse answers MESSAGE_TOO_LARGE.
func refuse(r *kmsg.ProduceRequest) kmsg.Response {
	res := r.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range r.Topics {
		rt := kmsg.ProduceResponseTopic{Topic: topic.Topic, TopicID: topic.TopicID}
		for _, p := range topic.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, kerr.MessageTooLarge.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		res.Topics = append(res.Topics, rt)
	}
	return res
}

func TestDrain(t *testing.T) {
	f := start(t, testConfig())
	taken, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		once.Do(func() { close(taken) })
		<-goOn
		return nil, nil, false
	})
	status := make(chan int, 1)
	go func() { status <- f.send(t, request{token: "prod-1"}).status }()
	<-taken
	f.stop()
	close(goOn)
	if got := <-status; got != 200 {
		t.Errorf("status %d during the drain, want 200", got)
	}
	err := <-f.ended
	f.ended <- err // for the clean-up
	if err != nil {
		t.Errorf("Run: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := http.DefaultClient.Do(req); err == nil {
		_ = res.Body.Close()
		t.Error("the webhook still listens after the drain")
	}
}

// A sender that hangs up must not take the events of others with it.
func TestHangUp(t *testing.T) {
	f := start(t, testConfig())
	taken, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		once.Do(func() { close(taken) })
		<-goOn
		return nil, nil, false
	})
	ctx, hangUp := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+"/v1/audit", strings.NewReader(event))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer prod-1")
	gone := make(chan error, 1)
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = res.Body.Close()
		}
		gone <- err
	}()
	<-taken
	other := make(chan int, 1)
	go func() { other <- f.send(t, request{token: "prod-2"}).status }() // the same event: the same partition
	hangUp()
	if err := <-gone; err == nil {
		t.Error("the request was answered")
	}
	close(goOn)
	if status := <-other; status != 200 {
		t.Errorf("the other sender: status %d", status)
	}
	f.consume(t, schemas.TopicRaw, 2)
	f.idle(t)
}
