package load

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/auditmill/auditmill/schemas"
)

func TestMigrationsGiveTheColumnTable(t *testing.T) {
	c, conn := testDatabase(t)
	type column struct{ name, typ, codec, comment, kind, expression string }
	columns := func(table string) map[string]column {
		rows, err := conn.Query(t.Context(), "SELECT name, type, compression_codec, comment, default_kind, default_expression "+
			"FROM system.columns WHERE database = ? AND table = ? ORDER BY position", c.Database, table)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = rows.Close() }()
		all := map[string]column{}
		for rows.Next() {
			var got column
			if err := rows.Scan(&got.name, &got.typ, &got.codec, &got.comment, &got.kind, &got.expression); err != nil {
				t.Fatal(err)
			}
			all[fmt.Sprintf("%d", len(all))] = got
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return all
	}
	got, i := columns("event_rows"), 0
	next := func() column {
		i++
		return got[fmt.Sprintf("%d", i-1)]
	}
	for _, want := range schemas.Columns() {
		codec := want.Codec
		if codec == "" {
			codec = "ZSTD(1)"
		}
		is := next()
		if is.name != want.Name || is.typ != want.Type.ClickHouse() || is.comment != want.Doc || is.kind != "" ||
			strings.ReplaceAll(is.codec, "Delta(8)", "Delta") != "CODEC("+codec+")" {
			t.Errorf("column %d is %+v, want %s %s CODEC(%s)", i, is, want.Name, want.Type.ClickHouse(), codec)
		}
	}
	for _, want := range schemas.EventAliases() {
		if is := next(); is.name != want.Name || is.kind != "ALIAS" || is.typ != want.Type {
			t.Errorf("column %d is %+v, want the alias %s", i, is, want.Name)
		}
	}
	if len(got) != i {
		t.Errorf("events has %d columns, want %d", len(got), i)
	}
	alerts := columns("alerts")
	for i, want := range schemas.AlertColumns() {
		if is := alerts[fmt.Sprintf("%d", i)]; is.name != want.Name || is.typ != want.Type {
			t.Errorf("column %d of alerts is %+v, want %+v", i, is, want)
		}
	}
}

func TestMigrateTwiceAndAtOnce(t *testing.T) {
	c := testClickHouse(t)
	conn := testConn(t, c)
	states, err := MigrationState(t.Context(), conn, c.SQL())
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range states {
		if !state.AppliedAt.IsZero() {
			t.Errorf("migration %d counts as applied in a database that is not there", state.Version)
		}
	}
	group, ctx := errgroup.WithContext(t.Context())
	for range 4 {
		group.Go(func() error {
			_, err := Migrate(ctx, conn, c.SQL())
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	applied, err := Migrate(t.Context(), conn, c.SQL())
	if err != nil || len(applied) != 0 {
		t.Errorf("another run applied %d migrations: %v", len(applied), err)
	}
	states, err = MigrationState(t.Context(), conn, c.SQL())
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range states {
		if time.Since(state.AppliedAt) > time.Hour {
			t.Errorf("migration %d was applied at %s", state.Version, state.AppliedAt)
		}
	}
	if n := ask(t, conn, c, "SELECT count() FROM schema_migrations FINAL"); n != fmt.Sprint(len(states)) {
		t.Errorf("%s rows in schema_migrations, want %d", n, len(states))
	}
}

// latest is the number of the newest migration of this build.
func latest(t *testing.T) int {
	t.Helper()
	migrations, err := schemas.Migrations(schemas.SQLOptions{Database: "d"})
	if err != nil {
		t.Fatal(err)
	}
	return len(migrations)
}

func TestMigrateRefuses(t *testing.T) {
	for _, test := range []struct {
		name, sql string
		want      error
		text      string
	}{
		{
			"newer", "INSERT INTO %s.schema_migrations VALUES (999, 'from_the_future', 'x', now64(3))",
			ErrNewerSchema, fmt.Sprintf("0999_from_the_future, this build knows up to %04d: upgrade auditmill", latest(t)),
		},
		{
			"other", "INSERT INTO %s.schema_migrations VALUES (2, 'alerts', 'edited', now64(3) + 1)",
			ErrOtherSchema, "0002_alerts in",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, conn := testDatabase(t)
			if err := conn.Exec(t.Context(), fmt.Sprintf(test.sql, c.Database)); err != nil {
				t.Fatal(err)
			}
			_, err := Migrate(t.Context(), conn, c.SQL())
			if !errors.Is(err, test.want) || !strings.Contains(fmt.Sprint(err), test.text) {
				t.Errorf("Migrate: %v", err)
			}
			err = <-start(t, testConfig(), testKafka(t, 1), c).done
			if !errors.Is(err, test.want) {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

func TestServiceWantsMigrations(t *testing.T) {
	err := <-start(t, testConfig(), testKafka(t, 1), testClickHouse(t)).done
	if err == nil || !strings.Contains(err.Error(), "lacks migration 0001_events: run auditmill migrate") {
		t.Errorf("Run: %v", err)
	}
}

func TestRetentionChanges(t *testing.T) {
	c, conn := testDatabase(t)
	for _, days := range []time.Duration{30, 7, 7, 0, 90} {
		c.Retention, c.AlertRetention = days*day, 2*days*day
		if _, err := Migrate(t.Context(), conn, c.SQL()); err != nil {
			t.Fatal(err)
		}
		for table, want := range map[string]int{"event_rows": int(days), "activity_per_minute": int(days), "intake_per_minute": int(days), "alerts": 2 * int(days)} {
			ttl := ask(t, conn, c, "SELECT extract(engine_full, 'toIntervalDay\\\\((\\\\d+)\\\\)') FROM system.tables WHERE database = '%s' AND name = '%s'", c.Database, table)
			if want == 0 && ttl != "" || want != 0 && ttl != fmt.Sprint(want) {
				t.Errorf("%s is kept for %q days, want %d", table, ttl, want)
			}
		}
	}
}

// TestClusterSQLParses lets ClickHouse read the statements for a cluster, which it cannot run alone.
func TestClusterSQLParses(t *testing.T) {
	c := testClickHouse(t)
	conn := testConn(t, c)
	o := schemas.SQLOptions{Database: "d", Cluster: "{cluster}", Replicated: true, RetentionDays: 9, AlertRetentionDays: 9}
	all, err := schemas.MigrationTable(o)
	if err != nil {
		t.Fatal(err)
	}
	migrations, err := schemas.Migrations(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range migrations {
		for _, move := range m.Moves {
			all = append(all, move.Statement)
		}
		all = append(all, m.Statements...)
	}
	for _, ttl := range schemas.TTLs(o) {
		all = append(all, ttl.Statement)
	}
	if len(all) < 20 {
		t.Errorf("only %d statements", len(all))
	}
	for _, sql := range all {
		if err := conn.Exec(context.WithoutCancel(t.Context()), "EXPLAIN AST "+sql); err != nil {
			t.Errorf("%v\n%s", err, sql)
		}
	}
}
