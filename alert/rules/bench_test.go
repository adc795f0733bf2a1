package rules_test

import (
	"fmt"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"golang.org/x/sys/unix"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ruletest"
	"github.com/auditmill/auditmill/alert/rules"
	"github.com/auditmill/auditmill/schemas"
)

// many returns n rules: the pack, and rules of the shapes that published packs have, on
// the resources, callers and paths that the recording holds.
func many(b *testing.B, n int) *rule.Set {
	b.Helper()
	all, err := rules.Parse()
	if err != nil {
		b.Fatal(err)
	}
	resources := []string{
		"pods", "secrets", "configmaps", "services", "serviceaccounts", "nodes", "namespaces", "deployments", "daemonsets", "jobs", "cronjobs",
		"roles", "rolebindings", "clusterroles", "clusterrolebindings", "networkpolicies", "ingresses", "persistentvolumeclaims", "leases", "endpoints",
	}
	shapes := []string{
		"sel: {verb: [create, update, patch], objectRef.resource: %[1]s, stage: ResponseComplete, objectRef.namespace: team-%[2]d}\n  " +
			"filter: {user.username|startswith: 'system:'}\n  condition: sel and not filter",
		"sel: {verb: [delete, deletecollection], objectRef.resource: %[1]s, user.username|contains: user-%[2]d, responseStatus.code|lt: 400}\n  condition: sel",
		"sel: {objectRef.resource: %[1]s, verb: get, userAgent|contains: [tool-%[2]d, scan%[2]d/]}\n  f1: {user.groups: 'system:masters'}\n  " +
			"f2: {source_ip|cidr: 10.0.0.0/8}\n  condition: sel and not 1 of f*",
		"sel: {objectRef.resource: %[1]s, verb: [create, patch], requestObject.spec.template.spec.containers.image|startswith: evil%[2]d/}\n  " +
			"ns: {objectRef.namespace: [prod-%[2]d, data-%[2]d]}\n  condition: sel and ns",
		"sel: {requestURI|contains: '/%[1]s/x%[2]d', stage: ResponseComplete, responseStatus.code: 404}\n  condition: sel",
		"sel: {user.username|re: '^svc-%[2]d-[a-z]+$', objectRef.resource: %[1]s}\n  err: {annotations.authorization.k8s.io/decision: forbid}\n  condition: sel and err",
	}
	for i := 0; len(all) < n; i++ {
		text := fmt.Sprintf("title: rule %[2]d\nlogsource: {product: kubernetes, service: audit}\ndetection:\n  "+shapes[i%len(shapes)]+"\n",
			resources[i%len(resources)], i)
		more, err := rule.ParseFile(fstest.MapFS{"r.yml": {Data: []byte(text)}}, "r.yml")
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, more...)
	}
	set, err := rule.Compile(all[:n])
	if err != nil {
		b.Fatal(err)
	}
	return set
}

// encoded returns recorded events as values of audit.enriched.v1. A larger recording than
// the one shipped may be named by AUDITMILL_RECORDING.
func encoded(b *testing.B, size int) (values [][]byte, events int) {
	b.Helper()
	name := recording
	if other := os.Getenv("AUDITMILL_RECORDING"); other != "" {
		name = other
	}
	lines, err := ruletest.Recording(name)
	if err != nil {
		b.Fatal(err)
	}
	return encode(b, lines, size), len(lines)
}

func encode(b *testing.B, lines [][]byte, size int) (values [][]byte) {
	b.Helper()
	builder := schemas.NewBuilder()
	for first := 0; first < len(lines); first += size {
		builder.Reset()
		for _, raw := range lines[first:min(first+size, len(lines))] {
			e, err := ruletest.Event("prod", raw)
			if err != nil {
				b.Fatal(err)
			}
			builder.Append(e)
		}
		value, err := schemas.Encode(builder.Batch())
		if err != nil {
			b.Fatal(err)
		}
		values = append(values, value)
	}
	return values
}

func perEvent(b *testing.B, events int) {
	b.Helper()
	b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events)/float64(b.N), "ns/event")
}

