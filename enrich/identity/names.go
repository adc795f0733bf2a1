package identity

import (
	"strings"
	"unsafe"
)

// join returns a/b without allocating: nearly every event has an actor of this form. When
// names moves, earlier strings keep the old memory alive.
func (c *Classifier) join(a, b string) string {
	from := len(c.names)
	c.names = append(append(append(c.names, a...), '/'), b...)
	return c.since(from)
}

// fold returns an e-mail address in lower case: identity providers write the same one differently, and none tells two
// people apart by it. Only ASCII letters change; what else a mail system takes for equal is its own affair.
func (c *Classifier) fold(address string) string {
	if !strings.ContainsFunc(address, func(r rune) bool { return 'A' <= r && r <= 'Z' }) {
		return address
	}
	from := len(c.names)
	c.names = append(c.names, address...)
	for i := from; i < len(c.names); i++ {
		if 'A' <= c.names[i] && c.names[i] <= 'Z' {
			c.names[i] += 'a' - 'A'
		}
	}
	return c.since(from)
}

func (c *Classifier) since(from int) string {
	return unsafe.String(unsafe.SliceData(c.names[from:]), len(c.names)-from)
}
