package context

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/auditmill/auditmill/internal/jsonscan"
	"github.com/auditmill/auditmill/schemas"
)

// Event applies what an audit event says has changed. See FromEvent.
func (s *Store) Event(cluster string, e *schemas.Event) (since int64, changed bool, err error) {
	changes, err := s.FromEvent(cluster, e)
	since, changed = s.Apply(cluster, changes...)
	return since, changed, err
}

// FromEvent returns what an audit event says has changed: none for nearly all events. Only requests that succeeded and
// were no dry run count, from the time that they ended. The object that the API server answered with is the truth;
// without it (level Request) the request is applied to what is known, and without a request (level Metadata) the object
// is known to have changed, not how. An error says what could not be followed; what it returns besides still holds.
func (s *Store) FromEvent(cluster string, e *schemas.Event) ([]Change, error) {
	if e.IssuedCredentialID != "" {
		return s.issued(e), nil
	}
	w, ok := s.write(cluster, e)
	if !ok {
		return nil, nil
	}
	changes, err := w.changes()
	by := strings.Clone(e.Actor) // which is valid until the next event only
	for i := range changes {
		changes[i].By = by
	}
	if err != nil {
		err = fmt.Errorf("%s of %s in cluster %q at %s: %w; import a dump or run a watch to know it again",
			e.Verb, w.key, cluster, time.UnixMicro(w.at).UTC().Format(time.RFC3339Nano), err)
	}
	return changes, err
}

// issued returns the credential that a request for a token gave out.
func (s *Store) issued(e *schemas.Event) []Change {
	if e.Stage != "ResponseComplete" || e.Code < 200 || e.Code > 299 || e.Resource != "serviceaccounts" || e.Subresource != "token" {
		return nil
	}
	credential := &CredentialInfo{
		By: strings.Clone(e.Actor), Subject: "system:serviceaccount:" + e.Namespace + ":" + e.Name, Expires: expiry(e),
	}
	return []Change{{
		Key: Key{Kind: Credential, Name: strings.Clone(e.IssuedCredentialID)}, From: cmp.Or(e.StageTime, e.EventTime),
		Object: &Object{Credential: credential}, Source: SourceAudit, By: credential.By,
	}}
}

// expiry returns when the token of a token request expires, 0 if the event does not tell.
func expiry(e *schemas.Event) int64 {
	if status, ok := jsonscan.Get(body(e.Raw, "responseObject"), "status"); ok && status[0] == '{' {
		if value, ok := jsonscan.Get(status, "expirationTimestamp"); ok {
			text, _ := jsonscan.String(value)
			if t, err := time.Parse(time.RFC3339, text); err == nil {
				return t.UnixMicro()
			}
		}
	}
	if spec, ok := jsonscan.Get(body(e.Raw, "requestObject"), "spec"); ok && spec[0] == '{' {
		if value, ok := jsonscan.Get(spec, "expirationSeconds"); ok {
			if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && n > 0 && n < 1<<40 {
				return cmp.Or(e.StageTime, e.EventTime) + n*int64(time.Second/time.Microsecond)
			}
		}
	}
	return 0
}

// write is a request that changed something, as an event records it.
type write struct {
	verb, subresource string
	key               Key
	at                int64
	uid               string
	query             url.Values
	request, response []byte // JSON; nil if the event has none
	known             *Cluster
	pool              *pool
}

func (s *Store) write(cluster string, e *schemas.Event) (*write, bool) {
	if e.Stage != "ResponseComplete" || e.Code < 200 || e.Code > 299 || !writes(e.Verb) {
		return nil, false
	}
	kind := KindOf(e.APIGroup, e.Resource)
	if kind == 0 || e.Subresource != "" && (kind != Namespace || e.Subresource != "finalize" && e.Subresource != "status") {
		return nil, false
	}
	w := &write{verb: e.Verb, subresource: e.Subresource, at: e.StageTime, uid: e.ObjectUID, pool: &s.pool}
	if w.at == 0 {
		w.at = e.EventTime
	}
	w.key = Key{Kind: kind, Name: strings.Clone(e.Name)}
	if kind.Namespaced() {
		w.key.Namespace = strings.Clone(e.Namespace)
	}
	_, query, _ := strings.Cut(e.RequestURI, "?")
	w.query, _ = url.ParseQuery(query) // what of it cannot be read, the API server could not either
	if w.query.Get("dryRun") != "" {
		return nil, false
	}
	w.request, w.response = body(e.Raw, "requestObject"), body(e.Raw, "responseObject")
	w.known = s.Cluster(cluster)
	return w, true
}

func writes(verb string) bool {
	switch verb {
	case "create", "update", "patch", "delete", "deletecollection":
		return true
	}
	return false
}

// body returns the object or array that a member of the event is. AKS writes a string where it left one out.
func body(raw []byte, member string) []byte {
	value, ok := jsonscan.Get(raw, member)
	if !ok || value[0] != '{' && value[0] != '[' {
		return nil
	}
	return value
}

