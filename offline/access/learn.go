package access

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"

	"github.com/auditmill/auditmill/enrich"
	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/identity"
	"github.com/auditmill/auditmill/ingest/split"
	"github.com/auditmill/auditmill/internal/jsonscan"
	"github.com/auditmill/auditmill/schemas"
)

// Learner learns of a cluster what its events tell. They need not come in order.
type Learner struct {
	cluster string
	store   *context.Store
	enrich  *enrich.Offline
	who     *identity.Joiner

	later []pending          // what can be followed only when all before it is known
	begun map[string]pending // writes to roles and bindings that have not ended
}

// pending is an event that is looked at again.
type pending struct {
	at     int64
	raw    []byte
	damage string
	note   func(error)
}

// NewLearner returns a Learner that tells a store.
func NewLearner(cluster string, store *context.Store) *Learner {
	return &Learner{cluster: cluster, store: store, enrich: enrich.NewOffline(), who: identity.NewJoiner(store, nil), begun: map[string]pending{}}
}

// Event takes what an event says; what changes something that must be known first waits for Finish. note is called, then at the
// latest, for what cannot be read or followed.
func (l *Learner) Event(item *split.Item, note func(error)) {
	if reads(item.Raw) {
		return
	}
	e, err := l.enrich.Event(l.cluster, item.Raw, &item.Fields, item.Damage)
	if err != nil {
		note(err)
		return
	}
	kind := context.KindOf(e.APIGroup, e.Resource)
	if kind == 0 || kind > context.Namespace {
		l.apply(e, note)
		return
	}
	began := e.AuditID + " " + strconv.FormatInt(e.EventTime, 10) + " " + e.User + " " + e.RequestURI
	switch e.Stage {
	case "RequestReceived":
		if _, ended := l.begun[began]; !ended && kind.RBAC() {
			l.begun[began] = keep(e, item.Damage, note)
		}
		return
	case "ResponseComplete", "Panic":
		if kind.RBAC() {
			l.begun[began] = pending{}
		}
	}
	if _, answered := jsonscan.Get(item.Raw, "responseObject"); answered && e.Code >= 200 && e.Code < 300 {
		l.apply(e, note)
	} else if e.Decision != "forbid" {
		l.later = append(l.later, keep(e, item.Damage, note))
	}
}

func keep(e *schemas.Event, damage string, note func(error)) pending {
	return pending{cmp.Or(e.StageTime, e.EventTime), bytes.Clone(e.Raw), damage, note}
}

func (l *Learner) apply(e *schemas.Event, note func(error)) {
	l.who.Join(e) // whoever made a change is called as in the rows
	if _, _, err := l.store.Event(l.cluster, e); err != nil {
		note(err)
	}
}

// Finish takes what had to wait, in the order in which it ended. The API server cannot write the end of some requests, that
// of a server-side apply in YAML, because the body is no JSON: those it only says that it received. They may have
// changed something.
func (l *Learner) Finish() {
	for _, p := range l.begun {
		if p.raw != nil {
			l.later = append(l.later, p)
		}
	}
	slices.SortFunc(l.later, func(a, b pending) int { return cmp.Or(cmp.Compare(a.at, b.at), bytes.Compare(a.raw, b.raw)) })
	for _, p := range l.later {
		e, err := l.enrich.Event(l.cluster, p.raw, &schemas.FingerprintFields{}, p.damage)
		if err != nil {
			continue // it was one before
		}
		if e.Stage == "RequestReceived" {
			e.Stage, e.Code = "ResponseComplete", 0 // which is not known
		}
		l.apply(e, p.note)
	}
	l.later, l.begun = nil, nil
}

// reads says that an event is of a request that changes nothing, as nearly all are, without decoding it.
func reads(raw []byte) bool {
	verb, ok := jsonscan.Get(raw, "verb")
	if !ok {
		return false
	}
	switch string(verb) {
	case `"get"`, `"list"`, `"watch"`:
		return true
	}
	return false
}
