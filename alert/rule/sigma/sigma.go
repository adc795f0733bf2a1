// Package sigma reads Sigma detection rules (specification 2.1) into the intermediate form.
// YAML comes in; rules come out, or every fault of the file with its line and column.
// Nothing is ignored: a modifier, a field or a form that is not supported is a fault.
//
// Supported modifiers: contains, startswith, endswith, re (i, m, s), cidr, exists, all,
// cased, gt, gte, lt, lte. Conditions: and, or, not, parentheses, 1 of, any of, all of,
// them, patterns.
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

// Extension is the top-level key of what auditmill adds to a Sigma rule. Sigma allows
// attributes of one's own; other tools pass over it.
//
//	x-auditmill:
//	  audit_level: Request      # the lowest level at which the rule can match
//	  summary: "{actor} deleted events[ in {namespace}]"
//	  next: What to do about an alert.
const Extension = "x-auditmill"

// MaxBytes bounds one rule file, maxNodes what its aliases can make of it.
const (
	MaxBytes = 1 << 20
	maxNodes = 100_000
	maxDepth = 64
)

// File is a rule file.
type File = ir.File

// Options say what the rules are read for.
type Options struct {
	// Lists are the named lists that the modifier expand asks for.
	Lists map[string][]string
}

// Parse reads all rules of all files together, since filters and correlations refer across
// files. The error is ir.Faults with every fault of every file; the pack then holds what has none.
func Parse(files []File, fields *ir.Fields, o Options) (*ir.Pack, error) {
	pack := &ir.Pack{}
	var faults ir.Faults
	for _, f := range files {
		rules, found := parseFile(f, fields, o)
		pack.Rules, faults = append(pack.Rules, rules...), append(faults, found...)
	}
	return pack, faults.Err()
}

func parseFile(f File, fields *ir.Fields, _ Options) ([]ir.Rule, ir.Faults) {
	p := &parser{file: f.Name, fields: fields}
	if len(f.Data) > MaxBytes {
		p.faults = append(p.faults, ir.Fault{
			Position: ir.Position{File: f.Name}, Problem: fmt.Sprintf("the file is larger than %d bytes", MaxBytes),
		})
		return nil, p.faults
	}
	var rules []ir.Rule
	decoder := yaml.NewDecoder(bytes.NewReader(f.Data))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			p.syntax(err)
			break
		}
		if len(document.Content) == 1 && !isNull(document.Content[0]) {
			rules = append(rules, p.rule(document.Content[0]))
		}
	}
	if len(rules) == 0 && len(p.faults) == 0 {
		p.faults = append(p.faults, ir.Fault{Position: ir.Position{File: f.Name}, Problem: "the file holds no rule"})
	}
	return rules, p.faults
}

type parser struct {
	file   string
	fields *ir.Fields
	faults ir.Faults
	nodes  int
}

func (p *parser) at(n *yaml.Node) ir.Position {
	return ir.Position{File: p.file, Line: n.Line, Column: n.Column}
}

func (p *parser) fault(n *yaml.Node, field, problem, remedy string) {
	p.faults = append(p.faults, ir.Fault{Position: p.at(n), Field: field, Problem: problem, Remedy: remedy})
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)

func (p *parser) syntax(err error) {
	message, position := err.Error(), ir.Position{File: p.file}
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		position.Line, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
	}
	p.faults = append(p.faults, ir.Fault{
		Position: position, Problem: "not YAML: " + strings.TrimPrefix(message, "yaml: "),
		Remedy: "check indentation and quotes",
	})
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

type member struct {
	key, value *yaml.Node
	name       string
}

// resolve follows aliases, as far as maxNodes allows.
func (p *parser) resolve(n *yaml.Node) *yaml.Node {
	p.nodes++
	if p.nodes == maxNodes {
		p.fault(n, "", fmt.Sprintf("the file has more than %d nodes, aliases followed", maxNodes), "")
	}
	for i := 0; n.Kind == yaml.AliasNode && i < maxDepth; i++ {
		n = n.Alias
	}
	if p.nodes >= maxNodes {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line, Column: n.Column}
	}
	return n
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
