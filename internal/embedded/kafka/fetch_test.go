package kafka

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// endTransaction writes one record to every partition of a topic and commits or aborts them.
func endTransaction(t *testing.T, client *kgo.Client, topic string, partitions int32, value string, commit kgo.TransactionEndTry) {
	t.Helper()
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for partition := range partitions {
		record := &kgo.Record{Topic: topic, Partition: partition, Value: []byte(value)}
		if err := client.ProduceSync(testContext(t), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.EndTransaction(testContext(t), commit); err != nil {
		t.Fatal(err)
	}
}

// TestAbortedStaysHidden reads aborted and committed records with answers that end anywhere.
func TestAbortedStaysHidden(t *testing.T) {
	t.Parallel()
	const partitions, rounds, size = 3, 12, 1000
	s := startServer(t, testConfig(t.TempDir()))
	createTopic(t, s.Addr(), "txn", partitions, nil)
	writer := newClient(t, s.Addr(), kgo.TransactionalID("writer"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	var want []string
	for round := range rounds {
		filler := strings.Repeat("x", size)
		endTransaction(t, writer, "txn", partitions, "aborted"+filler, kgo.TryAbort)
		committed := fmt.Sprintf("%02d%s", round, filler)
		endTransaction(t, writer, "txn", partitions, committed, kgo.TryCommit)
		want = append(want, slices.Repeat([]string{committed[:2]}, partitions)...)
	}
	// The smallest holds less than one batch, the largest everything.
	for _, limit := range []int32{size / 2, 3 * size / 2, 5 * size / 2, 4 * size, 7 * size, 11 * size, 100 * size} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			reader := newClient(t, s.Addr(), kgo.ConsumeTopics("txn"),
				kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
				kgo.FetchIsolationLevel(kgo.ReadCommitted()),
				kgo.FetchMaxBytes(limit), kgo.FetchMaxPartitionBytes(limit))
			var got []string
			for len(got) < len(want) {
				fetches := reader.PollFetches(testContext(t))
				if err := fetches.Err(); err != nil {
					t.Fatal(err)
				}
				fetches.EachRecord(func(r *kgo.Record) {
					if strings.HasPrefix(string(r.Value), "aborted") {
						t.Fatalf("read partition %d offset %d, which was aborted", r.Partition, r.Offset)
					}
					got = append(got, string(r.Value[:2]))
				})
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestShareLimit(t *testing.T) {
	t.Parallel()
	type limits struct {
		Session, Answer int32
		Partitions      []int32
	}
	for _, test := range []struct {
		name     string
		in, want limits
	}{
		{"shared", limits{0, 100, []int32{80, 30, 80}}, limits{-1, math.MaxInt32, []int32{33, 30, 33}}},
		{"no session", limits{-1, 300, []int32{80, 40}}, limits{-1, math.MaxInt32, []int32{80, 40}}},
		{"no limit", limits{0, math.MaxInt32, []int32{80}}, limits{-1, math.MaxInt32, []int32{80}}},
		{"tiny", limits{0, 2, []int32{80, 80, 80}}, limits{-1, math.MaxInt32, []int32{1, 1, 1}}},
		{"session of an earlier broker", limits{7, 100, nil}, limits{7, 100, nil}},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := kmsg.NewPtrFetchRequest()
			req.SessionEpoch, req.MaxBytes = test.in.Session, test.in.Answer
			for _, limit := range test.in.Partitions {
				topic := kmsg.NewFetchRequestTopic()
				partition := kmsg.NewFetchRequestTopicPartition()
				partition.PartitionMaxBytes = limit
				topic.Partitions = append(topic.Partitions, partition)
				req.Topics = append(req.Topics, topic)
			}
			shareLimit(req)
			got := limits{Session: req.SessionEpoch, Answer: req.MaxBytes}
			for _, topic := range req.Topics {
				got.Partitions = append(got.Partitions, topic.Partitions[0].PartitionMaxBytes)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
