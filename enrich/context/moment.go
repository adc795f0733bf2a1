package context

// A Moment stands for what is known of a cluster. As long as Cluster.Moment returns the same pointer, answers for times
// from Newest on are the same, whatever is asked.
type Moment struct {
	Newest int64 // the latest time from which on something was ever said to be so, µs since 1970
}

// Moment returns the present one, nil for a nil Cluster. Ask for it before what is to be remembered with it. It takes no
// lock.
func (c *Cluster) Moment() *Moment {
	if c == nil {
		return nil
	}
	return c.now.Load()
}

// passed begins another Moment. It comes after all else: who has the new Moment must see what is new. mu is held.
func (c *Cluster) passed() {
	c.lost = false
	c.now.Store(&Moment{Newest: c.newest})
}
