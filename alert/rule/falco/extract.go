package falco

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/internal/jsonscan"
)

// noIndex takes all members of an array.
const noIndex = -1

// lookup returns what stands at a path of object keys; false if nothing does.
func lookup(v []byte, path ...string) ([]byte, bool) {
	for _, key := range path {
		if v = v[jsonscan.SkipSpace(v, 0):]; len(v) == 0 || v[0] != '{' {
			return nil, false
		}
		var ok bool
		if v, ok = jsonscan.Get(v, key); !ok {
			return nil, false
		}
	}
	return v, true
}

// find is lookup from the event itself. The API server writes no member of an event twice, so what stands
// behind the one that is asked for is not read: it may be large.
func find(event []byte, path ...string) ([]byte, bool) {
	for it := jsonscan.Object(event); it.Next(); {
		if jsonscan.KeyIs(it.Key(), path[0]) {
			return lookup(it.Value(), path[1:]...)
		}
	}
	return nil, false
}

// add adds the text of a value: of a string its meaning, of all others their JSON without white space.
func add(out *ir.Values, v []byte) {
	switch {
	case v[0] == '"' && jsonscan.Plain(v[1:len(v)-1]):
		out.AddBytes(v[1 : len(v)-1])
	case v[0] == '"':
		s, _ := jsonscan.String(v)
		out.Add(s)
	case (v[0] == '{' || v[0] == '[') && bytes.ContainsAny(v, " \t\r\n"):
		var b bytes.Buffer
		if json.Compact(&b, v) == nil {
			out.AddCopy(b.Bytes())
		}
	default:
		out.AddBytes(v)
	}
}

// text returns what add adds.
func textOf(v []byte) string {
	var out ir.Values
	add(&out, v)
	return first1(out.Texts())
}

func first1(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return texts[0]
}

// textAt extracts the value at a path.
func textAt(path ...string) ir.Extract {
	return func(event []byte, out *ir.Values) {
		if v, ok := find(event, path...); ok {
			add(out, v)
		}
	}
}

// memberTexts extracts the members of the array at a path, or the one with an index.
func memberTexts(index int, path ...string) ir.Extract {
	return func(event []byte, out *ir.Values) {
		v, ok := find(event, path...)
		if !ok || v[0] != '[' {
			return
		}
		i := 0
		for it := jsonscan.Array(v); it.Next(); i++ {
			if index == noIndex || index == i {
				add(out, it.Value())
			}
		}
	}
}

// gather calls visit for each value at a path on which arrays are looked through; nil stands for a
// member of an array that has no such value. An index takes one member of the arrays. false: there is
// no such path at all, or no such member.
func gather(v []byte, index int, path []string, visit func([]byte)) bool {
	for i, key := range path {
		if v[0] == '[' {
			if index == noIndex {
				for it := jsonscan.Array(v); it.Next(); {
					if !gather(it.Value(), index, path[i:], visit) {
						visit(nil)
					}
				}
				return true
			}
			var ok bool
			if v, ok = member(v, index); !ok {
				return false
			}
		}
		if key == "" { // the members themselves
			continue
		}
		var ok bool
		if v, ok = lookup(v, key); !ok {
			return false
		}
	}
	visit(v)
	return true
}

func member(array []byte, index int) ([]byte, bool) {
	it := jsonscan.Array(array)
	for i := 0; it.Next(); i++ {
		if i == index {
			return it.Value(), true
		}
	}
	return nil, false
}

// values calls visit for the values of an event at a path; see gather.
func values(event []byte, index int, path []string, visit func([]byte)) bool {
	v, ok := find(event, path[0])
	return ok && gather(v, index, path[1:], visit)
}

// gathered extracts the values at a path, looking through arrays; members without one are passed over.
func gathered(index int, path ...string) ir.Extract {
	return func(event []byte, out *ir.Values) {
		values(event, index, path, func(v []byte) {
			if v != nil {
				add(out, v)
			}
		})
	}
}

