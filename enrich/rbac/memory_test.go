package rbac

import (
	"strconv"
	"testing"
)

func TestMemoryBound(t *testing.T) {
	m := newTexts[int](100)
	for i := range 10_000 {
		if v, ok := m.get([]byte("kept")); i > 0 && (!ok || v != -1) {
			t.Fatalf("after %d others, what is always asked for is forgotten", i)
		} else if i == 0 {
			m.add([]byte("kept"), -1)
		}
		m.add([]byte(strconv.Itoa(i)), i)
		if v, ok := m.get([]byte(strconv.Itoa(i - 20))); i >= 20 && (!ok || v != i-20) {
			t.Fatalf("at %d, the one 20 before is forgotten", i)
		}
		if n := m.len(); n > 100 {
			t.Fatalf("%d are remembered, want 100 at most", n)
		}
	}
	if _, ok := m.get([]byte("0")); ok {
		t.Error("the first is not forgotten")
	}
}
