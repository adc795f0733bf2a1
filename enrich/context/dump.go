package context

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/internal/jsonscan"
)

// Dump is what `kubectl get -o json` printed, of one file or several.
type Dump struct {
	Name    string
	Objects []Dumped // those of kinds that are followed
	// Kinds of which the dump has all objects of the cluster: what it does not have does not exist. ReadDump takes a
	// list for the whole list. Of one that is not, set it to nil. That a list is of one namespace is noticed if others are
	// known: see Whole.
	Complete []Kind
}

// Dumped is an object of a dump.
type Dumped struct {
	Key    Key
	Object *Object
}

// maxDump bounds a file after it was decompressed.
const maxDump = 1 << 30

// ReadDump reads a file, plain or gzip, that holds a List or a single object, or all such files of a directory: those
// called *.json and *.json.gz. Errors name the file and the object.
func ReadDump(path string) (*Dump, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err // names the file
	}
	d := &Dump{Name: path}
	if !info.IsDir() {
		return d, d.file(path)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	found := false
	for _, e := range entries {
		if name := e.Name(); !e.IsDir() && (strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".json.gz")) {
			found = true
			if err := d.file(filepath.Join(path, name)); err != nil {
				return nil, err
			}
		}
	}
	if !found {
		return nil, fmt.Errorf("%s: no file is called *.json or *.json.gz; write each with: kubectl get clusterroles -o json > clusterroles.json", path)
	}
	return d, nil
}

