// Package sigma reads Sigma rules, correlations and filters (specification 2.1) into the
// intermediate form. YAML comes in; a pack comes out, or every fault of every file with its
// line, column and a remedy. Nothing is ignored in silence: what is not supported is a fault,
// what is meant for other data is passed over with a note.
//
// Where the specification leaves room, or its tools differ, this package decides:
//
//   - Absent fields. null is true for a field that is missing or null, ” for one that is present
//     and empty, exists for one that is present whatever its value. Every other test is false for
//     an absent field, gt and lt as well as fieldref; so neq, which negates its whole item,
//     is true, except together with fieldref, which always needs both fields.
//   - Arrays. A path through an array means any member. field[any], field[all],
//     field[none] and field[all_or_empty] take a block of items about the same member, or plain
//     values if the members are scalars; field[none] holds without any member, field[all] does not.
//     field[0] is the first member. A fieldref inside a block names a field of the same member.
//   - expand comes before all other modifiers wherever it stands, so that lists of networks,
//     expressions and texts to be encoded work alike. The values of a list are patterns like values of rules.
//     An empty list matches nothing; a list that nobody defined is a fault.
//   - re is searched for anywhere; re|startswith and re|endswith tie it to an end of the value.
//   - Texts that base64offset would reduce to nothing are a fault: they would match everything.
//   - 1 of and all of never mean searches whose names begin with an underscore.
//   - Filters are added with and, as they are written (pySigma); one whose condition has no not
//     gets a note, since other tools negate it.
//   - A log source fits if it contradicts nothing: product kubernetes, service audit, category application.
//   - Conditions of event_count, value_count and temporal that hold only if nothing matched (eq 0, lt 1)
//     are a fault: there would be no group to tell about. absence is the type for that.
//   - Old multi-document files work: keys of a document win over those of action: global.
package sigma

import (
	"cmp"
	"fmt"
	"slices"
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
//	  group_by: [actor, namespace] # which alerts are one group
//	  lateness: 5m              # of a correlation: how much too late an event may come
//	  learning: 7d              # of first_seen: how long everything is new
//	  cases: […]                # tests: see ir.Case
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
	l := &loader{fields: fields, lists: o.Lists, handles: map[string][]*handle{}}
	for _, f := range files {
		l.file(f)
	}
	for _, f := range l.filters {
		l.apply(f)
	}
	l.correlate()
	slices.SortStableFunc(l.notes, func(a, b ir.Note) int {
		return cmp.Or(cmp.Compare(a.Position.File, b.Position.File), a.Position.Line-b.Position.Line,
			a.Position.Column-b.Position.Column, cmp.Compare(a.Text, b.Text))
	})
	pack := &ir.Pack{Notes: l.notes}
	for _, r := range l.rules {
		if r.Condition != nil {
			pack.Rules = append(pack.Rules, *r)
		}
	}
	for _, c := range l.correlations {
		if !c.passed {
			pack.Correlations = append(pack.Correlations, c.Correlation)
		}
	}
	return pack, l.faults.Err()
}

// loader holds what the documents of all files come to.
type loader struct {
	fields *ir.Fields
	lists  map[string][]string

	rules        []*ir.Rule // nil conditions had a fault
	filters      []*filter
	correlations []*correlation
	handles      map[string][]*handle

	notes  []ir.Note
	faults ir.Faults
}

// handle is what an id or a name stands for: a rule, a correlation, or, if both are nil, a rule
// that was passed over.
type handle struct {
	rule        *ir.Rule
	correlation *correlation
	position    ir.Position
}

func (l *loader) register(h *handle, m *ir.Meta) {
	h.position = m.Position
	for _, key := range []string{m.ID, m.Name} {
		key = handleKey(key)
		if key == "" || len(l.handles[key]) > 0 && l.handles[key][len(l.handles[key])-1] == h {
			continue
		}
		l.handles[key] = append(l.handles[key], h)
	}
}

// handleKey folds the case of ids: a UUID is the same in both.
func handleKey(name string) string {
	if uuidForm.MatchString(name) {
		return strings.ToLower(name)
	}
	return name
}

func (l *loader) note(position ir.Position, rule, text string) {
	l.notes = append(l.notes, ir.Note{Position: position, Rule: rule, Text: text})
}

// parser reads the documents of one file.
type parser struct {
	*loader
	name  string
	nodes int
	// strange are the fields of the document at hand that no audit event has, by Field.String.
	strange map[string]*yaml.Node
	// notable are notes on the document at hand, whose id may not be known yet.
	notable []ir.Note
}

// file reads one file.
func (l *loader) file(f File) {
	p := &parser{loader: l, name: f.Name}
	if len(f.Data) > MaxBytes {
		l.faults = append(l.faults, ir.Fault{
			Position: ir.Position{File: f.Name}, Problem: fmt.Sprintf("the file is larger than %d bytes", MaxBytes),
			Remedy: "split it",
		})
		return
	}
	before := len(l.faults)
	documents := p.documents(f.Data)
	for _, d := range documents {
		p.document(d)
	}
	if len(documents) == 0 && len(l.faults) == before {
		l.faults = append(l.faults, ir.Fault{
			Position: ir.Position{File: f.Name}, Problem: "the file holds no rule", Remedy: "write one, or leave the file out",
		})
	}
}

// document reads a rule, a correlation or a filter.
func (p *parser) document(d *yaml.Node) {
	p.strange, p.notable = map[string]*yaml.Node{}, nil
	members, ok := p.members(d, "")
	if !ok {
		return
	}
	var kinds []member
	for _, m := range members {
		if m.name == "detection" || m.name == "correlation" || m.name == "filter" {
			kinds = append(kinds, m)
		}
	}
	if len(kinds) > 1 {
		p.fault(kinds[1].key, kinds[1].name, "stands in one document with "+kinds[0].name,
			"write two documents with --- between them")
		return
	}
	kind := "detection"
	if len(kinds) == 1 {
		kind = kinds[0].name
	}
	switch kind {
	case "correlation":
		p.correlation(d, members)
	case "filter":
		p.filter(d, members)
	default:
		p.rule(d, members)
	}
}
