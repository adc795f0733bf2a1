package load

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestConfigNamesEveryFault(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	if err := DefaultClickHouse().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for key, err := range map[string]error{
		"group":                    with(DefaultConfig(), func(c *Config) { c.Group = "" }).Validate(),
		"max_rows":                 with(DefaultConfig(), func(c *Config) { c.MaxRows = 0 }).Validate(),
		"max_bytes":                with(DefaultConfig(), func(c *Config) { c.MaxBytes = -1 }).Validate(),
		"max_age":                  with(DefaultConfig(), func(c *Config) { c.MaxAge = 0 }).Validate(),
		"max_inserts":              with(DefaultConfig(), func(c *Config) { c.MaxInserts = 99 }).Validate(),
		"small_inserts_per_second": with(DefaultConfig(), func(c *Config) { c.SmallPerSecond = 0 }).Validate(),
		"max_buffer":               with(DefaultConfig(), func(c *Config) { c.MaxBuffer = 1 }).Validate(),
		"trust_dedup":              with(DefaultConfig(), func(c *Config) { c.TrustDedup = 0 }).Validate(),
		"retry_min":                with(DefaultConfig(), func(c *Config) { c.RetryMax = 0 }).Validate(),
		"session_timeout":          with(DefaultConfig(), func(c *Config) { c.SessionTimeout = time.Second }).Validate(),
		"drain_timeout":            with(DefaultConfig(), func(c *Config) { c.DrainTimeout = time.Hour }).Validate(),
		"addresses":                with(DefaultClickHouse(), func(c *ClickHouse) { c.Addresses = nil }).Validate(),
		"addresses[1]":             with(DefaultClickHouse(), func(c *ClickHouse) { c.Addresses = []string{"a:1", "b"} }).Validate(),
		"database":                 with(DefaultClickHouse(), func(c *ClickHouse) { c.Database = "x y" }).Validate(),
		"user":                     with(DefaultClickHouse(), func(c *ClickHouse) { c.User = "" }).Validate(),
		"cluster":                  with(DefaultClickHouse(), func(c *ClickHouse) { c.Cluster = "it's" }).Validate(),
		"retention":                with(DefaultClickHouse(), func(c *ClickHouse) { c.Retention = time.Hour }).Validate(),
		"alert_retention":          with(DefaultClickHouse(), func(c *ClickHouse) { c.AlertRetention = -day }).Validate(),
		"dial_timeout":             with(DefaultClickHouse(), func(c *ClickHouse) { c.DialTimeout = 0 }).Validate(),
		"query_timeout":            with(DefaultClickHouse(), func(c *ClickHouse) { c.QueryTimeout = 0 }).Validate(),
		"tls.key_file":             with(DefaultClickHouse(), func(c *ClickHouse) { c.TLS.CertFile = "x" }).Validate(),
	} {
		got := fmt.Sprint(err)
		if !strings.HasPrefix(got, key) || strings.Contains(got, "\n") {
			t.Errorf("a wrong %s gives %q", key, got)
		}
	}
}

func with[T any](value T, change func(*T)) T {
	change(&value)
	return value
}

func TestQuery(t *testing.T) {
	c, conn := testDatabase(t)
	for format, want := range map[string]string{
		"JSONEachRow": "{\"n\":0,\"s\":\"a\"}\n{\"n\":1,\"s\":\"a\"}\n", "CSVWithNames": "\"n\",\"s\"\n0,\"a\"\n1,\"a\"\n",
		"PrettyCompactMonoBlock": "   ┌─n─┬─s─┐\n1. │ 0 │ a │\n2. │ 1 │ a │\n   └───┴───┘\n",
	} {
		var out bytes.Buffer
		err := Query(t.Context(), conn, c.Database, "SELECT toUInt8(number) AS n, 'a' AS s FROM numbers(2)", format, &out)
		if err != nil || out.String() != want {
			t.Errorf("%s: %v\n%s", format, err, out.String())
		}
	}
	err := Query(t.Context(), conn, c.Database, "SELECT nothing FROM events", "CSV", &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a wrong query: %v", err)
	}
	// An error in the middle of the result must not look like its end.
	err = Query(t.Context(), conn, c.Database, "SELECT throwIf(number = 1000000) FROM numbers(1000001)", "CSV", &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "FUNCTION_THROW_IF") {
		t.Errorf("an error in the middle: %v", err)
	}
}
