package schemas

import (
	"fmt"
	"strings"
)

// FieldsMarkdown returns docs/fields.md: every column of an enriched event, for rules and SQL.
func FieldsMarkdown() string {
	var b strings.Builder
	b.WriteString(`<!-- Generated from schemas/columns.go by: go test ./schemas -run TestFieldsMarkdown -update -->

# Fields of an enriched event

Each field is a column of the Arrow records in ` + "`" + TopicEnriched + "`" + `, a column of the ClickHouse table
` + "`events`" + `, and a name that rules may use. Rules may also use the path that the value has in an audit.k8s.io Event.
In Arrow, null means that the event had no such value; in ClickHouse it is the default of the type (an empty
string, 0, 1970-01-01). Lists and maps are never null.
`)
	for _, group := range []struct {
		name  Group
		title string
	}{
		{GroupRecord, "The record"},
		{GroupRequest, "The request"},
		{GroupCaller, "The caller"},
		{GroupWho, "Who it was"},
		{GroupWhy, "Why it was allowed"},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n| field | path in the event | ClickHouse type | meaning |\n|---|---|---|---|\n", group.title)
		for _, c := range Columns() {
			if c.Group == group.name {
				writeField(&b, c.Name, c.Path, c.Type.ClickHouse(), c.Doc)
			}
		}
	}
	b.WriteString(`
## In ClickHouse only

These columns are computed when they are read; ` + "`SELECT *`" + ` leaves them out.

| field | path in the event | ClickHouse type | meaning |
|---|---|---|---|
`)
	for _, c := range EventAliases() {
		writeField(&b, c.Name, "", c.Type, c.Doc)
	}
	b.WriteString("\n## Alerts\n\nThe columns of the table `alerts` are the keys of the JSON in `" + TopicAlerts + "`:\n" +
		"one row for each id after `FINAL`.\n\n| column | ClickHouse type |\n|---|---|\n")
	for _, c := range AlertColumns() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", c.Name, c.Type)
	}
	return b.String()
}

func writeField(b *strings.Builder, name, path, typ, doc string) {
	if path != "" {
		path = "`" + path + "`"
	}
	fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", name, path, typ, strings.ReplaceAll(doc, "|", `\|`))
}

// EventAlias is a column of events that ClickHouse computes when it is read.
type EventAlias struct {
	Name, Type, Expression, Doc string
}

// EventAliases returns the computed columns of events.
func EventAliases() []EventAlias {
	return []EventAlias{
		{"id", "String", "lower(hex(event_id))", "event_id as 32 hexadecimal digits."},
		{"request_object", "String", "JSONExtractRaw(raw, 'requestObject')", "The object in the request, as JSON."},
		{"response_object", "String", "JSONExtractRaw(raw, 'responseObject')", "The object in the response, as JSON."},
	}
}
