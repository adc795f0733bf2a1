package schemas

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"text/template"
)

//go:embed sql/*.sql
var sqlFiles embed.FS

// SQLOptions are the choices an operator has about the tables. The zero value of all
// but Database gives plain MergeTree tables that keep everything.
type SQLOptions struct {
	// Database holds all tables; it is created if missing.
	Database string
	// Cluster, if set, adds ON CLUSTER to every statement and a Distributed table above each local one.
	Cluster string
	// Replicated makes the tables Replicated*MergeTree; it needs a Keeper.
	Replicated bool
	// RetentionDays is how long events and rollups are kept; 0 means for ever.
	RetentionDays int
	// AlertRetentionDays is the same for alerts.
	AlertRetentionDays int
}

// DedupWindow is how many inserts each table remembers, to recognise one that is repeated.
const DedupWindow = 10_000

// DedupWindowSeconds is how long a replicated table remembers them.
const DedupWindowSeconds = 7 * 24 * 3600

// Migration is one numbered step of the ClickHouse schema.
type Migration struct {
	Version int
	Name    string
	// Checksum names the content of the migration whatever the options are; it changes if
	// somebody edits a migration, or a column, that is already released.
	Checksum string
	// Moves come before the statements.
	Moves []Move
	// Statements must each be safe to run again.
	Statements []string
}

// Validate reports options that cannot be written into SQL.
func (o SQLOptions) Validate() error {
	var errs []error
	if !identifier.MatchString(o.Database) {
		errs = append(errs, fmt.Errorf("database %q: want letters, digits and _, not starting with a digit", o.Database))
	}
	if o.Cluster != "" && !clusterName.MatchString(o.Cluster) {
		errs = append(errs, fmt.Errorf("cluster %q: want letters, digits and _ - . { }", o.Cluster))
	}
	if o.RetentionDays < 0 || o.AlertRetentionDays < 0 {
		errs = append(errs, errors.New("retention: want days >= 0"))
	}
	return errors.Join(errs...)
}

var (
	identifier  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	clusterName = regexp.MustCompile(`^[A-Za-z0-9_.{}-]+$`)
	fileName    = regexp.MustCompile(`^(\d{4})_([a-z0-9_]+)\.sql$`)
)

