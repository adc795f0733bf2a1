package load

import (
	"bytes"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"golang.org/x/sync/errgroup"

	"github.com/auditmill/auditmill/schemas"
)

// history is what enrich wrote for one raw partition: rows in their order, corrections among them.
type history struct{ rows []*schemas.Event }

// first adds the first rows of events.
func (h *history) first(events []*schemas.Event, offset int) {
	for i, e := range events {
		row := *e
		row.RawOffset = int64(offset + i)
		h.rows = append(h.rows, &row)
	}
}

// correct adds rows that correct earlier events: another actor, whom the context told of later.
func (h *history) correct(version int64, events []*schemas.Event, offsets ...int) {
	for _, i := range offsets {
		row := *events[i]
		row.RawOffset, row.Version = int64(i), version
		row.Actor, row.ActorKind = fmt.Sprintf("actor %d of version %d", i%7, version), "human"
		h.rows = append(h.rows, &row)
	}
}

func (h *history) values(tb testing.TB, rows int) [][]byte {
	tb.Helper()
	b := schemas.NewBuilder()
	var out [][]byte
	for i, e := range h.rows {
		b.Append(e)
		if b.Rows() == rows || i == len(h.rows)-1 {
			value, err := schemas.Encode(b.Batch())
			if err != nil {
				tb.Fatal(err)
			}
			out = append(out, value)
			b.Reset()
		}
	}
	return out
}

// check compares what queries see with what the rows say, counted by hand.
func (h *history) check(t *testing.T, conn Conn, c ClickHouse) {
	t.Helper()
	newest := map[schemas.ID]*schemas.Event{}
	distinct := map[string]bool{}
	for _, e := range h.rows {
		if old := newest[e.EventID]; old == nil || e.Version >= old.Version {
			newest[e.EventID] = e
		}
		distinct[fmt.Sprint(e.EventID, e.Version)] = true
	}
	checkCounts(t, conn, c, len(newest))
	if got := ask(t, conn, c, "SELECT count() FROM event_rows"); got != fmt.Sprint(len(distinct)) {
		t.Errorf("%s rows are kept, want %d: first rows and corrections", got, len(distinct))
	}
	var want []string
	activity := map[string]int{}
	for _, e := range newest {
		want = append(want, fmt.Sprintf("%s\t%d\t%s", e.EventID, e.Version, e.Actor))
		minute := time.UnixMicro(e.EventTime).UTC().Truncate(time.Minute).Format(time.DateTime)
		activity[strings.Join([]string{minute, e.Actor, e.ActorKind, e.Verb, e.Resource, e.Namespace, e.Outcome}, "\t")]++
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, strings.Split(ask(t, conn, c, "SELECT id, version, actor FROM events ORDER BY id"), "\n")); diff != "" {
		t.Errorf("events are not the newest rows (-want +got):\n%s", diff)
	}
	want = nil
	for _, key := range slices.Sorted(maps.Keys(activity)) {
		want = append(want, fmt.Sprintf("%s\t%d", key, activity[key]))
	}
	got := strings.Split(ask(t, conn, c, "SELECT minute, actor, actor_kind, verb, resource, namespace, outcome, sum(events) AS n"+
		" FROM activity_per_minute GROUP BY ALL HAVING n != 0"), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("activity_per_minute differs (-want +got):\n%s", diff)
	}
	if got := ask(t, conn, c, "SELECT sum(events) FROM intake_per_minute"); got != fmt.Sprint(len(newest)) {
		t.Errorf("intake counts %s events, want %d", got, len(newest))
	}
}

// story is a history with all that can come: corrections alone, among first rows, of rows in the same batch, of corrections,
// and, if repeated, some twice and one that is lower than what is there.
func story(events []*schemas.Event, repeated bool) (before, after, whole history) {
	before.first(events[:300], 0)
	after.correct(1, events, 0, 1, 2, 50, 51, 299)
	after.first(events[300:500], 300)
	after.correct(1, events, 310, 3, 499)
	after.correct(5, events, 1, 310, 400)
	if repeated {
		after.correct(1, events, 2)
		after.correct(3, events, 1)
	}
	after.first(events[500:600], 500)
	after.correct(2, events, 550, 4)
	whole.rows = slices.Concat(before.rows, after.rows)
	return before, after, whole
}

