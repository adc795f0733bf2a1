package notify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/auditmill/auditmill/schemas"
)

// Message is what a person is told about a group of alerts, or by a digest about many groups.
// Every sink renders the same Message in its own way. All its texts are printable and of
// bounded length: see Printable.
type Message struct {
	// Kind says why it is posted; empty is the same as KindNew.
	Kind Kind
	// At is the message to be changed or answered, if any.
	At Receipt
	// Digest is set in the message about many groups; what follows is empty then, but Severity
	// and Title.
	Digest *Digest
	// Group is the id of the group.
	Group string
	// Count is the number of alerts of the group, of which the receiver knows Before.
	Count, Before uint64
	// Events is the number of events behind the alerts.
	Events uint64
	// First and Last are in event time.
	First, Last time.Time
	// Recent are the newest alerts of the group, the newest last.
	Recent []Recent
	// Note says what people did about the group: who acknowledged it.
	Note string
	// Raw is the newest alert as it was raised. Its texts are those of the event: for machines.
	Raw *schemas.Alert

	// ID is the alert id.
	ID       string
	Rule     string
	Severity string
	// Title is the title of the rule.
	Title string
	// Summary is what happened in one sentence.
	Summary string
	// Actor is who did it, with the account used and the identity assumed where they differ.
	Actor string
	// Who is what is known of the actor besides: name, team, manager; of a service account what runs under it.
	Who string
	// Warnings are what is wrong whatever the rule is about: who did it has left, the token is not where it belongs.
	Warnings []string
	Cluster  string
	// What is the request and its answer.
	What string
	// Command is what was executed in a container; empty for other requests.
	Command string
	// Why says why the request was allowed, through which grant and since when there is one, or why it was not.
	Why string
	// Rights are what else the user may do whose rights counted.
	Rights string
	// Credential says who requested the token that was used.
	Credential string
	When       time.Time
	RaisedAt   time.Time
	SourceIP   string
	// Source is SourceIP with what is known of it.
	Source    string
	UserAgent string
	// Next is what to do about it.
	Next string
	// Query is SQL that shows more.
	Query   string
	Tags    []string
	AuditID string
	EventID string
	// Repeat is true when an earlier attempt to post this message may have succeeded
	// without our learning of it.
	Repeat bool

	// Buttons says that people can acknowledge and silence the group from the message.
	Buttons bool

	revision uint64 // of the group
	named    string // the actor's name in labels, which must not change

	body    string    // what the receiver's template made of it
	waiting time.Time // since when it waits, about
}

// The longest texts of a Message, in bytes. They leave room for escapes below the limits
// of Slack (see blocks.go).
const (
	maxShort = 200
	maxLine  = 600
	maxText  = 1500
	maxQuery = 2600
	maxTags  = 12
)

// newGroupMessage tells of a group.
func newGroupMessage(g *Group, kind Kind, note string) Message {
	m := NewMessage(&g.Alert)
	m.Kind, m.Group, m.Severity, m.Note = kind, Printable(g.ID, maxShort), g.Severity, note
	m.Count, m.Events, m.First, m.Last = g.Count, g.Events, g.First, g.Last
	m.Recent, m.waiting = slices.Clone(g.Recent), g.UpdatedAt
	m.revision, m.named = g.Revision, cmp.Or(g.Named, g.Alert.Actor)
	raw := g.Alert
	m.Raw = &raw
	return m
}

// NewMessage tells of an alert.
func NewMessage(a *schemas.Alert) Message {
	m := Message{
		ID: Printable(a.ID, maxShort), Rule: Printable(a.Rule, maxShort),
		Severity: severity(a.Severity), Title: Printable(cmp.Or(a.Title, a.Rule, "Alert"), maxShort),
		Summary: Printable(a.Summary, maxText), Actor: actor(a), Cluster: Printable(a.Cluster, maxShort),
		What: what(a), Command: Printable(strings.Join(a.Command, " "), maxLine), Why: why(a),
		Who: who(a), Warnings: warnings(a), Rights: rights(a), Credential: credential(a), Source: source(a),
		When: a.Time, RaisedAt: a.RaisedAt, SourceIP: Printable(a.SourceIP, maxShort),
		UserAgent: Printable(a.UserAgent, maxShort), Next: Printable(strings.Join(strings.Fields(a.Next), " "), maxText),
		Group: Printable(groupID(a), maxShort), Count: 1, Events: max(1, a.Events), First: a.Time, Last: a.Time, Raw: a,
		Query: query(a.Query), AuditID: Printable(a.AuditID, maxShort), EventID: Printable(a.EventID, maxShort),
	}
	for _, tag := range a.Tags[:min(len(a.Tags), maxTags)] {
		m.Tags = append(m.Tags, Printable(tag, maxShort/4))
	}
	return m
}

