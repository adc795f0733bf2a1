package identity

// memory remembers values by key, about as many as it is told. What was not asked for while as many others came is
// forgotten, so no look-up finds everything gone at once.
type memory[K comparable, V any] struct {
	young, old map[K]V
	half       int
	keep       func(K) K // makes a key that stays valid; nil if all do
}

func newMemory[K comparable, V any](most int, keep func(K) K) memory[K, V] {
	return memory[K, V]{young: map[K]V{}, old: map[K]V{}, half: most / 2, keep: keep}
}

func (m *memory[K, V]) get(key K) (v V, ok bool) {
	if v, ok = m.young[key]; !ok {
		if v, ok = m.old[key]; ok {
			m.put(key, v)
		}
	}
	return v, ok
}

func (m *memory[K, V]) put(key K, v V) {
	if len(m.young) >= m.half {
		clear(m.old)
		m.young, m.old = m.old, m.young
	}
	if m.keep != nil {
		key = m.keep(key)
	}
	m.young[key] = v
}

// texts is a memory by text, which is only copied to be remembered.
type texts[V any] struct{ memory[string, V] }

func newTexts[V any](most int) texts[V] { return texts[V]{newMemory[string, V](most, nil)} }

func (m *texts[V]) get(key []byte) (v V, ok bool) {
	if v, ok = m.young[string(key)]; !ok {
		if v, ok = m.old[string(key)]; ok {
			m.put(string(key), v)
		}
	}
	return v, ok
}
