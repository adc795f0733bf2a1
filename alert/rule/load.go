package rule

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/alert/rule/sigma"
)

// File is a rule file. Name is how positions spell it.
type File = ir.File

// Options say what the rules are loaded for.
type Options struct {
	// Lists are the named lists that rules may ask for; an empty one matches nothing.
	Lists map[string][]string
	// Compatible keeps the known bugs of Falco's extractor.
	Compatible bool
	// AuditLevel is the highest level that this deployment records: Metadata, Request or
	// RequestResponse; empty for the last.
	AuditLevel string
	// Absent are columns that the sources of this deployment never fill, such as groups where events
	// come from a cloud's log that leaves them out.
	Absent []string
}

// Load reads rule files of every language, which each file shows by its form: a YAML list of
// mappings with the keys of Falco is a Falco file, anything else is Sigma. All files are read
// together, since filters, correlations, macros and lists refer across files; Falco files
// in the order given. The error is Faults with every fault of every file.
//
// Rules that the data of the deployment can never satisfy are not refused: they are returned
// with Meta.Blind saying why.
func Load(files []File, o Options) (*ir.Pack, error) {
	var sigmas, falcos []File
	for _, f := range files {
		if isFalco(f.Data) {
			falcos = append(falcos, f)
		} else {
			sigmas = append(sigmas, f)
		}
	}
	pack := &ir.Pack{}
	var faults Faults
	add := func(more *ir.Pack, err error) error {
		var found Faults
		if err != nil && !errors.As(err, &found) {
			return err
		}
		faults = append(faults, found...)
		if more != nil {
			pack.Rules = append(pack.Rules, more.Rules...)
			pack.Correlations = append(pack.Correlations, more.Correlations...)
			pack.Notes = append(pack.Notes, more.Notes...)
		}
		return nil
	}
	if len(sigmas) > 0 {
		if err := add(sigma.Parse(sigmas, ir.NewFields(), sigma.Options{Lists: o.Lists})); err != nil {
			return nil, err
		}
	}
	if len(falcos) > 0 {
		if err := add(parseFalco(falcos, o)); err != nil {
			return nil, err
		}
	}
	if faults = append(faults, duplicateIDs(pack)...); len(faults) > 0 {
		return nil, faults.Err()
	}
	markBlind(pack, o)
	return pack, nil
}

// isFalco reports whether data begins with a list of mappings of which the first has a key
// that only Falco knows.
func isFalco(data []byte) bool {
	if len(data) > sigma.MaxBytes*16 {
		return false
	}
	var document yaml.Node
	// A file that is broken somewhere must still be told apart, so that the right parser
	// reports it: the first document or, failing that, its text decides.
	if yaml.Unmarshal(data, &document) != nil || len(document.Content) == 0 {
		return falcoText(string(data))
	}
	root := document.Content[0]
	if root.Kind != yaml.SequenceNode {
		return false
	}
	for _, item := range root.Content {
		for i := 0; item.Kind == yaml.MappingNode && i < len(item.Content); i += 2 {
			if isFalcoKey(item.Content[i].Value) {
				return true
			}
		}
	}
	return len(root.Content) == 0
}

func falcoText(text string) bool {
	for line := range strings.Lines(text) {
		if item, ok := strings.CutPrefix(line, "- "); ok {
			key, _, _ := strings.Cut(item, ":")
			if isFalcoKey(strings.TrimSpace(key)) {
				return true
			}
		}
	}
	return false
}

func isFalcoKey(key string) bool {
	switch key {
	case "rule", "macro", "list", "required_engine_version", "required_plugin_versions":
		return true
	}
	return false
}

// ReadDir reads the files *.yml and *.yaml below the root of fsys, in the order of their names,
// and puts prefix before them. Files and directories that begin with a dot are passed over: a mounted
// ConfigMap keeps its older versions in such. Files of named lists are among them: SplitLists parts them.
func ReadDir(fsys fs.FS, prefix string) ([]File, error) {
	var files []File
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
		if ext := path.Ext(name); entry.IsDir() || ext != ".yml" && ext != ".yaml" {
			return nil
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		files = append(files, File{Name: path.Join(prefix, name), Data: data})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading rules: %w", err)
	}
	return files, nil
}

// ParseDir loads the files below the root of fsys, with the named lists among them, and returns their rules.
func ParseDir(fsys fs.FS) ([]Rule, error) {
	files, err := ReadDir(fsys, "")
	if err != nil {
		return nil, err
	}
	files, listFiles := SplitLists(files)
	lists, err := ParseLists(listFiles)
	if err != nil {
		return nil, err
	}
	return rulesOf(Load(files, Options{Lists: lists}))
}

// ParseFile loads one file without options and returns its rules.
func ParseFile(fsys fs.FS, name string) ([]Rule, error) {
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, fmt.Errorf("reading rules: %w", err)
	}
	return rulesOf(Load([]File{{Name: name, Data: data}}, Options{}))
}

func rulesOf(pack *ir.Pack, err error) ([]Rule, error) {
	if err != nil {
		return nil, err
	}
	return pack.Rules, nil
}

// duplicateIDs finds rules and correlations that share an id: their alerts could not be told apart.
func duplicateIDs(pack *ir.Pack) Faults {
	var metas []*ir.Meta
	for i := range pack.Rules {
		metas = append(metas, &pack.Rules[i].Meta)
	}
	for i := range pack.Correlations {
		metas = append(metas, &pack.Correlations[i].Meta)
	}
	var faults Faults
	first := map[string]ir.Position{}
	for _, m := range metas {
		if other, ok := first[m.ID]; ok {
			faults = append(faults, Fault{
				Position: m.Position, Field: "id",
				Problem: fmt.Sprintf("%q is also the id of the rule at %s", m.ID, other),
				Remedy:  "give each rule an id of its own",
			})
			continue
		}
		first[m.ID] = m.Position
	}
	return faults
}

func duplicates(rules []Rule) Faults { return duplicateIDs(&ir.Pack{Rules: rules}) }
