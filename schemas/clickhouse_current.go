package schemas

import (
	"fmt"
	"strings"
)

// Of an event that was corrected there are several rows in event_rows; the one that counts has the version that
// event_versions names, and events is the view of these alone. An event that was never corrected is not in
// event_versions: its row with version 0 counts. So there is exactly one row of each event at any moment, also between the
// insert of a correction and that of its version.

// Move gives a table another name. It cannot be repeated as it is, so whoever runs migrations looks first.
type Move struct {
	From, To string // without the database; To is empty if From goes away: it holds no rows of its own
	// Statement does it.
	Statement string
}

// moves are what has to happen before the statements of a migration.
func (c sqlContext) moves() []Move {
	if c.version != currentRowsSince {
		return nil
	}
	from, to := c.LocalTable("events"), c.LocalTable("event_rows")
	all := []Move{{
		From: from, To: to, Statement: fmt.Sprintf("RENAME TABLE %s.%s TO %s.%s%s", c.Database, from, c.Database, to, c.OnCluster()),
	}}
	if c.Cluster != "" {
		all = append(all, Move{From: "events", Statement: fmt.Sprintf("DROP TABLE IF EXISTS %s.events%s SYNC", c.Database, c.OnCluster())})
	}
	return all
}

// currentRowsSince is the migration that makes events a view.
const currentRowsSince = 6

// VersionsInMemory reports whether event_versions is a table of the engine Join. It alone keeps the reading of few
// columns of many rows fast; it cannot be replicated.
func (o SQLOptions) VersionsInMemory() bool { return o.Cluster == "" && !o.Replicated }

// EventVersions is the statements for the table of the versions that count. event_id is the one of event_rows as a String,
// that is without zeros at its end: a Join table cannot be read with a FixedString as its key.
func (c sqlContext) EventVersions() string {
	columns := "\n(\n    `event_id` String,\n    `version` Int64,\n    `received_day` Date\n)\n"
	head := "CREATE TABLE IF NOT EXISTS " + c.Local("event_versions") + c.OnCluster() + columns
	if c.VersionsInMemory() {
		return head + "ENGINE = Join(ANY, LEFT, event_id)\nSETTINGS join_any_take_last_row = 1;\n"
	}
	return head + "ENGINE = " + c.Engine("ReplacingMergeTree") + "(version)\nPARTITION BY toYYYYMM(received_day)\nORDER BY event_id" +
		c.TTL("received_day", c.RetentionDays) + "\nSETTINGS ttl_only_drop_parts = 1, " + c.Dedup() + ";\n" +
		c.Distributed("event_versions", "cityHash64(event_id)")
}

// counts is the condition that a row of event_rows is the one that counts.
func (o SQLOptions) counts() string {
	versions := o.Database + ".event_versions"
	if o.VersionsInMemory() {
		return fmt.Sprintf("version = joinGet('%s', 'version', CAST(event_id AS String))", versions)
	}
	global := ""
	if o.Cluster != "" {
		global = "GLOBAL "
	}
	return fmt.Sprintf("if(version = 0,\n    CAST(event_id AS String) %[1]sNOT IN (SELECT event_id FROM %[2]s),\n"+
		"    (CAST(event_id AS String), version) %[1]sIN (SELECT event_id, max(version) FROM %[2]s GROUP BY event_id))", global, versions)
}

// EventView is the statement for the view of the rows that count. It has the columns of the table, comments and aliases too.
func (c sqlContext) EventView() string {
	var columns, names []string
	for _, column := range Columns() {
		if column.Since <= c.version {
			columns = append(columns, fmt.Sprintf("    `%s` %s%s", column.Name, column.Type.ClickHouse(), column.comment(c.bare)))
			names = append(names, "`"+column.Name+"`")
		}
	}
	for _, alias := range EventAliases() {
		columns = append(columns, fmt.Sprintf("    `%s` %s ALIAS %s", alias.Name, alias.Type, alias.Expression))
	}
	return fmt.Sprintf("CREATE VIEW IF NOT EXISTS %s.events%s\n(\n%s\n)\nAS SELECT %s\nFROM %s.event_rows\nWHERE %s;\n",
		c.Database, c.OnCluster(), strings.Join(columns, ",\n"), strings.Join(names, ", "), c.Database, c.counts())
}

// RollupViewOfFirstRows is the statement that makes a materialized view count each event once, at its first row.
func (c sqlContext) RollupViewOfFirstRows(table string) (string, error) {
	for _, r := range Rollups() {
		if r.Table == table {
			return fmt.Sprintf("ALTER TABLE %s.%s_mv%s MODIFY QUERY\n%s;\n",
				c.Database, table, c.OnCluster(), r.selectFrom(c.Local("event_rows"), "version = 0")), nil
		}
	}
	return "", fmt.Errorf("no rollup %s", table)
}
