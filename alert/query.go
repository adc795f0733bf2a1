package alert

import (
	"fmt"
	"strings"
	"time"

	"github.com/auditmill/auditmill/schemas"
)

// around is how far before and after the event the query of an alert looks.
const around = 15 * time.Minute

// maxQueryValue bounds a value that stands in a query whole.
const maxQueryValue = 512

// query returns SQL that shows the event and what the actor did around it. Without an actor
// (authentication failed) it follows the source address.
func query(eventID, cluster, actor, sourceIP string, at, received time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "SELECT event_time, event_id = unhex(%s) AS this, verb, api_group, resource, subresource,\n"+
		"       namespace, name, outcome, code, source_ip, user_agent\nFROM events\n", quote(eventID))
	who := equals("actor", actor)
	if actor == "" {
		who = equals("source_ip", sourceIP)
	}
	if at.IsZero() || actor == "" && sourceIP == "" {
		fmt.Fprintf(&b, "WHERE cluster = %s AND event_id = unhex(%s)", quote(cluster), quote(eventID))
		return b.String()
	}
	fmt.Fprintf(&b, "WHERE cluster = %s AND %s\n  AND event_time BETWEEN %s AND %s", quote(cluster), who,
		timestamp(at.Add(-around)), timestamp(at.Add(around)))
	if !received.IsZero() {
		// Partitions are days of received_at. What was received on another day than the event
		// was delayed by hours; better find the rest at once.
		fmt.Fprintf(&b, "\n  AND received_at BETWEEN %s AND %s",
			timestamp(received.Add(-6*time.Hour)), timestamp(received.Add(6*time.Hour)))
	}
	b.WriteString("\nORDER BY event_time")
	return b.String()
}

// complete gives the alert of a correlation its query: all events behind it, or what the actor of the last did.
func complete(a *schemas.Alert) {
	if len(a.EventIDs) < 2 {
		a.Query = query(a.EventID, a.Cluster, a.Actor, a.SourceIP, a.LastTime, time.Time{})
		return
	}
	ids := make([]string, len(a.EventIDs))
	for i, id := range a.EventIDs {
		ids[i] = "unhex(" + quote(id) + ")"
	}
	a.Query = fmt.Sprintf("SELECT event_time, cluster, actor, verb, api_group, resource, subresource, namespace, name, outcome, code, source_ip\n"+
		"FROM events\nWHERE event_time BETWEEN %s AND %s\n  AND event_id IN (%s)\nORDER BY event_time",
		timestamp(a.FirstTime.Add(-time.Second)), timestamp(a.LastTime.Add(time.Second)), strings.Join(ids, ", "))
}

func equals(column, value string) string {
	if len(value) > maxQueryValue {
		return fmt.Sprintf("startsWith(%s, %s)", column, quote(value[:maxQueryValue]))
	}
	return column + " = " + quote(value)
}

func timestamp(t time.Time) string {
	return "toDateTime64('" + t.UTC().Format("2006-01-02 15:04:05.000000") + "', 6, 'UTC')"
}

// quote returns s as a string literal of ClickHouse. Of the value only plain printable
// characters stand for themselves. Everything else, quotes and backslashes as well as what
// chat programs and terminals act on, is written as \xHH.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c > '~' || strings.IndexByte("'\\`<>&", c) >= 0 {
			fmt.Fprintf(&b, `\x%02X`, c)
		} else {
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}
