package falco

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// collector puts the items of all files together, in their order: what comes later replaces or changes
// what came before.
type collector struct {
	faults ir.Faults
	notes  []ir.Note
	count  int // of definitions and changes: the age of the next

	lists  []*listItem
	macros []*macroItem
	rules  []*ruleItem

	versions []version
}

// Items keep the place of their first definition. seen is the age of the last one: an item sees others
// that were first defined before that.
type (
	listItem struct {
		name        string
		items       []string
		first, seen int
	}
	macroItem struct {
		name        string
		at          ir.Position
		condition   text
		first, seen int
	}
	ruleItem struct {
		name        string
		at          ir.Position
		source      string
		stated      bool // the file says the source
		condition   text
		output      text
		description string
		priority    string
		tags        []string
		enabled     bool
		skipUnknown bool
		exceptions  []*exception
	}
)

// named returns the item of that name.
func named[T any](items []T, name func(T) string, want string) (T, bool) {
	i := slices.IndexFunc(items, func(item T) bool { return name(item) == want })
	if i < 0 {
		var none T
		return none, false
	}
	return items[i], true
}

func (c *collector) list(name string) (*listItem, bool) {
	return named(c.lists, func(l *listItem) string { return l.name }, name)
}

func (c *collector) macro(name string) (*macroItem, bool) {
	return named(c.macros, func(m *macroItem) string { return m.name }, name)
}

func (c *collector) rule(name string) (*ruleItem, bool) {
	return named(c.rules, func(r *ruleItem) string { return r.name }, name)
}

// read adds the items of one file.
func (c *collector) read(file *source) {
	r := &reader{file: file, faults: &c.faults}
	for _, n := range r.items() {
		m := r.mapping(n, "")
		if m == nil {
			continue
		}
		c.count++
		switch {
		case m.has("required_engine_version"):
			c.readEngineVersion(m)
		case m.has("required_plugin_versions"):
			c.readPluginVersions(m)
		case m.has("list"):
			c.readList(m)
		case m.has("macro"):
			c.readMacro(m)
		case m.has("rule"):
			c.readRule(m)
		default:
			c.notes = append(c.notes, ir.Note{
				Position: m.at(n), Text: "passed over: the item is no rule, macro, list or required version",
			})
		}
	}
}

// change is how an item changes an earlier one.
type modification struct {
	override map[string]string // key to append or replace
	append   bool
}

// changes reads append and override.
func (c *collector) changes(m *item, appendable, replaceable []string) modification {
	ch := modification{append: m.boolean("append", false), override: map[string]string{}}
	if !m.has("override") {
		return ch
	}
	if ch.append {
		m.fault(m.keys["override"], "override", "append and override exclude each other", "remove append, which is deprecated")
		ch.append = false
	}
	o := m.mapping(m.values["override"], "override")
	if o == nil {
		return ch
	}
	for _, key := range o.order {
		n := o.values[key]
		allowed := map[string][]string{"append": appendable, "replace": replaceable}[n.Value]
		switch {
		case !slices.Contains(appendable, key) && !slices.Contains(replaceable, key):
			m.fault(o.keys[key], "override", key+" cannot be overridden", "the keys are "+strings.Join(replaceable, ", "))
		case n.Value != "append" && n.Value != "replace":
			m.fault(n, key, fmt.Sprintf("%q is no way to override", n.Value), "write append or replace")
		case !slices.Contains(allowed, key):
			m.fault(n, key, key+" cannot be appended to", "use replace")
		case !m.has(key):
			m.fault(o.keys[key], key, "is overridden but not given", "add the key "+key+" to the item")
		default:
			ch.override[key] = n.Value
		}
	}
	return ch
}

