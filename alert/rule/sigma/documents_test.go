package sigma

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

func parseAll(texts ...string) (*ir.Pack, error) {
	var files []File
	for i, text := range texts {
		files = append(files, File{Name: fmt.Sprintf("%c.yml", 'a'+i), Data: []byte(text)})
	}
	return Parse(files, ir.NewFields(), Options{Lists: map[string][]string{"trusted": {"x"}}})
}

func mustParse(t *testing.T, texts ...string) *ir.Pack {
	t.Helper()
	pack, err := parseAll(texts...)
	if err != nil {
		t.Fatal(err)
	}
	return pack
}

func notes(pack *ir.Pack) string {
	var lines []string
	for _, n := range pack.Notes {
		lines = append(lines, n.Position.String()+" "+n.Rule+": "+n.Text)
	}
	return strings.Join(lines, "\n")
}

func conditions(pack *ir.Pack) string {
	var lines []string
	for _, r := range pack.Rules {
		lines = append(lines, r.ID+": "+r.Condition.String())
	}
	return strings.Join(lines, "\n")
}

// base is a rule with that name that looks for that verb.
func base(name, verb string) string {
	return "title: " + name + "\nname: " + name + "\nlogsource: {product: kubernetes}\ndetection: {s: {verb: " + verb + "}, condition: s}\n---\n"
}

func TestFilters(t *testing.T) {
	filter := "title: f\nlogsource: {category: application}\nfilter:\n  rules: [one, 0aa8fcd5-7d0c-4a63-8d6c-0f8b9a0b0c0d, gone, many]\n" +
		"  s: {user.username: ci}\n  condition: s\n---\ntitle: g\nlogsource: {product: kubernetes}\nfilter: {rules: any, s: {namespace: test}, condition: not s}\n"
	rules := base("one", "get") + "title: two\nid: 0AA8FCD5-7d0c-4a63-8d6c-0f8b9a0b0c0d\nlogsource: {service: audit}\ndetection: {s: {verb: list}, condition: s}\n---\n" +
		base("three", "watch") + "title: many\ncorrelation: {type: event_count, rules: [three], timespan: 5m, condition: {gte: 2}}\n"
	pack := mustParse(t, filter, rules)
	want := `one: ((verb ["get"] and user/username ["ci"]) and not namespace ["test"])
0AA8FCD5-7d0c-4a63-8d6c-0f8b9a0b0c0d: ((verb ["list"] and user/username ["ci"]) and not namespace ["test"])
three: (verb ["watch"] and not namespace ["test"])`
	if d := cmp.Diff(want, conditions(pack)); d != "" {
		t.Errorf("conditions (-want +got):\n%s", d)
	}
	want = `a.yml:4:54 f: the filter is for a rule "gone", which is not loaded; did you mean "one"?
a.yml:4:60 f: "many" is a correlation, which a filter cannot narrow: name its rules
a.yml:6:14 f: the condition is added to the rules as it stands, so they match only what the filter describes; to leave that out write not before it`
	if d := cmp.Diff(want, notes(pack)); d != "" {
		t.Errorf("notes (-want +got):\n%s", d)
	}
}

func TestOtherSources(t *testing.T) {
	pack := mustParse(t, `title: windows rule
name: w
logsource: {product: windows, category: process_creation}
detection: {s: {Image|nosuchmodifier: x}, timeframe: 5m, condition: s | count() > 3}
---
title: counts it
correlation: {type: event_count, rules: [w], timespan: 5m, condition: {gte: 3}, group-by: [Computer]}
---
title: on top of that
correlation: {type: temporal, rules: [counts it, k], timespan: 5m}
---
title: a filter
logsource: {product: windows}
filter: {rules: any, s: {Image|nosuchmodifier: x}, condition: not s}
---
title: k
logsource: {definition: all of it}
detection: {s: {verb: get}, condition: s}
`)
	want := `a.yml:1:1 w: passed over: it is for product windows, category process_creation, not for Kubernetes audit events
a.yml:6:1 counts it: passed over: it counts rules that are not for Kubernetes audit events
a.yml:9:1 on top of that: passed over: it counts rules that are not for Kubernetes audit events
a.yml:12:1 a filter: passed over: it is a filter for product windows, not for Kubernetes audit events`
	if d := cmp.Diff(want, notes(pack)); d != "" {
		t.Errorf("notes (-want +got):\n%s", d)
	}
	if len(pack.Rules) != 1 || len(pack.Correlations) != 0 || pack.Rules[0].Silent {
		t.Errorf("%d rules, %d correlations, silent: %v", len(pack.Rules), len(pack.Correlations), pack.Rules[0].Silent)
	}
}

