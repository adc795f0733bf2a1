package rules_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"golang.org/x/sys/unix"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/alert/rule/ruletest"
	"github.com/auditmill/auditmill/alert/rules"
	"github.com/auditmill/auditmill/schemas"
)

// many returns n rules: the pack, variants of its rules as tenants would write them, and rules of
// the shapes that published packs have, on the resources, callers and paths that the recording holds.
func many(b *testing.B, n int) *rule.Set {
	b.Helper()
	pack, err := rules.Parse()
	if err != nil {
		b.Fatal(err)
	}
	all := slices.Clone(pack)
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
		if i%2 == 0 {
			r := pack[i/2%len(pack)]
			r.ID, r.Condition = fmt.Sprintf("%s of tenant %d", r.ID, i), vary(r.Condition, i)
			all = append(all, r)
			continue
		}
		text := fmt.Sprintf("title: rule %[2]d\nlogsource: {product: kubernetes, service: audit}\ndetection:\n  "+shapes[i/2%len(shapes)]+"\n",
			resources[i/2%len(resources)], i)
		more, err := rule.ParseFile(fstest.MapFS{"r.yml": {Data: []byte(text)}}, "r.yml")
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, more...)
	}
	return compiled(b, all[:n])
}

func compiled(b *testing.B, all []rule.Rule) *rule.Set {
	b.Helper()
	set, err := rule.Compile(all)
	if err != nil {
		b.Fatal(err)
	}
	return set
}

// vary is a condition with other names, images and paths, in a tenant's namespaces.
func vary(e ir.Expr, tenant int) ir.Expr {
	suffix := fmt.Sprintf("-%d", tenant)
	namespace, _ := ir.NewFields().Resolve("objectRef.namespace")
	own := &ir.Test{Field: namespace, AnyOf: []ir.Match{ir.Text{Parts: []ir.Part{{Literal: "tenant" + suffix}, {Wild: ir.Many}}}}}
	return ir.And{renamed(e, suffix), own}
}

func renamed(e ir.Expr, suffix string) ir.Expr {
	all := func(args []ir.Expr) []ir.Expr {
		out := make([]ir.Expr, len(args))
		for i, arg := range args {
			out[i] = renamed(arg, suffix)
		}
		return out
	}
	switch e := e.(type) {
	case ir.And:
		return ir.And(all(e))
	case ir.Or:
		return ir.Or(all(e))
	case ir.Not:
		return ir.Not{Expr: renamed(e.Expr, suffix)}
	case *ir.Elements:
		other := *e
		other.Expr = renamed(e.Expr, suffix)
		return &other
	case *ir.Test:
		if e.Field.Source == ir.Column && e.Field.Type == schemas.TypeDict && e.Field.Column != "user" && e.Field.Column != "user_agent" {
			return e // verbs and resources are the same everywhere
		}
		other := *e
		other.AnyOf = slices.Clone(e.AnyOf)
		for i, m := range other.AnyOf {
			if text, ok := m.(ir.Text); ok {
				text.Parts = slices.Clone(text.Parts)
				for j := range text.Parts {
					if text.Parts[j].Wild == ir.NotWild {
						text.Parts[j].Literal += suffix
					}
				}
				other.AnyOf[i] = text
			}
		}
		return &other
	}
	return e
}

// published returns the pack with the rules of SigmaHQ and Falco, where they are at hand.
func published(b *testing.B) *rule.Set {
	b.Helper()
	all, err := rules.Parse()
	if err != nil {
		b.Fatal(err)
	}
	for _, dir := range []string{"../../../shared/data/sigma", "../../../shared/data/falco/rules"} {
		files, err := rule.ReadDir(os.DirFS(dir), "")
		if err != nil {
			b.Skip("no published rules: ", err)
		}
		files = slices.DeleteFunc(files, func(f rule.File) bool {
			return !strings.Contains(f.Name, "kubernetes") && f.Name != "k8s_audit_rules.yaml"
		})
		pack, err := rule.Load(files, rule.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if len(pack.Rules) == 0 {
			b.Fatalf("no rules in %s", dir)
		}
		all = append(all, pack.Rules...)
	}
	return compiled(b, all)
}

// encoded returns recorded events as values of audit.enriched.v1. A larger recording than
// the one shipped may be named by AUDITMILL_RECORDING.
func encoded(b *testing.B, size int) (values [][]byte, events int) {
	b.Helper()
	lines := recorded(b)
	return encode(b, lines, size), len(lines)
}

func recorded(b *testing.B) [][]byte {
	b.Helper()
	name := recordingFile
	if other := os.Getenv("AUDITMILL_RECORDING"); other != "" {
		name = other
	}
	lines, err := ruletest.Recording(name)
	if err != nil {
		b.Fatal(err)
	}
	return lines
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
			set := many(b, n)
			b.Run(fmt.Sprintf("rules=%d/rows=%d", n, size), func(b *testing.B) { benchmarkMatch(b, set, batches, events) })
		}
		if size == 8192 {
			b.Run("published", func(b *testing.B) { benchmarkMatch(b, published(b), batches, events) })
		}
		for _, batch := range batches {
			batch.Release()
		}
	}
}

func benchmarkMatch(b *testing.B, set *rule.Set, batches []arrow.RecordBatch, events int) {
	b.Helper()
	evaluator := set.NewEvaluator()
	matches := 0
	match := func(int, int) { matches++ }
	for _, batch := range batches { // so that every value was seen once
		if err := evaluator.Match(batch, match); err != nil {
			b.Fatal(err)
		}
	}
	parsed := evaluator.Stats().Parsed
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		matches = 0
		for _, batch := range batches {
			if err := evaluator.Match(batch, match); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(events)*float64(b.N)/(cpuTime(b)-before).Seconds(), "events/cpu-s")
	b.ReportMetric(float64(len(set.Rules())), "rules")
	b.ReportMetric(float64(parsed)/float64(events), "parsed/event")
	b.ReportMetric(float64(matches)/float64(events), "matches/event")
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
	lines := recorded(b)
	for _, n := range []int{200, 2000} {
		set := many(b, n)
		b.Run(fmt.Sprintf("rules=%d/recorded", n), func(b *testing.B) { benchmarkBatch(b, set, lines) })
		quiet := withoutParsing(b, set, lines)
		b.Run(fmt.Sprintf("rules=%d/quiet", n), func(b *testing.B) { benchmarkBatch(b, set, quiet) })
	}
	b.Run("published/recorded", func(b *testing.B) { benchmarkBatch(b, published(b), lines) })
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
	if raceDetector {
		t.Skip("allocations of regexp are at random under the race detector")
	}
	pack, err := rules.Parse()
	if err != nil {
		t.Fatal(err)
	}
	set, err := rule.Compile(pack)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := ruletest.Recording(recordingFile)
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