func TestCorrections(t *testing.T) {
	for _, rows := range []int{1, 70, 5000} { // of a record
		t.Run(fmt.Sprint(rows), func(t *testing.T) {
			c, conn := testDatabase(t)
			k := testKafka(t, 1)
			client := testClient(t, k)
			before, after, whole := story(recorded(t, 600), true)
			s := start(t, testConfig(), k, c)
			produce(t, client, schemas.TopicEnriched, 0, before.values(t, 70)...)
			awaitEvents(t, conn, c, 300)
			all := after.values(t, rows)
			produce(t, client, schemas.TopicEnriched, 0, all...)
			eventually(t, "the commit", func() bool { return committed(t, client, 0).At == int64(5+len(all)) })
			s.stop(t)
			whole.check(t, conn, c)
			if testutil.ToFloat64(s.metrics.corrections) == 0 {
				t.Error("no correction was counted")
			}
		})
	}
}

// TestKilledWhileCorrecting ends the service at each statement that a range with corrections takes.
func TestKilledWhileCorrecting(t *testing.T) {
	for _, test := range []struct {
		table    string
		what     string
		fate     fate
		trust    time.Duration
		repeated bool
	}{
		{"event_rows", "before", refuse, time.Hour, false},
		{"event_rows", "after", swallow, time.Hour, false},
		{"event_rows", "after, too long ago", swallow, time.Nanosecond, false},
		{"event_rows", "after a part, compared", swallow, time.Hour, true},
		{"event_versions", "before", refuse, time.Hour, false},
		{"event_versions", "after", swallow, time.Hour, false},
		{"event_versions", "in the middle, too long ago", hang, time.Nanosecond, false},
		{"event_versions", "before, compared", refuse, time.Hour, true},
		{"activity_per_minute", "before", refuse, time.Hour, false},
		{"activity_per_minute", "after", swallow, time.Hour, false},
		{"activity_per_minute", "before, too long ago", refuse, time.Nanosecond, false},
		{"activity_per_minute", "in the middle, compared", hang, time.Hour, true},
	} {
		t.Run(test.table+" "+test.what, func(t *testing.T) {
			c, conn := testDatabase(t)
			k := testKafka(t, 1)
			client := testClient(t, k)
			before, after, whole := story(recorded(t, 600), test.repeated)
			produce(t, client, schemas.TopicEnriched, 0, before.values(t, 70)...)
			zeroth := start(t, testConfig(), k, c)
			awaitEvents(t, conn, c, 300)
			eventually(t, "the commit", func() bool { return committed(t, client, 0).At == 5 })
			zeroth.stop(t)

			reached := make(chan struct{}, 100)
			proxy := newFaultyProxy(t, c.Addresses[0], func(_ int, query url.Values) fate {
				if !strings.HasPrefix(query.Get("query"), "INSERT INTO "+c.Database+"."+test.table) {
					return pass
				}
				reached <- struct{}{}
				return test.fate
			})
			through := c
			through.Addresses = []string{proxy.addr}
			cfg := testConfig()
			cfg.DrainTimeout = time.Nanosecond
			cfg.RetryMin, cfg.RetryMax = time.Hour, time.Hour
			all := after.values(t, 70)
			produce(t, client, schemas.TopicEnriched, 0, all...)
			first := start(t, cfg, k, through)
			<-reached
			// Whatever is half done, each event is seen once.
			if got := ask(t, conn, c, "SELECT count() = uniqExact(event_id) AND count() >= 300 FROM events"); got != "1" {
				t.Error("in the middle an event is there twice, or one is gone")
			}
			first.stop(t)

			cfg = testConfig()
			cfg.TrustDedup = test.trust
			second := start(t, cfg, k, c)
			eventually(t, "the commit", func() bool { return committed(t, client, 0).At == int64(5+len(all)) })
			second.stop(t)
			whole.check(t, conn, c)
		})
	}
}

// TestRefusedCorrection has a table that will not store one correction: the row before it must stay in sight.
func TestRefusedCorrection(t *testing.T) {
	c, conn := testDatabase(t)
	k := testKafka(t, 1)
	client := testClient(t, k)
	events := recorded(t, 100)
	var h history
	h.first(events, 0)
	h.correct(1, events, 5, 6, 7)
	rows := h.values(t, 1000)
	if err := conn.Exec(t.Context(), "ALTER TABLE "+c.Database+".event_rows ADD CONSTRAINT c CHECK raw_offset != 6 OR version = 0"); err != nil {
		t.Fatal(err)
	}
	s := start(t, testConfig(), k, c)
	produce(t, client, schemas.TopicEnriched, 0, rows...)
	awaitEvents(t, conn, c, 100)
	eventually(t, "the commit", func() bool { return committed(t, client, 0).At == 1 })
	s.stop(t)
	if n := len(consumed(t, k, schemas.TopicDead)); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
	h.rows = slices.DeleteFunc(h.rows, func(e *schemas.Event) bool { return e.RawOffset == 6 && e.Version > 0 })
	h.check(t, conn, c)
}