// complete is gathered, but one member without a value makes the whole field absent. change, unless
// nil, is applied to each.
func complete(index int, change func(string) string, path ...string) ir.Extract {
	return func(event []byte, out *ir.Values) {
		whole := true
		values(event, index, path, func(v []byte) { whole = whole && v != nil })
		if !whole {
			return
		}
		values(event, index, path, func(v []byte) {
			if change == nil {
				add(out, v)
				return
			}
			out.Add(change(textOf(v)))
		})
	}
}

// repositoryOf cuts digest and tag off an image.
func repositoryOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[:i]
	}
	return image
}

// repositoryOfCompatible takes the port of a registry for a tag, as Falco does.
func repositoryOfCompatible(image string) string {
	image, _, _ = strings.Cut(image, ":")
	image, _, _ = strings.Cut(image, "@")
	return image
}

// joined extracts the arrays at a path, the members of each joined by a space.
func joined(index int, path ...string) ir.Extract {
	return func(event []byte, out *ir.Values) {
		values(event, index, path, func(v []byte) {
			if v == nil || v[0] != '[' {
				return
			}
			var words []string
			for it := jsonscan.Array(v); it.Next(); {
				words = append(words, textOf(it.Value()))
			}
			out.Add(strings.Join(words, " "))
		})
	}
}

// flattened extracts the members of the arrays at a path.
func flattened(index int, path ...string) ir.Extract {
	return func(event []byte, out *ir.Values) {
		values(event, index, path, func(v []byte) {
			if v == nil || v[0] != '[' {
				return
			}
			for it := jsonscan.Array(v); it.Next(); {
				add(out, it.Value())
			}
		})
	}
}

// effective extracts, for each container, the value of its security context, else that of the pod's,
// else 0. Falco looks for both outside the security context, where they never are.
func effective(index int, compatible bool, key string, containers ...string) ir.Extract {
	if compatible {
		path := append(append([]string(nil), containers...), key)
		return func(event []byte, out *ir.Values) {
			pod := podValue(event, "requestObject", "spec", key)
			values(event, index, path, func(v []byte) {
				if v == nil {
					out.Add(pod)
					return
				}
				add(out, v)
			})
		}
	}
	return func(event []byte, out *ir.Values) {
		pod := podValue(event, "requestObject", "spec", "securityContext", key)
		values(event, index, append(append([]string(nil), containers...), ""), func(container []byte) {
			if v, ok := lookup(container, "securityContext", key); ok && v[0] != 'n' {
				add(out, v)
				return
			}
			out.Add(pod)
		})
	}
}

func podValue(event []byte, path ...string) string {
	if v, ok := find(event, path...); ok && v[0] != 'n' {
		return textOf(v)
	}
	return "0"
}

// hostPorts extracts the host port of each port, else its container port.
func hostPorts(index int, path ...string) ir.Extract {
	return func(event []byte, out *ir.Values) {
		good := true
		values(event, index, path, func(v []byte) { good = good && (v == nil || v[0] == '[') })
		if !good {
			return
		}
		values(event, index, path, func(v []byte) {
			if v == nil {
				return
			}
			for it := jsonscan.Array(v); it.Next(); {
				port, ok := lookup(it.Value(), "hostPort")
				if !ok {
					port, ok = lookup(it.Value(), "containerPort")
				}
				if ok {
					add(out, port)
				}
			}
		})
	}
}

func anyPrivileged(event []byte, out *ir.Values) {
	is := "false"
	if values(event, noIndex, []string{"requestObject", "spec", "containers", "securityContext", "privileged"}, func(v []byte) {
		if string(v) == "true" {
			is = "true"
		}
	}) {
		out.Add(is)
	}
}

// volumeTypes extracts every key of the volumes but their name.
func volumeTypes(index int) ir.Extract {
	return func(event []byte, out *ir.Values) {
		values(event, index, []string{"requestObject", "spec", "volumes", ""}, func(v []byte) {
			if v == nil || v[0] != '{' {
				return
			}
			for it := jsonscan.Object(v); it.Next(); {
				if !jsonscan.KeyIs(it.Key(), "name") {
					out.AddBytes(it.Key())
				}
			}
		})
	}
}

