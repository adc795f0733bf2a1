package alert

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/alert/notify"
	"github.com/auditmill/auditmill/alert/rule/ir"
	"github.com/auditmill/auditmill/schemas"
)

// Bounds of an alert, in bytes: the whole of a value is in the event.
const (
	maxField    = 4 << 10
	maxCommand  = 64 // arguments
	maxInText   = 300
	maxSentence = 2 << 10
)

// row reads the columns of one row of a batch.
type row struct {
	batch arrow.RecordBatch
	n     int
}

// Make makes the alert of a rule that matches a row: in the service, in a replay and in a backtest the same but for
// raisedAt. values gives the values of any field of the row.
func Make(r *ir.Meta, batch arrow.RecordBatch, n int, values func(ir.Field) []string, raisedAt time.Time) schemas.Alert {
	e := row{batch, n}
	eventID := e.text("event_id")
	a := schemas.Alert{
		ID: schemas.AlertID(r.ID, eventID), Rule: r.ID, Title: r.Title, Severity: r.Level, Tags: r.Tags,
		Time: e.time("event_time"), RaisedAt: raisedAt.UTC(), Next: r.Next,
		Summary: notify.Printable(r.Summary.Render(inText(values)), maxSentence),
		EventID: eventID, Fingerprint: e.text("fingerprint"), AuditID: e.text("audit_id"),
		Cluster: e.text("cluster"), Actor: e.text("actor"), ActorKind: e.text("actor_kind"), User: e.text("user"),
		Impersonated: e.text("impersonated_user"), SourceIP: e.text("source_ip"), UserAgent: e.text("user_agent"),
		Verb: e.text("verb"), APIGroup: e.text("api_group"), Resource: e.text("resource"),
		Subresource: e.text("subresource"), Namespace: e.text("namespace"), Name: e.text("name"),
		RequestURI: e.text("request_uri"), Command: e.list("command", maxCommand), Code: uint16(e.number("code")),
		Outcome: e.text("outcome"), Decision: e.text("decision"), DecisionReason: e.text("decision_reason"),
	}
	if a.Summary == "" {
		a.Summary = a.Title
	}
	if a.Tags == nil {
		a.Tags = []string{}
	}
	addContext(&a, e)
	received := e.time("received_at")
	if a.Time.IsZero() {
		a.Time = received
	}
	a.GroupID = groupOf(r, &a, values)
	a.Events, a.EventIDs, a.FirstTime, a.LastTime = 1, []string{eventID}, a.Time, a.Time
	a.Values = map[string]string{}
	a.Query = query(eventID, a.Cluster, e.whole("actor"), e.whole("source_ip"), a.Time, received)
	return a
}

// record returns the record of an alert, keyed so that compaction keeps one per alert.
func record(a *schemas.Alert) (*kgo.Record, error) {
	value, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("encoding an alert: %w", err)
	}
	return &kgo.Record{
		Topic: schemas.TopicAlerts, Key: []byte(a.ID), Value: value,
		Headers: []kgo.RecordHeader{{Key: schemas.HeaderVersion, Value: []byte(strconv.Itoa(schemas.Version))}},
	}, nil
}

// whole returns a scalar column as text; empty if it is null or an older writer did not
// have it. The text shares no memory with the batch.
func (e row) whole(column string) string {
	a := schemas.ColumnArray(e.batch, column)
	if a == nil {
		return ""
	}
	return strings.Clone(cell(a, e.n))
}

// text is whole, cut to what an alert holds.
func (e row) text(column string) string { return cut(e.whole(column), maxField) }

// inText is what stands for a field in a sentence: each value printable, on one line and short.
func inText(values func(ir.Field) []string) func(ir.Field) []string {
	return func(f ir.Field) []string {
		var texts []string
		for i, v := range values(f) {
			if i == maxCommand {
				return append(texts, "…")
			}
			texts = append(texts, notify.Printable(v, maxInText))
		}
		return texts
	}
}

// groupOf is the group of an alert: its rule, cluster, actor and target, or the fields that the rule names.
func groupOf(r *ir.Meta, a *schemas.Alert, values func(ir.Field) []string) string {
	if r.GroupBy == nil {
		return schemas.AlertGroup(r.ID, a.Cluster, a.Actor, a.APIGroup, a.Resource, a.Namespace, a.Name)
	}
	key := []string{a.Cluster}
	for _, f := range r.GroupBy {
		key = append(key, strings.Join(values(f), "\x00"))
	}
	return schemas.AlertGroup(r.ID, key...)
}

func (e row) time(column string) time.Time {
	a, ok := schemas.ColumnArray(e.batch, column).(*array.Timestamp)
	if !ok || a.IsNull(e.n) {
		return time.Time{}
	}
	return time.UnixMicro(int64(a.Value(e.n))).UTC()
}

// list returns at most limit values of a list column; nil if it is none.
func (e row) list(column string, limit int) []string {
	a, ok := schemas.ColumnArray(e.batch, column).(*array.List)
	if !ok {
		return nil
	}
	start, end := a.ValueOffsets(e.n)
	values := []string{}
	for i := start; i < end; i++ {
		if len(values) == limit {
			return append(values, "…")
		}
		values = append(values, cut(strings.Clone(cell(a.ListValues(), int(i))), maxField/4))
	}
	return values
}

// cell returns one value as text; empty for null and for maps, which no sentence needs.
func cell(a arrow.Array, i int) string {
	if a.IsNull(i) {
		return ""
	}
	switch a := a.(type) {
	case *array.Dictionary:
		return cell(a.Dictionary(), a.GetValueIndex(i))
	case *array.String:
		return a.Value(i)
	case *array.FixedSizeBinary:
		return hex.EncodeToString(a.Value(i))
	case *array.Timestamp:
		return time.UnixMicro(int64(a.Value(i))).UTC().Format(time.RFC3339Nano)
	case *array.Int64:
		return strconv.FormatInt(a.Value(i), 10)
	case *array.Int32:
		return strconv.FormatInt(int64(a.Value(i)), 10)
	case *array.Uint16:
		return strconv.FormatUint(uint64(a.Value(i)), 10)
	}
	return ""
}

// cut shortens s to limit bytes at a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const ellipsis = "…"
	end := limit - len(ellipsis)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}
