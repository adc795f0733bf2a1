package notify

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// The kinds of silences.
const (
	// KindSilence keeps groups from being posted.
	KindSilence = "silence"
	// KindMaintenance is the same, planned: it may begin later.
	KindMaintenance = "maintenance"
	// KindAcknowledgement says that somebody knows: messages are changed, but nothing is posted.
	KindAcknowledgement = "acknowledgement"
)

// Silence says what is not to be posted, from when until when, and who wants that. It is the
// value of a record of audit.silences.v1 with its id as the key.
type Silence struct {
	ID      string       `json:"id"`
	Kind    string       `json:"kind"`
	Match   SilenceMatch `json:"match"`
	From    time.Time    `json:"from"`
	Until   time.Time    `json:"until"`
	Author  string       `json:"author"`
	Comment string       `json:"comment"`
	// Changes are all that was done to it, the first one its creation.
	Changes []SilenceChange `json:"changes"`
}

// SilenceChange says who did what, when, and by which way: api, cli or slack.
type SilenceChange struct {
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	Via     string    `json:"via"`
	Action  string    `json:"action"` // created, expired
	Comment string    `json:"comment,omitempty"`
}

// SilenceMatch selects groups by their newest alert. Everything that is given must match; of a
// list one pattern must. A pattern may hold * for any characters and ? for one.
type SilenceMatch struct {
	Group      string   `json:"group,omitempty"` // id of one group
	Rules      []string `json:"rules,omitempty"`
	Severities []string `json:"severities,omitempty"`
	Clusters   []string `json:"clusters,omitempty"`
	Actors     []string `json:"actors,omitempty"`
	Namespaces []string `json:"namespaces,omitempty"`
	Tags       []string `json:"tags,omitempty"`
}

func (m SilenceMatch) empty() bool {
	return m.Group == "" && len(m.Rules)+len(m.Severities)+len(m.Clusters)+len(m.Actors)+len(m.Namespaces)+len(m.Tags) == 0
}

func (m SilenceMatch) matches(g *Group) bool {
	a := &g.Alert
	return (m.Group == "" || m.Group == g.ID) && matchAny(m.Rules, a.Rule) && matchAny(m.Severities, g.Severity) &&
		matchAny(m.Clusters, a.Cluster) && matchAny(m.Actors, a.Actor) && matchAny(m.Namespaces, a.Namespace) &&
		matchAny(m.Tags, a.Tags...)
}

// String is the matcher for people.
func (m SilenceMatch) String() string {
	var parts []string
	add := func(name string, values ...string) {
		if len(values) > 0 && values[0] != "" {
			parts = append(parts, name+" "+strings.Join(values, " or "))
		}
	}
	add("group", m.Group)
	add("rule", m.Rules...)
	add("severity", m.Severities...)
	add("cluster", m.Clusters...)
	add("actor", m.Actors...)
	add("namespace", m.Namespaces...)
	add("tag", m.Tags...)
	return Printable(strings.Join(parts, ", "), maxText)
}

const (
	maxPatterns = 100
	maxSilence  = 366 * 24 * time.Hour
)

// Validate reports every fault at once.
func (s *Silence) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !slices.Contains([]string{KindSilence, KindMaintenance, KindAcknowledgement}, s.Kind) {
		fault("kind: must be silence, maintenance or acknowledgement, is %q", s.Kind)
	}
	if s.Match.empty() {
		fault("match: must not be empty: it would silence everything")
	}
	if s.Kind == KindAcknowledgement && s.Match.Group == "" {
		fault("match.group: is needed for an acknowledgement")
	}
	for _, list := range []struct {
		key      string
		patterns []string
	}{
		{"rules", s.Match.Rules},
		{"severities", s.Match.Severities},
		{"clusters", s.Match.Clusters},
		{"actors", s.Match.Actors},
		{"namespaces", s.Match.Namespaces},
		{"tags", s.Match.Tags},
	} {
		if len(list.patterns) > maxPatterns || slices.Contains(list.patterns, "") {
			fault("match.%s: must hold at most %d patterns, none of them empty", list.key, maxPatterns)
		}
	}
	if !s.Until.After(s.From) || s.Until.Sub(s.From) > maxSilence {
		fault("until: must be after from, by at most a year; from is %s, until %s", s.From.Format(time.RFC3339), s.Until.Format(time.RFC3339))
	}
	if strings.TrimSpace(s.Author) == "" || len(s.Author) > maxShort {
		fault("author: must have 1 to %d bytes", maxShort)
	}
	if s.Kind != KindAcknowledgement && strings.TrimSpace(s.Comment) == "" {
		fault("comment: is needed: say why")
	}
	if len(s.Comment) > maxText {
		fault("comment: must have at most %d bytes", maxText)
	}
	return errors.Join(errs...)
}

