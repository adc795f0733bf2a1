package context

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
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
// is known to have changed, not how. What a request did that ran out of time is not known either. An error says what
// could not be followed; what it returns besides still holds.
func (s *Store) FromEvent(cluster string, e *schemas.Event) ([]Change, error) {
	if !over(e) || !writes(e.Verb) {
		return nil, nil
	}
	failed := e.Code < 200 || e.Code > 299
	switch {
	case failed && !maybe(e):
		return nil, nil
	case failed:
	case e.IssuedCredentialID != "":
		return s.issued(e), nil
	case e.APIGroup == "certificates.k8s.io":
		return s.signed(cluster, e)
	}
	w, ok := s.write(cluster, e)
	if !ok {
		return nil, nil
	}
	var changes []Change
	var err error
	if failed {
		changes, err = w.failed()
	} else {
		changes, err = w.changes()
	}
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
	level             string
	code              uint16
	status            string // Success, if the answer is no object
	key               Key
	at                int64
	uid               string
	user              string
	raw               []byte
	query             url.Values
	request, response []byte // JSON; nil if the event has none
	blind             bool   // the event may have left out the request
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
		verb: e.Verb, subresource: subresource, level: e.Level, code: e.Code, at: s.ended(e), uid: e.ObjectUID, user: e.User, raw: e.Raw,
		request: e.RequestObject, response: e.ResponseObject,
		known: s.Cluster(cluster), pool: &s.pool,
	}
	w.status, w.blind = e.Status, e.Level == "Metadata" || truncated(e)
	if e.Verb == "create" {
		w.uid = "" // which may be what the body made up; the API server gives another
	}
	w.key = Key{Kind: kind, Name: strings.Clone(e.Name)}
	if kind.Namespaced() {
		w.key.Namespace = strings.Clone(e.Namespace)
	}
	_, query, _ := strings.Cut(e.RequestURI, "?")
	w.query, _ = url.ParseQuery(query) // what of it cannot be read, the API server could not either
	if w.dry() {
		return nil, false
	}
	return w, true
}

// ended returns when a request ended. A time that has not come yet, or was before there was any Kubernetes, is wrong, and
// would win or lose against all others: then it ended when the event was received.
func (s *Store) ended(e *schemas.Event) int64 {
	at := cmp.Or(e.StageTime, e.EventTime)
	if at < kubernetes && e.ReceivedAt >= kubernetes || at > s.clock().Add(ahead).UnixMicro() {
		return cmp.Or(e.ReceivedAt, at)
	}
	return at
}

// kubernetes is when Kubernetes was first released, in 2015; µs since 1970.
const kubernetes = int64(1_437_000_000_000_000)

// over says that nothing more is to be heard of a request.
func over(e *schemas.Event) bool { return e.Stage == "ResponseComplete" || e.Stage == "Panic" }

// maybe says whether a request that failed may have changed something nevertheless: when time was up it may have been heard
// already, and of many objects some may be gone.
func maybe(e *schemas.Event) bool {
	switch {
	case e.Decision == "forbid":
		return false
	case e.Code < 200, e.Code >= 500:
		return true
	case e.Verb != "deletecollection":
		return false
	}
	switch e.Code {
	case 400, 401, 405, 415, 429: // it did not begin
		return false
	case 403: // without a decision the caller must not act as another
		return e.Decision != ""
	}
	return true
}

// truncated says that the event was too large, and has lost its bodies.
func truncated(e *schemas.Event) bool {
	return slices.ContainsFunc(e.Annotations, func(a schemas.KeyValue) bool {
		return a.Key == "audit.k8s.io/truncated" && a.Value == "true"
	})
}

// dry says that a request was only tried. The options of a deletion are those of the body, if there is one, and not those
// of the query.
func (w *write) dry() bool {
	if w.verb == "delete" || w.verb == "deletecollection" {
		if options := w.request; options != nil {
			list, ok := jsonscan.Get(options, "dryRun")
			if !ok || list[0] != '[' {
				return false
			}
			it := jsonscan.Array(list)
			return it.Next()
		}
		if w.blind {
			return false // that is not known
		}
	}
	return w.query.Get("dryRun") != ""
}

