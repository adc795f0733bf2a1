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
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/alert/rule/sigma"
)

// Rule is one detection on single events.
type Rule = ir.Rule

// Faults is the error of ParseFile, ParseDir and Compile: all that is wrong with the rules.
type Faults = ir.Faults

// Fault is one thing that is wrong with a rule.
type Fault = ir.Fault

// ParseFile reads the rules of one file.
func ParseFile(fsys fs.FS, name string) ([]Rule, error) {
	return parseFile(fsys, name, ir.NewFields())
}

// ParseDir reads the rules of all files *.yml and *.yaml below the root of fsys, in the
// order of their names. Files and directories that begin with a dot are passed over: a
// mounted ConfigMap keeps its older versions in such. The error names every fault of every file.
func ParseDir(fsys fs.FS) ([]Rule, error) {
	var rules []Rule
	var faults Faults
	fields := ir.NewFields()
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name != "." && strings.HasPrefix(entry.Name(), ".") {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() || path.Ext(name) != ".yml" && path.Ext(name) != ".yaml" {
			return nil
		}
		more, err := parseFile(fsys, name, fields)
		var found Faults
		if err != nil && !errors.As(err, &found) {
			return err
		}
		rules, faults = append(rules, more...), append(faults, found...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading rules: %w", err)
	}
	if faults = append(faults, duplicates(rules)...); len(faults) > 0 {
		return nil, faults.Err()
	}
	return rules, nil
}

func parseFile(fsys fs.FS, name string, fields *ir.Fields) ([]Rule, error) {
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, fmt.Errorf("reading rules: %w", err)
	}
	return sigma.Parse(name, data, fields)
}

// duplicates finds rules that share an id: their alerts could not be told apart.
func duplicates(rules []Rule) Faults {
	var faults Faults
	first := map[string]ir.Position{}
	for i := range rules {
		r := &rules[i]
		if other, ok := first[r.ID]; ok {
			faults = append(faults, Fault{
				Position: r.Position, Field: "id",
				Problem: fmt.Sprintf("%q is also the id of the rule at %s", r.ID, other),
				Remedy:  "give each rule an id of its own",
			})
			continue
		}
		first[r.ID] = r.Position
	}
	return faults
}

// Set is a compiled set of rules.
type Set struct {
	rules    []Rule
	roots    []*node  // by rule
	required [][]dref // by rule: dictionary tests without which it cannot match
	tests    []*test
	columns  []*columnPlan
	paths    *pathNode // of all paths into the original bytes
	npaths   int
}

// Rules returns the rules in the order of their indexes. The caller must not change them.
func (s *Set) Rules() []Rule { return s.rules }

// Compile builds a Set. The rules must have come from ParseFile or ParseDir.
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
		root := c.expr(rules[i].Condition)
		s.roots = append(s.roots, root)
		s.required = append(s.required, c.required(root))
	}
	s.tests, s.columns, s.paths, s.npaths = c.tests, c.columns, c.paths, c.npaths
	return s, nil
}
