package falco_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/auditmill/auditmill/alert/rule/falco"
	"github.com/auditmill/auditmill/alert/rule/ir"
)

// checkPack fails if a pack is not as the engine and the alerts need it.
func checkPack(t *testing.T, pack *ir.Pack, err error) {
	t.Helper()
	if err != nil {
		var faults ir.Faults
		if !errors.As(err, &faults) || len(faults) == 0 {
			t.Fatalf("%T: %v", err, err)
		}
		for _, f := range faults {
			if f.Problem == "" || f.Position.File == "" {
				t.Errorf("%#v", f)
			}
		}
		return
	}
	for _, r := range pack.Rules {
		if r.ID == "" || r.Level == "" || r.Condition == nil || r.Position.Line == 0 {
			t.Errorf("%+v", r.Meta)
		}
	}
}

func FuzzCondition(f *testing.F) {
	for _, s := range []string{
		`ka.verb=get and not (ka.user.name in (a, "b c") or m)`, `ka.uri.param["a"] regex '^a(b|c)*'`, `ka.verb startswith oneof (a, b)`,
		`tolower(concat(ka.verb, ":", ka.uri)) glob a*[!b]?\\`, `ka.user.groups intersects (x) or jevt.value[/a~1b/0] != ""`,
		`join(",", (ka.verb, ka.uri)) = val(ka.uri)`, `len(ka.user.groups) >= 0x1f`, `ka.uri pmatch (/a, "/b*")`, `ka.verb icontains "\xff\x00"`,
		`not not(ka.verb exists)and(l in l)`, `((((`, `"`, `ka.verb = "\`, "evt.rawtime>1e+3",
	} {
		f.Add(s, `{"auditID":"a","verb":"get","user":{"groups":["x"]},"requestURI":"/a?b=c"}`)
	}
	f.Fuzz(func(t *testing.T, condition, event string) {
		files := split("- list: l\n  items: [a, b c]\n- macro: m\n  condition: ka.verb=get\n" + define("a", "jevt.rawtime exists"))
		// The condition as a block keeps its bytes, whatever they are.
		lines := "- rule: r\n  desc: d\n  output: o\n  priority: INFO\n  source: k8s_audit\n  condition: |2\n    " +
			strings.ReplaceAll(condition, "\n", "\n    ") + "\n"
		files = append(files, ir.File{Name: "fuzz.yaml", Data: []byte(lines)})
		pack, err := falco.Parse(files, falco.Options{})
		checkPack(t, pack, err)
		if err != nil || len(pack.Rules) < 2 {
			return
		}
		evaluate(pack.Rules[1].Condition, []byte(event)) // no function of a field may panic, whatever the event is
	})
}

func FuzzFile(f *testing.F) {
	f.Add("- list: a\n  items: [b]\n- macro: m\n  condition: ka.verb in (a)\n" + define("r", "m") + "  exceptions: [{name: e, fields: [ka.verb], comps: [in], values: [[[x]]]}]\n")
	f.Add(define("r", "ka.verb=get") + "- {rule: r, condition: or ka.uri=x, override: {condition: append}}\n- {rule: r, enabled: false}\n")
	f.Add("- required_engine_version: 15\n- required_plugin_versions: [{name: json, version: 0.7.0}]\n-\n--- \n- x: &a [*a]\n")
	f.Add("- rule: r\n  output: '%ka.verb %10toupper(ka.uri) %jevt.value[/a] %join(\",\",ka.user.groups)'\n  desc: d\n  priority: INFO\n  source: k8s_audit\n  condition: x\n")
	f.Fuzz(func(t *testing.T, text string) {
		pack, err := falco.Parse([]ir.File{{Name: "a.yaml", Data: []byte(text)}}, falco.Options{})
		checkPack(t, pack, err)
	})
}
