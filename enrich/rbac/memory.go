package rbac

// memory remembers values by key, at most so many. It forgets those that were not asked for while that many others were:
// what is new goes to the young half, what is asked for goes back there, and when the young half is full it becomes the
// old one and the one before is dropped. So no look-up ever finds everything gone at once.
type memory[K comparable, V any] struct {
	young, old map[K]V
	half       int
}

func newMemory[K comparable, V any](most int) memory[K, V] {
	return memory[K, V]{young: map[K]V{}, half: most / 2}
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
		m.young, m.old = m.recycled(), m.young
	}
	m.young[key] = v
}

// recycled returns an empty map, in the memory of the one that is dropped.
func (m *memory[K, V]) recycled() map[K]V {
	if m.old == nil {
		return map[K]V{}
	}
	clear(m.old)
	return m.old
}

func (m *memory[K, V]) len() int { return len(m.young) + len(m.old) }

// texts is a memory by text, which is only copied to be remembered.
type texts[V any] struct{ memory[string, V] }

func newTexts[V any](most int) texts[V] { return texts[V]{newMemory[string, V](most)} }

func (m *texts[V]) get(key []byte) (v V, ok bool) {
	if v, ok = m.young[string(key)]; !ok {
		if v, ok = m.old[string(key)]; ok {
			m.put(string(key), v)
		}
	}
	return v, ok
}

func (m *texts[V]) add(key []byte, v V) { m.put(string(key), v) }
