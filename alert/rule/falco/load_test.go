package falco_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule/falco"
	"github.com/auditmill/auditmill/alert/rule/ir"
)

// define is the rest of a rule with a condition.
func define(name, condition string) string {
	return fmt.Sprintf("- rule: %s\n  desc: d\n  output: o\n  priority: NOTICE\n  source: k8s_audit\n  condition: %s\n", name, condition)
}

// split makes files of texts between lines of dashes: a.yaml, b.yaml and so on.
func split(text string) []ir.File {
	var files []ir.File
	for i, part := range strings.Split(text, "\n--\n") {
		files = append(files, ir.File{Name: string(rune('a'+i)) + ".yaml", Data: []byte(strings.TrimLeft(part, "\n"))})
	}
	return files
}

func event(verb, user, resource string) string {
	return fmt.Sprintf(`{"auditID":"a","stage":"ResponseComplete","verb":%q,"user":{"username":%q},"objectRef":{"resource":%q}}`, verb, user, resource)
}

// Files against the rules that match an event of each user: "user: rules".
func TestFiles(t *testing.T) {
	for _, c := range []struct {
		name, files string
		want        string // matches of get pods by u, v, w and "x y"
	}{
		{"a list is text", `
- list: users
  items: [u, "x y"]
` + define("a", "ka.user.name in (users)") + define("b", "ka.user.name in (v, users)") +
			define("c", `ka.user.name in ("users")`), "u: a b; v: b; w: ; x y: a b"},
		{
			"an empty list leaves no comma", "- list: none\n  items: []\n" +
				define("a", "ka.user.name in (u, none)") + define("b", "ka.user.name in (none, v)") + define("c", "not ka.user.name in (none)"),
			"u: a c; v: b c; w: c; x y: c",
		},
		{"a name is delimited", "- list: us\n  items: [v]\n" +
			define("a", "ka.user.name in (us.x, users, us-, us)"), "u: ; v: a; w: ; x y: "},
		{"lists are put in in the order of definition", `
- list: inner
  items: [u]
- list: outer
  items: [inner, v]
` + define("a", "ka.user.name in (outer)"), "u: a; v: a; w: ; x y: "},
		{"one level only", `
- list: one
  items: [u]
- list: two
  items: [one]
- list: three
  items: [two, v]
` + define("a", "ka.user.name in (three)"), "u: ; v: a; w: ; x y: "},
		{"a list inside must be defined before", `
- list: outer
  items: [inner, v]
- list: inner
  items: [u]
` + define("a", "ka.user.name in (outer)"), "u: a; v: a; w: ; x y: "}, // inner is a list all the same, and put in after outer
		{"an unknown list is a text", define("a", "ka.user.name in (unknown_users, u)"), "u: a; v: ; w: ; x y: "},
		{"a list is appended to", `
- list: users
  items: [u]
- list: users
  items: [v]
  append: true
- list: users
  items: [w]
  override:
    items: append
` + define("a", "ka.user.name in (users)"), "u: a; v: a; w: a; x y: "},
		{"a list is replaced", define("a", "ka.user.name in (users)") + `
- list: users
  items: [u]
--
- list: users
  items: [v]
`, "u: ; v: a; w: ; x y: "},
		{"a macro is a tree", `
- macro: us
  condition: ka.user.name=u or ka.user.name=v
` + define("a", "us and ka.verb=get") + define("b", "not us"), "u: a; v: a; w: b; x y: b"},
		{"a macro is redefined for all", `
- macro: who
  condition: ka.user.name=u
- macro: outer
  condition: who and ka.verb=get
` + define("a", "outer") + `
--
- macro: newer
  condition: ka.user.name=w
- macro: who
  condition: newer
`, "u: ; v: ; w: a; x y: "},
		{"an appended condition is joined as text", `
- macro: who
  condition: ka.user.name=u or ka.user.name=v
- macro: who
  condition: and ka.verb=list
  append: true
` + define("a", "who") + define("b", "ka.user.name=u or ka.user.name=v") + `
- rule: b
  condition: and ka.verb=list
  append: true
`, "u: a b; v: ; w: ; x y: "},
		{"a rule is replaced in its place", define("a", "ka.user.name=u") + define("b", "ka.user.name=v") + "\n--\n" +
			define("a", "ka.user.name=v"), "u: ; v: a b; w: ; x y: "},
		{"enabled", define("a", "ka.verb=get") + "  enabled: false\n" + define("b", "ka.verb=get") + define("c", "ka.verb=get") + `  enabled: false
- rule: b
  enabled: false
- rule: c
  enabled: true
  override:
    enabled: replace
`, "u: c; v: c; w: c; x y: c"},
		{"the deprecated switch", define("a", "ka.verb=get") + "  enabled: false\n- rule: a\n  enabled: true\n", "u: a; v: a; w: a; x y: a"},
		{"override", define("a", "ka.user.name=u") + define("b", "ka.user.name=u") + `
--
- rule: a
  condition: or ka.user.name=v
  desc: more
  override:
    condition: append
    desc: append
- rule: b
  condition: ka.user.name=w
  override: {condition: replace}
- macro: unused
  condition: ka.verb=get
- macro: unused
  condition: ka.verb=list
  override: {condition: replace}
`, "u: a; v: a; w: b; x y: "},
		{"exceptions with one field", define("a", "ka.verb=get") + `  exceptions:
  - name: e
    fields: ka.user.name
    values: [u, x y]
  - name: empty
    fields: ka.user.name
    values: []
  - name: none
    fields: [ka.user.name]
` + define("b", "ka.verb=get") + `  exceptions:
  - {name: e, fields: ka.user.name, comps: startswith anyof, values: [u, v]}
` + define("c", "ka.verb=list or ka.verb=get") + `  exceptions:
  - {name: e, fields: ka.target.resource, comps: pmatch, values: [pods]}
`, "u: ; v: a; w: a b; x y: b"},
		{"exceptions with several fields", define("a", "ka.verb=get") + `  exceptions:
  - name: e
    fields: [ka.user.name, ka.target.resource]
    values:
    - [u, pods]
    - [v, secrets]
    - ["x y", pods]
` + define("b", "ka.verb=get") + `  exceptions:
  - name: e
    fields: [ka.user.name, ka.verb, ka.target.resource]
    comps: [in, "!=", startswith]
    values:
    - [[u, v], list, po]
    - [w, list, po]
    - ["(x, y)", list, po]
`, "u: ; v: a; w: a; x y: b"},
		{"exception values are appended", define("a", "ka.verb=get") + `  exceptions:
  - {name: e, fields: ka.user.name, values: [u]}
- rule: a
  exceptions:
  - {name: e, values: [v]}
  append: true
- rule: a
  exceptions:
  - {name: e, values: ["x y"]}
  - {name: f, fields: [ka.user.name], comps: [=], values: [[w]]}
  override: {exceptions: append}
` + define("b", "ka.verb=get") + `  exceptions:
  - {name: e, fields: ka.user.name, values: [u]}
- rule: b
  exceptions:
  - {name: e, fields: ka.user.name, values: [v]}
  override: {exceptions: replace}
`, "u: b; v: ; w: b; x y: b"},
		{"lists in exceptions", "- list: users\n  items: [u, v]\n" + define("a", "ka.verb=get") + `  exceptions:
  - {name: e, fields: ka.user.name, values: [users, w]}
`, "u: ; v: ; w: ; x y: a"},
		{"several documents, null items and aliases", "---\n- list: &l users\n  items: &i [u]\n-\n-   \n---\n" + define("a", "ka.user.name in (users)") +
			"- list: more\n  items: *i\n", "u: a; v: ; w: ; x y: "},
		{"skip-if-unknown-filter", define("a", "ka.unknown=x or ka.verb=get") + "  skip-if-unknown-filter: true\n" +
			strings.Replace(define("b", "ka.verb=get"), "output: o", "output: '%ka.unknown'", 1) + "  skip-if-unknown-filter: true\n" +
			define("c", "ka.verb=get"), "u: c; v: c; w: c; x y: c"},
	} {
		files := split(c.files)
		if c.name == "several documents, null items and aliases" {
			files = []ir.File{{Name: "a.yaml", Data: []byte(strings.ReplaceAll(c.files, "---\n- list: more", "- list: more"))}}
		}
		pack, err := falco.Parse(files, falco.Options{})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		e := compile(t, pack)
		var got []string
		for _, user := range []string{"u", "v", "w", "x y"} {
			names, _ := e.matches(t, event("get", user, "pods"))
			got = append(got, user+": "+strings.Join(names, " "))
		}
		if d := cmp.Diff(c.want, strings.Join(got, "; ")); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

func TestMeta(t *testing.T) {
	pack, err := falco.Parse(split(`
- rule: a
  desc: >
    What it
    finds.
  output: "first %ka.verb"
  priority: Emergency
  source: k8s_audit
  tags: [k8s, mitre, k8s]
  warn_evttypes: false
  capture: false
  condition: ka.req.pod.host_pid exists
- rule: a
  output: second %ka.user.name
  desc: More.
  tags: [new]
  priority: info
  override: {output: append, desc: append, tags: append, priority: replace}
`+define("b", "ka.resp.name exists or not ka.resp.name=x and ka.verb=get")+define("c", "ka.resp.name=x and ka.verb=get")+
		define("off", "ka.verb=get and jevt.rawtime=0")), falco.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []ir.Meta
	for _, r := range pack.Rules {
		r.Meta.Summary = ir.Template{Text: r.Summary.Text}
		got = append(got, r.Meta)
	}
	at := func(line int) ir.Position { return ir.Position{File: "a.yaml", Line: line, Column: 9} }
	rest := func(name, level string, line int) ir.Meta {
		return ir.Meta{
			ID: name, Title: name, Description: "d", Level: "low", Priority: "NOTICE", AuditLevel: level,
			Summary: ir.Template{Text: "o"}, Position: at(line),
		}
	}
	off := rest("off", "", 30)
	off.Blind = "no event satisfies the condition: a macro switches the rule off"
	want := []ir.Meta{
		{
			ID: "a", Title: "a", Description: "What it finds.\n More.", Level: "informational", Priority: "info", AuditLevel: "Request",
			Tags: []string{"k8s", "mitre", "new"}, Summary: ir.Template{Text: "first %ka.verb second %ka.user.name"}, Position: at(1),
		},
		rest("b", "Metadata", 18), rest("c", "RequestResponse", 24), off,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestLevels(t *testing.T) {
	for priority, want := range map[string]string{
		"EMERGENCY": "critical", "alert": "critical", "Critical": "critical", "ERROR": "high", "Warning": "medium", "notice": "low",
		"INFORMATIONAL": "informational", "INFO": "informational", "debug": "informational",
	} {
		files := split(strings.Replace(define("a", "ka.verb=get"), "NOTICE", priority, 1))
		pack, err := falco.Parse(files, falco.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if r := pack.Rules[0]; r.Level != want || r.Priority != priority {
			t.Errorf("%s: level %s, priority %s", priority, r.Level, r.Priority)
		}
	}
}

// Rules of other sources and what only they use are none of our business.
func TestOtherSources(t *testing.T) {
	pack, err := falco.Parse(split(`
- required_engine_version: 99
- required_plugin_versions: [{name: cloudtrail, version: 0.1.0}]
- list: shells
  items: [sh]
- macro: only_theirs
  condition: proc.name in (shells) and no_such_macro
- macro: broken
  condition: proc.name in
- macro: shared
  condition: evt.type=open
- rule: syscall
  desc: d
  output: "%proc.name"
  priority: ERROR
  condition: only_theirs or broken
- rule: trail
  desc: d
  output: "%ct.name"
  priority: ERROR
  source: aws_cloudtrail
  condition: ct.name=x and getopt(proc.args) exists and (
- rule: forgotten
  desc: d
  output: o
  priority: ERROR
  condition: ka.verb=get
- rule: syscall
  condition: and more
  append: true
--
`+define("a", "ka.verb=get")), falco.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(pack.Rules) != 1 {
		t.Errorf("%d rules", len(pack.Rules))
	}
	var got []string
	for _, n := range pack.Notes {
		got = append(got, strings.TrimSpace(n.Position.String()+" "+n.Rule+": "+n.Text))
	}
	want := []string{
		"a.yaml:1:28 : required_engine_version: the file needs engine 99, this is 0.60.0",
		"a.yaml:2:30 : required_plugin_versions: none of the plugins is known here",
		"a.yaml : 1 rules of source aws_cloudtrail passed over",
		"a.yaml : 2 rules of source syscall passed over",
		"a.yaml:22:9 forgotten: passed over as a rule of source syscall, the default, but it uses fields of k8s_audit: add source: k8s_audit",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("notes (-want +got):\n%s", d)
	}
}

func TestVersions(t *testing.T) {
	for text, want := range map[string]string{
		"- required_engine_version: 15": "", "- required_engine_version: 0.50.0": "", `- required_engine_version: "0.31.0"`: "",
		"- required_engine_version: 0.60.0": "",
		"- required_engine_version: 0.61.0": "a.yaml:1:28: required_engine_version: the file needs engine 0.61.0, this is 0.60.0; use an older version of the rules",
		"- required_engine_version: 61":     "a.yaml:1:28: required_engine_version: the file needs engine 61, this is 0.60.0; use an older version of the rules",
		"- required_engine_version: 1.0.0":  "a.yaml:1:28: required_engine_version: the file needs engine 1.0.0, this is 0.60.0; use an older version of the rules",
		"- required_engine_version: newest": `a.yaml:1:28: required_engine_version: "newest" is no version; write a number or x.y.z`,
		"- required_engine_version: 0.26":   `a.yaml:1:28: required_engine_version: "0.26" is no version; write a number or x.y.z`,
		"- required_engine_version: []":     "a.yaml:1:28: required_engine_version: must be text, is a list",
		"- required_plugin_versions: [{name: k8saudit, version: 0.18.0}, {name: json, version: 0.7.0}]":                    "",
		"- required_plugin_versions: [{name: okta, version: 0.1.0, alternatives: [{name: k8saudit-eks, version: 0.4.0}]}]": "",
		"- required_plugin_versions: [{name: k8saudit, version: 0.19.0}]":                                                  "a.yaml:1:30: required_plugin_versions: needs another version: this is k8saudit 0.18.0; the plugins here are k8saudit and json; use rules written for these versions",
		"- required_plugin_versions: [{name: json, version: 1.0.0}]":                                                       "a.yaml:1:30: required_plugin_versions: needs another version: this is json 0.7.4; the plugins here are k8saudit and json; use rules written for these versions",
		"- required_plugin_versions: [{name: okta, version: 0.1.0}]":                                                       "a.yaml:1:30: required_plugin_versions: none of the plugins is known here; the plugins here are k8saudit and json; use rules written for these versions",
		"- required_plugin_versions: [{name: json, version: 0.7}]":                                                         `a.yaml:1:52: version: "0.7" is no version; write x.y.z`,
		"- required_plugin_versions: [{name: json}]":                                                                       "a.yaml:1:30: version: is missing; add it",
		"- required_plugin_versions: {name: json}":                                                                         "a.yaml:1:29: required_plugin_versions: must be a list, is a mapping",
		"- required_plugin_versions: [{name: json, version: 0.7.0, alternatives: [{name: json, version: 0.6.0}]}]":         `a.yaml:1:81: required_plugin_versions: the plugin "json" stands here twice; keep one version`,
	} {
		got := strings.Join(faults(t, split(text+"\n"+define("a", "ka.verb=get"))), "\n")
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", text, d)
		}
	}
}
