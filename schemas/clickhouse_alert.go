package schemas

// AlertColumn is one column of the table alerts.
type AlertColumn struct {
	Name string // the JSON key of the field of Alert
	Type string // in ClickHouse
	// Since is the number of the migration that adds the column; 0 is the one that creates the table.
	Since int
}

// AlertColumns returns the columns of the table alerts: one for each field of Alert, in order.
//
//nolint:funlen // a table
func AlertColumns() []AlertColumn {
	const (
		text  = "String"
		dict  = "LowCardinality(String)"
		when  = "DateTime64(6, 'UTC')"
		texts = "Array(String)"
		dicts = "Array(LowCardinality(String))"
		count = "UInt64"
		small = "UInt16"
	)
	return []AlertColumn{
		{Name: "id", Type: text},
		{Name: "rule", Type: dict},
		{Name: "title", Type: dict},
		{Name: "severity", Type: dict},
		{Name: "tags", Type: dicts},
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
		{Name: "code", Type: small},
		{Name: "outcome", Type: dict},
		{Name: "decision", Type: dict},
		{Name: "decision_reason", Type: text},
		{Name: "query", Type: text},
		{Name: "group_id", Type: text, Since: 5},
		{Name: "events", Type: count, Since: 5},
		{Name: "event_ids", Type: texts, Since: 5},
		{Name: "first_time", Type: when, Since: 5},
		{Name: "last_time", Type: when, Since: 5},
		{Name: "values", Type: "Map(LowCardinality(String), String)", Since: 5},
		{Name: "version", Type: count, Since: 7},
		{Name: "display_name", Type: dict, Since: 7},
		{Name: "email", Type: dict, Since: 7},
		{Name: "team", Type: dict, Since: 7},
		{Name: "manager", Type: dict, Since: 7},
		{Name: "active", Type: dict, Since: 7},
		{Name: "workload", Type: dict, Since: 7},
		{Name: "pod", Type: dict, Since: 7},
		{Name: "node", Type: dict, Since: 7},
		{Name: "cloud_identity", Type: dict, Since: 7},
		{Name: "credential_id", Type: text, Since: 7},
		{Name: "minted_by", Type: dict, Since: 7},
		{Name: "minted_at", Type: when, Since: 7},
		{Name: "session", Type: text, Since: 7},
		{Name: "source_zone", Type: dict, Since: 7},
		{Name: "source_country", Type: dict, Since: 7},
		{Name: "source_network", Type: dict, Since: 7},
		{Name: "source_node", Type: dict, Since: 7},
		{Name: "off_node", Type: dict, Since: 7},
		{Name: "namespace_owner", Type: dict, Since: 7},
		{Name: "impersonation_allowed", Type: dict, Since: 7},
		{Name: "impersonation_grant", Type: dict, Since: 7},
		{Name: "grant", Type: dict, Since: 7},
		{Name: "grants", Type: count, Since: 7},
		{Name: "grant_since", Type: when, Since: 7},
		{Name: "grant_author", Type: dict, Since: 7},
		{Name: "grant_agreement", Type: dict, Since: 7},
		{Name: "rights_complete", Type: dict, Since: 7},
		{Name: "breadth", Type: small, Since: 7},
		{Name: "cluster_admin", Type: dict, Since: 7},
		{Name: "dangerous", Type: dicts, Since: 7},
		{Name: "caller_breadth", Type: small, Since: 7},
		{Name: "caller_dangerous", Type: dicts, Since: 7},
	}
}
