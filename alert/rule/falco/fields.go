package falco

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// field is a field as a rule names it, with its argument.
type field struct {
	name    string // with the argument, an alias replaced
	list    bool
	number  bool // compared as a number; all others are texts
	extract ir.Extract
	// column is the same value as a column or an entry of the enriched event; nil if none is.
	column *ir.Field
	// always is the value that the field has on every event, if there is one.
	always *string
	// needs says what an event must have for the field to be present.
	needs needs
}

// needs is a set of what a test needs to be true.
type needs uint8

const (
	needsAuditID  needs = 1 << iota // the extractor of ka.* gives nothing without it
	needsRequest                    // requestObject: audit level Request
	needsResponse                   // responseObject: audit level RequestResponse
)

// ir returns the field as tests and templates use it.
func (f *field) ir() ir.Field {
	if f.column != nil {
		column := *f.column
		column.Name = f.name
		return column
	}
	return ir.Field{Name: f.name, Source: ir.Computed, Extract: f.extract}
}

type argument uint8

const (
	noArgument argument = iota
	indexArgument
	keyArgument
)

// definition says what a field is before its argument is known.
type definition struct {
	list, number bool
	argument     argument
	needs        needs
	path         []string // of a plain value; extract is nil then
	extract      func(index int, key string) ir.Extract
	always       string
}

// fields are all fields that rules on source k8s_audit may use.
type fields struct {
	byName  map[string]definition
	columns *ir.Fields
}

func newFields(compatible bool) *fields {
	f := &fields{byName: map[string]definition{}, columns: ir.NewFields()}
	f.addEvent()
	f.addTarget()
	f.addPod()
	for _, kind := range []string{"containers", "initContainers", "ephemeralContainers"} {
		f.addContainers(kind, compatible)
	}
	f.addObjects(compatible)
	f.addGeneric()
	for name, d := range f.byName {
		if strings.HasPrefix(name, "ka.") {
			d.needs |= needsAuditID | needsOf(d.path)
			f.byName[name] = d
		}
	}
	return f
}

func needsOf(path []string) needs {
	if len(path) == 0 {
		return 0
	}
	switch path[0] {
	case "requestObject":
		return needsRequest
	case "responseObject":
		return needsResponse
	}
	return 0
}

func (f *fields) add(name string, d definition) { f.byName[name] = d }

func (f *fields) addPath(name string, path ...string) { f.add(name, definition{path: path}) }

// addEvent adds what stands in the event itself.
func (f *fields) addEvent() {
	f.addPath("ka.auditid", "auditID")
	f.addPath("ka.stage", "stage")
	for name, key := range map[string]string{
		"ka.auth.decision":                        "authorization.k8s.io/decision",
		"ka.auth.reason":                          "authorization.k8s.io/reason",
		"ka.auth.openshift.decision":              "authentication.openshift.io/decision",
		"ka.auth.openshift.username":              "authentication.openshift.io/username",
		"ka.validations.admission.policy.failure": "validation.policy.admission.k8s.io/validation_failure",
		"ka.security.pod.violations":              "pod-security.kubernetes.io/audit-violations",
		"ka.cluster.name":                         "cluster_name",
	} {
		f.addPath(name, "annotations", key)
	}
	f.addPath("ka.user.name", "user", "username")
	f.add("ka.user.groups", definition{list: true, path: []string{"user", "groups"}})
	f.addPath("ka.impuser.name", "impersonatedUser", "username")
	f.addPath("ka.verb", "verb")
	f.addPath("ka.uri", "requestURI")
	f.add("ka.uri.param", definition{
		argument: keyArgument, extract: func(_ int, key string) ir.Extract { return uriParameter(key) },
	})
	f.addPath("ka.response.code", "responseStatus", "code")
	f.addPath("ka.response.reason", "responseStatus", "reason")
	f.addPath("ka.useragent", "userAgent")
}

