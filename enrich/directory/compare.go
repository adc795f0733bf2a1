package directory

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/enrich/context"
)

// Field is a field of an object that differs.
type Field struct {
	Name string `json:"field"`
	// Of a field with one value.
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Of a field with several.
	Removed []string `json:"removed,omitempty"`
	Added   []string `json:"added,omitempty"`
}

// String writes the field in a line.
func (f *Field) String() string {
	if len(f.Removed)+len(f.Added) == 0 {
		return f.Name + " " + orNothing(f.Before) + " → " + orNothing(f.After)
	}
	parts := []string{f.Name}
	for _, v := range f.Removed {
		parts = append(parts, "-"+v)
	}
	for _, v := range f.Added {
		parts = append(parts, "+"+v)
	}
	return strings.Join(parts, " ")
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

// Compare returns the fields in which two objects differ, sorted. Versions and times of the API server do not count. Either
// may be nil.
func Compare(before, after *context.Object) (fields []Field) {
	if reflect.DeepEqual(before, after) {
		return nil // as nearly all are that are imported again
	}
	b, a := flatten(before), flatten(after)
	names := slices.Collect(maps.Keys(b))
	for name := range a {
		if _, has := b[name]; !has {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		was, is := b[name], a[name]
		if slices.Equal(was.values, is.values) {
			continue
		}
		f := Field{Name: name}
		if was.several || is.several {
			f.Removed, f.Added = without(was.values, is.values), without(is.values, was.values)
			if len(f.Removed)+len(f.Added) == 0 {
				continue // another order
			}
		} else {
			f.Before, f.After = strings.Join(was.values, ""), strings.Join(is.values, "")
		}
		fields = append(fields, f)
	}
	return fields
}

func without(all, those []string) (rest []string) {
	has := make(map[string]bool, len(those))
	for _, v := range those {
		has[v] = true
	}
	for _, v := range all {
		if !has[v] {
			rest = append(rest, v)
		}
	}
	return rest
}

// value is a field of an object as text.
type value struct {
	values  []string
	several bool
}

// flatten returns the fields of an object by their paths.
func flatten(o *context.Object) map[string]value {
	fields := map[string]value{}
	if o == nil {
		return fields
	}
	text, err := json.Marshal(o)
	if err != nil {
		return fields // an Object has nothing that JSON cannot hold
	}
	var tree map[string]any
	if json.Unmarshal(text, &tree) != nil {
		return fields
	}
	if m, ok := tree["metadata"].(map[string]any); ok {
		delete(m, "resourceVersion")
		delete(m, "creationTimestamp")
	}
	for _, wrapper := range []string{"person", "group", "range", "pod", "node", "credential"} {
		if inner, ok := tree[wrapper].(map[string]any); ok {
			delete(tree, wrapper)
			maps.Copy(tree, inner)
		}
	}
	flattenInto(fields, "", tree)
	return fields
}

func flattenInto(fields map[string]value, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if path != "" {
				name = path + "." + name
			}
			flattenInto(fields, name, inner)
		}
	case []any:
		if len(v) == 0 {
			return
		}
		all := value{several: true}
		for _, inner := range v {
			all.values = append(all.values, plainText(inner))
		}
		fields[path] = all
	default:
		if text := plainText(v); text != "" {
			fields[path] = value{values: []string{text}}
		}
	}
}

func plainText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case map[string]any:
		if ip, ok := v["ip"].(string); ok && len(v) == 1 {
			return ip // of a pod
		}
		if text, ok := subjectText(v); ok {
			return text
		}
		if text, ok := ruleText(v); ok {
			return text
		}
	}
	text, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(text)
}

// subjectText writes what has a kind and a name, such as a subject or an owner.
func subjectText(v map[string]any) (string, bool) {
	kind, hasKind := v["kind"].(string)
	name, hasName := v["name"].(string)
	if namespace, ok := v["namespace"].(string); ok {
		name = namespace + "/" + name
	}
	return kind + " " + name, hasKind && hasName
}

// ruleText writes a rule of a role: verbs, groups and resources, names and paths, each if there are any.
func ruleText(v map[string]any) (string, bool) {
	if _, ok := v["verbs"]; !ok {
		return "", false
	}
	var parts []string
	for _, name := range []string{"verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"} {
		list, ok := v[name].([]any)
		if !ok || len(list) == 0 {
			continue
		}
		texts := make([]string, len(list))
		for i := range list {
			if texts[i] = plainText(list[i]); texts[i] == "" {
				texts[i] = "core"
			}
		}
		parts = append(parts, name+"="+strings.Join(texts, ","))
	}
	return "(" + strings.Join(parts, " ") + ")", true
}