func TestActions(t *testing.T) {
	pack := mustParse(t, `action: global
title: shared
level: high
logsource: {product: kubernetes}
detection: {s: {verb: get}, condition: s}
---
detection: {s: {resource: secrets}}
---
action: repeat
level: low
detection: {s: {resource: configmaps}}
---
action: reset
---
title: own
logsource: {product: kubernetes}
detection: {s: {verb: list}, condition: s}
`)
	want := `shared: (resource ["secrets"] and verb ["get"])
shared #2: (resource ["configmaps"] and verb ["get"])
own: verb ["list"]`
	if d := cmp.Diff(want, conditions(pack)); d != "" {
		t.Errorf("conditions (-want +got):\n%s", d)
	}
	if pack.Rules[0].Level != "high" || pack.Rules[1].Level != "low" || pack.Rules[2].Level != "medium" {
		t.Errorf("levels are %s, %s, %s", pack.Rules[0].Level, pack.Rules[1].Level, pack.Rules[2].Level)
	}
}

func TestUnknownFields(t *testing.T) {
	pack := mustParse(t, head+"detection:\n  s: {objectRef.resourc: pods}\n  r: {Verb: get}\n  condition: s or r\n---\n"+
		strings.Replace(head, "title: t", "title: u", 1)+"detection: {s: {verb: get}, r: {nothing.like.it: null}, condition: s and r}")
	want := `a.yml:4:7 t: no audit event has a field objectRef.resourc, so it is always absent; did you mean objectRef.resource?
a.yml:5:7 t: no audit event has a field Verb, so it is always absent; did you mean verb?
a.yml:10:33 u: no audit event has a field nothing.like.it, so it is always absent`
	if d := cmp.Diff(want, notes(pack)); d != "" {
		t.Errorf("notes (-want +got):\n%s", d)
	}
	if d := cmp.Diff("no audit event has a field objectRef.resourc; did you mean objectRef.resource?", pack.Rules[0].Blind); d != "" {
		t.Errorf("blind (-want +got):\n%s", d)
	}
	if pack.Rules[1].Blind != "" {
		t.Errorf("a rule that wants an absent field to be absent is blind: %s", pack.Rules[1].Blind)
	}
}

