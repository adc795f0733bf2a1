package sigma

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// correlate resolves the rules and fields of all correlations, once all files are read.
func (l *loader) correlate() {
	for _, c := range l.correlations {
		l.parts(c)
	}
	for _, c := range l.correlations {
		l.visit(c)
	}
	// A rule that feeds correlations is silent unless one of them wants its alerts.
	loud := map[*handle]bool{}
	for _, c := range l.correlations {
		for _, h := range c.parts {
			if h != nil && !c.passed {
				loud[h] = loud[h] || c.generate
			}
		}
	}
	for h, generate := range loud {
		switch {
		case h.rule != nil:
			h.rule.Silent = !generate
		case h.correlation != nil:
			h.correlation.Silent = !generate
		}
	}
}

// parts finds the rules of a correlation.
func (l *loader) parts(c *correlation) {
	seen := map[*handle]bool{}
	for _, n := range c.rules {
		var h *handle
		found := l.handles[handleKey(n.Value)]
		switch {
		case n.Value == "": // a fault of its own
		case len(found) == 0:
			remedy := "load the file that has it, or correct the id or name"
			if near := l.nearHandle(n.Value); near != "" {
				remedy = fmt.Sprintf("did you mean %q? otherwise %s", near, remedy)
			}
			c.p.fault(n, "correlation.rules", fmt.Sprintf("there is no rule %q", n.Value), remedy)
		case len(found) > 1:
			c.p.fault(n, "correlation.rules", fmt.Sprintf("%q is the name of several rules: at %s and %s", n.Value,
				found[0].position, found[1].position), "write the id of one")
		case seen[found[0]]:
			c.p.fault(n, "correlation.rules", fmt.Sprintf("%q stands here twice", n.Value), "remove one")
		default:
			h = found[0]
			seen[h] = true
		}
		c.parts = append(c.parts, h)
		c.faulty = c.faulty || h == nil
	}
}

// visit resolves a correlation after those that it counts.
func (l *loader) visit(c *correlation) {
	switch c.state {
	case visited:
		return
	case visiting:
		c.p.fault(c.node, "correlation.rules", "the correlation counts its own alerts, directly or through others",
			"remove one of the references")
		c.faulty = true
		return
	case unvisited:
	}
	c.state = visiting
	for _, h := range c.parts {
		if h == nil {
			continue
		}
		if h.correlation != nil {
			l.visit(h.correlation)
			c.passed = c.passed || h.correlation.passed
			c.faulty = c.faulty || h.correlation.faulty
		}
		c.passed = c.passed || h.rule == nil && h.correlation == nil
	}
	c.state = visited
	switch {
	case c.passed:
		l.note(c.Position, c.ID, "passed over: it counts rules that are not for Kubernetes audit events")
	case !c.faulty:
		c.resolve()
	}
}

// resolve finds the fields of each rule of c.
func (c *correlation) resolve() {
	c.GroupFields, c.ValueFields = map[string][]ir.Field{}, map[string][]ir.Field{}
	for _, n := range c.groups {
		c.GroupNames = append(c.GroupNames, n.Value)
	}
	for _, n := range c.values {
		c.ValueNames = append(c.ValueNames, n.Value)
	}
	used := map[string]bool{}
	for _, h := range c.parts {
		meta := h.meta()
		c.Rules = append(c.Rules, meta.ID)
		for _, n := range c.groups {
			c.GroupFields[meta.ID] = append(c.GroupFields[meta.ID], c.field(n, "group-by", h, used))
		}
		for _, n := range c.values {
			c.ValueFields[meta.ID] = append(c.ValueFields[meta.ID], c.field(n, "condition.field", h, used))
		}
	}
	c.checkAliases(used)
	if c.summary != nil {
		c.Summary = c.p.summary(c.summary, Extension+".summary", c.templateField)
	}
	if c.grouping != nil {
		c.GroupBy = c.p.groupBy(c.grouping, Extension+".group_by", c.templateField)
	}
}

func (h *handle) meta() *ir.Meta {
	if h.rule != nil {
		return &h.rule.Meta
	}
	return &h.correlation.Meta
}

// field returns what a name is in the matches of a rule.
func (c *correlation) field(n *yaml.Node, key string, h *handle, used map[string]bool) ir.Field {
	name := n.Value
	if of, ok := c.aliases[name]; ok {
		used[name] = true
		found := false
		for rule, field := range of {
			if key := handleKey(rule); key == handleKey(h.meta().ID) || key == h.meta().Name {
				name, n, found = field.Value, field, true
			}
		}
		if !found {
			c.p.fault(c.aliasAt[name], "correlation.aliases."+name,
				fmt.Sprintf("says nothing about the rule %s", h.meta().ID), "add its id or name and a field")
			return ir.Field{}
		}
	}
	if h.correlation != nil {
		// What a correlation raises has the fields of its group, what it counted, and its cluster.
		inner := h.correlation
		if !slices.Contains(inner.GroupNames, name) && name != valueName(inner.Type) && name != "cluster" {
			c.p.fault(n, "correlation."+key, fmt.Sprintf("the correlation %s does not group by %s", inner.ID, name),
				"add it to its group-by, or give it another name by aliases")
		}
		return ir.Field{Name: name}
	}
	field, ok := c.p.column(name)
	if !ok {
		c.p.fault(n, "correlation."+key, fmt.Sprintf("%s is not a field of audit events", name), c.p.nearField(name))
	}
	return field
}

// checkAliases refuses aliases that nothing uses or that speak of other rules: most are misspelt.
func (c *correlation) checkAliases(used map[string]bool) {
	for alias, of := range c.aliases {
		if !used[alias] {
			// The specification's own example groups by a field and defines an alias that it does not use.
			c.p.remark(c.aliasAt[alias], fmt.Sprintf("the alias %s is not used by group-by or condition.field", alias))
		}
		for rule, n := range of {
			if !slices.ContainsFunc(c.parts, func(h *handle) bool {
				return handleKey(rule) == handleKey(h.meta().ID) || rule == h.meta().Name
			}) {
				c.p.fault(n, "correlation.aliases."+alias, fmt.Sprintf("%q is not one of the correlation's rules", rule),
					"correct the id or name, or add it to rules")
			}
		}
	}
	c.p.publish(c.ID)
}

// valueName is how what a correlation counts or computes is called in summaries and by others that count it.
func valueName(t ir.CorrelationType) string {
	switch t {
	case ir.ValueSum:
		return "sum"
	case ir.ValueAvg:
		return "avg"
	case ir.ValuePercentile:
		return "percentile"
	case ir.Temporal, ir.TemporalOrdered:
		return "rules"
	case ir.Absence:
		return "silent_seconds"
	case ir.EventCount, ir.ValueCount, ir.FirstSeen:
	}
	return "count"
}

// templateField resolves what the summary of a correlation may name: fields of its last event, those of
// its group, and, as count, sum, avg and so on, what the correlation computes.
func (c *correlation) templateField(name string) (ir.Field, bool) {
	if f, ok := c.p.column(name); ok {
		return f, true
	}
	known := name == valueName(c.Type) || name == "timespan" || slices.Contains(c.GroupNames, name) || slices.Contains(c.ValueNames, name)
	return ir.Field{Name: name, Source: ir.Computed, Extract: func([]byte, *ir.Values) {}}, known
}
