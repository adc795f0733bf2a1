package sigma_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/alert/rule/ruletest"
	"github.com/auditmill/auditmill/schemas"
)

const header = "title: t\nlogsource: {product: kubernetes, service: audit}\ndetection:\n"

// detection makes a rule of a section; what has no condition is the only search.
func detection(section string) string {
	if !strings.Contains(section, "condition:") {
		section = "sel:\n  " + strings.ReplaceAll(section, "\n", "\n  ") + "\ncondition: sel"
	}
	return header + "  " + strings.ReplaceAll(section, "\n", "\n  ") + "\n"
}

// event is a request for a pod with the given request object.
func event(object string) string {
	return `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"a","stage":"ResponseComplete","verb":"create",` +
		`"requestURI":"/api/v1/namespaces/web/pods","user":{"username":"alice","groups":["dev","system:authenticated"]},` +
		`"sourceIPs":["198.51.100.7","10.1.2.3"],"objectRef":{"resource":"pods","namespace":"web"},"responseStatus":{"code":201},` +
		`"requestReceivedTimestamp":"2026-11-21T03:04:05.000001Z","stageTimestamp":"2026-11-21T03:04:05.000001Z","requestObject":` + object + `}`
}

func load(t *testing.T, lists map[string][]string, texts ...string) *ir.Pack {
	t.Helper()
	var files []rule.File
	for i, text := range texts {
		files = append(files, rule.File{Name: fmt.Sprintf("r%d.yml", i), Data: []byte(text)})
	}
	pack, err := rule.Load(files, rule.Options{Lists: lists})
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(texts, "\n"))
	}
	return pack
}

// matches returns the ids of the rules of pack that match the event.
func matches(t *testing.T, pack *ir.Pack, event string) []string {
	t.Helper()
	set, err := rule.Compile(pack.Rules)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ruletest.Event("c", []byte(event))
	if err != nil {
		t.Fatal(err)
	}
	batch, err := ruletest.Batch([]*schemas.Event{e}...)
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Release()
	ids := []string{}
	if err := set.NewEvaluator().Match(batch, func(r, _ int) { ids = append(ids, pack.Rules[r].ID) }); err != nil {
		t.Fatal(err)
	}
	return ids
}

// wide is text as UTF-16 in little endian.
func wide(text string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		b = append(b, byte(unit), byte(unit>>8))
	}
	return b
}

func quoted(text string) string {
	b, _ := json.Marshal(text)
	return string(b)
}

func encoded(text []byte) string { return quoted(base64.StdEncoding.EncodeToString(text)) }

const containers = `{"spec":{"containers":[` +
	`{"name":"a","image":"nginx:1","securityContext":{"privileged":true},"ports":[{"p":1},{"p":2}],"args":["x","y"]},` +
	`{"name":"b","image":"evil:1","securityContext":{"privileged":false},"ports":[],"args":["x"]}],"empty":[],"tags":["red","green"]}}`

