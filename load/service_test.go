package load

import (
	"fmt"
	"net"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/auditmill/auditmill/schemas"
)

func TestEventsArriveOnce(t *testing.T) {
	c, conn := testDatabase(t)
	k := testKafka(t, 3)
	client := testClient(t, k)
	events := recorded(t, 3000)
	if err := conn.Exec(t.Context(), "SYSTEM STOP MERGES "+c.Database+".event_rows"); err != nil {
		t.Fatal(err)
	}
	s := start(t, testConfig(), k, c)
	for i := range int32(3) {
		part := events[int(i)*1000 : int(i+1)*1000]
		produce(t, client, schemas.TopicEnriched, i, values(t, i, 0, 37, part)...)
	}
	awaitEvents(t, conn, c, 3000)
	s.stop(t)
	checkCounts(t, conn, c, 3000)
	// A token stands for one block: an insert that became two would not be recognised when repeated.
	inserts := testutil.ToFloat64(s.metrics.inserts.WithLabelValues(c.Database + ".event_rows"))
	if parts := ask(t, conn, c, "SELECT count() FROM system.parts WHERE active AND database = '%s' AND table = 'event_rows'",
		c.Database); parts != fmt.Sprint(inserts) {
		t.Errorf("%v inserts gave %s parts", inserts, parts)
	}

	// What many records joined into one stream gave must be what each of them gives alone.
	alone := c
	alone.Database = c.Database + "_alone"
	if _, err := Migrate(t.Context(), conn, alone.SQL()); err != nil {
		t.Fatal(err)
	}
	in := &inserter{conn: conn, timeout: c.QueryTimeout, metrics: s.metrics}
	for i := range int32(3) {
		for _, value := range values(t, i, 0, 37, events[int(i)*1000:int(i+1)*1000]) {
			if err := in.insert(t.Context(), alone.Database+".event_rows", "ArrowStream", once(), 37, &net.Buffers{value}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, pair := range [][2]string{{c.Database, alone.Database}, {alone.Database, c.Database}} {
		if n := ask(t, conn, c, "SELECT count() FROM (SELECT * FROM %s.events EXCEPT ALL SELECT * FROM %s.events)", pair[0], pair[1]); n != "0" {
			t.Errorf("%s rows of %s are not in %s", n, pair[0], pair[1])
		}
	}
	if got := ask(t, conn, c, "SELECT uniqExact(groups) > 3, uniqExact(extra) > 10, uniqExact(annotations) > 10, uniqExact(user) > 5 FROM events"); got != "1\t1\t1\t1" {
		t.Errorf("the recording no longer has varied lists and maps: %s", got)
	}
}
