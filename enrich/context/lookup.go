package context

import (
	"cmp"
	"iter"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// Find returns what is known of an object of any kind at a time in µs since 1970: nil if it did not exist then or is not
// known. It takes no lock.
func (c *Cluster) Find(key Key, at int64) *Item {
	switch {
	case c == nil || key.Kind >= kinds:
		return nil
	case key.Kind.RBAC():
		if state := c.At(at); state != nil {
			item, _ := state.Get(key)
			return item
		}
		return nil
	}
	if o := c.tables[key.Kind].get(key); o != nil {
		return o.at(at)
	}
	return nil
}

// Objects yields the objects of a kind as they were at a time in µs since 1970, in no order. It takes no lock.
func (c *Cluster) Objects(kind Kind, at int64) iter.Seq[*Item] { return c.objects(kind, "", at) }

// objects yields the objects of a kind and a namespace, or of all if it is "".
func (c *Cluster) objects(kind Kind, namespace string, at int64) iter.Seq[*Item] {
	if c == nil {
		return func(func(*Item) bool) {}
	}
	if kind.RBAC() {
		state := c.At(at)
		if state == nil {
			return func(func(*Item) bool) {}
		}
		return func(yield func(*Item) bool) {
			for item := range state.Objects(kind) {
				if (namespace == "" || item.Key.Namespace == namespace) && !yield(item) {
					return
				}
			}
		}
	}
	return func(yield func(*Item) bool) {
		for o := range c.tables[kind].all() {
			if namespace != "" && o.key.Namespace != namespace {
				continue
			}
			if item := o.at(at); item != nil && !yield(item) {
				return
			}
		}
	}
}

// History returns what is known of an object over time, the oldest first: what it became, and when it was deleted. As
// changes they say the same again. It waits for a writer.
func (c *Cluster) History(key Key) []Change {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.tables[key.Kind].get(key)
	if o == nil {
		return nil
	}
	all := make([]Change, 0, len(o.entries))
	for _, item := range o.items() {
		all = append(all, o.change(item))
	}
	return all
}

// Later returns what has to be written to the topic again behind the record of a change, and false for nearly all changes:
// nothing. Compaction keeps the last record of each key, so what holds now must be the last, also if something older was
// written late, or something that another change knows better. The change must have been applied. It waits for a writer.
func (s *Store) Later(cluster string, change *Change) (again Change, ok bool) {
	c := s.Cluster(cluster)
	if c == nil {
		return again, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if change.Key.Kind == 0 {
		return c.laterNote(change)
	}
	o := c.tables[change.Key.Kind].get(change.Key)
	if o == nil {
		// It may have been gone, which is forgotten here but must not be there.
		gone := c.store.graves.gone(c.id, change.Key)
		known := change.deletes() && change.From == gone
		return Change{Key: change.Key, From: gone, Source: change.Source}, gone >= change.From && !known
	}
	last := o.last()
	switch {
	case last == nil, last.gone && slices.Contains(c.wipes, last.From), !last.gone && last.same(&entryOf(change).item):
		return again, false
	}
	again = o.change(last)
	return again, again.From != change.From || !again.deletes() || !change.deletes()
}

func (c *Cluster) laterNote(change *Change) (again Change, ok bool) {
	n := noteOf(change)
	for _, k := range slices.Backward(c.notes) {
		if k.from <= n.from || k.base != nil {
			break
		}
		if k.source == n.source && k.complete == n.complete && k.doubt == n.doubt && k.removed == n.removed {
			again = *change
			again.From, again.Seen = k.from, k.seen
			return again, true
		}
	}
	return again, false
}

// change returns what says of an object that it is what an item of its line is.
func (o *object) change(item *Item) Change {
	for _, e := range o.entries {
		if &e.item == item {
			return e.change()
		}
	}
	c := Change{Key: item.Key, From: item.From, Object: item.Object, Source: item.Source, By: item.By, Stale: item.Stale}
	if item.gone {
		// That of the one that is gone, or else it would be of any.
		for _, e := range o.entries {
			if e.uid != "" && e.item.From <= item.From {
				c.UID = e.uid
			}
		}
	}
	return c
}

// Complete says whether all objects of the kind are known at a time in µs since 1970: there was a dump of them or a watch,
// and nothing happened since that could not be followed. It takes no lock.
func (c *Cluster) Complete(kind Kind, at int64) bool {
	if c == nil {
		return false
	}
	m := c.markAt(at)
	return (m.complete&^m.doubt)&(1<<kind) != 0
}

// Address is who has an IP address in a cluster.
type Address struct {
	Node string // "" if it is not known
	Pod  Key    // zero if it is no pod's: the node's own, or one of the node's range of pods
}

// Address returns who had an IP address at a time in µs since 1970: a node by its own address, a pod by its IP, or else
// the node whose range of pods it is in. Of several that are said to have had it, the one that got it last had it; if it
// changed since in a way that is not known, nobody is known to have had it. It takes no lock.
func (c *Cluster) Address(ip string, at int64) (Address, bool) {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return Address{}, false
	}
	return c.AddressOf(addr, at)
}

// AddressOf is Address for an address that is parsed.
func (c *Cluster) AddressOf(addr netip.Addr, at int64) (Address, bool) {
	if c == nil || !addr.IsValid() {
		return Address{}, false
	}
	addr = addr.Unmap().WithZone("")
	for _, bits := range c.places.lens.Load().of(addr) {
		prefix, err := addr.Prefix(bits)
		if err != nil {
			continue
		}
		switch holder, ok := c.holder(prefix, at); {
		case !ok:
		case holder == nil || holder.Stale:
			return Address{}, false
		case holder.Object.Pod != nil:
			return Address{Node: holder.Object.Pod.Node, Pod: holder.Key}, true
		default:
			return Address{Node: holder.Key.Name}, true
		}
	}
	return Address{}, false
}

// holder returns who had an address or a range: a node rather than a pod, else who got it last; nil if that is not clear,
// and false if there is none.
func (c *Cluster) holder(prefix netip.Prefix, at int64) (holder *Item, ok bool) {
	certain := true
	for _, o := range c.places.get(prefix) {
		item := o.at(at)
		if item == nil || item.Object == nil || !item.has(prefix) {
			continue
		}
		order := 1
		if holder != nil {
			order = cmp.Or(boolInt(item.Key.Kind == Node)-boolInt(holder.Key.Kind == Node), cmp.Compare(item.From, holder.From))
		}
		switch {
		case order > 0:
			holder, certain = item, true
		case order == 0:
			certain = false
		}
	}
	if !certain {
		return nil, true
	}
	return holder, holder != nil
}

// Credential returns what is known of a credential by its id, "JTI=…" or "X509SHA256=…": nil if nothing is. It takes no
// lock. Item.From is when it was issued.
func (s *Store) Credential(cluster, id string) *Item {
	return s.Cluster(cluster).Find(Key{Kind: Credential, Name: id}, math.MaxInt64)
}

// Person returns the person that a cluster calls username at a time in µs since 1970, or whose id or e-mail address it
// is; nil if there is none, or if it may be one of several. What is an e-mail address may be in upper or lower case. It
// takes no lock.
func (s *Store) Person(cluster, username string, at int64) *Item {
	c := s.Cluster(Organization)
	if c == nil || username == "" {
		return nil
	}
	if found, ok := c.person(alias{cluster, username}, at); ok {
		return found
	}
	if strings.HasPrefix(username, "system:") {
		return nil
	}
	found, ok := c.person(alias{"", username}, at)
	if lower := strings.ToLower(username); !ok && lower != username && mail(lower) {
		found, _ = c.person(alias{"", lower}, at)
	}
	return found
}

// person returns who was called so; nil and true if that is not clear.
func (c *Cluster) person(a alias, at int64) (found *Item, ok bool) {
	for _, o := range c.people.get(a) {
		item := o.at(at)
		if item == nil {
			continue
		}
		called := false
		names(item, func(b alias) { called = called || a == b })
		switch {
		case !called:
		case found != nil:
			return nil, true
		default:
			found = item
		}
	}
	return found, found != nil
}

// Group returns the group of that id at a time in µs since 1970, nil if there is none. It takes no lock.
func (s *Store) Group(id string, at int64) *Item {
	return s.Cluster(Organization).Find(Key{Kind: Group, Name: id}, at)
}

// Zone returns the narrowest Range that an address was in at a time in µs since 1970, as a cluster sees it: of two that
// are equal, the one that is of the cluster. It is nil if there is none. It takes no lock.
func (s *Store) Zone(cluster string, ip netip.Addr, at int64) *Item {
	c := s.Cluster(Organization)
	if c == nil {
		return nil
	}
	ip = ip.Unmap().WithZone("")
	for _, bits := range c.places.lens.Load().of(ip) {
		prefix, err := ip.Prefix(bits)
		if err != nil {
			continue
		}
		var found *Item
		for _, o := range c.places.get(prefix) {
			item := o.at(at)
			if item == nil || item.Object == nil || item.Object.Range == nil || !item.has(prefix) {
				continue
			}
			r := item.Object.Range
			if r.Cluster == cluster || r.Cluster == "" && found == nil {
				found = item
			}
		}
		if found != nil {
			return found
		}
	}
	return nil
}

// Stats are numbers about a Store.
type Stats struct {
	Clusters    int
	States      int   // versions of the roles and bindings of all clusters
	Objects     int   // versions of all other objects but credentials
	Credentials int   // that are known
	Dropped     int64 // versions and credentials that were forgotten because there were too many, since the start
	Expired     int64 // credentials that were forgotten because they expired, since the start
}

// Stats returns numbers about the store. It takes no lock.
func (s *Store) Stats() Stats {
	return Stats{
		Clusters: len(*s.clusters.Load()), States: int(s.states.Load()), Objects: int(s.entries.Load()),
		Credentials: int(s.credentials.Load()), Dropped: s.dropped.Load(), Expired: s.expired.Load(),
	}
}
