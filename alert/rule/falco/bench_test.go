package falco_test

import (
	"testing"

	"github.com/auditmill/auditmill/alert/rule/falco"
	"github.com/auditmill/auditmill/alert/rule/ruletest"
	"github.com/auditmill/auditmill/schemas"
)

// BenchmarkPublished evaluates the published rules on batches of recorded events; one operation is
// one event.
func BenchmarkPublished(b *testing.B) {
	lines, err := ruletest.Recording("../../../testdata/recording/sample.jsonl.gz")
	if err != nil {
		b.Skip("no recording: ", err)
	}
	pack, err := falco.Parse(sharedRules(b, "rules/k8s_audit_rules.yaml"), falco.Options{})
	if err != nil {
		b.Fatal(err)
	}
	e := compile(b, pack)
	events := make([]*schemas.Event, 8192)
	for i := range events {
		if events[i], err = ruletest.Event("c", lines[i%len(lines)]); err != nil {
			b.Fatal(err)
		}
	}
	batch, err := ruletest.Batch(events...)
	if err != nil {
		b.Fatal(err)
	}
	defer batch.Release()
	matches := 0
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += len(events) {
		if err := e.Match(batch, func(int, int) { matches++ }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	stats := e.Stats()
	b.ReportMetric(float64(stats.Parsed)/float64(stats.Rows), "parsed/event")
	b.ReportMetric(float64(matches)/float64(stats.Rows), "matches/event")
}

func BenchmarkParse(b *testing.B) {
	files := sharedRules(b, "rules/k8s_audit_rules.yaml")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := falco.Parse(files, falco.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
