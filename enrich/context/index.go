package context

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
)

// index finds objects by something that they were called at some time. Reading takes no lock.
type index[K comparable] struct {
	known atomic.Pointer[trie[K, []*object]]
	lens  atomic.Pointer[lens] // of prefixes
}

func (x *index[K]) get(key K) []*object {
	known := x.known.Load()
	if known == nil {
		return nil
	}
	found, _ := known.get(key)
	return found
}

// update makes an object found by the keys after, and no longer by those before that are not among them.
func (x *index[K]) update(o *object, before, after []K, empty trie[K, []*object]) (grown, shrunk []K) {
	known := x.known.Load()
	if known == nil {
		known = &empty
	}
	next := *known
	for _, key := range after {
		if slices.Contains(before, key) {
			continue
		}
		found, _ := next.get(key)
		if len(found) == 0 {
			grown = append(grown, key)
		}
		next = next.with(key, append(slices.Clip(found), o))
	}
	for _, key := range before {
		if slices.Contains(after, key) {
			continue
		}
		found, _ := next.get(key)
		rest := slices.DeleteFunc(slices.Clone(found), func(f *object) bool { return f == o })
		if len(rest) > 0 {
			next = next.with(key, rest)
			continue
		}
		next = next.without(key)
		shrunk = append(shrunk, key)
	}
	x.known.Store(&next)
	return grown, shrunk
}

// lens counts the lengths of prefixes that there are.
type lens struct {
	v4, v6 []int // from the longest on
	count  [2][129]int
}

func (l *lens) of(addr netip.Addr) []int {
	switch {
	case l == nil:
		return nil
	case addr.Is4():
		return l.v4
	}
	return l.v6
}

func (l *lens) with(grown, shrunk []netip.Prefix) *lens {
	next := &lens{}
	if l != nil {
		next.count = l.count
	}
	family := func(p netip.Prefix) int {
		if p.Addr().Is4() {
			return 0
		}
		return 1
	}
	for _, p := range grown {
		next.count[family(p)][p.Bits()]++
	}
	for _, p := range shrunk {
		next.count[family(p)][p.Bits()]--
	}
	for bits := 128; bits >= 0; bits-- {
		if next.count[0][bits] > 0 {
			next.v4 = append(next.v4, bits)
		}
		if next.count[1][bits] > 0 {
			next.v6 = append(next.v6, bits)
		}
	}
	return next
}

// reindex makes an object found by what it is called now, and no longer by what it was.
func (c *Cluster) reindex(o *object, before []*Item) {
	switch o.key.Kind {
	case Pod, Node, Range:
		was, is := prefixes(before), prefixes(o.items())
		if slices.Equal(was, is) {
			return
		}
		grown, shrunk := c.places.update(o, was, is, trie[netip.Prefix, []*object]{seed: c.store.seed})
		if len(grown)+len(shrunk) > 0 {
			c.places.lens.Store(c.places.lens.Load().with(grown, shrunk))
		}
	case Person:
		if was, is := aliases(before), aliases(o.items()); !slices.Equal(was, is) {
			c.people.update(o, was, is, trie[alias, []*object]{seed: c.store.seed})
		}
	default:
	}
}

// prefixes returns the addresses and ranges that an object had, each once.
func prefixes(line []*Item) (all []netip.Prefix) {
	for _, item := range line {
		item.prefixes(func(p netip.Prefix) {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		})
	}
	return all
}

// has says whether an item has an address or a range.
func (i *Item) has(prefix netip.Prefix) bool {
	found := false
	i.prefixes(func(p netip.Prefix) { found = found || p == prefix })
	return found
}

// prefixes calls yield for each address and range of an item.
func (i *Item) prefixes(yield func(netip.Prefix)) {
	each := func(texts []string, parse func(string) (netip.Prefix, bool)) {
		for _, text := range texts {
			if p, ok := parse(text); ok {
				yield(p)
			}
		}
	}
	o := i.Object
	switch {
	case o == nil || i.gone:
	case o.Pod != nil && !o.Pod.HostNetwork:
		each(o.Pod.IPs, addressPrefix)
	case o.Node != nil:
		each(o.Node.Addresses, addressPrefix)
		each(o.Node.PodCIDRs, rangePrefix)
	case o.Range != nil:
		if p, ok := rangePrefix(o.Range.CIDR); ok {
			yield(p)
		}
	}
}

func addressPrefix(ip string) (netip.Prefix, bool) {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Prefix{}, false
	}
	addr = addr.Unmap().WithZone("")
	return netip.PrefixFrom(addr, addr.BitLen()), true
}

func rangePrefix(cidr string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		return addressPrefix(cidr)
	}
	if addr := p.Addr(); addr.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(addr.Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// alias is what a person is called: by one cluster, or by all.
type alias struct{ cluster, name string }

// aliasOf reads a username of a person.
func aliasOf(username string) (alias, bool) {
	if rest, ok := strings.CutPrefix(username, "cluster/"); ok {
		cluster, name, ok := strings.Cut(rest, "/")
		return alias{cluster, name}, ok && cluster != "" && name != ""
	}
	return alias{"", username}, username != "" && !strings.HasPrefix(username, "system:")
}

// aliases returns what a person was called, each once.
func aliases(line []*Item) (all []alias) {
	for _, item := range line {
		names(item, func(a alias) {
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		})
	}
	return all
}

// names calls yield for everything that a person is called in an item.
func names(item *Item, yield func(alias)) {
	if item.gone || item.Object == nil || item.Object.Person == nil {
		return
	}
	p := item.Object.Person
	for _, name := range [...]string{item.Key.Name, p.Email} {
		if name != "" && !strings.HasPrefix(name, "system:") {
			yield(alias{"", name})
			if mail(name) {
				yield(alias{"", strings.ToLower(name)})
			}
		}
	}
	for _, name := range p.Usernames {
		if a, ok := aliasOf(name); ok {
			yield(a)
			if a.cluster == "" && mail(a.name) {
				yield(alias{"", strings.ToLower(a.name)})
			}
		}
	}
}

// mail says whether a name is an e-mail address, for which upper and lower case are the same.
func mail(name string) bool {
	return strings.IndexByte(name, '@') > 0 && !strings.ContainsAny(name, ":/")
}
