package schemas

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files and docs/fields.md anew")

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is out of date; run go test ./schemas -update\n%s", path, diff)
	}
}

func allSQL(t *testing.T, o SQLOptions) string {
	t.Helper()
	setup, err := MigrationTable(o)
	if err != nil {
		t.Fatal(err)
	}
	out := strings.Join(setup, ";\n\n") + ";\n"
	migrations, err := Migrations(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range migrations {
		out += fmt.Sprintf("\n-- %04d_%s %s\n\n", m.Version, m.Name, m.Checksum)
		for _, move := range m.Moves {
			out += "-- unless it is done\n" + move.Statement + ";\n\n"
		}
		out += strings.Join(m.Statements, ";\n\n") + ";\n"
	}
	for _, ttl := range TTLs(o) {
		out += "\n-- when the retention changes: " + ttl.Statement + "\n"
	}
	return out
}

func TestDDL(t *testing.T) {
	golden(t, "testdata/ddl/single.sql", allSQL(t, SQLOptions{Database: "auditmill", RetentionDays: 400, AlertRetentionDays: 800}))
	golden(t, "testdata/ddl/cluster.sql", allSQL(t, SQLOptions{
		Database: "auditmill", Cluster: "{cluster}", Replicated: true, RetentionDays: 90, AlertRetentionDays: 90,
	}))
	golden(t, "testdata/ddl/forever.sql", allSQL(t, SQLOptions{Database: "auditmill"}))
}

func TestFieldsMarkdown(t *testing.T) {
	golden(t, "../docs/fields.md", FieldsMarkdown())
}

func TestChecksumIgnoresOptions(t *testing.T) {
	a, err := Migrations(SQLOptions{Database: "a"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Migrations(SQLOptions{Database: "b", Cluster: "c", Replicated: true, RetentionDays: 7})
	if err != nil {
		t.Fatal(err)
	}
	for i := range a {
		if a[i].Checksum != b[i].Checksum {
			t.Errorf("migration %d has another checksum with other options", i+1)
		}
		if reflect.DeepEqual(a[i].Statements, b[i].Statements) {
			t.Errorf("migration %d does not depend on the options", i+1)
		}
	}
}

func TestSQLOptionsAreChecked(t *testing.T) {
	for _, o := range []SQLOptions{
		{}, {Database: "a b"}, {Database: "a`; DROP"}, {Database: "a", Cluster: "x'y"}, {Database: "a", RetentionDays: -1},
	} {
		if _, err := Migrations(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

// TestColumnsNameTheirMigration holds new columns to the rule: Since is the number of a migration that adds them.
func TestColumnsNameTheirMigration(t *testing.T) {
	migrations, err := Migrations(SQLOptions{Database: "d"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range Columns() {
		number := max(c.Since, 1)
		if number > len(migrations) {
			t.Errorf("column %s: Since is %d, there are %d migrations", c.Name, c.Since, len(migrations))
			continue
		}
		if sql := strings.Join(migrations[number-1].Statements, "\n"); !strings.Contains(sql, "`"+c.Name+"` "+c.Type.ClickHouse()) {
			t.Errorf("column %s: migration %d does not add it; it needs {{.AddEventColumns}}", c.Name, number)
		}
	}
}

func TestAddedColumns(t *testing.T) {
	c := sqlContext{SQLOptions: SQLOptions{Database: "d", Cluster: "c"}, version: 0}
	sql := c.AddEventColumns()
	for _, want := range []string{
		"ALTER TABLE d.event_rows_local ON CLUSTER 'c' ADD COLUMN IF NOT EXISTS `event_id` FixedString(16)", " FIRST;\n",
		"ALTER TABLE d.event_rows ON CLUSTER 'c' ADD COLUMN IF NOT EXISTS `raw` String", " AFTER `caller_dangerous`;\n",
	} {
		if !strings.Contains(sql, want) {
			t.Errorf("no %q in the statements that add columns", want)
		}
	}
}

func TestAlertColumnsAreTheFieldsOfAlert(t *testing.T) {
	fields := reflect.VisibleFields(reflect.TypeFor[Alert]())
	columns := AlertColumns()
	if len(fields) != len(columns) {
		t.Fatalf("Alert has %d fields, the table %d columns", len(fields), len(columns))
	}
	for i, f := range fields {
		want, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if got := columns[i].Name; got != want {
			t.Errorf("column %d is %s, want %s", i, got, want)
		}
		switch reflect.Zero(f.Type).Interface().(type) {
		case string:
			want = "String"
		case []string:
			want = "Array("
		case time.Time:
			want = "DateTime64(6, 'UTC')"
		case uint16:
			want = "UInt16"
		case uint64:
			want = "UInt64"
		case map[string]string:
			want = "Map("
		default:
			t.Fatalf("field %s has a type that the table does not know", f.Name)
		}
		if !strings.Contains(columns[i].Type, want) {
			t.Errorf("column %s is %s, which does not hold a %s", columns[i].Name, columns[i].Type, f.Type)
		}
	}
}

// TestNoBloomOnLowCardinality keeps a kind of index away that makes inserts ten times slower there.
func TestNoBloomOnLowCardinality(t *testing.T) {
	migrations, err := Migrations(SQLOptions{Database: "d"})
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]Type{}
	for _, c := range Columns() {
		types[c.Name] = c.Type
	}
	for line := range strings.SplitSeq(migrations[0].Statements[0], "\n") {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[0] != "INDEX" || !strings.Contains(fields[4], "bloom") && !strings.Contains(fields[4], "text") {
			continue
		}
		if typ, ok := types[fields[2]]; !ok || typ != TypeString && typ != TypeStrings {
			t.Errorf("index %s is on %s, a %s", fields[1], fields[2], typ.ClickHouse())
		}
	}
}
