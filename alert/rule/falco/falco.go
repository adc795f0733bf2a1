// Package falco reads rule files of Falco for the source k8s_audit, as they are, into the
// intermediate form. YAML comes in; rules come out in their order of definition, or every fault
// of every file with its line and column.
//
// The result is what Falco 0.44 with the plugins k8saudit 0.18 and json 0.7 does with the same files and
// the same events: lists are put in as text and macros as trees, exceptions and overrides are applied, and a
// comparison with an absent field is false, negated operators included. Differences, all meant:
//
//   - Known bugs of Falco's extractor are corrected unless Options.Compatible is set: see there.
//   - jevt.rawtime exists is always true and jevt.rawtime=0 never is: the event is not asked for it.
//   - Times are UTC.
//   - Of members of the event that stand twice the last counts, as for the API server.
//
// Rules of other sources, syscall first of all, which a rule without a source is of, are passed over with
// a note; what is wrong in their conditions, and in macros that only they use, is none of our business.
//
// A rule's name is its ID. Falco's rule_matching is up to the caller: with "first", its default,
// an event raises the first rule in the order of ir.Pack.Rules that matches, with "all" every one.
package falco

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// Source is the source of the rules that are read.
const Source = "k8s_audit"

// Options say how rules are read.
type Options struct {
	// Compatible keeps the known bugs of Falco's extractor:
	//
	//   - ka.sourceips is never present, instead of sourceIPs of the event;
	//   - eff_run_as_user and eff_run_as_group of containers are always 0, instead of what the
	//     security context of the container or else of the pod says;
	//   - image.repository of reg:5000/app:1 is reg, instead of reg:5000/app;
	//   - ka.req.binding.subject.has_name is always true, instead of absent as documented.
	Compatible bool
}

// Parse reads rule files, in the order of loading: later ones replace and change what earlier ones
// define. The error is ir.Faults with every fault of all files. Disabled rules are checked and
// left out with a note. A rule whose condition no event satisfies, such as one that is switched off by
// a macro, has Meta.Blind set.
func Parse(files []ir.File, o Options) (*ir.Pack, error) {
	c := &collector{}
	for _, f := range files {
		c.read(&source{name: f.Name, data: f.Data})
	}
	p := newCompiler(c, o)
	pack := &ir.Pack{}
	p.macros()
	for _, r := range c.rules {
		if r.source != Source {
			p.foreign(r)
			continue
		}
		if rule, ok := p.rule(r); ok {
			pack.Rules = append(pack.Rules, rule)
		}
	}
	p.unusedMacros()
	p.requirements()
	p.foreignNotes(files)
	if err := c.faults.Err(); err != nil {
		return nil, err
	}
	pack.Notes = c.notes
	return pack, nil
}

// compiler makes rules of what was collected.
type compiler struct {
	*collector
	fields *fields
	expand []*list
	parsed map[string]*macro
	// reported are the faults of conditions and outputs.
	reported map[ir.Fault]bool
}

// macro is a macro after parsing.
type macro struct {
	*macroItem
	text    text // with lists put in
	tree    expr
	err     *syntaxError
	used    bool // by a rule of this source, whose faults it has reported
	foreign bool // used by a rule of another source
}

func newCompiler(c *collector, o Options) *compiler {
	p := &compiler{collector: c, fields: newFields(o.Compatible), parsed: map[string]*macro{}, reported: map[ir.Fault]bool{}}
	for _, l := range c.lists {
		whole := &list{name: l.name}
		for _, item := range l.items {
			// One level only: the items of a list inside are taken as they are written.
			if inner, ok := c.list(item); ok && inner.first < l.seen {
				whole.items = append(whole.items, inner.items...)
			} else {
				whole.items = append(whole.items, item)
			}
		}
		p.expand = append(p.expand, whole)
	}
	return p
}

// parse puts the lists into a condition and parses it.
func (p *compiler) parse(t text) (text, expr, *syntaxError) {
	for _, l := range p.expand {
		var ok bool
		if t, ok = t.expand(l); !ok {
			return t, nil, &syntaxError{problem: "the condition becomes too long by the list " + l.name, remedy: "shorten the list"}
		}
	}
	whole := t
	tree, err := parseCondition(&whole)
	return whole, tree, err
}

func (p *compiler) macros() {
	for _, item := range p.collector.macros {
		m := &macro{macroItem: item}
		m.text, m.tree, m.err = p.parse(item.condition)
		p.parsed[item.name] = m
	}
}