// hasHostPath extracts whether a volume mounts a path of the host, or what begins with it if it ends in *.
func hasHostPath(path string) ir.Extract {
	prefix, isPrefix := strings.CutSuffix(path, "*")
	return func(event []byte, out *ir.Values) {
		is := "false"
		if values(event, noIndex, []string{"requestObject", "spec", "volumes", "hostPath", "path"}, func(v []byte) {
			if v == nil {
				return
			}
			if text := textOf(v); text == path || isPrefix && strings.HasPrefix(text, prefix) {
				is = "true"
			}
		}) {
			out.Add(is)
		}
	}
}

// subjectNames extracts the names of a binding's subjects of one kind.
func subjectNames(kind string, withNamespace bool) ir.Extract {
	return func(event []byte, out *ir.Values) {
		subjects, ok := find(event, "requestObject", "subjects")
		if !ok || subjects[0] != '[' {
			return
		}
		for it := jsonscan.Array(subjects); it.Next(); {
			if k, ok := lookup(it.Value(), "kind"); !ok || textOf(k) != kind {
				continue
			}
			name, ok := lookup(it.Value(), "name")
			if !ok {
				continue
			}
			if !withNamespace {
				add(out, name)
				continue
			}
			if namespace, ok := lookup(it.Value(), "namespace"); ok {
				out.Add(textOf(namespace) + ":" + textOf(name))
			}
		}
	}
}

// targetPod extracts the name that the API server gave to a pod.
func targetPod(event []byte, out *ir.Values) {
	if v, ok := find(event, "objectRef", "resource"); !ok || textOf(v) != "pods" {
		return
	}
	if _, ok := find(event, "objectRef", "subresource"); ok {
		return
	}
	textAt("responseObject", "metadata", "name")(event, out)
}

// uriParameter extracts the first value of a parameter of the request's query.
func uriParameter(key string) ir.Extract {
	return func(event []byte, out *ir.Values) {
		v, ok := find(event, "requestURI")
		if !ok {
			return
		}
		uri, err := url.Parse(textOf(v))
		if err != nil {
			return
		}
		query, err := url.ParseQuery(uri.RawQuery)
		if err != nil {
			return
		}
		if values := query[key]; len(values) > 0 {
			out.Add(values[0])
		}
	}
}

// pointer splits a JSON pointer (RFC 6901).
func pointer(s string) []string {
	keys := strings.Split(strings.TrimPrefix(s, "/"), "/")
	for i, key := range keys {
		keys[i] = strings.ReplaceAll(strings.ReplaceAll(key, "~1", "/"), "~0", "~")
	}
	return keys
}

// pointed extracts the value that a JSON pointer leads to.
func pointed(path []string) ir.Extract {
	return func(event []byte, out *ir.Values) {
		v, ok := find(event, path[0])
		for _, key := range path[1:] {
			if !ok {
				return
			}
			if v[0] == '[' {
				index, err := strconv.Atoi(key)
				if err != nil {
					return
				}
				v, ok = member(v, index)
			} else {
				v, ok = lookup(v, key)
			}
		}
		if ok {
			add(out, v)
		}
	}
}

func nothing([]byte, *ir.Values) {}

func constant(value string) ir.Extract {
	return func(_ []byte, out *ir.Values) { out.Add(value) }
}

// indented extracts the whole event, indented.
func indented(event []byte, out *ir.Values) {
	var b bytes.Buffer
	if json.Indent(&b, bytes.TrimSpace(event), "", "  ") == nil {
		out.AddCopy(b.Bytes())
	}
}

// stageTime is the time that an event has for Falco.
func stageTime(event []byte) (time.Time, bool) {
	v, ok := find(event, "stageTimestamp")
	if !ok {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, textOf(v))
	return t.UTC(), err == nil
}

func formatTime(layout string) ir.Extract {
	return func(event []byte, out *ir.Values) {
		if t, ok := stageTime(event); ok {
			out.Add(t.Format(layout))
		}
	}
}

func rawTime(number func(time.Time) int64) ir.Extract {
	return func(event []byte, out *ir.Values) {
		if t, ok := stageTime(event); ok {
			out.Add(strconv.FormatInt(number(t), 10))
		}
	}
}

func unixNano(t time.Time) int64    { return t.UnixNano() }
func unixSeconds(t time.Time) int64 { return t.Unix() }
func nanosecond(t time.Time) int64  { return int64(t.Nanosecond()) }
