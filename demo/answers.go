package demo

import (
	"bytes"
	"context"

	"github.com/auditmill/auditmill/load"
)

// question is what somebody asks, and the SQL that answers it.
type question struct{ text, sql string }

// questions are answered at the end of the demo, and can be asked again by `auditmill query`.
func questions() []question {
	return []question{
		{"Who read secrets?", `SELECT cluster, actor, actor_kind AS kind, count() AS reads, uniqExact(namespace, name) AS secrets,
	any(grant_binding) AS through FROM secret_reads WHERE actor_kind != 'control_plane'
	GROUP BY cluster, actor, kind ORDER BY reads DESC, cluster, actor LIMIT 8`},
		{"Through which grant did people change what, who had made the grant, and when?", `SELECT display_name AS person, splitByChar('@', team)[1] AS team,
	grant_binding AS through, splitByChar('/', grant_author)[-1] AS made_by, toTime(any(grant_since)) AS at, max(breadth) AS breadth, count() AS changes
	FROM events WHERE actor_kind = 'human' AND outcome = 'success' AND stage = 'ResponseComplete'
	AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection') AND grant_author != ''
	GROUP BY person, team, through, made_by ORDER BY changes DESC, person, through LIMIT 8`},
		{"Who was denied, and what?", `SELECT cluster, actor, sum(requests) AS denied, arraySlice(arraySort(groupUniqArray(concat(verb, ' ', resource))), 1, 4) AS what
	FROM denied_by_actor GROUP BY cluster, actor ORDER BY denied DESC, cluster, actor LIMIT 8`},
		{"Which pods are privileged, and who made them?", `SELECT cluster, actor, verb, resource, namespace, object, images[1] AS image, outcome
	FROM privileged_pods WHERE actor_kind != 'control_plane' ORDER BY event_time, cluster LIMIT 8`},
		{"Who was busiest, minute by minute?", `SELECT minute, cluster, actor, requests FROM busiest_actors_per_minute
	ORDER BY minute DESC, requests DESC LIMIT 8`},
	}
}

func answer(ctx context.Context, conn load.Conn, database string, s *screen) error {
	for _, q := range questions() {
		var table bytes.Buffer
		if err := load.Query(ctx, conn, database, q.sql, "PrettyCompactMonoBlock", &table); err != nil {
			return err
		}
		s.title("%s", q.text)
		s.say("%s", bytes.TrimRight(table.Bytes(), "\n"))
	}
	return nil
}