func (c *collector) readList(m *item) {
	m.allow("list", "items", "append", "override")
	name, ok := m.scalar("list")
	ch := c.changes(m, []string{"items"}, []string{"items"})
	if !m.has("items") {
		m.fault(m.node, "items", "is missing", "add it; a list may be empty: []")
		ok = false
	}
	if !ok {
		return
	}
	var items []string
	for _, s := range m.scalars("items") {
		items = append(items, s.node.Value)
	}
	previous, known := c.list(name.node.Value)
	switch {
	case ch.append || ch.override["items"] == "append":
		if !known {
			m.unknown("list", name)
			return
		}
		previous.items, previous.seen = append(previous.items, items...), c.count
	case known:
		previous.items, previous.seen = items, c.count
	default:
		c.lists = append(c.lists, &listItem{name: name.node.Value, items: items, first: c.count, seen: c.count})
	}
}

// unknown reports a change of something that is not there.
func (m *item) unknown(key string, name *scalar) {
	m.fault(name.node, key, fmt.Sprintf("there is no earlier %s %q to change", key, name.node.Value),
		"check the name and the order of the files")
}

func (c *collector) readMacro(m *item) {
	m.allow("macro", "condition", "append", "override")
	name, named := m.scalar("macro")
	condition, ok := m.scalar("condition")
	ch := c.changes(m, []string{"condition"}, []string{"condition"})
	if !named || !ok {
		return
	}
	previous, known := c.macro(name.node.Value)
	switch {
	case ch.append || ch.override["condition"] == "append":
		if !known {
			m.unknown("macro", name)
			return
		}
		previous.condition.join(condition)
	case known:
		previous.condition, previous.at = textOfScalar(condition), name.position()
	default:
		previous = &macroItem{name: name.node.Value, at: name.position(), condition: textOfScalar(condition), first: c.count}
		c.macros = append(c.macros, previous)
	}
	previous.seen = c.count
}

func textOfScalar(s *scalar) text {
	var t text
	t.addScalar(s)
	return t
}

// join appends s after one space: no parentheses, so "a or b" and "and c" are "a or (b and c)".
func (t *text) join(s *scalar) {
	t.add(" ", origin{s, 0})
	t.addScalar(s)
}

// The keys of a rule that an override may append to or replace.
func appendableKeys() []string {
	return []string{"condition", "output", "desc", "tags", "exceptions"}
}

func replaceableKeys() []string {
	return append(appendableKeys(), "priority", "enabled", "warn_evttypes", "skip-if-unknown-filter", "capture", "capture_duration")
}

func (c *collector) readRule(m *item) {
	m.allow(append([]string{"rule", "source", "append", "override"}, replaceableKeys()...)...)
	name, ok := m.scalar("rule")
	ch := c.changes(m, appendableKeys(), replaceableKeys())
	if !ok {
		return
	}
	previous, known := c.rule(name.node.Value)
	isChange := ch.append || m.has("override")
	isSwitch := !m.has("condition") && !m.has("output") && !m.has("desc") && !m.has("priority")
	switch {
	case (isChange || isSwitch && m.has("enabled")) && !known:
		m.unknown("rule", name)
	case m.has("override"):
		c.overrideRule(m, previous, ch)
	case ch.append:
		c.appendRule(m, previous)
	case isSwitch && m.has("enabled"): // deprecated
		previous.enabled = m.boolean("enabled", true)
	default:
		c.defineRule(m, name, previous)
	}
}

func (c *collector) defineRule(m *item, name *scalar, previous *ruleItem) {
	r := &ruleItem{name: name.node.Value, at: name.position(), source: "syscall"}
	complete := true
	required := func(key string) *scalar {
		s, ok := m.scalar(key)
		complete = complete && ok
		return s
	}
	condition, output, description := required("condition"), required("output"), required("desc")
	priority, ok := m.priority()
	complete = complete && ok
	if m.has("source") {
		if source, ok := m.scalar("source"); ok {
			r.source, r.stated = source.node.Value, true
		}
	}
	r.priority = priority
	r.enabled, r.skipUnknown = m.boolean("enabled", true), m.boolean("skip-if-unknown-filter", false)
	m.boolean("warn_evttypes", true)
	m.boolean("capture", false)
	r.addTags(m.scalars("tags"))
	r.exceptions = m.exceptions(false)
	if !complete {
		return
	}
	r.condition, r.output, r.description = textOfScalar(condition), textOfScalar(output), description.node.Value
	if previous == nil {
		c.rules = append(c.rules, r)
		return
	}
	if previous.source != r.source {
		m.fault(name.node, "source", fmt.Sprintf("the rule is of source %s, but was of %s at %s", r.source, previous.source, previous.at),
			"give it another name, or the same source")
		return
	}
	*previous = *r
}