func (f *fields) addTarget() {
	f.addPath("ka.target.name", "objectRef", "name")
	f.addPath("ka.target.namespace", "objectRef", "namespace")
	f.addPath("ka.target.resource", "objectRef", "resource")
	f.addPath("ka.target.subresource", "objectRef", "subresource")
	f.add("ka.target.pod.name", definition{needs: needsResponse, extract: fixed(targetPod)})
	f.addPath("ka.resp.name", "responseObject", "metadata", "name")
}

// fixed is an extractor that no argument changes.
func fixed(extract ir.Extract) func(int, string) ir.Extract {
	return func(int, string) ir.Extract { return extract }
}

func (f *fields) addPod() {
	for name, path := range map[string][]string{
		"host_ipc": {"hostIPC"}, "host_network": {"hostNetwork"}, "host_pid": {"hostPID"},
		"run_as_user": {"securityContext", "runAsUser"}, "run_as_group": {"securityContext", "runAsGroup"},
		"fs_group": {"securityContext", "fsGroup"},
	} {
		f.addPath("ka.req.pod."+name, append([]string{"requestObject", "spec"}, path...)...)
	}
	f.addPath("ka.req.container.host_network", "requestObject", "spec", "hostNetwork")
	f.add("ka.req.pod.supplemental_groups", definition{
		list: true, path: []string{"requestObject", "spec", "securityContext", "supplementalGroups"},
	})
	volumes := func(keys ...string) func(int, string) ir.Extract {
		return func(index int, _ string) ir.Extract {
			return gathered(index, append([]string{"requestObject", "spec", "volumes"}, keys...)...)
		}
	}
	f.addIndexed("ka.req.pod.volumes.hostpath", volumes("hostPath", "path"))
	f.addIndexed("ka.req.pod.volumes.flexvolume_driver", volumes("flexVolume", "driver"))
	f.addIndexed("ka.req.pod.volumes.volume_type", func(index int, _ string) ir.Extract { return volumeTypes(index) })
	f.add("ka.req.volume.hostpath", definition{
		argument: keyArgument, needs: needsRequest, extract: func(_ int, key string) ir.Extract { return hasHostPath(key) },
	})
}

// addIndexed adds a list of which an index takes one member of the first array on its path.
func (f *fields) addIndexed(name string, extract func(int, string) ir.Extract) {
	f.add(name, definition{list: true, argument: indexArgument, needs: needsRequest, extract: extract})
}

// addContainers adds the fields of one of the three lists of containers.
func (f *fields) addContainers(kind string, compatible bool) {
	prefix := "ka.req.pod." + kind + "."
	list := []string{"requestObject", "spec", kind}
	for name, keys := range map[string][]string{
		"privileged":                 {"securityContext", "privileged"},
		"allow_privilege_escalation": {"securityContext", "allowPrivilegeEscalation"},
		"read_only_fs":               {"securityContext", "readOnlyRootFilesystem"},
		"run_as_user":                {"securityContext", "runAsUser"},
		"run_as_group":               {"securityContext", "runAsGroup"},
		"proc_mount":                 {"securityContext", "procMount"},
		"add_capabilities":           {"securityContext", "capabilities", "add"},
	} {
		path := slices.Concat(list, keys)
		f.addIndexed(prefix+name, func(index int, _ string) ir.Extract { return gathered(index, path...) })
	}
	for _, name := range []string{"name", "image"} {
		path := append(slices.Clone(list), name)
		f.addIndexed(prefix+name, func(index int, _ string) ir.Extract { return complete(index, nil, path...) })
	}
	for _, name := range []string{"args", "command"} {
		path := append(slices.Clone(list), name)
		f.addIndexed(prefix+name, func(index int, _ string) ir.Extract { return joined(index, path...) })
	}
	repository := repositoryOf
	if compatible {
		repository = repositoryOfCompatible
	}
	image := append(slices.Clone(list), "image")
	f.addIndexed(prefix+"image.repository", func(index int, _ string) ir.Extract { return complete(index, repository, image...) })
	f.addIndexed(prefix+"eff_run_as_user", func(index int, _ string) ir.Extract {
		return effective(index, compatible, "runAsUser", list...)
	})
	f.addIndexed(prefix+"eff_run_as_group", func(index int, _ string) ir.Extract {
		return effective(index, compatible, "runAsGroup", list...)
	})
	if kind != "ephemeralContainers" {
		path := append(slices.Clone(list), "ports")
		f.addIndexed(prefix+"host_port", func(index int, _ string) ir.Extract { return hostPorts(index, path...) })
	}
	if kind != "containers" {
		return
	}
	// The deprecated fields of a single container.
	f.add("ka.req.container.image", definition{needs: needsRequest, extract: fixed(complete(0, nil, image...))})
	f.add("ka.req.container.image.repository", definition{needs: needsRequest, extract: fixed(complete(0, repository, image...))})
	f.add("ka.req.container.privileged", definition{needs: needsRequest, extract: fixed(anyPrivileged)})
}

