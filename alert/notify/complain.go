package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/schemas"
)

// RuleUndelivered is the rule of the alerts that say that a receiver could not be told. Their
// value "receiver" names it: they go to all others.
const RuleUndelivered = "auditmill.undelivered"

// complain raises an alert that a receiver could not be told of groups, or of anything at all if
// there are none. An alert of that kind which cannot be delivered raises no other.
func (o *outlet) complain(ctx context.Context, groups []*Group, e *Error) error {
	now := time.Now().UTC()
	subject := fmt.Sprintf("%s/%s/%d", o.name, e.Reason, now.Unix()/3600)
	what := fmt.Sprintf("Receiver %s cannot be told of any alert until somebody acts: %s", o.name, e.Err)
	cluster := ""
	if len(groups) > 0 {
		a := o.store.alert(groups[0])
		if a.Rule == RuleUndelivered {
			return nil
		}
		cluster = a.Cluster
		subject = fmt.Sprintf("%s/%s/%s", o.name, groups[0].ID, a.ID)
		what = fmt.Sprintf("Receiver %s was not told of alert %s of rule %s (%s): %s", o.name, a.ID, a.Rule, a.Title, e.Err)
		if n := len(groups) - 1; n > 0 {
			what = fmt.Sprintf("Receiver %s was not told of %d groups of alerts: %s", o.name, n+1, e.Err)
		}
	}
	next := "Correct the receiver in alert.notify.receivers or at its other end; the alert itself is in the dead-letter topic and in the table alerts."
	return o.raise(ctx, &schemas.Alert{
		ID: schemas.AlertID(RuleUndelivered, subject), GroupID: schemas.AlertGroup(RuleUndelivered, o.name),
		Rule: RuleUndelivered, Title: "Notification could not be delivered", Severity: high, Time: now, RaisedAt: now,
		Summary: Printable(what, maxText), Next: next, Cluster: cluster,
		Values: map[string]string{"receiver": o.name, "reason": e.Reason},
	})
}

// raise writes an alert of our own. It comes back to us as any other.
func (n *session) raise(ctx context.Context, a *schemas.Alert) error {
	r, err := alertRecord(a)
	if err != nil {
		return err
	}
	return n.insist(ctx, "an alert", func(ctx context.Context) error {
		return n.client.ProduceSync(ctx, r).FirstErr()
	})
}

// alertRecord is the record of an alert of our own, which is of no event.
func alertRecord(a *schemas.Alert) (*kgo.Record, error) {
	a.Events, a.FirstTime, a.LastTime = 1, a.Time, a.Time
	a.Actor, a.ActorKind = cmp.Or(a.Actor, "auditmill"), cmp.Or(a.ActorKind, "control_plane")
	a.Tags, a.Command, a.EventIDs = []string{}, []string{}, []string{}
	value, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("encoding an alert: %w", err)
	}
	return &kgo.Record{Topic: schemas.TopicAlerts, Key: []byte(a.ID), Value: value, Headers: versionHeader()}, nil
}
