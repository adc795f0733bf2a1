package falco_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule/falco"
	"github.com/auditmill/auditmill/alert/rule/ir"
)

func TestConditionFaults(t *testing.T) {
	for condition, want := range map[string]string{
		"ka.verb":                       `12: an operator must stand before the end`,
		"ka.verb = ":                    `14: a value must follow =, not the end`,
		"ka.verb = (a)":                 `15: a value must follow =, not "(a)\n"; for a list use in, or a modifier such as anyof`,
		"ka.verb is get":                `13: an operator must stand before "is get\n"`,
		"ka.verb = get ka.user.name":    `19: and, or or the end must stand before "ka.user.name\n"`,
		"ka.verb = get and":             `22: a (, a field or a macro must stand before the end`,
		"(ka.verb = get":                `19: a ) must stand before the end; close the parenthesis`,
		"ka.verb = get)":                `18: and, or or the end must stand before ")\n"`,
		"ka.verb in (a, )":              `20: a value must stand before ")\n"; lists are values with commas between them`,
		"ka.verb in (a b)":              `19: a comma or ) must stand before "b)\n"; put values with blanks or parentheses in quotes`,
		"ka.verb < a":                   `15: a number must follow <, not "a\n"`,
		`ka.verb = "a`:                  `15: the quote " is never closed`,
		`ka.verb = "\q"`:                `16: \ before "q\"\n" is no escape; escapes are \b \f \n \r \t \\ \/ \xHH and the quote itself`,
		"ka.uri.param[a = b":            `20: a ] must stand before " = b\n"; close the argument of ka.uri.param`,
		"ka.uri.param[] = b":            `18: the argument in the brackets is missing`,
		"ka.uri.param = b":              `5: ka.uri.param needs an argument; write ka.uri.param[…]`,
		"ka.verb[0] = b":                `5: ka.verb takes no argument; remove the brackets`,
		"ka.user.groups[0] in (b)":      `5: ka.user.groups takes no argument; remove the brackets`,
		"ka.sourceips[01] in (b)":       `5: the argument of ka.sourceips must be an index, is "01"; write digits without a leading zero`,
		"ka.sourceips[x] in (b)":        `5: the argument of ka.sourceips must be an index, is "x"; write digits without a leading zero`,
		"ka.user.groups = b":            `5: ka.user.groups is a list: = does not apply to it; use in, intersects or exists`,
		"ka.user.groups pmatch (b)":     `5: ka.user.groups is a list: pmatch does not apply to it; use in, intersects or exists`,
		"ka.user.groups startswith b":   `5: ka.user.groups is a list: startswith does not apply to it; use in, intersects or exists`,
		"ka.user.groups = anyof (b)":    `5: ka.user.groups is a list: = does not apply to it; use in, intersects or exists`,
		"ka.user.group in (b)":          `5: ka.user.group is no field of source k8s_audit; did you mean ka.user.groups?`,
		"proc.name = b":                 `5: proc.name is no field of source k8s_audit; the fields are ka.*, jevt.* and evt.time`,
		"ka.verb bcontains 00":          `5: bcontains compares byte buffers, ka.verb is text; use contains`,
		"ka.verb regex '('":             "19: the regular expression is wrong: error parsing regexp: missing closing ): `(`; write POSIX extended syntax",
		`ka.verb regex '\\d'`:           "19: the regular expression is wrong: error parsing regexp: invalid escape sequence: `\\d`; write POSIX extended syntax",
		"evt.rawtime = x":               `19: evt.rawtime is a number, "x" is none`,
		"evt.rawtime startswith 1":      `5: evt.rawtime is a number: startswith does not apply to it; use = != < <= > >= or in`,
		"getopt(ka.verb) = x":           `5: getopt() is not supported; test the field with contains or regex`,
		"tolower(ka.verb, ka.uri) = x":  `5: tolower() takes one field`,
		"tolower(evt.rawtime) = x":      `5: tolower() takes a field that is text, evt.rawtime is a number`,
		"join(ka.user.groups) = x":      `5: join() takes a separator and a list; write join(",", field) or join(",", (field, …))`,
		"concat(ka.user.groups) = x":    `12: ka.user.groups is a list; use join(separator, ka.user.groups)`,
		"ka.verb = val(ka.user.groups)": `15: ka.user.groups is a list; use in or intersects`,
		"ka.verb glob val(ka.uri)":      `18: glob takes values, not a field`,
		"ka.verb = val(ka.nothing)":     `19: ka.nothing is no field of source k8s_audit; the fields are ka.*, jevt.* and evt.time`,
		"ka.verb = len(ka.uri)":         `15: ka.verb and len(ka.uri) are a number and a text`,
		"no_macro":                      `5: there is no macro "no_macro"; define it, or load the file that does first`,
		"not":                           `8: a (, a field or a macro must stand before the end`,
		"()":                            `6: a (, a field or a macro must stand before ")\n"`,
	} {
		got := faults(t, one(condition))
		if len(got) != 1 || !strings.HasPrefix(got[0], "one.yaml:7:") {
			t.Errorf("%s: %q", condition, got)
			continue
		}
		text := strings.Replace(strings.TrimPrefix(got[0], "one.yaml:7:"), " condition:", "", 1)
		text, _, _ = strings.Cut(text, "; the operators are")
		if d := cmp.Diff(want, text); d != "" {
			t.Errorf("%s (-want +got):\n%s", condition, d)
		}
	}
}

