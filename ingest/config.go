package ingest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/auditmill/auditmill/ingest/file"
	"github.com/auditmill/auditmill/ingest/webhook"
	"github.com/auditmill/auditmill/internal/conf"
)

// Config says where events come from and how they are written.
type Config struct {
	Webhook webhook.Config `mapstructure:"webhook" doc:"events that API servers send"`
	File    file.Config    `mapstructure:"file" doc:"events from log files"`

	Linger time.Duration `mapstructure:"linger" doc:"how long a record waits for others of its partition before they are sent to Kafka together"`
}

// Token is a bearer token of the webhook.
type Token = webhook.Token

// Certificate is a client certificate of the webhook.
type Certificate = webhook.Certificate

// DefaultConfig listens on the loopback interface, for no cluster yet.
func DefaultConfig() Config {
	return Config{Webhook: webhook.DefaultConfig(), File: file.DefaultConfig(), Linger: 5 * time.Millisecond}
}

// Clusters lists the clusters that events may come from, each once.
func (c Config) Clusters() []string {
	names := c.Webhook.Clusters()
	for _, in := range c.File.Inputs {
		names = append(names, in.Cluster)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	var errs []error
	if c.Linger < 0 || c.Linger > time.Second {
		errs = append(errs, fmt.Errorf("linger: must be between 0s and 1s, not %s", c.Linger))
	}
	for i, in := range c.File.Inputs {
		if err := webhook.ValidateCluster(in.Cluster); err != nil {
			errs = append(errs, fmt.Errorf("file.inputs[%d].cluster: %w", i, err))
		}
	}
	return errors.Join(append(errs,
		conf.Join("webhook", c.Webhook.Validate()), conf.Join("file", c.File.Validate()))...)
}
