package enrich

import (
	"errors"
	"fmt"
	"os"
	"time"

	clusters "github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/internal/conf"
)

// Config is the section enrich of the configuration.
type Config struct {
	Group              string          `mapstructure:"group" doc:"Consumer group of audit.raw.v1; instances with the same group share the work."`
	Instance           string          `mapstructure:"instance" doc:"Name of this instance among those of the group, part of its transactional id: must be unique and should stay the same over restarts. Empty: the host's name."`
	MaxRows            int             `mapstructure:"max_rows" doc:"Most rows of a batch, 1 to 8192."`
	MaxBytes           conf.Bytes      `mapstructure:"max_bytes" doc:"Most bytes of a batch before compression; one event may exceed it."`
	MaxWait            time.Duration   `mapstructure:"max_wait" doc:"Longest time that an event waits for its batch to fill."`
	MaxPollRecords     int             `mapstructure:"max_poll_records" doc:"Most raw records in one transaction."`
	DedupeWindow       int             `mapstructure:"dedupe_window" doc:"How many records of a partition back a copy is recognised. Costs about 100 bytes each per partition."`
	SessionTimeout     time.Duration   `mapstructure:"session_timeout" doc:"After this time without a heartbeat Kafka gives the partitions of an instance to the others."`
	Context            clusters.Config `mapstructure:"context"`
	ContextWait        time.Duration   `mapstructure:"context_wait" doc:"Longest time that events wait for context that they name and that is not known yet. What comes later corrects the rows."`
	CorrectWithin      time.Duration   `mapstructure:"correct_within" doc:"How much older than the newest event of their cluster rows may be that are corrected when context becomes known late."`
	CorrectInterval    time.Duration   `mapstructure:"correct_interval" doc:"Shortest time between two passes that correct rows."`
	MMDB               []string        `mapstructure:"mmdb" doc:"MMDB files that tell the country and the network of addresses."`
	TransactionTimeout time.Duration   `mapstructure:"transaction_timeout" doc:"After this time Kafka aborts the transaction of an instance that vanished; readers of the partition wait as long."`
}

// DefaultConfig returns the configuration that an empty section means.
func DefaultConfig() Config {
	return Config{
		Group: "auditmill-enrich", MaxRows: 8192, MaxBytes: 4 << 20, MaxWait: 100 * time.Millisecond,
		MaxPollRecords: 20_000, DedupeWindow: 131_072, SessionTimeout: 10 * time.Second, TransactionTimeout: 15 * time.Second,
		Context: clusters.DefaultConfig(), ContextWait: 200 * time.Millisecond, CorrectWithin: time.Hour, CorrectInterval: time.Second,
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
	fault(c.Context.History < time.Minute, "context.history", "must be at least 1m")
	fault(c.Context.MaxVersions < 1, "context.max_versions", "must be at least 1")
	fault(c.ContextWait < 0 || c.ContextWait > 10*time.Second, "context_wait", "must be 0 to 10s")
	fault(c.CorrectWithin < 0, "correct_within", "must be 0 or more")
	fault(c.CorrectInterval < 0, "correct_interval", "must be 0 or more")
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