// Faults of files, all of them at once, by file and line.
func TestFileFaults(t *testing.T) {
	for _, c := range []struct {
		name, files string
		want        []string
	}{
		{"all at once", "- rule: a\n  desc: d\n  source: k8s_audit\n- macro: m\n- list: l\n- rule:\n--\n- list: x\n  items: {a: b}\n- macro: x\n  condition: [a]\n", []string{
			"a.yaml:1:3: condition: is missing; add it", "a.yaml:1:3: output: is missing; add it", "a.yaml:1:3: priority: is missing; add it",
			"a.yaml:4:3: condition: is missing; add it", "a.yaml:5:3: items: is missing; add it; a list may be empty: []",
			"a.yaml:6:8: rule: must be text, is null",
			"b.yaml:2:10: items: must be a list, is a mapping", "b.yaml:4:14: condition: must be text, is a list",
		}},
		{"not YAML", "- rule: a\n  desc: [\n", []string{"a.yaml:2: not YAML: did not find expected node content; check indentation and quotes"}},
		{"no list", "rule: a\n", []string{"a.yaml:1:1: a rule file must be a list, is a mapping; begin each rule, macro and list with a dash"}},
		{"no mapping", "- a\n", []string{"a.yaml:1:3: must be a mapping, is text"}},
		{"duplicate keys", "- list: a\n  items: []\n  items: [b]\n", []string{"a.yaml:3:3: items: the key stands here twice; join or remove one of them"}},
		{"unknown keys", define("a", "ka.verb=get") + "  exception: []\n", []string{"a.yaml:7:3: exception: no such key; did you mean exceptions?"}},
		{"priority", strings.Replace(define("a", "ka.verb=get"), "NOTICE", "HIGH", 1), []string{
			`a.yaml:4:13: priority: "HIGH" is no priority; use emergency, alert, critical, error, warning, notice, informational or debug`,
		}},
		{"booleans", define("a", "ka.verb=get") + "  enabled: perhaps\n", []string{"a.yaml:7:12: enabled: must be true or false"}},
		{"another source", define("a", "ka.verb=get") + "- {rule: a, desc: d, output: o, priority: INFO, source: okta, condition: x}\n", []string{
			"a.yaml:7:10: source: the rule is of source okta, but was of k8s_audit at a.yaml:1:9; give it another name, or the same source",
		}},
		{"nothing to change", "- {rule: a, enabled: false}\n- {list: l, items: [], append: true}\n- {macro: m, condition: x, override: {condition: append}}\n- {rule: b, condition: x, append: true}\n", []string{
			`a.yaml:1:10: rule: there is no earlier rule "a" to change; check the name and the order of the files`,
			`a.yaml:2:10: list: there is no earlier list "l" to change; check the name and the order of the files`,
			`a.yaml:3:11: macro: there is no earlier macro "m" to change; check the name and the order of the files`,
			`a.yaml:4:10: rule: there is no earlier rule "b" to change; check the name and the order of the files`,
		}},
		{"override", define("a", "ka.verb=get") + `
- rule: a
  append: true
  condition: and ka.uri=x
  output: more
  desc: more
  override: {output: append, priority: append, source: replace, tags: append, desc: prepend}
`, []string{
			"a.yaml:10:3: condition: is given but not overridden; add condition: replace, or append, below override",
			"a.yaml:13:3: override: append and override exclude each other; remove append, which is deprecated",
			"a.yaml:13:40: priority: priority cannot be appended to; use replace",
			"a.yaml:13:48: override: source cannot be overridden; the keys are condition, output, desc, tags, exceptions, priority, enabled, warn_evttypes, skip-if-unknown-filter, capture, capture_duration",
			"a.yaml:13:65: tags: is overridden but not given; add the key tags to the item",
			`a.yaml:13:85: desc: "prepend" is no way to override; write append or replace`,
		}},
		{"nothing to append", define("a", "ka.verb=get") + "- {rule: a, append: true, desc: x}\n", []string{
			"a.yaml:7:3: append: a rule that appends must have a condition or exceptions; use override for other keys",
		}},
		{"macros", `
- macro: first
  condition: later
- macro: later
  condition: ka.verb=get
- macro: self
  condition: ka.verb=get
- macro: self
  condition: or self
  append: true
- macro: a
  condition: ka.verb=list
- macro: b
  condition: a
- macro: a
  condition: b
- macro: syntax
  condition: ka.verb==
` + define("r", "first or self or a or lates") + define("s", "syntax or syntax"), []string{
			`a.yaml:2:14: condition: the macro "later" is defined only later, at a.yaml:3:10; define it before it is used`,
			`a.yaml:8:17: condition: the macro "self" uses itself, by self; break the loop`,
			`a.yaml:13:14: condition: the macro "a" uses itself, by a, b; break the loop`,
			`a.yaml:17:22: condition: a value must follow =, not the end`,
			`a.yaml:23:36: condition: there is no macro "lates"; did you mean later?`,
		}},
		{"macros that no rule uses", "- macro: a\n  condition: ka.verb=\n- macro: b\n  condition: ka.verb=get or c\n", []string{
			`a.yaml:2:21: condition: a value must follow =, not the end`,
			`a.yaml:4:29: condition: there is no macro "c"; define it, or load the file that does first`,
		}},
		{"fields in macros and lists", "- macro: m\n  condition: ka.user.nam=x\n- list: l\n  items: [a b, 'c)']\n" + define("a", "m or m") +
			define("b", "ka.verb in (x, l)") + define("c", "m"), []string{
			"a.yaml:2:14: condition: ka.user.nam is no field of source k8s_audit; did you mean ka.user.name?",
			`a.yaml:16:30: condition: and, or or the end must stand before ")"`,
		}},
		{"exceptions", define("a", "ka.verb=get") + `  exceptions:
  - {name: a, fields: ka.user.name, comps: =, values: [x]}
  - {name: b, fields: [ka.user.name, ka.verb], comps: [=], values: []}
  - {name: c, fields: [ka.user.name], comps: [like], values: []}
  - {name: d, values: []}
  - {fields: x}
  - {name: e, fields: ka.user.name, comps: [in]}
  - {name: f, fields: ka.user.name, values: x}
  - {name: g, fields: ka.user.name, value: [x]}
  - x
` + define("b", "ka.verb=get") + `  exceptions:
  - {name: a, fields: [ka.user.name, ka.verb], values: [[x]]}
` + define("c", "ka.verb=get") + `  exceptions:
  - {name: a, fields: ka.user.name, values: [[x]]}
` + define("d", "ka.verb=get") + `  exceptions:
  - {name: a, fields: ka.user.nam, values: [x]}
- rule: d
  append: true
  exceptions:
  - {name: a, fields: ka.user.name, values: [x]}
  - {name: b, values: [x]}
  - {name: c, fields: ka.user.name}
`, []string{
			`a.yaml:8:44: comps: "=" takes no list of values; use in, pmatch, intersects, or a modifier such as startswith anyof`,
			`a.yaml:9:55: comps: must be a list of 2 operators, as many as fields`,
			`a.yaml:10:47: comps: is no operator`,
			`a.yaml:11:5: fields: is missing; say which fields the values are of`,
			`a.yaml:12:5: name: is missing; add it`,
			`a.yaml:13:44: comps: must be text, as fields is`,
			`a.yaml:14:45: values: must be a list, is text`,
			`a.yaml:15:37: value: no such key; did you mean values?`,
			`a.yaml:16:5: exceptions: must be a mapping, is text`,
			`a.yaml:24:57: values: each of the values must be a list of 2, as many as fields`,
			`a.yaml:32:46: values: must be texts, as fields is one field; write the values as one list`,
			`a.yaml:40:23: condition: ka.user.nam is no field of source k8s_audit; did you mean ka.user.name?`,
			`a.yaml:44:5: exceptions: the rule has an exception "a": only values can be appended to it; remove fields and comps, or choose another name`,
			`a.yaml:45:5: fields: the rule has no exception "b", so this one needs fields; add fields, or check the name`,
			`a.yaml:46:5: values: the exception "c" has no values; add values`,
		}},
		{"output", strings.Replace(define("a", "ka.verb=get"), "output: o", "output: a %ka.verbs %proc.name % b %ka.uri.param %99999ka.verb %ka.sourceips[x] %ka.uri.param[x", 1), []string{
			"a.yaml:3:23: output: proc.name is no field of source k8s_audit; write %field; the fields are ka.*, jevt.* and evt.time",
			"a.yaml:3:34: output: no field follows the percent sign; write %field; the fields are ka.*, jevt.* and evt.time",
			"a.yaml:3:39: output: ka.uri.param needs an argument; write ka.uri.param[…]",
			"a.yaml:3:52: output: the width of a field is at most 10000; write %field; the fields are ka.*, jevt.* and evt.time",
			`a.yaml:3:67: output: the argument of ka.sourceips must be an index, is "x"; write digits without a leading zero`,
			"a.yaml:3:83: output: the bracket after ka.uri.param is never closed; write %field; the fields are ka.*, jevt.* and evt.time",
		}},
	} {
		var got []string
		for _, fault := range faults(t, split(c.files)) {
			fault, _, _ = strings.Cut(fault, "; the operators are")
			got = append(got, fault)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

// Macros that double with each step must not fill the memory.
func TestExplosion(t *testing.T) {
	var b strings.Builder
	b.WriteString("- macro: m0\n  condition: ka.verb=get\n")
	for i := range 60 {
		fmt.Fprintf(&b, "- macro: m%d\n  condition: m%d or m%d\n", i+1, i, i)
	}
	b.WriteString(define("a", "m60"))
	got := faults(t, split(b.String()))
	if len(got) != 1 || !strings.Contains(got[0], "the macros of the condition make it too large") {
		t.Errorf("%q", got)
	}
	b.Reset()
	b.WriteString("- list: l\n  items: [" + strings.Repeat("xxxxxxxxxxxxxxx,", 1000) + "]\n")
	b.WriteString(define("a", "ka.verb in ("+strings.Repeat("l,", 1000)+"l)"))
	got = faults(t, split(b.String()))
	if len(got) != 1 || !strings.Contains(got[0], "the condition becomes too long by the list l") {
		t.Errorf("%q", got)
	}
	if got = faults(t, []ir.File{{Name: "a.yaml", Data: make([]byte, falco.MaxBytes+1)}}); len(got) != 1 || !strings.Contains(got[0], "larger than") {
		t.Errorf("%q", got)
	}
	deep := strings.Repeat("(", 600) + "ka.verb=get" + strings.Repeat(")", 600)
	if got = faults(t, one(deep)); len(got) != 1 || !strings.Contains(got[0], "nest more than 500 deep") {
		t.Errorf("%q", got)
	}
}