func TestConformance(t *testing.T) {
	lists := map[string][]string{"users": {"alice", "bob*"}, "nets": {"10.0.0.0/8", "192.0.2.1"}, "none": {}, "words": {"shop", "a?c"}, "ports": {"80", "443"}}
	tests := []struct {
		name, detection, object string
		want                    bool
	}{
		// case
		{"values fold case", `requestObject.a: STRASSE`, `{"a":"straSSe"}`, true},
		{"Greek folds", `requestObject.a|contains: Σ`, `{"a":"xς"}`, true},
		{"cased", `requestObject.a|contains|cased: B`, `{"a":"abc"}`, false},
		{"cased before", `requestObject.a|cased|contains: b`, `{"a":"abc"}`, true},
		// wildcards and escapes
		{"star across lines", `requestObject.a: 'x*z'`, `{"a":"x\ny\nz"}`, true},
		{"question is one character", `requestObject.a: 'x?z'`, `{"a":"x\nz"}`, true},
		{"question is one character, not one byte", `requestObject.a: 'x?z'`, `{"a":"xéz"}`, true},
		{"question is not none", `requestObject.a: 'x?z'`, `{"a":"xz"}`, false},
		{"escaped star", `requestObject.a: 'x\*z'`, `{"a":"xyz"}`, false},
		{"escaped star hit", `requestObject.a: 'x\*z'`, `{"a":"x*z"}`, true},
		{"backslash and star", `requestObject.a: 'x\\*'`, `{"a":"x\\yz"}`, true},
		{"backslash and plain star", `requestObject.a: 'x\\\*'`, `{"a":"x\\*"}`, true},
		{"backslash and plain star misses", `requestObject.a: 'x\\\*'`, `{"a":"x\\yz"}`, false},
		{"single backslash", `requestObject.a: 'C:\dir'`, `{"a":"C:\\dir"}`, true},
		{"four backslashes are two", `requestObject.a: '\\\\host'`, `{"a":"\\\\host"}`, true},
		{"wildcard in endswith", `requestObject.a|endswith: 'a*c'`, `{"a":"xxabbc"}`, true},
		// null, empty, exists
		{"null of missing", `requestObject.a: null`, `{}`, true},
		{"null of null", `requestObject.a: null`, `{"a":null}`, true},
		{"null of empty", `requestObject.a: null`, `{"a":""}`, false},
		{"empty of empty", `requestObject.a: ''`, `{"a":""}`, true},
		{"empty of missing", `requestObject.a: ''`, `{}`, false},
		{"empty of null", `requestObject.a: ''`, `{"a":null}`, false},
		{"exists of null", `requestObject.a|exists: true`, `{"a":null}`, true},
		{"exists of missing", `requestObject.a|exists: true`, `{}`, false},
		{"exists false of null", `requestObject.a|exists: false`, `{"a":null}`, false},
		{"exists false of missing", `requestObject.a|exists: false`, `{}`, true},
		{"exists of an empty list", `requestObject.a|exists: true`, `{"a":[]}`, true},
		{"star of an object", `requestObject.a: '*'`, `{"a":{"b":1}}`, true},
		{"star of null", `requestObject.a: '*'`, `{"a":null}`, false},
		{"star of missing", `requestObject.a: '*'`, `{}`, false},
		{"star of empty", `requestObject.a: '*'`, `{"a":""}`, true},
		{"unknown field is absent", `nothing.like.it|exists: false`, `{}`, true},
		{"unknown field of an event", `extension.zone: blue`, `{}`, false},
		// numbers
		{"number of number", `requestObject.a: 1234567890`, `{"a":1234567890}`, true},
		{"number of text", `requestObject.a: 1234567890`, `{"a":"1234567890"}`, true},
		{"text of number", `requestObject.a: '5'`, `{"a":5}`, true},
		{"number written as a fraction", `requestObject.a: 5`, `{"a":5.0}`, true},
		{"number with an exponent", `requestObject.a: 500`, `{"a":5e2}`, true},
		{"number too large for int64", `requestObject.a: 18446744073709551616`, `{"a":18446744073709551616}`, true},
		{"a fraction keeps its zeros as text", `requestObject.a: 1.50`, `{"a":"1.50"}`, true},
		{"contains of a number", `requestObject.a|contains: 34`, `{"a":123456}`, true},
		{"boolean", `requestObject.a: TRUE`, `{"a":true}`, true},
		{"gt", `requestObject.a|gt: 5`, `{"a":6}`, true},
		{"gt is strict", `requestObject.a|gt: 5`, `{"a":5}`, false},
		{"gte", `requestObject.a|gte: 5.5`, `{"a":"5.5"}`, true},
		{"lt of absent", `requestObject.a|lt: 5`, `{}`, false},
		{"lt of text", `requestObject.a|lt: 5`, `{"a":"few"}`, false},
		{"lt of empty", `requestObject.a|lt: 5`, `{"a":""}`, false},
		{"lte of null", `requestObject.a|lte: 5`, `{"a":null}`, false},
		// neq
		{"neq", `requestObject.a|neq: x`, `{"a":"y"}`, true},
		{"neq folds case", `requestObject.a|neq: x`, `{"a":"X"}`, false},
		{"neq of absent", `requestObject.a|neq: x`, `{}`, true},
		{"neq of several is neither", `requestObject.a|neq: [x, y]`, `{"a":"y"}`, false},
		{"neq of number", `requestObject.a|neq: 5`, `{"a":6}`, true},
		{"neq contains", `requestObject.a|contains|neq: b`, `{"a":"abc"}`, false},
		{"neq null", `requestObject.a|neq: null`, `{"a":null}`, false},
		{"neq null of a value", `requestObject.a|neq: null`, `{"a":1}`, true},
		{"neq of a list field", `requestObject.spec.tags|neq: red`, containers, false},
		// expressions
		{"re is cased", `requestObject.a|re: ^X`, `{"a":"xy"}`, false},
		{"re i", `requestObject.a|re|i: ^X`, `{"a":"xy"}`, true},
		{"re dot", `requestObject.a|re: x.z`, `{"a":"x\nz"}`, false},
		{"re s", `requestObject.a|re|s: x.z`, `{"a":"x\nz"}`, true},
		{"re m", `requestObject.a|re|m: ^z$`, `{"a":"x\nz"}`, true},
		{"re i m s", `requestObject.a|re|i|m|s: ^Y.z$`, `{"a":"x\ny\nz"}`, true},
		{"re contains", `requestObject.a|re|contains: y`, `{"a":"xyz"}`, true},
		{"re startswith", `requestObject.a|re|startswith: y|z`, `{"a":"xyz"}`, false},
		{"re endswith", `requestObject.a|re|endswith: y|z`, `{"a":"xyz"}`, true},
		{"re all", `requestObject.a|re|all: [x, z$]`, `{"a":"xyz"}`, true},
		{"re neq", `requestObject.a|re|neq: x`, `{"a":"xyz"}`, false},
		// networks
		{"cidr of one of a list", `sourceIPs|cidr: 10.0.0.0/8`, `{}`, true},
		{"cidr v6", `requestObject.a|cidr: '2001:db8::/32'`, `{"a":"2001:DB8:0::1"}`, true},
		{"cidr mapped", `requestObject.a|cidr: 192.0.2.0/24`, `{"a":"::ffff:192.0.2.9"}`, true},
		{"cidr of an address", `requestObject.a|cidr: 192.0.2.9`, `{"a":"192.0.2.9"}`, true},
		{"cidr of no address", `requestObject.a|cidr: 0.0.0.0/0`, `{"a":"web"}`, false},
		{"cidr list", `requestObject.a|cidr: [10.0.0.0/8, 'fe80::/10']`, `{"a":"fe80::1"}`, true},
		{"cidr neq", `requestObject.a|cidr|neq: 10.0.0.0/8`, `{"a":"10.1.1.1"}`, false},
		// encodings
		{"base64 has padding", `requestObject.a|base64: foob`, `{"a":"Zm9vYg=="}`, true},
		{"base64 contains", `requestObject.a|base64|contains: foob`, `{"a":"xZm9vYg==x"}`, true},
		{"base64offset 0", `requestObject.a|base64offset|contains: /bin/bash`, `{"a":` + encoded([]byte("/bin/bash -i")) + `}`, true},
		{"base64offset 1", `requestObject.a|base64offset|contains: /bin/bash`, `{"a":` + encoded([]byte("x/bin/bash -i")) + `}`, true},
		{"base64offset 2", `requestObject.a|base64offset|contains: /bin/bash`, `{"a":` + encoded([]byte("xy/bin/bash -i")) + `}`, true},
		{"base64offset misses", `requestObject.a|base64offset|contains: /bin/bash`, `{"a":` + encoded([]byte("/bin/dash -i")) + `}`, false},
		{"base64offset all", `requestObject.a|base64offset|contains|all: [/bin/bash, secret]`, `{"a":` + encoded([]byte("/bin/bash secret")) + `}`, true},
		{"base64offset all misses one", `requestObject.a|base64offset|contains|all: [/bin/bash, secrets]`, `{"a":` + encoded([]byte("/bin/bash")) + `}`, false},
		{"wide", `requestObject.a|wide|base64offset|contains: ping`, `{"a":` + encoded(wide("xping -n")) + `}`, true},
		{"utf16le", `requestObject.a|utf16le|base64offset|contains: pïng`, `{"a":` + encoded(wide("pïng")) + `}`, true},
		{"utf16be", `requestObject.a|utf16be|base64: ab`, `{"a":` + encoded([]byte{0, 'a', 0, 'b'}) + `}`, true},
		{"utf16 has a mark", `requestObject.a|utf16|base64: ab`, `{"a":` + encoded(append([]byte{0xff, 0xfe}, wide("ab")...)) + `}`, true},
		{"windash slash", `requestObject.a|windash|contains: ' -f'`, `{"a":"cmd /f x"}`, true},
		{"windash em dash", `requestObject.a|contains|windash: ' -f'`, `{"a":"cmd —f x"}`, true},
		{"windash of a slash", `requestObject.a|windash|contains: ' /f'`, `{"a":"cmd ―f x"}`, true},
		{"windash permutations", `requestObject.a|windash: '-a -b'`, `{"a":"/a –b"}`, true},
		{"windash leaves dashes in words", `requestObject.a|windash: 'a-b'`, `{"a":"a/b"}`, false},
		{"windash of a second dash", `requestObject.a|windash: '--all'`, `{"a":"-/all"}`, true},
		{"windash before base64", `requestObject.a|windash|base64offset|contains: ' -enc'`, `{"a":` + encoded([]byte("x /enc")) + `}`, true},
		// lists of the deployment
		{"expand", `user.username|expand: '%users%'`, `{}`, true},
		{"expand takes wildcards of the list", `requestObject.a|expand: '%users%'`, `{"a":"bobby"}`, true},
		{"expand inside a text", `requestObject.a|expand|startswith: 'the-%words%-'`, `{"a":"the-abc-x"}`, true},
		{"expand of networks", `sourceIPs|cidr|expand: '%nets%'`, `{}`, true},
		{"expand first", `sourceIPs|expand|cidr: '%nets%'`, `{}`, true},
		{"expand of an empty list", `user.username|expand: '%none%'`, `{}`, false},
		{"expand of an empty list denied", `user.username|expand|neq: '%none%'`, `{}`, true},
		{"expand escaped", `requestObject.a|expand: '\%users\%'`, `{"a":"%users%"}`, true},
		{"expand numbers", `requestObject.a|gt|expand: '%ports%'`, `{"a":100}`, true},
		{"expand before base64", `requestObject.a|expand|base64: '%ports%x'`, `{"a":` + encoded([]byte("443x")) + `}`, true},
		{"per cent without expand", `requestObject.a: '%users%'`, `{"a":"%users%"}`, true},
		// fields
		{"fieldref", `requestObject.a|fieldref: user.username`, `{"a":"ALICE"}`, true},
		{"fieldref cased", `requestObject.a|fieldref|cased: user.username`, `{"a":"ALICE"}`, false},
		{"fieldref missing", `requestObject.a|fieldref: user.username`, `{}`, false},
		{"fieldref both missing", `requestObject.a|fieldref: requestObject.b`, `{}`, false},
		{"fieldref neq", `requestObject.a|fieldref|neq: user.username`, `{"a":"bob"}`, true},
		{"fieldref neq of equals", `requestObject.a|fieldref|neq: user.username`, `{"a":"alice"}`, false},
		{"fieldref neq missing", `requestObject.a|fieldref|neq: user.username`, `{}`, false},
		{"fieldref startswith", `requestObject.a|fieldref|startswith: user.username`, `{"a":"alice-pod"}`, true},
		{"fieldref endswith", `requestObject.a|fieldref|endswith: user.username`, `{"a":"pod-of-alice"}`, true},
		{"fieldref contains", `requestObject.a|contains|fieldref: user.username`, `{"a":"x-alice-y"}`, true},
		{"fieldref contains neq", `requestObject.a|fieldref|contains|neq: user.username`, `{"a":"x-alice-y"}`, false},
		{"fieldref lt", `requestObject.a|fieldref|lt: requestObject.b`, `{"a":9,"b":10}`, true},
		{"fieldref gte", `requestObject.a|gte|fieldref: requestObject.b`, `{"a":9,"b":10}`, false},
		{"fieldref of a list", `requestObject.a|fieldref: [objectRef.name, user.username]`, `{"a":"alice"}`, true},
		// times
		{"hour", `requestReceivedTimestamp|hour: 3`, `{}`, true},
		{"minute", `requestReceivedTimestamp|minute: 4`, `{}`, true},
		{"day of the month", `event_time|day: 21`, `{}`, true},
		{"week", `event_time|week: 47`, `{}`, true},
		{"month", `event_time|month: [1, 11]`, `{}`, true},
		{"year", `event_time|year|gte: 2026`, `{}`, true},
		{"hour range", "requestReceivedTimestamp|hour|gte: 22", `{}`, false},
		{"no conversion of zones", `requestObject.at|hour: 23`, `{"at":"2026-11-21T23:30:00+05:00"}`, true},
		{"hour of no time", `requestObject.at|hour: 23`, `{"at":"late"}`, false},
		{"hour neq of absent", `requestObject.at|hour|neq: 23`, `{}`, true},
		// all
		{"contains all", `requestObject.a|contains|all: [x, z]`, `{"a":"xyz"}`, true},
		{"contains all misses one", `requestObject.a|contains|all: [x, w]`, `{"a":"xyz"}`, false},
		{"all neq denies the whole", `requestObject.a|contains|all|neq: [x, w]`, `{"a":"xyz"}`, true},
		// keywords
		{"keyword", "sel: [needle, other]\ncondition: sel", `{"a":{"b":["a NEEDLE here"]}}`, true},
		{"keyword alone", "sel: needle\ncondition: sel", `{"a":"hay"}`, false},
		{"keywords all", "sel:\n  '|all': [needle, hay]\ncondition: sel", `{"a":"needle","b":"hay"}`, true},
		{"keywords all misses one", "sel:\n  '|all': [needle, hay]\ncondition: sel", `{"a":"needle"}`, false},
		{"keywords re", "sel:\n  '|re': '^needle$'\ncondition: sel", `{"a":"needle"}`, true},
		{"keywords and maps", "sel:\n  - needle\n  - verb: create\ncondition: sel", `{}`, true},
		{"keyword with a wildcard", "sel: ['n*le']\ncondition: sel", `{"a":"a needle b"}`, true},
		// conditions
		{"and binds more than or", "a: {verb: create}\nb: {verb: get}\nc: {verb: list}\ncondition: a or b and c", `{}`, true},
		{"not binds more than and", "a: {verb: get}\nb: {verb: create}\ncondition: not a and b", `{}`, true},
		{"1 of them", "a: {verb: get}\nb: {verb: create}\ncondition: 1 of them", `{}`, true},
		{"all of them", "a: {verb: get}\nb: {verb: create}\ncondition: all of them", `{}`, false},
		{"any of them", "a: {verb: get}\nb: {verb: create}\ncondition: any of them", `{}`, true},
		{"them leaves underscores out", "a: {verb: get}\n_b: {verb: create}\ncondition: 1 of them", `{}`, false},
		{"all of them leaves underscores out", "a: {verb: create}\n_b: {verb: get}\ncondition: all of them", `{}`, true},
		{"pattern", "sel_a: {verb: get}\nsel_b: {verb: create}\nx: {verb: create}\ncondition: all of sel*", `{}`, false},
		{"pattern with the star inside", "a_sel_1: {verb: create}\nb_sel_2: {verb: get}\ncondition: 1 of a*1", `{}`, true},
		{"not 1 of", "sel: {verb: create}\nfilter_a: {verb: create}\ncondition: sel and not 1 of filter_*", `{}`, false},
		{"list of conditions", "a: {verb: get}\nb: {verb: create}\ncondition: [a, b]", `{}`, true},
		// arrays
		{"dotted path is any member", `requestObject.spec.containers.image: evil:1`, containers, true},
		{"dotted paths do not bind", "requestObject.spec.containers.image: evil:1\nrequestObject.spec.containers.securityContext.privileged: true", containers, true},
		{"any binds", "requestObject.spec.containers[any]:\n  image: evil:1\n  securityContext.privileged: true", containers, false},
		{"any binds hit", "requestObject.spec.containers[any]:\n  image|startswith: nginx\n  securityContext.privileged: true", containers, true},
		{"any of blocks", "requestObject.spec.containers[any]:\n  - image: none\n  - image: evil:1\n    name: b", containers, true},
		{"all", "requestObject.spec.containers[all]:\n  image|contains: ':1'", containers, true},
		{"all misses one", "requestObject.spec.containers[all]:\n  securityContext.privileged: true", containers, false},
		{"all of nothing", "requestObject.spec.empty[all]:\n  x: 1", containers, false},
		{"all or empty of nothing", "requestObject.spec.empty[all_or_empty]:\n  x: 1", containers, true},
		{"all or empty of missing", "requestObject.spec.missing[all_or_empty]:\n  x: 1", containers, true},
		{"none", "requestObject.spec.containers[none]:\n  image: evil:1\n  securityContext.privileged: true", containers, true},
		{"none misses", "requestObject.spec.containers[none]:\n  image: evil:1", containers, false},
		{"none of missing", "requestObject.spec.missing[none]:\n  image: x", containers, true},
		{"plain values", "requestObject.spec.tags[any]: [blue, RED]", containers, true},
		{"plain values of all", "requestObject.spec.tags[all]: [red, green]", containers, true},
		{"plain values of all miss", "requestObject.spec.tags[all]: red", containers, false},
		{"plain values with a modifier", "requestObject.spec.tags[all]|contains: e", containers, true},
		{"groups of the caller", "user.groups[none]|startswith: 'system:masters'", `{}`, true},
		{"field behind a quantifier", "requestObject.spec.containers[any].image|endswith: ':1'", containers, true},
		{"all behind a quantifier", "requestObject.spec.containers[all].securityContext.privileged: true", containers, false},
		{"nested blocks", "requestObject.spec.containers[any]:\n  name: a\n  ports[any]:\n    p: 2", containers, true},
		{"nested blocks bind", "requestObject.spec.containers[any]:\n  name: b\n  ports[any]:\n    p: 2", containers, false},
		{"nested quantifiers", "requestObject.spec.containers[any].ports[all].p|gt: 1", containers, false},
		{"scalars in a block", "requestObject.spec.containers[all]:\n  args[any]: x", containers, true},
		{"null in a block", "requestObject.spec.containers[any]:\n  command: null", containers, true},
		{"fieldref in a block", "requestObject.spec.containers[any]:\n  name|fieldref: image", containers, false},
		{"index", "requestObject.spec.containers[0].image: nginx:1", containers, true},
		{"index of the second", "requestObject.spec.containers[1].image: nginx:1", containers, false},
		{"index out of range", "requestObject.spec.containers[7].image|exists: true", containers, false},
		{"index of a scalar", "sourceIPs[0]: 198.51.100.7", `{}`, true},
		{"index and index", "requestObject.spec.containers[0].args[1]: y", containers, true},
		{"index with a block", "requestObject.spec.containers[1]:\n  name: b\n  image: evil:1", containers, true},
		{"index in a block", "requestObject.spec.containers[any]:\n  name: a\n  args[1]: y", containers, true},
		{"quantifier on a column", "source_ips[all]|cidr: 10.0.0.0/8", `{}`, false},
		// aliases of the taxonomy
		{"empty apiGroup is passed over", "apiGroup: ''\nresource: pods", `{}`, true},
		{"empty subresource is passed over", "subresource: ''\nresource: pods", `{}`, true},
		{"privileged as asked", "privileged: true", containers, true},
		{"username", "username: alice", `{}`, true},
		{"namespace", "namespace: web", `{}`, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pack := load(t, lists, detection(tt.detection))
			if got := len(matches(t, pack, event(tt.object))) == 1; got != tt.want {
				t.Errorf("matches %v, want %v: %s\n%s", got, tt.want, pack.Rules[0].Condition, tt.object)
			}
		})
	}
}

