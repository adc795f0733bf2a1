package ingest

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Every answer and every record is counted, by clusters of the configuration only.
func TestMetrics(t *testing.T) {
	_, cfg := startKafka(t)
	reg := prometheus.NewRegistry()
	_, url, stop := start(t, testConfig(), Deps{Kafka: cfg, Registry: reg})
	body := `[{"auditID":"a"},{"auditID":"b"},{},{"auditID":oops}]`
	for _, rq := range []struct{ path, token string }{
		{"/v1/audit", testToken}, {"/v1/audit/prod", testToken}, {"/v1/audit", "nosuch"}, {"/v1/audit", ""}, {"/v1/audit/evil", testToken}, {"/x", ""},
	} {
		post(t, url+rq.path, rq.token, body)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	want := `
# HELP auditmill_ingest_answers_total Answers to requests, by status and reason.
# TYPE auditmill_ingest_answers_total counter
auditmill_ingest_answers_total{reason="bad_token",status="401"} 1
auditmill_ingest_answers_total{reason="no_credentials",status="401"} 1
auditmill_ingest_answers_total{reason="no_such_path",status="404"} 1
auditmill_ingest_answers_total{reason="ok",status="200"} 2
auditmill_ingest_answers_total{reason="unknown_cluster",status="403"} 1
# HELP auditmill_ingest_cluster_bad_total Dead letters, by cluster and source.
# TYPE auditmill_ingest_cluster_bad_total counter
auditmill_ingest_cluster_bad_total{cluster="prod",source="file"} 0
auditmill_ingest_cluster_bad_total{cluster="prod",source="webhook"} 4
# HELP auditmill_ingest_cluster_records_in_total Events and dead letters taken in, by cluster and source.
# TYPE auditmill_ingest_cluster_records_in_total counter
auditmill_ingest_cluster_records_in_total{cluster="prod",source="file"} 0
auditmill_ingest_cluster_records_in_total{cluster="prod",source="webhook"} 8
# HELP auditmill_ingest_cluster_records_out_total Events and dead letters acknowledged by Kafka, by cluster and source.
# TYPE auditmill_ingest_cluster_records_out_total counter
auditmill_ingest_cluster_records_out_total{cluster="prod",source="file"} 0
auditmill_ingest_cluster_records_out_total{cluster="prod",source="webhook"} 8
# HELP auditmill_ingest_inflight_bytes Memory that bodies take which are not acknowledged yet.
# TYPE auditmill_ingest_inflight_bytes gauge
auditmill_ingest_inflight_bytes 0
# HELP auditmill_ingest_records_out_total Records whose effect is durable.
# TYPE auditmill_ingest_records_out_total counter
auditmill_ingest_records_out_total 8
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "auditmill_ingest_answers_total",
		"auditmill_ingest_cluster_bad_total", "auditmill_ingest_cluster_records_in_total",
		"auditmill_ingest_cluster_records_out_total", "auditmill_ingest_inflight_bytes", "auditmill_ingest_records_out_total"); err != nil {
		t.Error(err)
	}
}
