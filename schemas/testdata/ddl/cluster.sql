CREATE DATABASE IF NOT EXISTS auditmill ON CLUSTER '{cluster}';

CREATE TABLE IF NOT EXISTS auditmill.schema_migrations ON CLUSTER '{cluster}'
(
    version UInt32,
    name String,
    checksum String,
    applied_at DateTime64(3, 'UTC')
)
ENGINE = ReplicatedReplacingMergeTree(
    '/clickhouse/tables/{database}/schema_migrations', '{shard}-{replica}', applied_at)
ORDER BY version;

-- 0001_events 248c03b755e794c205f6a98af911b861

CREATE TABLE IF NOT EXISTS auditmill.events_local ON CLUSTER '{cluster}'
(
    `event_id` FixedString(16) COMMENT 'SHA-256(cluster ‖ 0x00 ‖ raw)[:16]: names these bytes.' CODEC(NONE),
    `fingerprint` FixedString(16) COMMENT 'Names the same event however it travelled; the Kafka key of the raw record.' CODEC(NONE),
    `cluster` LowCardinality(String) COMMENT 'Cluster that sent the event, as authenticated or configured at ingest.' CODEC(ZSTD(1)),
    `platform` LowCardinality(String) COMMENT 'kubernetes or docker.' CODEC(ZSTD(1)),
    `source` LowCardinality(String) COMMENT 'How the event came in: webhook or file.' CODEC(ZSTD(1)),
    `received_at` DateTime64(6, 'UTC') COMMENT 'When ingest had the event.' CODEC(Delta, ZSTD(1)),
    `raw_partition` Int32 COMMENT 'Partition of audit.raw.v1 that holds the original.' CODEC(ZSTD(1)),
    `raw_offset` Int64 COMMENT 'Offset in that partition.' CODEC(Delta, ZSTD(1)),
    `damage` LowCardinality(String) COMMENT 'What is wrong with the event, comma-separated: truncated (the API server removed objects), recovered (found behind broken JSON), bad FIELD, duplicate FIELD.' CODEC(ZSTD(1)),
    `event_time` DateTime64(6, 'UTC') COMMENT 'When the API server received the request: the time that rules and look-ups use.' CODEC(Delta, ZSTD(1)),
    `stage_time` DateTime64(6, 'UTC') COMMENT 'When the request reached this stage.' CODEC(Delta, ZSTD(1)),
    `duration` Int64 COMMENT 'stage_time − event_time in microseconds.' CODEC(ZSTD(1)),
    `level` LowCardinality(String) COMMENT 'Audit level: Metadata, Request or RequestResponse.' CODEC(ZSTD(1)),
    `stage` LowCardinality(String) COMMENT 'RequestReceived, ResponseStarted, ResponseComplete or Panic.' CODEC(ZSTD(1)),
    `audit_id` String COMMENT 'Chosen by the client if it likes (header Audit-ID): never unique by itself.' CODEC(ZSTD(1)),
    `verb` LowCardinality(String) COMMENT 'Kubernetes verb, or the lower-case HTTP method of a non-resource request.' CODEC(ZSTD(1)),
    `request_uri` String COMMENT 'Path and query.' CODEC(ZSTD(1)),
    `api_group` LowCardinality(String) COMMENT 'API group of the object; empty for the core group.' CODEC(ZSTD(1)),
    `api_version` LowCardinality(String) COMMENT 'API version of the object.' CODEC(ZSTD(1)),
    `resource` LowCardinality(String) COMMENT 'Resource in the plural; empty for a non-resource request.' CODEC(ZSTD(1)),
    `subresource` LowCardinality(String) COMMENT 'Subresource such as exec, status or token.' CODEC(ZSTD(1)),
    `namespace` LowCardinality(String) COMMENT 'Namespace of the object; empty if cluster-wide.' CODEC(ZSTD(1)),
    `name` String COMMENT 'Name of the object; empty for list and deletecollection.' CODEC(ZSTD(1)),
    `object_uid` String COMMENT 'UID of the object.' CODEC(ZSTD(1)),
    `resource_version` String COMMENT 'Resource version in the reference.' CODEC(ZSTD(1)),
    `user_agent` LowCardinality(String) COMMENT 'User agent as the client wrote it: not to be trusted.' CODEC(ZSTD(1)),
    `client` LowCardinality(String) COMMENT 'Program named by the user agent, such as kubectl.' CODEC(ZSTD(1)),
    `client_version` LowCardinality(String) COMMENT 'Its version, such as v1.34.1.' CODEC(ZSTD(1)),
    `command` Array(String) COMMENT 'The command= parameters of exec, decoded, in order.' CODEC(ZSTD(1)),
    `code` UInt16 COMMENT 'HTTP status code of the response; 0 if there was none yet.' CODEC(ZSTD(1)),
    `status` LowCardinality(String) COMMENT 'Success or Failure, where the response was a Status.' CODEC(ZSTD(1)),
    `reason` LowCardinality(String) COMMENT 'Reason of a Status, such as Forbidden.' CODEC(ZSTD(1)),
    `message` String COMMENT 'Message of a Status.' CODEC(ZSTD(1)),
    `outcome` LowCardinality(String) COMMENT 'received, success, redirected, denied, unauthenticated, failed, error or panic, from stage, code and decision.' CODEC(ZSTD(1)),
    `decision` LowCardinality(String) COMMENT 'allow or forbid; empty if the request did not reach authorization.' CODEC(ZSTD(1)),
    `decision_reason` LowCardinality(String) COMMENT 'The authorizer\'s reason, whole.' CODEC(ZSTD(1)),
    `annotations` Map(LowCardinality(String), String) COMMENT 'All annotations.' CODEC(ZSTD(1)),
    `user` LowCardinality(String) COMMENT 'The authenticated caller; empty if authentication failed.' CODEC(ZSTD(1)),
    `user_uid` LowCardinality(String) COMMENT 'UID of the caller.' CODEC(ZSTD(1)),
    `groups` Array(LowCardinality(String)) COMMENT 'Groups of the caller.' CODEC(ZSTD(1)),
    `extra` Map(LowCardinality(String), Array(String)) COMMENT 'Extra attributes of the caller.' CODEC(ZSTD(1)),
    `credential_id` String COMMENT 'The credential that was used: JTI=… of a token, X509SHA256=… of a certificate.' CODEC(ZSTD(1)),
    `impersonated_user` LowCardinality(String) COMMENT 'The user that the caller acted as; authorization was decided for this one.' CODEC(ZSTD(1)),
    `impersonated_uid` LowCardinality(String) COMMENT 'UID of the impersonated user.' CODEC(ZSTD(1)),
    `impersonated_groups` Array(LowCardinality(String)) COMMENT 'Groups of the impersonated user.' CODEC(ZSTD(1)),
    `impersonated_extra` Map(LowCardinality(String), Array(String)) COMMENT 'Extra attributes of the impersonated user.' CODEC(ZSTD(1)),
    `impersonation_constraint` LowCardinality(String) COMMENT 'impersonate:<mode> of a constrained impersonation.' CODEC(ZSTD(1)),
    `source_ip` LowCardinality(String) COMMENT 'The last of source_ips: the peer of the API server, the only one that the client cannot forge.' CODEC(ZSTD(1)),
    `source_ips` Array(String) COMMENT 'X-Forwarded-For and X-Real-Ip as the client wrote them, then the peer.' CODEC(ZSTD(1)),
    `actor` LowCardinality(String) COMMENT 'One stable identity of the caller: the person, role or service account behind user.' CODEC(ZSTD(1)),
    `actor_kind` LowCardinality(String) COMMENT 'human, service_account, node, control_plane, cloud_service, anonymous, bootstrap or unknown.' CODEC(ZSTD(1)),
    `provider` LowCardinality(String) COMMENT 'Who vouches for the identity: kubernetes, certificate, oidc, eks, gke, aks; empty if unknown.' CODEC(ZSTD(1)),
    `pod` LowCardinality(String) COMMENT 'namespace/name of the pod that the caller\'s token is bound to.' CODEC(ZSTD(1)),
    `node` LowCardinality(String) COMMENT 'Node that the caller is, or that its token is bound to.' CODEC(ZSTD(1)),
    `issued_credential_id` String COMMENT 'The credential that this request minted; equal to credential_id of every later use.' CODEC(ZSTD(1)),
    `authorizer` LowCardinality(String) COMMENT 'Who decided, as far as the reason tells: rbac, eks, gke, azure, node, masters (group system:masters), none (nobody allowed it), other.' CODEC(ZSTD(1)),
    `grant_binding_kind` LowCardinality(String) COMMENT 'ClusterRoleBinding or RoleBinding that the API server named.' CODEC(ZSTD(1)),
    `grant_binding` LowCardinality(String) COMMENT 'Its name; namespace/name for a RoleBinding.' CODEC(ZSTD(1)),
    `grant_role_kind` LowCardinality(String) COMMENT 'ClusterRole or Role that it refers to.' CODEC(ZSTD(1)),
    `grant_role` LowCardinality(String) COMMENT 'Name of that role.' CODEC(ZSTD(1)),
    `grant_subject_kind` LowCardinality(String) COMMENT 'User, Group or ServiceAccount through which the binding applied.' CODEC(ZSTD(1)),
    `grant_subject` LowCardinality(String) COMMENT 'Name of that subject; namespace/name for a ServiceAccount.' CODEC(ZSTD(1)),
    `raw` String COMMENT 'The event\'s original bytes; request and response objects are read from here.' CODEC(ZSTD(3)),
    `id` String ALIAS lower(hex(event_id)),
    `request_object` String ALIAS JSONExtractRaw(raw, 'requestObject'),
    `response_object` String ALIAS JSONExtractRaw(raw, 'responseObject'),
    INDEX audit_id_bloom audit_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX event_time_minmax event_time TYPE minmax GRANULARITY 1,
    INDEX actor_set actor TYPE set(256) GRANULARITY 1
)
ENGINE = ReplicatedMergeTree
PARTITION BY toDate(received_at)
ORDER BY (cluster, resource, verb, event_time)
TTL toDateTime(received_at) + INTERVAL 90 DAY DELETE
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS auditmill.events ON CLUSTER '{cluster}' AS auditmill.events_local
ENGINE = Distributed('{cluster}', 'auditmill', 'events_local', cityHash64(event_id));

