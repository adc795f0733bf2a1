package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// text is a value as the user wrote it; the type of its field decides what it means. A
// string field thus takes 0123 and no as they stand, whatever YAML makes of them.
type text string

// secretFile is the path of a file that holds a secret. It is read only if no source of
// higher rank gives the secret.
type secretFile string

// readFile reads the YAML file into a layer.
func (r *reader) readFile(path string) layer {
	l := newLayer()
	if path == "" {
		return l
	}
	data, err := os.ReadFile(path)
	if err != nil {
		r.fault("", "", fmt.Errorf("reading the configuration file: %w", err))
		return l
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			r.fault("", path, err)
		}
		return l
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		r.fault("", path, errors.New("holds more than one YAML document"))
	}
	w := walker{reader: r, layer: l, place: func(n *yaml.Node) string {
		return path + ":" + strconv.Itoa(n.Line) + ":" + strconv.Itoa(n.Column)
	}}
	w.section(doc.Content[0], r.root, "")
	return l
}

// walker reads YAML nodes against the schema.
type walker struct {
	*reader
	layer layer
	place func(*yaml.Node) string
}

// section reads a mapping. Scalars and lists of the root's tree go into the layer; the
// result holds the values by name for an element of a list of structs.
func (w walker) section(n *yaml.Node, f *field, key string) map[string]any {
	n = resolve(n)
	if n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		w.fault(key, w.place(n), errors.New("must be a section with keys of its own"))
		return nil
	}
	out := map[string]any{}
	seen := map[string]bool{}
	for _, p := range pairs(n) {
		full := join(key, p.key.Value)
		sub, byFile := f.child(p.key.Value)
		switch {
		case sub == nil:
			w.unknown(full, f, p.key)
		case seen[sub.name] && !p.merged:
			w.fault(full, w.place(p.key), errors.New("is given twice"))
		case seen[sub.name]:
			// What the mapping says itself outranks what it merges in.
		default:
			value, ok := w.value(p.value, sub, join(key, sub.name))
			if !ok {
				continue
			}
			seen[sub.name] = true
			w.layer.origins[join(key, sub.name)] = w.place(p.key)
			if t, isText := value.(text); isText && byFile {
				value = secretFile(t)
			}
			out[sub.name] = value
			if !strings.Contains(key, "[") && sub.kind != section {
				w.layer.values[sub.key] = value
			}
		}
	}
	return out
}

func (w walker) unknown(full string, f *field, n *yaml.Node) {
	plain := regexp.MustCompile(`\[[0-9]+\]`).ReplaceAllString(full, "")
	// The neighbours first: a key that exists elsewhere is a worse guess than a typo.
	hint := suggest(plain, f.keys())
	if hint == "" {
		hint = suggest(plain, w.root.keys())
	}
	w.fault(full, w.place(n), errors.New("unknown key"+hint))
}

// value reads the value of one field; ok is false when there is none or it is faulty.
func (w walker) value(n *yaml.Node, f *field, key string) (value any, ok bool) {
	n = resolve(n)
	if n.Tag == "!!null" {
		return nil, false
	}
	switch f.kind {
	case section:
		return w.section(n, f, key), true
	case scalar, secret:
		if n.Kind != yaml.ScalarNode {
			w.fault(key, w.place(n), errors.New("must be a single value"))
			return nil, false
		}
		return text(n.Value), true
	default:
		return w.items(n, f, key)
	}
}

// items reads the value of a list.
func (w walker) items(n *yaml.Node, f *field, key string) (value any, ok bool) {
	if n.Kind != yaml.SequenceNode {
		w.fault(key, w.place(n), errors.New("must be a list, like [a, b]"))
		return nil, false
	}
	items := make([]any, 0, len(n.Content))
	for i, item := range n.Content {
		at := key + "[" + strconv.Itoa(i) + "]"
		w.layer.origins[at] = w.place(item)
		if f.kind == structs {
			items = append(items, w.section(item, f, at))
			continue
		}
		if item = resolve(item); item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			w.fault(at, w.place(item), errors.New("must be a single value"))
			continue
		}
		items = append(items, text(item.Value))
	}
	return items, true
}

