package sigma

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

var (
	uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	tagForm  = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9._-]+$`)
)

// maxSuggestions bounds how many unknown fields of a document are compared to the known ones: that takes long.
const maxSuggestions = 100

// rule reads a document on single events.
func (p *parser) rule(d *yaml.Node, members []member) {
	r := &ir.Rule{Meta: ir.Meta{Level: "medium", Position: p.at(d)}}
	other := p.otherSource(members)
	if other != "" {
		p.passOver(r, members, other)
		return
	}
	have := map[string]bool{}
	for _, m := range members {
		have[m.name] = true
		switch m.name {
		case "detection":
			r.Condition = p.detection(m.value)
		case "logsource": // read before
		case Extension:
			p.extension(m.value, &r.Meta, nil)
		default:
			p.metadata(m, &r.Meta)
		}
	}
	p.require(d, have, "title", "logsource", "detection")
	p.identify(&r.Meta)
	p.checkLevel(r)
	p.reportStrange(r)
	p.publish(r.ID)
	p.rules = append(p.rules, r)
	p.register(&handle{rule: r}, &r.Meta)
}

func (p *parser) require(d *yaml.Node, have map[string]bool, names ...string) {
	for _, name := range names {
		if !have[name] {
			p.fault(d, name, "is missing", "every rule needs it")
		}
	}
}

// identify gives a rule without id its name, or its title: they are meant to be unique too. If
// they are not, the later ones get a number.
func (p *parser) identify(m *ir.Meta) {
	if m.ID != "" {
		return
	}
	if m.ID = m.Name; m.ID == "" {
		m.ID = m.Title
	}
	base := m.ID
	for i := 2; base != "" && len(p.handles[handleKey(m.ID)]) > 0; i++ {
		m.ID = fmt.Sprintf("%s #%d", base, i)
	}
	if m.ID != base {
		p.notable = append(p.notable, ir.Note{
			Position: m.Position, Text: fmt.Sprintf("another rule is called %q: give each an id, which does not depend on the order of files", base),
		})
	}
}

// passOver notes a rule for other data; what it detects is not looked at. Correlations may
// refer to it, and are passed over as well.
func (p *parser) passOver(r *ir.Rule, members []member, why string) {
	for _, m := range members {
		if m.value.Kind == yaml.ScalarNode {
			switch m.name {
			case "id":
				r.ID = m.value.Value
			case "name":
				r.Name = m.value.Value
			case "title":
				r.Title = m.value.Value
			}
		}
	}
	p.identify(&r.Meta)
	p.note(r.Position, r.ID, "passed over: it is "+why)
	p.register(&handle{}, &r.Meta)
}

func (p *parser) metadata(m member, r *ir.Meta) {
	switch m.name {
	case "title":
		if r.Title = strings.TrimSpace(p.text(m.value, m.name)); r.Title == "" {
			p.fault(m.value, m.name, "is empty", "say in a few words what the rule detects")
		}
	case "id":
		if r.ID = p.text(m.value, m.name); r.ID != "" && !uuidForm.MatchString(r.ID) {
			p.remark(m.value, fmt.Sprintf("the id %q is not a UUID, which other tools insist on", r.ID))
		}
	case "name":
		r.Name = p.text(m.value, m.name)
	case "status":
		r.Status = p.oneOf(m.value, m.name, "stable", "test", "experimental", "deprecated", "unsupported")
	case "description":
		r.Description = p.text(m.value, m.name)
	case "author":
		r.Author = p.text(m.value, m.name)
	case "level":
		r.Level = p.oneOf(m.value, m.name, "informational", "low", "medium", "high", "critical")
	case "tags":
		r.Tags = p.tags(m.value)
	case "references":
		r.References = p.texts(m.value, m.name)
	case "falsepositives":
		r.FalsePositives = p.texts(m.value, m.name)
	}
	// All other keys are documentation or another tool's attributes, which Sigma allows.
}

// tags checks the form alone. Which tactics there are changes with ATT&CK.
func (p *parser) tags(n *yaml.Node) []string {
	tags := p.texts(n, "tags")
	for i, tag := range tags {
		if tag != "" && !tagForm.MatchString(tag) {
			p.fault(n.Content[i], "tags", fmt.Sprintf("%q is not a tag", tag),
				"write namespace.name, such as attack.t1609")
		}
	}
	return tags
}

// otherSource says what the log source of a document is for, if that contradicts audit events of
// Kubernetes. Many published rules leave parts of it out, so equality would refuse them.
func (p *parser) otherSource(members []member) string {
	i := slices.IndexFunc(members, func(m member) bool { return m.name == "logsource" })
	if i < 0 {
		return ""
	}
	parts, _ := p.members(members[i].value, "logsource")
	var is []string
	other := false
	for _, m := range parts {
		want := map[string]string{"product": "kubernetes", "service": "audit", "category": "application"}[m.name]
		if want == "" || isNull(m.value) {
			continue
		}
		got := p.text(m.value, "logsource."+m.name)
		if got != "" {
			is = append(is, m.name+" "+got)
		}
		other = other || got != "" && !strings.EqualFold(got, want)
	}
	if !other {
		return ""
	}
	return "for " + strings.Join(is, ", ") + ", not for Kubernetes audit events"
}

// reportStrange notes the fields that no audit event has, and marks the rule as blind if it cannot
// match without one.
func (p *parser) reportStrange(r *ir.Rule) {
	p.noteStrange()
	if r.Condition == nil || len(p.strange) == 0 {
		return
	}
	leaf := ir.Blocker(r.Condition, func(f ir.Field) bool { return p.strange[f.String()] != nil }, nil)
	if leaf != nil {
		name := ir.FieldOf(leaf).Name
		r.Blind = fmt.Sprintf("no audit event has a field %s", name)
		if near := p.fields.Nearest(name); near != "" {
			r.Blind += fmt.Sprintf("; did you mean %s?", near)
		}
	}
}

func (p *parser) noteStrange() {
	var nodes []*yaml.Node
	for _, n := range p.strange {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *yaml.Node) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	for i, n := range nodes {
		name, _, _ := strings.Cut(n.Value, "|")
		text := fmt.Sprintf("no audit event has a field %s, so it is always absent", name)
		if i < maxSuggestions {
			if near := p.fields.Nearest(name); near != "" && near != name {
				text += fmt.Sprintf("; did you mean %s?", near)
			}
		}
		p.remark(n, text)
	}
}

// checkLevel refuses a rule that cannot match at the level it states.
func (p *parser) checkLevel(r *ir.Rule) {
	if r.AuditLevel == "" || r.Condition == nil {
		return
	}
	level, leaf := ir.Needs(r.Condition)
	if leaf == nil || slices.Index(ir.AuditLevels(), level) <= slices.Index(ir.AuditLevels(), r.AuditLevel) {
		return
	}
	p.faults = append(p.faults, ir.Fault{
		Position: ir.PositionOf(leaf), Field: ir.FieldOf(leaf).Name,
		Problem: fmt.Sprintf("is recorded at audit level %s, but the rule states %s", level, r.AuditLevel),
		Remedy:  "set " + Extension + ".audit_level to " + level,
	})
}