-- 0002_alerts f471b2765ce52b39b6bb2d2c8eedbbcb

CREATE TABLE IF NOT EXISTS auditmill.alerts_local ON CLUSTER '{cluster}'
(
    `id` String,
    `rule` LowCardinality(String),
    `title` LowCardinality(String),
    `severity` LowCardinality(String),
    `tags` Array(LowCardinality(String)),
    `time` DateTime64(6, 'UTC'),
    `raised_at` DateTime64(6, 'UTC'),
    `summary` String,
    `next` String,
    `event_id` String,
    `fingerprint` String,
    `audit_id` String,
    `cluster` LowCardinality(String),
    `actor` LowCardinality(String),
    `actor_kind` LowCardinality(String),
    `user` LowCardinality(String),
    `impersonated_user` LowCardinality(String),
    `source_ip` LowCardinality(String),
    `user_agent` LowCardinality(String),
    `verb` LowCardinality(String),
    `api_group` LowCardinality(String),
    `resource` LowCardinality(String),
    `subresource` LowCardinality(String),
    `namespace` LowCardinality(String),
    `name` String,
    `request_uri` String,
    `command` Array(String),
    `code` UInt16,
    `outcome` LowCardinality(String),
    `decision` LowCardinality(String),
    `decision_reason` String,
    `query` String
)
ENGINE = ReplicatedReplacingMergeTree(raised_at)
PARTITION BY toYYYYMM(time)
ORDER BY id
TTL toDateTime(time) + INTERVAL 90 DAY DELETE
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS auditmill.alerts ON CLUSTER '{cluster}' AS auditmill.alerts_local
ENGINE = Distributed('{cluster}', 'auditmill', 'alerts_local', cityHash64(id));

-- 0003_rollups 05799ae5f25059a8fe869de753e629e0

CREATE TABLE IF NOT EXISTS auditmill.activity_per_minute_local ON CLUSTER '{cluster}'
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
ENGINE = ReplicatedSummingMergeTree(events)
PARTITION BY received_day
ORDER BY (cluster, minute, resource, verb, outcome, actor, actor_kind, api_group, subresource, namespace, raw_partition)
TTL received_day + INTERVAL 90 DAY DELETE
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS auditmill.activity_per_minute ON CLUSTER '{cluster}' AS auditmill.activity_per_minute_local
ENGINE = Distributed('{cluster}', 'auditmill', 'activity_per_minute_local', rand());

CREATE MATERIALIZED VIEW IF NOT EXISTS auditmill.activity_per_minute_mv ON CLUSTER '{cluster}'
TO auditmill.activity_per_minute_local AS
SELECT toDate(received_at) AS received_day, toStartOfMinute(event_time) AS minute, cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace, outcome, raw_partition, count() AS events
FROM auditmill.events_local
GROUP BY received_day, minute, cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace, outcome, raw_partition;

