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
	tagForm  = regexp.MustCompile(`^[a-z0-9_-]+\.[a-z0-9._-]+$`)
)

// rule reads one document.
func (p *parser) rule(n *yaml.Node) ir.Rule {
	r := ir.Rule{Meta: ir.Meta{Level: "medium", Position: p.at(n)}}
	members, ok := p.members(n, "")
	if !ok {
		return r
	}
	var name string
	have := map[string]bool{}
	for _, m := range members {
		have[m.name] = true
		switch m.name {
		case "name":
			name = p.text(m.value, m.name)
		case "detection":
			r.Condition = p.detection(m.value)
		case "logsource":
			p.logsource(m.value)
		case Extension:
			p.extension(m.value, &r)
		case "correlation", "filter", "action":
			p.fault(m.key, m.name, "only rules on single events are supported, not "+m.name+" documents", "remove the document")
		default:
			p.metadata(m, &r)
		}
	}
	for _, required := range []string{"title", "logsource", "detection"} {
		if !have[required] {
			p.fault(n, required, "is missing", "every rule needs it")
		}
	}
	if r.ID == "" { // optional in Sigma; the name and the title are meant to be unique too
		if r.ID = name; r.ID == "" {
			r.ID = r.Title
		}
	}
	p.checkLevel(&r)
	return r
}

func (p *parser) metadata(m member, r *ir.Rule) {
	switch m.name {
	case "title":
		if r.Title = strings.TrimSpace(p.text(m.value, m.name)); r.Title == "" {
			p.fault(m.value, m.name, "is empty", "say in a few words what the rule detects")
		}
	case "id":
		if r.ID = p.text(m.value, m.name); r.ID != "" && !uuidForm.MatchString(r.ID) {
			p.fault(m.value, m.name, fmt.Sprintf("%q is not a UUID", r.ID), "write one, such as uuidgen prints")
		}
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

func (p *parser) tags(n *yaml.Node) []string {
	tags := p.texts(n, "tags")
	for i, tag := range tags {
		if tag != "" && !tagForm.MatchString(tag) {
			p.fault(n.Content[i], "tags", fmt.Sprintf("%q is not a tag", tag),
				"write namespace.name in lower case, such as attack.t1609")
		}
	}
	return tags
}

// logsource accepts what does not contradict Kubernetes audit events: many published
// rules leave category out, so equality would refuse them.
func (p *parser) logsource(n *yaml.Node) {
	members, _ := p.members(n, "logsource")
	for _, m := range members {
		want := map[string]string{"product": "kubernetes", "service": "audit", "category": "application"}[m.name]
		if want == "" {
			continue
		}
		if got := p.text(m.value, "logsource."+m.name); got != "" && !strings.EqualFold(got, want) {
			p.fault(m.value, "logsource."+m.name, fmt.Sprintf("the rule is for %q, not for %s", got, want),
				"leave rules for other sources out of the directory")
		}
	}
}

func (p *parser) extension(n *yaml.Node, r *ir.Rule) {
	members, _ := p.members(n, Extension)
	for _, m := range members {
		field := Extension + "." + m.name
		switch m.name {
		case "audit_level":
			r.AuditLevel = p.oneOf(m.value, field, auditLevels()...)
		case "summary":
			text := p.text(m.value, field)
			template, err := ir.ParseTemplate(text, func(column string) (ir.Field, bool) {
				f, ok := p.fields.Resolve(column)
				return f, ok && f.Source == ir.Column && f.Column == column && column != "raw"
			})
			if err != nil {
				p.fault(m.value, field, err.Error(), "use {column} with the columns of docs/fields.md")
			}
			r.Summary = template
		case "next":
			r.Next = p.text(m.value, field)
		default:
			p.fault(m.key, field, "is unknown", "known are audit_level, summary, next")
		}
	}
}

// checkLevel refuses a rule that cannot match at the level it states.
func (p *parser) checkLevel(r *ir.Rule) {
	if r.AuditLevel == "" || r.Condition == nil {
		return
	}
	test := needs(r.Condition)
	if test == nil || levelOf(test) <= slices.Index(auditLevels(), r.AuditLevel) {
		return
	}
	level := auditLevels()[levelOf(test)]
	p.faults = append(p.faults, ir.Fault{
		Position: test.Position, Field: test.Field.Name,
		Problem: fmt.Sprintf("is recorded at audit level %s, but the rule states %s", level, r.AuditLevel),
		Remedy:  "set " + Extension + ".audit_level to " + level,
	})
}

// auditLevels returns the levels from what records least to what records most.
func auditLevels() []string { return []string{"Metadata", "Request", "RequestResponse"} }

// needs returns the test that decides how high the audit level must be for e to match at
// all; nil if the lowest will do. What is denied is true of an event without the field.
func needs(e ir.Expr) *ir.Test {
	var chosen *ir.Test
	switch e := e.(type) {
	case *ir.Test:
		return e
	case ir.And:
		for _, arg := range e {
			if t := needs(arg); t != nil && (chosen == nil || levelOf(t) > levelOf(chosen)) {
				chosen = t
			}
		}
	case ir.Or:
		for i, arg := range e {
			t := needs(arg)
			if t == nil {
				return nil
			}
			if i == 0 || levelOf(t) < levelOf(chosen) {
				chosen = t
			}
		}
	}
	return chosen
}

// levelOf returns the index among auditLevels of the level at which a test's field is recorded.
func levelOf(t *ir.Test) int {
	if len(t.Field.Path) > 0 {
		switch t.Field.Path[0] {
		case "requestObject":
			return 1
		case "responseObject":
			return 2
		}
	}
	return 0
}