func actor(a *schemas.Alert) string {
	who := a.Actor
	if who == "" {
		who = "unknown caller"
	}
	var b strings.Builder
	b.WriteString(Printable(who, maxShort))
	if a.ActorKind != "" {
		fmt.Fprintf(&b, " (%s)", Printable(strings.ReplaceAll(a.ActorKind, "_", " "), maxShort/4))
	}
	if a.User != "" && a.User != a.Actor {
		fmt.Fprintf(&b, ", user %s", Printable(a.User, maxShort))
	}
	if a.Impersonated != "" {
		fmt.Fprintf(&b, ", acting as %s", Printable(a.Impersonated, maxShort))
	}
	return b.String()
}

func what(a *schemas.Alert) string {
	var b strings.Builder
	b.WriteString(a.Verb)
	b.WriteByte(' ')
	if a.Resource == "" {
		b.WriteString(a.RequestURI)
	} else {
		b.WriteString(a.Resource)
		if a.APIGroup != "" {
			b.WriteString("." + a.APIGroup)
		}
		if a.Subresource != "" {
			b.WriteString("/" + a.Subresource)
		}
		if object := strings.Trim(a.Namespace+"/"+a.Name, "/"); object != "" {
			b.WriteString(" " + object)
		}
		if a.NamespaceOwner != "" {
			b.WriteString(", namespace owner " + a.NamespaceOwner)
		}
	}
	text := Printable(cmp.Or(strings.TrimSpace(b.String()), "unknown request"), maxLine)
	if a.Code != 0 {
		return fmt.Sprintf("%s → %d %s", text, a.Code, Printable(a.Outcome, maxShort/4))
	}
	return text + " → " + Printable(cmp.Or(a.Outcome, "no answer recorded"), maxShort/4)
}

func why(a *schemas.Alert) string {
	text := decided(a)
	grant := Printable(a.Grant, maxLine) + granted(a)
	switch {
	case a.Decision != "allow" || a.Grant == "":
	case strings.Contains(a.DecisionReason, "allowed by "): // the grant is the one that it names
		text = "allowed through " + grant
	default:
		text += "; roles and bindings allow it through " + grant
	}
	return Printable(text, maxText)
}

// decided is what the authorizer said.
func decided(a *schemas.Alert) string {
	reason := Printable(cmp.Or(a.DecisionReason, "the API server gave no reason"), maxLine)
	switch a.Decision {
	case "allow":
		if a.DecisionReason == "" {
			return "allowed without a reason, as the API server does for members of system:masters and for nodes"
		}
		return "allowed: " + reason
	case "forbid":
		return "denied: " + reason
	case "":
		return "not decided by the authorizer: the request ended as " + Printable(cmp.Or(a.Outcome, "unknown"), maxShort/4)
	default:
		return Printable(a.Decision, maxShort/4) + ": " + reason
	}
}

// query keeps the line breaks of a query, since they make it readable; everything else
// that does not print was already escaped by whoever wrote it.
func query(q string) string {
	lines := strings.Split(q, "\n")
	for i, line := range lines {
		lines[i] = Printable(line, maxQuery)
	}
	text := strings.Join(lines, "\n")
	if len(text) > maxQuery {
		// Half a query is worse than none.
		return ""
	}
	return text
}

// The severities, from the least to the most severe.
const (
	informational = "informational"
	low           = "low"
	medium        = "medium"
	high          = "high"
	critical      = "critical"
)

// severity returns a known severity: what an older or newer writer calls otherwise is medium.
func severity(s string) string {
	switch s {
	case informational, low, medium, high, critical:
		return s
	}
	return medium
}

// rank orders severities, the most severe first.
func rank(s string) int {
	switch severity(s) {
	case critical:
		return 0
	case high:
		return 1
	case medium:
		return 2
	case low:
		return 3
	}
	return 4
}

// symbol is a coloured dot: it stays visible where a sink shows no colours.
func symbol(s string) string {
	return [...]string{"🔴", "🟠", "🟡", "🔵", "⚪"}[rank(s)]
}

const whenFormat = "2006-01-02 15:04:05 UTC"

func whenText(t time.Time) string {
	if t.IsZero() {
		return "unknown time"
	}
	return t.UTC().Format(whenFormat)
}
