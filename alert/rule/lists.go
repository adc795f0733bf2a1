package rule

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// ParseLists reads files of named lists, which rules refer to by `field|expand: '%name%'`. A later file replaces the list
// of an earlier one or extends it:
//
//	trusted_registries: [registry.example.com/]
//	admin_users: {append: [alice@example.com]}
//
// The error is Faults with every fault of all files.
func ParseLists(files []ir.File) (map[string][]string, error) {
	p := &listParser{lists: map[string][]string{}}
	for _, file := range files {
		p.file = file.Name
		decoder := yaml.NewDecoder(strings.NewReader(string(file.Data)))
		for {
			var document yaml.Node
			err := decoder.Decode(&document)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				p.faults = append(p.faults, Fault{
					Position: ir.Position{File: file.Name}, Problem: "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: "),
					Remedy: "check indentation and quotes",
				})
				break
			}
			if len(document.Content) == 1 {
				p.document(document.Content[0])
			}
		}
	}
	return p.lists, p.faults.Err()
}

// SplitLists parts rule files from files of named lists, which are called lists.yml or end in .lists.yml.
func SplitLists(files []ir.File) (rules, lists []ir.File) {
	for _, f := range files {
		base := strings.TrimSuffix(strings.TrimSuffix(path.Base(f.Name), ".yml"), ".yaml")
		if base == "lists" || strings.HasSuffix(base, ".lists") {
			lists = append(lists, f)
		} else {
			rules = append(rules, f)
		}
	}
	return rules, lists
}

type listParser struct {
	file   string
	lists  map[string][]string
	faults Faults
}

const listForm = "write name: [value, …] or name: {append: [value, …]}"

func (p *listParser) fault(n *yaml.Node, field, problem string) {
	p.faults = append(p.faults, Fault{
		Position: ir.Position{File: p.file, Line: n.Line, Column: n.Column}, Field: field, Problem: problem, Remedy: listForm,
	})
}

func (p *listParser) document(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		p.fault(n, "", "a file of lists is a mapping of names to lists")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, n.Content[i+1]
		if seen[name] {
			p.fault(n.Content[i], name, "the list stands here twice")
			continue
		}
		seen[name] = true
		extend := false
		if value.Kind == yaml.MappingNode && len(value.Content) == 2 && value.Content[0].Value == "append" {
			extend, value = true, value.Content[1]
		}
		values, ok := p.values(value, name)
		switch {
		case !ok:
		case extend:
			p.lists[name] = append(slices.Clone(p.lists[name]), values...)
		default:
			p.lists[name] = values
		}
	}
}

func (p *listParser) values(n *yaml.Node, name string) (values []string, ok bool) {
	if n.Kind != yaml.SequenceNode {
		p.fault(n, name, "is no list")
		return nil, false
	}
	values = []string{}
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode || item.ShortTag() == "!!null" {
			p.fault(item, name, fmt.Sprintf("value %d is no text", len(values)+1))
			return nil, false
		}
		values = append(values, item.Value)
	}
	return values, true
}