// earlier gives values as the build before corrections wrote them: without the columns that migration 6 added.
func earlier(t *testing.T, all [][]byte) [][]byte {
	t.Helper()
	var out [][]byte
	for _, value := range all {
		batch, err := schemas.Decode(value)
		if err != nil {
			t.Fatal(err)
		}
		var fields []arrow.Field
		var columns []arrow.Array
		for i, c := range schemas.Columns() {
			if c.Since < 6 {
				fields, columns = append(fields, batch.Schema().Field(i)), append(columns, batch.Column(i))
			}
		}
		metadata := batch.Schema().Metadata()
		old := array.NewRecordBatch(arrow.NewSchema(fields, &metadata), columns, batch.NumRows())
		if value, err = schemas.Encode(old); err != nil {
			t.Fatal(err)
		}
		out = append(out, value)
		old.Release()
		batch.Release()
	}
	return out
}

// TestUpgrade brings a database of the build before corrections, with rows and counts in it, to this one, while that
// build's records still come.
func TestUpgrade(t *testing.T) {
	c := testClickHouse(t)
	conn := testConn(t, c)
	setup, err := schemas.MigrationTable(c.SQL())
	if err == nil {
		err = execAll(t.Context(), conn, setup)
	}
	if err != nil {
		t.Fatal(err)
	}
	migrations, err := schemas.Migrations(c.SQL())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range migrations[:5] {
		if err := execAll(t.Context(), conn, m.Statements); err != nil {
			t.Fatal(err)
		}
		if err := conn.Exec(t.Context(), "INSERT INTO "+c.Database+".schema_migrations VALUES (?, ?, ?, now64(3))", m.Version, m.Name, m.Checksum); err != nil {
			t.Fatal(err)
		}
	}
	events := recorded(t, 600)
	var h history
	h.first(events, 0)
	old := earlier(t, h.values(t, 100))
	in := &inserter{conn: conn, timeout: c.QueryTimeout, metrics: newMetrics(nil)}
	for _, value := range old[:3] {
		if err := in.insert(t.Context(), c.Database+".events", "ArrowStream", once(), 100, bytes.NewReader(value)); err != nil {
			t.Fatal(err)
		}
	}

	var group errgroup.Group
	for range 3 {
		group.Go(func() error {
			_, err := Migrate(t.Context(), conn, c.SQL())
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	// An instance of the earlier build that begins now, or one that is behind, changes nothing.
	for _, m := range migrations[:6] {
		if err := apply(t.Context(), conn, c.SQL(), m); err != nil {
			t.Fatal(err)
		}
	}
	checkCounts(t, conn, c, 300)

	k := testKafka(t, 1)
	client := testClient(t, k)
	after := len(h.rows)
	h.correct(1, events, 7, 299, 599)
	corrections := history{h.rows[after:]}
	produce(t, client, schemas.TopicEnriched, 0, append(old[3:], corrections.values(t, 100)...)...)
	s := start(t, testConfig(), k, c)
	awaitEvents(t, conn, c, 600)
	eventually(t, "the commit", func() bool { return committed(t, client, 0).At == 4 })
	s.stop(t)
	h.check(t, conn, c)

	// The rules read that build's records too.
	batch, err := schemas.NewReader().Open(old[0])
	if err != nil || batch.NumRows() != 100 || schemas.ColumnArray(batch, "version") != nil {
		t.Errorf("the reader opens a record of the earlier build with %v", err)
	}
}

// TestMoveLosesNothing has both tables, as somebody who restored a backup under the old name leaves them.
func TestMoveLosesNothing(t *testing.T) {
	c, conn := testDatabase(t)
	m, err := schemas.Migrations(c.SQL())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"DROP VIEW " + c.Database + ".events", strings.ReplaceAll(m[0].Statements[0], "IF NOT EXISTS", "")} {
		if err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	// Left by another instance, and empty: it goes.
	if err := apply(t.Context(), conn, c.SQL(), m[5]); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, conn, c, "SELECT engine FROM system.tables WHERE database = currentDatabase() AND name = 'events'"); got != "View" {
		t.Errorf("events is a %s", got)
	}
	for _, sql := range []string{
		"DROP VIEW " + c.Database + ".events", strings.ReplaceAll(m[0].Statements[0], "IF NOT EXISTS", ""),
		"INSERT INTO " + c.Database + ".events (cluster) VALUES ('prod')",
	} {
		if err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := apply(t.Context(), conn, c.SQL(), m[5]); err == nil || !strings.Contains(err.Error(), "has both events, with 1 rows, and event_rows") {
		t.Errorf("two tables with rows: %v", err)
	}
}
