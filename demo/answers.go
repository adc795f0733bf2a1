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
		{"Who read secrets?", `SELECT cluster, replaceRegexpOne(actor, '^.*/(system:serviceaccount:)?', '') AS who, count() AS reads,
	uniqExact(namespace, name) AS secrets, any(grant_binding) AS through FROM secret_reads WHERE actor_kind != 'control_plane'
	GROUP BY cluster, actor ORDER BY reads DESC, cluster, who LIMIT 8`},
		{"Through which grant did people change what, who had made the grant, and when?", `SELECT display_name AS person, splitByChar('@', team)[1] AS team,
	grant_binding AS through, splitByChar('/', grant_author)[-1] AS made_by, toTime(any(grant_since)) AS at, max(breadth) AS breadth, count() AS done
	FROM events WHERE actor_kind = 'human' AND outcome = 'success' AND stage = 'ResponseComplete'
	AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection') AND grant_author != ''
	GROUP BY person, team, through, made_by ORDER BY done DESC, person, through LIMIT 8`},
		{"Who was denied, and what?", `SELECT cluster, actor, sum(requests) AS denied,
	arrayStringConcat(arraySlice(arraySort(groupUniqArray(concat(verb, ' ', resource))), 1, 3), ', ') AS what
	FROM denied_by_actor GROUP BY cluster, actor ORDER BY denied DESC, cluster, actor LIMIT 8`},
		{"Which pods are privileged, and who made them?", `SELECT cluster, actor, concat(resource, ' ', namespace, '/', object) AS made, splitByChar('/', images[1])[-1] AS image, outcome
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
