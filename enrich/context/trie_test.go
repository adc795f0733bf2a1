package context

import (
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A trie is a map, and every version of it stays what it was.
func TestTrie(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	want, got := map[int]int{}, newTrie[int, int]()
	type version struct {
		want map[int]int
		got  trie[int, int]
	}
	var versions []version
	for i := range 20_000 {
		key := r.IntN(2000)
		if r.IntN(3) == 0 {
			delete(want, key)
			got = got.without(key)
		} else {
			want[key] = i
			got = got.with(key, i)
		}
		if v, ok := got.get(key); v != want[key] || ok != (maps.Clone(want)[key] != 0) && i > 0 {
			t.Fatalf("step %d: %d is %d, %t", i, key, v, ok)
		}
		if i%1000 == 0 {
			versions = append(versions, version{maps.Clone(want), got})
		}
	}
	for i, v := range versions {
		if diff := cmp.Diff(v.want, maps.Collect(v.got.all())); diff != "" || v.got.size != len(v.want) {
			t.Errorf("version %d has %d, want %d: %s", i, v.got.size, len(v.want), diff)
		}
	}
}

// Keys of one hash share a leaf.
func TestTrieCollisions(t *testing.T) {
	var n *node[string, int]
	for _, key := range []string{"a", "b", "c", "b"} {
		grown := true
		n = n.with(&leaf[string, int]{hash: 42, key: key, value: len(key)}, 0, &grown)
		if want := key != "b" || n.slots[0].leaf.next == nil || n.slots[0].leaf.next.key != "c"; grown != want && key != "b" {
			t.Errorf("%s: grown is %t", key, grown)
		}
	}
	count := 0
	n.all(func(string, int) bool { count++; return true })
	if count != 3 {
		t.Errorf("%d keys, want 3", count)
	}
	for _, key := range []string{"b", "a", "c"} {
		n = n.without(42, key, 0)
	}
	if n != nil {
		t.Error("something is left")
	}
}