// resolver puts macros into a condition.
type resolver struct {
	*compiler
	// seen and first are the ages of what asks: macros that were first defined before seen are visible.
	seen, first int
	stack       []string
	// report is called for what is wrong; nil if nobody asks.
	report func(ir.Fault)
	visit  func(*macro)
	nodes  int
}

func (r *resolver) fault(position ir.Position, problem, remedy string) {
	if r.report != nil {
		r.report(ir.Fault{Position: position, Field: "condition", Problem: problem, Remedy: remedy})
	}
}

func (r *resolver) resolve(e expr, in *text) expr {
	if r.nodes++; r.nodes > maxChecks {
		if r.nodes == maxChecks+1 {
			r.fault(in.position(0), "the macros of the condition make it too large", "split it")
		}
		return orExpr{}
	}
	switch e := e.(type) {
	case andExpr:
		return andExpr(r.resolveAll(e, in))
	case orExpr:
		return orExpr(r.resolveAll(e, in))
	case notExpr:
		return notExpr{r.resolve(e.arg, in)}
	case *macroExpr:
		return r.macro(e, in)
	}
	return e
}

func (r *resolver) resolveAll(args []expr, in *text) []expr {
	out := make([]expr, len(args))
	for i, arg := range args {
		out[i] = r.resolve(arg, in)
	}
	return out
}

func (r *resolver) macro(e *macroExpr, in *text) expr {
	m, ok := r.parsed[e.name]
	switch {
	case !ok:
		r.fault(in.position(e.at), fmt.Sprintf("there is no macro %q", e.name), r.nearestMacro(e.name))
		return orExpr{}
	case m.first >= r.seen:
		r.fault(in.position(e.at), fmt.Sprintf("the macro %q is defined only later, at %s", e.name, m.at), "define it before it is used")
		return orExpr{}
	case slices.Contains(r.stack, e.name):
		r.fault(in.position(e.at), fmt.Sprintf("the macro %q uses itself, by %s", e.name, strings.Join(r.stack, ", ")), "break the loop")
		return orExpr{}
	}
	r.visit(m)
	if m.err != nil { // whoever visits reports it
		return orExpr{}
	}
	r.stack = append(r.stack, e.name)
	seen, first := r.seen, r.first
	if m.first < r.first { // its macros were put in before, by what it sees itself
		r.seen, r.first = m.seen, m.first
	}
	resolved := r.resolve(m.tree, &m.text)
	r.seen, r.first = seen, first
	r.stack = r.stack[:len(r.stack)-1]
	return resolved
}

func (r *resolver) nearestMacro(name string) string {
	nearest := ir.Nearest(name, func(yield func(string) bool) {
		for _, m := range r.collector.macros {
			if !yield(m.name) {
				return
			}
		}
	})
	if nearest != "" {
		return "did you mean " + nearest + "?"
	}
	return "define it, or load the file that does first"
}

// everything is the age of a rule: it sees all macros.
const everything = int(^uint(0) >> 1)

// use notes that a rule of this source uses m, and reports once what is wrong with it.
func (p *compiler) use(m *macro) {
	if m.used {
		return
	}
	m.used = true
	if m.err != nil {
		p.syntax(&m.text, m.err)
	}
}

func (p *compiler) syntax(t *text, err *syntaxError) {
	p.report(ir.Fault{Position: t.position(err.at), Field: "condition", Problem: err.problem, Remedy: err.remedy})
}

// report adds a fault once: a macro is looked at in each place where it stands.
func (p *compiler) report(f ir.Fault) {
	if !p.reported[f] {
		p.reported[f] = true
		p.faults = append(p.faults, f)
	}
}

