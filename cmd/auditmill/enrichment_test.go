package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/auditmill/auditmill/schemas"
)

// TestEnrichmentExamples keeps the examples of docs/enrichment.md: what `auditmill enrich file` prints of the recording.
func TestEnrichmentExamples(t *testing.T) {
	const dumps, doc = "../../../shared/data/kube/context-before", "../../docs/enrichment.md"
	if _, err := os.Stat(dumps); err != nil {
		t.Skip("needs the dumps of the recorded cluster: ", err)
	}
	var out bytes.Buffer
	cmd := newRoot()
	cmd.SetOut(&out)
	cmd.SetArgs([]string{
		"enrich", "file", "--cluster", "prod", "--context", dumps, "--people", "../../testdata/recording/people.csv",
		"--ranges", "../../testdata/recording/networks.txt", "../../testdata/recording/sample.jsonl.gz",
	})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), "beside the project -->\n")
	_, after, also := strings.Cut(rest, "<!-- end -->")
	if !ok || !also {
		t.Fatalf("%s: no place for the examples", doc)
	}
	want := before + "beside the project -->\n" + examples(t, out.Bytes()) + "<!-- end -->" + after
	if *update {
		if err := os.WriteFile(doc, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(text) != want {
		t.Errorf("%s is out of date: run go test ./cmd/auditmill -run TestEnrichmentExamples -update", doc)
	}
}

// examples is a table with an example of each column of who and why, of as few events as possible.
func examples(t *testing.T, rows []byte) string {
	t.Helper()
	found, events := map[string]string{}, map[string]string{}
	// Rather of what people did than of controllers.
	for _, people := range []bool{true, false} {
		for line := range bytes.Lines(rows) {
			var row map[string]any
			if err := json.Unmarshal(line, &row); err != nil {
				t.Fatal(err)
			}
			if (row["actor_kind"] == "human") != people {
				continue
			}
			for _, c := range schemas.Columns() {
				if c.Group != schemas.GroupWho && c.Group != schemas.GroupWhy || found[c.Name] != "" {
					continue
				}
				if value := exampleOf(row[c.Name]); value != "" {
					found[c.Name] = value
					events[c.Name] = fmt.Sprintf("%s %s %s", row["actor"], row["verb"], target(row))
				}
			}
		}
	}
	var b strings.Builder
	b.WriteString("\n| column | example | of |\n|---|---|---|\n")
	for _, c := range schemas.Columns() {
		if c.Group == schemas.GroupWho || c.Group == schemas.GroupWhy {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.Name, found[c.Name], events[c.Name])
		}
	}
	b.WriteString("\n")
	return b.String()
}

func target(row map[string]any) string {
	if row["resource"] == nil {
		path, _, _ := strings.Cut(fmt.Sprint(row["request_uri"]), "?")
		return path
	}
	text := fmt.Sprint(row["resource"])
	if row["subresource"] != nil {
		text += fmt.Sprintf("/%s", row["subresource"])
	}
	if row["namespace"] != nil {
		text += fmt.Sprintf(" in %s", row["namespace"])
	}
	return text
}

// exampleOf writes a value; of long lists the first.
func exampleOf(value any) string {
	const most = 2
	switch v := value.(type) {
	case nil:
		return ""
	case []any:
		var parts []string
		for i, e := range v {
			if i == most {
				parts = append(parts, fmt.Sprintf("and %d more", len(v)-most))
				break
			}
			parts = append(parts, "`"+strings.ReplaceAll(fmt.Sprint(e), "|", `\|`)+"`")
		}
		return strings.Join(parts, ", ")
	case map[string]any:
		if len(v) == 0 {
			return ""
		}
		text, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return "`" + string(text) + "`"
	case float64:
		return "`" + fmt.Sprintf("%.0f", v) + "`"
	default:
		return "`" + strings.ReplaceAll(fmt.Sprint(v), "|", `\|`) + "`"
	}
}
