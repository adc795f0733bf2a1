// Package access answers who may do what, and by which grants, from dumps of a cluster and recorded events: the state
// at any time between them.
package access

import (
	stdcontext "context"
	"fmt"
	"strings"
	"time"

	"github.com/auditmill/auditmill/enrich"
	"github.com/auditmill/auditmill/enrich/context"
	"github.com/auditmill/auditmill/enrich/rbac"
	"github.com/auditmill/auditmill/ingest/replay"
	"github.com/auditmill/auditmill/ingest/split"
)

// Sources are what is known of a cluster.
type Sources struct {
	Dumps  []string // files or directories of `kubectl get -o json`, each with @TIME behind it or taken to be older than all events
	Events []string // files of audit events
}

// Load reads the sources of a cluster. note is called for what could not be followed.
func Load(ctx stdcontext.Context, cluster string, sources Sources, note func(error)) (*context.Store, error) {
	config := context.DefaultConfig()
	config.History = 100 * 365 * 24 * time.Hour // all of it: nothing arrives that would need the room
	store := context.NewStore(config)
	for _, text := range sources.Dumps {
		path, from, err := dumpAt(text)
		if err != nil {
			return nil, err
		}
		dump, err := context.ReadDump(path)
		if err != nil {
			return nil, err
		}
		if len(dump.Objects) == 0 {
			return nil, fmt.Errorf("%s: no roles, bindings, service accounts or namespaces in it", path)
		}
		store.Import(cluster, dump, from)
	}
	offline := enrich.NewOffline()
	for _, path := range sources.Events {
		err := replay.ReadFile(path, func(item *split.Item, line int) error {
			if item.Fault != nil {
				note(fmt.Errorf("%s:%d: %s: %s", path, line, item.Fault.Reason, item.Fault.Detail))
				return ctx.Err()
			}
			e, err := offline.Event(cluster, item.Raw, &item.Fields, item.Damage)
			if err == nil {
				_, _, err = store.Event(cluster, e)
			}
			if err != nil {
				note(fmt.Errorf("%s:%d: %w", path, line, err))
			}
			return ctx.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	return store, nil
}

// dumpAt splits PATH@TIME. A path may have an @ in it: only what follows the last one, and begins like a time, is one.
func dumpAt(text string) (path string, from int64, err error) {
	i := strings.LastIndexByte(text, '@')
	if i < 0 || i+1 == len(text) || text[i+1] < '0' || text[i+1] > '9' {
		return text, 0, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text[i+1:])
	if err != nil {
		return "", 0, fmt.Errorf("%s: %q is no time; write it like PATH@2026-11-01T12:00:00Z", text, text[i+1:])
	}
	return text[:i], t.UnixMicro(), nil
}

// State returns the state of a cluster at a time, or the last one for the zero time.
func State(store *context.Store, cluster string, at time.Time) (*context.State, error) {
	c := store.Cluster(cluster)
	state := c.Latest()
	if !at.IsZero() {
		state = c.At(at.UnixMicro())
	}
	switch {
	case state != nil:
		return state, nil
	case c == nil:
		return nil, fmt.Errorf("nothing is known of cluster %q: name dumps with --context or events with --events", cluster)
	}
	return nil, fmt.Errorf("nothing is known of cluster %q at %s: name an older dump with --context", cluster, at.Format(time.RFC3339))
}

// Answer is the answer to whether a user may do something.
type Answer struct {
	Allowed  bool           `json:"allowed"`
	Masters  bool           `json:"masters,omitempty"` // by being in system:masters, whatever the matches say
	Complete bool           `json:"complete"`          // all roles and bindings are known
	Matches  []rbac.Match   `json:"matches"`
	Standing *rbac.Standing `json:"standing"`
}

// Why answers by which grants a user, who is in those groups, may do something.
func Why(state *context.State, user string, groups []string, q *rbac.Request) *Answer {
	r := rbac.NewResolver()
	a := &Answer{
		Complete: state.CompleteRBAC() && !state.Doubtful(), Matches: r.Resolve(state, user, groups, q).Matches,
		Standing: r.Standing(state, user, groups),
	}
	for _, g := range groups {
		a.Masters = a.Masters || g == "system:masters"
	}
	a.Allowed = a.Masters || len(a.Matches) > 0
	return a
}
