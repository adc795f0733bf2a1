package correlate

import (
	"errors"
	"fmt"
	"time"

	"github.com/auditmill/auditmill/internal/conf"
)

// Config is the section alert.correlate of the configuration.
type Config struct {
	Group          string        `mapstructure:"group" doc:"consumer group of audit.signals.v1; instances with the same group share the work"`
	SessionTimeout time.Duration `mapstructure:"session_timeout" doc:"after this time without a heartbeat Kafka gives the partitions of an instance to the others"`
	MaxPollRecords int           `mapstructure:"max_poll_records" doc:"most signals evaluated before their alerts are written"`
	CommitInterval time.Duration `mapstructure:"commit_interval" doc:"how often offsets are committed; after a crash so much is evaluated again, to the same alerts"`
	Limits         Limits        `mapstructure:"limits" doc:"bounds of the memory, for each correlation in all partitions of audit.signals.v1 together"`
}

// DefaultConfig returns the configuration that an empty section means.
func DefaultConfig() Config {
	return Config{
		Group: "auditmill-correlate", SessionTimeout: 10 * time.Second, MaxPollRecords: 5000, CommitInterval: 2 * time.Second,
		Limits: DefaultLimits(),
	}
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(c.Group == "", "group: must not be empty")
	fault(c.SessionTimeout < 6*time.Second || c.SessionTimeout > 5*time.Minute,
		"session_timeout: must be from 6s to 5m, the limits of Kafka, is %s", c.SessionTimeout)
	fault(c.MaxPollRecords < 1 || c.MaxPollRecords > 100_000, "max_poll_records: must be from 1 to 100000, is %d", c.MaxPollRecords)
	fault(c.CommitInterval < 100*time.Millisecond || c.CommitInterval > time.Minute,
		"commit_interval: must be from 100ms to 1m, is %s", c.CommitInterval)
	return errors.Join(append(errs, conf.Join("limits", c.Limits.Validate()))...)
}

// Validate reports every fault at once.
func (l Limits) Validate() error {
	var errs []error
	for _, limit := range []struct {
		key    string
		n, low int
	}{
		{limitGroups, l.Groups, 16},
		{limitSignals, l.Signals, 16},
		{limitGroupSignals, l.GroupSignals, 16},
		{limitSeen, l.Seen, 16},
	} {
		if limit.n < limit.low || limit.n > 50_000_000 {
			errs = append(errs, fmt.Errorf("%s: must be from %d to 50000000, is %d", limit.key, limit.low, limit.n))
		}
	}
	if l.GroupSignals > l.Signals/2 {
		errs = append(errs, fmt.Errorf("%s: must be at most half of %s (%d), is %d: one group could push out all others",
			limitGroupSignals, limitSignals, l.Signals, l.GroupSignals))
	}
	return errors.Join(errs...)
}