// addObjects adds what stands in objects other than pods, and sourceips.
func (f *fields) addObjects(compatible bool) {
	f.add("ka.req.binding.subjects", definition{list: true, path: []string{"requestObject", "subjects"}})
	for name, kind := range map[string]string{
		"user_names": "User", "group_names": "Group", "serviceaccount_names": "ServiceAccount",
	} {
		f.add("ka.req.binding.subjects."+name, definition{
			list: true, needs: needsRequest, extract: fixed(subjectNames(kind, false)),
		})
	}
	f.add("ka.req.binding.subjects.serviceaccount_ns_names", definition{
		list: true, needs: needsRequest, extract: fixed(subjectNames("ServiceAccount", true)),
	})
	f.addPath("ka.req.binding.role", "requestObject", "roleRef", "name")
	hasName := definition{argument: keyArgument, extract: fixed(nothing)}
	if compatible {
		hasName.extract = fixed(constant("true"))
	}
	f.add("ka.req.binding.subject.has_name", hasName)
	f.addPath("ka.req.configmap.name", "objectRef", "name")
	f.addPath("ka.req.configmap.obj", "requestObject", "data")
	f.add("ka.req.role.rules", definition{list: true, path: []string{"requestObject", "rules"}})
	for _, name := range []string{"apiGroups", "nonResourceURLs", "verbs", "resources"} {
		f.addIndexed("ka.req.role.rules."+name, func(index int, _ string) ir.Extract {
			return flattened(index, "requestObject", "rules", name)
		})
	}
	f.addPath("ka.req.service.type", "requestObject", "spec", "type")
	f.addIndexed("ka.req.service.ports", func(int, string) ir.Extract { // the index counts for nothing
		return gathered(noIndex, "requestObject", "spec", "ports")
	})
	if compatible {
		f.addIndexed("ka.sourceips", func(index int, _ string) ir.Extract {
			return flattened(index, "requestObject", "rules", "sourceIPs")
		})
		return
	}
	f.add("ka.sourceips", definition{list: true, argument: indexArgument, path: []string{"sourceIPs"}})
}

// addGeneric adds the fields of the json plugin and of every event. Those of numbers that only the
// engine of Falco gives to events, such as evt.num, do not exist.
func (f *fields) addGeneric() {
	for _, plugin := range []string{"jevt.", "json."} {
		f.add(plugin+"value", definition{argument: keyArgument})
		f.add(plugin+"obj", definition{extract: fixed(indented)})
		f.add(plugin+"rawtime", definition{extract: fixed(rawTime(unixNano))})
	}
	for name, layout := range map[string]string{
		"evt.time": "15:04:05.000000000", "evt.time.s": "15:04:05",
		"evt.time.iso8601": "2006-01-02T15:04:05.000000000-0700",
		"evt.datetime":     "2006-01-02 15:04:05.000000000", "evt.datetime.s": "2006-01-02 15:04:05",
	} {
		f.add(name, definition{extract: fixed(formatTime(layout))})
	}
	f.add("evt.rawtime", definition{number: true, extract: fixed(rawTime(unixNano))})
	f.add("evt.rawtime.s", definition{number: true, extract: fixed(rawTime(unixSeconds))})
	f.add("evt.rawtime.ns", definition{number: true, extract: fixed(rawTime(nanosecond))})
	for name, value := range map[string]string{
		"evt.source": Source, "evt.pluginname": "k8saudit", "evt.type": "pluginevent",
	} {
		f.add(name, definition{always: value, extract: fixed(constant(value))})
	}
}