type pair struct {
	key, value *yaml.Node
	merged     bool
}

// pairs lists a mapping's own pairs, then those it merges in with "<<". A mapping that
// merges itself adds nothing the second time.
func pairs(n *yaml.Node, within ...*yaml.Node) []pair {
	if slices.Contains(within, n) {
		return nil
	}
	within = append(within, n)
	var own, merged []pair
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Tag != "!!merge" {
			own = append(own, pair{key: key, value: value})
			continue
		}
		sources := []*yaml.Node{value}
		if resolve(value).Kind == yaml.SequenceNode {
			sources = resolve(value).Content
		}
		for _, source := range sources {
			for _, p := range pairs(resolve(source), within...) {
				p.merged = true
				merged = append(merged, p)
			}
		}
	}
	return append(own, merged...)
}

func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// serviceLink matches the variables that Kubernetes adds to every container for a Service
// whose name begins with "auditmill": they look like ours but are not.
var serviceLink = regexp.MustCompile(
	`_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT(_[0-9]+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)?$`)

// readEnv reads the variables with our prefix into a layer.
func (r *reader) readEnv(environ, others []string) layer {
	l := newLayer()
	byName := map[string]*field{}
	for _, f := range r.root.leaves() {
		for _, name := range f.envNames() {
			byName[name] = f
		}
	}
	known := slices.Sorted(maps.Keys(byName))
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(others, name) {
			continue
		}
		f, ok := byName[name]
		switch {
		case ok && value == "":
		case ok:
			r.give(l, f, name != f.envNames()[0], value, name)
		case !serviceLink.MatchString(name):
			r.fault("", name, errors.New("unknown variable"+suggest(name, known)))
		}
	}
	return l
}

// readSettings reads key=value settings, each into a layer of its own.
func (r *reader) readSettings(settings []string) []layer {
	var out []layer
	for _, s := range settings {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			// The text is not repeated: it may hold a secret.
			r.fault("", "--set", errors.New("must have the form key=value"))
			continue
		}
		f, byFile := r.root.find(key)
		switch {
		case f == nil:
			r.fault(key, "--set", errors.New("unknown key"+suggest(key, r.root.keys())))
		case f.kind == section:
			r.fault(key, "--set", errors.New("is a section; set one of its keys"))
		case f.key != key && f.key+"_file" != key || r.insideList(f.key):
			r.fault(key, "--set", errors.New("is inside a list; set the whole list"))
		case f.kind == secret && !byFile:
			r.fault(key, "--set", fmt.Errorf("is secret and not taken from the command line, "+
				"where others can read it; use %s_file or %s", f.key, f.envNames()[0]))
		default:
			l := newLayer()
			r.give(l, f, byFile, value, "--set "+key)
			out = append(out, l)
		}
	}
	return out
}

func (r *reader) insideList(key string) bool {
	for i := range len(key) {
		if key[i] == '.' {
			if f, _ := r.root.find(key[:i]); f != nil && f.kind == structs {
				return true
			}
		}
	}
	return false
}

// give puts one text from the environment or the command line into a layer.
func (r *reader) give(l layer, f *field, byFile bool, value, where string) {
	if _, twice := l.values[f.key]; twice {
		r.fault(f.key, where, errors.New("is given both as a value and as a file"))
		return
	}
	l.origins[f.key] = where
	switch {
	case byFile:
		l.values[f.key] = secretFile(value)
	case f.kind == structs || f.kind == list && strings.HasPrefix(value, "["):
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(value), &doc); err != nil {
			r.fault(f.key, where, fmt.Errorf("must be a list in YAML or JSON: %w", err))
			return
		}
		w := walker{reader: r, layer: l, place: func(*yaml.Node) string { return where }}
		if v, ok := w.value(doc.Content[0], f, f.key); ok {
			l.values[f.key] = v
		}
	case f.kind == list:
		var items []any
		for item := range strings.SplitSeq(value, ",") {
			l.origins[f.key+"["+strconv.Itoa(len(items))+"]"] = where
			items = append(items, text(strings.TrimSpace(item)))
		}
		l.values[f.key] = items
	default:
		l.values[f.key] = text(value)
	}
}
