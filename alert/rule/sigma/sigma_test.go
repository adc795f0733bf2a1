package sigma

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

const head = "title: t\nlogsource: {product: kubernetes, service: audit}\n"

func parse(text string) ([]ir.Rule, error) {
	pack, err := Parse([]File{{Name: "r.yml", Data: []byte(text)}}, ir.NewFields(), Options{})
	if err != nil {
		return nil, err
	}
	return pack.Rules, nil
}

func TestFaults(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"not YAML", "title: [", `r.yml:1: not YAML: did not find expected node content; check indentation and quotes`},
		{
			"within", head + "detection:\n  a: {user|within: 5m}\n  b: {grant_since|within: soon}\n  c: {grant_since|within: 0s}\n  d: {grant_since|within|neq: 5m}\n  condition: a",
			`r.yml:4:7: user|within: is no column of times; within takes a column such as grant_since or minted_at
r.yml:5:27: grant_since|within: "soon" is not a span of time; write a whole number and one of s, m, h, d, w, M, y, such as 15m
r.yml:6:27: grant_since|within: is no time at all; write such as 15m
r.yml:7:7: grant_since|within|neq: within goes with no other modifier; test the value in an item of its own`,
		},
		{
			"columns of a case", head + "x-auditmill:\n  cases:\n    - {case: a, alerts: 1, events: [{event: {}, columns: 5}], columns: {team: x}}\ndetection: {s: {verb: get}, condition: s}",
			`r.yml:5:58: x-auditmill.cases.events.columns: must be a mapping, is a number; write the part of an audit event that the case is about
r.yml:5:72: x-auditmill.cases.columns: is for a case of one event; write it beside each event of events`,
		},
		{"tab", "title: a\n\tid: b", `r.yml:2: not YAML: found a tab character that violates indentation; check indentation and quotes`},
		{"empty", "", `r.yml: the file holds no rule; write one, or leave the file out`},
		{"list", "- a", `r.yml:1:1: must be a mapping, is a list`},
		{
			"duplicate key", "title: a\n" + head + "detection: {s: {verb: get}, condition: s}",
			`r.yml:2:1: title: the key stands here twice; YAML would drop one: join or rename them`,
		},
		{
			"merge key", head + "detection:\n  s: {<<: {verb: get}}\n  condition: s",
			`r.yml:4:7: detection.s: YAML merge keys are not supported; write the keys out`,
		},
		{
			"metadata", "title: ''\nid: 7\nlevel: urgent\nstatus: new\ntags: [T1609]\nlogsource: {product: kubernetes}\ndetection: {s: {verb: get}, condition: s}",
			`r.yml:1:8: title: is empty; say in a few words what the rule detects
r.yml:3:8: level: "urgent" is not allowed; write one of informational, low, medium, high, critical
r.yml:4:9: status: "new" is not allowed; write one of stable, test, experimental, deprecated, unsupported
r.yml:5:8: tags: "T1609" is not a tag; write namespace.name, such as attack.t1609`,
		},
		{
			"two kinds", "title: t\ncorrelation: {type: event_count}\nfilter: {}",
			`r.yml:3:1: filter: stands in one document with correlation; write two documents with --- between them`,
		},
		{
			"extension", head + "x-auditmill: {audit_level: Low, summary: '{who} did', next: [], color: red}\ndetection: {s: {verb: get}, condition: s}",
			`r.yml:3:28: x-auditmill.audit_level: "Low" is not allowed; write one of Metadata, Request, RequestResponse
r.yml:3:42: x-auditmill.summary: {who} is not a column; use {column} with the columns of docs/fields.md
r.yml:3:61: x-auditmill.next: must be text, is a list
r.yml:3:65: x-auditmill.color: is unknown; known are audit_level, summary, next, group_by, cases, lateness, learning`,
		},
		{
			"audit level too low", head + "x-auditmill: {audit_level: Metadata}\ndetection:\n  s: {requestObject.spec.hostPID: true}\n  condition: s",
			`r.yml:5:7: requestObject.spec.hostPID: is recorded at audit level Request, but the rule states Metadata; set x-auditmill.audit_level to Request`,
		},
		{
			"fields", head + "detection:\n  s:\n    objectRef.resourc: pods\n    Verb: get\n    requestObject.spec.containers[some].image: x\n    nothing.like.it: 1\n    requestObject..x: 1\n  condition: s",
			`r.yml:7:5: requestObject.spec.containers[some].image: [some] is not a quantifier; write [any], [all], [none], [all_or_empty] or an index such as [0]
r.yml:9:5: requestObject..x: is not the name of a field; write keys with dots between them; a dot inside a key is \., an array takes [any], [all], [none], [all_or_empty] or an index such as [0]`,
		},
		{
			"modifiers", head + "detection:\n  s:\n    verb|contain: x\n    name|base64offset|contains: x\n    user|contains|re: x\n    stage|i: x\n    level|cased|re: x\n    code|exists|all: true\n    node|contains|contains: x\n  condition: s",
			`r.yml:5:5: verb|contain: the modifier "contain" is not supported; did you mean "contains"? supported are ` + supported + `
r.yml:6:33: name|base64offset|contains: is too short for base64offset: of some of its encodings nothing is certain; write a longer text
r.yml:7:5: user|contains|re: the modifier "re" must be the first; write it behind the field's name
r.yml:8:5: stage|i: the modifier "i" is a flag of re; write it behind re, as in field|re|i
r.yml:9:5: level|cased|re: the modifier "re" must be the first; write it behind the field's name
r.yml:9:5: level|cased|re: cased does not go with re; remove cased; re is case-sensitive unless it has the flag i
r.yml:10:5: code|exists|all: exists goes with no other modifier; test the value in an item of its own
r.yml:10:5: code|exists|all: all needs a list of at least two values; remove all
r.yml:11:5: node|contains|contains: the modifier "contains" stands here twice; remove one`,
		},
		{
			"values", head + "detection:\n  s:\n    verb: []\n    name: [a, null]\n    user|contains: null\n    code|gt: '4'\n    source_ip|cidr: 10.0.0.300\n    stage|re: '(?=x)'\n    node: {a: b}\n    level|all: x\n    pod|exists: maybe\n    annotations: x\n  condition: s",
			`r.yml:5:11: verb: is an empty list, which nothing matches; write a value
r.yml:6:15: name: null must stand alone, without a list and without modifiers; write a second item for null and join both with or
r.yml:7:20: user|contains: null must stand alone, without a list and without modifiers; write a second item for null and join both with or
r.yml:8:14: code|gt: gt compares with a number, not with text; write a number without quotes
r.yml:9:21: source_ip|cidr: "10.0.0.300" is not a network; write address/bits, such as 10.0.0.0/8 or 2001:db8::/32
r.yml:10:15: stage|re: the expression cannot be used: invalid or unsupported Perl syntax: ` + "`(?=`" + `; write it as RE2: no look-around, no back-references
r.yml:11:11: node: a value must be text, a number, a boolean or null, is a mapping; for a block about one member of an array write field[any], field[all] or field[none]
r.yml:12:5: level|all: all needs a list of at least two values; remove all
r.yml:13:17: pod|exists: exists takes true or false; write exists: true
r.yml:14:5: annotations: is a map of its own keys; name one, as in annotations.example.com/key`,
		},
		{"no search", head + "detection: {condition: s}", `r.yml:3:12: detection: says nothing to look for; add a search such as selection`},
		{"no condition", head + "detection: {s: {verb: get}}", `r.yml:3:12: detection.condition: is missing; write condition: s`},
		{
			"timeframe", head + "detection: {s: {verb: get}, timeframe: 5m, condition: s}",
			`r.yml:3:29: detection.timeframe: rules with a timeframe are of an old form that Sigma has given up; remove it, and write a second document with correlation: {type: event_count, rules: […], timespan: …}`,
		},
		{"nested lists", head + "detection: {s: [[a]], condition: s}", `r.yml:3:17: detection.s: a list inside a list is not allowed; write one list`},
		{
			"empty searches", head + "detection: {s: {}, r: [], condition: s or r}",
			`r.yml:3:16: detection.s: is an empty mapping; write field: value
r.yml:3:23: detection.r: is an empty list; write what to look for`,
		},
		{
			"keywords", head + "detection: {s: {'|cidr': [a]}, condition: s}",
			`r.yml:3:17: |cidr: keywords do not take cidr; name a field before the pipe`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(tt.text)
			if err == nil {
				t.Fatal("no error")
			}
			if d := cmp.Diff(tt.want, err.Error()); d != "" {
				t.Errorf("faults (-want +got):\n%s", d)
			}
		})
	}
}

