package load

import (
	"errors"
	"fmt"
	"time"

	"github.com/auditmill/auditmill/internal/conf"
)

// Config says how records become inserts.
type Config struct {
	Group string `mapstructure:"group" doc:"consumer group of all instances of the loader"`

	MaxRows  int           `mapstructure:"max_rows" doc:"most rows of one insert; one record may exceed it"`
	MaxBytes conf.Bytes    `mapstructure:"max_bytes" doc:"most bytes of one insert, decompressed; one record may exceed it"`
	MaxAge   time.Duration `mapstructure:"max_age" doc:"how long a row waits for others to share its insert"`

	MaxInserts     int           `mapstructure:"max_inserts" doc:"inserts at the same time"`
	SmallPerSecond float64       `mapstructure:"small_inserts_per_second" doc:"most inserts per second that are sent for their age; more are joined into larger ones"`
	MaxBuffer      conf.Bytes    `mapstructure:"max_buffer" doc:"most bytes of records, compressed, that wait for an insert; fetching pauses beyond"`
	TrustDedup     time.Duration `mapstructure:"trust_dedup" doc:"age up to which ClickHouse is trusted to recognise a repeated insert; an older one is compared with the table row by row"`
	RetryMin       time.Duration `mapstructure:"retry_min" doc:"first pause before an insert is repeated"`
	RetryMax       time.Duration `mapstructure:"retry_max" doc:"longest pause before an insert is repeated"`
	DrainTimeout   time.Duration `mapstructure:"drain_timeout" doc:"how long a running insert may take to finish when a partition moves or the service stops"`
	SessionTimeout time.Duration `mapstructure:"session_timeout" doc:"how long Kafka waits for a silent instance before it gives its partitions away"`
}

// DefaultConfig is for a few thousand events per second and still good at a million.
func DefaultConfig() Config {
	return Config{
		Group:   "auditmill-load",
		MaxRows: 100_000, MaxBytes: 128 * conf.MiB, MaxAge: time.Second,
		MaxInserts: 2, SmallPerSecond: 5, MaxBuffer: 256 * conf.MiB,
		TrustDedup: 5 * time.Minute, RetryMin: 100 * time.Millisecond, RetryMax: 10 * time.Second,
		DrainTimeout: 10 * time.Second, SessionTimeout: 30 * time.Second,
	}
}

// Validate reports every fault by its key.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Group != "", "group: want a name")
	check(c.MaxRows > 0 && c.MaxRows <= 1_000_000, "max_rows: want 1 to 1000000, got %d", c.MaxRows)
	check(c.MaxBytes > 0 && c.MaxBytes <= conf.GiB, "max_bytes: want at most 1GiB, got %s", c.MaxBytes)
	check(c.MaxAge > 0, "max_age: want a positive duration")
	check(c.MaxInserts > 0 && c.MaxInserts <= 32, "max_inserts: want 1 to 32, got %d", c.MaxInserts)
	check(c.SmallPerSecond > 0, "small_inserts_per_second: want more than 0")
	check(c.MaxBuffer >= conf.MiB, "max_buffer: want at least 1MiB, got %s", c.MaxBuffer)
	check(c.TrustDedup > 0, "trust_dedup: want a positive duration")
	check(c.RetryMin > 0 && c.RetryMin <= c.RetryMax, "retry_min: want more than 0 and at most retry_max")
	check(c.SessionTimeout >= 6*time.Second, "session_timeout: want at least 6s")
	check(c.DrainTimeout > 0 && c.DrainTimeout < time.Minute, "drain_timeout: want less than 1m, the time of a rebalance")
	return errors.Join(errs...)
}
