package load

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditmill/auditmill/schemas"
)

// ErrNewerSchema says that the database was migrated by a newer build.
var ErrNewerSchema = errors.New("the database schema is newer than this build")

// ErrOtherSchema says that a migration was applied that has the number of one of ours and is another.
var ErrOtherSchema = errors.New("another migration was applied under this number")

// MigrationStatus is one migration and when it was applied; a zero time means not yet.
type MigrationStatus struct {
	schemas.Migration
	AppliedAt time.Time
}

// MigrationState returns every migration that this build knows. It fails with ErrNewerSchema when the
// database has others, and with ErrOtherSchema when an applied one is not the one of this build.
func MigrationState(ctx context.Context, conn driver.Conn, o schemas.SQLOptions) ([]MigrationStatus, error) {
	known, err := schemas.Migrations(o)
	if err != nil {
		return nil, err
	}
	applied, err := appliedMigrations(ctx, conn, o)
	if err != nil {
		return nil, err
	}
	states := make([]MigrationStatus, len(known))
	for i, m := range known {
		states[i].Migration = m
		a, ok := applied[m.Version]
		if !ok {
			continue
		}
		if a.checksum != m.Checksum {
			return nil, fmt.Errorf("%w: %04d_%s in %s has checksum %s, this build has %s: "+
				"use the build that applied it, or a new database",
				ErrOtherSchema, m.Version, m.Name, o.Database, a.checksum, m.Checksum)
		}
		states[i].AppliedAt = a.at
		delete(applied, m.Version)
	}
	for version, a := range applied {
		return nil, fmt.Errorf("%w: %s has migration %04d_%s, this build knows up to %04d: upgrade auditmill",
			ErrNewerSchema, o.Database, version, a.name, len(known))
	}
	return states, nil
}

type appliedMigration struct {
	name, checksum string
	at             time.Time
}

func appliedMigrations(ctx context.Context, conn driver.Conn, o schemas.SQLOptions) (map[int]appliedMigration, error) {
	rows, err := conn.Query(ctx, "SELECT version, name, checksum, applied_at FROM "+o.Database+".schema_migrations FINAL")
	if isMissingTable(err) {
		return map[int]appliedMigration{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the applied migrations: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err has what matters
	applied := map[int]appliedMigration{}
	for rows.Next() {
		var version uint32
		var a appliedMigration
		if err := rows.Scan(&version, &a.name, &a.checksum, &a.at); err != nil {
			return nil, fmt.Errorf("reading the applied migrations: %w", err)
		}
		applied[int(version)] = a
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the applied migrations: %w", err)
	}
	return applied, nil
}

func isMissingTable(err error) bool {
	code := exceptionCode(err)
	return code == codeUnknownTable || code == codeUnknownDatabase
}

// Migrate brings the database up to this build and returns the migrations that it applied. It may
// be run twice, and by two instances at once: ClickHouse has no lock to take, so every statement
// can be repeated instead, and whoever is second finds the work done.
func Migrate(ctx context.Context, conn driver.Conn, o schemas.SQLOptions) ([]schemas.Migration, error) {
	setup, err := schemas.MigrationTable(o)
	if err != nil {
		return nil, err
	}
	if err := execAll(ctx, conn, setup); err != nil {
		return nil, fmt.Errorf("creating %s.schema_migrations: %w", o.Database, err)
	}
	states, err := MigrationState(ctx, conn, o)
	if err != nil {
		return nil, err
	}
	var applied []schemas.Migration
	for _, state := range states {
		if !state.AppliedAt.IsZero() {
			continue
		}
		if err := apply(ctx, conn, o, state.Migration); err != nil {
			return applied, fmt.Errorf("applying migration %04d_%s: %w", state.Version, state.Name, err)
		}
		insert := "INSERT INTO " + o.Database +
			".schema_migrations (version, name, checksum, applied_at) VALUES (?, ?, ?, now64(3))"
		ctx := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"async_insert": 0}))
		if err := conn.Exec(ctx, insert, state.Version, state.Name, state.Checksum); err != nil {
			return applied, fmt.Errorf("recording migration %04d_%s: %w", state.Version, state.Name, err)
		}
		applied = append(applied, state.Migration)
	}
	return applied, setRetention(ctx, conn, o)
}

