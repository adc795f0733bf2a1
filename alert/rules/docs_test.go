package rules_test

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/alert/rules"
)

const docsPage = "../../docs/detections.md"

var listName = regexp.MustCompile(`%([a-z_]+)%`)

// TestDocs holds docs/detections.md to the pack. It is written with -update.
func TestDocs(t *testing.T) {
	got := page(t)
	if *update {
		if err := os.WriteFile(docsPage, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(docsPage)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s is not what the pack says; write it with go test ./alert/rules -run Docs -update (-file +pack):\n%s", docsPage, d)
	}
}

func page(t *testing.T) string {
	t.Helper()
	pack := load(t)
	all := detections(pack)
	stateful := map[string]ir.Correlation{}
	for _, c := range pack.Correlations {
		stateful[c.ID] = c
	}
	uses := map[string]int{}
	var tables, index strings.Builder
	for _, tactic := range tactics() {
		n := 0
		var rows strings.Builder
		for _, m := range all {
			if path.Dir(m.Position.File) != tactic {
				continue
			}
			n++
			lists := listsOf(t, m.Position.File)
			for _, name := range lists {
				uses[name]++
			}
			row(&rows, m, stateful[m.ID], lists)
		}
		title := strings.ToUpper(tactic[:1]) + strings.ReplaceAll(tactic[1:], "-", " ")
		fmt.Fprintf(&index, "| [%s](#%s) | %d |\n", title, tactic, n)
		fmt.Fprintf(&tables, "\n## %s\n\n| rule | level | audit level | ATT&CK | what it finds | lists |\n|---|---|---|---|---|---|\n%s", title, rows.String())
	}
	return fmt.Sprintf(`# Detections

This page is made from the rules in [alert/rules](../alert/rules) by `+"`go test ./alert/rules -run Docs -update`"+`.
The pack has %d detections, %d of them correlations of several events.

| tactic | detections |
|---|---|
%s
The audit level is the lowest at which a rule can match; %s
`, len(all), len(stateful), index.String(), notes) + tables.String() + listTable(t, uses)
}

const notes = "`auditmill rules list --audit-level Metadata` says which\n" +
	"cannot be evaluated where the policy records less. A list is data that a rule refers to: what it holds is at the end of this page."

func row(b *strings.Builder, m *ir.Meta, c ir.Correlation, lists []string) {
	what := strings.TrimSpace(m.Description)
	if c.Type != "" {
		what = fmt.Sprintf("*%s, %s.* %s", strings.ReplaceAll(string(c.Type), "_", " "), span(c.Timespan), what)
	}
	name := strings.TrimSuffix(path.Base(m.Position.File), ".yml")
	fmt.Fprintf(b, "| [%s](../alert/rules/%s)<br>%s | %s | %s | %s | %s | %s |\n", name, m.Position.File, cell(m.Title), m.Level, m.AuditLevel,
		strings.Join(techniques(m), ", "), cell(what), strings.Join(lists, ", "))
}

func span(d time.Duration) string {
	switch {
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d min", d/time.Minute)
}

func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(text)
}

// listsOf returns the names of the lists that a file refers to.
func listsOf(t *testing.T, file string) []string {
	t.Helper()
	text, err := fs.ReadFile(rules.Files(), file)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range listName.FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains(names, m[1]) {
			names = append(names, m[1])
		}
	}
	slices.Sort(names)
	return names
}

func listTable(t *testing.T, uses map[string]int) string {
	t.Helper()
	text, err := fs.ReadFile(rules.Files(), "lists.yml")
	if err != nil {
		t.Fatal(err)
	}
	lists, err := rule.ParseLists([]ir.File{{Name: "lists.yml", Data: text}})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("\n## Lists\n\n| list | rules | values as shipped |\n|---|---|---|\n")
	var names []string
	for name := range lists {
		names = append(names, name)
		if uses[name] == 0 {
			t.Errorf("lists.yml: no rule uses %s", name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		values := "none: fill it in"
		if len(lists[name]) > 0 {
			values = "`" + strings.Join(lists[name], "`, `") + "`"
		}
		fmt.Fprintf(&b, "| %s | %d | %s |\n", name, uses[name], cell(values))
	}
	return b.String()
}
