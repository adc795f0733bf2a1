package ir

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/auditmill/auditmill/schemas"
)

// Source says where the values of a field come from.
type Source uint8

// The sources of fields.
const (
	Column   Source = iota // a column of the enriched event
	Entry                  // the entry Key of a map column
	Path                   // a path into the event's original bytes
	Leaves                 // every string, number and boolean of the original bytes
	Computed               // what Extract finds in the original bytes
)

// Field is a field of an event as a rule names it, resolved.
type Field struct {
	Name   string // as the rule wrote it
	Source Source
	// Column is the column's name and Type its type, for Column and Entry.
	Column string
	Type   schemas.Type
	Key    string // of an Entry
	// Path leads to the value in the original bytes, if it stands there.
	Path []string
	// Extract finds the values of a Computed field, whose Name tells it from all others.
	Extract Extract
	// Strict says that the rule named the path. A column does not tell an empty value from
	// an absent one: for its name both are the same, for its path the original decides.
	Strict bool
}

// Extract adds the values of a field of an event to out. event is the JSON of the whole event,
// or of a member inside Elements; it may be damaged. No value means that the field is absent.
type Extract func(event []byte, out *Values)

// Values are the values of a Computed field. They are valid until the next Reset.
type Values struct {
	texts []string
	arena []byte
}

// Add adds a value; text must stay unchanged as long as the event does.
func (v *Values) Add(text string) { v.texts = append(v.texts, text) }

// AddBytes adds a value that shares the memory of the event.
func (v *Values) AddBytes(text []byte) {
	v.texts = append(v.texts, unsafe.String(unsafe.SliceData(text), len(text)))
}

// AddCopy adds a value that is copied, such as one from a buffer used again.
func (v *Values) AddCopy(text []byte) {
	if len(v.arena)+len(text) > cap(v.arena) { // earlier values keep the memory they point into
		v.arena = make([]byte, 0, max(1024, 2*len(text)))
	}
	start := len(v.arena)
	v.arena = append(v.arena, text...)
	v.AddBytes(v.arena[start:])
}

// Texts returns the values.
func (v *Values) Texts() []string { return v.texts }

// Reset forgets the values and keeps the memory.
func (v *Values) Reset() { v.texts, v.arena = v.texts[:0], v.arena[:0] }

// String is equal for fields with equal values.
func (f Field) String() string {
	switch f.Source {
	case Column:
		if f.Strict {
			return strings.Join(f.Path, "/")
		}
		return f.Column
	case Entry:
		return fmt.Sprintf("%s[%q]", f.Column, f.Key)
	case Path:
		return fmt.Sprintf("raw %q", f.Path)
	case Leaves:
		return "anywhere"
	case Computed:
		return f.Name
	}
	return f.Name
}

// WholeEvent is the field that keywords are looked for in.
func WholeEvent() Field { return Field{Source: Leaves} }

// Fields resolves the names of fields: column names, paths of an audit.k8s.io Event, and
// the aliases of the Sigma taxonomy for Kubernetes.
type Fields struct {
	byName map[string]Field
	maps   map[string]Field // map columns by their prefix, dot included
	roots  []string         // paths below which everything is allowed, dot included
}

// NewFields returns the fields of this build's columns.
func NewFields() *Fields {
	f := &Fields{byName: map[string]Field{}, maps: map[string]Field{}}
	for _, c := range schemas.Columns() {
		field := Field{Name: c.Name, Source: Column, Column: c.Name, Type: c.Type}
		f.byName[c.Name] = field
		isMap := c.Type == schemas.TypeMap || c.Type == schemas.TypeMapList
		if isMap {
			f.maps[c.Name+"."] = field
		}
		if c.Path == "" {
			continue
		}
		field.Path, field.Strict = SplitPath(c.Path), true
		if isMap {
			f.maps[c.Path+"."] = field
		}
		if c.Type == schemas.TypeTime { // the text of a time stands in the original only
			field = Field{Source: Path, Path: field.Path, Strict: true}
		}
		f.byName[c.Path] = field
	}
	f.addPaths()
	return f
}

