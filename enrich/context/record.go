package context

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/auditmill/auditmill/schemas"
)

// record is a Change as JSON: one record of audit.context.v1.
type record struct {
	Cluster   string    `json:"cluster"`
	Kind      string    `json:"kind,omitempty"`
	Namespace string    `json:"namespace,omitempty"`
	Name      string    `json:"name,omitempty"`
	ValidFrom int64     `json:"valid_from"` // µs since 1970
	Object    *manifest `json:"object,omitempty"`
	Deleted   bool      `json:"deleted,omitempty"`
	UID       string    `json:"uid,omitempty"`
	Stale     bool      `json:"stale,omitempty"`
	Seen      int64     `json:"seen,omitempty"` // µs since 1970
	By        string    `json:"by,omitempty"`
	Removed   bool      `json:"removed,omitempty"`
	Complete  []string  `json:"complete,omitempty"`
	Doubt     bool      `json:"doubt,omitempty"`
	Source    string    `json:"source"`
}

// RecordKey is the key of the record of a change: cluster/kind/namespace/name. All versions of an object have the same.
// Changes that are about no object have a key for each source and what they say.
func RecordKey(cluster string, c *Change) string {
	if c.Key.Kind != 0 {
		return cluster + "/" + c.Key.Kind.String() + "/" + c.Key.Namespace + "/" + c.Key.Name
	}
	switch {
	case c.Removed:
		return cluster + "///removed"
	case c.Doubt:
		return cluster + "///doubt/" + c.Source
	}
	names := make([]string, len(c.Complete))
	for i, k := range c.Complete {
		names[i] = k.String()
	}
	slices.Sort(names)
	return cluster + "///complete/" + strings.Join(names, ",") + "/" + c.Source
}

// Headers of a tombstone, besides the key of the record.
const (
	headerCluster = "cluster"
	headerFrom    = "valid_from"
	headerSeen    = "seen"
	headerUID     = "uid"
	headerSource  = "source"
	headerBy      = "by"
)

// Tombstone returns the headers of the record of a deletion, of which ParseTombstone makes the change again: it has no
// value, so that compaction can forget it. All other changes have a value, by AppendRecord.
func Tombstone(cluster string, c *Change) (headers []schemas.KeyValue, ok bool) {
	if c.Key.Kind == 0 || !c.deletes() {
		return nil, false
	}
	headers = []schemas.KeyValue{
		{Key: headerCluster, Value: cluster}, {Key: headerFrom, Value: strconv.FormatInt(c.From, 10)}, {Key: headerSource, Value: c.Source},
	}
	if c.Seen != 0 {
		headers = append(headers, schemas.KeyValue{Key: headerSeen, Value: strconv.FormatInt(c.Seen, 10)})
	}
	if c.UID != "" {
		headers = append(headers, schemas.KeyValue{Key: headerUID, Value: c.UID})
	}
	if c.By != "" {
		headers = append(headers, schemas.KeyValue{Key: headerBy, Value: c.By})
	}
	return headers, true
}

// ParseTombstone reads the key and the headers of a record without a value. Headers that it does not know do not matter.
func ParseTombstone(key string, headers []schemas.KeyValue) (cluster string, c Change, err error) {
	stamped := false
	for _, h := range headers {
		value := h.Value
		switch h.Key {
		case headerCluster:
			cluster = value
		case headerFrom:
			c.From, err = strconv.ParseInt(value, 10, 64)
			stamped = true
		case headerSeen:
			c.Seen, err = strconv.ParseInt(value, 10, 64)
		case headerUID:
			c.UID = value
		case headerSource:
			c.Source = value
		case headerBy:
			c.By = value
		}
		if err != nil {
			return "", Change{}, fmt.Errorf("reading the context tombstone %q: header %s: want µs since 1970, got %.40q", key, h.Key, value)
		}
	}
	rest, ok := strings.CutPrefix(key, cluster+"/")
	if cluster == "" || !ok || !stamped {
		return "", Change{}, fmt.Errorf("reading the context tombstone %q: headers: want cluster, with which the key begins, and valid_from", key)
	}
	kind, rest, _ := strings.Cut(rest, "/")
	namespace, name, ok := strings.Cut(rest, "/")
	c.Key = Key{Kind: ParseKind(kind), Namespace: namespace, Name: name}
	if !ok || c.Key.Kind == 0 || name == "" {
		return "", Change{}, fmt.Errorf("reading the context tombstone %q: key: want cluster/kind/namespace/name", key)
	}
	return cluster, c, nil
}

// AppendRecord appends the JSON of a change to dst.
func AppendRecord(dst []byte, cluster string, c *Change) ([]byte, error) {
	r := record{
		Cluster: cluster, Namespace: c.Key.Namespace, Name: c.Key.Name, ValidFrom: c.From, Object: c.Object.manifest(),
		Deleted: c.Key.Kind != 0 && c.deletes(), UID: c.UID, Stale: c.Stale, Doubt: c.Doubt, Source: c.Source,
		Seen: c.Seen, By: c.By, Removed: c.Removed,
	}
	if c.Key.Kind != 0 {
		r.Kind = c.Key.Kind.String()
	}
	for _, k := range c.Complete {
		r.Complete = append(r.Complete, k.String())
	}
	text, err := json.Marshal(&r)
	if err != nil {
		return dst, fmt.Errorf("record of %s in cluster %q: %w", c.Key, cluster, err)
	}
	return append(dst, text...), nil
}

// ParseRecord reads what AppendRecord wrote.
func ParseRecord(text []byte) (cluster string, c Change, err error) {
	var r struct {
		record
		Object json.RawMessage `json:"object"`
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return "", c, fmt.Errorf("reading a context record: %w", err)
	}
	c = Change{
		Key:  Key{Kind: ParseKind(r.Kind), Namespace: r.Namespace, Name: r.Name},
		From: r.ValidFrom, UID: r.UID, Stale: r.Stale, Doubt: r.Doubt, Source: r.Source,
		Seen: r.Seen, By: r.By, Removed: r.Removed,
	}
	if string(r.Object) == "null" {
		r.Object = nil
	}
	if err = r.check(len(r.Object) > 0); err != nil {
		return "", Change{}, fmt.Errorf("reading the context record of %s in cluster %q: %w", c.Key, r.Cluster, err)
	}
	for _, name := range r.Complete {
		c.Complete = append(c.Complete, ParseKind(name))
	}
	if len(r.Object) > 0 {
		w, err := parseObject(r.Object)
		if err != nil {
			return "", Change{}, fmt.Errorf("reading the context record of %s in cluster %q: object: %w", c.Key, r.Cluster, err)
		}
		c.Object = w.object(c.Key.Kind, nil)
	}
	return r.Cluster, c, nil
}

// check says what is wrong with a record, its object aside.
func (r *record) check(object bool) error {
	if r.Cluster == "" {
		return errors.New("cluster: must not be empty")
	}
	for _, name := range r.Complete {
		if ParseKind(name) == 0 {
			return fmt.Errorf("complete: %q is no kind that is followed", name)
		}
	}
	if r.Kind == "" {
		if object || len(r.Complete) == 0 && !r.Doubt && !r.Removed {
			return errors.New("kind: must not be empty")
		}
		return nil
	}
	if ParseKind(r.Kind) == 0 {
		return fmt.Errorf("kind: %q is none that is followed", r.Kind)
	}
	if len(r.Complete) > 0 || r.Doubt || r.Removed {
		return errors.New("complete, doubt and removed: are about no object")
	}
	if object == r.Deleted && !r.Stale {
		return errors.New("want either object or deleted")
	}
	return nil
}
