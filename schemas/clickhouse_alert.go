package schemas

// AlertColumn is one column of the table alerts.
type AlertColumn struct {
	Name string // the JSON key of the field of Alert
	Type string // in ClickHouse
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
		{"id", text},
		{"rule", dict},
		{"title", dict},
		{"severity", dict},
		{"tags", "Array(LowCardinality(String))"},
		{"time", when},
		{"raised_at", when},
		{"summary", text},
		{"next", text},
		{"event_id", text},
		{"fingerprint", text},
		{"audit_id", text},
		{"cluster", dict},
		{"actor", dict},
		{"actor_kind", dict},
		{"user", dict},
		{"impersonated_user", dict},
		{"source_ip", dict},
		{"user_agent", dict},
		{"verb", dict},
		{"api_group", dict},
		{"resource", dict},
		{"subresource", dict},
		{"namespace", dict},
		{"name", text},
		{"request_uri", text},
		{"command", texts},
		{"code", "UInt16"},
		{"outcome", dict},
		{"decision", dict},
		{"decision_reason", text},
		{"query", text},
	}
}