// Active reports whether the silence holds at a time.
func (s *Silence) Active(now time.Time) bool { return !now.Before(s.From) && now.Before(s.Until) }

// Silences reads and writes silences. It may be used concurrently.
type Silences struct {
	cfg    kafka.Config
	client *kgo.Client
}

// ErrNoSilence says that there is no silence with an id.
var ErrNoSilence = errors.New("no such silence")

// NewSilences connects to Kafka; nothing is sent before something is asked.
func NewSilences(cfg kafka.Config) (*Silences, error) {
	client, err := kafka.NewClient(cfg, kgo.ProducerLinger(0))
	if err != nil {
		return nil, fmt.Errorf("silences: %w", err)
	}
	return &Silences{cfg: cfg, client: client}, nil
}

// Ready waits until a broker answers. Its error, when ctx ends, says what to check.
func (s *Silences) Ready(ctx context.Context) error { return kafka.WaitForBroker(ctx, s.client, s.cfg) }

// Close ends the connection.
func (s *Silences) Close() { s.client.Close() }

// List returns all silences, also those that ended, the latest to end first.
func (s *Silences) List(ctx context.Context) ([]Silence, error) {
	ends, err := kadm.NewClient(s.client).ListEndOffsets(ctx, schemas.TopicSilences)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", schemas.TopicSilences, err)
	}
	reader, err := kafka.NewClient(s.cfg, kgo.ConsumeTopics(schemas.TopicSilences))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", schemas.TopicSilences, err)
	}
	defer reader.Close()
	left := map[int32]int64{} // the last record of a compacted partition is always there
	ends.Each(func(end kadm.ListedOffset) {
		if end.Offset > 0 {
			left[end.Partition] = end.Offset - 1
		}
	})
	byID := map[string]Silence{}
	for len(left) > 0 {
		fetches := reader.PollFetches(ctx)
		if err := errors.Join(ctx.Err(), fetches.Err()); err != nil {
			return nil, fmt.Errorf("reading %s: %w", schemas.TopicSilences, err)
		}
		for iter := fetches.RecordIter(); !iter.Done(); {
			r := iter.Next()
			if silence, err := decodeSilence(r); err == nil && silence != nil {
				byID[silence.ID] = *silence
			}
			if last, ok := left[r.Partition]; ok && r.Offset >= last {
				delete(left, r.Partition)
			}
		}
	}
	all := make([]Silence, 0, len(byID))
	for _, silence := range byID {
		all = append(all, silence)
	}
	slices.SortFunc(all, func(a, b Silence) int { return cmp.Or(b.Until.Compare(a.Until), strings.Compare(a.ID, b.ID)) })
	return all, nil
}

// Add creates a silence. From is now if it is zero. The id and the first change are set here;
// via is api, cli or slack.
func (s *Silences) Add(ctx context.Context, silence Silence, via string) (Silence, error) {
	now := time.Now().UTC()
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return silence, fmt.Errorf("making an id: %w", err)
	}
	silence.ID, silence.Kind = hex.EncodeToString(id[:]), cmp.Or(silence.Kind, KindSilence)
	if silence.From.IsZero() {
		silence.From = now
	}
	silence.From, silence.Until = silence.From.UTC(), silence.Until.UTC()
	if err := silence.Validate(); err != nil {
		return silence, err
	}
	silence.Changes = []SilenceChange{{At: now, By: silence.Author, Via: via, Action: "created", Comment: silence.Comment}}
	return silence, s.write(ctx, &silence)
}

// Expire ends a silence now. ErrNoSilence if there is none with this id; nothing happens if it
// has ended.
func (s *Silences) Expire(ctx context.Context, id, by, via, comment string) (Silence, error) {
	all, err := s.List(ctx)
	if err != nil {
		return Silence{}, err
	}
	i := slices.IndexFunc(all, func(silence Silence) bool { return silence.ID == id })
	if i < 0 {
		return Silence{}, fmt.Errorf("%w: %q", ErrNoSilence, Printable(id, maxShort))
	}
	silence, now := all[i], time.Now().UTC()
	if !now.Before(silence.Until) {
		return silence, nil
	}
	silence.Until = now
	if now.Before(silence.From) {
		silence.From = now
	}
	silence.Changes = append(silence.Changes, SilenceChange{At: now, By: cut(by, maxShort), Via: via, Action: "expired", Comment: cut(comment, maxText)})
	return silence, s.write(ctx, &silence)
}

