package schemas

// AlertColumn is one column of the table alerts.
type AlertColumn struct {
	Name string // the JSON key of the field of Alert
	Type string // in ClickHouse
	// Since is the number of the migration that adds the column; 0 is the one that creates the table.
	Since int
}

// AlertColumns returns the columns of the table alerts: one for each field of Alert, in order.
func AlertColumns() []AlertColumn {
	const (
		text  = "String"
		dict  = "LowCardinality(String)"
		when  = "DateTime64(6, 'UTC')"
		texts = "Array(String)"
	)
	return []AlertColumn{
		{Name: "id", Type: text},
		{Name: "rule", Type: dict},
		{Name: "title", Type: dict},
		{Name: "severity", Type: dict},
		{Name: "tags", Type: "Array(LowCardinality(String))"},
		{Name: "time", Type: when},
		{Name: "raised_at", Type: when},
		{Name: "summary", Type: text},
		{Name: "next", Type: text},
		{Name: "event_id", Type: text},
		{Name: "fingerprint", Type: text},
		{Name: "audit_id", Type: text},
		{Name: "cluster", Type: dict},
		{Name: "actor", Type: dict},
		{Name: "actor_kind", Type: dict},
		{Name: "user", Type: dict},
		{Name: "impersonated_user", Type: dict},
		{Name: "source_ip", Type: dict},
		{Name: "user_agent", Type: dict},
		{Name: "verb", Type: dict},
		{Name: "api_group", Type: dict},
		{Name: "resource", Type: dict},
		{Name: "subresource", Type: dict},
		{Name: "namespace", Type: dict},
		{Name: "name", Type: text},
		{Name: "request_uri", Type: text},
		{Name: "command", Type: texts},
		{Name: "code", Type: "UInt16"},
		{Name: "outcome", Type: dict},
		{Name: "decision", Type: dict},
		{Name: "decision_reason", Type: text},
		{Name: "query", Type: text},
		{Name: "group_id", Type: text, Since: 5},
		{Name: "events", Type: "UInt64", Since: 5},
		{Name: "event_ids", Type: texts, Since: 5},
		{Name: "first_time", Type: when, Since: 5},
		{Name: "last_time", Type: when, Since: 5},
		{Name: "values", Type: "Map(LowCardinality(String), String)", Since: 5},
	}
}
