package alert

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/alert/correlate"
	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
)

// ruleset is what the rule files said at one time. It is immutable.
type ruleset struct {
	version string // of the files, so that two sets can be told apart
	pack    *ir.Pack
	set     *rule.Set

	correlations *correlate.Set
}

// ruleFiles are the bytes of all files that a configuration names.
type ruleFiles struct {
	rules, lists []ir.File
	version      string
}

// readRules reads the files that cfg names. The error names every source that cannot be read; the others are returned all
// the same, so that their faults can be reported with it.
func readRules(cfg RulesConfig, shipped fs.FS) (*ruleFiles, error) {
	files := &ruleFiles{}
	var errs []error
	read := func(fsys fs.FS, prefix string, use bool) {
		found, err := rule.ReadDir(fsys, prefix)
		rules, lists := rule.SplitLists(found)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", prefix, err))
		case len(rules) == 0:
			errs = append(errs, fmt.Errorf("%s: there is no rule, no file *.yml or *.yaml", prefix))
		}
		if use {
			files.rules = append(files.rules, rules...)
		}
		files.lists = append(files.lists, lists...)
	}
	// Its lists count even without its rules: rules of one's own may refer to them.
	read(shipped, "shipped", cfg.Embedded)
	for _, dir := range cfg.Directories {
		read(os.DirFS(dir), dir, true)
	}
	for _, name := range cfg.Lists {
		data, err := os.ReadFile(name)
		if err != nil {
			errs = append(errs, err)
		}
		files.lists = append(files.lists, ir.File{Name: name, Data: data})
	}
	h := sha256.New()
	for _, f := range slices.Concat(files.rules, files.lists) {
		fmt.Fprintf(h, "%d %s %d ", len(f.Name), f.Name, len(f.Data))
		h.Write(f.Data)
	}
	files.version = hex.EncodeToString(h.Sum(nil)[:8])
	if err := errors.Join(errs...); err != nil {
		return files, fmt.Errorf("alert.rules: %w", err)
	}
	return files, nil
}

// compile makes a set of the files. The error names every fault of every file.
func (f *ruleFiles) compile(cfg RulesConfig) (*ruleset, error) {
	lists, err := rule.ParseLists(f.lists)
	if err != nil {
		return nil, fmt.Errorf("alert.rules.lists: %w", err)
	}
	pack, err := rule.Load(f.rules, rule.Options{Lists: lists, Compatible: cfg.FalcoCompatible, AuditLevel: cfg.AuditLevel, Absent: cfg.Absent})
	if err != nil {
		return nil, fmt.Errorf("alert.rules: %w", err)
	}
	if err := disable(pack, cfg.Disable); err != nil {
		return nil, err
	}
	set, err := rule.Compile(pack.Rules)
	if err != nil {
		return nil, fmt.Errorf("alert.rules: %w", err)
	}
	correlations, err := correlate.Compile(pack.Correlations)
	if err != nil {
		return nil, fmt.Errorf("alert.rules: %w", err)
	}
	return &ruleset{version: f.version, pack: pack, set: set, correlations: correlations}, nil
}

// disable leaves rules out.
func disable(pack *ir.Pack, ids []string) error {
	var errs []error
	for _, id := range ids {
		is := func(m *ir.Meta) bool { return m.ID == id }
		found := slices.ContainsFunc(pack.Rules, func(r ir.Rule) bool { return is(&r.Meta) }) ||
			slices.ContainsFunc(pack.Correlations, func(c ir.Correlation) bool { return is(&c.Meta) })
		if !found {
			errs = append(errs, fmt.Errorf("alert.rules.disable: there is no rule with the id %q", id))
		}
	}
	for i := range pack.Correlations {
		c := &pack.Correlations[i]
		for _, from := range c.Rules {
			if slices.Contains(ids, from) && !slices.Contains(ids, c.ID) {
				errs = append(errs, fmt.Errorf("alert.rules.disable: %q feeds %q: leave both out, or neither", from, c.ID))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	pack.Rules = slices.DeleteFunc(pack.Rules, func(r ir.Rule) bool { return slices.Contains(ids, r.ID) })
	pack.Correlations = slices.DeleteFunc(pack.Correlations, func(c ir.Correlation) bool { return slices.Contains(ids, c.ID) })
	if len(pack.Rules) == 0 {
		return fmt.Errorf("alert.rules.disable: no rule is left without %s", strings.Join(ids, ", "))
	}
	return nil
}

// loadRules reads and compiles the rules that cfg names.
func loadRules(cfg RulesConfig, shipped fs.FS) (*ruleset, error) {
	files, unreadable := readRules(cfg, shipped)
	rules, err := files.compile(cfg)
	if err := errors.Join(unreadable, err); err != nil {
		return nil, err
	}
	return rules, nil
}