// RuleSilence is the rule of the alerts that say who silenced what. They cannot be silenced.
const RuleSilence = "auditmill.silence"

// write records the change first in audit.alerts.v1, where it goes to people and to the table
// alerts, and then the silence: no silence without a trace.
func (s *Silences) write(ctx context.Context, silence *Silence) error {
	change := silence.Changes[len(silence.Changes)-1]
	a := &schemas.Alert{
		ID:      schemas.AlertID(RuleSilence, fmt.Sprintf("%s/%d", silence.ID, len(silence.Changes))),
		GroupID: schemas.AlertGroup(RuleSilence, silence.ID), Rule: RuleSilence, Severity: informational,
		Title: strings.ToUpper(silence.Kind[:1]) + silence.Kind[1:] + " " + change.Action,
		Time:  change.At, RaisedAt: change.At, Actor: change.By, ActorKind: "human",
		Summary: Printable(fmt.Sprintf("%s %s by %s (%s) for %s, from %s until %s: %s", silence.Kind, change.Action, change.By,
			change.Via, silence.Match, whenText(silence.From), whenText(silence.Until), cmp.Or(change.Comment, "no comment")), maxText),
		Next: "If nobody you know did this, expire it: auditmill silence expire " + silence.ID,
		Values: map[string]string{
			"silence": silence.ID, "kind": silence.Kind, "action": change.Action, "by": change.By, "via": change.Via,
			"match": silence.Match.String(), "from": silence.From.Format(time.RFC3339), "until": silence.Until.Format(time.RFC3339),
			"comment": change.Comment,
		},
	}
	first, err := alertRecord(a)
	if err != nil {
		return err
	}
	value, err := json.Marshal(silence)
	if err != nil {
		return fmt.Errorf("encoding a silence: %w", err)
	}
	second := &kgo.Record{Topic: schemas.TopicSilences, Key: []byte(silence.ID), Value: value, Headers: versionHeader()}
	for _, r := range []*kgo.Record{first, second} {
		if err := s.client.ProduceSync(ctx, r).FirstErr(); err != nil {
			return fmt.Errorf("writing to %s: %w", r.Topic, err)
		}
	}
	return nil
}

// decodeSilence returns the silence in a record; nil for a marker.
func decodeSilence(r *kgo.Record) (*Silence, error) {
	if string(r.Key) == markerKey || len(r.Value) == 0 {
		return nil, nil
	}
	if err := checkVersion(r); err != nil {
		return nil, err
	}
	var s Silence
	if err := json.Unmarshal(r.Value, &s); err != nil {
		return nil, fmt.Errorf("decoding a silence: %w", err)
	}
	if s.ID == "" || s.Match.empty() {
		return nil, errors.New("decoding a silence: it has no id or matches everything")
	}
	return &s, nil
}

// silenced is what a session knows of silences.
type silenced struct {
	mu  sync.Mutex
	all map[string]*Silence
}

func newSilenced() *silenced { return &silenced{all: map[string]*Silence{}} }

func (s *silenced) apply(silence *Silence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[silence.ID] = silence
}

// active is the number of silences that hold.
func (s *silenced) active(now time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, silence := range s.all {
		if silence.Active(now) {
			n++
		}
	}
	return n
}

// check says what people want to hear of a group. What auditmill says about itself cannot be
// silenced.
func (s *silenced) check(g *Group, now time.Time) verdict {
	var v verdict
	if strings.HasPrefix(g.Alert.Rule, ownRules) {
		return v
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var shown *Silence // the one that the message speaks of
	for id, silence := range s.all {
		if !now.Before(silence.Until) {
			delete(s.all, id) // it is in the topic, for who wants to know
			continue
		}
		if !silence.Active(now) || !silence.Match.matches(g) {
			continue
		}
		end := &v.silent
		if silence.Kind == KindAcknowledgement {
			end = &v.known
		}
		if silence.Until.After(*end) {
			*end = silence.Until
		}
		if shown == nil || silence.Until.After(shown.Until) || silence.Until.Equal(shown.Until) && silence.ID < shown.ID {
			shown = silence
		}
	}
	if shown != nil {
		said := "Silenced"
		if shown.Kind == KindAcknowledgement {
			said = "Acknowledged"
		}
		v.note = fmt.Sprintf("%s by %s until %s", said, Printable(shown.Author, maxShort), whenText(shown.Until))
		if shown.Comment != "" {
			v.note += ": " + Printable(shown.Comment, maxLine)
		}
	}
	return v
}

// ownRules are what auditmill says about itself.
const ownRules = "auditmill."
