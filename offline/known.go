package offline

import (
	"bytes"
	"cmp"
	stdcontext "context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/auditmill/auditmill/enrich"
	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/identity"
	"github.com/auditmill/auditmill/enrich/origin"
	"github.com/auditmill/auditmill/ingest/split"
	"github.com/auditmill/auditmill/internal/jsonscan"
	"github.com/auditmill/auditmill/offline/access"
	"github.com/auditmill/auditmill/schemas"
)

// Context is what is known of clusters beside what their own events tell.
type Context struct {
	// Dumps are files or directories of `kubectl get -o json`, each with @TIME behind it or taken to be older than all events.
	Dumps []string
	// Changes are more of it, by cluster; those of context.Organization are of all.
	Changes map[string][]context.Change
	// Places tell the country and the network of addresses; nil if that is not known.
	Places *origin.Places
}

// learner finds out what is known of a cluster in the end: of all that the service ever learns, late or not, its final rows
// take account. So everything is learned in a pass of its own, before the first row is made.
type learner struct {
	cluster string
	store   *context.Store
	places  *origin.Places
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
}

// learner begins with what is known beside the events.
func (c *Context) learner(ctx stdcontext.Context, cluster string) (*learner, error) {
	store, err := access.Load(ctx, cluster, access.Sources{Dumps: c.Dumps}, func(error) {})
	if err != nil {
		return nil, err
	}
	for _, name := range []string{context.Organization, cluster} {
		store.Apply(name, c.Changes[name]...)
	}
	return &learner{cluster: cluster, store: store, places: c.Places, enrich: enrich.NewOffline(), who: identity.NewJoiner(store, nil), begun: map[string]pending{}}, nil
}

// event takes what an event says. What is no event, and what it could not tell, is for others to report. Files need not be
// in order, so what changes something that must be known first waits for the end.
func (l *learner) event(item *split.Item) {
	if reads(item.Raw) {
		return
	}
	e, err := l.enrich.Event(l.cluster, item.Raw, &item.Fields, item.Damage)
	if err != nil {
		return
	}
	kind := context.KindOf(e.APIGroup, e.Resource)
	if kind == 0 || kind > context.Namespace {
		l.apply(e)
		return
	}
	began := e.AuditID + " " + strconv.FormatInt(e.EventTime, 10) + " " + e.User + " " + e.RequestURI
	switch e.Stage {
	case "RequestReceived":
		if _, ended := l.begun[began]; !ended && kind.RBAC() {
			l.begun[began] = keep(e, item.Damage)
		}
		return
	case "ResponseComplete", "Panic":
		if kind.RBAC() {
			l.begun[began] = pending{}
		}
	}
	if _, answered := jsonscan.Get(item.Raw, "responseObject"); answered && e.Code >= 200 && e.Code < 300 {
		l.apply(e)
	} else if e.Decision != "forbid" {
		l.later = append(l.later, keep(e, item.Damage))
	}
}

func keep(e *schemas.Event, damage string) pending {
	return pending{cmp.Or(e.StageTime, e.EventTime), bytes.Clone(e.Raw), damage}
}

func (l *learner) apply(e *schemas.Event) {
	l.who.Join(e) // whoever made a change is called as in the rows
	// An error leaves doubts, which the rows then show.
	_, _, _ = l.store.Event(l.cluster, e)
}

// finish takes what had to wait, in the order in which it ended. The API server cannot write the end of some requests, that
// of a server-side apply in YAML, because the body is no JSON: those it only says that it received. They may have
// changed something.
func (l *learner) finish() {
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
		l.apply(e)
	}
	l.later, l.begun = nil, nil
}

// joiner is for after the last event.
func (l *learner) joiner() *enrich.Joiner {
	l.finish()
	return enrich.NewJoiner(l.store, l.places)
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

// source is a file of events, and what it is called.
type source struct{ path, name string }

// twice makes sources of paths that can be read more than once: standard input, "-", is kept in a file until remove.
func twice(paths []string) (sources []source, remove func(), err error) {
	var kept []string
	remove = func() {
		for _, path := range kept {
			_ = os.Remove(path) // in the temporary directory it harms nobody
		}
	}
	for _, path := range paths {
		s := source{path, path}
		if path == "-" {
			if s.path, err = spool(os.Stdin); s.path != "" {
				kept = append(kept, s.path)
			}
			if err != nil {
				remove()
				return nil, func() {}, err
			}
		}
		sources = append(sources, s)
	}
	return sources, remove, nil
}

// spool writes what it reads to a file. The path is set if there is one, even with an error.
func spool(in io.Reader) (path string, err error) {
	f, err := os.CreateTemp("", "auditmill-events-")
	if err != nil {
		return "", fmt.Errorf("keeping standard input: %w", err)
	}
	_, err = io.Copy(f, in)
	if err = errors.Join(err, f.Close()); err != nil {
		return f.Name(), fmt.Errorf("keeping standard input in %s: %w", f.Name(), err)
	}
	return f.Name(), nil
}
