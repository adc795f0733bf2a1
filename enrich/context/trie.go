package context

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
)

// trie is a persistent hash map: with and without return a new one that shares all but the path to the key.
type trie[K comparable, V any] struct {
	seed maphash.Seed
	root *node[K, V]
	size int
}

// node has one slot for each bit that is set, in their order.
type node[K comparable, V any] struct {
	bitmap uint32
	slots  []slot[K, V]
}

// slot is a node of the next level or a leaf.
type slot[K comparable, V any] struct {
	node *node[K, V]
	leaf *leaf[K, V]
}

type leaf[K comparable, V any] struct {
	hash  uint64
	key   K
	value V
	next  *leaf[K, V] // of the same hash
}

const (
	trieBits  = 5
	trieMask  = 1<<trieBits - 1
	trieDepth = 60 // bits of the hash that are used
)

func newTrie[K comparable, V any]() trie[K, V] { return trie[K, V]{seed: maphash.MakeSeed()} }

func (t trie[K, V]) get(key K) (value V, ok bool) {
	if t.root == nil {
		return value, false
	}
	h := maphash.Comparable(t.seed, key)
	for n, shift := t.root, 0; ; shift += trieBits {
		bit := uint32(1) << (h >> shift & trieMask)
		if n.bitmap&bit == 0 {
			return value, false
		}
		s := n.slots[bits.OnesCount32(n.bitmap&(bit-1))]
		if s.node != nil {
			n = s.node
			continue
		}
		for l := s.leaf; l != nil; l = l.next {
			if l.hash == h && l.key == key {
				return l.value, true
			}
		}
		return value, false
	}
}

func (t trie[K, V]) with(key K, value V) trie[K, V] {
	l := &leaf[K, V]{hash: maphash.Comparable(t.seed, key), key: key, value: value}
	grown := true
	t.root = t.root.with(l, 0, &grown)
	if grown {
		t.size++
	}
	return t
}

func (n *node[K, V]) with(l *leaf[K, V], shift int, grown *bool) *node[K, V] {
	bit := uint32(1) << (l.hash >> shift & trieMask)
	if n == nil {
		return &node[K, V]{bitmap: bit, slots: []slot[K, V]{{leaf: l}}}
	}
	i := bits.OnesCount32(n.bitmap & (bit - 1))
	if n.bitmap&bit == 0 {
		slots := make([]slot[K, V], len(n.slots)+1)
		copy(slots, n.slots[:i])
		slots[i].leaf = l
		copy(slots[i+1:], n.slots[i:])
		return &node[K, V]{bitmap: n.bitmap | bit, slots: slots}
	}
	slots := slices.Clone(n.slots)
	switch s := &slots[i]; {
	case s.node != nil:
		s.node = s.node.with(l, shift+trieBits, grown)
	case s.leaf.hash == l.hash || shift+trieBits > trieDepth:
		rest, found := s.leaf.without(l.key)
		l.next, *grown = rest, !found
		s.leaf = l
	default: // two leaves in one slot: a level more
		inner := (*node[K, V])(nil).with(s.leaf, shift+trieBits, grown)
		*s = slot[K, V]{node: inner.with(l, shift+trieBits, grown)}
	}
	return &node[K, V]{bitmap: n.bitmap, slots: slots}
}

// without returns the chain without the key.
func (l *leaf[K, V]) without(key K) (rest *leaf[K, V], found bool) {
	for ; l != nil; l = l.next {
		if l.key == key {
			found = true
			continue
		}
		rest = &leaf[K, V]{hash: l.hash, key: l.key, value: l.value, next: rest}
	}
	return rest, found
}

func (t trie[K, V]) without(key K) trie[K, V] {
	if _, ok := t.get(key); !ok {
		return t
	}
	t.root = t.root.without(maphash.Comparable(t.seed, key), key, 0)
	t.size--
	return t
}

func (n *node[K, V]) without(h uint64, key K, shift int) *node[K, V] {
	bit := uint32(1) << (h >> shift & trieMask)
	i := bits.OnesCount32(n.bitmap & (bit - 1))
	s := n.slots[i]
	if s.node != nil {
		s.node = s.node.without(h, key, shift+trieBits)
	} else {
		s.leaf, _ = s.leaf.without(key)
	}
	if s.node == nil && s.leaf == nil {
		if len(n.slots) == 1 {
			return nil
		}
		slots := slices.Delete(slices.Clone(n.slots), i, i+1)
		return &node[K, V]{bitmap: n.bitmap &^ bit, slots: slots}
	}
	slots := slices.Clone(n.slots)
	slots[i] = s
	return &node[K, V]{bitmap: n.bitmap, slots: slots}
}

// all yields everything, in no order.
func (t trie[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { t.root.all(yield) }
}

func (n *node[K, V]) all(yield func(K, V) bool) bool {
	if n == nil {
		return true
	}
	for _, s := range n.slots {
		if s.node != nil {
			if !s.node.all(yield) {
				return false
			}
			continue
		}
		for l := s.leaf; l != nil; l = l.next {
			if !yield(l.key, l.value) {
				return false
			}
		}
	}
	return true
}