func TestConditionFaults(t *testing.T) {
	tests := []struct{ condition, want string }{
		{"sel2", `r.yml:5:14: detection.condition: no search is called "sel2"; did you mean "sel"? the searches are sel, other, _part`},
		{"sel AND other", `r.yml:5:18: detection.condition: "AND" is not expected here; write "and"`},
		{"NOT sel", `r.yml:5:14: detection.condition: no search is called "NOT"; write "not" in lower case`},
		{"(sel", `r.yml:5:14: detection.condition: the parenthesis is not closed; add )`},
		{"sel)", `r.yml:5:17: detection.condition: ")" is not expected here; join searches with and, or, not`},
		{"sel and", `r.yml:5:21: detection.condition: the condition ends too early; name a search`},
		{"sel other", `r.yml:5:18: detection.condition: "other" is not expected here; join searches with and, or, not`},
		{"2 of sel*", `r.yml:5:14: detection.condition: "2" of is not supported; write 1 of, any of or all of`},
		{"1 of x*", `r.yml:5:19: detection.condition: no search is called "x*"; the searches are sel, other, _part (names that begin with _ do not count)`},
		{"1 of _part", `r.yml:5:19: detection.condition: no search is called "_part"; the searches are sel, other, _part (names that begin with _ do not count)`},
		{"1 of", `r.yml:5:18: detection.condition: the condition ends too early; write them or a pattern`},
		{"sel | count() > 5", `r.yml:5:18: detection.condition: aggregations behind a pipe are not supported; Sigma replaced them by correlations: write a second document with correlation: {type: event_count, rules: […], timespan: …}`},
		{"sel & other", `r.yml:5:18: detection.condition: '&' cannot stand in a condition; use names of searches, and, or, not, 1 of, all of and parentheses`},
		{"or", `r.yml:5:14: detection.condition: "or" is not expected here; join searches with and, or, not`},
		{"[]", `r.yml:5:14: detection.condition: is an empty list; write a condition`},
		{"'sel or no'", `r.yml:5:22: detection.condition: no search is called "no"; the searches are sel, other, _part`},
		{"null", `r.yml:5:14: detection.condition: must be text, is null`},
	}
	for _, tt := range tests {
		text := head + "detection:\n\n  condition: " + tt.condition +
			"\n  sel: {verb: get}\n  other: {verb: list}\n  _part: {verb: x}"
		_, err := parse(text)
		if err == nil {
			t.Errorf("%s: no error", tt.condition)
			continue
		}
		if d := cmp.Diff(tt.want, err.Error()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.condition, d)
		}
	}
}