func TestCorrelation(t *testing.T) {
	pack := mustParse(t, base("a", "get")+base("b", "list")+base("c", "watch")+`title: Many
name: many
id: 4db3cdb5-aac6-4827-a756-d99475865d32
level: high
correlation:
  type: value_count
  rules: [a, b]
  group-by: [who, cluster]
  timespan: 15m
  aliases:
    who: {a: user.username, b: impersonatedUser.username}
  condition: {field: [namespace, objectRef.name], gt: 3, lte: 10}
x-auditmill:
  lateness: 2m
  summary: "{who} {count} {namespace}"
  group_by: [who]
---
title: Then
correlation: {type: temporal_ordered, rules: [many, c], group-by: [who], timespan: 1w, generate: true, aliases: {who: {many: who, c: user}}}
---
title: Volume
correlation: {type: value_percentile, rules: c, group-by: user, timespan: 1d, condition: {field: duration, gte: 5.5, percentile: 99}}
---
title: New
correlation: {type: first_seen, rules: [c], group-by: [actor], field: [source_ip], timespan: 1M}
x-auditmill: {learning: 7d}
---
title: Quiet
correlation: {type: absence, rules: [c], group-by: [cluster], timespan: 90s}
`)
	if n := notes(pack); n != "" {
		t.Errorf("notes: %s", n)
	}
	var got []string
	for _, c := range pack.Correlations {
		line := fmt.Sprint(c.ID, " ", c.Type, " ", c.Rules, " ", c.Timespan, " ", c.Condition, " silent ", c.Silent)
		for _, id := range c.Rules {
			line += "\n  " + id + ":"
			for i, f := range c.GroupFields[id] {
				line += fmt.Sprintf(" %s=%s/%s", c.GroupNames[i], f.Name, f)
			}
			for i, f := range c.ValueFields[id] {
				line += fmt.Sprintf(" counts %s=%s", c.ValueNames[i], f)
			}
		}
		got = append(got, line)
	}
	want := `4db3cdb5-aac6-4827-a756-d99475865d32 value_count [a b] 15m0s [{> 3} {<= 10}] silent false
  a: who=user.username/user/username cluster=cluster/cluster counts namespace=namespace counts objectRef.name=objectRef/name
  b: who=impersonatedUser.username/impersonatedUser/username cluster=cluster/cluster counts namespace=namespace counts objectRef.name=objectRef/name
Then temporal_ordered [4db3cdb5-aac6-4827-a756-d99475865d32 c] 168h0m0s [] silent false
  4db3cdb5-aac6-4827-a756-d99475865d32: who=who/
  c: who=user/user
Volume value_percentile [c] 24h0m0s [{>= 5.5}] silent false
  c: user=user/user counts duration=duration
New first_seen [c] 730h29m6s [] silent false
  c: actor=actor/actor counts source_ip=source_ip
Quiet absence [c] 1m30s [] silent false
  c: cluster=cluster/cluster`
	if d := cmp.Diff(want, strings.Join(got, "\n")); d != "" {
		t.Errorf("correlations (-want +got):\n%s", d)
	}
	c := pack.Correlations[0]
	if c.Lateness != 2*time.Minute || c.Level != "high" || c.Name != "many" || len(c.GroupBy) != 1 || c.Summary.String() == "" {
		t.Errorf("got %+v", c)
	}
	if pack.Correlations[3].Learning != 7*24*time.Hour || pack.Correlations[2].Percentile != 99 {
		t.Errorf("got %+v", pack.Correlations)
	}
	for _, r := range pack.Rules {
		if want := r.ID != "c"; r.Silent != want { // c feeds one that generates
			t.Errorf("%s is silent: %v", r.ID, r.Silent)
		}
	}
}

