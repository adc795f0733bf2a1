package correlate

import "container/heap"

// never is before every time that is believed, and forever after; sums with them do not overflow.
const (
	never   = -1 << 60
	forever = 1 << 60
)

// node is something that wants to be looked at when the watermark is beyond due.
type node struct {
	due   int64
	index int // in the heap; -1 if it is not there
	group *group
	tuple *tuple // of a first_seen; nil for the group itself
}

// schedule is a heap of nodes by due.
type schedule []*node

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].due < s[j].due }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

// Push is for container/heap.
func (s *schedule) Push(x any) {
	n := x.(*node)
	n.index = len(*s)
	*s = append(*s, n)
}

// Pop is for container/heap.
func (s *schedule) Pop() any {
	n := (*s)[len(*s)-1]
	(*s)[len(*s)-1] = nil
	*s = (*s)[:len(*s)-1]
	n.index = -1
	return n
}

// set moves n to its due time, or out if that is forever.
func (s *schedule) set(n *node, due int64) {
	switch {
	case due >= forever:
		s.remove(n)
	case n.index < 0:
		n.due = due
		heap.Push(s, n)
	case n.due != due:
		n.due = due
		heap.Fix(s, n.index)
	}
}

func (s *schedule) remove(n *node) {
	if n.index >= 0 {
		heap.Remove(s, n.index)
	}
}

// next takes out a node that is due before the watermark; nil if there is none.
func (s *schedule) next(watermark int64) *node {
	if len(*s) == 0 || (*s)[0].due >= watermark {
		return nil
	}
	return heap.Pop(s).(*node)
}