// failed returns what a request may have changed that failed.
func (w *write) failed() ([]Change, error) {
	if w.key.Kind > Namespace || w.subresource != "" {
		return nil, nil // these come and go
	}
	err := fmt.Errorf("it failed with code %d, maybe too late", w.code)
	if w.verb == "deletecollection" {
		return w.some(true), err
	}
	w.uid = "" // as asked
	return w.unknown(), err
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

func writes(verb string) bool {
	switch verb {
	case "create", "update", "patch", "delete", "deletecollection":
		return true
	}
	return false
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
	if err == nil && w.request != nil {
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
	node := textAt(w.request, "target", "name")
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
	// An update that creates may bring a deletionTimestamp of its own: the object is there until the next write.
	if object.terminates() && w.code != http.StatusCreated {
		return w.emptied([]Change{{Key: key, From: w.at, UID: o.Metadata.UID, Source: SourceAudit}})
	}
	if before := w.known.Find(key, w.at-1); key.Kind > Namespace && before != nil && !before.Stale && before.Object.same(o) {
		return nil // most changes of pods and nodes are to nothing that is kept
	}
	return []Change{{Key: key, From: w.at, Object: o, Source: SourceAudit}}
}

// emptied adds to the deletion of a namespace those of what was in it, as far as is known: it was empty before it went. A deletion
// that was recorded, of which may not be known yet, counts more.
func (w *write) emptied(changes []Change) []Change {
	if w.key.Kind != Namespace {
		return changes
	}
	for k := Role; k.kubernetes(); k++ {
		if !k.Namespaced() {
			continue
		}
		n := len(changes)
		for item := range w.known.objects(k, changes[0].Key.Name, w.at-1) {
			changes = append(changes, Change{Key: item.Key, From: w.at, UID: item.uid(), Source: SourceNamespace})
		}
		slices.SortFunc(changes[n:], func(a, b Change) int { return strings.Compare(a.Key.Name, b.Key.Name) })
	}
	return changes
}

// uid is that of the object, "" if it is not known.
func (i *Item) uid() string {
	if i.Object == nil {
		return ""
	}
	return i.Object.Metadata.UID
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
	object.Metadata.ResourceVersion = "" // that of the version before
	if w.verb == "patch" && w.code != http.StatusCreated {
		return object, nil
	}
	// The API server does not take these from anybody.
	object.deletion, object.Metadata.UID, object.Metadata.CreationTimestamp = "", "", ""
	if w.verb == "update" && w.code != http.StatusCreated {
		object.Metadata.UID = strings.Clone(w.uid)
		if item := w.before(); item != nil && item.Object != nil {
			object.is(item.Object)
		}
	}
	return object, nil
}

// is gives an object what no request changes of it.
func (w *wire) is(before *Object) {
	if before.terminating {
		w.deletion = before.Metadata.CreationTimestamp // whenever that was
		if w.deletion == "" {
			w.deletion = "?"
		}
	}
	w.Metadata.CreationTimestamp = before.Metadata.CreationTimestamp
	if w.Metadata.UID == "" {
		w.Metadata.UID = before.Metadata.UID
	}
}

// before returns what was known of the object before the write, so that it does not matter whether it is known already.
func (w *write) before() *Item { return w.known.Find(w.key, w.at-1) }

// patched applies a patch to what is known of the object.
func (w *write) patched() (*wire, error) {
	item := w.before()
	apply := isApply(w.request)
	switch {
	case apply && w.code == http.StatusCreated:
		return parseObject(w.request)
	case item == nil && apply && w.code == http.StatusOK:
		return nil, errors.New("an apply of an object that existed before")
	case item == nil && apply && !w.known.Complete(w.key.Kind, w.at-1):
		return nil, errors.New("an apply of an object that may have existed before")
	case item == nil && apply:
		return parseObject(w.request)
	case item == nil, item.Stale, item.Object == nil:
		return nil, errors.New("a patch of an object that is not known")
	}
	object, err := patch(w.key, item.Object, w.request, w.user == aggregator)
	if err != nil {
		return nil, err
	}
	object.is(item.Object)
	return object, nil
}

// aggregator is the controller that gathers the rules of cluster roles. It applies rules, and nothing else.
const aggregator = "system:serviceaccount:kube-system:clusterrole-aggregation-controller"
