package enrich

import (
	"context"
	"maps"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	clusters "github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// What is learned of the whole organization concerns the rows of each cluster, also of one that has news of its own.
func TestAffected(t *testing.T) {
	p := &partition{newest: map[string]int64{"a": 1000e6, "b": 5000e6}}
	news := []late{
		{cluster: "a", kind: clusters.Pod, since: 900e6},
		{cluster: clusters.Organization, kind: clusters.Person, since: 800e6},
		{cluster: "b", kind: clusters.Pod, since: 5001e6},      // no row is that late
		{cluster: "quiet", kind: clusters.Pod, since: 650e6},   // its rows are too old to be remembered
		{cluster: "quieter", kind: clusters.Pod, since: 701e6}, // and of this one too
	}
	p.unseen = 700e6
	p.took = []late{{cluster: clusters.Organization, kind: clusters.Range, since: 950e6}}
	since, tooLate := p.affected(news, time.Hour)
	want := map[string]int64{"a": 800e6, "b": 1400e6, "quiet": 650e6, clusters.Organization: 1400e6}
	if !maps.Equal(since, want) {
		t.Errorf("since %v, want %v", since, want)
	}
	if want := map[string]bool{"b": true, clusters.Organization: true}; !maps.Equal(tooLate, want) {
		t.Errorf("too late of %v, want %v", tooLate, want)
	}
	span := span{since: since}
	for cluster, want := range map[string]int64{"a": 800e6, "quiet": 650e6, "of long ago": 1400e6} {
		if got, ok := span.from(cluster); !ok || got != want {
			t.Errorf("rows of %s from %d on, want %d", cluster, got, want)
		}
	}
}

// Partitions come and go, and in the end nobody sends anything any more: what becomes known then corrects all rows.
func TestCorrectionAfterRebalance(t *testing.T) {
	b := newBed(t)
	b.tell("prod", known(t, moment.Add(-time.Hour), podsRole)...)
	cfg := b.config("a")
	cfg.CorrectInterval = 0
	stop := b.start(cfg)
	n := 0
	produce := func(events int) {
		for range events {
			b.produce(reading(t, "prod", strconv.Itoa(n), moment.Add(time.Duration(n)*time.Second)))
			n++
		}
		b.finals(func(all map[string]*final) bool { return len(all) == n })
	}
	produce(20)
	for i := range 3 {
		cfg.Instance = "b" + strconv.Itoa(i)
		leave := b.start(cfg)
		b.members(2)
		produce(10)
		if err := leave(); err != nil {
			t.Fatal(err)
		}
		b.members(1)
	}
	b.tell("prod", known(t, moment.Add(-time.Minute), podsBinding)...)
	b.finals(agree(n))
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// Who set the group's offsets with a tool has removed what the rows take into account, and then nothing is taken for settled.
func TestCommitsOfATool(t *testing.T) {
	for _, metadata := range []string{"", "context:of another build"} {
		b := newBed(t)
		const events = 20
		b.written(events)
		admin, group := kadm.NewClient(b.client), DefaultConfig().Group
		commits, err := admin.FetchOffsets(t.Context(), group)
		if err != nil {
			t.Fatal(err)
		}
		offsets := commits.Offsets()
		offsets.Each(func(o kadm.Offset) {
			o.Metadata = metadata
			offsets[o.Topic][o.Partition] = o
		})
		if err := admin.CommitAllOffsets(t.Context(), group, offsets); err != nil {
			t.Fatal(err)
		}
		b.tell("prod", known(t, moment.Add(-time.Minute), podsBinding)...)
		stop := b.start(b.config("a"))
		b.finals(agree(events))
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}

// What becomes known of a cluster corrects its rows also if all of them are older than what an instance remembers that was
// started since.
func TestQuietClusterIsCorrected(t *testing.T) {
	b := newBed(t)
	for _, cluster := range []string{"quiet", "busy"} {
		b.tell(cluster, known(t, moment.Add(-time.Hour), podsRole)...)
	}
	cfg := b.config("a")
	cfg.DedupeWindow, cfg.CorrectWithin, cfg.CorrectInterval = 5, time.Since(moment)+24*time.Hour, 0
	stop := b.start(cfg)
	const quiet, busy = 8, 100
	for i := range quiet + busy {
		cluster := "quiet"
		if i >= quiet {
			cluster = "busy"
		}
		b.produce(reading(t, cluster, strconv.Itoa(i), moment.Add(time.Duration(i)*time.Second)))
	}
	b.finals(func(all map[string]*final) bool { return len(all) == quiet+busy })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stop = b.start(cfg)
	b.members(1)
	b.tell("quiet", known(t, moment.Add(-time.Minute), podsBinding)...)
	b.finals(agree(quiet))
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// One instance after the other joins, and nobody sends anything: each knows what is no longer its own.
func TestIdleRebalances(t *testing.T) {
	b := newBed(t)
	var services []*Service
	for i := range testPartitions {
		cfg := b.config(strconv.Itoa(i))
		s, stop := b.service(cfg, b.kafka)
		defer func() {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}()
		services = append(services, s)
		b.members(len(services))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for settled := false; !settled; runtime.Gosched() {
		settled = true
		for i, s := range services {
			if n := len(s.adopted()); n != 1 {
				if settled = false; ctx.Err() != nil {
					t.Fatalf("instance %d takes %d partitions for its own", i, n)
				}
			}
		}
	}
}

// members waits until the group is stable with so many members.
func (b *bed) members(n int) {
	b.t.Helper()
	for {
		groups, err := kadm.NewClient(b.client).DescribeGroups(b.t.Context(), DefaultConfig().Group)
		if err != nil {
			b.t.Fatal(err)
		}
		if g := groups[DefaultConfig().Group]; g.State == "Stable" && len(g.Members) == n {
			return
		}
	}
}

// Two instances were killed in the middle of transactions, and only that of the first is at its end: what a reader may see ends
// with records of it, which nobody sees.
func TestCorrectionEndsBehindAborted(t *testing.T) {
	b := newBed(t)
	const events = 40
	b.written(events)
	b.tell("prod", known(t, moment.Add(-time.Minute), podsBinding)...)
	first, second := b.unfinished("x"), b.unfinished("y")
	first()

	listed := make(chan struct{})
	var once sync.Once
	b.broker.ControlKey(kmsg.ListOffsets.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.broker.KeepControl()
		request := r.(*kmsg.ListOffsetsRequest)
		for _, topic := range request.Topics {
			if topic.Topic == schemas.TopicEnriched && request.IsolationLevel == 1 {
				once.Do(func() { close(listed) })
			}
		}
		return nil, nil, false
	})
	stop := b.start(b.config("b"))
	<-listed
	second()
	b.finals(agree(events))
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// written has an instance that knows the role, and no binding, write rows and stop.
func (b *bed) written(events int) {
	b.t.Helper()
	b.tell("prod", known(b.t, moment.Add(-time.Hour), podsRole)...)
	stop := b.start(b.config("a"))
	for i := range events {
		b.produce(reading(b.t, "prod", strconv.Itoa(i), moment.Add(time.Duration(i)*time.Second)))
	}
	b.finals(func(all map[string]*final) bool { return len(all) == events })
	if err := stop(); err != nil {
		b.t.Fatal(err)
	}
}

// unfinished begins a transaction with a record on each partition of audit.enriched.v1; abort ends it.
func (b *bed) unfinished(id string) (abort func()) {
	b.t.Helper()
	client, err := kafka.NewClient(b.kafka, kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(client.Close)
	if err := client.BeginTransaction(); err != nil {
		b.t.Fatal(err)
	}
	for i := range testPartitions {
		r := &kgo.Record{Topic: schemas.TopicEnriched, Partition: int32(i), Value: []byte("of a transaction that is aborted")}
		if err := client.ProduceSync(b.t.Context(), r).FirstErr(); err != nil {
			b.t.Fatal(err)
		}
	}
	return func() {
		b.t.Helper()
		if err := client.EndTransaction(b.t.Context(), kgo.TryAbort); err != nil {
			b.t.Fatal(err)
		}
	}
}
