package sigma

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// correlation is a correlation that is not resolved yet.
type correlation struct {
	ir.Correlation
	p       *parser
	node    *yaml.Node // of the section
	rules   []*yaml.Node
	groups  []*yaml.Node
	values  []*yaml.Node
	aliases map[string]map[string]*yaml.Node // alias → id or name of a rule → field
	aliasAt map[string]*yaml.Node

	summary, grouping *yaml.Node
	generate, learns  bool
	faulty            bool

	parts  []*handle // of rules, nil where there is a fault
	state  visit
	passed bool // one of its rules was passed over
}

type visit uint8

const (
	unvisited visit = iota
	visiting
	visited
)

// correlation reads a document on the matches of other rules.
func (p *parser) correlation(d *yaml.Node, members []member) {
	own := *p
	c := &correlation{p: &own, Correlation: ir.Correlation{Meta: ir.Meta{Level: "medium", Position: p.at(d)}}}
	before := len(p.faults)
	have := map[string]bool{}
	for _, m := range members {
		have[m.name] = true
		switch m.name {
		case "correlation":
			c.node = m.value
			p.correlationSection(m.value, c)
		case "logsource": // that of its rules counts
		case "generate": // at the top in older documents
			c.generate = p.boolean(m.value, m.name)
		case Extension:
			p.extension(m.value, &c.Meta, c)
		default:
			p.metadata(m, &c.Meta)
		}
	}
	p.require(d, have, "title")
	if c.Type == ir.FirstSeen && !c.learns {
		p.remark(d, "everything is new at first: set "+Extension+".learning, such as 7d, to raise nothing so long")
	}
	p.identify(&c.Meta)
	p.publish(c.ID)
	c.faulty = len(p.faults) > before
	p.correlations = append(p.correlations, c)
	p.register(&handle{correlation: c}, &c.Meta)
}

func (p *parser) boolean(n *yaml.Node, field string) bool {
	value, ok := parseBool(n)
	if !ok {
		p.fault(n, field, "must be true or false, is "+kind(n), "")
	}
	return value
}

// correlationTypes are the types in the order in which they are named to users.
func correlationTypes() []string {
	return []string{
		"event_count", "value_count", "temporal", "temporal_ordered", "value_sum", "value_avg", "value_percentile",
		"first_seen", "absence",
	}
}

//nolint:cyclop // one branch for each key
func (p *parser) correlationSection(n *yaml.Node, c *correlation) {
	members, ok := p.members(n, "correlation")
	if !ok {
		return
	}
	var condition *yaml.Node
	have := map[string]bool{}
	for _, m := range members {
		have[m.name] = true
		field := "correlation." + m.name
		switch m.name {
		case "type":
			if m.value.Value == "value_median" {
				p.fault(m.value, field, `"value_median" is not a type of the specification`,
					"write value_percentile with percentile: 50 in the condition")
				continue
			}
			c.Type = ir.CorrelationType(p.oneOf(m.value, field, correlationTypes()...))
		case "rules":
			p.textsOf(m.value, field)
			c.rules = p.items(m.value)
		case "group-by":
			p.textsOf(m.value, field)
			c.groups = p.items(m.value)
		case "timespan":
			p.timespan(m.value, c)
		case "condition":
			condition = m.value
		case "field":
			p.textsOf(m.value, field)
			c.values = p.items(m.value)
		case "aliases":
			p.aliasSection(m.value, c)
		case "generate":
			c.generate = p.boolean(m.value, field)
		default:
			remedy := "known are type, rules, group-by, timespan, condition, aliases, generate, field"
			if near := ir.Nearest(m.name, strings.SplitSeq(strings.TrimPrefix(remedy, "known are "), ", ")); near != "" {
				remedy = fmt.Sprintf("did you mean %q? %s", near, remedy)
			}
			p.fault(m.key, field, "is unknown", remedy)
		}
	}
	for _, required := range []string{"type", "rules", "timespan"} {
		if !have[required] {
			p.fault(n, "correlation."+required, "is missing", "every correlation needs it")
		}
	}
	if have["rules"] && len(c.rules) == 0 {
		p.fault(n, "correlation.rules", "is an empty list", "name the rules whose matches count")
	}
	if condition != nil {
		p.bounds(condition, c)
	}
	p.checkType(n, condition, c, have)
}

func (p *parser) timespan(n *yaml.Node, c *correlation) {
	span, ok := timespan(n.Value)
	if n.Kind != yaml.ScalarNode || !ok || span == 0 {
		p.fault(n, "correlation.timespan", fmt.Sprintf("%q is not a span of time", n.Value),
			"write a whole number and one of s, m, h, d, w, M, y, such as 15m")
	}
	c.Timespan = span
}

