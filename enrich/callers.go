package enrich

import (
	"bytes"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/auditmill/auditmill/internal/jsonscan"
	"github.com/auditmill/auditmill/schemas"
)

// callers remembers what the member user of an event said, by its bytes: thousands of events have the same. It is not safe
// for concurrent use; what it returns is never changed.
type callers struct {
	young, old map[string]*caller // what was not asked for while as many others came is forgotten
}

type caller struct {
	id        uint64
	user, uid string
	groups    []string
	extra     []schemas.KeyValues
}

// At most so many callers of so many bytes are remembered: about 10 MB, 40 MB if all are as long as can be.
const (
	maxCallers     = 1 << 13
	maxCallerBytes = 1 << 10
)

// lastCaller is the number of the newest caller of the process.
//
//nolint:gochecknoglobals // callers of all decoders are told apart by it
var lastCaller atomic.Uint64

func newCallers() *callers { return &callers{young: map[string]*caller{}, old: map[string]*caller{}} }

func (c *callers) get(text []byte) *caller {
	known := c.young[string(text)]
	if known == nil {
		if known = c.old[string(text)]; known != nil {
			c.put(string(text), known)
		}
	}
	return known
}

func (c *callers) put(text string, known *caller) {
	if len(c.young) >= maxCallers/2 {
		clear(c.old)
		c.young, c.old = c.old, c.young
	}
	c.young[text] = known
}

// remember keeps a copy of the caller of an event, which text says, and returns its number.
func (c *callers) remember(text []byte, e *schemas.Event) uint64 {
	known := &caller{
		id: lastCaller.Add(1), user: strings.Clone(e.User), uid: strings.Clone(e.UserUID), groups: cloneAll(e.Groups),
		extra: slices.Clone(e.Extra),
	}
	for i, x := range known.extra {
		known.extra[i] = schemas.KeyValues{Key: strings.Clone(x.Key), Values: cloneAll(x.Values)}
	}
	c.put(string(text), known)
	return known.id
}

func cloneAll(texts []string) []string {
	all := slices.Clone(texts)
	for i := range all {
		all[i] = strings.Clone(all[i])
	}
	return slices.Clip(all)
}

// caller reads the member user, or remembers it. Where it ends is guessed: bytes that are those of a value from its first to
// its last are that value.
func (d *decoder) caller(it *jsonscan.Iter) {
	e, rest := &d.event, it.Rest()
	rest = rest[:min(len(rest), maxCallerBytes)]
	end := bytes.IndexByte(rest, '}') + 1
	for end > 0 && end < len(rest) && rest[end] == '}' {
		end++
	}
	if d.known != nil {
		if known := d.known.get(rest[:end]); known != nil {
			it.Jump(end)
			e.Caller, e.User, e.UserUID, e.Groups, e.Extra = known.id, known.user, known.uid, known.groups, known.extra
			return
		}
	}
	e.User, e.UserUID, e.Groups, e.Extra = d.user(it, "user", d.groups[:0], d.extras[:0])
	e.Caller, d.groups, d.extras = 0, e.Groups, e.Extra
	// What has damage must say so each time.
	if d.known != nil && len(d.damage) == 0 && it.Err() == nil && end > 0 && end == len(it.Value()) {
		e.Caller = d.known.remember(it.Value(), e)
	}
}
