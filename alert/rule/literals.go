package rule

import (
	"encoding/binary"
	"strings"
	"unsafe"
)

// literals finds all of many literals in a text in one pass: every four bytes of the text are
// looked up in a filter that few pass by chance, and what passes is compared. It is immutable.
type literals struct {
	inside filtered         // literals that may stand anywhere
	first  map[uint32][]cut // those that a text begins with, by their first four bytes
	last   map[uint32][]cut // those that a text ends with, by their last
	short  []atom           // those of less than four bytes
}

// filtered are literals by four bytes of each.
type filtered struct {
	filter [1 << 10]uint64 // one bit for each hash
	cuts   map[uint32][]cut
}

// cut is an atom, and where in its literal the four bytes stand.
type cut struct {
	atom
	at int
}

// atom is a literal that tells of a test.
type atom struct {
	literal string
	form    globForm // globContains, globPrefix or globSuffix
	test    int32    // its index in the finder
	verify  bool     // the literal is necessary only: the test's matcher must decide
}

const gram = 4

func gramOf(s string, at int) uint32 {
	return binary.LittleEndian.Uint32(unsafe.Slice(unsafe.StringData(s[at:]), gram))
}

func gramHash(g uint32) uint32 { return g * 0x9e3779b1 >> 16 }

// newLiterals returns nil if there are no atoms.
func newLiterals(atoms []atom) *literals {
	if len(atoms) == 0 {
		return nil
	}
	l := &literals{first: map[uint32][]cut{}, last: map[uint32][]cut{}, inside: filtered{cuts: map[uint32][]cut{}}}
	for _, a := range atoms {
		switch end := len(a.literal) - gram; {
		case end < 0:
			l.short = append(l.short, a)
		case a.form == globPrefix:
			g := gramOf(a.literal, 0)
			l.first[g] = append(l.first[g], cut{a, 0})
		case a.form == globSuffix:
			g := gramOf(a.literal, end)
			l.last[g] = append(l.last[g], cut{a, end})
		default:
			l.inside.add(a)
		}
	}
	return l
}

// add chooses the four bytes of a literal that tell it best from those before it.
func (f *filtered) add(a atom) {
	best := len(a.literal) - gram // the ends of names differ more than their beginnings
	for at := best; at >= 0; at-- {
		if len(f.cuts[gramOf(a.literal, at)]) < len(f.cuts[gramOf(a.literal, best)]) {
			best = at
		}
	}
	g := gramOf(a.literal, best)
	f.cuts[g] = append(f.cuts[g], cut{a, best})
	h := gramHash(g)
	f.filter[h>>6] |= 1 << (h & 63)
}

// scan calls visit for each atom that text has in its form; more than once if it has it more than once.
func (l *literals) scan(text string, visit func(*atom)) {
	for i := range l.short {
		if a := &l.short[i]; a.in(text) {
			visit(a)
		}
	}
	if len(text) < gram {
		return
	}
	end := len(text) - gram
	if len(l.first) > 0 {
		l.compare(l.first[gramOf(text, 0)], text, 0, visit)
	}
	if len(l.last) > 0 {
		l.compare(l.last[gramOf(text, end)], text, end, visit)
	}
	f := &l.inside
	if len(f.cuts) == 0 {
		return
	}
	data := unsafe.Slice(unsafe.StringData(text), len(text))
	for i := 0; i+gram <= len(data); i++ {
		g := binary.LittleEndian.Uint32(data[i : i+gram : len(data)])
		if h := gramHash(g); f.filter[h>>6&1023]>>(h&63)&1 != 0 {
			l.compare(f.cuts[g], text, i, visit)
		}
	}
}

// compare visits the atoms whose four bytes stand at text[i].
func (l *literals) compare(cuts []cut, text string, i int, visit func(*atom)) {
	for j := range cuts {
		c := &cuts[j]
		from := i - c.at
		if from < 0 || !strings.HasPrefix(text[from:], c.literal) {
			continue
		}
		if c.form == globContains || c.form == globPrefix || from+len(c.literal) == len(text) {
			visit(&c.atom)
		}
	}
}

func (a *atom) in(text string) bool {
	switch a.form {
	case globPrefix:
		return strings.HasPrefix(text, a.literal)
	case globSuffix:
		return strings.HasSuffix(text, a.literal)
	default:
		return strings.Contains(text, a.literal)
	}
}