// resolve returns the field of that name; unknown says that there is none, which a rule may ask to
// overlook, other errors are wrong arguments.
func (f *fields) resolve(name, arg string, hasArg bool) (resolved *field, unknown bool, problem, remedy string) {
	d, ok := f.byName[name]
	if !ok {
		return nil, true, fmt.Sprintf("%s is no field of source %s", name, Source), f.nearest(name)
	}
	name = strings.Replace(name, "json.", "jevt.", 1)
	full, index := name, noIndex
	switch {
	case hasArg:
		full += "[" + arg + "]"
		if d.argument == noArgument {
			return nil, false, name + " takes no argument", "remove the brackets"
		}
		if d.argument == indexArgument {
			if index, ok = parseIndex(arg); !ok {
				return nil, false, fmt.Sprintf("the argument of %s must be an index, is %q", name, arg),
					"write digits without a leading zero"
			}
		}
	case d.argument == keyArgument:
		return nil, false, name + " needs an argument", "write " + name + "[…]"
	}
	r := &field{name: full, list: d.list, number: d.number, needs: d.needs}
	path := d.path
	if name == "jevt.value" {
		path = pointer(arg)
		r.needs |= needsOf(path)
	}
	switch {
	case d.always != "":
		r.always, r.extract = &d.always, d.extract(index, arg)
	case d.extract != nil:
		r.extract = d.extract(index, arg)
	case d.list:
		r.extract = memberTexts(index, path...)
	case name == "jevt.value":
		r.extract = pointed(path)
	default:
		r.extract = textAt(path...)
	}
	if d.extract == nil && index == noIndex {
		r.column = f.column(path, d.list)
	}
	return r, false, "", ""
}

// column returns the column that holds exactly the text at a path of the event. Where it holds none,
// Strict makes the original bytes decide, if that makes a difference.
func (f *fields) column(path []string, isList bool) *ir.Field {
	joined := strings.Join(path, ".")
	// The column of an attribute of user.extra holds its first value, the event a list of them.
	if slices.Contains(path, "") || strings.Contains(joined, `\`) || slices.Contains(path, "extra") {
		return nil
	}
	c, ok := f.columns.Resolve(joined)
	if ok && c.Source == ir.Entry && path[0] == "annotations" && len(path) == 2 && !isList {
		return &c
	}
	if !ok || c.Source != ir.Column || !slices.Equal(c.Path, path) {
		return nil
	}
	types := []schemas.Type{schemas.TypeDict, schemas.TypeString, schemas.TypeUint16}
	if isList {
		types = []schemas.Type{schemas.TypeStrings, schemas.TypeDicts}
	}
	if !slices.Contains(types, c.Type) {
		return nil
	}
	return &c
}

func parseIndex(s string) (int, bool) {
	if s == "" || len(s) > 1 && s[0] == '0' || span(s, isDigit) < len(s) {
		return 0, false
	}
	index, err := strconv.Atoi(s)
	return index, err == nil
}

func (f *fields) nearest(name string) string {
	nearest := ir.Nearest(name, func(yield func(string) bool) {
		for known := range f.byName {
			if !yield(known) {
				return
			}
		}
	})
	if nearest == "" {
		return "the fields are ka.*, jevt.* and evt.time"
	}
	return "did you mean " + nearest + "?"
}

// longest returns the longest name of a field that s begins with; empty if there is none.
func (f *fields) longest(s string) string {
	end := 0
	for end < len(s) && (isAlphanumeric(s[end]) || s[end] == '.' || s[end] == '_') {
		end++
	}
	for ; end > 0; end-- {
		if _, ok := f.byName[s[:end]]; ok {
			return s[:end]
		}
	}
	return ""
}