// Migrations returns every migration that this build knows, in order.
func Migrations(o SQLOptions) ([]Migration, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	entries, err := sqlFiles.ReadDir("sql")
	if err != nil {
		return nil, fmt.Errorf("reading the embedded migrations: %w", err)
	}
	var all []Migration
	for _, entry := range entries {
		parts := fileName.FindStringSubmatch(entry.Name())
		if parts == nil {
			return nil, fmt.Errorf("migration %s: want a name like 0001_events.sql", entry.Name())
		}
		version, err := strconv.Atoi(parts[1])
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", entry.Name(), err)
		}
		if version != len(all)+1 {
			return nil, fmt.Errorf("migration %s: want number %04d", entry.Name(), len(all)+1)
		}
		m, err := renderMigration(entry.Name(), version, parts[2], o)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

func renderMigration(file string, version int, name string, o SQLOptions) (Migration, error) {
	text, err := sqlFiles.ReadFile(path.Join("sql", file))
	if err != nil {
		return Migration{}, fmt.Errorf("reading migration %s: %w", file, err)
	}
	c := sqlContext{SQLOptions: o, version: version}
	sql, err := renderSQL(file, string(text), c)
	if err != nil {
		return Migration{}, err
	}
	// One fixed choice of options and no comments, so that neither another retention nor a better
	// sentence looks like an edit.
	canonical, err := renderSQL(file, string(text), sqlContext{
		SQLOptions: SQLOptions{Database: "auditmill", Cluster: "c", Replicated: true}, version: version, bare: true,
	})
	if err != nil {
		return Migration{}, err
	}
	sum := sha256.Sum256([]byte(canonical))
	return Migration{
		Version: version, Name: name, Checksum: hex.EncodeToString(sum[:16]), Moves: c.moves(), Statements: statements(sql),
	}, nil
}

// statements splits at semicolons that end a line; no statement of ours has one inside.
func statements(sql string) []string {
	var all []string
	for part := range strings.SplitSeq(sql, ";\n") {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
}

func renderSQL(file, text string, c sqlContext) (string, error) {
	t, err := template.New(file).Option("missingkey=error").Parse(text)
	if err != nil {
		return "", fmt.Errorf("parsing migration %s: %w", file, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, c); err != nil {
		return "", fmt.Errorf("rendering migration %s: %w", file, err)
	}
	return out.String(), nil
}

// MigrationTable is the statements that create the database and the table of applied migrations.
func MigrationTable(o SQLOptions) ([]string, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	sql, err := renderSQL("schema_migrations", migrationTableSQL, sqlContext{SQLOptions: o})
	if err != nil {
		return nil, err
	}
	return statements(sql), nil
}

// The table is not sharded: every node of the cluster is a replica of the same rows.
const migrationTableSQL = `CREATE DATABASE IF NOT EXISTS {{.Database}}{{.OnCluster}};
CREATE TABLE IF NOT EXISTS {{.Database}}.schema_migrations{{.OnCluster}}
(
    version UInt32,
    name String,
    checksum String,
    applied_at DateTime64(3, 'UTC')
)
ENGINE = {{if .Replicated}}ReplicatedReplacingMergeTree(
    '/clickhouse/tables/{database}/schema_migrations', '{shard}-{replica}', applied_at)
{{- else}}ReplacingMergeTree(applied_at){{end}}
ORDER BY version;
`

// sqlContext is what a migration's template may use.
type sqlContext struct {
	SQLOptions
	version int
	bare    bool // leave comments out
}

// OnCluster is the clause, with a space before it, or nothing.
func (c sqlContext) OnCluster() string {
	if c.Cluster == "" {
		return ""
	}
	return " ON CLUSTER '" + c.Cluster + "'"
}

// Local is the name of the table that stores rows.
func (c sqlContext) Local(table string) string { return c.Database + "." + c.LocalTable(table) }

// LocalTable returns the name, without the database, of the table that stores the rows of
// table: inserts go there, so that the server recognises repeated ones.
func (o SQLOptions) LocalTable(table string) string {
	if o.Cluster == "" {
		return table
	}
	return table + "_local"
}

// Engine is the table engine, replicated if so configured.
func (c sqlContext) Engine(name string) string {
	if c.Replicated {
		return "Replicated" + name
	}
	return name
}

// Dedup is the settings that make a table recognise a repeated insert.
func (c sqlContext) Dedup() string {
	if c.Replicated {
		return fmt.Sprintf("replicated_deduplication_window = %d, replicated_deduplication_window_seconds = %d",
			DedupWindow, DedupWindowSeconds)
	}
	return fmt.Sprintf("non_replicated_deduplication_window = %d", DedupWindow)
}

// TTL is the TTL clause on a time column, or nothing.
func (c sqlContext) TTL(column string, days int) string {
	if days == 0 {
		return ""
	}
	return fmt.Sprintf("\nTTL %s + INTERVAL %d DAY DELETE", column, days)
}

// TTL says how long a table keeps its rows.
type TTL struct {
	Table string
	Days  int
	// Statement sets it on a table that was made with another retention.
	Statement string
}

// TTLs returns the retention of every table that has one.
func TTLs(o SQLOptions) []TTL {
	c := sqlContext{SQLOptions: o}
	all := []TTL{
		{Table: "event_rows", Days: o.RetentionDays, Statement: "toDateTime(received_at)"},
		{Table: "alerts", Days: o.AlertRetentionDays, Statement: "toDateTime(time)"},
		{Table: "activity_per_minute", Days: o.RetentionDays, Statement: "received_day"},
		{Table: "intake_per_minute", Days: o.RetentionDays, Statement: "minute"},
	}
	if !o.VersionsInMemory() {
		all = append(all, TTL{Table: "event_versions", Days: o.RetentionDays, Statement: "received_day"})
	}
	for i, t := range all {
		change := "REMOVE TTL"
		if t.Days > 0 {
			change = fmt.Sprintf("MODIFY TTL %s + INTERVAL %d DAY DELETE", t.Statement, t.Days)
		}
		all[i].Statement = fmt.Sprintf("ALTER TABLE %s%s %s", c.Local(t.Table), c.OnCluster(), change)
	}
	return all
}

// Distributed is the statement for the table over all shards, or nothing without a cluster.
func (c sqlContext) Distributed(table, key string) string {
	if c.Cluster == "" {
		return ""
	}
	return fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s.%s%s AS %s\nENGINE = Distributed('%s', '%s', '%s', %s);\n",
		c.Database, table, c.OnCluster(), c.Local(table), c.Cluster, c.Database, c.LocalTable(table), key)
}

// EventColumns is the column list of the migration that creates events.
func (c sqlContext) EventColumns() string {
	var lines []string
	for _, column := range Columns() {
		if column.Since <= c.version {
			lines = append(lines, "    "+column.ddl(c.bare))
		}
	}
	for _, alias := range EventAliases() {
		lines = append(lines, fmt.Sprintf("    `%s` %s ALIAS %s", alias.Name, alias.Type, alias.Expression))
	}
	return strings.Join(lines, ",\n")
}

// AddEventColumns is the statements that add the columns which are new since this migration.
func (c sqlContext) AddEventColumns() string {
	var b strings.Builder
	after := "FIRST"
	for _, column := range Columns() {
		if column.Since == c.version {
			for _, table := range c.tables("event_rows") {
				fmt.Fprintf(&b, "ALTER TABLE %s.%s%s ADD COLUMN IF NOT EXISTS %s %s;\n",
					c.Database, table, c.OnCluster(), column.ddl(c.bare), after)
			}
		}
		after = "AFTER `" + column.Name + "`"
	}
	return b.String()
}

// AlertColumns is the column list of the table of alerts.
func (c sqlContext) AlertColumns() string {
	lines := make([]string, 0, 32)
	for _, column := range AlertColumns() {
		if column.Since <= c.version {
			lines = append(lines, fmt.Sprintf("    `%s` %s", column.Name, column.Type))
		}
	}
	return strings.Join(lines, ",\n")
}

// AddAlertColumns is the statements that add the columns of alerts which are new since this migration.
func (c sqlContext) AddAlertColumns() string {
	var b strings.Builder
	after := "FIRST"
	for _, column := range AlertColumns() {
		if column.Since == c.version {
			for _, table := range c.tables("alerts") {
				fmt.Fprintf(&b, "ALTER TABLE %s.%s%s ADD COLUMN IF NOT EXISTS `%s` %s %s;\n",
					c.Database, table, c.OnCluster(), column.Name, column.Type, after)
			}
		}
		after = "AFTER `" + column.Name + "`"
	}
	return b.String()
}

// tables are the tables that hold the columns of one: the local one and the one over all shards.
func (c sqlContext) tables(name string) []string {
	if c.Cluster == "" {
		return []string{name}
	}
	return []string{c.LocalTable(name), name}
}

func (c Column) ddl(bare bool) string {
	codec := c.Codec
	if codec == "" {
		codec = "ZSTD(1)"
	}
	return fmt.Sprintf("`%s` %s%s CODEC(%s)", c.Name, c.Type.ClickHouse(), c.comment(bare), codec)
}

func (c Column) comment(bare bool) string {
	if bare {
		return ""
	}
	return " COMMENT '" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(c.Doc) + "'"
}
