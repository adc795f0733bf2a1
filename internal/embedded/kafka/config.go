package kafka

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Config says where the broker listens and what it keeps.
type Config struct {
	// Dir holds topics, consumer groups and transactions.
	Dir string
	// Port is the loopback port; 0 picks a free one.
	Port int
	// ClusterID names a new cluster; an existing directory keeps the name it has. "" makes one up.
	ClusterID string
	// Username and Password make clients log in by SCRAM-SHA-256. Without them anybody on this
	// machine may connect.
	Username, Password string
	// MaxMessageBytes bounds one batch of records.
	MaxMessageBytes int
	// RetentionBytes bounds one partition of a topic that does not say retention.bytes itself;
	// -1 keeps everything until its time is over.
	RetentionBytes int64
	// JanitorPeriod is how often retention and compaction run.
	JanitorPeriod time.Duration
	// Sync writes every batch through to the disk before it is acknowledged.
	Sync bool
	// Logger receives warnings of the broker; nil discards them.
	Logger *slog.Logger
}

// DefaultConfig returns a configuration that lacks only Dir.
func DefaultConfig() Config {
	return Config{
		MaxMessageBytes: 64 << 20,
		RetentionBytes:  2 << 30,
		JanitorPeriod:   time.Minute,
	}
}

// Validate reports every fault of the configuration at once.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("embedded.kafka.dir: must be set"))
	}
	if c.Port < 0 || c.Port > 65535 {
		errs = append(errs, fmt.Errorf("embedded.kafka.port: %d is not a port", c.Port))
	}
	if (c.Username == "") != (c.Password == "") {
		errs = append(errs, errors.New("embedded.kafka.username, password: set both or none"))
	}
	if c.MaxMessageBytes < 1<<20 || c.MaxMessageBytes > 512<<20 {
		errs = append(errs, fmt.Errorf("embedded.kafka.max_message_bytes: %d is not between 1 MiB and 512 MiB",
			c.MaxMessageBytes))
	}
	if c.RetentionBytes < -1 || c.RetentionBytes == 0 {
		errs = append(errs, errors.New("embedded.kafka.retention_bytes: must be positive, or -1 for no bound"))
	}
	if c.JanitorPeriod <= 0 {
		errs = append(errs, errors.New("embedded.kafka.janitor_period: must be positive"))
	}
	return errors.Join(errs...)
}
