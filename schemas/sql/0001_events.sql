CREATE TABLE IF NOT EXISTS {{.Local "events"}}{{.OnCluster}}
(
{{.EventColumns}}
)
ENGINE = {{.Engine "MergeTree"}}
PARTITION BY toDate(received_at)
ORDER BY (cluster, resource, verb, event_time){{.TTL "toDateTime(received_at)" .RetentionDays}}
SETTINGS ttl_only_drop_parts = 1, {{.Dedup}};
{{.Distributed "events" "cityHash64(event_id)"}}