func (w *write) changes() ([]Change, error) {
	switch w.verb {
	case "delete":
		return w.deleted()
	case "deletecollection":
		return w.collection()
	}
	object, err := w.answer()
	if object != nil {
		return w.now(object), nil
	}
	if w.subresource == "status" {
		return nil, nil // of which nothing is kept
	}
	if err == nil && w.request != nil {
		if object, err = w.requested(); object != nil {
			return w.now(object), nil
		}
	}
	if err == nil {
		err = errors.New("the event has neither the object nor what was asked")
	}
	return w.unknown(), err
}

// now returns the change to an object that is as it was answered or asked.
func (w *write) now(object *wire) []Change {
	key := w.key
	if object.name != "" {
		key.Name = object.name // of a generated name the request knows nothing
	}
	o := object.object(key.Kind, w.pool)
	if o.terminating && !o.held {
		return []Change{{Key: key, From: w.at, UID: o.Metadata.UID, Source: SourceAudit}}
	}
	return []Change{{Key: key, From: w.at, Object: o, Source: SourceAudit}}
}

// unknown returns the change to an object of which is known only that it changed.
func (w *write) unknown() []Change {
	if w.key.Name == "" {
		return []Change{{From: w.at, Doubt: true, Source: SourceAudit}}
	}
	return []Change{{Key: w.key, From: w.at, Stale: true, UID: w.uid, Source: SourceAudit}}
}

// answer returns the object of the response, nil if there is none.
func (w *write) answer() (*wire, error) {
	if w.response == nil {
		return nil, nil
	}
	object, err := parseObject(w.response)
	if err != nil {
		return nil, fmt.Errorf("responseObject: %w", err)
	}
	if key, ok := object.key(); !ok || key.Kind != w.key.Kind {
		return nil, nil
	}
	return object, nil
}

// requested returns the object as it must be after the request, by level Request.
func (w *write) requested() (*wire, error) {
	var object *wire
	var err error
	if w.verb == "patch" {
		object, err = w.patched()
	} else {
		object, err = parseObject(w.request)
	}
	if err != nil {
		return nil, fmt.Errorf("requestObject: %w", err)
	}
	if object.name == "" {
		object.name = w.key.Name
	}
	if object.name == "" {
		return nil, errors.New("its name was generated and is not in the event")
	}
	// That of the version before.
	object.Metadata.ResourceVersion = ""
	if object.Metadata.UID == "" {
		object.Metadata.UID = strings.Clone(w.uid)
	}
	return object, nil
}

// before returns what was known of the object before the write, so that it does not matter whether it is known already.
func (w *write) before() *Item { return w.known.Find(w.key, w.at-1) }

// patched applies a patch to what is known of the object.
func (w *write) patched() (*wire, error) {
	item := w.before()
	apply := isApply(w.request)
	switch {
	case item == nil && apply && !w.known.Complete(w.key.Kind, w.at-1):
		return nil, errors.New("an apply of an object that may have existed before")
	case item == nil && apply:
		return parseObject(w.request)
	case item == nil, item.Stale, item.Object == nil:
		return nil, errors.New("a patch of an object that is not known")
	}
	return patch(w.key, item.Object, w.request)
}

func (w *write) deleted() ([]Change, error) {
	change := Change{Key: w.key, From: w.at, UID: w.uid, Source: SourceAudit}
	if w.key.Name == "" {
		return w.unknown(), errors.New("the event does not say which")
	}
	object, err := w.answer()
	switch {
	case err != nil:
		return w.unknown(), err
	case object != nil && object.deletion != "" && object.finalizers:
		return w.now(object), nil // it goes when its finalizers are done
	case object != nil:
		change.UID = object.Metadata.UID
	case w.response == nil && w.key.Kind == Namespace:
		return nil, nil // it goes when it is empty, as a later event says
	default:
		if details, ok := jsonscan.Get(w.response, "details"); ok && details[0] == '{' {
			if uid, ok := jsonscan.Get(details, "uid"); ok {
				s, _ := jsonscan.String(uid)
				change.UID = strings.Clone(s)
			}
		}
	}
	return []Change{change}, nil
}

// collection returns what a deletecollection deleted: the list of the answer, as it was before.
func (w *write) collection() (changes []Change, err error) {
	if items, ok := jsonscan.Get(w.response, "items"); ok && items[0] == '[' {
		for it := jsonscan.Array(items); it.Next(); {
			object, err := parseObject(it.Value())
			if err != nil {
				return append(changes, Change{From: w.at, Doubt: true, Source: SourceAudit}), fmt.Errorf("responseObject.items: %w", err)
			}
			if object.finalizers {
				continue
			}
			key := Key{Kind: w.key.Kind, Name: object.name}
			if w.key.Kind.Namespaced() {
				key.Namespace = object.namespace
			}
			changes = append(changes, Change{Key: key, From: w.at, UID: object.Metadata.UID, Source: SourceAudit})
		}
		return changes, nil
	}
	if items, ok := jsonscan.Get(w.response, "items"); ok && string(items) == "null" {
		return nil, nil
	}
	selected := w.query.Get("labelSelector") != "" || w.query.Get("fieldSelector") != ""
	for item := range w.known.Objects(w.key.Kind, w.at-1) {
		if w.key.Namespace == item.Key.Namespace {
			changes = append(changes, Change{Key: item.Key, From: w.at, Stale: selected, Source: SourceAudit})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Key.Name, b.Key.Name) })
	if selected {
		err = errors.New("the event does not say which of the objects were deleted")
	}
	return changes, err
}