// bounds reads a condition: relations to numbers, of which all must hold, and what the numbers are about.
func (p *parser) bounds(n *yaml.Node, c *correlation) {
	if n.Kind == yaml.ScalarNode {
		p.fault(n, "correlation.condition", "conditions that combine rules by and, or, not are not part of the specification",
			"write a mapping such as {gte: 10}; for all rules within the timespan write type: temporal without a condition")
		return
	}
	members, _ := p.members(n, "correlation.condition")
	for _, m := range members {
		field := "correlation.condition." + m.name
		relation := map[string]ir.Relation{
			"gt": ir.Greater, "gte": ir.GreaterOrEqual, "lt": ir.Less, "lte": ir.LessOrEqual, "eq": ir.Same, "neq": ir.Different,
		}[m.name]
		switch {
		case m.name == "field":
			p.textsOf(m.value, field)
			c.values = p.items(m.value)
		case m.name == "percentile":
			number, ok := numberOf(m.value)
			if !ok || number.Float <= 0 || number.Float > 100 {
				p.fault(m.value, field, "must be a number above 0 and at most 100", "write such as 95")
			}
			c.Percentile = number.Float
			if c.Type != ir.ValuePercentile {
				p.fault(m.key, field, "is for value_percentile only", "remove it")
			}
		case relation == "":
			p.fault(m.key, field, "is unknown", "known are gt, gte, lt, lte, eq, neq, field, percentile")
		default:
			number, ok := numberOf(m.value)
			if !ok {
				p.fault(m.value, field, "must be a number, is "+kind(m.value), "write a number without quotes")
			}
			c.Condition = append(c.Condition, ir.Bound{Relation: relation, Number: number.Float})
		}
	}
	if c.Type == ir.ValuePercentile && !slices.ContainsFunc(members, func(m member) bool { return m.name == "percentile" }) {
		p.fault(n, "correlation.condition.percentile", "is missing, so nobody can tell which percentile is meant", "write such as percentile: 95")
	}
}

// checkType checks that a correlation has what its type needs, and nothing that it would ignore.
//
//nolint:cyclop // one branch for each type
func (p *parser) checkType(n, condition *yaml.Node, c *correlation, have map[string]bool) {
	at := n
	if condition != nil {
		at = condition
	}
	fault := func(field, problem, remedy string) { p.fault(at, "correlation."+field, problem, remedy) }
	values := len(c.values)
	switch c.Type {
	case ir.ValueCount, ir.ValueSum, ir.ValueAvg, ir.ValuePercentile:
		if values == 0 {
			fault("condition.field", "is missing", "name the field whose values count")
		}
		if values > 1 && c.Type != ir.ValueCount {
			fault("condition.field", "must be one field", "only value_count takes several")
		}
		if len(c.Condition) == 0 {
			fault("condition", "says no number", "write such as gte: 10")
		}
	case ir.EventCount:
		if len(c.Condition) == 0 {
			fault("condition", "says no number", "write such as gte: 10")
		}
	case ir.FirstSeen:
		if values == 0 {
			fault("field", "is missing", "name the fields whose values are new")
		}
	case ir.Absence, ir.Temporal, ir.TemporalOrdered:
	case "": // a fault of its own
		return
	}
	if (c.Type == ir.FirstSeen || c.Type == ir.Absence) && have["condition"] {
		fault("condition", "does not go with "+string(c.Type), "remove it")
	}
	if values > 0 && slices.Contains([]ir.CorrelationType{ir.EventCount, ir.Temporal, ir.TemporalOrdered, ir.Absence}, c.Type) {
		fault("condition.field", "does not go with "+string(c.Type), "remove it, or write type: value_count")
	}
	p.checkBounds(at, c)
}

// checkBounds refuses conditions that never hold, or hold only when nothing has happened.
func (p *parser) checkBounds(at *yaml.Node, c *correlation) {
	if len(c.Condition) == 0 {
		return
	}
	low, high := interval(c.Condition)
	if low > high {
		p.fault(at, "correlation.condition", "no number is in this range", "exchange the bounds")
		return
	}
	counts := []ir.CorrelationType{ir.EventCount, ir.ValueCount, ir.Temporal, ir.TemporalOrdered}
	if slices.Contains(counts, c.Type) && high < 1 {
		p.fault(at, "correlation.condition", "holds only when nothing has happened, and then there is no group to tell about",
			"write type: absence for what fails to happen")
		return
	}
	if c.Type == ir.TemporalOrdered && low < float64(len(c.rules)) {
		p.fault(at, "correlation.condition", "the order is that of all rules", "remove the condition, or write type: temporal")
	}
	if c.Type == ir.Temporal && low > float64(len(c.rules)) {
		p.fault(at, "correlation.condition", fmt.Sprintf("there are only %d rules", len(c.rules)), "name more, or remove the condition")
	}
}

// interval returns the least and the greatest number that bounds let through, the open ends rounded in.
func interval(bounds []ir.Bound) (low, high float64) {
	const tiny = 1e-9
	low, high = -1e308, 1e308
	for _, b := range bounds {
		switch b.Relation {
		case ir.Less:
			high = min(high, b.Number-tiny)
		case ir.LessOrEqual:
			high = min(high, b.Number)
		case ir.Greater:
			low = max(low, b.Number+tiny)
		case ir.GreaterOrEqual:
			low = max(low, b.Number)
		case ir.Same:
			low, high = max(low, b.Number), min(high, b.Number)
		default:
		}
	}
	return low, high
}

// aliasSection reads alias → rule → field.
func (p *parser) aliasSection(n *yaml.Node, c *correlation) {
	c.aliases, c.aliasAt = map[string]map[string]*yaml.Node{}, map[string]*yaml.Node{}
	members, _ := p.members(n, "correlation.aliases")
	for _, m := range members {
		field := "correlation.aliases." + m.name
		c.aliases[m.name], c.aliasAt[m.name] = map[string]*yaml.Node{}, m.key
		of, _ := p.members(m.value, field)
		for _, rule := range of {
			p.text(rule.value, field+"."+rule.name)
			c.aliases[m.name][rule.name] = rule.value
		}
	}
}
