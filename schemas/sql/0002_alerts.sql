CREATE TABLE IF NOT EXISTS {{.Local "alerts"}}{{.OnCluster}}
(
{{.AlertColumns}}
)
ENGINE = {{.Engine "ReplacingMergeTree"}}(raised_at)
PARTITION BY toYYYYMM(time)
ORDER BY id{{.TTL "toDateTime(time)" .AlertRetentionDays}}
SETTINGS ttl_only_drop_parts = 1, {{.Dedup}};
{{.Distributed "alerts" "cityHash64(id)"}}
