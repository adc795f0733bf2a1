package notify

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/schemas"
)

// Group is what people see as one: the alerts of one rule about one thing. It is the value of
// a record of audit.notifications.v1 with the group's id as the key, and says what came in and
// what each receiver was told of it. What is not told yet is the difference.
type Group struct {
	ID string `json:"group_id"`
	// Alert is the newest alert; Severity the highest of all of them.
	Alert    schemas.Alert `json:"alert"`
	Severity string        `json:"severity"`
	// Count is the number of alerts with different ids, Events that of the events behind them.
	Count  uint64 `json:"count"`
	Events uint64 `json:"events"`
	// First and Last are in event time.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Waking is how often the group was quiet and went on.
	Waking uint64 `json:"waking"`
	// Recent are the newest alerts, the newest last.
	Recent []Recent `json:"recent"`
	// Unmarked are the ids of alerts counted here whose own records may not be written yet.
	Unmarked []string `json:"unmarked,omitempty"`
	// Told says, by name of the receiver, what it was told.
	Told map[string]*Told `json:"told"`
	// Routes are the receivers that are to be told.
	Routes []string `json:"routes"`
	// UpdatedAt is when an alert was added last.
	UpdatedAt time.Time `json:"updated_at"`
	// Revision is how often it was learned better who and why, of the alert that the message shows.
	Revision uint64 `json:"revision,omitempty"`
	// Named is the actor as it was called at first, where that was learned better: labels keep to it.
	Named string `json:"named,omitempty"`

	// The rest is not recorded.
	held  bool            // not in Kafka yet
	tries map[string]*try // by receiver
	order order           // see store
}

// Recent is one alert in the list of a message.
type Recent struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Summary string    `json:"summary"`
}

