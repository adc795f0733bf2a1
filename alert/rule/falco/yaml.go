package falco

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// MaxBytes bounds one rule file.
const MaxBytes = 4 << 20

const (
	maxNodes = 500_000 // of a file, aliases followed
	maxAlias = 64
)

// reader reads the YAML of one file.
type reader struct {
	file   *source
	nodes  int
	faults *ir.Faults
}

func (r *reader) at(n *yaml.Node) ir.Position {
	return ir.Position{File: r.file.name, Line: n.Line, Column: n.Column}
}

func (r *reader) fault(n *yaml.Node, field, problem, remedy string) {
	*r.faults = append(*r.faults, ir.Fault{Position: r.at(n), Field: field, Problem: problem, Remedy: remedy})
}

// items returns the items of all documents of the file, null ones left out.
func (r *reader) items() []*yaml.Node {
	if len(r.file.data) > MaxBytes {
		r.fault(&yaml.Node{}, "", fmt.Sprintf("the file is larger than %d bytes", MaxBytes), "split it")
		return nil
	}
	var items []*yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(r.file.data))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return items
		}
		if err != nil {
			r.syntax(err)
			return items
		}
		if len(document.Content) == 0 || isNull(document.Content[0]) {
			continue
		}
		root := r.resolve(document.Content[0])
		if root.Kind != yaml.SequenceNode {
			r.fault(root, "", "a rule file must be a list, is "+kind(root), "begin each rule, macro and list with a dash")
			continue
		}
		for _, item := range root.Content {
			if item = r.resolve(item); !isNull(item) {
				items = append(items, item)
			}
		}
	}
}

func (r *reader) syntax(err error) {
	message, n := strings.TrimPrefix(err.Error(), "yaml: "), &yaml.Node{}
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(message); m != nil {
		n.Line, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
	}
	r.fault(n, "", "not YAML: "+message, "check indentation and quotes")
}

// resolve follows aliases, as far as maxNodes allows.
func (r *reader) resolve(n *yaml.Node) *yaml.Node {
	r.nodes++
	if r.nodes == maxNodes {
		r.fault(n, "", fmt.Sprintf("the file has more than %d nodes, aliases followed", maxNodes), "")
	}
	for i := 0; n.Kind == yaml.AliasNode && i < maxAlias; i++ {
		n = n.Alias
	}
	if r.nodes >= maxNodes {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line, Column: n.Column}
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func kind(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "null"
	}
	return "text"
}

// item is a mapping of a rule file.
type item struct {
	*reader
	node   *yaml.Node
	keys   map[string]*yaml.Node
	values map[string]*yaml.Node
	order  []string
}

// mapping returns n as an item; nil after a fault if it is no mapping.
func (r *reader) mapping(n *yaml.Node, field string) *item {
	if n.Kind != yaml.MappingNode {
		r.fault(n, field, "must be a mapping, is "+kind(n), "")
		return nil
	}
	m := &item{reader: r, node: n, keys: map[string]*yaml.Node{}, values: map[string]*yaml.Node{}}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := r.resolve(n.Content[i]), r.resolve(n.Content[i+1])
		switch {
		case key.Kind != yaml.ScalarNode:
			r.fault(key, field, "a key must be text, is "+kind(key), "")
		case key.ShortTag() == "!!merge":
			r.fault(key, field, "YAML merge keys are not supported", "write the keys out")
		case m.keys[key.Value] != nil:
			r.fault(key, key.Value, "the key stands here twice", "join or remove one of them")
		default:
			m.keys[key.Value], m.values[key.Value] = key, value
			m.order = append(m.order, key.Value)
		}
	}
	return m
}

func (m *item) has(key string) bool { return m.values[key] != nil }

// allow reports keys that are not known.
func (m *item) allow(keys ...string) {
	known := func(yield func(string) bool) {
		for _, key := range keys {
			if !yield(key) {
				return
			}
		}
	}
	for _, key := range m.order {
		found := false
		for _, k := range keys {
			found = found || k == key
		}
		if found {
			continue
		}
		remedy := "the keys here are " + strings.Join(keys, ", ")
		if nearest := ir.Nearest(key, known); nearest != "" {
			remedy = "did you mean " + nearest + "?"
		}
		m.fault(m.keys[key], key, "no such key", remedy)
	}
}

// scalar returns the text of a key, which must not be empty; false if there is none.
func (m *item) scalar(key string) (*scalar, bool) {
	n := m.values[key]
	switch {
	case n == nil:
		m.fault(m.node, key, "is missing", "add it")
	case n.Kind != yaml.ScalarNode || isNull(n):
		m.fault(n, key, "must be text, is "+kind(n), "")
	case n.Value == "":
		m.fault(n, key, "must not be empty", "")
	default:
		return &scalar{file: m.file, node: n}, true
	}
	return nil, false
}

// boolean returns the value of a key; otherwise if it is not there.
func (m *item) boolean(key string, otherwise bool) bool {
	n := m.values[key]
	if n == nil {
		return otherwise
	}
	if n.Kind == yaml.ScalarNode {
		switch strings.ToLower(n.Value) {
		case "true", "yes", "on", "y":
			return true
		case "false", "no", "off", "n":
			return false
		}
	}
	m.fault(n, key, "must be true or false", "")
	return otherwise
}

// scalars returns the texts of a list.
func (m *item) scalars(key string) []*scalar {
	n := m.values[key]
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		m.fault(n, key, "must be a list, is "+kind(n), "")
		return nil
	}
	var texts []*scalar
	for _, v := range n.Content {
		if v = m.resolve(v); v.Kind != yaml.ScalarNode || isNull(v) {
			m.fault(v, key, "a list may hold texts only, here is "+kind(v), "")
			continue
		}
		texts = append(texts, &scalar{file: m.file, node: v})
	}
	return texts
}
