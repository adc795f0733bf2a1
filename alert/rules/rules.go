// Package rules is the shipped pack of detection rules: Sigma YAML in a folder for each
// tactic, every rule with its cases in it, and lists.yml, the named lists that hold their
// exceptions. Everything is embedded in the binary.
package rules

import (
	"embed"
	"fmt"
	"io/fs"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
)

//go:embed lists.yml */*.yml
var files embed.FS

// Files returns the files of the pack, to be read or written out.
func Files() fs.FS { return files }

// Load returns the pack with its own lists: rules and correlations.
func Load() (*ir.Pack, error) {
	found, err := rule.ReadDir(files, "")
	if err != nil {
		return nil, err
	}
	found, lists := rule.SplitLists(found)
	named, err := rule.ParseLists(lists)
	if err != nil {
		return nil, fmt.Errorf("lists of the shipped rules: %w", err)
	}
	return rule.Load(found, rule.Options{Lists: named})
}

// Parse returns the rules on single events, the silent ones that feed correlations included.
func Parse() ([]rule.Rule, error) {
	pack, err := Load()
	if err != nil {
		return nil, err
	}
	return pack.Rules, nil
}
