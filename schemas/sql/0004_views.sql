CREATE VIEW IF NOT EXISTS {{.Database}}.secret_reads{{.OnCluster}} AS
SELECT
    event_time, cluster, actor, actor_kind, user, verb, namespace, name, stage, source_ip, client, user_agent,
    grant_binding_kind, grant_binding, grant_role, audit_id, id
FROM {{.Database}}.events
WHERE resource = 'secrets' AND subresource = '' AND api_group = '' AND verb IN ('get', 'list', 'watch')
    AND outcome = 'success';
CREATE VIEW IF NOT EXISTS {{.Database}}.denied_by_actor{{.OnCluster}} AS
SELECT
    cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace,
    sum(events) AS requests, min(minute) AS first_minute, max(minute) AS last_minute
FROM {{.Database}}.activity_per_minute
WHERE outcome = 'denied'
GROUP BY cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace;
CREATE VIEW IF NOT EXISTS {{.Database}}.busiest_actors_per_minute{{.OnCluster}} AS
SELECT minute, cluster, actor, actor_kind, sum(events) AS requests
FROM {{.Database}}.activity_per_minute
WHERE outcome != 'received'
GROUP BY minute, cluster, actor, actor_kind
ORDER BY minute DESC, requests DESC
LIMIT 10 BY minute;
CREATE VIEW IF NOT EXISTS {{.Database}}.exec_sessions{{.OnCluster}} AS
SELECT
    event_time, cluster, actor, actor_kind, user, subresource AS kind, namespace, name AS pod, command, stage, code,
    outcome, source_ip, client, user_agent, grant_binding, audit_id, id
FROM {{.Database}}.events
WHERE resource = 'pods' AND subresource IN ('exec', 'attach', 'portforward') AND outcome != 'received';
CREATE VIEW IF NOT EXISTS {{.Database}}.rbac_changes{{.OnCluster}} AS
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
FROM {{.Database}}.events
WHERE api_group = 'rbac.authorization.k8s.io'
    AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection', 'bind', 'escalate')
    AND outcome != 'received';
CREATE VIEW IF NOT EXISTS {{.Database}}.privileged_pods{{.OnCluster}} AS
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
FROM {{.Database}}.events
WHERE resource IN ('pods', 'deployments', 'daemonsets', 'statefulsets', 'replicasets', 'replicationcontrollers', 'jobs',
        'cronjobs')
    AND subresource IN ('', 'ephemeralcontainers') AND verb IN ('create', 'update', 'patch') AND outcome != 'received'
    AND match(raw, '"privileged"\\s*:\\s*true') AND notEmpty(privileged);