// rule compiles a rule of this source; false if it is faulty or left out.
func (p *compiler) rule(r *ruleItem) (ir.Rule, bool) {
	before := len(p.faults)
	var unknown []ir.Fault
	report := func(field string) func(ir.Position, string, string, bool) {
		return func(at ir.Position, problem, remedy string, isUnknown bool) {
			fault := ir.Fault{Position: at, Field: field, Problem: problem, Remedy: remedy}
			if isUnknown && r.skipUnknown {
				unknown = append(unknown, fault)
			} else {
				p.report(fault)
			}
		}
	}
	condition, ok := p.condition(r, report("condition"))
	template := p.fields.output(&r.output, report("output"))
	switch {
	case len(unknown) > 0:
		p.note(r.at, r.name, fmt.Sprintf("left out, as its skip-if-unknown-filter asks: %s", unknown[0].Problem))
		return ir.Rule{}, false
	case !ok || len(p.faults) > before:
		return ir.Rule{}, false
	case !r.enabled:
		p.note(r.at, r.name, "left out: the rule is disabled")
		return ir.Rule{}, false
	}
	rule := ir.Rule{
		Meta: ir.Meta{
			ID: r.name, Title: r.name, Description: strings.TrimSpace(r.description), Tags: r.tags,
			Level: levels()[strings.ToLower(r.priority)], Priority: r.priority,
			AuditLevel: condition.auditLevel(), Summary: template, Position: r.at,
		},
		Condition: condition.ir(),
	}
	if condition.is(false) {
		rule.AuditLevel = ""
		rule.Blind = "no event satisfies the condition: a macro switches the rule off"
	}
	return rule, true
}

func (p *compiler) note(at ir.Position, rule, text string) {
	p.notes = append(p.notes, ir.Note{Position: at, Rule: rule, Text: text})
}

// condition compiles the condition of a rule with its exceptions.
func (p *compiler) condition(r *ruleItem, report func(ir.Position, string, string, bool)) (*boolean, bool) {
	t, tree, err := p.parse(r.withExceptions())
	if err != nil {
		p.syntax(&t, err)
		return nil, false
	}
	resolve := &resolver{
		compiler: p, seen: everything, first: everything, visit: p.use,
		report: func(f ir.Fault) { report(f.Position, f.Problem, f.Remedy, false) },
	}
	lower := &lowerer{fields: p.fields, fault: report}
	b := lower.expr(resolve.resolve(tree, &t))
	return b.guard(needsAuditID, p.hasAuditID()), true
}

// hasAuditID is the test without which no field of the k8saudit plugin is there.
func (p *compiler) hasAuditID() *boolean {
	f, _, _, _ := p.fields.resolve("ka.auditid", "", false)
	t := &ir.Test{Field: f.ir(), AnyOf: []ir.Match{ir.Any{}}, Null: true, Empty: true}
	return &boolean{op: opLeaf, leaf: t}
}

// foreign notes which macros a rule of another source uses.
func (p *compiler) foreign(r *ruleItem) {
	t, tree, err := p.parse(r.condition)
	if err != nil {
		return
	}
	resolve := &resolver{compiler: p, seen: everything, first: everything, visit: func(m *macro) { m.foreign = true }}
	resolve.resolve(tree, &t)
}

// unusedMacros reports what is wrong with macros that no rule uses.
func (p *compiler) unusedMacros() {
	for _, item := range p.collector.macros {
		m := p.parsed[item.name]
		if m.used || m.foreign {
			continue
		}
		if p.use(m); m.err != nil {
			continue
		}
		resolve := &resolver{
			compiler: p, seen: m.seen, first: m.first, stack: []string{m.name}, visit: func(*macro) {}, report: p.report,
		}
		resolve.resolve(m.tree, &m.text)
	}
}

// requirements reports the versions that are not met: faults, but in files that have rules of other
// sources only.
func (p *compiler) requirements() {
	for _, v := range p.versions {
		if n := p.rulesOf(v.fault.Position.File); n[Source] == 0 && len(n) > 0 {
			p.note(v.fault.Position, "", v.fault.Field+": "+v.fault.Problem)
		} else {
			p.faults = append(p.faults, v.fault)
		}
	}
}

// rulesOf counts the rules of a file by source.
func (p *compiler) rulesOf(file string) map[string]int {
	counts := map[string]int{}
	for _, r := range p.rules {
		if r.at.File == file {
			counts[r.source]++
		}
	}
	return counts
}

// foreignNotes says which rules were passed over: one note for each file and source, and one for each rule that
// looks as if its source was forgotten.
func (p *compiler) foreignNotes(files []ir.File) {
	for _, f := range files {
		counts := p.rulesOf(f.Name)
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			if name != Source {
				p.note(ir.Position{File: f.Name}, "", fmt.Sprintf("%d rules of source %s passed over", counts[name], name))
			}
		}
	}
	for _, r := range p.rules {
		if condition := r.condition.String(); !r.stated && (strings.Contains(condition, "ka.") || strings.Contains(condition, "jevt.")) {
			p.note(r.at, r.name, "passed over as a rule of source syscall, the default, but it uses fields of "+Source+": add source: "+Source)
		}
	}
}
