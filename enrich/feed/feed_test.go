package feed_test

import (
	stdcontext "context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/feed"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

func broker(t *testing.T) (kafka.Config, *kgo.Client) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(schemas.ContextPartitions, schemas.TopicContext, schemas.TopicCredentials))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cfg := kafka.DefaultConfig()
	cfg.Brokers = cluster.ListenAddrs()
	client, err := kafka.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return cfg, client
}

func object(t *testing.T, text string) *context.Object {
	t.Helper()
	_, c, err := context.ParseRecord([]byte(`{"cluster":"c","kind":"ClusterRoleBinding","name":"b","valid_from":1,"source":"audit","object":` + text + `}`))
	if err != nil {
		t.Fatal(err)
	}
	return c.Object
}

func binding(t *testing.T, version, user string, from int64) context.Change {
	t.Helper()
	return context.Change{
		Key: context.Key{Kind: context.ClusterRoleBinding, Name: "b"}, From: from, Source: context.SourceAudit, By: "ann@corp.example",
		Object: object(t, `{"metadata":{"uid":"u","resourceVersion":"`+version+`"},"roleRef":{"kind":"ClusterRole","name":"r"},"subjects":[{"kind":"User","name":"`+user+`"}]}`),
	}
}

func write(t *testing.T, client *kgo.Client, cluster string, changes ...context.Change) {
	t.Helper()
	records, err := feed.Records(cluster, changes)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// What was written is in the store after Load, deletions and tokens too, behind whatever a transaction left.
func TestLoad(t *testing.T) {
	cfg, client := broker(t)
	write(t, client, "prod", binding(t, "1", "eve", 10), context.Change{
		Key: context.Key{Kind: context.Credential, Name: "JTI=1"}, From: 10, Source: context.SourceAudit,
		Object: &context.Object{Credential: &context.CredentialInfo{By: "ann@corp.example", Subject: "bot", Expires: 10 + time.Hour.Microseconds()}},
	})
	write(t, client, "test", binding(t, "1", "eve", 10), context.Change{
		Key: context.Key{Kind: context.ClusterRoleBinding, Name: "b"}, From: 20, UID: "u", Source: context.SourceAudit, By: "bob@corp.example",
	})
	transact(t, cfg, kgo.TryAbort)
	transact(t, cfg, kgo.TryCommit)
	store := context.NewStore(context.DefaultConfig())
	if err := feed.Load(t.Context(), cfg, store); err != nil {
		t.Fatal(err)
	}
	key := context.Key{Kind: context.ClusterRoleBinding, Name: "b"}
	item := store.Cluster("prod").Find(key, 15)
	if item == nil || item.From != 10 || item.By != "ann@corp.example" || item.Object.Subjects[0].Name != "eve" {
		t.Errorf("in prod: %+v", item)
	}
	if item := store.Cluster("test").Find(key, 15); item == nil || item.Object.Subjects[0].Name != "eve" {
		t.Errorf("in test before the deletion: %+v", item)
	}
	if item := store.Cluster("test").Find(key, 25); item != nil {
		t.Errorf("in test after the deletion: %+v", item)
	}
	if c := store.Credential("prod", "JTI=1"); c == nil || c.Object.Credential.By != "ann@corp.example" {
		t.Errorf("credential: %+v", c)
	}
	if store.Cluster("aborted") != nil || store.Cluster("committed") == nil {
		t.Errorf("clusters: %q", store.Clusters())
	}
}

// transact writes to each partition in a transaction.
func transact(t *testing.T, cfg kafka.Config, end kgo.TransactionEndTry) {
	t.Helper()
	client, err := kafka.NewClient(cfg, kgo.TransactionalID("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	name := map[kgo.TransactionEndTry]string{kgo.TryAbort: "aborted", kgo.TryCommit: "committed"}[end]
	for i := range int32(schemas.ContextPartitions) {
		records, err := feed.Records(name, []context.Change{binding(t, "1", "x", 1)})
		if err != nil {
			t.Fatal(err)
		}
		records[0].Partition = i
		if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.EndTransaction(t.Context(), end); err != nil {
		t.Fatal(err)
	}
}

// Two writers wrote in the wrong order: the newest version is asked for again, until it is the last.
func TestOutdated(t *testing.T) {
	cfg, client := broker(t)
	newest := binding(t, "2", "new", 20)
	write(t, client, "prod", newest)
	write(t, client, "prod", binding(t, "1", "old", 10))
	changed := make(chan struct{}, 100)
	f := feed.NewFollower(cfg, context.NewStore(context.DefaultConfig()), feed.Deps{Applied: func(feed.Applied) { changed <- struct{}{} }})
	stop := run(t, f)
	defer stop()
	<-f.Caught()
	now := time.Now()
	records, err := f.Outdated(now)
	if err != nil || len(records) != 1 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	want, err := feed.Records("prod", []context.Change{newest})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want[0].Value), string(records[0].Value)); diff != "" {
		t.Error(diff)
	}
	if more, _ := f.Outdated(now.Add(time.Second)); len(more) > 0 {
		t.Errorf("asked for again at once")
	}
	if more, _ := f.Outdated(now.Add(time.Hour)); len(more) != 1 {
		t.Errorf("not asked for again after an hour")
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for len(changed) > 0 {
		<-changed
	}
	write(t, client, "other", binding(t, "1", "x", 1)) // which comes behind
	for more := 1; more > 0; {
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("the record was not read")
		}
		records, err := f.Outdated(now.Add(24 * time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		more = len(records)
	}
}

func run(t *testing.T, f *feed.Follower) (stop func()) {
	t.Helper()
	ctx, cancel := stdcontext.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return func() { cancel(); done.Wait() }
}

// A record that cannot be read makes its cluster doubtful; one of a newer format ends the follower.
func TestBadRecords(t *testing.T) {
	cfg, client := broker(t)
	write(t, client, "prod", context.Change{From: 1, Source: context.SourceWatch, Complete: []context.Kind{
		context.Role, context.ClusterRole, context.RoleBinding, context.ClusterRoleBinding,
	}})
	bad := &kgo.Record{
		Topic: schemas.TopicContext, Key: []byte("prod/ClusterRole//r"), Value: []byte(`{"cluster":`),
		Headers: []kgo.RecordHeader{{Key: schemas.HeaderVersion, Value: []byte("1")}},
	}
	if err := client.ProduceSync(t.Context(), bad).FirstErr(); err != nil {
		t.Fatal(err)
	}
	store := context.NewStore(context.DefaultConfig())
	if err := feed.Load(t.Context(), cfg, store); err != nil {
		t.Fatal(err)
	}
	if !store.Cluster("prod").Latest().Doubtful() {
		t.Error("nothing is doubted")
	}
	newer := *bad
	newer.Headers = []kgo.RecordHeader{{Key: schemas.HeaderVersion, Value: []byte("2")}}
	if err := client.ProduceSync(t.Context(), &newer).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := feed.Load(t.Context(), cfg, store); err == nil || !strings.Contains(err.Error(), "upgrade") {
		t.Errorf("Load = %v, want an error that names the remedy", err)
	}
}

// A record of a time that had not come when it was written counts from then on: it does not win against all that follows.
func TestRecordOfTheFuture(t *testing.T) {
	cfg, client := broker(t)
	written := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	records, err := feed.Records("prod", []context.Change{
		binding(t, "", "early", written.Add(-time.Hour).UnixMicro()), binding(t, "", "eve", written.Add(366*24*time.Hour).UnixMicro()),
		binding(t, "", "late", written.Add(time.Minute).UnixMicro()),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		r.Timestamp = written
	}
	if err := client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	store := context.NewStore(context.DefaultConfig())
	if err := feed.Load(t.Context(), cfg, store); err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]string{-time.Minute: "early", 0: "eve", time.Minute: "late", 400 * 24 * time.Hour: "late"} {
		item := store.Cluster("prod").Find(context.Key{Kind: context.ClusterRoleBinding, Name: "b"}, written.Add(after).UnixMicro())
		if item == nil || item.Object.Subjects[0].Name != want {
			t.Errorf("%s after it was written: got %+v, want %s", after, item, want)
		}
	}
}

func TestMissingTopics(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	cfg := kafka.DefaultConfig()
	cfg.Brokers = cluster.ListenAddrs()
	if err := feed.Load(t.Context(), cfg, context.NewStore(context.DefaultConfig())); err == nil || !strings.Contains(err.Error(), "topics --create") {
		t.Errorf("Load = %v", err)
	}
}

func TestPosition(t *testing.T) {
	for _, text := range []string{";", "1,2,3;4", "0,9223372036854775807;"} {
		p, err := feed.ParsePosition(text)
		if err != nil || p.String() != text || p.Beyond(p) {
			t.Errorf("%s: %s, %v", text, p, err)
		}
	}
	for _, text := range []string{"", "1,2", "1,;2", "-1;", "x;", "1;9223372036854775808"} {
		if _, err := feed.ParsePosition(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
	for _, tt := range []struct {
		p, o string
		want bool
	}{{"1,2;", "1,2;", false}, {"1,3;", "1,2;", true}, {"1,2;1", "1,2;", true}, {"1,2;", "5,2,7;9", false}, {"1,2,0;", "1,2;", false}} {
		p, _ := feed.ParsePosition(tt.p)
		o, _ := feed.ParsePosition(tt.o)
		if p.Beyond(o) != tt.want {
			t.Errorf("%s beyond %s: want %t", tt.p, tt.o, tt.want)
		}
	}
}

func FuzzParsePosition(f *testing.F) {
	f.Add("1,2;3")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := feed.ParsePosition(text)
		if err != nil {
			return
		}
		if again, err := feed.ParsePosition(p.String()); err != nil || again.Beyond(p) || p.Beyond(again) {
			t.Errorf("%q: %s", text, p)
		}
	})
}
