SELECT event_time, event_id = unhex('0102') AS this, verb, api_group, resource, subresource,
       namespace, name, outcome, code, source_ip, user_agent
FROM events
WHERE cluster = 'prod' AND actor = 'alice'
  AND event_time BETWEEN toDateTime64('2026-11-20 23:50:00.000001', 6, 'UTC') AND toDateTime64('2026-11-21 00:20:00.000001', 6, 'UTC')
  AND received_at BETWEEN toDateTime64('2026-11-20 18:05:01.000001', 6, 'UTC') AND toDateTime64('2026-11-21 06:05:01.000001', 6, 'UTC')
ORDER BY event_time;

SELECT event_time, event_id = unhex('0102') AS this, verb, api_group, resource, subresource,
       namespace, name, outcome, code, source_ip, user_agent
FROM events
WHERE cluster = 'prod' AND source_ip = '192.0.2.1'
  AND event_time BETWEEN toDateTime64('2026-11-20 23:50:00.000001', 6, 'UTC') AND toDateTime64('2026-11-21 00:20:00.000001', 6, 'UTC')
ORDER BY event_time;

SELECT event_time, event_id = unhex('0102') AS this, verb, api_group, resource, subresource,
       namespace, name, outcome, code, source_ip, user_agent
FROM events
WHERE cluster = 'prod' AND event_id = unhex('0102');

SELECT event_time, event_id = unhex('0102') AS this, verb, api_group, resource, subresource,
       namespace, name, outcome, code, source_ip, user_agent
FROM events
WHERE cluster = 'prod' AND startsWith(actor, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa')
  AND event_time BETWEEN toDateTime64('2026-11-20 23:50:00.000001', 6, 'UTC') AND toDateTime64('2026-11-21 00:20:00.000001', 6, 'UTC')
  AND received_at BETWEEN toDateTime64('2026-11-20 18:05:00.000001', 6, 'UTC') AND toDateTime64('2026-11-21 06:05:00.000001', 6, 'UTC')
ORDER BY event_time;

