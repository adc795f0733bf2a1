package context

import (
	"encoding/json"
	"errors"
	"fmt"
)

// record is a Change as JSON: one record of audit.context.v1.
type record struct {
	Cluster   string   `json:"cluster"`
	Kind      string   `json:"kind,omitempty"`
	Namespace string   `json:"namespace,omitempty"`
	Name      string   `json:"name,omitempty"`
	ValidFrom int64    `json:"valid_from"` // µs since 1970
	Object    *Object  `json:"object,omitempty"`
	Deleted   bool     `json:"deleted,omitempty"`
	UID       string   `json:"uid,omitempty"`
	Stale     bool     `json:"stale,omitempty"`
	Complete  []string `json:"complete,omitempty"`
	Doubt     bool     `json:"doubt,omitempty"`
	Source    string   `json:"source"`
}

// RecordKey is the key of the record of a change: cluster/kind/namespace/name. All versions of an object have the same.
// Changes that are about no object have a key for each source.
func RecordKey(cluster string, c *Change) string {
	if c.Key.Kind == 0 {
		return cluster + "///" + c.Source
	}
	return cluster + "/" + c.Key.Kind.String() + "/" + c.Key.Namespace + "/" + c.Key.Name
}

// AppendRecord appends the JSON of a change to dst.
func AppendRecord(dst []byte, cluster string, c *Change) ([]byte, error) {
	r := record{
		Cluster: cluster, Namespace: c.Key.Namespace, Name: c.Key.Name, ValidFrom: c.From, Object: c.Object,
		Deleted: c.Key.Kind != 0 && c.deletes(), UID: c.UID, Stale: c.Stale, Doubt: c.Doubt, Source: c.Source,
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
		if object || len(r.Complete) == 0 && !r.Doubt {
			return errors.New("kind: must not be empty")
		}
		return nil
	}
	if ParseKind(r.Kind) == 0 {
		return fmt.Errorf("kind: %q is none that is followed", r.Kind)
	}
	if len(r.Complete) > 0 || r.Doubt {
		return errors.New("complete and doubt: are about no object")
	}
	if object == r.Deleted && !r.Stale {
		return errors.New("want either object or deleted")
	}
	return nil
}
