package conf

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"
)

type kind int

const (
	section kind = iota // a struct
	scalar              // one text
	secret              // a Secret, with its _file sibling
	list                // a list of scalars
	structs             // a list of structs
)

// field is one key. Keys inside a list of structs are written without an index.
type field struct {
	key    string // full, with dots; empty for the root
	name   string // the last part
	doc    string
	kind   kind
	typ    reflect.Type
	index  int
	fields []*field // of a section, or of the elements of structs
}

func schemaOf(t reflect.Type) (*field, error) {
	root := &field{kind: section, typ: t}
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("conf: %s is not a struct", t)
	}
	if err := root.addFields(t); err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, f := range root.leaves() {
		for _, name := range f.envNames() {
			if other, ok := names[name]; ok {
				return nil, fmt.Errorf("conf: %s and %s share the variable %s", other, f.key, name)
			}
			names[name] = f.key
		}
	}
	return root, nil
}

func (f *field) addFields(t reflect.Type) error {
	for i := range t.NumField() {
		sf := t.Field(i)
		tag := sf.Tag.Get("mapstructure")
		if tag == "-" || !sf.IsExported() {
			continue
		}
		if tag == "" || strings.ContainsAny(tag, ",.") || tag != strings.ToLower(tag) {
			return fmt.Errorf("conf: %s.%s: the tag mapstructure must hold a key in snake case",
				t, sf.Name)
		}
		sub := &field{
			key: join(f.key, tag), name: tag, doc: sf.Tag.Get("doc"), typ: sf.Type, index: i,
		}
		if err := sub.classify(sf.Type); err != nil {
			return err
		}
		f.fields = append(f.fields, sub)
	}
	return nil
}

func (f *field) classify(t reflect.Type) error {
	switch {
	case t == reflect.TypeFor[Secret]():
		f.kind = secret
		return nil
	case isScalar(t):
		f.kind = scalar
		return nil
	case t.Kind() == reflect.Struct:
		f.kind = section
		return f.addFields(t)
	case t.Kind() == reflect.Slice && isScalar(t.Elem()) && t.Elem() != reflect.TypeFor[Secret]():
		f.kind = list
		return nil
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		f.kind = structs
		return f.addFields(t.Elem())
	}
	return fmt.Errorf("conf: %s: a field of type %s cannot be configured", f.key, t)
}

func isScalar(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	}
	return false
}

func join(parent, name string) string {
	if parent == "" {
		return name
	}
	return parent + "." + name
}

// leaves are the fields that a source gives as a whole, in the order of the struct.
func (f *field) leaves() []*field {
	if f.kind != section {
		return []*field{f}
	}
	var out []*field
	for _, sub := range f.fields {
		out = append(out, sub.leaves()...)
	}
	return out
}

// envNames lists the variables that set a leaf; for a secret also the one with its file.
func (f *field) envNames() []string {
	name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.key, ".", "_"))
	if f.kind == secret {
		return []string{name, name + "_FILE"}
	}
	return []string{name}
}

// child finds the field for a key as written; byFile says that the key names the file of
// a secret.
func (f *field) child(name string) (sub *field, byFile bool) {
	for _, s := range f.fields {
		if s.name == name {
			return s, false
		}
	}
	base, ok := strings.CutSuffix(name, "_file")
	if !ok {
		return nil, false
	}
	for _, s := range f.fields {
		if s.name == base && s.kind == secret {
			return s, true
		}
	}
	return nil, false
}

// find returns the field with a full key; indices of list elements are skipped.
func (f *field) find(key string) (sub *field, byFile bool) {
	sub = f
	for part := range strings.SplitSeq(key, ".") {
		part, _, _ = strings.Cut(part, "[")
		if sub, byFile = sub.child(part); sub == nil {
			return nil, false
		}
	}
	return sub, byFile
}

// keys lists every key that may be written, for suggestions.
func (f *field) keys() []string {
	var out []string
	for _, sub := range f.fields {
		out = append(out, sub.key)
		if sub.kind == secret {
			out = append(out, sub.key+"_file")
		}
		out = append(out, sub.keys()...)
	}
	return out
}

// typeName is the type in the words of the reference.
func (f *field) typeName() string {
	switch f.kind {
	case list:
		return "list of " + scalarName(f.typ.Elem())
	case structs:
		return "list"
	default:
		return scalarName(f.typ)
	}
}

func scalarName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[Bytes]():
		return "size"
	case reflect.TypeFor[Secret]():
		return "secret"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
			return "string"
		}
		return "integer"
	}
	return "string"
}
