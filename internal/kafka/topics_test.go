package kafka

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestEnsureTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &kfake.VirtualNetwork{}
		cfg := startBroker(t, kfake.SeedTopics(3, "small"), kfake.ListenFn(network.Listen))
		cfg.Dialer = network.DialContext
		cl := newTestClient(t, cfg)
		want := []Topic{
			{
				Name: "raw", Partitions: 12, Replication: 1,
				Configs: map[string]string{"retention.ms": "604800000", "cleanup.policy": "delete,compact"},
			},
			{
				Name: "small", Partitions: 12, Replication: -1,
				Configs: map[string]string{"cleanup.policy": "compact"},
			},
		}
		small := TopicState{
			Name: "small", Status: TopicDiffers, Partitions: 3, Replication: 1,
			Diffs: []Diff{
				{Key: "cleanup.policy", Want: "compact", Got: "delete"},
				{Key: "partitions", Want: "12", Got: "3"},
			},
		}
		steps := []struct {
			name   string
			create bool
			want   []TopicState
		}{
			{"check", false, []TopicState{{Name: "raw", Status: TopicMissing}, small}},
			{"create", true, []TopicState{
				{Name: "raw", Status: TopicCreated, Partitions: 12, Replication: 1}, small,
			}},
			{"again", true, []TopicState{
				{Name: "raw", Status: TopicOK, Partitions: 12, Replication: 1}, small,
			}},
		}
		for _, step := range steps {
			got, err := EnsureTopics(t.Context(), cl, want, step.create)
			if err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			if diff := cmp.Diff(step.want, got); diff != "" {
				t.Errorf("%s: -want +got:\n%s", step.name, diff)
			}
		}
		if got := small.Diffs[1].String(); got != "partitions is 3, should be 12" {
			t.Errorf("got %q", got)
		}
	})
}

func TestEnsureTopicsNamesEachThatFails(t *testing.T) {
	cl := newTestClient(t, startBroker(t))
	_, err := EnsureTopics(t.Context(), cl, []Topic{
		{Name: "no-partitions", Partitions: 0, Replication: 1},
		{Name: "many-replicas", Partitions: 1, Replication: 99},
	}, true)
	if err == nil || !strings.Contains(err.Error(), "no-partitions") ||
		!strings.Contains(err.Error(), "many-replicas") {
		t.Errorf("got %v, want an error that names both topics", err)
	}
}

func TestLag(t *testing.T) {
	cfg := startBroker(t, kfake.SeedTopics(2, "a", "b"))
	cl := newTestClient(t, cfg, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i := range 10 {
		r := &kgo.Record{Topic: "a", Partition: int32(i % 2), Value: []byte(strconv.Itoa(i))}
		other := &kgo.Record{Topic: "b", Value: []byte("x")}
		if err := cl.ProduceSync(t.Context(), r, other).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	adm := kadm.NewClient(cl)
	var commit kadm.Offsets
	commit.AddOffset("a", 0, 4, -1)
	if err := adm.CommitAllOffsets(t.Context(), "g", commit); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, group string
		topics      []string
		want        map[string]int64
	}{
		{"committed topics", "g", nil, map[string]int64{"a": 6}},
		{"named too", "g", []string{"b", "a"}, map[string]int64{"a": 6, "b": 10}},
		{"unknown group", "none", []string{"b"}, map[string]int64{"b": 10}},
		{"unknown group, no topics", "none", nil, map[string]int64{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Lag(t.Context(), adm, tt.group, tt.topics...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if _, err := Lag(t.Context(), adm, "g", "missing"); err == nil ||
		!strings.Contains(err.Error(), "missing") {
		t.Errorf("got %v, want an error that names the missing topic", err)
	}
}