// levels maps priorities to levels.
func levels() map[string]string {
	return map[string]string{
		"emergency": "critical", "alert": "critical", "critical": "critical", "error": "high", "warning": "medium",
		"notice": "low", "informational": "informational", "info": "informational", "debug": "informational",
	}
}

func (m *item) priority() (string, bool) {
	s, ok := m.scalar("priority")
	if !ok {
		return "", false
	}
	if levels()[strings.ToLower(s.node.Value)] == "" {
		m.fault(s.node, "priority", fmt.Sprintf("%q is no priority", s.node.Value),
			"use emergency, alert, critical, error, warning, notice, informational or debug")
		return "", false
	}
	return s.node.Value, true
}

func (r *ruleItem) addTags(tags []*scalar) {
	for _, tag := range tags {
		if !slices.Contains(r.tags, tag.node.Value) {
			r.tags = append(r.tags, tag.node.Value)
		}
	}
}

// appendRule is the deprecated form, which knows conditions and exceptions.
func (c *collector) appendRule(m *item, r *ruleItem) {
	if !m.has("condition") && !m.has("exceptions") {
		m.fault(m.node, "append", "a rule that appends must have a condition or exceptions", "use override for other keys")
	}
	if m.has("condition") {
		if s, ok := m.scalar("condition"); ok {
			r.condition.join(s)
		}
	}
	r.appendExceptions(m)
}

func (c *collector) overrideRule(m *item, r *ruleItem, ch modification) {
	for _, key := range replaceableKeys() {
		if !m.has(key) {
			continue
		}
		switch ch.override[key] {
		case "append":
			r.appendKey(m, key)
		case "replace":
			r.replaceKey(m, key)
		default:
			if o := m.values["override"]; o.Kind != yaml.MappingNode || !mentions(o, key) {
				m.fault(m.keys[key], key, "is given but not overridden", "add "+key+": replace, or append, below override")
			}
		}
	}
}

func mentions(mapping *yaml.Node, key string) bool {
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return true
		}
	}
	return false
}

func (r *ruleItem) appendKey(m *item, key string) {
	switch key {
	case "tags":
		r.addTags(m.scalars("tags"))
		return
	case "exceptions":
		r.appendExceptions(m)
		return
	}
	s, ok := m.scalar(key)
	if !ok {
		return
	}
	switch key {
	case "condition":
		r.condition.join(s)
	case "output":
		r.output.join(s)
	case "desc":
		r.description += " " + s.node.Value
	}
}

func (r *ruleItem) replaceKey(m *item, key string) {
	switch key {
	case "condition", "output", "desc":
		s, ok := m.scalar(key)
		switch {
		case !ok:
		case key == "condition":
			r.condition = textOfScalar(s)
		case key == "output":
			r.output = textOfScalar(s)
		default:
			r.description = s.node.Value
		}
	case "tags":
		r.tags = nil
		r.addTags(m.scalars("tags"))
	case "exceptions":
		r.exceptions = m.exceptions(false)
	case "priority":
		if p, ok := m.priority(); ok {
			r.priority = p
		}
	case "enabled":
		r.enabled = m.boolean(key, r.enabled)
	case "skip-if-unknown-filter":
		r.skipUnknown = m.boolean(key, r.skipUnknown)
	case "warn_evttypes", "capture":
		m.boolean(key, true)
	}
}
