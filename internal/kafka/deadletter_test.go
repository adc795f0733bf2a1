package kafka

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func bigValue(n int) []byte {
	v := make([]byte, n)
	for i := range v {
		v[i] = byte(i * 31)
	}
	return v
}

func TestDeadLetterRoundTrip(t *testing.T) {
	source := Dead{
		Reason: "malformed", Detail: "decoding event: unexpected end",
		Source: "audit.raw.v1", Partition: 3, Offset: 42,
		Key: []byte{0xff, 0}, Headers: []kgo.RecordHeader{{Key: "v", Value: []byte("9")}},
		Time: time.UnixMilli(1700000000123),
	}
	for _, tt := range []struct {
		name  string
		size  int
		parts int
	}{
		{"empty", 0, 1},
		{"small", 10, 1},
		{"one part exactly", maxPart, 1},
		{"two parts", maxPart + 1, 2},
		{"three parts", 2*maxPart + 7, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := source
			if tt.size > 0 {
				d.Value = bigValue(tt.size)
			}
			records := d.Records("dead")
			if len(records) != tt.parts {
				t.Fatalf("got %d records, want %d", len(records), tt.parts)
			}
			for _, r := range records {
				if string(r.Key) != "audit.raw.v1/3/42" || r.Topic != "dead" || !r.Timestamp.IsZero() {
					t.Errorf("got key %q, topic %q, time %v", r.Key, r.Topic, r.Timestamp)
				}
			}
			// Parts may come in any order.
			records[0], records[len(records)-1] = records[len(records)-1], records[0]
			got, err := ReadDead(records...)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(d.Value, got.Value) {
				t.Errorf("the value came back changed, with %d bytes", len(got.Value))
			}
			d.Value, got.Value = nil, nil // cmp is slow on megabytes
			if diff := cmp.Diff(d, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestReadDeadRefuses(t *testing.T) {
	big := Dead{Reason: "r", Source: "webhook/a", Partition: -1, Offset: -1, Value: bigValue(maxPart + 1)}
	parts := big.Records("dead")
	newer := Dead{}.Records("dead")
	newer[0].Headers[0].Value = []byte("2")
	odd := Dead{}.Records("dead")
	odd[0].Headers = append(odd[0].Headers, header(HeaderSourceOffset, "x"))
	for _, tt := range []struct {
		name    string
		records []*kgo.Record
		want    string
	}{
		{"nothing", nil, "no records"},
		{"missing part", parts[:1], "has 2 parts, got 1"},
		{"same part twice", []*kgo.Record{parts[0], parts[0]}, "part 2 is missing"},
		{"newer version", newer, `has version "2", this program reads 1`},
		{"bad header", odd, "header source_offset"},
	} {
		if _, err := ReadDead(tt.records...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want it to contain %q", tt.name, err, tt.want)
		}
	}
}

func TestDeadKeyWithoutPosition(t *testing.T) {
	d := Dead{Source: "webhook/a", Partition: -1, Offset: -1, Value: []byte("x")}
	first, again := d.Records("dead")[0].Key, d.Records("dead")[0].Key
	d.Value = []byte("y")
	other := d.Records("dead")[0].Key
	if !bytes.Equal(first, again) || bytes.Equal(first, other) {
		t.Errorf("got keys %q, %q for the same bytes and %q for others", first, again, other)
	}
	if !strings.HasPrefix(string(first), "webhook/a/") {
		t.Errorf("the key %q does not name the source", first)
	}
}

func TestDetailIsCut(t *testing.T) {
	for _, s := range []string{
		strings.Repeat("a", 5000), strings.Repeat("ü", 5000), strings.Repeat("x", 1022) + "日本",
		"bad \xff bytes", strings.Repeat("\xff", 5000), "",
	} {
		got := cut(s)
		if len(got) > maxDetail || !utf8.ValidString(got) {
			t.Errorf("%.20q: got %d bytes, valid %v", s, len(got), utf8.ValidString(got))
		}
	}
	if got := cut("short"); got != "short" {
		t.Errorf("got %q", got)
	}
}

func TestWriteDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &kfake.VirtualNetwork{}
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "dead"),
			kfake.ListenFn(network.Listen),
			kfake.BrokerConfigs(map[string]string{"message.max.bytes": "50331648"}))
		if err != nil {
			t.Fatal(err)
		}
		defer cluster.Close()
		cfg := DefaultConfig()
		cfg.Brokers, cfg.Dialer = cluster.ListenAddrs(), network.DialContext
		cl := newTestClient(t, cfg, kgo.ConsumeTopics("dead"))

		// The first attempt meets an error that passes; nothing may be lost by it.
		cluster.ControlKey(int16(kmsg.Produce), failFirst(kerr.NotLeaderForPartition))
		r := &kgo.Record{Topic: "raw", Partition: 1, Offset: 7, Value: bigValue(20 << 20)}
		if err := WriteDead(t.Context(), cl, "dead", DeadRecord(r, "too_large", errors.New("is 20 MiB"))); err != nil {
			t.Fatal(err)
		}
		var parts []*kgo.Record
		for len(parts) < 3 {
			fetches := cl.PollFetches(t.Context())
			if err := fetches.Err(); err != nil {
				t.Fatal(err)
			}
			parts = append(parts, fetches.Records()...)
		}
		got, err := ReadDead(parts...)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Value, r.Value) || got.Reason != "too_large" || got.Offset != 7 {
			t.Errorf("got %d bytes, reason %q, offset %d", len(got.Value), got.Reason, got.Offset)
		}
		for _, p := range parts {
			if p.Partition != parts[0].Partition {
				t.Error("the parts are in different partitions")
			}
		}
	})
}

// failFirst answers the first produce request with an error for every partition and lets
// the broker answer all others.
func failFirst(failure *kerr.Error) func(kmsg.Request) (kmsg.Response, error, bool) {
	return func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		req, ok := kreq.(*kmsg.ProduceRequest)
		if !ok {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, rt := range req.Topics {
			t := kmsg.NewProduceResponseTopic()
			t.Topic, t.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				p := kmsg.NewProduceResponseTopicPartition()
				p.Partition, p.ErrorCode = rp.Partition, failure.Code
				t.Partitions = append(t.Partitions, p)
			}
			res.Topics = append(res.Topics, t)
		}
		return res, nil, true
	}
}

func TestWriteDeadReportsFailure(t *testing.T) {
	cfg := startBroker(t)
	cl := newTestClient(t, cfg)
	err := WriteDead(t.Context(), cl, "absent", Dead{Reason: "r", Value: []byte("x")})
	if ClassOf(err) != ClassTopic || !strings.Contains(err.Error(), "absent") {
		t.Errorf("got %v of class %q, want a missing topic with its name", err, ClassOf(err))
	}
}