// What the published rules were written for, by the end of the file's name.
func published() map[string]string {
	request := func(verb, group, resource, more string) string {
		return `{"verb":"` + verb + `","stage":"ResponseComplete","user":{"username":"mallory"},"objectRef":{"apiGroup":"` + group +
			`","resource":"` + resource + `"` + more + `}`
	}
	created := `,"responseStatus":{"code":201}}`
	return map[string]string{
		"change_admission_controller": request("create", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", "") + created,
		"cronjob_modification":        request("patch", "batch", "cronjobs", `,"namespace":"web"`) + created,
		"deployment_deleted":          request("delete", "apps", "deployments", `,"namespace":"web"`) + created,
		"events_deleted":              request("delete", "", "events", `,"namespace":"web"`) + created,
		"exec_into_container":         request("create", "", "pods", `,"subresource":"exec"`) + created,
		"hostpath_mount": request("create", "", "pods", "") +
			`,"requestObject":{"spec":{"volumes":[{"name":"a","emptyDir":{}},{"name":"b","hostPath":{"path":"/"}}]}}}`,
		"pod_in_system_namespace": request("create", "", "pods", `,"namespace":"kube-system"`) + created,
		"privileged_pod_creation": request("create", "", "pods", "") +
			`,"requestObject":{"spec":{"containers":[{"securityContext":{"capabilities":{"add":["SYS_ADMIN"]}}}]}}}`,
		//nolint:misspell // so the file is called
		"rbac_permisions_listing":              request("create", "authorization.k8s.io", "selfsubjectrulesreviews", "") + created,
		"rolebinding_modification":             request("update", "rbac.authorization.k8s.io", "rolebindings", "") + created,
		"secrets_enumeration":                  request("list", "", "secrets", "") + created,
		"secrets_modified_or_deleted":          request("delete", "", "secrets", "") + created,
		"serviceaccount_creation":              request("create", "", "serviceaccounts", "") + created,
		"sidecar_injection":                    request("patch", "apps", "deployments", "") + created,
		"unauthorized_unauthenticated_actions": request("get", "", "pods", "") + `,"responseStatus":{"code":403}}`,
	}
}

// The published Kubernetes rules load unchanged where they are at hand, and each fires or says why it cannot.
func TestPublishedRules(t *testing.T) {
	files, _ := filepath.Glob("../../../../shared/data/sigma/kubernetes_audit/*.yml")
	if len(files) == 0 {
		t.Skip("the published rules are not here")
	}
	written := published()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "kubernetes_audit_"), ".yml")
		pack := load(t, nil, string(text))
		if len(pack.Rules) != 1 {
			t.Fatalf("%s: %d rules", name, len(pack.Rules))
		}
		if name == "potential_enumeration_activity" {
			want := "responseStatus.code is a number, which none of the values is"
			if got := pack.Rules[0].Blind; got != want {
				t.Errorf("%s: cannot match because %q, want %q", name, got, want)
			}
			continue
		}
		if len(matches(t, pack, written[name])) != 1 {
			t.Errorf("%s does not match %s", name, written[name])
		}
		if strings.Contains(string(text), "'replace'") != (len(pack.Notes) == 1) {
			t.Errorf("%s: notes are %v", name, pack.Notes)
		}
		delete(written, name)
		if len(matches(t, pack, event(`{}`))) != 0 {
			t.Errorf("%s matches any pod", name)
		}
	}
	for name := range maps.Keys(written) {
		t.Errorf("there is no rule %s", name)
	}
}
