package falco_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule/falco"
)

func TestOutput(t *testing.T) {
	for _, c := range []struct{ output, event, want string }{
		{"plain text", request, "plain text"},
		{"user=%ka.user.name verb=%ka.verb.", request, "user=Bob verb=get."},
		{"%ka.target.name/%ka.target.resource", request, "p/pods"},
		{"%ka.target.subresource %ka.response.code %ka.resp.name", request, "<NA> 403 <NA>"},
		{"ns=%ka.target.namespace;", request, "ns=;"}, // there, and empty
		{"%ka.user.groups %ka.sourceips[0]", request, "(dev,system:masters) (10.0.0.1)"},
		{"%ka.user.groups", bare, "<NA>"},
		{"%ka.uri.param[command] %ka.uri.param[none]", request, "sh <NA>"},
		{"%jevt.value[/user/username] %jevt.value[/user/groups] %json.value[/objectRef/name]", request, `Bob ["dev","system:masters"] p`},
		{"[%6ka.user.name] [%2ka.user.name] [%7ka.target.subresource]", request, "[Bob   ] [Bo] [<NA>   ]"},
		{"%ka.req.pod.containers.image.repository %ka.req.pod.containers.image", pod, "(reg:5000/app,evil/x) (reg:5000/app:1,evil/x@sha256:aa)"},
		{"%ka.req.container.image %ka.req.pod.containers.privileged[1]", pod, "reg:5000/app:1 (true)"},
		{"%toupper(ka.verb) %5tolower(ka.user.name)| %concat(ka.verb, '-', ka.user.name) %len(ka.user.groups)", request, "GET bob  | get-Bob 2"},
		{`%join("->", ka.user.groups) %join(",", (ka.verb, ka.target.name))`, request, "dev->system:masters get,p"},
		{"%evt.time %evt.time.iso8601 %jevt.rawtime", request, "03:04:05.000678000 2024-01-02T03:04:05.000678000+0000 1704164645000678000"},
		{"a %container.info b", request, "a  b"},
		{"%jevt.obj", `{"auditID":"a","verb":"get"}`, "{\n  \"auditID\": \"a\",\n  \"verb\": \"get\"\n}"},
	} {
		text := "- rule: r\n  desc: d\n  output: |\n    " + c.output + "\n  priority: NOTICE\n  source: k8s_audit\n  condition: jevt.rawtime exists\n"
		e := parse(t, split(text), falco.Options{})
		_, outputs := e.matches(t, c.event)
		if d := cmp.Diff(c.want, strings.Join(outputs, "\n")); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.output, d)
		}
	}
}