// apply runs a migration. Another instance that is behind may create a table again which was just moved
// away, before the view of its name is there: then once more.
func apply(ctx context.Context, conn driver.Conn, o schemas.SQLOptions, m schemas.Migration) error {
	for attempt := 1; ; attempt++ {
		for _, step := range m.Moves {
			if err := move(ctx, conn, o, step); err != nil {
				return err
			}
		}
		if err := execAll(ctx, conn, m.Statements); err != nil {
			return err
		}
		again := false
		for _, step := range m.Moves {
			engines, err := tableEngines(ctx, conn, o.Database, step.From)
			if err != nil {
				return err
			}
			again = again || movable(engines[step.From])
		}
		if !again {
			return nil
		}
		if attempt == maxMoves {
			return fmt.Errorf("another instance creates tables of an older schema in %s at the same time: "+
				"stop it and run auditmill migrate --apply again", o.Database)
		}
	}
}

const maxMoves = 10

// movable reports whether there is a table to move, by its engine: a view stands where a table was.
func movable(t tableEngine) bool { return t.engine != "" && t.engine != "View" }

// move does a step unless it is done.
func move(ctx context.Context, conn driver.Conn, o schemas.SQLOptions, m schemas.Move) error {
	engines, err := tableEngines(ctx, conn, o.Database, m.From, m.To)
	if err != nil {
		return err
	}
	from, to := engines[m.From], engines[m.To]
	statement := m.Statement
	switch {
	case !movable(from), m.To == "" && from.engine != "Distributed":
		return nil
	case m.To == "" || to.engine == "":
	case from.rows == 0:
		statement = "DROP TABLE IF EXISTS " + o.Database + "." + m.From + " SYNC"
		if o.Cluster != "" {
			statement = "DROP TABLE IF EXISTS " + o.Database + "." + m.From + " ON CLUSTER '" + o.Cluster + "' SYNC"
		}
	default:
		return fmt.Errorf("%s has both %s, with %d rows, and %s: move its rows to %[4]s by hand, drop it, and run auditmill migrate --apply again",
			o.Database, m.From, from.rows, m.To)
	}
	err = conn.Exec(ctx, statement)
	if code := exceptionCode(err); code == codeTableExists || code == codeUnknownTable {
		return nil // another instance was faster
	}
	if err != nil {
		return fmt.Errorf("running %.60q: %w", statement, err)
	}
	return nil
}

type tableEngine struct {
	engine string
	rows   uint64
}

func tableEngines(ctx context.Context, conn driver.Conn, database string, names ...string) (map[string]tableEngine, error) {
	rows, err := conn.Query(ctx, "SELECT name, engine, toUInt64(ifNull(total_rows, 0)) FROM system.tables WHERE database = ? AND name IN ?",
		database, names)
	if err != nil {
		return nil, fmt.Errorf("reading the tables of %s: %w", database, err)
	}
	defer func() { _ = rows.Close() }() // rows.Err has what matters
	engines := map[string]tableEngine{}
	for rows.Next() {
		var name string
		var t tableEngine
		if err := rows.Scan(&name, &t.engine, &t.rows); err != nil {
			return nil, fmt.Errorf("reading the tables of %s: %w", database, err)
		}
		engines[name] = t
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the tables of %s: %w", database, err)
	}
	return engines, nil
}

func execAll(ctx context.Context, conn driver.Conn, statements []string) error {
	for _, sql := range statements {
		if err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("running %.60q: %w", sql, err)
		}
	}
	return nil
}

var ttlDays = regexp.MustCompile(`toIntervalDay\((\d+)\)`)

// setRetention changes the TTL of tables that were made with another retention.
func setRetention(ctx context.Context, conn driver.Conn, o schemas.SQLOptions) error {
	for _, ttl := range schemas.TTLs(o) {
		table := o.LocalTable(ttl.Table)
		var engine string
		row := conn.QueryRow(ctx, "SELECT engine_full FROM system.tables WHERE database = ? AND name = ?", o.Database, table)
		if err := row.Scan(&engine); err != nil {
			return fmt.Errorf("reading the retention of %s: %w", table, err)
		}
		days := 0
		if m := ttlDays.FindStringSubmatch(engine); m != nil {
			var err error
			if days, err = strconv.Atoi(m[1]); err != nil {
				return fmt.Errorf("reading the retention of %s: %w", table, err)
			}
		}
		if days == ttl.Days {
			continue
		}
		if err := conn.Exec(ctx, ttl.Statement); err != nil {
			return fmt.Errorf("changing the retention of %s from %d to %d days: %w", table, days, ttl.Days, err)
		}
	}
	return nil
}
