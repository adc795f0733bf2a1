package ingest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sys/unix"
)

// recordedList returns an EventList of n recorded events below limit bytes, as the webhook
// sends them.
func recordedList(tb testing.TB, n, limit int) []byte {
	tb.Helper()
	f, err := os.Open("../testdata/recording/sample.jsonl.gz")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	body := []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`)
	lines := bufio.NewReader(z)
	for n > 0 {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			tb.Fatal(err)
		}
		if len(line) > limit {
			continue
		}
		body = append(body, '{')
		body = append(body, bytes.TrimPrefix(line, []byte(`{"kind":"Event","apiVersion":"audit.k8s.io/v1",`))...)
		body[len(body)-1] = ','
		n--
	}
	return append(body[:len(body)-1], "]}\n"...)
}

// acknowledge has the broker acknowledge without storing, so that the benchmark measures
// the service and not the fake broker.
func acknowledge(c *kfake.Cluster) *atomic.Int64 {
	var bytes atomic.Int64
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		r := req.(*kmsg.ProduceRequest)
		res := r.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range r.Topics {
			rt := kmsg.ProduceResponseTopic{Topic: t.Topic, TopicID: t.TopicID}
			for _, p := range t.Partitions {
				bytes.Add(int64(len(p.Records)))
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition = p.Partition
				rt.Partitions = append(rt.Partitions, rp)
			}
			res.Topics = append(res.Topics, rt)
		}
		return res, nil, true
	})
	return &bytes
}

// cpuTime is what the process has used, whatever else runs on the machine.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkHandler is the whole way of an event through the service: authenticate, read,
// split, validate, hash, produce, wait for the acknowledgement. Four senders keep it busy,
// as one alone would mostly wait. Run it with -cpu 1 for the speed of one core; what the
// fake broker takes of it is included.
func BenchmarkHandler(b *testing.B) {
	// The first 400 recorded events are smaller than the average one, the first 4000 are not.
	for _, bb := range []struct {
		name, compression string
		events, limit     int
	}{
		{"snappy", "snappy", 400, 3 << 10},
		{"snappy-below6KiB", "snappy", 4000, 6 << 10},
		{"snappy-all", "snappy", 4000, 1 << 30},
		{"none", "none", 400, 3 << 10},
		{"lz4", "lz4", 400, 3 << 10},
		{"zstd", "zstd", 400, 3 << 10},
	} {
		b.Run(bb.name, func(b *testing.B) {
			body := recordedList(b, bb.events, bb.limit)
			c, kafkaConfig := startKafka(b)
			stored := acknowledge(c)
			kafkaConfig.Compression = bb.compression
			s, err := New(testConfig(), Deps{Kafka: kafkaConfig})
			if err != nil {
				b.Fatal(err)
			}
			defer s.client.Close()
			handler := s.webhook.Handler()
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			b.SetParallelism(4)
			b.ResetTimer()
			var done atomic.Int64
			before := cpuTime(b)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					req := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/v1/audit/prod", bytes.NewReader(body))
					req.Header.Set("Authorization", "Bearer "+testToken)
					w := httptest.NewRecorder()
					handler.ServeHTTP(w, req)
					if w.Code != http.StatusOK {
						text, _ := io.ReadAll(w.Body)
						b.Errorf("status %d: %s", w.Code, text)
						return
					}
					done.Add(int64(bb.events))
				}
			})
			b.ReportMetric(float64(done.Load())/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(done.Load())/(cpuTime(b)-before).Seconds(), "events/cpu-s")
			b.ReportMetric(float64(len(body))/float64(bb.events), "B/event")
			b.ReportMetric(float64(stored.Load())/float64(done.Load()), "stored-B/event")
		})
	}
}
