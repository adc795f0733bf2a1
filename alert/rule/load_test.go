package rule_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule"
)

func sigmaFile(text string) []rule.File { return []rule.File{{Name: "r.yml", Data: []byte(text)}} }

func TestReadDir(t *testing.T) {
	files, err := rule.ReadDir(fstest.MapFS{
		"b.yml": {Data: []byte("b")}, "a/c.yaml": {Data: []byte("c")}, "..data/a.yml": {}, ".hidden.yml": {},
		"notes.txt": {}, "a.cases.jsonl": {},
	}, "rules")
	if err != nil {
		t.Fatal(err)
	}
	want := []rule.File{{Name: "rules/a/c.yaml", Data: []byte("c")}, {Name: "rules/b.yml", Data: []byte("b")}}
	if d := cmp.Diff(want, files); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
}

func TestBlind(t *testing.T) {
	base := "title: base\nname: base\nlogsource: {product: kubernetes}\ndetection: {s: {requestObject.spec.hostPID: true}, condition: s}\n---\n" +
		"title: other\nname: other\nlogsource: {product: kubernetes}\ndetection: {s: {verb: get}, condition: s}\n---\n"
	counting := func(kind, condition string) string {
		return base + "title: c\ncorrelation: {type: " + kind + ", rules: [base, other], timespan: 5m" + condition + "}\n"
	}
	const noRequest = "requestObject.spec.hostPID is recorded at audit level Request, and no more than Metadata is recorded"
	tests := []struct{ name, text, level, want string }{
		{"enough is recorded", detection("requestObject.spec.hostPID: true"), "Request", ""},
		{"everything is recorded", detection("responseObject.spec.hostPID: true"), "", ""},
		{"not enough", detection("requestObject.spec.hostPID: true"), "Metadata", noRequest},
		{"not enough of an array", detection("requestObject.spec.containers[any]:\n  image: x"), "Metadata", strings.ReplaceAll(noRequest, "hostPID", "containers")},
		{"an alternative is enough", detection("- requestObject.spec.hostPID: true\n- verb: get"), "Metadata", ""},
		{"none of the alternatives", detection("- requestObject.spec.hostPID: true\n- responseObject.spec.hostPID: true"), "Metadata", noRequest},
		{"absence is enough", detection("requestObject.spec.hostPID: null"), "Metadata", ""},
		{"a denial is enough", detection("requestObject.spec.hostPID|neq: true"), "Metadata", ""},
		{
			"stated", detection("verb: get") + "x-auditmill: {audit_level: Request}\n", "Metadata",
			"the rule needs audit level Request, and no more than Metadata is recorded",
		},
		{"words for a number", detection("responseStatus.code: ALLOW"), "", "responseStatus.code is a number, which none of the values is"},
		{"digits for a number", detection("responseStatus.code: [ALLOW, '403']"), "", ""},
		{"wildcards for a number", detection("code: 4*"), "", ""},
		{"one rule of a count", counting("event_count", ", condition: {gte: 2}"), "Metadata", ""},
		{"one rule of a sequence", counting("temporal_ordered", ""), "Metadata", "the rule base cannot match: " + noRequest},
		{"a sequence", counting("temporal_ordered", ""), "Request", ""},
	}
	for _, tt := range tests {
		pack, err := rule.Load(sigmaFile(tt.text), rule.Options{AuditLevel: tt.level})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		got := pack.Rules[0].Blind
		if len(pack.Correlations) > 0 {
			got = pack.Correlations[0].Blind
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

// What the sources of a deployment never fill blinds the rules that need it, and no others.
func TestBlindToWhatIsAbsent(t *testing.T) {
	const blind = "is never there in the sources of this deployment"
	for _, tt := range []struct{ text, want string }{
		{detection("user.groups: system:masters"), "user.groups " + blind},
		{detection("groups: system:masters"), "groups " + blind},
		{detection("- groups: system:masters\n- verb: get"), ""},
		{detection("groups: null"), ""},
		{detection("verb: get"), ""},
	} {
		pack, err := rule.Load(sigmaFile(tt.text), rule.Options{Absent: []string{"groups"}})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, pack.Rules[0].Blind); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.text, d)
		}
	}
}

// A file that cannot be read is reported by the reader of its language.
func TestLanguages(t *testing.T) {
	for text, want := range map[string]string{
		"- a\n":        "r.yml:1:1: must be a mapping, is a list",
		"title: x\n":   "r.yml:1:1: logsource: is missing; every rule needs it\nr.yml:1:1: detection: is missing; every rule needs it",
		"- title: x\n": "r.yml:1:1: must be a mapping, is a list",
	} {
		_, err := rule.Load(sigmaFile(text), rule.Options{})
		if err == nil {
			t.Errorf("%q: no error", text)
			continue
		}
		if d := cmp.Diff(want, err.Error()); d != "" {
			t.Errorf("%q (-want +got):\n%s", text, d)
		}
	}
	for _, text := range []string{"- rule: x\n", "- list: x\n  items: []\n", "- required_engine_version: 15\n", "- macro: x\n  condition: [\n"} {
		_, err := rule.Load(sigmaFile(text), rule.Options{})
		if err != nil && strings.Contains(err.Error(), "must be a mapping, is a list") {
			t.Errorf("%q is read as Sigma: %v", text, err)
		}
	}
}
