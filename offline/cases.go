package offline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// caseStart is the time of the first event of a case. Nothing in a case depends on the clock.
var caseStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant in all but syntax

// CaseEvents returns the events of a case as the API server would write them: what the case leaves out is filled in.
// level is the audit level of the rule.
func CaseEvents(c *ir.Case, level string) ([][]byte, error) {
	var events [][]byte
	for i, given := range c.Events {
		for n := range max(given.Repeat, 1) {
			at := caseStart.Add(given.After + time.Duration(n)*given.Every)
			event, err := caseEvent(given.JSON, level, at, len(events))
			if err != nil {
				return nil, fmt.Errorf("%s: event %d of case %q: %w", c.Position, i+1, c.Name, err)
			}
			events = append(events, event)
		}
	}
	return events, nil
}

type object = map[string]any

func caseEvent(given []byte, level string, at time.Time, n int) ([]byte, error) {
	var event object
	decoder := json.NewDecoder(bytes.NewReader(given))
	decoder.UseNumber()
	if err := decoder.Decode(&event); err != nil {
		return nil, fmt.Errorf("the event is not a mapping: %w", err)
	}
	if level == "" {
		level = "Metadata"
	}
	stamp := at.Format("2006-01-02T15:04:05.000000Z")
	ref, _ := event["objectRef"].(object)
	verb, ok := event["verb"].(string)
	if !ok {
		verb = "get"
	}
	if ref != nil && ref["apiVersion"] == nil {
		ref["apiVersion"] = "v1"
	}
	stage, _ := event["stage"].(string)
	defaults := object{
		"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": level, "stage": "ResponseComplete", "verb": verb,
		"auditID":    fmt.Sprintf("%08x-0000-4000-8000-%012x", n+1, at.UnixMicro()&(1<<48-1)),
		"requestURI": requestURI(ref, verb),
		"user":       object{"username": "mallory", "groups": []any{"system:authenticated"}},
		"sourceIPs":  []any{"198.51.100.23"}, "userAgent": "kubectl/v1.34.1 (linux/amd64) kubernetes/93248f9",
		"requestReceivedTimestamp": stamp, "stageTimestamp": stamp,
		"annotations": object{"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
	}
	if stage != "RequestReceived" {
		defaults["responseStatus"] = object{"metadata": object{}, "code": statusCode(ref, verb)}
	}
	return json.Marshal(merge(defaults, event))
}

// merge returns base with what over says: mappings are merged, null removes a key, all else replaces.
func merge(base, over object) object {
	out := maps.Clone(base)
	for key, value := range over {
		inner, isObject := value.(object)
		below, wasObject := out[key].(object)
		switch {
		case value == nil:
			delete(out, key)
		case isObject && wasObject:
			out[key] = merge(below, inner)
		default:
			out[key] = value
		}
	}
	return out
}

// statusCode is what the API server answers when all goes well.
func statusCode(ref object, verb string) int {
	subresource, _ := ref["subresource"].(string)
	switch {
	case subresource == "exec" || subresource == "attach" || subresource == "portforward":
		return 101
	case verb == "create":
		return 201
	}
	return 200
}

func requestURI(ref object, verb string) string {
	if ref == nil {
		return "/"
	}
	get := func(key string) string { text, _ := ref[key].(string); return text }
	var b strings.Builder
	if group := get("apiGroup"); group != "" {
		b.WriteString("/apis/" + group)
	} else {
		b.WriteString("/api")
	}
	b.WriteString("/" + get("apiVersion"))
	if ns := get("namespace"); ns != "" && get("resource") != "namespaces" {
		b.WriteString("/namespaces/" + ns)
	}
	for _, key := range []string{"resource", "name", "subresource"} {
		if part := get(key); part != "" && (key != "name" || verb != "create" || get("subresource") != "") {
			b.WriteString("/" + part)
		}
	}
	if verb == "watch" {
		b.WriteString("?watch=true")
	}
	return b.String()
}
