package alert

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rules"
)

// LoadRules reads and compiles the rules that cfg names. The error names every fault of
// every source.
func LoadRules(cfg RulesConfig) (*rule.Set, error) { return loadRules(cfg, rules.Files()) }

func loadRules(cfg RulesConfig, pack fs.FS) (*rule.Set, error) {
	var all []rule.Rule
	var errs []error
	read := func(source string, fsys fs.FS) {
		found, err := rule.ParseDir(fsys)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", source, err))
		case len(found) == 0:
			errs = append(errs, fmt.Errorf("%s: there is no rule, no file *.yml or *.yaml", source))
		}
		all = append(all, found...)
	}
	if cfg.Embedded {
		read("rules that come with auditmill", pack)
	}
	for _, dir := range cfg.Directories {
		read(dir, os.DirFS(dir))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("alert.rules: %w", err)
	}
	for _, id := range cfg.Disable {
		if !slices.ContainsFunc(all, func(r rule.Rule) bool { return r.ID == id }) {
			errs = append(errs, fmt.Errorf("alert.rules.disable: there is no rule with the id %q", id))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(r rule.Rule) bool { return slices.Contains(cfg.Disable, r.ID) })
	if len(all) == 0 {
		return nil, fmt.Errorf("alert.rules.disable: no rule is left without %s", strings.Join(cfg.Disable, ", "))
	}
	set, err := rule.Compile(all)
	if err != nil {
		return nil, fmt.Errorf("alert.rules: %w", err)
	}
	return set, nil
}
