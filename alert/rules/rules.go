// Package rules is the shipped pack of detection rules: Sigma YAML, one rule a file, each
// with its cases beside it. Everything is embedded in the binary.
//
// NAME.yml is the rule, NAME.cases.jsonl its cases, one JSON object a line:
//
//	{"case": "what it shows", "match": true, "event": {…an audit.k8s.io Event…}}
package rules

import (
	"embed"
	"io/fs"

	"github.com/auditmill/auditmill/alert/rule"
)

//go:embed *.yml *.cases.jsonl
var files embed.FS

// Files returns the files of the pack, to be read or written out.
func Files() fs.FS { return files }

// Parse returns the rules of the pack.
func Parse() ([]rule.Rule, error) { return rule.ParseDir(files) }