CREATE TABLE IF NOT EXISTS auditmill.intake_per_minute_local ON CLUSTER '{cluster}'
(
    `minute` DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    `cluster` LowCardinality(String),
    `source` LowCardinality(String),
    `raw_partition` Int32,
    `events` UInt64 CODEC(T64, ZSTD(1)),
    `bytes` UInt64 CODEC(T64, ZSTD(1)),
    `damaged` UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplicatedSummingMergeTree((events, bytes, damaged))
PARTITION BY toDate(minute)
ORDER BY (cluster, minute, source, raw_partition)
TTL minute + INTERVAL 90 DAY DELETE
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS auditmill.intake_per_minute ON CLUSTER '{cluster}' AS auditmill.intake_per_minute_local
ENGINE = Distributed('{cluster}', 'auditmill', 'intake_per_minute_local', rand());

CREATE MATERIALIZED VIEW IF NOT EXISTS auditmill.intake_per_minute_mv ON CLUSTER '{cluster}'
TO auditmill.intake_per_minute_local AS
SELECT toStartOfMinute(received_at) AS minute, cluster, source, raw_partition, count() AS events, sum(length(raw)) AS bytes, countIf(damage != '') AS damaged
FROM auditmill.events_local
GROUP BY minute, cluster, source, raw_partition;

-- 0004_views 9447061c00708eced0b02b3ba182f2c5

CREATE VIEW IF NOT EXISTS auditmill.secret_reads ON CLUSTER '{cluster}' AS
SELECT
    event_time, cluster, actor, actor_kind, user, verb, namespace, name, stage, source_ip, client, user_agent,
    grant_binding_kind, grant_binding, grant_role, audit_id, id
FROM auditmill.events
WHERE resource = 'secrets' AND subresource = '' AND api_group = '' AND verb IN ('get', 'list', 'watch')
    AND outcome = 'success';

CREATE VIEW IF NOT EXISTS auditmill.denied_by_actor ON CLUSTER '{cluster}' AS
SELECT
    cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace,
    sum(events) AS requests, min(minute) AS first_minute, max(minute) AS last_minute
FROM auditmill.activity_per_minute
WHERE outcome = 'denied'
GROUP BY cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace;

CREATE VIEW IF NOT EXISTS auditmill.busiest_actors_per_minute ON CLUSTER '{cluster}' AS
SELECT minute, cluster, actor, actor_kind, sum(events) AS requests
FROM auditmill.activity_per_minute
WHERE outcome != 'received'
GROUP BY minute, cluster, actor, actor_kind
ORDER BY minute DESC, requests DESC
LIMIT 10 BY minute;

CREATE VIEW IF NOT EXISTS auditmill.exec_sessions ON CLUSTER '{cluster}' AS
SELECT
    event_time, cluster, actor, actor_kind, user, subresource AS kind, namespace, name AS pod, command, stage, code,
    outcome, source_ip, client, user_agent, grant_binding, audit_id, id
FROM auditmill.events
WHERE resource = 'pods' AND subresource IN ('exec', 'attach', 'portforward') AND outcome != 'received';

CREATE VIEW IF NOT EXISTS auditmill.rbac_changes ON CLUSTER '{cluster}' AS
SELECT
    event_time, cluster, actor, actor_kind, user, verb, resource, namespace,
    if(name = '', JSONExtractString(raw, 'requestObject', 'metadata', 'name'), name) AS object,
    JSONExtractString(raw, 'requestObject', 'roleRef', 'kind') AS role_kind,
    JSONExtractString(raw, 'requestObject', 'roleRef', 'name') AS role,
    arrayMap(s -> concat(JSONExtractString(s, 'kind'), ' ',
        if(JSONExtractString(s, 'namespace') = '', '', concat(JSONExtractString(s, 'namespace'), '/')),
        JSONExtractString(s, 'name')), JSONExtractArrayRaw(raw, 'requestObject', 'subjects')) AS subjects,
    JSONExtractRaw(raw, 'requestObject', 'rules') AS rules,
    outcome, code, source_ip, user_agent, grant_binding, audit_id, id
FROM auditmill.events
WHERE api_group = 'rbac.authorization.k8s.io'
    AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection', 'bind', 'escalate')
    AND outcome != 'received';

CREATE VIEW IF NOT EXISTS auditmill.privileged_pods ON CLUSTER '{cluster}' AS
WITH
    multiIf(resource = 'pods', JSONExtractRaw(raw, 'requestObject', 'spec'),
        resource = 'cronjobs', JSONExtractRaw(raw, 'requestObject', 'spec', 'jobTemplate', 'spec', 'template', 'spec'),
        JSONExtractRaw(raw, 'requestObject', 'spec', 'template', 'spec')) AS pod_spec,
    arrayConcat(JSONExtractArrayRaw(pod_spec, 'containers'), JSONExtractArrayRaw(pod_spec, 'initContainers'),
        JSONExtractArrayRaw(pod_spec, 'ephemeralContainers')) AS all_containers,
    arrayFilter(c -> JSONExtractBool(c, 'securityContext', 'privileged'), all_containers) AS privileged
SELECT
    event_time, cluster, actor, actor_kind, user, verb, resource, subresource, namespace,
    if(name != '', name, coalesce(nullIf(JSONExtractString(raw, 'requestObject', 'metadata', 'name'), ''),
        nullIf(JSONExtractString(raw, 'responseObject', 'metadata', 'name'), ''),
        JSONExtractString(raw, 'requestObject', 'metadata', 'generateName'))) AS object,
    arrayMap(c -> JSONExtractString(c, 'name'), privileged) AS containers,
    arrayMap(c -> JSONExtractString(c, 'image'), privileged) AS images,
    JSONExtractBool(pod_spec, 'hostNetwork') AS host_network, JSONExtractBool(pod_spec, 'hostPID') AS host_pid,
    outcome, code, source_ip, user_agent, grant_binding, audit_id, id
FROM auditmill.events
WHERE resource IN ('pods', 'deployments', 'daemonsets', 'statefulsets', 'replicasets', 'replicationcontrollers', 'jobs',
        'cronjobs')
    AND subresource IN ('', 'ephemeralcontainers') AND verb IN ('create', 'update', 'patch') AND outcome != 'received'
    AND match(raw, '"privileged"\\s*:\\s*true') AND notEmpty(privileged);

-- 0005_alert_groups 801f2f378d9cf91b270748bdba07aade

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `group_id` String AFTER `query`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `group_id` String AFTER `query`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `events` UInt64 AFTER `group_id`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `events` UInt64 AFTER `group_id`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `event_ids` Array(String) AFTER `events`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `event_ids` Array(String) AFTER `events`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `first_time` DateTime64(6, 'UTC') AFTER `event_ids`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `first_time` DateTime64(6, 'UTC') AFTER `event_ids`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `last_time` DateTime64(6, 'UTC') AFTER `first_time`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `last_time` DateTime64(6, 'UTC') AFTER `first_time`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `values` Map(LowCardinality(String), String) AFTER `last_time`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `values` Map(LowCardinality(String), String) AFTER `last_time`;

-- 0006_context d0869729910d1f03970a3af2f7069af1

-- unless it is done
RENAME TABLE auditmill.events_local TO auditmill.event_rows_local ON CLUSTER '{cluster}';

-- unless it is done
DROP TABLE IF EXISTS auditmill.events ON CLUSTER '{cluster}' SYNC;

CREATE TABLE IF NOT EXISTS auditmill.event_rows ON CLUSTER '{cluster}' AS auditmill.event_rows_local
ENGINE = Distributed('{cluster}', 'auditmill', 'event_rows_local', cityHash64(event_id));

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `version` Int64 COMMENT '0 for the first row of an event. A row that corrects it, because who or why became known late, has a higher one: the highest counts.' CODEC(T64, ZSTD(1)) AFTER `damage`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `version` Int64 COMMENT '0 for the first row of an event. A row that corrects it, because who or why became known late, has a higher one: the highest counts.' CODEC(T64, ZSTD(1)) AFTER `damage`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `display_name` LowCardinality(String) COMMENT 'Name of the person, from the identity tables.' CODEC(ZSTD(1)) AFTER `issued_credential_id`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `display_name` LowCardinality(String) COMMENT 'Name of the person, from the identity tables.' CODEC(ZSTD(1)) AFTER `issued_credential_id`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `email` LowCardinality(String) COMMENT 'E-mail address of the person, from the identity tables.' CODEC(ZSTD(1)) AFTER `display_name`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `email` LowCardinality(String) COMMENT 'E-mail address of the person, from the identity tables.' CODEC(ZSTD(1)) AFTER `display_name`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `team` LowCardinality(String) COMMENT 'Team of the person; for a service account the owner of its namespace.' CODEC(ZSTD(1)) AFTER `email`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `team` LowCardinality(String) COMMENT 'Team of the person; for a service account the owner of its namespace.' CODEC(ZSTD(1)) AFTER `email`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `manager` LowCardinality(String) COMMENT 'Manager of the person, as the identity tables name them.' CODEC(ZSTD(1)) AFTER `team`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `manager` LowCardinality(String) COMMENT 'Manager of the person, as the identity tables name them.' CODEC(ZSTD(1)) AFTER `team`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `active` LowCardinality(String) COMMENT 'false if the person had left or was disabled at the time, true if not; empty if unknown.' CODEC(ZSTD(1)) AFTER `manager`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `active` LowCardinality(String) COMMENT 'false if the person had left or was disabled at the time, true if not; empty if unknown.' CODEC(ZSTD(1)) AFTER `manager`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `actor_groups` Array(LowCardinality(String)) COMMENT 'Names of the person\'s groups in the identity tables, beside those that the event names.' CODEC(ZSTD(1)) AFTER `active`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `actor_groups` Array(LowCardinality(String)) COMMENT 'Names of the person\'s groups in the identity tables, beside those that the event names.' CODEC(ZSTD(1)) AFTER `active`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `workload` LowCardinality(String) COMMENT 'What runs the pod that the caller\'s token is bound to, such as Deployment payments/api; the top of its owners.' CODEC(ZSTD(1)) AFTER `actor_groups`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `workload` LowCardinality(String) COMMENT 'What runs the pod that the caller\'s token is bound to, such as Deployment payments/api; the top of its owners.' CODEC(ZSTD(1)) AFTER `actor_groups`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `cloud_identity` LowCardinality(String) COMMENT 'Identity of a cloud that the caller\'s service account is bound to: role ARN, Google service account or Entra client id.' CODEC(ZSTD(1)) AFTER `workload`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `cloud_identity` LowCardinality(String) COMMENT 'Identity of a cloud that the caller\'s service account is bound to: role ARN, Google service account or Entra client id.' CODEC(ZSTD(1)) AFTER `workload`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `minted_by` LowCardinality(String) COMMENT 'The actor that requested the token which is used here; empty if that is not known.' CODEC(ZSTD(1)) AFTER `cloud_identity`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `minted_by` LowCardinality(String) COMMENT 'The actor that requested the token which is used here; empty if that is not known.' CODEC(ZSTD(1)) AFTER `cloud_identity`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `minted_at` DateTime64(6, 'UTC') COMMENT 'When it was requested.' CODEC(Delta, ZSTD(1)) AFTER `minted_by`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `minted_at` DateTime64(6, 'UTC') COMMENT 'When it was requested.' CODEC(Delta, ZSTD(1)) AFTER `minted_by`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `session` String COMMENT 'Equal for the events of one actor with one credential from one source on one day (UTC).' CODEC(ZSTD(1)) AFTER `minted_at`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `session` String COMMENT 'Equal for the events of one actor with one credential from one source on one day (UTC).' CODEC(ZSTD(1)) AFTER `minted_at`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_zone` LowCardinality(String) COMMENT 'Zone of source_ip: that of the narrowest configured range, else node, pod or loopback if the cluster has such an address; empty if unknown.' CODEC(ZSTD(1)) AFTER `session`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_zone` LowCardinality(String) COMMENT 'Zone of source_ip: that of the narrowest configured range, else node, pod or loopback if the cluster has such an address; empty if unknown.' CODEC(ZSTD(1)) AFTER `session`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_country` LowCardinality(String) COMMENT 'Country of source_ip, ISO 3166, from the MMDB files.' CODEC(ZSTD(1)) AFTER `source_zone`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_country` LowCardinality(String) COMMENT 'Country of source_ip, ISO 3166, from the MMDB files.' CODEC(ZSTD(1)) AFTER `source_zone`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_network` LowCardinality(String) COMMENT 'Network of source_ip, such as AS64500 Example Ltd, from the MMDB files.' CODEC(ZSTD(1)) AFTER `source_country`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_network` LowCardinality(String) COMMENT 'Network of source_ip, such as AS64500 Example Ltd, from the MMDB files.' CODEC(ZSTD(1)) AFTER `source_country`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_node` LowCardinality(String) COMMENT 'Node of the cluster that source_ip belongs to: its own address, or one of its pods.' CODEC(ZSTD(1)) AFTER `source_network`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_node` LowCardinality(String) COMMENT 'Node of the cluster that source_ip belongs to: its own address, or one of its pods.' CODEC(ZSTD(1)) AFTER `source_network`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `off_node` LowCardinality(String) COMMENT 'true if a token that is bound to a node was used from somewhere else, false if from there; empty if there is no such bond or the source\'s node is unknown.' CODEC(ZSTD(1)) AFTER `source_node`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `off_node` LowCardinality(String) COMMENT 'true if a token that is bound to a node was used from somewhere else, false if from there; empty if there is no such bond or the source\'s node is unknown.' CODEC(ZSTD(1)) AFTER `source_node`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `namespace_owner` LowCardinality(String) COMMENT 'Owner of the object\'s namespace, by its labels and annotations owner, team or contact.' CODEC(ZSTD(1)) AFTER `off_node`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `namespace_owner` LowCardinality(String) COMMENT 'Owner of the object\'s namespace, by its labels and annotations owner, team or contact.' CODEC(ZSTD(1)) AFTER `off_node`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `namespace_labels` Map(LowCardinality(String), String) COMMENT 'Labels of the object\'s namespace at the time.' CODEC(ZSTD(1)) AFTER `namespace_owner`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `namespace_labels` Map(LowCardinality(String), String) COMMENT 'Labels of the object\'s namespace at the time.' CODEC(ZSTD(1)) AFTER `namespace_owner`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grant_agreement` LowCardinality(String) COMMENT 'agree if the grant that the API server named is among grants, or RBAC forbade and there are none; disagree if not although everything is known: the state is wrong, or the event; else unknown. Empty if RBAC decided nothing.' CODEC(ZSTD(1)) AFTER `grant_subject`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grant_agreement` LowCardinality(String) COMMENT 'agree if the grant that the API server named is among grants, or RBAC forbade and there are none; disagree if not although everything is known: the state is wrong, or the event; else unknown. Empty if RBAC decided nothing.' CODEC(ZSTD(1)) AFTER `grant_subject`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grant_since` DateTime64(6, 'UTC') COMMENT 'Since when the named binding, or else the first of grants, was as it is.' CODEC(Delta, ZSTD(1)) AFTER `grant_agreement`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grant_since` DateTime64(6, 'UTC') COMMENT 'Since when the named binding, or else the first of grants, was as it is.' CODEC(Delta, ZSTD(1)) AFTER `grant_agreement`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grant_author` LowCardinality(String) COMMENT 'The actor that made it so, if that was recorded.' CODEC(ZSTD(1)) AFTER `grant_since`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grant_author` LowCardinality(String) COMMENT 'The actor that made it so, if that was recorded.' CODEC(ZSTD(1)) AFTER `grant_since`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grants` Array(LowCardinality(String)) COMMENT 'Every grant that allows the request at its time, in the words of the API server, with the index of the rule: ClusterRoleBinding "b" of ClusterRole "r" to Group "g" by rule 0.' CODEC(ZSTD(1)) AFTER `grant_author`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grants` Array(LowCardinality(String)) COMMENT 'Every grant that allows the request at its time, in the words of the API server, with the index of the rule: ClusterRoleBinding "b" of ClusterRole "r" to Group "g" by rule 0.' CODEC(ZSTD(1)) AFTER `grant_author`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `rights_complete` LowCardinality(String) COMMENT 'true if all roles and bindings of the cluster were known, false if some may be missing; empty if nothing was known.' CODEC(ZSTD(1)) AFTER `grants`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `rights_complete` LowCardinality(String) COMMENT 'true if all roles and bindings of the cluster were known, false if some may be missing; empty if nothing was known.' CODEC(ZSTD(1)) AFTER `grants`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `rights_since` DateTime64(6, 'UTC') COMMENT 'When a role or binding of the cluster changed last before the event.' CODEC(Delta, ZSTD(1)) AFTER `rights_complete`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `rights_since` DateTime64(6, 'UTC') COMMENT 'When a role or binding of the cluster changed last before the event.' CODEC(Delta, ZSTD(1)) AFTER `rights_complete`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `rights_age` Int64 COMMENT 'event_time − rights_since in microseconds.' CODEC(ZSTD(1)) AFTER `rights_since`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `rights_age` Int64 COMMENT 'event_time − rights_since in microseconds.' CODEC(ZSTD(1)) AFTER `rights_since`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `breadth` UInt16 COMMENT 'How much the user may do (the impersonated one, if there is one): 0 nothing or unknown, 100 everything. docs/enrichment.md says how it is counted.' CODEC(ZSTD(1)) AFTER `rights_age`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `breadth` UInt16 COMMENT 'How much the user may do (the impersonated one, if there is one): 0 nothing or unknown, 100 everything. docs/enrichment.md says how it is counted.' CODEC(ZSTD(1)) AFTER `rights_age`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `cluster_admin` LowCardinality(String) COMMENT 'true if the user may do everything on every resource of the cluster, false if not; empty if unknown.' CODEC(ZSTD(1)) AFTER `breadth`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `cluster_admin` LowCardinality(String) COMMENT 'true if the user may do everything on every resource of the cluster, false if not; empty if unknown.' CODEC(ZSTD(1)) AFTER `breadth`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `dangerous` Array(LowCardinality(String)) COMMENT 'Ids of the dangerous permissions that the user holds, the worst first.' CODEC(ZSTD(1)) AFTER `cluster_admin`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `dangerous` Array(LowCardinality(String)) COMMENT 'Ids of the dangerous permissions that the user holds, the worst first.' CODEC(ZSTD(1)) AFTER `cluster_admin`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `impersonation_allowed` LowCardinality(String) COMMENT 'true if a grant of the caller allows to act as the impersonated user with its groups, uid and extra, false if none is known; empty without impersonation or knowledge.' CODEC(ZSTD(1)) AFTER `dangerous`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `impersonation_allowed` LowCardinality(String) COMMENT 'true if a grant of the caller allows to act as the impersonated user with its groups, uid and extra, false if none is known; empty without impersonation or knowledge.' CODEC(ZSTD(1)) AFTER `dangerous`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `impersonation_grants` Array(LowCardinality(String)) COMMENT 'The grants of the caller that allow to act as that user, written like grants.' CODEC(ZSTD(1)) AFTER `impersonation_allowed`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `impersonation_grants` Array(LowCardinality(String)) COMMENT 'The grants of the caller that allow to act as that user, written like grants.' CODEC(ZSTD(1)) AFTER `impersonation_allowed`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `caller_breadth` UInt16 COMMENT 'breadth of the caller itself, where it impersonates.' CODEC(ZSTD(1)) AFTER `impersonation_grants`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `caller_breadth` UInt16 COMMENT 'breadth of the caller itself, where it impersonates.' CODEC(ZSTD(1)) AFTER `impersonation_grants`;

ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `caller_dangerous` Array(LowCardinality(String)) COMMENT 'dangerous of the caller itself, where it impersonates.' CODEC(ZSTD(1)) AFTER `caller_breadth`;

ALTER TABLE auditmill.event_rows ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `caller_dangerous` Array(LowCardinality(String)) COMMENT 'dangerous of the caller itself, where it impersonates.' CODEC(ZSTD(1)) AFTER `caller_breadth`;

CREATE TABLE IF NOT EXISTS auditmill.event_versions_local ON CLUSTER '{cluster}'
(
    `event_id` String,
    `version` Int64,
    `received_day` Date
)
ENGINE = ReplicatedReplacingMergeTree(version)
PARTITION BY toYYYYMM(received_day)
ORDER BY event_id
TTL received_day + INTERVAL 90 DAY DELETE
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS auditmill.event_versions ON CLUSTER '{cluster}' AS auditmill.event_versions_local
ENGINE = Distributed('{cluster}', 'auditmill', 'event_versions_local', cityHash64(event_id));

ALTER TABLE auditmill.activity_per_minute_mv ON CLUSTER '{cluster}' MODIFY QUERY
SELECT toDate(received_at) AS received_day, toStartOfMinute(event_time) AS minute, cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace, outcome, raw_partition, count() AS events
FROM auditmill.event_rows_local
WHERE version = 0
GROUP BY received_day, minute, cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace, outcome, raw_partition;

ALTER TABLE auditmill.intake_per_minute_mv ON CLUSTER '{cluster}' MODIFY QUERY
SELECT toStartOfMinute(received_at) AS minute, cluster, source, raw_partition, count() AS events, sum(length(raw)) AS bytes, countIf(damage != '') AS damaged
FROM auditmill.event_rows_local
WHERE version = 0
GROUP BY minute, cluster, source, raw_partition;

CREATE VIEW IF NOT EXISTS auditmill.events ON CLUSTER '{cluster}'
(
    `event_id` FixedString(16) COMMENT 'SHA-256(cluster ‖ 0x00 ‖ raw)[:16]: names these bytes.',
    `fingerprint` FixedString(16) COMMENT 'Names the same event however it travelled; the Kafka key of the raw record.',
    `cluster` LowCardinality(String) COMMENT 'Cluster that sent the event, as authenticated or configured at ingest.',
    `platform` LowCardinality(String) COMMENT 'kubernetes or docker.',
    `source` LowCardinality(String) COMMENT 'How the event came in: webhook or file.',
    `received_at` DateTime64(6, 'UTC') COMMENT 'When ingest had the event.',
    `raw_partition` Int32 COMMENT 'Partition of audit.raw.v1 that holds the original.',
    `raw_offset` Int64 COMMENT 'Offset in that partition.',
    `damage` LowCardinality(String) COMMENT 'What is wrong with the event, comma-separated: truncated (the API server removed objects), recovered (found behind broken JSON), bad FIELD, duplicate FIELD.',
    `version` Int64 COMMENT '0 for the first row of an event. A row that corrects it, because who or why became known late, has a higher one: the highest counts.',
    `event_time` DateTime64(6, 'UTC') COMMENT 'When the API server received the request: the time that rules and look-ups use.',
    `stage_time` DateTime64(6, 'UTC') COMMENT 'When the request reached this stage.',
    `duration` Int64 COMMENT 'stage_time − event_time in microseconds.',
    `level` LowCardinality(String) COMMENT 'Audit level: Metadata, Request or RequestResponse.',
    `stage` LowCardinality(String) COMMENT 'RequestReceived, ResponseStarted, ResponseComplete or Panic.',
    `audit_id` String COMMENT 'Chosen by the client if it likes (header Audit-ID): never unique by itself.',
    `verb` LowCardinality(String) COMMENT 'Kubernetes verb, or the lower-case HTTP method of a non-resource request.',
    `request_uri` String COMMENT 'Path and query.',
    `api_group` LowCardinality(String) COMMENT 'API group of the object; empty for the core group.',
    `api_version` LowCardinality(String) COMMENT 'API version of the object.',
    `resource` LowCardinality(String) COMMENT 'Resource in the plural; empty for a non-resource request.',
    `subresource` LowCardinality(String) COMMENT 'Subresource such as exec, status or token.',
    `namespace` LowCardinality(String) COMMENT 'Namespace of the object; empty if cluster-wide.',
    `name` String COMMENT 'Name of the object; empty for list and deletecollection.',
    `object_uid` String COMMENT 'UID of the object.',
    `resource_version` String COMMENT 'Resource version in the reference.',
    `user_agent` LowCardinality(String) COMMENT 'User agent as the client wrote it: not to be trusted.',
    `client` LowCardinality(String) COMMENT 'Program named by the user agent, such as kubectl.',
    `client_version` LowCardinality(String) COMMENT 'Its version, such as v1.34.1.',
    `command` Array(String) COMMENT 'The command= parameters of exec, decoded, in order.',
    `code` UInt16 COMMENT 'HTTP status code of the response; 0 if there was none yet.',
    `status` LowCardinality(String) COMMENT 'Success or Failure, where the response was a Status.',
    `reason` LowCardinality(String) COMMENT 'Reason of a Status, such as Forbidden.',
    `message` String COMMENT 'Message of a Status.',
    `outcome` LowCardinality(String) COMMENT 'received, success, redirected, denied, unauthenticated, failed, error or panic, from stage, code and decision.',
    `decision` LowCardinality(String) COMMENT 'allow or forbid; empty if the request did not reach authorization.',
    `decision_reason` LowCardinality(String) COMMENT 'The authorizer\'s reason, whole.',
    `annotations` Map(LowCardinality(String), String) COMMENT 'All annotations.',
    `user` LowCardinality(String) COMMENT 'The authenticated caller; empty if authentication failed.',
    `user_uid` LowCardinality(String) COMMENT 'UID of the caller.',
    `groups` Array(LowCardinality(String)) COMMENT 'Groups of the caller.',
    `extra` Map(LowCardinality(String), Array(String)) COMMENT 'Extra attributes of the caller.',
    `credential_id` String COMMENT 'The credential that was used: JTI=… of a token, X509SHA256=… of a certificate.',
    `impersonated_user` LowCardinality(String) COMMENT 'The user that the caller acted as; authorization was decided for this one.',
    `impersonated_uid` LowCardinality(String) COMMENT 'UID of the impersonated user.',
    `impersonated_groups` Array(LowCardinality(String)) COMMENT 'Groups of the impersonated user.',
    `impersonated_extra` Map(LowCardinality(String), Array(String)) COMMENT 'Extra attributes of the impersonated user.',
    `impersonation_constraint` LowCardinality(String) COMMENT 'impersonate:<mode> of a constrained impersonation.',
    `source_ip` LowCardinality(String) COMMENT 'The last of source_ips: the peer of the API server, the only one that the client cannot forge.',
    `source_ips` Array(String) COMMENT 'X-Forwarded-For and X-Real-Ip as the client wrote them, then the peer.',
    `actor` LowCardinality(String) COMMENT 'One stable identity of the caller: the person, role or service account behind user.',
    `actor_kind` LowCardinality(String) COMMENT 'human, service_account, node, control_plane, cloud_service, anonymous, bootstrap or unknown.',
    `provider` LowCardinality(String) COMMENT 'Who vouches for the identity: kubernetes, certificate, oidc, eks, gke, aks; empty if unknown.',
    `pod` LowCardinality(String) COMMENT 'namespace/name of the pod that the caller\'s token is bound to.',
    `node` LowCardinality(String) COMMENT 'Node that the caller is, or that its token is bound to.',
    `issued_credential_id` String COMMENT 'The credential that this request minted; equal to credential_id of every later use.',
    `display_name` LowCardinality(String) COMMENT 'Name of the person, from the identity tables.',
    `email` LowCardinality(String) COMMENT 'E-mail address of the person, from the identity tables.',
    `team` LowCardinality(String) COMMENT 'Team of the person; for a service account the owner of its namespace.',
    `manager` LowCardinality(String) COMMENT 'Manager of the person, as the identity tables name them.',
    `active` LowCardinality(String) COMMENT 'false if the person had left or was disabled at the time, true if not; empty if unknown.',
    `actor_groups` Array(LowCardinality(String)) COMMENT 'Names of the person\'s groups in the identity tables, beside those that the event names.',
    `workload` LowCardinality(String) COMMENT 'What runs the pod that the caller\'s token is bound to, such as Deployment payments/api; the top of its owners.',
    `cloud_identity` LowCardinality(String) COMMENT 'Identity of a cloud that the caller\'s service account is bound to: role ARN, Google service account or Entra client id.',
    `minted_by` LowCardinality(String) COMMENT 'The actor that requested the token which is used here; empty if that is not known.',
    `minted_at` DateTime64(6, 'UTC') COMMENT 'When it was requested.',
    `session` String COMMENT 'Equal for the events of one actor with one credential from one source on one day (UTC).',
    `source_zone` LowCardinality(String) COMMENT 'Zone of source_ip: that of the narrowest configured range, else node, pod or loopback if the cluster has such an address; empty if unknown.',
    `source_country` LowCardinality(String) COMMENT 'Country of source_ip, ISO 3166, from the MMDB files.',
    `source_network` LowCardinality(String) COMMENT 'Network of source_ip, such as AS64500 Example Ltd, from the MMDB files.',
    `source_node` LowCardinality(String) COMMENT 'Node of the cluster that source_ip belongs to: its own address, or one of its pods.',
    `off_node` LowCardinality(String) COMMENT 'true if a token that is bound to a node was used from somewhere else, false if from there; empty if there is no such bond or the source\'s node is unknown.',
    `namespace_owner` LowCardinality(String) COMMENT 'Owner of the object\'s namespace, by its labels and annotations owner, team or contact.',
    `namespace_labels` Map(LowCardinality(String), String) COMMENT 'Labels of the object\'s namespace at the time.',
    `authorizer` LowCardinality(String) COMMENT 'Who decided, as far as the reason tells: rbac, eks, gke, azure, node, masters (group system:masters), none (nobody allowed it), other.',
    `grant_binding_kind` LowCardinality(String) COMMENT 'ClusterRoleBinding or RoleBinding that the API server named.',
    `grant_binding` LowCardinality(String) COMMENT 'Its name; namespace/name for a RoleBinding.',
    `grant_role_kind` LowCardinality(String) COMMENT 'ClusterRole or Role that it refers to.',
    `grant_role` LowCardinality(String) COMMENT 'Name of that role.',
    `grant_subject_kind` LowCardinality(String) COMMENT 'User, Group or ServiceAccount through which the binding applied.',
    `grant_subject` LowCardinality(String) COMMENT 'Name of that subject; namespace/name for a ServiceAccount.',
    `grant_agreement` LowCardinality(String) COMMENT 'agree if the grant that the API server named is among grants, or RBAC forbade and there are none; disagree if not although everything is known: the state is wrong, or the event; else unknown. Empty if RBAC decided nothing.',
    `grant_since` DateTime64(6, 'UTC') COMMENT 'Since when the named binding, or else the first of grants, was as it is.',
    `grant_author` LowCardinality(String) COMMENT 'The actor that made it so, if that was recorded.',
    `grants` Array(LowCardinality(String)) COMMENT 'Every grant that allows the request at its time, in the words of the API server, with the index of the rule: ClusterRoleBinding "b" of ClusterRole "r" to Group "g" by rule 0.',
    `rights_complete` LowCardinality(String) COMMENT 'true if all roles and bindings of the cluster were known, false if some may be missing; empty if nothing was known.',
    `rights_since` DateTime64(6, 'UTC') COMMENT 'When a role or binding of the cluster changed last before the event.',
    `rights_age` Int64 COMMENT 'event_time − rights_since in microseconds.',
    `breadth` UInt16 COMMENT 'How much the user may do (the impersonated one, if there is one): 0 nothing or unknown, 100 everything. docs/enrichment.md says how it is counted.',
    `cluster_admin` LowCardinality(String) COMMENT 'true if the user may do everything on every resource of the cluster, false if not; empty if unknown.',
    `dangerous` Array(LowCardinality(String)) COMMENT 'Ids of the dangerous permissions that the user holds, the worst first.',
    `impersonation_allowed` LowCardinality(String) COMMENT 'true if a grant of the caller allows to act as the impersonated user with its groups, uid and extra, false if none is known; empty without impersonation or knowledge.',
    `impersonation_grants` Array(LowCardinality(String)) COMMENT 'The grants of the caller that allow to act as that user, written like grants.',
    `caller_breadth` UInt16 COMMENT 'breadth of the caller itself, where it impersonates.',
    `caller_dangerous` Array(LowCardinality(String)) COMMENT 'dangerous of the caller itself, where it impersonates.',
    `raw` String COMMENT 'The event\'s original bytes; request and response objects are read from here.',
    `id` String ALIAS lower(hex(event_id)),
    `request_object` String ALIAS JSONExtractRaw(raw, 'requestObject'),
    `response_object` String ALIAS JSONExtractRaw(raw, 'responseObject')
)
AS SELECT `event_id`, `fingerprint`, `cluster`, `platform`, `source`, `received_at`, `raw_partition`, `raw_offset`, `damage`, `version`, `event_time`, `stage_time`, `duration`, `level`, `stage`, `audit_id`, `verb`, `request_uri`, `api_group`, `api_version`, `resource`, `subresource`, `namespace`, `name`, `object_uid`, `resource_version`, `user_agent`, `client`, `client_version`, `command`, `code`, `status`, `reason`, `message`, `outcome`, `decision`, `decision_reason`, `annotations`, `user`, `user_uid`, `groups`, `extra`, `credential_id`, `impersonated_user`, `impersonated_uid`, `impersonated_groups`, `impersonated_extra`, `impersonation_constraint`, `source_ip`, `source_ips`, `actor`, `actor_kind`, `provider`, `pod`, `node`, `issued_credential_id`, `display_name`, `email`, `team`, `manager`, `active`, `actor_groups`, `workload`, `cloud_identity`, `minted_by`, `minted_at`, `session`, `source_zone`, `source_country`, `source_network`, `source_node`, `off_node`, `namespace_owner`, `namespace_labels`, `authorizer`, `grant_binding_kind`, `grant_binding`, `grant_role_kind`, `grant_role`, `grant_subject_kind`, `grant_subject`, `grant_agreement`, `grant_since`, `grant_author`, `grants`, `rights_complete`, `rights_since`, `rights_age`, `breadth`, `cluster_admin`, `dangerous`, `impersonation_allowed`, `impersonation_grants`, `caller_breadth`, `caller_dangerous`, `raw`
FROM auditmill.event_rows
WHERE if(version = 0,
    CAST(event_id AS String) GLOBAL NOT IN (SELECT event_id FROM auditmill.event_versions),
    (CAST(event_id AS String), version) GLOBAL IN (SELECT event_id, max(version) FROM auditmill.event_versions GROUP BY event_id));

CREATE OR REPLACE VIEW auditmill.denied_by_actor ON CLUSTER '{cluster}' AS
SELECT
    cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace,
    sum(events) AS requests, min(minute) AS first_minute, max(minute) AS last_minute
FROM
(
    SELECT cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace, minute, sum(events) AS events
    FROM auditmill.activity_per_minute
    WHERE outcome = 'denied'
    GROUP BY cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace, minute
    HAVING events != 0
)
GROUP BY cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace;

CREATE OR REPLACE VIEW auditmill.busiest_actors_per_minute ON CLUSTER '{cluster}' AS
SELECT minute, cluster, actor, actor_kind, sum(events) AS requests
FROM auditmill.activity_per_minute
WHERE outcome != 'received'
GROUP BY minute, cluster, actor, actor_kind
HAVING requests != 0
ORDER BY minute DESC, requests DESC
LIMIT 10 BY minute;

-- 0007_alert_context 37503ed4dc4e264ee442e4cf6ef6a634

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `version` UInt64 AFTER `values`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `version` UInt64 AFTER `values`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `display_name` LowCardinality(String) AFTER `version`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `display_name` LowCardinality(String) AFTER `version`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `email` LowCardinality(String) AFTER `display_name`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `email` LowCardinality(String) AFTER `display_name`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `team` LowCardinality(String) AFTER `email`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `team` LowCardinality(String) AFTER `email`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `manager` LowCardinality(String) AFTER `team`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `manager` LowCardinality(String) AFTER `team`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `active` LowCardinality(String) AFTER `manager`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `active` LowCardinality(String) AFTER `manager`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `workload` LowCardinality(String) AFTER `active`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `workload` LowCardinality(String) AFTER `active`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `pod` LowCardinality(String) AFTER `workload`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `pod` LowCardinality(String) AFTER `workload`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `node` LowCardinality(String) AFTER `pod`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `node` LowCardinality(String) AFTER `pod`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `cloud_identity` LowCardinality(String) AFTER `node`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `cloud_identity` LowCardinality(String) AFTER `node`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `credential_id` String AFTER `cloud_identity`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `credential_id` String AFTER `cloud_identity`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `minted_by` LowCardinality(String) AFTER `credential_id`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `minted_by` LowCardinality(String) AFTER `credential_id`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `minted_at` DateTime64(6, 'UTC') AFTER `minted_by`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `minted_at` DateTime64(6, 'UTC') AFTER `minted_by`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `session` String AFTER `minted_at`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `session` String AFTER `minted_at`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_zone` LowCardinality(String) AFTER `session`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_zone` LowCardinality(String) AFTER `session`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_country` LowCardinality(String) AFTER `source_zone`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_country` LowCardinality(String) AFTER `source_zone`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_network` LowCardinality(String) AFTER `source_country`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_network` LowCardinality(String) AFTER `source_country`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_node` LowCardinality(String) AFTER `source_network`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `source_node` LowCardinality(String) AFTER `source_network`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `off_node` LowCardinality(String) AFTER `source_node`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `off_node` LowCardinality(String) AFTER `source_node`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `namespace_owner` LowCardinality(String) AFTER `off_node`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `namespace_owner` LowCardinality(String) AFTER `off_node`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `impersonation_allowed` LowCardinality(String) AFTER `namespace_owner`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `impersonation_allowed` LowCardinality(String) AFTER `namespace_owner`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `impersonation_grant` LowCardinality(String) AFTER `impersonation_allowed`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `impersonation_grant` LowCardinality(String) AFTER `impersonation_allowed`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grant` LowCardinality(String) AFTER `impersonation_grant`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grant` LowCardinality(String) AFTER `impersonation_grant`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grants` UInt64 AFTER `grant`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grants` UInt64 AFTER `grant`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grant_since` DateTime64(6, 'UTC') AFTER `grants`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grant_since` DateTime64(6, 'UTC') AFTER `grants`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grant_author` LowCardinality(String) AFTER `grant_since`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grant_author` LowCardinality(String) AFTER `grant_since`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grant_agreement` LowCardinality(String) AFTER `grant_author`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `grant_agreement` LowCardinality(String) AFTER `grant_author`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `rights_complete` LowCardinality(String) AFTER `grant_agreement`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `rights_complete` LowCardinality(String) AFTER `grant_agreement`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `breadth` UInt16 AFTER `rights_complete`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `breadth` UInt16 AFTER `rights_complete`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `cluster_admin` LowCardinality(String) AFTER `breadth`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `cluster_admin` LowCardinality(String) AFTER `breadth`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `dangerous` Array(LowCardinality(String)) AFTER `cluster_admin`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `dangerous` Array(LowCardinality(String)) AFTER `cluster_admin`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `caller_breadth` UInt16 AFTER `dangerous`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `caller_breadth` UInt16 AFTER `dangerous`;

ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `caller_dangerous` Array(LowCardinality(String)) AFTER `caller_breadth`;

ALTER TABLE auditmill.alerts ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS `caller_dangerous` Array(LowCardinality(String)) AFTER `caller_breadth`;

-- when the retention changes: ALTER TABLE auditmill.event_rows_local ON CLUSTER '{cluster}' MODIFY TTL toDateTime(received_at) + INTERVAL 90 DAY DELETE

-- when the retention changes: ALTER TABLE auditmill.alerts_local ON CLUSTER '{cluster}' MODIFY TTL toDateTime(time) + INTERVAL 90 DAY DELETE

-- when the retention changes: ALTER TABLE auditmill.activity_per_minute_local ON CLUSTER '{cluster}' MODIFY TTL received_day + INTERVAL 90 DAY DELETE

-- when the retention changes: ALTER TABLE auditmill.intake_per_minute_local ON CLUSTER '{cluster}' MODIFY TTL minute + INTERVAL 90 DAY DELETE

-- when the retention changes: ALTER TABLE auditmill.event_versions_local ON CLUSTER '{cluster}' MODIFY TTL received_day + INTERVAL 90 DAY DELETE