// BenchmarkMatch evaluates rules on decoded batches.
func BenchmarkMatch(b *testing.B) {
	for _, size := range []int{8192, 1000, 100} {
		values, events := encoded(b, size)
		var batches []arrow.RecordBatch
		for _, value := range values {
			batch, err := schemas.Decode(value)
			if err != nil {
				b.Fatal(err)
			}
			batches = append(batches, batch)
		}
		for _, n := range []int{15, 200, 2000} {
			evaluator := many(b, n).NewEvaluator()
			b.Run(fmt.Sprintf("rules=%d/rows=%d", n, size), func(b *testing.B) {
				matches := 0
				for _, batch := range batches { // so that every value was seen once
					if err := evaluator.Match(batch, func(int, int) {}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportAllocs()
				for b.Loop() {
					matches = 0
					for _, batch := range batches {
						if err := evaluator.Match(batch, func(int, int) { matches++ }); err != nil {
							b.Fatal(err)
						}
					}
				}
				perEvent(b, events)
				b.ReportMetric(float64(matches)/float64(events), "matches/event")
			})
		}
		for _, batch := range batches {
			batch.Release()
		}
	}
}

// BenchmarkDecode reads the Arrow batch of a record: what comes before matching.
func BenchmarkDecode(b *testing.B) {
	values, events := encoded(b, 8192)
	b.ReportAllocs()
	for b.Loop() {
		for _, value := range values {
			batch, err := schemas.Decode(value)
			if err != nil {
				b.Fatal(err)
			}
			batch.Release()
		}
	}
	perEvent(b, events)
}

// BenchmarkBatch is the way of a record through the service until its matches: open the
// batch and evaluate 200 rules. Once as recorded, attacks and the noise around them included,
// and once with the events alone for which no rule has to parse the raw event.
func BenchmarkBatch(b *testing.B) {
	lines, err := ruletest.Recording(recording)
	if err != nil {
		b.Fatal(err)
	}
	set := many(b, 200)
	b.Run("recorded", func(b *testing.B) { benchmarkBatch(b, set, lines) })
	quiet := withoutParsing(b, set, lines)
	b.Run("quiet", func(b *testing.B) { benchmarkBatch(b, set, quiet) })
}

func benchmarkBatch(b *testing.B, set *rule.Set, lines [][]byte) {
	b.Helper()
	evaluator, reader := set.NewEvaluator(), schemas.NewReader()
	values := encode(b, lines, 2000)
	matches := 0
	match := func(int, int) { matches++ }
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		matches = 0
		for _, value := range values {
			batch, err := reader.Open(value)
			if err != nil {
				b.Fatal(err)
			}
			if err := evaluator.Match(batch, match); err != nil {
				b.Fatal(err)
			}
		}
	}
	events := float64(len(lines)) * float64(b.N)
	b.ReportMetric(events/(cpuTime(b)-before).Seconds(), "events/cpu-s")
	b.ReportMetric(float64(evaluator.Stats().Parsed)/events, "parsed/event")
	b.ReportMetric(float64(matches)/float64(len(lines)), "matches/event")
	perEvent(b, len(lines))
}

// withoutParsing returns the events for which set does not parse the raw event.
func withoutParsing(b *testing.B, set *rule.Set, lines [][]byte) [][]byte {
	b.Helper()
	evaluator, reader := set.NewEvaluator(), schemas.NewReader()
	var quiet [][]byte
	for i, value := range encode(b, lines, 1) {
		batch, err := reader.Open(value)
		if err != nil {
			b.Fatal(err)
		}
		before := evaluator.Stats().Parsed
		if err := evaluator.Match(batch, func(int, int) {}); err != nil {
			b.Fatal(err)
		}
		if evaluator.Stats().Parsed == before {
			quiet = append(quiet, lines[i])
		}
	}
	return quiet
}

// cpuTime is what the process has used, whatever else runs on the machine.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// What a batch costs in allocations must not depend on its rows.
func TestMatchDoesNotAllocatePerRow(t *testing.T) {
	pack, err := rules.Parse()
	if err != nil {
		t.Fatal(err)
	}
	set, err := rule.Compile(pack)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := ruletest.Recording(recording)
	if err != nil {
		t.Fatal(err)
	}
	builder := schemas.NewBuilder()
	for _, raw := range lines[:2000] {
		e, err := ruletest.Event("prod", raw)
		if err != nil {
			t.Fatal(err)
		}
		builder.Append(e)
	}
	batch := builder.Batch()
	defer batch.Release()
	evaluator := set.NewEvaluator()
	allocs := testing.AllocsPerRun(3, func() {
		if err := evaluator.Match(batch, func(int, int) {}); err != nil {
			t.Fatal(err)
		}
	})
	// One look-up by name for each column, and a few the first time a column is seen.
	if allocs > 100 {
		t.Errorf("%v allocations for a batch of 2000 rows", allocs)
	}
	t.Logf("%v allocations for a batch of 2000 rows", allocs)
}
