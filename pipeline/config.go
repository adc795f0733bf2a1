// Package pipeline puts the services together: the configuration of them all, the
// embedded servers, and all in one process. It is what the commands and the end-to-end
// tests run.
package pipeline

import (
	"github.com/auditmill/auditmill/alert"
	"github.com/auditmill/auditmill/enrich"
	"github.com/auditmill/auditmill/ingest"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/internal/obs"
	"github.com/auditmill/auditmill/internal/run"
	"github.com/auditmill/auditmill/load"
	"github.com/auditmill/auditmill/watch"
)

// Config is the whole configuration. Each service reads the same file and answers for its
// own section.
type Config struct {
	Log        obs.Config      `mapstructure:"log" doc:"what is logged, on standard error"`
	Ops        run.OpsConfig   `mapstructure:"ops" doc:"the listener for metrics, health and profiles"`
	Kafka      kafka.Config    `mapstructure:"kafka" doc:"the connection to Kafka"`
	Topics     Topics          `mapstructure:"topics" doc:"how auditmill topics creates topics"`
	ClickHouse load.ClickHouse `mapstructure:"clickhouse" doc:"the connection to ClickHouse, and its tables"`
	Ingest     ingest.Config   `mapstructure:"ingest" doc:"the front door"`
	Enrich     enrich.Config   `mapstructure:"enrich" doc:"who and why"`
	Alert      alert.Config    `mapstructure:"alert" doc:"rules and notifications"`
	Load       load.Config     `mapstructure:"load" doc:"the loader"`
	Watch      watch.Config    `mapstructure:"watch" doc:"the watch of clusters, which tells enrich what the audit stream did not"`
	Embedded   Embedded        `mapstructure:"embedded" doc:"the servers that up and demo bring along"`
}

// DefaultConfig returns the configuration that an empty file means.
func DefaultConfig() Config {
	return Config{
		Log: obs.DefaultConfig(), Ops: run.DefaultOpsConfig(), Kafka: kafka.DefaultConfig(),
		Topics: Topics{Partitions: 12, Replication: -1}, ClickHouse: load.DefaultClickHouse(),
		Ingest: ingest.DefaultConfig(), Enrich: enrich.DefaultConfig(), Alert: alert.DefaultConfig(), Load: load.DefaultConfig(),
		Watch:    watch.DefaultConfig(),
		Embedded: defaultEmbedded(),
	}
}
