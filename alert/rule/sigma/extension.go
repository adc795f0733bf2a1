package sigma

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// extension reads what auditmill adds to a rule; c is nil unless it is a correlation.
func (p *parser) extension(n *yaml.Node, r *ir.Meta, c *correlation) {
	members, _ := p.members(n, Extension)
	for _, m := range members {
		field := Extension + "." + m.name
		switch {
		case m.name == "audit_level":
			r.AuditLevel = p.oneOf(m.value, field, ir.AuditLevels()...)
		case m.name == "summary" && c != nil:
			c.summary = m.value // its fields may be those of the group, which are not known yet
		case m.name == "summary":
			r.Summary = p.summary(m.value, field, p.column)
		case m.name == "next":
			r.Next = p.text(m.value, field)
		case m.name == "group_by" && c != nil:
			c.grouping = m.value
		case m.name == "group_by":
			r.GroupBy = p.groupBy(m.value, field, p.column)
		case m.name == "cases":
			r.Cases = p.cases(m.value, field)
		default:
			p.timing(m, field, c)
		}
	}
}

// timing reads what the extension says of a correlation alone.
func (p *parser) timing(m member, field string, c *correlation) {
	switch {
	case m.name != "lateness" && m.name != "learning":
		p.fault(m.key, field, "is unknown", "known are audit_level, summary, next, group_by, cases, lateness, learning")
	case c == nil:
		p.fault(m.key, field, "is for correlations only", "remove it")
	case m.name == "lateness":
		c.Lateness = p.duration(m.value, field)
	default:
		c.Learning, c.learns = p.duration(m.value, field), true
	}
}

// column resolves what a summary or a group may name: any field but the event as a whole.
func (p *parser) column(name string) (ir.Field, bool) {
	f, ok := p.fields.Resolve(name)
	return f, ok && name != "raw" && name != ""
}

func (p *parser) summary(n *yaml.Node, field string, resolve func(string) (ir.Field, bool)) ir.Template {
	template, err := ir.ParseTemplate(p.text(n, field), resolve)
	if err != nil {
		p.fault(n, field, err.Error(), "use {column} with the columns of docs/fields.md")
	}
	return template
}

func (p *parser) groupBy(n *yaml.Node, field string, resolve func(string) (ir.Field, bool)) []ir.Field {
	fields := []ir.Field{}
	for _, name := range p.textsOf(n, field) {
		f, ok := resolve(name)
		if !ok {
			p.fault(n, field, fmt.Sprintf("%s is not a field", name), p.nearField(name))
			continue
		}
		fields = append(fields, f)
	}
	return fields
}

func (p *parser) nearField(name string) string {
	if near := p.fields.Nearest(name); near != "" && near != name {
		return fmt.Sprintf("did you mean %q? see docs/fields.md for the columns and paths", near)
	}
	return "see docs/fields.md for the columns and paths"
}

// textsOf reads a list of texts, or one text.
func (p *parser) textsOf(n *yaml.Node, field string) []string {
	if n.Kind == yaml.ScalarNode && !isNull(n) {
		return []string{n.Value}
	}
	return p.texts(n, field)
}

// cases reads the tests of a rule.
func (p *parser) cases(n *yaml.Node, field string) []ir.Case {
	if n.Kind != yaml.SequenceNode {
		p.fault(n, field, "must be a list, is "+kind(n), "write - case: what it shows")
		return nil
	}
	var cases []ir.Case
	for _, item := range p.items(n) {
		if c, ok := p.oneCase(item, field); ok {
			cases = append(cases, c)
		}
	}
	return cases
}

func (p *parser) oneCase(n *yaml.Node, field string) (ir.Case, bool) {
	before := len(p.faults)
	c := ir.Case{Position: p.at(n), Alerts: -1}
	members, _ := p.members(n, field)
	events, single := 0, false
	var columns *yaml.Node
	for _, m := range members {
		switch m.name {
		case "case":
			c.Name = p.text(m.value, field+".case")
		case "match":
			want, ok := parseBool(m.value)
			if !ok {
				p.fault(m.value, field+".match", "must be true or false, is "+kind(m.value), "")
			}
			c.Alerts = map[bool]int{true: 1}[want]
		case "alerts":
			c.Alerts = p.count(m.value, field+".alerts")
		case "event":
			c.Events, events = append(c.Events, ir.CaseEvent{JSON: p.json(m.value, field+".event"), Repeat: 1}), events+1
			single = true
		case "columns":
			columns = m.value
		case "events":
			events++
			if m.value.Kind != yaml.SequenceNode {
				p.fault(m.value, field+".events", "must be a list, is "+kind(m.value), "write - {event: {…}, after: 0s}")
				continue
			}
			for _, item := range p.items(m.value) {
				c.Events = append(c.Events, p.caseEvent(item, field+".events"))
			}
		default:
			p.fault(m.key, field+"."+m.name, "is unknown", "known are case, match, alerts, event, columns, events")
		}
	}
	p.caseColumns(columns, field+".columns", &c, single)
	if len(p.faults) == before {
		p.completeCase(n, field, &c, events)
	}
	return c, len(p.faults) == before
}