// Told says what a receiver was told about a group.
type Told struct {
	// State is posted, digest if a digest told of the group, refused if the message went to
	// the dead-letter topic, or expired if the alert was older than max_age.
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	// Channel and TS name the message that shows the group.
	Channel string `json:"channel,omitempty"`
	TS      string `json:"ts,omitempty"`
	// Count, Waking, Note and Revision are those of the group that the receiver knows.
	Count    uint64 `json:"count"`
	Waking   uint64 `json:"waking"`
	Note     string `json:"note,omitempty"`
	Revision uint64 `json:"revision,omitempty"`
	// PostedAt is when something new was posted last, UpdatedAt when the message was changed.
	PostedAt  time.Time `json:"posted_at"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// try is what went wrong so far with telling one receiver of a group.
type try struct {
	failures int
	plain    bool
	repeat   bool
}

const maxRecent = 5

// groupID returns the group of an alert; an alert without one is its own group.
func groupID(a *schemas.Alert) string { return cmp.Or(a.GroupID, a.ID) }

// add counts an alert in.
func (g *Group) add(a *schemas.Alert, quiet time.Duration, now time.Time) {
	if g.Count == 0 {
		g.First, g.Last, g.Severity = a.Time, a.Time, severity(a.Severity)
	}
	if g.Count > 0 && a.Time.Sub(g.Last) > quiet {
		g.Waking++
	}
	g.Count++
	g.Events += max(1, a.Events)
	if rank(a.Severity) < rank(g.Severity) {
		g.Severity = severity(a.Severity)
	}
	if a.Time.Before(g.First) {
		g.First = a.Time
	}
	// A late alert does not replace a newer one.
	if g.Alert.ID == "" || !a.Time.Before(g.Last) {
		g.Alert, g.Last = *a, a.Time
	}
	g.Recent = append(g.Recent, Recent{ID: Printable(a.ID, maxShort), Time: a.Time, Summary: Printable(a.Summary, maxShort)})
	slices.SortStableFunc(g.Recent, func(a, b Recent) int { return a.Time.Compare(b.Time) })
	if n := len(g.Recent); n > maxRecent {
		g.Recent = slices.Clone(g.Recent[n-maxRecent:])
	}
	g.UpdatedAt = now.UTC()
}

// improve takes an alert that tells more about the event of the one that the message shows: it was raised again because the event
// was corrected. It is the same alert, so nothing is counted and nobody is called.
func (g *Group) improve(a *schemas.Alert) {
	g.Named = cmp.Or(g.Named, g.Alert.Actor)
	if more, had := max(1, a.Events), max(1, g.Alert.Events); more > had && len(g.Recent) > 0 { // a trimmed alert has forgotten how many
		g.Events += more - had
	}
	g.Alert = *a
	g.Revision++
	for i := range g.Recent {
		if g.Recent[i].ID == Printable(a.ID, maxShort) {
			g.Recent[i].Summary = Printable(a.Summary, maxShort)
		}
	}
	if len(g.Recent) == 0 {
		g.Recent = []Recent{{ID: Printable(a.ID, maxShort), Time: a.Time, Summary: Printable(a.Summary, maxShort)}}
	}
}

// trim forgets what only a message needs, so that many old groups fit in memory.
func (g *Group) trim() {
	g.Alert = schemas.Alert{
		ID: g.Alert.ID, Rule: g.Alert.Rule, Title: g.Alert.Title, Cluster: g.Alert.Cluster, Actor: g.Alert.Actor,
		Namespace: g.Alert.Namespace, Tags: g.Alert.Tags, Time: g.Alert.Time, Severity: g.Alert.Severity, Version: g.Alert.Version,
		Team: g.Alert.Team, NamespaceOwner: g.Alert.NamespaceOwner, Email: g.Alert.Email, DisplayName: g.Alert.DisplayName,
	}
	g.Recent, g.tries = nil, nil
}

func (g *Group) try(receiver string) *try {
	t := g.tries[receiver]
	if t == nil {
		if g.tries == nil {
			g.tries = map[string]*try{}
		}
		t = &try{}
		g.tries[receiver] = t
	}
	return t
}

// Kind says why something is posted.
type Kind string

// The kinds of messages.
const (
	KindNew    Kind = "new"    // the first message of a group
	KindUpdate Kind = "update" // the message of a group is changed
	KindAgain  Kind = "again"  // the group was quiet and goes on
	KindRepeat Kind = "repeat" // the group goes on for long
	KindDigest Kind = "digest" // one message about many groups
)

// pace says when a receiver is told again of the same group.
type pace struct {
	update time.Duration // shortest time between two changes of a message
	repeat time.Duration // shortest time between two posts of a group that goes on
	can    Features
}

// due says what the receiver is to be told next, and from when on; no kind if nothing. note is
// what people did about the group; quieted asks for no more than changes of the message.
func (g *Group) due(receiver string, p pace, note string, quieted bool) (Kind, time.Time) {
	t := g.Told[receiver]
	if t == nil {
		return KindNew, g.UpdatedAt
	}
	news := g.Count > t.Count || g.Waking > t.Waking
	speak := news && !quieted
	repeatAt := t.PostedAt.Add(p.repeat)
	if t.changeable() && p.can.Update {
		if !news && g.Revision == t.Revision && (note == t.Note || len(g.Recent) == 0) {
			return "", time.Time{}
		}
		return g.change(t, speak && p.can.Reply, repeatAt, t.latest().Add(p.update))
	}
	if speak {
		return KindRepeat, repeatAt
	}
	return "", time.Time{}
}

// changeable reports whether there is a message that shows the group.
func (t *Told) changeable() bool { return t.State == statePosted && t.TS != "" }

// change is due where the message of the group can be changed, and answered if reply.
func (g *Group) change(t *Told, reply bool, repeatAt, updateAt time.Time) (Kind, time.Time) {
	switch {
	case reply && g.Waking > t.Waking:
		return KindAgain, g.UpdatedAt
	case reply && repeatAt.Before(updateAt):
		return KindRepeat, repeatAt
	}
	return KindUpdate, updateAt
}

// latest is when the receiver was told anything last.
func (t *Told) latest() time.Time {
	if t.UpdatedAt.After(t.PostedAt) {
		return t.UpdatedAt
	}
	return t.PostedAt
}

// answers reports whether a message of this kind is a reply to the one that shows the group.
func (g *Group) answers(receiver string, kind Kind, can Features) bool {
	t := g.Told[receiver]
	return t != nil && t.State == statePosted && t.TS != "" && can.Reply && (kind == KindAgain || kind == KindRepeat)
}

// tell notes that the receiver was told s by a message of this kind; reply if in the thread
// of an earlier one.
func (g *Group) tell(receiver string, kind Kind, reply bool, s Told, now time.Time) {
	delete(g.tries, receiver)
	t := g.Told[receiver]
	switch {
	case t != nil && kind == KindUpdate && s.State == statePosted:
		t.UpdatedAt, t.Count, t.Note, t.Waking, t.Revision = now.UTC(), s.Count, s.Note, s.Waking, s.Revision
		t.Channel, t.TS = s.Channel, s.TS
	case t != nil && reply && s.State == statePosted:
		// The message itself shows the old count still.
		t.PostedAt, t.Waking = now.UTC(), s.Waking
	default:
		if g.Told == nil {
			g.Told = map[string]*Told{}
		}
		s.PostedAt = now.UTC()
		g.Told[receiver] = &s
	}
}

// record returns the record of the group as it is now.
func (g *Group) record() (*kgo.Record, error) {
	value, err := json.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("encoding the state of a group: %w", err)
	}
	return &kgo.Record{
		Topic: schemas.TopicNotifications, Key: []byte(groupPrefix + g.ID), Value: value, Headers: versionHeader(),
	}, nil
}

// groupPrefix keeps the keys of groups and of alerts apart: a group of one alert may have its id.
const groupPrefix = "group/"
