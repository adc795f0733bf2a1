package context

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/auditmill/auditmill/internal/jsonscan"
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
	for _, name := range r.Complete {
		k := ParseKind(name)
		if k == 0 {
			return "", c, fmt.Errorf("reading a context record of cluster %q: complete: %q is no kind that is followed", r.Cluster, name)
		}
		c.Complete = append(c.Complete, k)
	}
	if r.Kind != "" && c.Key.Kind == 0 || r.Kind == "" && c.Complete == nil && !c.Doubt || r.Cluster == "" {
		return "", c, fmt.Errorf("reading a context record of cluster %q: %q is no kind that is followed", r.Cluster, r.Kind)
	}
	if len(r.Object) > 0 && jsonscan.SkipSpace(r.Object, 0) < len(r.Object) && string(r.Object) != "null" {
		w, err := parseObject(r.Object)
		if err != nil {
			return "", c, fmt.Errorf("reading the context record of %s in cluster %q: object: %w", c.Key, r.Cluster, err)
		}
		c.Object = w.object(c.Key.Kind, nil)
	}
	if c.Key.Kind != 0 && (c.Object == nil) != (r.Deleted || r.Stale) && !r.Stale {
		return "", c, fmt.Errorf("reading the context record of %s in cluster %q: %w", c.Key, r.Cluster, errors.New("want object or deleted"))
	}
	return r.Cluster, c, nil
}
