package obs

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestStageNamesAndValues(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := NewStage(reg, "ingest", "malformed", "too_large")
	s.In.Add(3)
	s.BytesIn.Add(300)
	s.Bad("malformed").Inc()
	s.Bad("made up by a sender").Add(2)
	s.Lag.Set(7)
	s.Done(2, 200, time.Now(), time.Now())

	want := `
# HELP auditmill_ingest_bad_total Records that could not be processed and went to the dead-letter topic or were refused, by reason.
# TYPE auditmill_ingest_bad_total counter
auditmill_ingest_bad_total{reason="malformed"} 1
auditmill_ingest_bad_total{reason="other"} 2
auditmill_ingest_bad_total{reason="too_large"} 0
# HELP auditmill_ingest_lag_records Records of the input that still wait.
# TYPE auditmill_ingest_lag_records gauge
auditmill_ingest_lag_records 7
# HELP auditmill_ingest_records_in_total Records taken in.
# TYPE auditmill_ingest_records_in_total counter
auditmill_ingest_records_in_total 3
# HELP auditmill_ingest_records_out_total Records whose effect is durable.
# TYPE auditmill_ingest_records_out_total counter
auditmill_ingest_records_out_total 2
`
	err := testutil.GatherAndCompare(reg, strings.NewReader(want),
		"auditmill_ingest_bad_total", "auditmill_ingest_lag_records",
		"auditmill_ingest_records_in_total", "auditmill_ingest_records_out_total")
	if err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("got problems %v, error %v, want none", problems, err)
	}
}

func TestStageWithoutRegistry(t *testing.T) {
	s := NewStage(nil, "load")
	s.Bad("anything").Inc()
	s.Done(1, 1, time.Now(), time.Time{})
	if got := testutil.ToFloat64(s.Out); got != 1 {
		t.Errorf("got %v records out, want 1", got)
	}
}

func TestReadStages(t *testing.T) {
	reg := NewRegistry()
	ingest := NewStage(reg, "ingest", "malformed")
	NewStage(reg, "enrich")
	ingest.In.Add(10)
	ingest.Bad("malformed").Add(4)
	ingest.BytesIn.Add(1000)
	ingest.Lag.Set(5)
	ingest.Done(6, 600, time.Now(), time.Time{})

	got, err := ReadStages(reg, "ingest", "enrich", "alert")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := got["alert"]; ok {
		t.Error("a service without a stage was found")
	}
	if _, ok := got["enrich"]; !ok {
		t.Error("an idle stage was not found")
	}
	c := got["ingest"]
	if c.Latency.Count != 1 || c.Delay.Count != 0 {
		t.Errorf("got %d latencies and %d delays, want 1 and 0", c.Latency.Count, c.Delay.Count)
	}
	c.Latency, c.Delay = Histogram{}, Histogram{}
	want := Counts{
		In: 10, Out: 6, BytesIn: 1000, BytesOut: 600, Lag: 5,
		Bad: map[string]float64{"malformed": 4, Other: 0},
	}
	if diff := cmp.Diff(want, c, cmp.AllowUnexported(Histogram{}, bucket{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestQuantile(t *testing.T) {
	h := Histogram{Count: 10, buckets: []bucket{{0.1, 0}, {0.2, 5}, {0.4, 9}}}
	tests := []struct {
		q    float64
		want time.Duration
	}{
		{0.25, 150 * time.Millisecond},
		{0.5, 200 * time.Millisecond},
		{0.7, 300 * time.Millisecond},
		{1, 400 * time.Millisecond},
	}
	for _, tt := range tests {
		if got := h.Quantile(tt.q).Round(time.Microsecond); got != tt.want {
			t.Errorf("q=%v: got %v, want %v", tt.q, got, tt.want)
		}
	}
	if got := (Histogram{}).Quantile(0.99); got != 0 {
		t.Errorf("without observations: got %v, want 0", got)
	}
}

func BenchmarkStageDone(b *testing.B) {
	s := NewStage(prometheus.NewRegistry(), "ingest", "malformed")
	start := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		s.Done(100, 150_000, start, start)
	}
}