// addPaths adds what has no column of its own, and the aliases.
func (f *Fields) addPaths() {
	for _, path := range []string{
		"kind", "apiVersion", "impersonatedUser", "objectRef", "responseStatus",
		"authenticationMetadata", "requestObject", "responseObject",
		"responseStatus.metadata", "responseStatus.details",
	} {
		f.byName[path] = Field{Name: path, Source: Path, Path: SplitPath(path), Strict: true}
	}
	f.roots = []string{"requestObject.", "responseObject.", "responseStatus.details.", "responseStatus.metadata."}
	for alias, path := range map[string]string{
		"apiGroup":     "objectRef.apiGroup",
		"username":     "user.username",
		"hostPath":     "requestObject.spec.volumes.hostPath",
		"capabilities": "requestObject.spec.containers.securityContext.capabilities.add",
		"privileged":   "requestObject.spec.containers.securityContext.privileged",
	} {
		field, _ := f.Resolve(path)
		f.byName[alias] = field
	}
}

// Resolve returns the field of that name; false if there is none.
func (f *Fields) Resolve(name string) (Field, bool) {
	if field, ok := f.byName[name]; ok {
		field.Name = name
		return field, true
	}
	for prefix, field := range f.maps {
		if key, ok := strings.CutPrefix(name, prefix); ok && key != "" {
			return Field{Name: name, Source: Entry, Column: field.Column, Type: field.Type, Key: unescape(key)}, true
		}
	}
	for _, root := range f.roots {
		if strings.HasPrefix(name, root) {
			path := SplitPath(name)
			for _, key := range path {
				// A bracket would be an index or a quantifier, which are not supported.
				if key == "" || strings.ContainsAny(key, "[]") {
					return Field{}, false
				}
			}
			return Field{Name: name, Source: Path, Path: path, Strict: true}, true
		}
	}
	return Field{}, false
}

// Nearest returns the known name that is most like name; empty if none is.
func (f *Fields) Nearest(name string) string {
	return Nearest(name, func(yield func(string) bool) {
		for known := range f.byName {
			if !yield(known) {
				return
			}
		}
	})
}

// SplitPath splits a path at its dots. `\.` is a dot inside a key. Below labels,
// annotations and the other string maps of Kubernetes the rest is one key, since theirs
// have dots: metadata.labels.app.kubernetes.io/name.
func SplitPath(path string) []string {
	var keys []string
	for {
		i := 0
		for i < len(path) && path[i] != '.' {
			if path[i] == '\\' && i+1 < len(path) {
				i++
			}
			i++
		}
		key := unescape(path[:i])
		keys = append(keys, key)
		if i == len(path) {
			return keys
		}
		path = path[i+1:]
		if isStringMap(key) {
			return append(keys, unescape(path))
		}
	}
}

func isStringMap(key string) bool {
	switch key {
	case "annotations", "labels", "matchLabels", "nodeSelector", "extra", "data", "stringData", "binaryData":
		return true
	}
	return false
}

func unescape(key string) string { return strings.ReplaceAll(key, `\.`, ".") }

// Nearest returns the one of known that is most like name; empty if none is like it.
func Nearest(name string, known func(yield func(string) bool)) string {
	if len(name) > 200 { // nobody mistypes that, and comparing takes long
		return ""
	}
	best, distance := "", min(len(name)/2, 4)+1
	for candidate := range known {
		d := editDistance(strings.ToLower(name), strings.ToLower(candidate))
		if i := strings.LastIndexByte(candidate, '.'); i >= 0 { // objectRef is often forgotten
			d = min(d, 1+editDistance(strings.ToLower(name), strings.ToLower(candidate[i+1:])))
		}
		if d < distance || d == distance && best != "" && candidate < best {
			best, distance = candidate, d
		}
	}
	return best
}

func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