func TestRule(t *testing.T) {
	text := `title: Title
id: 0aa8fcd5-7d0c-4a63-8d6c-0f8b9a0b0c0d
status: test
description: Text
author: somebody
date: 2026-01-02
references: [https://example.com]
tags: [attack.t1609, attack.execution]
logsource: {category: application, product: Kubernetes, service: audit, definition: any}
detection:
  s: {verb: [get, create], objectRef.subresource: exec}
  condition: s
falsepositives: [none]
level: high
custom: {anything: [1]}
x-auditmill:
  audit_level: Metadata
  summary: "{actor} ran {command} in {name}[ of {namespace}]"
  next: look
`
	rules, err := parse(text)
	if err != nil || len(rules) != 1 {
		t.Fatal(rules, err)
	}
	r := rules[0]
	got := []string{
		r.ID, r.Title, r.Status, r.Description, r.Author, r.Level, r.AuditLevel, r.Next, r.Summary.String(), strings.Join(r.Tags, " "),
		strings.Join(r.References, " "), strings.Join(r.FalsePositives, " "), r.Condition.String(), r.Position.String(),
	}
	want := []string{
		"0aa8fcd5-7d0c-4a63-8d6c-0f8b9a0b0c0d", "Title", "test", "Text", "somebody", "high", "Metadata", "look",
		"{actor} ran {command} in {name}[ of {namespace}]", "attack.t1609 attack.execution", "https://example.com", "none",
		`(verb ["get", "create"] and objectRef/subresource ["exec"])`, "r.yml:1:1",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("rule (-want +got):\n%s", d)
	}
	values := map[string]string{"actor": "alice", "command": "sh", "name": "p"}
	if got := render(r.Summary, values); got != "alice ran sh in p" {
		t.Errorf("summary is %q", got)
	}
	values["namespace"] = "web"
	if got := render(r.Summary, values); got != "alice ran sh in p of web" {
		t.Errorf("summary is %q", got)
	}
}

