{{.Distributed "event_rows" "cityHash64(event_id)"}}{{.AddEventColumns}}{{.EventVersions}}{{.RollupViewOfFirstRows "activity_per_minute"}}{{.RollupViewOfFirstRows "intake_per_minute"}}{{.EventView -}}
CREATE OR REPLACE VIEW {{.Database}}.denied_by_actor{{.OnCluster}} AS
SELECT
    cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace,
    sum(events) AS requests, min(minute) AS first_minute, max(minute) AS last_minute
FROM
(
    SELECT cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace, minute, sum(events) AS events
    FROM {{.Database}}.activity_per_minute
    WHERE outcome = 'denied'
    GROUP BY cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace, minute
    HAVING events != 0
)
GROUP BY cluster, actor, actor_kind, verb, api_group, resource, subresource, namespace;
CREATE OR REPLACE VIEW {{.Database}}.busiest_actors_per_minute{{.OnCluster}} AS
SELECT minute, cluster, actor, actor_kind, sum(events) AS requests
FROM {{.Database}}.activity_per_minute
WHERE outcome != 'received'
GROUP BY minute, cluster, actor, actor_kind
HAVING requests != 0
ORDER BY minute DESC, requests DESC
LIMIT 10 BY minute;
