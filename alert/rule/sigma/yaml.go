package sigma

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// documents returns the documents of a file, those of the old form with actions made whole:
// what follows action: global gets its keys, until action: reset; action: repeat is the document
// before it with other keys.
func (p *parser) documents(data []byte) []*yaml.Node {
	var documents []*yaml.Node
	var global, previous *yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return documents
		}
		if err != nil {
			p.syntax(err)
			return documents
		}
		if len(document.Content) == 0 || isNull(document.Content[0]) {
			continue
		}
		d := document.Content[0]
		switch action := p.action(d); action {
		case "global":
			global, previous = d, d
			continue
		case "reset":
			global = nil
			continue
		case "repeat":
			if previous == nil {
				p.fault(d, "action", "there is no document before it to repeat", "remove action: repeat")
				continue
			}
			d = p.merge(previous, d, 0)
		}
		previous = d
		if global != nil {
			d = p.merge(global, d, 0)
		}
		documents = append(documents, d)
	}
}

// action removes the key from d and returns its value.
func (p *parser) action(d *yaml.Node) string {
	if d.Kind != yaml.MappingNode {
		return ""
	}
	for i := 0; i+1 < len(d.Content); i += 2 {
		if d.Content[i].Value != "action" {
			continue
		}
		value := d.Content[i+1]
		d.Content = slices.Delete(d.Content, i, i+2)
		return p.oneOf(value, "action", "global", "reset", "repeat")
	}
	return ""
}

// merge returns a mapping with the keys of both; where both have one, over wins, and mappings are merged.
func (p *parser) merge(under, over *yaml.Node, depth int) *yaml.Node {
	if over.Kind != yaml.MappingNode || under.Kind != yaml.MappingNode || depth > maxDepth {
		return over
	}
	whole := *over
	whole.Content = slices.Clone(over.Content)
	for i := 0; i+1 < len(under.Content); i += 2 {
		key, value := under.Content[i], under.Content[i+1]
		at := -1
		for j := 0; j+1 < len(whole.Content); j += 2 {
			if whole.Content[j].Value == key.Value {
				at = j + 1
			}
		}
		if at < 0 {
			whole.Content = append(whole.Content, key, value)
			continue
		}
		whole.Content[at] = p.merge(p.resolve(value), p.resolve(whole.Content[at]), depth+1)
	}
	return &whole
}

func (p *parser) at(n *yaml.Node) ir.Position {
	return ir.Position{File: p.name, Line: n.Line, Column: n.Column}
}

func (p *parser) fault(n *yaml.Node, field, problem, remedy string) {
	p.faults = append(p.faults, ir.Fault{Position: p.at(n), Field: field, Problem: problem, Remedy: remedy})
}

// remark keeps a note until the id of its rule is known.
func (p *parser) remark(n *yaml.Node, text string) {
	p.notable = append(p.notable, ir.Note{Position: p.at(n), Text: text})
}

// publish gives the notes on a document the id of its rule.
func (p *parser) publish(id string) {
	for _, n := range p.notable {
		n.Rule = id
		p.notes = append(p.notes, n)
	}
	p.notable = nil
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)

func (p *parser) syntax(err error) {
	message, position := err.Error(), ir.Position{File: p.name}
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		position.Line, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
	}
	p.faults = append(p.faults, ir.Fault{
		Position: position, Problem: "not YAML: " + strings.TrimPrefix(message, "yaml: "),
		Remedy: "check indentation and quotes",
	})
}

type member struct {
	key, value *yaml.Node
	name       string
}

// members returns the keys and values of a mapping, each key once. false: n is no mapping.
func (p *parser) members(n *yaml.Node, field string) (members []member, ok bool) {
	if n = p.resolve(n); n.Kind != yaml.MappingNode {
		p.fault(n, field, "must be a mapping, is "+kind(n), "")
		return nil, false
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], p.resolve(n.Content[i+1])
		switch {
		case key.Kind != yaml.ScalarNode:
			p.fault(key, field, "a key must be text, is "+kind(key), "")
		case key.ShortTag() == "!!merge":
			p.fault(key, field, "YAML merge keys are not supported", "write the keys out")
		case seen[key.Value]:
			p.fault(key, key.Value, "the key stands here twice", "YAML would drop one: join or rename them")
		default:
			seen[key.Value] = true
			members = append(members, member{key: key, name: key.Value, value: value})
		}
	}
	return members, true
}

// resolve follows aliases, as far as maxNodes allows.
func (p *parser) resolve(n *yaml.Node) *yaml.Node {
	p.nodes++
	if p.nodes == maxNodes {
		p.fault(n, "", fmt.Sprintf("the file has more than %d nodes, aliases followed", maxNodes), "split it, or use fewer aliases")
	}
	for i := 0; n.Kind == yaml.AliasNode && i < maxDepth; i++ {
		n = n.Alias
	}
	if p.nodes >= maxNodes {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line, Column: n.Column}
	}
	return n
}

// items returns the members of a list, or n alone if it is none.
func (p *parser) items(n *yaml.Node) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		return []*yaml.Node{n}
	}
	items := make([]*yaml.Node, len(n.Content))
	for i, item := range n.Content {
		items[i] = p.resolve(item)
	}
	return items
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		switch n.ShortTag() {
		case "!!null":
			return "null"
		case "!!bool":
			return "a boolean"
		case "!!int", "!!float":
			return "a number"
		}
		return "text"
	}
	return "something else"
}

func (p *parser) text(n *yaml.Node, field string) string {
	if n.Kind != yaml.ScalarNode || isNull(n) {
		p.fault(n, field, "must be text, is "+kind(n), "")
		return ""
	}
	return n.Value
}

func (p *parser) texts(n *yaml.Node, field string) []string {
	if n.Kind != yaml.SequenceNode {
		p.fault(n, field, "must be a list, is "+kind(n), "")
		return nil
	}
	var texts []string
	for _, item := range n.Content {
		texts = append(texts, p.text(p.resolve(item), field))
	}
	return texts
}

func (p *parser) oneOf(n *yaml.Node, field string, allowed ...string) string {
	value := p.text(n, field)
	if value != "" && !slices.Contains(allowed, value) {
		p.fault(n, field, fmt.Sprintf("%q is not allowed", value), "write one of "+strings.Join(allowed, ", "))
		return ""
	}
	return value
}

func parseBool(n *yaml.Node) (value, ok bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		return false, false
	}
	value, err := strconv.ParseBool(strings.ToLower(n.Value))
	return value, err == nil
}
