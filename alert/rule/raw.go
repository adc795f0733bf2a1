package rule

import (
	"bytes"
	"slices"

	"github.com/auditmill/auditmill/internal/jsonscan"
)

// pathNode is a node of the tree of all paths that the rules read from original bytes.
type pathNode struct {
	keys     []string // of the children, in their order
	children []*pathNode
	path     int // index of the path that ends here, -1 if none does
	array    int // index among the arrays whose members are looked at one by one, else -1
}

func newPathNode() *pathNode { return &pathNode{path: -1, array: -1} }

func (n *pathNode) below(keys []string) *pathNode {
	for _, key := range keys {
		n = n.child(key)
	}
	return n
}

func (n *pathNode) child(key string) *pathNode {
	if i := slices.Index(n.keys, key); i >= 0 {
		return n.children[i]
	}
	child := newPathNode()
	n.keys, n.children = append(n.keys, key), append(n.children, child)
	return child
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

// rawEvent holds what the paths lead to in one event. It is filled once per event, for
// all rules, and reuses its memory.
type rawEvent struct {
	leaves [][]leaf   // by path
	arrays [][][]byte // by array: each text that stands there
	spans  [][]byte   // stack: of each object being walked, the last value of each wanted key
	fault  error
}

// read walks data and collects the leaves of all paths of s.
func (r *rawEvent) read(s *scope, data []byte) {
	r.leaves, r.arrays = emptied(r.leaves, s.npaths), emptied(r.arrays, s.narrays)
	r.spans, r.fault = r.spans[:0], nil
	i := jsonscan.SkipSpace(data, 0)
	if i == len(data) {
		r.missing(s.paths)
		return
	}
	r.value(s.paths, data[i:], 0)
}

// emptied returns n empty lists, made of those of lists.
func emptied[T any](lists [][]T, n int) [][]T {
	for len(lists) < n {
		lists = append(lists, nil)
	}
	for i := range lists {
		lists[i] = lists[i][:0]
	}
	return lists
}

func (r *rawEvent) value(n *pathNode, data []byte, nested int) {
	if n.array >= 0 && nested == 0 && data[0] == '[' {
		r.arrays[n.array] = append(r.arrays[n.array], data)
		if n.path < 0 && len(n.keys) == 0 {
			return
		}
	}
	switch {
	case data[0] == '[' && nested < maxNested:
		r.array(n, data, nested+1)
		return
	case n.path < 0:
	case data[0] == 'n':
		r.add(n.path, leaf{state: leafNull})
	default:
		r.add(n.path, leaf{text: data})
	}
	if len(n.keys) == 0 {
		return
	}
	if data[0] != '{' {
		r.missingBelow(n)
		return
	}
	r.object(n, data)
}

// object collects what stands below n in an object.
func (r *rawEvent) object(n *pathNode, data []byte) {
	base := len(r.spans)
	for range n.keys {
		r.spans = append(r.spans, nil)
	}
	it := jsonscan.Object(data)
	for it.Next() {
		if i := n.find(it.Key()); i >= 0 {
			r.spans[base+i] = it.Value() // the last of duplicates, as the API server reads them
		}
	}
	r.check(it.Err())
	for i, child := range n.children {
		if span := r.spans[base+i]; span != nil {
			r.value(child, span, 0)
		} else {
			r.missing(child)
		}
	}
	r.spans = r.spans[:base]
}

func (r *rawEvent) array(n *pathNode, data []byte, nested int) {
	members := 0
	it := jsonscan.Array(data)
	for it.Next() {
		members++
		r.value(n, it.Value(), nested)
	}
	r.check(it.Err())
	if members > 0 {
		return
	}
	if n.path >= 0 {
		r.add(n.path, leaf{state: leafEmpty})
	}
	r.missingBelow(n)
}

func (r *rawEvent) missing(n *pathNode) {
	if n.path >= 0 {
		r.add(n.path, leaf{state: leafMissing})
	}
	r.missingBelow(n)
}

func (r *rawEvent) missingBelow(n *pathNode) {
	for _, child := range n.children {
		r.missing(child)
	}
}

func (r *rawEvent) add(path int, l leaf) { r.leaves[path] = append(r.leaves[path], l) }

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
