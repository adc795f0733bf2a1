package context

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/internal/jsonscan"
)

// success is the status of an answer that is no object.
const success = "Success"

func (w *write) deleted() ([]Change, error) {
	object, err := w.answer()
	switch {
	case w.key.Name == "":
		return w.unknown(), errors.New("the event does not say which")
	case err != nil:
		return w.unknown(), err
	case w.response == nil:
		return w.unanswered()
	case object != nil && object.deletion != "" && !object.terminates():
		return w.now(object), nil // it goes when its finalizers are done, or its time is up
	case object != nil:
		return w.gone(object.Metadata.UID), nil
	}
	return w.gone(textAt(w.response, "details", "uid")), nil
}

// unanswered is deleted for an event without the answer.
func (w *write) unanswered() ([]Change, error) {
	switch {
	case w.key.Kind == Namespace:
		return nil, nil // it goes when it is empty, as a later event says
	case w.key.Kind == Pod && !w.last():
		return w.unknown(), nil // it has been asked to go; its node says when it is gone
	case w.key.Kind.RBAC() && (w.blind || w.status != success):
		// It may have been tried only; or it stays until its finalizers are done.
		return w.unknown(), errors.New("the event does not say whether it is gone")
	}
	return w.gone(textAt(w.raw, "responseStatus", "details", "uid")), nil
}

func (w *write) gone(uid string) []Change {
	return []Change{{Key: w.key, From: w.at, UID: strings.Clone(cmp.Or(uid, w.uid)), Source: SourceAudit}}
}

// textAt returns the string at the end of a path of members, "" if there is none.
func textAt(value []byte, path ...string) string {
	for _, member := range path {
		var ok bool
		if value, ok = jsonscan.Get(value, member); !ok {
			return ""
		}
	}
	text, _ := jsonscan.String(value)
	return text
}

// last says that the request is the last of those that delete a pod.
func (w *write) last() bool { return w.force() || strings.HasPrefix(w.user, "system:node:") }

// force says that what is deleted is not given time.
func (w *write) force() bool {
	grace, ok := jsonscan.Get(w.request, "gracePeriodSeconds")
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
	changes := w.some(selected || w.blind)
	if (selected || w.blind) && w.key.Kind <= Namespace {
		return changes, errors.New("the event does not say which of the objects were deleted")
	}
	return changes, nil
}

// some returns what a deletecollection deleted that does not tell: all that is known, or maybe part of it.
func (w *write) some(part bool) (changes []Change) {
	for item := range w.known.Objects(w.key.Kind, w.at-1) {
		if (w.key.Namespace == "" || w.key.Namespace == item.Key.Namespace) && !w.keeps(item.Object) {
			stale := part || w.key.Kind == Pod && !w.force()
			changes = append(changes, Change{Key: item.Key, From: w.at, Stale: stale, Source: SourceAudit})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int {
		return cmp.Or(strings.Compare(a.Key.Namespace, b.Key.Namespace), strings.Compare(a.Key.Name, b.Key.Name))
	})
	if w.key.Kind.RBAC() {
		changes = append(changes, Change{From: w.at, Doubt: true, Source: SourceAudit}) // there may be others, not known yet
	}
	return changes
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
