package context

// A Handle saves looking up an object of a cluster by its key again. It is for one key; its zero value is ready. It is not
// safe for concurrent use.
type Handle struct {
	cluster uint64 // its id: a handle does not keep a cluster that was removed
	object  *object
}

// ID names the cluster among all that the store ever had.
func (c *Cluster) ID() uint64 { return c.id }

// FindBy is Find for a key that is asked for again and again, which h is for.
func (c *Cluster) FindBy(h *Handle, key Key, at int64) *Item {
	if c == nil || key.Kind >= kinds || key.Kind.RBAC() {
		return c.Find(key, at)
	}
	// An object that was forgotten is empty; there may be another of that key.
	if h.object == nil || h.cluster != c.id || len(h.object.items()) == 0 {
		h.cluster, h.object = c.id, c.tables[key.Kind].get(key)
		if h.object == nil {
			return nil
		}
	}
	return h.object.at(at)
}

// FindBy is Cluster.FindBy of the cluster: at may be any time.
func (s *State) FindBy(h *Handle, key Key, at int64) *Item { return s.home.FindBy(h, key, at) }
