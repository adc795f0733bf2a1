package context

import (
	"iter"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// Find returns what is known of an object of any kind at a time in µs since 1970: nil if it did not exist then or is not
// known. It takes no lock.
func (c *Cluster) Find(key Key, at int64) *Item {
	if c == nil {
		return nil
	}
	state := c.At(at)
	if state == nil {
		return nil
	}
	item, _ := state.Get(key)
	return item
}

// Objects yields the objects of a kind as they were at a time in µs since 1970, in no order. It takes no lock.
func (c *Cluster) Objects(kind Kind, at int64) iter.Seq[*Item] {
	state := c.At(at)
	if state == nil {
		return func(func(*Item) bool) {}
	}
	return state.Objects(kind)
}

// History returns what is known of an object over time, the oldest first: what it became, and when it was deleted. As
// changes they say the same again. It waits for a writer.
func (c *Cluster) History(key Key) []Change {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []Change
	for _, e := range c.versions[key] {
		if !e.dead && !e.presumed {
			all = append(all, e.Change)
		}
	}
	return all
}

// Complete says whether all objects of the kind are known at a time. It takes no lock.
func (c *Cluster) Complete(kind Kind, at int64) bool {
	state := c.At(at)
	return state != nil && state.Complete(kind) && !state.Doubtful()
}

// Address is who has an IP address in a cluster.
type Address struct {
	Node string // "" if it is not known
	Pod  Key    // zero if it is no pod's: the node's own, or one of the node's range of pods
}

// Address returns who had an IP address at a time in µs since 1970: a node by its own address, a pod by its IP, or else
// the node whose range of pods it is in. It takes no lock.
func (c *Cluster) Address(ip string, at int64) (Address, bool) {
	addr, err := netip.ParseAddr(ip)
	state := c.At(at)
	if err != nil || state == nil {
		return Address{}, false
	}
	addr = addr.Unmap()
	ip = addr.String()
	for item := range state.Objects(Node) {
		if item.Object != nil && slices.Contains(item.Object.Node.Addresses, ip) {
			return Address{Node: item.Key.Name}, true
		}
	}
	for item := range state.Objects(Pod) {
		if o := item.Object; o != nil && !o.Pod.HostNetwork && slices.Contains(o.Pod.IPs, ip) {
			return Address{Node: o.Pod.Node, Pod: item.Key}, true
		}
	}
	for item := range state.Objects(Node) {
		if item.Object == nil {
			continue
		}
		for _, cidr := range item.Object.Node.PodCIDRs {
			if p, err := netip.ParsePrefix(cidr); err == nil && p.Contains(addr) {
				return Address{Node: item.Key.Name}, true
			}
		}
	}
	return Address{}, false
}

// Credential returns what is known of a credential by its id, "JTI=…" or "X509SHA256=…": nil if nothing is. It takes no
// lock. Item.From is when it was issued.
func (s *Store) Credential(cluster, id string) *Item {
	return s.Cluster(cluster).Find(Key{Kind: Credential, Name: id}, math.MaxInt64)
}

// Person returns the person that a cluster calls username at a time in µs since 1970, or whose id or e-mail address it
// is; nil if there is none, or if it may be one of several. It takes no lock.
func (s *Store) Person(cluster, username string, at int64) (found *Item) {
	state := s.Cluster(Organization).At(at)
	if state == nil || username == "" {
		return nil
	}
	for item := range state.Objects(Person) {
		p := item.Object.Person
		if slices.Contains(p.Usernames, "cluster/"+cluster+"/"+username) {
			return item
		}
		if !strings.HasPrefix(username, "system:") &&
			(item.Key.Name == username || p.Email == username || slices.Contains(p.Usernames, username)) {
			found = item
		}
	}
	return found
}

// Group returns the group of that id at a time in µs since 1970, nil if there is none. It takes no lock.
func (s *Store) Group(id string, at int64) *Item {
	return s.Cluster(Organization).Find(Key{Kind: Group, Name: id}, at)
}

// Zone returns the narrowest Range that an address was in at a time in µs since 1970, as a cluster sees it: of two that
// are equal, the one that is of the cluster. It is nil if there is none. It takes no lock.
func (s *Store) Zone(cluster string, ip netip.Addr, at int64) (found *Item) {
	state := s.Cluster(Organization).At(at)
	if state == nil {
		return nil
	}
	ip = ip.Unmap()
	bits := -1
	for item := range state.Objects(Range) {
		r := item.Object.Range
		p, err := netip.ParsePrefix(r.CIDR)
		if err != nil || !p.Contains(ip) || r.Cluster != "" && r.Cluster != cluster {
			continue
		}
		if p.Bits() > bits || p.Bits() == bits && r.Cluster != "" {
			found, bits = item, p.Bits()
		}
	}
	return found
}

// Stats are numbers about a Store.
type Stats struct {
	Clusters int
	States   int   // versions of the roles and bindings of all clusters
	Versions int   // of all other objects
	Objects  int   // that are not roles and bindings, those that are gone and remembered among them
	Dropped  int64 // versions that were forgotten because there were too many, since the start
	Expired  int64 // credentials that were forgotten because they expired
}

// Stats returns numbers about the store.
func (s *Store) Stats() Stats {
	st := Stats{}
	for _, c := range *s.clusters.Load() {
		st.Clusters++
		st.States += c.Versions()
	}
	return st
}
