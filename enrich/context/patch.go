package context

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/auditmill/auditmill/internal/jsonscan"
)

// isApply says whether a patch looks like a server-side apply: the configuration of an object. Events do not record the
// content type.
func isApply(body []byte) bool {
	if body[0] != '{' {
		return false
	}
	_, kind := jsonscan.Get(body, "kind")
	_, version := jsonscan.Get(body, "apiVersion")
	return kind && version
}

// patch applies the body of a patch to an object: a JSON patch, or an object, which for what is kept means the same as
// merge patch, strategic merge patch or apply, because the lists of RBAC objects are replaced as a whole by all of them.
//
// partly says that who applies it owns nothing but what the body has.
func patch(key Key, object *Object, body []byte, partly bool) (*wire, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	var document map[string]any
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	var change any
	if err := json.Unmarshal(body, &change); err != nil {
		return nil, err
	}
	held := object.held
	switch change := change.(type) {
	case []any:
		if held, err = jsonPatchHolds(held, change); err != nil {
			return nil, err
		}
		if err := jsonPatch(document, change); err != nil {
			return nil, err
		}
	case map[string]any:
		applies := isApply(body)
		if applies && drops(document, change, partly) {
			return nil, errors.New("an apply that leaves out a list, or labels, may have removed it")
		}
		if directs(change) {
			return nil, errors.New("a patch with directives, which mean something in a strategic merge patch alone")
		}
		if held, err = mergeHolds(held, change, applies && !partly); err != nil {
			return nil, err
		}
		document = merge(document, change)
	}
	if text, err = json.Marshal(document); err != nil {
		return nil, err
	}
	w, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	w.namespace, w.name, w.finalizers = key.Namespace, key.Name, held
	// Whatever the patch said of these, the API server gave them.
	w.deletion, w.Metadata.UID, w.Metadata.CreationTimestamp = "", object.Metadata.UID, object.Metadata.CreationTimestamp
	return w, nil
}

var errHeld = errors.New("a patch that may have removed the last finalizer")

// jsonPatchHolds says whether an object has finalizers after a JSON patch.
func jsonPatchHolds(held bool, operations []any) (bool, error) {
	for _, o := range operations {
		operation, _ := o.(map[string]any)
		path, ok := pointer(operation["path"])
		from, moves := pointer(operation["from"])
		op := operation["op"]
		if op == "move" && moves && finalizing(from) {
			return false, errHeld
		}
		if !ok || !finalizing(path) || op == "test" {
			continue
		}
		switch list, whole := operation["value"].([]any); {
		case len(path) == 2 && op == "remove":
			held = false
		case len(path) == 2 && whole:
			held = len(list) > 0
		case len(path) == 3 && op == "add":
			held = true
		default:
			return false, errHeld
		}
	}
	return held, nil
}

func finalizing(path []string) bool {
	return len(path) == 1 && path[0] == "metadata" || len(path) > 1 && path[0] == "metadata" && path[1] == "finalizers"
}

// mergeHolds says whether an object has finalizers after a patch that is an object.
func mergeHolds(held bool, change map[string]any, apply bool) (bool, error) {
	metadata, _ := change["metadata"].(map[string]any)
	list, said := metadata["finalizers"]
	_, some := metadata[deleteFrom+"finalizers"]
	all, _ := list.([]any)
	switch {
	case len(all) > 0:
		return true, nil
	case held && (apply || some || said && list != nil): // an empty list means nothing to a strategic merge patch
		return false, errHeld
	case said:
		return false, nil
	}
	return held, nil
}

// deleteFrom begins the name of a directive of strategic merge patches.
const deleteFrom = "$deleteFromPrimitiveList/"

// directs says whether a patch has directives of strategic merge patches. Other patches may have such members too, which
// mean nothing there.
func directs(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			order := strings.HasPrefix(key, "$setElementOrder/") || strings.HasPrefix(key, deleteFrom) // of lists that are not kept
			if strings.HasPrefix(key, "$") && !order || directs(value) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, directs)
	}
	return false
}

