package enrich

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	clusters "github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/feed"
	"github.com/auditmill/auditmill/schemas"
)

// tell writes changes of a cluster to the topics of the context.
func (b *bed) tell(cluster string, changes ...clusters.Change) {
	b.t.Helper()
	if err := b.client.ProduceSync(b.t.Context(), b.recordsOf(cluster, changes...)...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) recordsOf(cluster string, changes ...clusters.Change) []*kgo.Record {
	b.t.Helper()
	records, err := feed.Records(cluster, changes)
	if err != nil {
		b.t.Fatal(err)
	}
	return records
}

// final is a row as it counts: the one with the highest version.
type final struct {
	version int64
	text    map[string]any // by column, without version
	rows    int            // with version 0
}

// finals reads what came of the events until enough says so.
func (b *bed) finals(enough func(map[string]*final) bool) map[string]*final {
	b.t.Helper()
	all := map[string]*final{}
	b.follow(schemas.TopicEnriched, func(r *kgo.Record) bool {
		batch, err := schemas.Decode(r.Value)
		if err != nil {
			b.t.Fatal(err)
		}
		defer batch.Release()
		for i := range int(batch.NumRows()) {
			var text map[string]any
			if err := json.Unmarshal(schemas.AppendRowJSON(nil, batch, i), &text); err != nil {
				b.t.Fatal(err)
			}
			version, _ := text["version"].(float64)
			delete(text, "version")
			id := text["event_id"].(string)
			f := all[id]
			if f == nil {
				f = &final{version: -1}
				all[id] = f
			}
			if version == 0 {
				f.rows++
			}
			if int64(version) > f.version {
				f.version, f.text = int64(version), text
			}
		}
		return enough(all)
	})
	return all
}

// agree says that so many rows agree with what the API server said.
func agree(n int) func(map[string]*final) bool {
	return func(all map[string]*final) bool {
		right := 0
		for _, f := range all {
			if f.text["grant_agreement"] == "agree" {
				right++
			}
		}
		return right == n
	}
}

// audited makes the raw record of an event of a cluster; its members are as in the event.
func audited(tb testing.TB, cluster string, at time.Time, members string) *kgo.Record {
	tb.Helper()
	stamp := at.UTC().Format("2006-01-02T15:04:05.000000Z")
	r := rawRecord(tb, fmt.Appendf(nil,
		`{"stage":"ResponseComplete","requestReceivedTimestamp":%q,"stageTimestamp":%q,%s}`, stamp, stamp, members), cluster, schemas.SourceWebhook)
	return r
}

var moment = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// reading is an event of ann, who reads a pod through the binding pods of the role pods.
func reading(tb testing.TB, cluster, id string, at time.Time) *kgo.Record {
	tb.Helper()
	return audited(tb, cluster, at, `"auditID":"`+id+`","verb":"get","requestURI":"/api/v1/namespaces/default/pods/x",
		"user":{"username":"ann","groups":["system:authenticated"]},"objectRef":{"resource":"pods","namespace":"default","name":"x","apiVersion":"v1"},
		"responseStatus":{"code":200},"annotations":{"authorization.k8s.io/decision":"allow",
		"authorization.k8s.io/reason":"RBAC: allowed by ClusterRoleBinding \"pods\" of ClusterRole \"pods\" to User \"ann\""}`)
}

const (
	podsRole    = `{"kind":"ClusterRole","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"pods","uid":"r","resourceVersion":"5"},"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}`
	podsBinding = `{"kind":"ClusterRoleBinding","apiVersion":"rbac.authorization.k8s.io/v1","metadata":{"name":"pods","uid":"b","resourceVersion":"7"},"roleRef":{"kind":"ClusterRole","name":"pods"},"subjects":[{"kind":"User","name":"ann"}]}`
)

// granting is the event of somebody who makes the binding.
func granting(tb testing.TB, cluster string, at time.Time, object string) *kgo.Record {
	tb.Helper()
	return audited(tb, cluster, at, `"level":"RequestResponse","auditID":"grant","verb":"create","requestURI":"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
		"user":{"username":"root@corp.example","groups":["system:masters","system:authenticated"]},
		"objectRef":{"resource":"clusterrolebindings","name":"pods","apiGroup":"rbac.authorization.k8s.io","apiVersion":"v1"},
		"responseStatus":{"code":201},"annotations":{"authorization.k8s.io/decision":"allow"},"responseObject":`+object)
}

// known are the changes that a dump of objects makes.
func known(tb testing.TB, from time.Time, objects ...string) []clusters.Change {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "dump.json")
	text := `{"kind":"List","apiVersion":"v1","items":[` + strings.Join(objects, ",") + `]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	dump, err := clusters.ReadDump(path)
	if err != nil {
		tb.Fatal(err)
	}
	dump.Complete = []clusters.Kind{clusters.Role, clusters.ClusterRole, clusters.RoleBinding, clusters.ClusterRoleBinding}
	return dump.Changes(nil, from.UnixMicro())
}

func idOf(cluster string, r *kgo.Record) string {
	var h schemas.Hasher
	return h.EventID(cluster, r.Value).String()
}

// What was known before an event is in its row, from the topic and from the stream alike, and every instance knows it.
func TestContextOfTheTime(t *testing.T) {
	b := newBed(t)
	b.tell("prod", known(t, moment.Add(-time.Hour), podsRole)...)
	stop := b.start(b.config("a"))
	early, late := reading(t, "prod", "1", moment), reading(t, "prod", "2", moment.Add(2*time.Minute))
	b.produce(early, granting(t, "prod", moment.Add(time.Minute), podsBinding), late)
	final := b.finals(func(all map[string]*final) bool {
		return all[idOf("prod", early)] != nil && all[idOf("prod", late)] != nil
	})
	if got := final[idOf("prod", early)].text; got["grant_agreement"] != "disagree" || got["grants"] != nil || got["rights_complete"] != "true" {
		t.Errorf("before the grant: %v %v %v", got["grant_agreement"], got["grants"], got["rights_complete"])
	}
	got := final[idOf("prod", late)].text
	want := map[string]any{
		"grant_agreement": "agree", "rights_complete": "true", "cluster_admin": "false",
		"grants":      []any{`ClusterRoleBinding "pods" of ClusterRole "pods" to User "ann" by rule 0`},
		"grant_since": "2026-11-01T12:01:00.000000Z", "grant_author": "root@corp.example",
	}
	for column, value := range want {
		if diff := cmp.Diff(value, got[column]); diff != "" {
			t.Errorf("%s: %s", column, diff)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	// What the stream told is in the topic, once.
	store := clusters.NewStore(clusters.DefaultConfig())
	if err := feed.Load(t.Context(), b.kafka, store); err != nil {
		t.Fatal(err)
	}
	item, ok := store.Cluster("prod").Latest().Get(clusters.Key{Kind: clusters.ClusterRoleBinding, Name: "pods"})
	if !ok || item.By != "root@corp.example" || item.From != moment.Add(time.Minute).UnixMicro() {
		t.Errorf("in the topic: %+v", item)
	}
}

// What becomes known late corrects the rows that it concerns and no others: also if the instance that wrote them is gone.
func TestLateContext(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run("restart="+strconv.FormatBool(restart), func(t *testing.T) {
			b := newBed(t)
			b.tell("prod", known(t, moment.Add(-time.Hour), podsRole)...)
			cfg := b.config("a")
			cfg.CorrectInterval = 0
			stop := b.start(cfg)
			var of, others []string
			var records []*kgo.Record
			for i := range 40 {
				r := reading(t, "prod", "p"+strconv.Itoa(i), moment.Add(time.Duration(2*i)*time.Second))
				records, of = append(records, r), append(of, idOf("prod", r))
				r = reading(t, "test", "t"+strconv.Itoa(i), moment.Add(time.Duration(2*i)*time.Second))
				records, others = append(records, r), append(others, idOf("test", r))
			}
			b.produce(records...)
			written := func(all map[string]*final) bool { return len(all) == len(records) }
			b.finals(written)
			if restart {
				if err := stop(); err != nil {
					t.Fatal(err)
				}
			}
			b.tell("prod", known(t, moment.Add(40*time.Second), podsBinding)...)
			if restart {
				cfg.Instance = "b"
				stop = b.start(cfg)
			}
			final := b.finals(func(all map[string]*final) bool {
				n := 0
				for _, id := range of {
					if all[id] != nil && all[id].version > 0 {
						n++
					}
				}
				return n >= 20
			})
			if err := stop(); err != nil {
				t.Error(err)
			}
			for i, id := range of {
				want := "disagree"
				if i >= 20 {
					want = "agree"
				}
				if f := final[id]; f.rows != 1 || f.text["grant_agreement"] != want || (f.version > 0) != (i >= 20) {
					t.Errorf("event %d: %d rows, version %d, %v, want %s", i, f.rows, f.version, f.text["grant_agreement"], want)
				}
			}
			for _, id := range others {
				if f := final[id]; f.rows != 1 || f.version > 0 {
					t.Errorf("of another cluster: %d rows, version %d", f.rows, f.version)
				}
			}
		})
	}
}

// A stream of grants, withdrawals and requests, in any order over the partitions, with instances that come and go, ends in the
// rows that are worked out when everything is known.
func TestFinalRowsDoNotDependOnOrder(t *testing.T) {
	b := newBed(t)
	random := rand.New(rand.NewPCG(3, 4))
	base := known(t, moment.Add(-time.Hour), podsRole)
	b.tell("prod", base...)
	var records []*kgo.Record
	for i := range 300 {
		at := moment.Add(time.Duration(i) * 10 * time.Millisecond)
		switch i % 30 {
		case 0:
			object := strings.NewReplacer(`"uid":"b"`, fmt.Sprintf(`"uid":"b%d"`, i), `"resourceVersion":"7"`, fmt.Sprintf(`"resourceVersion":"%d"`, 10+i)).Replace(podsBinding)
			records = append(records, granting(t, "prod", at, object))
		case 15:
			records = append(records, audited(t, "prod", at, `"level":"Request","auditID":"d`+strconv.Itoa(i)+`","verb":"delete","requestURI":"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/pods",
				"user":{"username":"root@corp.example","groups":["system:masters"]},"objectRef":{"resource":"clusterrolebindings","name":"pods","apiGroup":"rbac.authorization.k8s.io","apiVersion":"v1"},
				"responseStatus":{"status":"Success","code":200},"annotations":{"authorization.k8s.io/decision":"allow"}`))
		default:
			records = append(records, reading(t, "prod", strconv.Itoa(i), at))
		}
	}
	// What must come out: by an engine that knew all of it before the first event.
	store := clusters.NewStore(clusters.DefaultConfig())
	store.Apply("prod", base...)
	expected := newTransformer()
	want := map[string]map[string]any{}
	for round := range 2 {
		if round == 1 {
			expected.join = NewJoiner(store, nil)
		}
		for _, r := range records {
			h, _, err := expected.headers(r)
			if err != nil {
				t.Fatal(err)
			}
			var hasher schemas.Hasher
			e, err := expected.event(r.Value, &h, hasher.EventID("prod", r.Value), schemas.ID(r.Key))
			if err != nil {
				t.Fatal(err)
			}
			if round == 0 {
				if _, _, err := store.Event("prod", e); err != nil {
					t.Fatal(err)
				}
				continue
			}
			builder := schemas.NewBuilder()
			builder.Append(e)
			batch := builder.Batch()
			var text map[string]any
			if err := json.Unmarshal(schemas.AppendRowJSON(nil, batch, 0), &text); err != nil {
				t.Fatal(err)
			}
			batch.Release()
			want[text["event_id"].(string)] = text
		}
	}
	random.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	n := 0
	for part := range slices.Chunk(records, 60) {
		cfg := b.config("i" + strconv.Itoa(n))
		cfg.CorrectInterval, cfg.ContextWait = 0, 5*time.Millisecond
		stop := b.start(cfg)
		b.produce(part...)
		n += len(part)
		b.finals(func(all map[string]*final) bool { return len(all) >= n })
		if n < len(records) {
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		right := func(all map[string]*final) bool {
			for id, text := range want {
				if all[id] == nil || len(difference(text, all[id].text)) > 0 {
					return false
				}
			}
			return true
		}
		all := b.finals(right)
		if err := stop(); err != nil {
			t.Error(err)
		}
		for id, f := range all {
			if f.rows != 1 {
				t.Errorf("event %s: %d rows", id, f.rows)
			}
		}
	}
}

// difference returns the columns that are not the same, of those that do not say where the record was.
func difference(want, got map[string]any) (columns []string) {
	for column := range want {
		if column != "raw_offset" && column != "raw_partition" && !cmp.Equal(want[column], got[column]) {
			columns = append(columns, column)
		}
	}
	for column := range got {
		if _, ok := want[column]; !ok && column != "raw_offset" {
			columns = append(columns, column)
		}
	}
	return columns
}
