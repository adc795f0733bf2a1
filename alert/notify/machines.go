package notify

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/schemas"
)

// webhookSink posts JSON with a signature.
type webhookSink struct {
	endpoint
	secret  conf.Secret
	updates bool
	name    string

	template *template.Template
}

// WebhookBody is the JSON that a receiver of type webhook gets. The headers
// X-Auditmill-Timestamp (seconds since 1970) and X-Auditmill-Signature (v1= and the HMAC-SHA256,
// in hexadecimal, of "v1:", the timestamp, ":" and the body) prove who sent it; a receiver
// should refuse a timestamp that is more than five minutes old. Idempotency-Key is the same in
// every attempt to deliver one message.
type WebhookBody struct {
	Version  int    `json:"version"` // 1
	Kind     Kind   `json:"kind"`
	Receiver string `json:"receiver"`
	Severity string `json:"severity"`
	GroupID  string `json:"group_id"`
	Count    uint64 `json:"count"`
	Events   uint64 `json:"events"`
	// First and Last are in event time.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Note  string    `json:"note,omitempty"`
	// Text is for people: printable, with nothing that renders as markup.
	Text string `json:"text"`
	// Repeat is true if an earlier attempt may have been delivered.
	Repeat bool     `json:"repeat"`
	Recent []Recent `json:"recent"`
	// Alert is the newest alert. Its texts are those of the event, chosen by whoever caused it.
	Alert *schemas.Alert `json:"alert"`
}

func (s *webhookSink) Name() string { return typeWebhook }

func (s *webhookSink) Features() Features { return Features{Update: s.updates} }

func (s *webhookSink) Post(ctx context.Context, m *Message, plain bool) (Receipt, error) {
	own, err := rendered(s.template, m, plain)
	if err != nil {
		return Receipt{}, err
	}
	body, err := json.Marshal(WebhookBody{
		Version: 1, Kind: cmp.Or(m.Kind, KindNew), Receiver: s.name, Severity: m.Severity, GroupID: m.Group,
		Count: m.Count, Events: m.Events, First: m.First, Last: m.Last, Note: m.Note, Text: inert(summary(m)),
		Repeat: m.Repeat, Recent: m.Recent, Alert: m.Raw,
	})
	if err != nil {
		return Receipt{}, &Error{Class: Refused, Reason: "encoding", Err: fmt.Errorf("encoding a message: %w", err)}
	}
	if own != "" {
		body = []byte(own)
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	err = s.post(ctx, body, map[string]string{
		"X-Auditmill-Timestamp": at, "X-Auditmill-Signature": signature(s.secret, "v1", at, body),
		"Idempotency-Key": idempotencyKey(m),
	})
	return Receipt{Channel: s.name, TS: m.Group}, err
}

// signature is the version and the HMAC-SHA256 of version, time and body, as Slack has it.
func signature(secret conf.Secret, version, at string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret.Reveal()))
	mac.Write([]byte(version + ":" + at + ":"))
	mac.Write(body)
	return version + "=" + hex.EncodeToString(mac.Sum(nil))
}

func idempotencyKey(m *Message) string {
	key := fmt.Sprintf("%s-%s-%d", m.Group, cmp.Or(m.Kind, KindNew), m.Count)
	if m.revision > 0 {
		key += fmt.Sprintf("-r%d", m.revision)
	}
	return key
}

// summary is one line about a message.
func summary(m *Message) string {
	times := ""
	if m.Count > 1 {
		times = fmt.Sprintf(" (%d times)", m.Count)
	}
	return fmt.Sprintf("%s: %s%s: %s", strings.ToUpper(m.Severity), m.Title, times, cmp.Or(m.Summary, m.What))
}

// pagerDuty triggers incidents; alerts of one group are one incident.
type pagerDuty struct {
	endpoint
	key      conf.Secret
	template *template.Template
}

func (s *pagerDuty) Name() string { return typePagerDuty }

func (s *pagerDuty) Post(ctx context.Context, m *Message, plain bool) (Receipt, error) {
	own, err := rendered(s.template, m, plain)
	if err != nil {
		return Receipt{}, err
	}
	severities := map[string]string{critical: "critical", high: "error", medium: "warning", low: "info", informational: "info"}
	body, err := json.Marshal(map[string]any{
		"routing_key": s.key.Reveal(), "event_action": "trigger", "dedup_key": m.Group, "client": "auditmill",
		"payload": map[string]any{
			"summary": cut(cmp.Or(own, inert(summary(m))), 1024), "source": inert(cmp.Or(m.Cluster, "auditmill")),
			"severity": severities[m.Severity], "timestamp": m.When.UTC().Format(time.RFC3339Nano),
			"class": inert(m.Rule), "group": inert(m.Cluster), "custom_details": details(m),
		},
	})
	if err != nil {
		return Receipt{}, &Error{Class: Refused, Reason: "encoding", Err: fmt.Errorf("encoding a message: %w", err)}
	}
	return Receipt{Channel: typePagerDuty}, s.post(ctx, body, nil)
}

// details are what people read in a tool that shows names and values.
func details(m *Message) map[string]string {
	out := map[string]string{}
	for name, value := range map[string]string{
		"summary": m.Summary, "actor": m.Actor, "cluster": m.Cluster, "what": m.What, "command": m.Command,
		"why": m.Why, "who": m.Who, "rights": m.Rights, "credential": m.Credential, "warnings": strings.Join(m.Warnings, "; "),
		"source_ip": m.SourceIP, "source": m.Source, "user_agent": m.UserAgent, "rule": m.Rule, "alert_id": m.ID,
		"audit_id": m.AuditID, "next": m.Next, "tags": strings.Join(m.Tags, ", "), "note": m.Note,
		"first": whenText(m.First), "last": whenText(m.Last), "count": strconv.FormatUint(m.Count, 10),
	} {
		if value != "" {
			out[name] = inert(value)
		}
	}
	return out
}

// alertmanager keeps one alert per group firing until the group is quiet.
type alertmanager struct {
	endpoint
	quiet    time.Duration
	template *template.Template
}

func (s *alertmanager) Name() string { return typeAlertmanager }

func (s *alertmanager) Features() Features { return Features{Update: true} }

func (s *alertmanager) Post(ctx context.Context, m *Message, plain bool) (Receipt, error) {
	own, err := rendered(s.template, m, plain)
	if err != nil {
		return Receipt{}, err
	}
	annotations := details(m)
	if own != "" {
		annotations["summary"] = own
	}
	labels := map[string]string{
		"alertname": inert(cmp.Or(m.Rule, m.Title)), "severity": m.Severity, "cluster": inert(m.Cluster), "group_id": m.Group,
	}
	if m.Raw != nil {
		for name, value := range map[string]string{
			"actor": cmp.Or(m.named, m.Raw.Actor), "namespace": m.Raw.Namespace, "resource": m.Raw.Resource, "name": m.Raw.Name,
		} {
			// An empty label is none.
			if value != "" {
				labels[name] = inert(Printable(value, maxShort))
			}
		}
	}
	body, err := json.Marshal([]map[string]any{{
		"labels": labels, "annotations": annotations, "startsAt": m.First.UTC(),
		// The time of the events may be long ago; the alert is to be seen all the same.
		"endsAt": time.Now().Add(max(s.quiet, 5*time.Minute)).UTC(),
	}})
	if err != nil {
		return Receipt{}, &Error{Class: Refused, Reason: "encoding", Err: fmt.Errorf("encoding a message: %w", err)}
	}
	return Receipt{Channel: typeAlertmanager, TS: m.Group}, s.post(ctx, body, nil)
}