// caseColumns reads the columns that stand beside event; n is nil if there are none.
func (p *parser) caseColumns(n *yaml.Node, field string, c *ir.Case, single bool) {
	switch {
	case n == nil:
	case single:
		c.Events[0].Columns = p.json(n, field)
	default:
		p.fault(n, field, "is for a case of one event", "write it beside each event of events")
	}
}

// completeCase checks that a case has what every case needs; events is how often it states them.
func (p *parser) completeCase(n *yaml.Node, field string, c *ir.Case, events int) {
	switch {
	case c.Name == "":
		p.fault(n, field, "the case has no name", "write case: what it shows")
	case c.Alerts < 0:
		p.fault(n, field, "the case says neither match nor alerts", "write match: true, or alerts: with their number")
	case events != 1 || len(c.Events) == 0:
		p.fault(n, field, "the case must have event or events, one of them", "write event: {…}")
	}
}

func (p *parser) caseEvent(n *yaml.Node, field string) ir.CaseEvent {
	e := ir.CaseEvent{Repeat: 1}
	members, _ := p.members(n, field)
	for _, m := range members {
		at := field + "." + m.name
		switch m.name {
		case "event":
			e.JSON = p.json(m.value, at)
		case "columns":
			e.Columns = p.json(m.value, at)
		case "after":
			e.After = p.duration(m.value, at)
		case "every":
			e.Every = p.duration(m.value, at)
		case "repeat":
			e.Repeat = p.count(m.value, at)
		default:
			p.fault(m.key, at, "is unknown", "known are event, columns, after, repeat, every")
		}
	}
	if e.JSON == nil {
		p.fault(n, field, "has no event", "write event: {…}")
	}
	return e
}

// count reads a whole number that a case could mean.
func (p *parser) count(n *yaml.Node, field string) int {
	i, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || i < 0 || i > 1_000_000 {
		p.fault(n, field, "must be a whole number, not negative", "write such as 3")
		return 0
	}
	return i
}

// json returns a mapping as JSON.
func (p *parser) json(n *yaml.Node, field string) []byte {
	if n.Kind != yaml.MappingNode {
		p.fault(n, field, "must be a mapping, is "+kind(n), "write the part of an audit event that the case is about")
		return []byte("{}")
	}
	return p.appendJSON(nil, n, field, 0)
}

func (p *parser) appendJSON(out []byte, n *yaml.Node, field string, depth int) []byte {
	if depth > maxDepth {
		p.fault(n, field, fmt.Sprintf("nests more than %d deep", maxDepth), "")
		return append(out, "null"...)
	}
	switch n.Kind {
	case yaml.MappingNode:
		members, _ := p.members(n, field)
		out = append(out, '{')
		for i, m := range members {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(appendText(out, m.name), ':')
			out = p.appendJSON(out, m.value, field, depth+1)
		}
		return append(out, '}')
	case yaml.SequenceNode:
		out = append(out, '[')
		for i, item := range p.items(n) {
			if i > 0 {
				out = append(out, ',')
			}
			out = p.appendJSON(out, item, field, depth+1)
		}
		return append(out, ']')
	}
	if isNull(n) {
		return append(out, "null"...)
	}
	if value, ok := parseBool(n); ok {
		return strconv.AppendBool(out, value)
	}
	if number, ok := numberOf(n); ok {
		if json.Valid([]byte(n.Value)) {
			return append(out, n.Value...)
		}
		return append(out, number.String()...)
	}
	return appendText(out, n.Value)
}

func appendText(out []byte, text string) []byte {
	quoted, err := json.Marshal(text)
	if err != nil {
		return append(out, `""`...)
	}
	return append(out, quoted...)
}

// duration reads a whole number with a unit, or what Go writes for one.
func (p *parser) duration(n *yaml.Node, field string) time.Duration {
	text := ""
	if n.Kind == yaml.ScalarNode {
		text = n.Value
	}
	if d, ok := timespan(text); ok {
		return d
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return d
	}
	p.fault(n, field, fmt.Sprintf("%q is not a span of time", text), "write a whole number and one of s, m, h, d, w, M, y, such as 15m")
	return 0
}

// timespan reads a whole number with a unit as the specification has them, and weeks, months and years as
// pySigma reckons them: a month is the twelfth part of a year of 365.2425 days.
func timespan(text string) (time.Duration, bool) {
	if text == "" {
		return 0, false
	}
	unit := map[byte]int64{
		's': 1, 'm': 60, 'h': 3600, 'd': 86_400, 'w': 604_800, 'M': 2_629_746, 'y': 31_556_952,
	}[text[len(text)-1]]
	digits := text[:len(text)-1]
	count, err := strconv.ParseInt(digits, 10, 64)
	if unit == 0 || err != nil || strings.Trim(digits, "0123456789") != "" || count > int64(1<<63-1)/int64(time.Second)/unit {
		return 0, false
	}
	return time.Duration(count*unit) * time.Second, true
}