func TestCorrelationFaults(t *testing.T) {
	tests := []struct{ name, correlation, want string }{
		{"unknown rule", "{type: temporal, rules: [aa, b], timespan: 5m}", `a.yml:12:39: correlation.rules: there is no rule "aa"; did you mean "a"? otherwise load the file that has it, or correct the id or name`},
		{"itself", "{type: temporal, rules: [a, c], timespan: 5m}", `a.yml:12:14: correlation.rules: the correlation counts its own alerts, directly or through others; remove one of the references`},
		{"twice", "{type: temporal, rules: [a, a], timespan: 5m}", `a.yml:12:42: correlation.rules: "a" stands here twice; remove one`},
		{
			"nothing", "{}",
			`a.yml:12:14: correlation.type: is missing; every correlation needs it
a.yml:12:14: correlation.rules: is missing; every correlation needs it
a.yml:12:14: correlation.timespan: is missing; every correlation needs it`,
		},
		{"no rules", "{type: temporal, rules: [], timespan: 5m}", `a.yml:12:14: correlation.rules: is an empty list; name the rules whose matches count`},
		{
			"unknown keys", "{type: median, rule: [a], rules: [a], timespan: 5 m, condition: {min: 3}}",
			`a.yml:12:21: correlation.type: "median" is not allowed; write one of event_count, value_count, temporal, temporal_ordered, value_sum, value_avg, value_percentile, first_seen, absence
a.yml:12:29: correlation.rule: is unknown; did you mean "rules"? known are type, rules, group-by, timespan, condition, aliases, generate, field
a.yml:12:62: correlation.timespan: "5 m" is not a span of time; write a whole number and one of s, m, h, d, w, M, y, such as 15m
a.yml:12:79: correlation.condition.min: is unknown; known are gt, gte, lt, lte, eq, neq, field, percentile`,
		},
		{"fields", "{type: event_count, rules: [a], group-by: [ComputerName], timespan: 5m, condition: {gte: 3}}", `a.yml:12:57: correlation.group-by: ComputerName is not a field of audit events; see docs/fields.md for the columns and paths`},
		{"no number", "{type: event_count, rules: [a], timespan: 5m}", `a.yml:12:14: correlation.condition: says no number; write such as gte: 10`},
		{"no field", "{type: value_sum, rules: [a], timespan: 5m, condition: {gte: 3}}", `a.yml:12:69: correlation.condition.field: is missing; name the field whose values count`},
		{"several fields", "{type: value_avg, rules: [a], timespan: 5m, condition: {field: [code, duration], gte: 3}}", `a.yml:12:69: correlation.condition.field: must be one field; only value_count takes several`},
		{"percentile", "{type: value_percentile, rules: [a], timespan: 5m, condition: {field: code, lte: 1}}", `a.yml:12:76: correlation.condition.percentile: is missing, so nobody can tell which percentile is meant; write such as percentile: 95`},
		{"median", "{type: value_median, rules: [a], timespan: 5m, condition: {field: code, lte: 1}}", `a.yml:12:21: correlation.type: "value_median" is not a type of the specification; write value_percentile with percentile: 50 in the condition`},
		{"nothing happened", "{type: event_count, rules: [a], timespan: 5m, condition: {lt: 1}}", `a.yml:12:71: correlation.condition: holds only when nothing has happened, and then there is no group to tell about; write type: absence for what fails to happen`},
		{"empty range", "{type: event_count, rules: [a], timespan: 5m, condition: {lt: 3, gt: 5}}", `a.yml:12:71: correlation.condition: no number is in this range; exchange the bounds`},
		{"text", "{type: temporal, rules: [a, b], timespan: 5m, condition: a and not b}", `a.yml:12:71: correlation.condition: conditions that combine rules by and, or, not are not part of the specification; write a mapping such as {gte: 10}; for all rules within the timespan write type: temporal without a condition`},
		{"too many", "{type: temporal, rules: [a, b], timespan: 5m, condition: {gte: 3}}", `a.yml:12:71: correlation.condition: there are only 2 rules; name more, or remove the condition`},
		{"order of some", "{type: temporal_ordered, rules: [a, b], timespan: 5m, condition: {gte: 1}}", `a.yml:12:79: correlation.condition: the order is that of all rules; remove the condition, or write type: temporal`},
		{
			"aliases", "{type: temporal, rules: [a, b], group-by: [x], timespan: 5m, aliases: {x: {a: user, z: actor}}}",
			`a.yml:12:85: correlation.aliases.x: says nothing about the rule b; add its id or name and a field
a.yml:12:101: correlation.aliases.x: "z" is not one of the correlation's rules; correct the id or name, or add it to rules`,
		},
		{"condition of absence", "{type: absence, rules: [a], timespan: 5m, condition: {lt: 1}}", `a.yml:12:67: correlation.condition: does not go with absence; remove it`},
	}
	for _, tt := range tests {
		_, err := parseAll(base("a", "get") + base("b", "list") + "title: c\ncorrelation: " + tt.correlation)
		if err == nil {
			t.Errorf("%s: no error", tt.name)
			continue
		}
		if d := cmp.Diff(tt.want, err.Error()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

func TestCases(t *testing.T) {
	pack := mustParse(t, head+`detection: {s: {verb: get}, condition: s}
x-auditmill:
  group_by: [actor, objectRef.namespace]
  cases:
    - case: one
      match: true
      event: {verb: list, code: 0x10, ratio: 1.50, big: 12345678901234567890, at: 2026-01-01, none: null, list: [a, true], "quoted\"": {}}
    - case: many
      alerts: 2
      events:
        - {event: {verb: get}}
        - {event: {}, after: 30s, repeat: 4, every: 1d}
        - {event: {}, after: 1m30s, every: 500ms}
`)
	want := []ir.Case{
		{
			Name: "one", Alerts: 1, Position: ir.Position{File: "a.yml", Line: 7, Column: 7},
			Events: []ir.CaseEvent{{
				JSON: []byte(`{"verb":"list","code":16,"ratio":1.50,"big":12345678901234567890,"at":"2026-01-01","none":null,` +
					`"list":["a",true],"quoted\"":{}}`), Repeat: 1,
			}},
		},
		{
			Name: "many", Alerts: 2, Position: ir.Position{File: "a.yml", Line: 10, Column: 7},
			Events: []ir.CaseEvent{
				{JSON: []byte(`{"verb":"get"}`), Repeat: 1},
				{JSON: []byte(`{}`), Repeat: 4, After: 30 * time.Second, Every: 24 * time.Hour},
				{JSON: []byte(`{}`), Repeat: 1, After: 90 * time.Second, Every: 500 * time.Millisecond},
			},
		},
	}
	if d := cmp.Diff(want, pack.Rules[0].Cases); d != "" {
		t.Errorf("cases (-want +got):\n%s", d)
	}
	if len(pack.Rules[0].GroupBy) != 2 {
		t.Errorf("group_by is %v", pack.Rules[0].GroupBy)
	}
}

func TestCaseFaults(t *testing.T) {
	_, err := parseAll(head + `detection: {s: {verb: get}, condition: s}
x-auditmill:
  lateness: 5m
  group_by: [nobody]
  cases:
    - {match: true, event: {}}
    - {case: a, event: {}}
    - {case: b, match: maybe, event: []}
    - {case: c, alerts: -1, events: [{after: soon, color: red}]}
    - {case: d, match: true}
`)
	want := `a.yml:5:3: x-auditmill.lateness: is for correlations only; remove it
a.yml:6:13: x-auditmill.group_by: nobody is not a field; did you mean "node"? see docs/fields.md for the columns and paths
a.yml:8:7: x-auditmill.cases: the case has no name; write case: what it shows
a.yml:9:7: x-auditmill.cases: the case says neither match nor alerts; write match: true, or alerts: with their number
a.yml:10:24: x-auditmill.cases.match: must be true or false, is text
a.yml:10:38: x-auditmill.cases.event: must be a mapping, is a list; write the part of an audit event that the case is about
a.yml:11:25: x-auditmill.cases.alerts: must be a whole number, not negative; write such as 3
a.yml:11:38: x-auditmill.cases.events: has no event; write event: {…}
a.yml:11:46: x-auditmill.cases.events.after: "soon" is not a span of time; write a whole number and one of s, m, h, d, w, M, y, such as 15m
a.yml:11:52: x-auditmill.cases.events.color: is unknown; known are event, columns, after, repeat, every
a.yml:12:7: x-auditmill.cases: the case must have event or events, one of them; write event: {…}`
	if err == nil {
		t.Fatal("no error")
	}
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Errorf("faults (-want +got):\n%s", d)
	}
}

// The samples of the specification and of pySigma load, or say sensibly why not: the rules that most refer to
// are not among them.
func TestPublishedCorrelations(t *testing.T) {
	files, _ := filepath.Glob("../../../../shared/data/sigma/correlation/*.yml")
	if len(files) == 0 {
		t.Skip("the published samples are not here")
	}
	want := map[string]string{
		"spec_correlation_event_count.yml":      `there is no rule "5638f7c0-ac70-491d-8465-2a65075e0d86"`,
		"spec_correlation_event_count_ecs.yml":  `there is no rule "5638f7c0-ac70-491d-8465-2a65075e0d86"`,
		"spec_correlation_temporal.yml":         `there is no rule "recon_cmd_c"`,
		"spec_correlation_temporal_ordered.yml": `there is no rule "recon_cmd_c"`,
		"spec_correlation_value_avg.yml":        `there is no rule "rule_a_id"`,
		"spec_correlation_value_count.yml":      `there is no rule "5638f7c0-ac70-491d-8465-2a65075e0d86"`,
		"spec_correlation_value_percentile.yml": `correlation.condition.percentile: is missing`,
		"spec_correlation_value_sum.yml":        `there is no rule "website_access"`,
		"pysigma_correlation_rule.yml":          "passed over",
		"pysigma_filter.yml":                    "passed over",
		"spec_filter_filter_1.yml":              "passed over",
		"spec_filter_filter_ecs.yml":            "passed over",
		"spec_rules_rule_1.yml":                 "passed over",
		"spec_rules_rule_ecs.yml":               "passed over",
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		pack, err := parseAll(string(text))
		said := notes(pack)
		if err != nil {
			said = err.Error()
		}
		if (err != nil) == (want[name] == "passed over") || !strings.Contains(said, want[name]) {
			t.Errorf("%s: %s, want %s", name, said, want[name])
		}
	}
}
