package offline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/alert/rules"
)

// Sources say which rules are loaded, and against what.
type Sources struct {
	// Paths are files and directories, in the order in which they are loaded; empty for the shipped pack.
	Paths []string
	// Lists are files of named lists, after those of the shipped pack and of the directories.
	Lists []string
	// Options but for the lists.
	Options rule.Options
}

// RulesError says that rules cannot be loaded. It holds every fault of every file.
type RulesError struct{ Err error }

func (e *RulesError) Error() string { return e.Err.Error() }
func (e *RulesError) Unwrap() error { return e.Err }

// Load reads the rules. The error is a *RulesError.
func (s Sources) Load() (*ir.Pack, error) {
	shipped, err := rule.ReadDir(rules.Files(), "")
	if err != nil {
		return nil, err
	}
	files, lists := rule.SplitLists(shipped)
	var errs []error
	if len(s.Paths) > 0 {
		files = nil
	}
	for _, path := range s.Paths {
		more, err := readPath(path)
		if err != nil {
			errs = append(errs, err)
		}
		ruleFiles, listFiles := rule.SplitLists(more)
		files, lists = append(files, ruleFiles...), append(lists, listFiles...)
	}
	for _, path := range s.Lists {
		data, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading lists: %w", err))
		}
		lists = append(lists, ir.File{Name: path, Data: data})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, &RulesError{err}
	}
	options := s.Options
	if options.Lists, err = rule.ParseLists(lists); err != nil {
		return nil, &RulesError{err}
	}
	pack, err := rule.Load(files, options)
	if err != nil {
		return nil, &RulesError{err}
	}
	return pack, nil
}

// readPath reads a file, or the rule files of a directory.
func readPath(path string) ([]ir.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading rules: %w", err)
	}
	if !info.IsDir() {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading rules: %w", err)
		}
		return []ir.File{{Name: path, Data: data}}, nil
	}
	files, err := rule.ReadDir(os.DirFS(path), path)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: there is no rule, no file *.yml or *.yaml", path)
	}
	return files, nil
}

// SplitPaths takes apart what was given to a flag that may be repeated: each value is a path, or several with commas between.
func SplitPaths(values []string) []string {
	var paths []string
	for _, value := range values {
		if _, err := os.Stat(value); errors.Is(err, fs.ErrNotExist) && strings.Contains(value, ",") {
			paths = append(paths, strings.Split(value, ",")...)
			continue
		}
		paths = append(paths, value)
	}
	return paths
}
