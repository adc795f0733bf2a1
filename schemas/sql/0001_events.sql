CREATE TABLE IF NOT EXISTS {{.Local "events"}}{{.OnCluster}}
(
{{.EventColumns}},
    INDEX audit_id_bloom audit_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX event_time_minmax event_time TYPE minmax GRANULARITY 1,
    INDEX actor_set actor TYPE set(256) GRANULARITY 1
)
ENGINE = {{.Engine "MergeTree"}}
PARTITION BY toDate(received_at)
ORDER BY (cluster, resource, verb, event_time){{.TTL "toDateTime(received_at)" .RetentionDays}}
SETTINGS ttl_only_drop_parts = 1, {{.Dedup}};
{{.Distributed "events" "cityHash64(event_id)"}}
