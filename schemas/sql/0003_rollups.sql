CREATE TABLE IF NOT EXISTS {{.Local "activity_per_minute"}}{{.OnCluster}}
(
    `received_day` Date,
    `minute` DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    `cluster` LowCardinality(String),
    `actor` LowCardinality(String),
    `actor_kind` LowCardinality(String),
    `verb` LowCardinality(String),
    `api_group` LowCardinality(String),
    `resource` LowCardinality(String),
    `subresource` LowCardinality(String),
    `namespace` LowCardinality(String),
    `outcome` LowCardinality(String),
    `raw_partition` Int32,
    `events` UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = {{.Engine "SummingMergeTree"}}(events)
PARTITION BY received_day
ORDER BY (cluster, minute, resource, verb, outcome, actor, actor_kind, api_group, subresource, namespace, raw_partition)
{{- .TTL "received_day" .RetentionDays}}
SETTINGS ttl_only_drop_parts = 1, {{.Dedup}};
{{.Distributed "activity_per_minute" "rand()"}}
{{.RollupView "activity_per_minute"}}CREATE TABLE IF NOT EXISTS {{.Local "intake_per_minute"}}{{.OnCluster}}
(
    `minute` DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    `cluster` LowCardinality(String),
    `source` LowCardinality(String),
    `raw_partition` Int32,
    `events` UInt64 CODEC(T64, ZSTD(1)),
    `bytes` UInt64 CODEC(T64, ZSTD(1)),
    `damaged` UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = {{.Engine "SummingMergeTree"}}((events, bytes, damaged))
PARTITION BY toDate(minute)
ORDER BY (cluster, minute, source, raw_partition)
{{- .TTL "minute" .RetentionDays}}
SETTINGS ttl_only_drop_parts = 1, {{.Dedup}};
{{.Distributed "intake_per_minute" "rand()"}}
{{.RollupView "intake_per_minute"}}