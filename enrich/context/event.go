package context

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
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
	if e.Stage != "ResponseComplete" || e.Code < 200 || e.Code > 299 || !writes(e.Verb) {
		return nil, nil
	}
	switch {
	case e.IssuedCredentialID != "":
		return issued(e), nil
	case e.APIGroup == "certificates.k8s.io":
		return signed(cluster, e)
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

// write is a request that changed something, as an event records it.
type write struct {
	verb, subresource string
	key               Key
	at                int64
	uid               string
	user              string
	raw               []byte
	query             url.Values
	request, response []byte // JSON; nil if the event has none
	known             *Cluster
	pool              *pool
}

func (s *Store) write(cluster string, e *schemas.Event) (*write, bool) {
	kind, subresource := KindOf(e.APIGroup, e.Resource), e.Subresource
	if e.Resource == "bindings" && e.APIGroup == "" && subresource == "" {
		kind, subresource = Pod, "binding" // the older way to say so
	}
	if kind == 0 || !matters(kind, subresource) {
		return nil, false
	}
	w := &write{
		verb: e.Verb, subresource: subresource, at: cmp.Or(e.StageTime, e.EventTime), uid: e.ObjectUID, user: e.User, raw: e.Raw,
		known: s.Cluster(cluster), pool: &s.pool,
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
	w.response = body(e.Raw, "responseObject")
	return w, true
}

// matters says whether a write to a subresource can change what is kept of an object.
func matters(kind Kind, subresource string) bool {
	switch subresource {
	case "":
		return true
	case "status":
		return kind == Namespace || kind == Pod || kind == Node
	case "finalize":
		return kind == Namespace
	case "binding":
		return kind == Pod
	}
	return false
}

// asked returns the request as JSON, nil if the event has none.
func (w *write) asked() []byte {
	if w.request == nil {
		w.request = body(w.raw, "requestObject")
	}
	return w.request
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
	switch {
	case w.verb == "delete":
		return w.deleted()
	case w.verb == "deletecollection":
		return w.collection()
	case w.subresource == "binding":
		return w.bound()
	}
	object, err := w.answer()
	if object != nil {
		return w.now(object), nil
	}
	if w.subresource == "status" && w.key.Kind == Namespace {
		return nil, nil // of which nothing is kept
	}
	if err == nil && w.asked() != nil {
		if object, err = w.requested(); object != nil {
			return w.now(object), nil
		}
	} else if err == nil {
		err = errors.New("the event has neither the object nor what was asked")
		if w.subresource == "status" {
			return nil, nil // most of which changes nothing that is kept
		}
	}
	if w.key.Kind > Namespace {
		err = nil // these come and go; where policies keep little of them, there would be no end of it
	}
	return w.unknown(), err
}

// bound returns the change to a pod that was given a node.
func (w *write) bound() ([]Change, error) {
	if w.verb != "create" {
		return nil, nil
	}
	item := w.before()
	node := textAt(w.asked(), "target", "name")
	if item == nil || item.Stale || item.Object == nil || item.Object.Pod == nil || node == "" {
		return w.unknown(), nil
	}
	o, pod := *item.Object, *item.Object.Pod
	pod.Node = strings.Clone(node)
	o.Pod, o.Metadata.ResourceVersion = &pod, ""
	return []Change{{Key: w.key, From: w.at, Object: &o, Source: SourceAudit}}, nil
}

// now returns the change to an object that is as it was answered or asked.
func (w *write) now(object *wire) []Change {
	key := w.key
	if object.name != "" {
		key.Name = object.name // of a generated name the request knows nothing
	}
	o := object.object(key.Kind, w.pool)
	if object.terminates() {
		return []Change{{Key: key, From: w.at, UID: o.Metadata.UID, Source: SourceAudit}}
	}
	if before := w.known.Find(key, w.at-1); !key.Kind.RBAC() && before != nil && !before.Stale && before.Object.same(o) {
		return nil // most changes of pods and nodes are to nothing that is kept
	}
	return []Change{{Key: key, From: w.at, Object: o, Source: SourceAudit}}
}

// unknown returns the change to an object of which is known only that it changed.
func (w *write) unknown() []Change {
	switch {
	case w.key.Name != "":
		return []Change{{Key: w.key, From: w.at, Stale: true, UID: strings.Clone(w.uid), Source: SourceAudit}}
	case w.key.Kind > Namespace:
		return nil
	}
	return []Change{{From: w.at, Doubt: true, Source: SourceAudit}}
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
	if key, ok := object.key(); ok && key.Kind == w.key.Kind {
		return object, nil
	}
	if object.kind == "PartialObjectMetadata" && (w.key.Kind == ServiceAccount || w.key.Kind == Namespace ||
		w.key.Kind == ReplicaSet || w.key.Kind == Job || object.terminates()) {
		return object, nil // of which no more is kept; or that it is gone is all that matters
	}
	return nil, nil
}

// requested returns the object as it must be after the request, by level Request.
func (w *write) requested() (*wire, error) {
	var object *wire
	var err error
	if w.verb == "patch" {
		object, err = w.patched()
	} else {
		object, err = parseObject(w.asked())
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
	apply := isApply(w.asked())
	switch {
	case item == nil && apply && !w.known.Complete(w.key.Kind, w.at-1):
		return nil, errors.New("an apply of an object that may have existed before")
	case item == nil && apply:
		return parseObject(w.asked())
	case item == nil, item.Stale, item.Object == nil:
		return nil, errors.New("a patch of an object that is not known")
	}
	return patch(w.key, item.Object, w.asked())
}

func (w *write) deleted() ([]Change, error) {
	if w.key.Name == "" {
		return w.unknown(), errors.New("the event does not say which")
	}
	object, err := w.answer()
	switch {
	case err != nil:
		return w.unknown(), err
	case object != nil && object.deletion != "" && !object.terminates():
		return w.now(object), nil // it goes when its finalizers are done, or its time is up
	case w.response == nil && w.key.Kind == Namespace:
		return nil, nil // it goes when it is empty, as a later event says
	case w.response == nil && w.key.Kind == Pod && !w.last():
		return w.unknown(), nil // it has been asked to go; its node says when it is gone
	}
	change := Change{Key: w.key, From: w.at, UID: strings.Clone(w.uid), Source: SourceAudit}
	if object != nil {
		change.UID = object.Metadata.UID
	} else if uid := textAt(w.response, "details", "uid"); uid != "" {
		change.UID = strings.Clone(uid)
	}
	return []Change{change}, nil
}

// textAt returns the string that a member of a member of an object is, "" if there is none.
func textAt(object []byte, member, of string) string {
	inner, ok := jsonscan.Get(object, member)
	if !ok || inner[0] != '{' {
		return ""
	}
	value, ok := jsonscan.Get(inner, of)
	if !ok {
		return ""
	}
	text, _ := jsonscan.String(value)
	return text
}

// last says that the request is the last of those that delete a pod.
func (w *write) last() bool { return w.force() || strings.HasPrefix(w.user, "system:node:") }

// force says that what is deleted is not given time.
func (w *write) force() bool {
	grace, ok := jsonscan.Get(w.asked(), "gracePeriodSeconds")
	return ok && string(grace) == "0" || w.query.Get("gracePeriodSeconds") == "0"
}

// stays says whether an object is still there after it was deleted with others.
func (w *write) stays(object *wire) bool {
	return object.finalizers || w.key.Kind == Pod && object.pod.Node != "" && !object.ended && !w.force()
}

// collection returns what a deletecollection deleted: the list of the answer, as it was before.
func (w *write) collection() ([]Change, error) {
	items, ok := jsonscan.Get(w.response, "items")
	switch {
	case ok && items[0] == '[':
		return w.listed(items)
	case ok && string(items) == "null":
		return nil, nil
	}
	selected := w.query.Get("labelSelector") != "" || w.query.Get("fieldSelector") != ""
	var changes []Change
	for item := range w.known.Objects(w.key.Kind, w.at-1) {
		if w.key.Namespace == item.Key.Namespace && !w.keeps(item.Object) {
			stale := selected || w.key.Kind == Pod && !w.force()
			changes = append(changes, Change{Key: item.Key, From: w.at, Stale: stale, Source: SourceAudit})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Key.Name, b.Key.Name) })
	if w.key.Kind.RBAC() {
		changes = append(changes, Change{From: w.at, Doubt: true, Source: SourceAudit}) // there may be others, not known yet
	}
	if selected && w.key.Kind <= Namespace {
		return changes, errors.New("the event does not say which of the objects were deleted")
	}
	return changes, nil
}

// keeps is stays for what is known of an object.
func (w *write) keeps(o *Object) bool {
	return o != nil && (o.held || o.Pod != nil && o.Pod.Node != "" && !w.force())
}

// listed returns the deletion of the objects of a list.
func (w *write) listed(items []byte) (changes []Change, err error) {
	for it := jsonscan.Array(items); it.Next(); {
		object, err := parseObject(it.Value())
		if err != nil {
			return append(changes, Change{From: w.at, Doubt: true, Source: SourceAudit}), fmt.Errorf("responseObject.items: %w", err)
		}
		if w.stays(object) {
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