// drops says whether something that the object has is missing in the configuration that was applied, and may be gone.
func drops(document, change map[string]any, partly bool) bool {
	lacks := func(field string) bool { return document[field] != nil && change[field] == nil }
	if lacks("rules") || lacks("subjects") || !partly && lacks("aggregationRule") {
		return true
	}
	before, _ := document["metadata"].(map[string]any)
	after, _ := change["metadata"].(map[string]any)
	had, _ := before["labels"].(map[string]any)
	has, _ := after["labels"].(map[string]any)
	for label := range had {
		if _, kept := has[label]; !kept && !partly {
			return true
		}
	}
	return false
}

// merge merges like RFC 7396.
func merge(into, change map[string]any) map[string]any {
	if into == nil {
		into = map[string]any{}
	}
	for key, value := range change {
		switch value := value.(type) {
		case nil:
			delete(into, key)
		case map[string]any:
			inner, _ := into[key].(map[string]any)
			into[key] = merge(inner, value)
		default:
			into[key] = value
		}
	}
	return into
}

// keeps says whether a JSON pointer leads into what is kept of an object.
func keeps(path []string) bool {
	switch path[0] {
	case "rules", "subjects", "roleRef", "aggregationRule":
		return true
	case "metadata":
		return len(path) == 1 || path[1] == "labels" || path[1] == "annotations"
	}
	return false
}

// jsonPatch applies RFC 6902 to what is kept. Tests passed, or the request would have failed.
func jsonPatch(document map[string]any, operations []any) error {
	for i, o := range operations {
		operation, _ := o.(map[string]any)
		op, _ := operation["op"].(string)
		to, ok := pointer(operation["path"])
		if !ok {
			return fmt.Errorf("[%d].path: want a JSON pointer, got %v", i, operation["path"])
		}
		value := operation["value"]
		if op == "move" || op == "copy" {
			from, ok := pointer(operation["from"])
			if !ok {
				return fmt.Errorf("[%d].from: want a JSON pointer, got %v", i, operation["from"])
			}
			if value, ok = find(document, from); !ok && keeps(to) {
				return fmt.Errorf("[%d].from: %v is not known", i, operation["from"])
			}
			value = clone(value)
			if op == "move" && keeps(from) {
				edit(document, from, "remove", nil)
			}
		}
		if op == "test" || !keeps(to) {
			continue
		}
		if !edit(document, to, op, value) && to[0] != "metadata" {
			return fmt.Errorf("[%d]: cannot %s %v", i, op, operation["path"])
		}
	}
	return nil
}

func pointer(v any) (path []string, ok bool) {
	s, _ := v.(string)
	if !strings.HasPrefix(s, "/") {
		return nil, false
	}
	for part := range strings.SplitSeq(s[1:], "/") {
		path = append(path, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
	}
	return path, true
}

func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		c := make(map[string]any, len(v))
		for k, e := range v {
			c[k] = clone(e)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, e := range v {
			c[i] = clone(e)
		}
		return c
	}
	return v
}

func find(v any, path []string) (any, bool) {
	for _, part := range path {
		switch in := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = in[part]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(in) {
				return nil, false
			}
			v = in[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// edit adds, replaces or removes what path leads to, and says whether it could. move and copy add.
func edit(document map[string]any, path []string, op string, value any) bool {
	parent, last := path[:len(path)-1], path[len(path)-1]
	in, ok := find(document, parent)
	if !ok {
		return false
	}
	switch in := in.(type) {
	case map[string]any:
		if op == "remove" {
			_, ok = in[last]
			delete(in, last)
			return ok
		}
		in[last] = value
		return true
	case []any:
		list, ok := splice(in, last, op, value)
		return ok && edit(document, parent, "replace", list)
	}
	return false
}

// splice does to an element of a list what edit does to a member.
func splice(list []any, at, op string, value any) ([]any, bool) {
	adds := op != "remove" && op != "replace"
	i := len(list)
	if at != "-" || !adds {
		var err error
		if i, err = strconv.Atoi(at); err != nil || i < 0 || i > len(list) || i == len(list) && !adds {
			return nil, false
		}
	}
	switch op {
	case "remove":
		return slices.Delete(list, i, i+1), true
	case "replace":
		list[i] = value
		return list, true
	}
	return slices.Insert(list, i, value), true
}
