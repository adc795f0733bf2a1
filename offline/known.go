package offline

import (
	stdcontext "context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/auditmill/auditmill/enrich"
	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/origin"
	"github.com/auditmill/auditmill/ingest/split"
	"github.com/auditmill/auditmill/offline/access"
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
	*access.Learner
	store  *context.Store
	places *origin.Places
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
	return &learner{Learner: access.NewLearner(cluster, store), store: store, places: c.Places}, nil
}

// event takes what an event says. What is no event, and what it could not tell, is for others to report: it leaves doubts, which the
// rows then show.
func (l *learner) event(item *split.Item) { l.Event(item, func(error) {}) }

// joiner is for after the last event.
func (l *learner) joiner() *enrich.Joiner {
	l.Finish()
	return enrich.NewJoiner(l.store, l.places)
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
