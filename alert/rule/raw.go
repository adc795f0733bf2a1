package rule

import (
	"bytes"
	"slices"

	"github.com/auditmill/auditmill/internal/jsonscan"
)

// pathNode is a node of the tree of all paths that the rules read from original bytes.
type pathNode struct {
	parent   *pathNode
	index    int      // among the nodes of the tree
	keys     []string // of the children, in their order
	children []*pathNode
}

// below returns the node at a path, which it makes if there is none.
func (s *scope) below(path []string) *pathNode {
	n := s.paths
	for _, key := range path {
		if i := slices.Index(n.keys, key); i >= 0 {
			n = n.children[i]
			continue
		}
		child := &pathNode{parent: n, index: s.npaths}
		s.npaths++
		n.keys, n.children = append(n.keys, key), append(n.children, child)
		n = child
	}
	return n
}

// leaf is what stands at the end of a path: the text of a value, or why there is none.
type leaf struct {
	state leafState
	text  []byte // JSON, of leafValue
}

type leafState uint8

const (
	leafValue leafState = iota
	leafMissing
	leafNull
	leafEmpty // an empty array
)

// maxNested bounds how many arrays directly inside one another are looked through; a path
// takes a deeper one for a value like an object. Kubernetes nests none.
const maxNested = 8

// rawEvent holds what the paths lead to in one event. Each object is walked when a test first asks for
// something in it, once and for all rules. The memory is used again.
type rawEvent struct {
	nodes []place
	spans [][]byte // stack: of each object being walked, the last value of each wanted key
	fault error
}

// place is what stands at a node.
type place struct {
	texts  [][]byte // JSON, arrays as they are; nil is a missing value
	opened bool     // the places of the children are known
	leaves []leaf   // texts with arrays looked through, if seen
	seen   bool
}

// begin makes r an event of the paths of s.
func (r *rawEvent) begin(s *scope, data []byte) {
	for len(r.nodes) < s.npaths {
		r.nodes = append(r.nodes, place{})
	}
	for i := range r.nodes {
		r.nodes[i].opened, r.nodes[i].seen = false, false
	}
	r.fault = nil
	root := &r.nodes[s.paths.index]
	root.texts = append(root.texts[:0], nil)
	if i := jsonscan.SkipSpace(data, 0); i < len(data) {
		root.texts[0] = data[i:]
	}
}

// texts returns what stands at n, arrays as they are; nil is a missing value.
func (r *rawEvent) texts(n *pathNode) [][]byte {
	if n.parent != nil && !r.nodes[n.parent.index].opened {
		r.open(n.parent)
	}
	return r.nodes[n.index].texts
}

// leaves returns what stands at n, with arrays looked through.
func (r *rawEvent) leaves(n *pathNode) []leaf {
	p := &r.nodes[n.index]
	if !p.seen {
		p.seen, p.leaves = true, p.leaves[:0]
		for _, text := range r.texts(n) {
			r.each(text, 0, func(l leaf) { p.leaves = append(p.leaves, l) })
		}
	}
	return p.leaves
}

// open finds the places of the children of n.
func (r *rawEvent) open(n *pathNode) {
	texts := r.texts(n)
	r.nodes[n.index].opened = true
	for _, child := range n.children {
		c := &r.nodes[child.index]
		c.texts = c.texts[:0]
	}
	for _, text := range texts {
		r.each(text, 0, func(l leaf) { r.object(n, l) })
	}
}

// each calls visit for a text or, if it is an array, for its members.
func (r *rawEvent) each(text []byte, nested int, visit func(leaf)) {
	switch {
	case text == nil:
		visit(leaf{state: leafMissing})
	case text[0] == 'n':
		visit(leaf{state: leafNull})
	case text[0] != '[' || nested >= maxNested:
		visit(leaf{text: text})
	default:
		it, members := jsonscan.Array(text), 0
		for it.Next() {
			members++
			r.each(it.Value(), nested+1, visit)
		}
		r.check(it.Err())
		if members == 0 {
			visit(leaf{state: leafEmpty})
		}
	}
}

// object adds what a leaf at n holds to the places of its children.
func (r *rawEvent) object(n *pathNode, l leaf) {
	r.spans = r.spans[:0]
	for range n.keys {
		r.spans = append(r.spans, nil)
	}
	if l.state == leafValue && l.text[0] == '{' {
		it := jsonscan.Object(l.text)
		for it.Next() {
			if i := n.find(it.Key()); i >= 0 {
				r.spans[i] = it.Value() // the last of duplicates, as the API server reads them
			}
		}
		r.check(it.Err())
	}
	for i, child := range n.children {
		c := &r.nodes[child.index]
		c.texts = append(c.texts, r.spans[i])
	}
}

func (r *rawEvent) check(err error) {
	if err != nil && r.fault == nil {
		r.fault = err
	}
}

func (n *pathNode) find(key []byte) int {
	for i, want := range n.keys {
		if string(key) == want {
			return i
		}
	}
	if bytes.IndexByte(key, '\\') >= 0 {
		for i, want := range n.keys {
			if jsonscan.KeyIs(key, want) {
				return i
			}
		}
	}
	return -1
}

// jsonValue returns the value that JSON text is. buf is scratch memory for unescaping.
func jsonValue(text []byte, buf *[]byte) value {
	switch text[0] {
	case '"':
		inner := text[1 : len(text)-1]
		if jsonscan.Plain(inner) {
			return value{text: alias(inner)}
		}
		*buf, _ = jsonscan.AppendString((*buf)[:0], text)
		return value{text: alias(*buf)}
	case '{', '[':
		return value{object: true}
	case 't', 'f', 'n':
		return value{text: alias(text)}
	}
	return value{text: alias(text), number: true}
}

// eachLeaf calls visit for every string, number and boolean of data, keys left out, until it returns
// true. It goes over the text once, however deep the values nest.
func eachLeaf(data []byte, visit func(text []byte) bool) (found bool, err error) {
	for i := 0; i < len(data); {
		switch c := data[i]; {
		case c == '"' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z':
			end, err := jsonscan.Skip(data, i)
			if err != nil {
				return false, err
			}
			if c == '"' {
				if after := jsonscan.SkipSpace(data, end); after < len(data) && data[after] == ':' {
					i = after + 1
					continue
				}
			}
			if c != 'n' && visit(data[i:end]) {
				return true, nil
			}
			i = end
		default:
			i++
		}
	}
	return false, nil
}