// ReadDumpFrom reads a List or a single object, plain or gzip, from in; name is what errors and Change.Source call it.
func ReadDumpFrom(name string, in io.Reader) (*Dump, error) {
	d := &Dump{Name: name}
	text, err := readPlain(in)
	if err == nil {
		err = d.parse("", text)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

func (d *Dump) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := readPlain(f)
	if err == nil {
		err = d.parse(filepath.Base(path), text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func readPlain(f io.Reader) ([]byte, error) {
	buffered := bufio.NewReader(f)
	var in io.Reader = buffered
	if magic, err := buffered.Peek(2); err == nil && bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		if in, err = gzip.NewReader(buffered); err != nil {
			return nil, fmt.Errorf("decompressing: %w", err)
		}
	}
	text, err := io.ReadAll(io.LimitReader(in, maxDump+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxDump {
		return nil, fmt.Errorf("more than %d bytes: dump fewer kinds at a time", maxDump)
	}
	return text, nil
}

// parse adds the objects of a text. file is its name, which says what an empty list is a list of.
func (d *Dump) parse(file string, text []byte) error {
	if err := jsonscan.Valid(text); err != nil {
		return fmt.Errorf("%w; write it with: kubectl get KIND -A -o json", err)
	}
	kind, _ := jsonscan.Get(text, "kind")
	listKind, _ := jsonscan.String(kind)
	items, isList := jsonscan.Get(text, "items")
	if !isList {
		return d.add("", text)
	}
	if !strings.HasSuffix(listKind, "List") || items[0] != '[' {
		return errors.New("neither a List nor an object of Kubernetes; write it with: kubectl get KIND -A -o json")
	}
	of := ParseKind(strings.TrimSuffix(listKind, "List"))
	resource, _, _ := strings.Cut(file, ".")
	for k := Role; k.kubernetes() && of == 0; k++ {
		if k.Resource() == resource {
			of = k
		}
	}
	d.completes(of)
	first, n := len(d.Objects), 0
	for it := jsonscan.Array(items); it.Next(); n++ {
		if err := d.add(strings.TrimSuffix(listKind, "List"), it.Value()); err != nil {
			return fmt.Errorf("items[%d]: %w", n, err)
		}
	}
	for _, o := range d.Objects[first:] {
		d.completes(o.Key.Kind)
	}
	return nil
}

func (d *Dump) completes(k Kind) {
	if k != 0 && !slices.Contains(d.Complete, k) {
		d.Complete = append(d.Complete, k)
	}
}

// Coverage is of what a dump has all.
type Coverage struct {
	kinds  []Kind
	within map[Kind]string // the one namespace of which it has all
}

// Whole says whether the dump would have the object if it existed.
func (c *Coverage) Whole(key Key) bool {
	namespace, one := c.within[key.Kind]
	return slices.Contains(c.kinds, key.Kind) && (!one || namespace == key.Namespace)
}

// complete are the kinds of which the dump has all.
func (c *Coverage) complete() (all []Kind) {
	for _, k := range c.kinds {
		if _, one := c.within[k]; !one {
			all = append(all, k)
		}
	}
	return all
}

// Coverage returns of what the dump has all, of a cluster as it is known for a time. A list of one namespace looks like one
// of all: but of a kind of which objects are known in others it is taken for what it is, since those that are in more than
// one namespace in every cluster do not leave all but one, nor does everything.
func (d *Dump) Coverage(known *Cluster, from int64) *Coverage {
	c := &Coverage{kinds: d.Complete, within: map[Kind]string{}}
	namespaces, all := map[Kind]map[string]bool{}, map[string]bool{}
	for i := range d.Objects {
		key := d.Objects[i].Key
		if !key.Kind.Namespaced() {
			continue
		}
		if namespaces[key.Kind] == nil {
			namespaces[key.Kind] = map[string]bool{}
		}
		namespaces[key.Kind][key.Namespace], all[key.Namespace] = true, true
	}
	for k, of := range namespaces {
		everywhere := k == Role || k == RoleBinding || k == ServiceAccount
		if len(of) > 1 || !everywhere && len(all) > 1 {
			continue
		}
		for item := range known.Objects(k, from) {
			if !of[item.Key.Namespace] {
				for namespace := range of {
					c.within[k] = namespace
				}
				break
			}
		}
	}
	return c
}

// add adds an object. What it does not say itself, the kind of its list does.
func (d *Dump) add(kind string, text []byte) error {
	w, err := parseObject(text)
	if w == nil {
		return err
	}
	if w.kind == "" {
		w.kind = kind
		if k := ParseKind(kind); k != 0 && k.APIGroup() != "" {
			w.apiVersion = k.APIGroup() + "/v1"
		}
	}
	key, ok := w.key()
	if !ok {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if key.Name == "" || key.Kind.Namespaced() != (key.Namespace != "") {
		return fmt.Errorf("%s: metadata: a name and, for this kind, a namespace are needed", key)
	}
	d.Objects = append(d.Objects, Dumped{key, w.object(key.Kind, nil)})
	return nil
}

// Changes returns what the dump changes of a cluster, nil for one of which nothing is known. What the dump says holds
// from that time on, in µs since 1970, or since an object was created if that is later: 0 says that it has always been so,
// for a dump that is older than all events.
func (d *Dump) Changes(known *Cluster, from int64) []Change {
	source := sourceImport + d.Name
	changes := make([]Change, 0, len(d.Objects)+1)
	covered := d.Coverage(known, from)
	if complete := covered.complete(); len(complete) > 0 {
		changes = append(changes, Change{From: from, Complete: complete, Source: source})
	}
	has := make(map[Key]bool, len(d.Objects))
	for i := range d.Objects {
		o := &d.Objects[i]
		has[o.Key] = true
		changes = append(changes, Change{
			Key: o.Key, From: o.since(from), Object: o.Object, Source: source,
		})
	}
	for _, k := range d.Complete {
		for item := range known.Objects(k, from) {
			if has[item.Key] || !covered.Whole(item.Key) {
				continue
			}
			changes = append(changes, Change{Key: item.Key, From: from, UID: item.uid(), Source: source})
		}
	}
	return changes
}

// since is from when on an object of a dump was there, which was so from a time on; 0 for always.
func (o *Dumped) since(from int64) int64 {
	created := o.Object.Metadata.created()
	if from > 0 && created > from+ahead.Microseconds() {
		return from // it was there: the clock of its API server is wrong, or was
	}
	return max(from, created)
}

// Import applies a dump. See Dump.Changes.
func (s *Store) Import(cluster string, d *Dump, from int64) (changed bool) {
	for i := range d.Objects {
		o := *d.Objects[i].Object
		o.Rules = s.pool.rules(o.Rules)
		d.Objects[i].Object = &o
	}
	_, changed = s.Apply(cluster, d.Changes(s.Cluster(cluster), from)...)
	return changed
}
