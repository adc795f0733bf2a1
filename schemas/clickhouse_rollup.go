package schemas

import (
	"fmt"
	"strings"
)

// Rollup is a table of counts per minute that a materialized view fills from events. Its rows keep
// raw_partition apart, so that the one loader that has a partition can make its part of the
// counts anew without disturbing others.
type Rollup struct {
	Table string
	// Columns are the key columns, each with the expression over events that gives it; an
	// empty expression is the column of the same name.
	Columns [][2]string
	// Sums are the counted columns and their expressions.
	Sums [][2]string
	// Minute is the expression over events of the column minute, which is the minute of the column Time.
	Minute, Time string
	// Corrected says that a correction of an event can change its counts.
	Corrected bool
}

// Rollups returns all rollups.
func Rollups() []Rollup {
	return []Rollup{
		{
			Table: "activity_per_minute",
			Columns: [][2]string{
				{"received_day", "toDate(received_at)"},
				{"minute", "toStartOfMinute(event_time)"},
				{"cluster", ""},
				{"actor", ""},
				{"actor_kind", ""},
				{"verb", ""},
				{"api_group", ""},
				{"resource", ""},
				{"subresource", ""},
				{"namespace", ""},
				{"outcome", ""},
				{"raw_partition", ""},
			},
			Sums:   [][2]string{{"events", "count()"}},
			Minute: "toStartOfMinute(event_time)", Time: "event_time", Corrected: true,
		},
		{
			Table: "intake_per_minute",
			Columns: [][2]string{
				{"minute", "toStartOfMinute(received_at)"}, {"cluster", ""}, {"source", ""}, {"raw_partition", ""},
			},
			Sums: [][2]string{
				{"events", "count()"}, {"bytes", "sum(length(raw))"}, {"damaged", "countIf(damage != '')"},
			},
			Minute: "toStartOfMinute(received_at)", Time: "received_at",
		},
	}
}

// Select is the query over the events that count whose result the rollup holds; where may be empty.
func (r Rollup) Select(o SQLOptions, where string) string {
	return r.selectFrom(o.Database+".events", where)
}

func (r Rollup) selectFrom(table, where string) string {
	var columns []string
	for _, c := range append(append([][2]string(nil), r.Columns...), r.Sums...) {
		if c[1] == "" {
			columns = append(columns, c[0])
		} else {
			columns = append(columns, c[1]+" AS "+c[0])
		}
	}
	if where != "" {
		where = "\nWHERE " + where
	}
	return fmt.Sprintf("SELECT %s\nFROM %s%s\nGROUP BY %s", strings.Join(columns, ", "), table, where, strings.Join(r.keys(), ", "))
}

func (r Rollup) keys() []string {
	keys := make([]string, 0, len(r.Columns))
	for _, c := range r.Columns {
		keys = append(keys, c[0])
	}
	return keys
}

// Mend is the statement that adds to the rollup what it lacks, and takes away what it has too much, of the events that count:
// rows with the differences, which may be negative. Counts are unsigned and wrap, so that a sum over them is right.
// Once it is done it finds nothing more to do: differences counts how many rows it would insert. events and rollup are the same
// condition, on each of the two tables.
func (r Rollup) Mend(o SQLOptions, events, rollup string) (insert, differences string) {
	keys := strings.Join(r.keys(), ", ")
	var names, truth, stored, sums, differ []string
	for i, s := range r.Sums {
		names = append(names, s[0])
		truth = append(truth, fmt.Sprintf("toInt64(%s) AS d%d", s[0], i))
		stored = append(stored, fmt.Sprintf("-toInt64(sum(%s)) AS d%d", s[0], i))
		sums = append(sums, fmt.Sprintf("toUInt64(sum(d%d))", i))
		differ = append(differ, fmt.Sprintf("sum(d%d) != 0", i))
	}
	query := fmt.Sprintf("SELECT %s, %s FROM\n(\nSELECT %s, %s FROM (%s)\nUNION ALL\n"+
		"SELECT %s, %s FROM %s.%s WHERE %s GROUP BY %s\n)\nGROUP BY %s HAVING %s",
		keys, strings.Join(sums, ", "), keys, strings.Join(truth, ", "), r.Select(o, events),
		keys, strings.Join(stored, ", "), o.Database, r.Table, rollup, keys,
		keys, strings.Join(differ, " OR "))
	insert = fmt.Sprintf("INSERT INTO %s.%s (%s, %s)\n%s", o.Database, o.LocalTable(r.Table), keys, strings.Join(names, ", "), query)
	return insert, fmt.Sprintf("SELECT count() FROM\n(\n%s\n)", query)
}

// RollupView is the statement for the materialized view that fills a rollup.
func (c sqlContext) RollupView(table string) (string, error) {
	for _, r := range Rollups() {
		if r.Table == table {
			return fmt.Sprintf("CREATE MATERIALIZED VIEW IF NOT EXISTS %s.%s_mv%s\nTO %s AS\n%s;\n",
				c.Database, table, c.OnCluster(), c.Local(table), r.selectFrom(c.Local("events"), "")), nil
		}
	}
	return "", fmt.Errorf("no rollup %s", table)
}
