// Package rule evaluates detection rules on batches of enriched events. Rule files come in
// and become an immutable Set; an Evaluator of it takes the Arrow batch of one record of
// audit.enriched.v1 and tells which rules match which rows.
//
// The work follows the columns: a condition on a dictionary column is decided once for each
// distinct value, rows are selected through bitmaps, and the original bytes of an event are
// parsed only if it passed every condition on columns, once for all rules. It is
// guaranteed that the result is that of the rule's tree evaluated on each event alone.
//
// A Set may be used by many goroutines, an Evaluator by one. There is no I/O here but
// reading rule files from the given file system.
package rule

import (
	"slices"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// Rule is one detection on single events.
type Rule = ir.Rule

// Faults is the error of Load and Compile: all that is wrong with the rules.
type Faults = ir.Faults

// Fault is one thing that is wrong with a rule.
type Fault = ir.Fault

// Set is a compiled set of rules.
type Set struct {
	rules    []Rule
	roots    []*node // by rule
	index    *index
	event    *scope
	columns  []*columnPlan
	elements []*elements
}

// Rules returns the rules in the order of their indexes. The caller must not change them.
func (s *Set) Rules() []Rule { return s.rules }

// Compile builds a Set. The rules must have come from Load.
func Compile(rules []Rule) (*Set, error) {
	if faults := duplicates(rules); len(faults) > 0 {
		return nil, faults.Err()
	}
	c := newCompiler()
	s := &Set{rules: slices.Clone(rules)}
	for i := range rules {
		if rules[i].Condition == nil {
			return nil, Faults{{Position: rules[i].Position, Field: "detection", Problem: "the rule has no condition"}}
		}
		root := c.expr(c.event, rules[i].Condition)
		c.event.use(root)
		s.roots = append(s.roots, root)
	}
	c.finish()
	s.index = newIndex(s.roots, c.columns)
	s.event, s.columns, s.elements = c.event, c.columns, c.elements
	return s, nil
}
