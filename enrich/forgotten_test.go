package enrich

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	clusters "github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// compacted makes the topic of the context one that is compacted, and not deleted from.
func (b *bed) compacted() {
	b.t.Helper()
	policy, ever := "compact", "-1"
	_, err := kadm.NewClient(b.client).AlterTopicConfigs(b.t.Context(), []kadm.AlterConfig{
		{Name: "cleanup.policy", Value: &policy}, {Name: "retention.ms", Value: &ever},
	}, schemas.TopicContext)
	if err != nil {
		b.t.Fatal(err)
	}
}

// compact lets the broker forget all records of the context that were superseded.
func (b *bed) compact() {
	b.t.Helper()
	// The last batch of a partition is never compacted.
	for i := range schemas.ContextPartitions {
		r := b.recordsOf("other", known(b.t, moment, strings.ReplaceAll(podsBinding, `"pods"`, `"p`+strconv.Itoa(i)+`"`))...)[0]
		r.Partition = int32(i)
		client, err := kgo.NewClient(kgo.SeedBrokers(b.kafka.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			b.t.Fatal(err)
		}
		err = client.ProduceSync(b.t.Context(), r).FirstErr()
		client.Close()
		if err != nil {
			b.t.Fatal(err)
		}
	}
	before := b.count(schemas.TopicContext)
	b.broker.Compact()
	if after := b.count(schemas.TopicContext); after >= before {
		b.t.Fatalf("%d records before compaction, %d after", before, after)
	}
}

// count is the number of records that a topic has.
func (b *bed) count(topic string) int {
	b.t.Helper()
	ends, err := kadm.NewClient(b.client).ListEndOffsets(b.t.Context(), topic)
	if err != nil {
		b.t.Fatal(err)
	}
	client, err := kafka.NewClient(b.kafka, kgo.ConsumeTopics(topic))
	if err != nil {
		b.t.Fatal(err)
	}
	defer client.Close()
	n, open := 0, 0
	ends.Each(func(end kadm.ListedOffset) {
		if end.Offset > 0 {
			open++
		}
	})
	for open > 0 {
		client.PollFetches(b.t.Context()).EachRecord(func(r *kgo.Record) {
			n++
			if end, _ := ends.Lookup(topic, r.Partition); r.Offset == end.Offset-1 {
				open--
			}
		})
	}
	return n
}

// An instance that starts when the topic was compacted knows less of the past, and says nothing of it that was not so.
func TestCompactedContext(t *testing.T) {
	b := newBed(t)
	b.compacted()
	// Ann may read on days 10 to 19, and from day 30 on; today is day 50. Everything was written when it happened.
	today := time.Now().UTC().Truncate(24 * time.Hour)
	at := func(day int) time.Time { return today.AddDate(0, 0, day-50) }
	tell := func(day int, changes ...clusters.Change) {
		records := b.recordsOf("prod", changes...)
		for _, r := range records {
			r.Timestamp = at(day)
		}
		if err := b.client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	object := func(object, who, uid, version string, day int) string {
		return strings.NewReplacer(`"ann"`, `"`+who+`"`, `"uid":"b"`, `"uid":"`+uid+`","creationTimestamp":"`+at(day).Format(time.RFC3339)+`"`,
			`"resourceVersion":"7"`, `"resourceVersion":"`+version+`"`).Replace(object)
	}
	bound := func(who, uid, version string, day int) clusters.Change {
		changes := known(t, at(day), object(podsBinding, who, uid, version, day))
		c := changes[slices.IndexFunc(changes, func(c clusters.Change) bool { return c.Object != nil })]
		c.Source, c.From = clusters.SourceAudit, at(day).UnixMicro()
		return c
	}
	tell(0, known(t, at(0), podsRole, object(podsBinding, "bob", "b", "7", 0))...) // all was known once
	tell(10, bound("ann", "b", "8", 0))
	tell(20, clusters.Change{
		Key: clusters.Key{Kind: clusters.ClusterRoleBinding, Name: "pods"}, From: at(20).UnixMicro(), UID: "b", Source: clusters.SourceAudit,
	})
	tell(30, bound("ann", "b2", "9", 30))
	b.compact()

	stop := b.start(b.config("a"))
	const days = 50
	day := map[string]int{}
	allowed := func(i int) bool { return i >= 10 && i < 20 || i >= 30 }
	for i := range days {
		r := reading(t, "prod", strconv.Itoa(i), at(i).Add(time.Hour))
		if !allowed(i) {
			r = audited(t, "prod", at(i).Add(time.Hour), `"auditID":"`+strconv.Itoa(i)+`","verb":"get","requestURI":"/api/v1/namespaces/default/pods/x",
				"user":{"username":"ann","groups":["system:authenticated"]},"objectRef":{"resource":"pods","namespace":"default","name":"x","apiVersion":"v1"},
				"responseStatus":{"code":403},"annotations":{"authorization.k8s.io/decision":"forbid","authorization.k8s.io/reason":""}`)
		}
		day[idOf("prod", r)] = i
		b.produce(r)
	}
	final := b.finals(func(all map[string]*final) bool { return len(all) == days })
	if err := stop(); err != nil {
		t.Error(err)
	}
	for id, f := range final {
		i, granted, agreement := day[id], f.text["grants"] != nil, f.text["grant_agreement"]
		switch {
		case granted && !allowed(i):
			t.Errorf("on day %d: granted by %v", i, f.text["grants"])
		case agreement == "disagree":
			t.Errorf("on day %d: %v", i, agreement)
		case i > 42 && (agreement != "agree" || f.text["rights_complete"] != "true"):
			t.Errorf("on day %d: %v, complete %v, though nothing of it was forgotten", i, agreement, f.text["rights_complete"])
		case i < 42 && f.text["rights_complete"] == "true":
			t.Errorf("on day %d all is said to be known", i)
		}
	}
}

// Of a cluster that was removed nothing is known for events after that, until something is said of it again. What was known
// of the time before stays in the rows.
func TestRemovedCluster(t *testing.T) {
	b := newBed(t)
	b.tell("prod", known(t, moment.Add(-time.Hour), podsRole, podsBinding)...)
	cfg := b.config("a")
	cfg.CorrectInterval = 0
	stop := b.start(cfg)
	phase := func(name string, at time.Time, want string) map[string]bool {
		ids := map[string]bool{}
		for i := range 10 {
			r := reading(t, "prod", name+strconv.Itoa(i), at.Add(time.Duration(i)*time.Second))
			ids[idOf("prod", r)] = true
			b.produce(r)
		}
		b.finals(func(all map[string]*final) bool {
			right := 0
			for id := range ids {
				if f := all[id]; f != nil && f.text["grant_agreement"] == want && (f.text["rights_complete"] != nil) == (want == "agree") {
					right++
				}
			}
			return right == len(ids)
		})
		return ids
	}
	first := phase("before", moment, "agree")
	b.tell("prod", clusters.Change{From: moment.Add(time.Hour).UnixMicro(), Removed: true, Source: "removed"})
	// Written before the cluster was known to be gone or after it: in the end it says unknown.
	phase("after", moment.Add(2*time.Hour), "unknown")
	b.tell("prod", known(t, moment.Add(3*time.Hour), podsRole, podsBinding)...)
	phase("again", moment.Add(4*time.Hour), "agree")
	if err := stop(); err != nil {
		t.Error(err)
	}
	all := b.finals(func(all map[string]*final) bool { return len(all) == 30 })
	for id := range first {
		if all[id].text["grant_agreement"] != "agree" {
			t.Errorf("a row of before the removal says %v", all[id].text["grant_agreement"])
		}
	}
}
