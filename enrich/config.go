package enrich

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/auditmill/auditmill/internal/conf"
)

// Config is the section enrich of the configuration.
type Config struct {
	Group              string        `mapstructure:"group" doc:"Consumer group of audit.raw.v1; instances with the same group share the work."`
	Instance           string        `mapstructure:"instance" doc:"Name of this instance among those of the group, part of its transactional id: must be unique and should stay the same over restarts. Empty: the host's name."`
	MaxRows            int           `mapstructure:"max_rows" doc:"Most rows of a batch, 1 to 8192."`
	MaxBytes           conf.Bytes    `mapstructure:"max_bytes" doc:"Most bytes of a batch before compression; one event may exceed it."`
	MaxWait            time.Duration `mapstructure:"max_wait" doc:"Longest time that an event waits for its batch to fill."`
	MaxPollRecords     int           `mapstructure:"max_poll_records" doc:"Most raw records in one transaction."`
	DedupeWindow       int           `mapstructure:"dedupe_window" doc:"How many records of a partition back a copy is recognised. Costs about 100 bytes each per partition."`
	SessionTimeout     time.Duration `mapstructure:"session_timeout" doc:"After this time without a heartbeat Kafka gives the partitions of an instance to the others."`
	TransactionTimeout time.Duration `mapstructure:"transaction_timeout" doc:"After this time Kafka aborts the transaction of an instance that vanished; readers of the partition wait as long."`
}

// DefaultConfig returns the configuration that an empty section means.
func DefaultConfig() Config {
	return Config{
		Group: "auditmill-enrich", MaxRows: 8192, MaxBytes: 4 << 20, MaxWait: 100 * time.Millisecond,
		MaxPollRecords: 20_000, DedupeWindow: 131_072, SessionTimeout: 10 * time.Second, TransactionTimeout: 15 * time.Second,
	}
}

// Validate returns every fault, each with its key.
func (c Config) Validate() error {
	var errs []error
	fault := func(bad bool, key, remedy string) {
		if bad {
			errs = append(errs, fmt.Errorf("%s: %s", key, remedy))
		}
	}
	fault(c.Group == "", "group", "must not be empty")
	fault(c.MaxRows < 1 || c.MaxRows > 8192, "max_rows", "must be 1 to 8192")
	fault(c.MaxBytes < 1<<10 || c.MaxBytes > 16<<20, "max_bytes", "must be 1KiB to 16MiB")
	fault(c.MaxWait <= 0 || c.MaxWait > 10*time.Second, "max_wait", "must be above 0 and at most 10s")
	fault(c.MaxPollRecords < 1, "max_poll_records", "must be at least 1")
	fault(c.DedupeWindow < 1, "dedupe_window", "must be at least 1")
	fault(c.SessionTimeout < 6*time.Second || c.SessionTimeout > 5*time.Minute, "session_timeout", "must be 6s to 5m, the limits of Kafka")
	fault(c.TransactionTimeout < time.Second || c.TransactionTimeout > 15*time.Minute, "transaction_timeout", "must be 1s to 15m")
	return errors.Join(errs...)
}

func (c Config) transactionalID() string {
	instance := c.Instance
	if instance == "" {
		if host, err := os.Hostname(); err == nil {
			instance = host
		}
	}
	return c.Group + "-" + instance
}
