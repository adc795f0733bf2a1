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
	// Minute is the expression over events of the column minute.
	Minute string
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
			Minute: "toStartOfMinute(event_time)",
		},
		{
			Table: "intake_per_minute",
			Columns: [][2]string{
				{"minute", "toStartOfMinute(received_at)"}, {"cluster", ""}, {"source", ""}, {"raw_partition", ""},
			},
			Sums: [][2]string{
				{"events", "count()"}, {"bytes", "sum(length(raw))"}, {"damaged", "countIf(damage != '')"},
			},
			Minute: "toStartOfMinute(received_at)",
		},
	}
}

// Select is the query over events whose result the rollup holds; where may be empty.
func (r Rollup) Select(o SQLOptions, where string) string {
	var columns, keys []string
	for _, c := range append(append([][2]string(nil), r.Columns...), r.Sums...) {
		if c[1] == "" {
			columns = append(columns, c[0])
		} else {
			columns = append(columns, c[1]+" AS "+c[0])
		}
	}
	for _, c := range r.Columns {
		keys = append(keys, c[0])
	}
	if where != "" {
		where = "\nWHERE " + where
	}
	return fmt.Sprintf("SELECT %s\nFROM %s.%s%s\nGROUP BY %s", strings.Join(columns, ", "),
		o.Database, o.LocalTable("events"), where, strings.Join(keys, ", "))
}

// RollupView is the statement for the materialized view that fills a rollup.
func (c sqlContext) RollupView(table string) (string, error) {
	for _, r := range Rollups() {
		if r.Table == table {
			return fmt.Sprintf("CREATE MATERIALIZED VIEW IF NOT EXISTS %s.%s_mv%s\nTO %s AS\n%s;\n",
				c.Database, table, c.OnCluster(), c.Local(table), r.Select(c.SQLOptions, "")), nil
		}
	}
	return "", fmt.Errorf("no rollup %s", table)
}
