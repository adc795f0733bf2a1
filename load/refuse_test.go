package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// TestRefusedRows has a table that will not store some rows; each culprit must be found among its neighbours,
// be buried, and not hold up the partition.
func TestRefusedRows(t *testing.T) {
	c, conn := testDatabase(t)
	k := testKafka(t, 1)
	client := testClient(t, k)
	events := recorded(t, 1000)
	for _, i := range []int{0, 123, 124, 500, 999} {
		events[i].Name = "refuse me"
	}
	sql := "ALTER TABLE " + c.Database + ".event_rows ADD CONSTRAINT c CHECK name != 'refuse me'"
	if err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	s := start(t, testConfig(), k, c)
	produce(t, client, schemas.TopicEnriched, 0, values(t, 0, 0, 64, events)...)
	awaitEvents(t, conn, c, 995)
	eventually(t, "the commit", func() bool { return committed(t, client, 0).At == 16 })
	s.stop(t)
	checkCounts(t, conn, c, 995)

	var got []string
	for _, record := range consumed(t, k, schemas.TopicDead) {
		d, err := kafka.ReadDead(record)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s/%d/%d", d.Reason, d.Source, d.Partition, d.Offset))
		if want := events[d.Offset].Raw; string(d.Value) != string(want) {
			t.Errorf("dead letter of offset %d holds other bytes", d.Offset)
		}
		if !strings.Contains(d.Detail, "VIOLATED_CONSTRAINT") {
			t.Errorf("detail %q", d.Detail)
		}
	}
	want := "[refused audit.raw.v1/0/0 refused audit.raw.v1/0/123 refused audit.raw.v1/0/124 " +
		"refused audit.raw.v1/0/500 refused audit.raw.v1/0/999]"
	if fmt.Sprint(got) != want {
		t.Errorf("dead letters\n got %v\nwant %v", got, want)
	}
	if n := testutil.ToFloat64(s.metrics.stage.Bad(reasonRefused)); n != 5 {
		t.Errorf("metric counts %v refused rows, want 5", n)
	}
}

func TestGarbageIsBuried(t *testing.T) {
	c, conn := testDatabase(t)
	k := testKafka(t, 1)
	client := testClient(t, k)
	events := recorded(t, 300)
	good := values(t, 0, 0, 100, events)
	// The framing is whole, the insides are not: only ClickHouse finds out. The head of a compressed buffer, of the last
	// column, is broken: other bytes in a buffer that is stored as it is, such as that of event_id, are merely other values.
	broken := bytes.Clone(good[1])
	at := bytes.LastIndex(broken, []byte{0x04, 0x22, 0x4d, 0x18}) // how an LZ4 frame begins
	if at < 0 {
		t.Fatal("no buffer is compressed")
	}
	for i := at; i < at+16; i++ {
		broken[i] ^= 0x55
	}
	s := start(t, testConfig(), k, c)
	produce(t, client, schemas.TopicEnriched, 0, good[0], []byte("no Arrow"), nil, broken, good[2])
	if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: schemas.TopicEnriched, Value: good[1]}).FirstErr(); err != nil {
		t.Fatal(err) // without a version header
	}
	awaitEvents(t, conn, c, 200)
	eventually(t, "the commit", func() bool { return committed(t, client, 0).At == 6 })
	s.stop(t)
	checkCounts(t, conn, c, 200)
	var got []string
	for _, record := range consumed(t, k, schemas.TopicDead) {
		d, err := kafka.ReadDead(record)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s/%d", d.Reason, d.Offset))
	}
	// ClickHouse finds the broken one later than the reader finds the others, or earlier.
	slices.Sort(got)
	if want := "[undecodable/1 undecodable/2 undecodable/3 undecodable/5]"; fmt.Sprint(got) != want {
		t.Errorf("dead letters %v, want %s", got, want)
	}
}

func TestNewerRecordsAreFatal(t *testing.T) {
	c, _ := testDatabase(t)
	for _, topic := range []string{schemas.TopicEnriched, schemas.TopicAlerts} {
		k := testKafka(t, 1)
		client := testClient(t, k)
		record := &kgo.Record{
			Topic: topic, Value: []byte("whatever"),
			Headers: []kgo.RecordHeader{{Key: schemas.HeaderVersion, Value: []byte("99")}},
		}
		if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
		s := start(t, testConfig(), k, c)
		err := <-s.done
		if !errors.Is(err, schemas.ErrNewerVersion) || !strings.Contains(fmt.Sprint(err), "offset 0") {
			t.Errorf("%s: Run ended with %v", topic, err)
		}
	}
}

func TestUnknownColumnsAreFatal(t *testing.T) {
	c, conn := testDatabase(t)
	k := testKafka(t, 1)
	client := testClient(t, k)
	if err := conn.Exec(t.Context(), "ALTER TABLE "+c.Database+".event_rows DROP COLUMN grant_subject"); err != nil {
		t.Fatal(err)
	}
	produce(t, client, schemas.TopicEnriched, 0, values(t, 0, 0, 100, recorded(t, 100))...)
	err := <-start(t, testConfig(), k, c).done
	if err == nil || !strings.Contains(err.Error(), "no column grant_subject: run auditmill migrate") {
		t.Errorf("Run ended with %v", err)
	}
}

func TestAlerts(t *testing.T) {
	c, conn := testDatabase(t)
	k := testKafka(t, 1)
	client := testClient(t, k)
	alert := func(i int, title string) []byte {
		value, err := json.Marshal(schemas.Alert{
			ID: fmt.Sprintf("%032d", i), Rule: "r", Title: title, Severity: "high", Tags: []string{"a", "b"},
			Time:     time.Date(2026, 3, 1, 12, 0, i, 123456000, time.UTC),
			RaisedAt: time.Date(2026, 3, 1, 12, 1, i, 987654321, time.UTC),
			Command:  []string{"sh", "-c", "echo \"hi\"\n"}, Code: 403, Cluster: "prod", Next: "look",
		})
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	s := start(t, testConfig(), k, c)
	var all [][]byte
	for i := range 20 {
		all = append(all, alert(i, "first"))
	}
	all = append(all, []byte("{broken"), []byte(`[1]`), []byte(`{"rule":"no id"}`), nil,
		[]byte(`{"id":"`+strings.Repeat("f", 32)+`","time":"never"}`), alert(3, "first")) // the last is a repetition
	produce(t, client, schemas.TopicAlerts, 0, all...)
	eventually(t, "20 alerts", func() bool { return ask(t, conn, c, "SELECT count() FROM alerts FINAL") == "20" })
	eventually(t, "4 dead letters", func() bool {
		return testutil.ToFloat64(s.metrics.stage.Bad(reasonUndecodable))+testutil.ToFloat64(s.metrics.stage.Bad(reasonRefused)) == 4
	})
	s.stop(t)
	got := ask(t, conn, c, "SELECT id, time, raised_at, tags, command, code, cluster, next FROM alerts FINAL WHERE id LIKE '%%07'")
	want := fmt.Sprintf("%032d", 7) + "\t2026-03-01 12:00:07.123456\t2026-03-01 12:01:07.987654\t['a','b']\t" +
		`['sh','-c','echo "hi"\n']` + "\t403\tprod\tlook"
	if got != want {
		t.Errorf("alert\n got %s\nwant %s", got, want)
	}
}