func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "detection:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 9 {
		b.WriteString("  a" + string(rune('1'+i)) + ": &a" + string(rune('1'+i)) + " [" + strings.Repeat("*a"+string(rune('0'+i))+", ", 10) + "]\n")
	}
	b.WriteString("  condition: a0\n")
	if _, err := parse(b.String()); err == nil {
		t.Error("no error")
	}
}

func TestPattern(t *testing.T) {
	for value, want := range map[string]string{
		`a`: `"a"`, ``: `""`, `a*b`: `"a" * "b"`, `a?b`: `"a" ? "b"`, `\*`: `"*"`, `\?`: `"?"`, `\\*`: `"\\" *`,
		`\\\*`: `"\\*"`, `\\\\`: `"\\\\"`, `\\`: `"\\"`, `a\b`: `"a\\b"`, `C:\x`: `"C:\\x"`, `\`: `"\\"`, `**`: `*`, `\\\\*`: `"\\\\" *`,
	} {
		if got := (ir.Text{Parts: ParsePattern(value)}).String(); got != want {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(head + "detection:\n  s: {verb|contains|all: [a, b*], code|gte: 400, source_ip|cidr: '::/0', name|re|i: x}\n  k: [a, b]\n  condition: s and not 1 of k*")
	f.Add(head + "detection: &a {s: [*a], condition: [s, not s]}")
	f.Add("x-auditmill: {summary: '{actor}[ in {name}]'}\n---\n- a")
	f.Add(head + "detection:\n  s:\n    requestObject.a|windash|base64offset|contains: '-enc x'\n    requestObject.b|expand: 'x%trusted%'\n" +
		"    requestObject.c[all_or_empty]: [{d[0].e|fieldref|neq: f}, x]\n    sourceIPs[1]|wide|base64: ab\n    event_time|hour|lt: 6\n  condition: s")
	f.Add("action: global\n" + head + "---\naction: repeat\ndetection: {s: {verb: get}, condition: s}\n---\naction: reset")
	f.Add(base("a", "get") + "title: c\ncorrelation: {type: value_count, rules: [a, c], group-by: [x], timespan: 5m, aliases: {x: {a: user}}, condition: {gte: 3, field: code}}")
	f.Add(base("a", "get") + "title: f\nlogsource: {product: kubernetes}\nfilter: {rules: any, s: {user: x}, condition: not s}")
	f.Add(head + "detection: {s: {verb: get}, condition: s}\nx-auditmill: {cases: [{case: x, match: true, event: {a: [1.5, null]}}]}")
	fields := ir.NewFields()
	f.Fuzz(func(t *testing.T, text string) {
		pack, err := Parse([]File{{Name: "r.yml", Data: []byte(text)}}, fields, Options{Lists: map[string][]string{"trusted": {"a", "b*"}}})
		var faults ir.Faults
		if err != nil && !errors.As(err, &faults) {
			t.Fatalf("error is a %T", err)
		}
		if err != nil {
			return
		}
		for _, r := range pack.Rules {
			if r.Condition == nil || r.ID == "" {
				t.Fatalf("incomplete rule without a fault: %+v", r)
			}
			if text := r.Condition.String(); strings.Contains(text, "%!") || strings.Contains(text, "<nil>") {
				t.Fatalf("condition is %s", text)
			}
		}
		for _, c := range pack.Correlations {
			if c.ID == "" || c.Type == "" || c.Timespan == 0 || len(c.Rules) == 0 {
				t.Fatalf("incomplete correlation without a fault: %+v", c)
			}
			for _, id := range c.Rules {
				if len(c.GroupFields[id]) != len(c.GroupNames) || len(c.ValueFields[id]) != len(c.ValueNames) {
					t.Fatalf("fields are missing: %+v", c)
				}
			}
		}
	})
}

func render(t ir.Template, values map[string]string) string {
	return t.Render(func(f ir.Field) []string {
		if v := values[f.Column]; v != "" {
			return []string{v}
		}
		return nil
	})
}
