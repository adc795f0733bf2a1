package rule

import (
	"regexp/syntax"
	"slices"
	"unicode/utf8"
)

// finder tells which of the tests of a column a text satisfies, at a cost that hardly depends on
// how many they are: whole texts are looked up, all literals are searched in one pass, and only what is neither
// is tried one by one. It is immutable.
type finder struct {
	tests  []*test
	always []int32            // satisfied by every text
	folded map[string][]int32 // by the fold of the whole text
	cased  map[string][]int32 // by the whole text
	inFold *literals          // over the fold of the text
	inCase *literals          // over the text
	rest   []int32            // tried one by one
}

// finding is the memory that a finder needs for one text.
type finding struct {
	seen []uint32 // by test: the run in which it was tried or found
	run  uint32
	hits []int32
	fold []byte // of the text
	buf  []byte // of the matchers
}

func newFinder(tests []*test) *finder {
	f := &finder{tests: tests, folded: map[string][]int32{}, cased: map[string][]int32{}}
	var folded, cased []atom
	for i, t := range tests {
		index, m := int32(i), t.matcher
		if m.any || m.star {
			f.always = append(f.always, index)
			continue
		}
		inFold, inCase, ok := m.atoms(index)
		if !ok {
			f.rest = append(f.rest, index)
			continue
		}
		folded, cased = append(folded, inFold...), append(cased, inCase...)
		for text := range m.folded {
			f.folded[text] = append(f.folded[text], index)
		}
		for text := range m.cased {
			f.cased[text] = append(f.cased[text], index)
		}
	}
	f.inFold, f.inCase = newLiterals(folded), newLiterals(cased)
	return f
}

// atoms returns literals one of which every text has that satisfies m and is not equal to a whole text of
// m; false if there are none.
func (m *matcher) atoms(test int32) (folded, cased []atom, ok bool) {
	if len(m.compares) > 0 || len(m.networks) > 0 || len(m.others) > 0 {
		return nil, nil, false
	}
	for _, g := range m.foldGlobs {
		at, ok := g.atom(test)
		if !ok {
			return nil, nil, false
		}
		folded = append(folded, at)
	}
	for _, g := range m.casedGlobs {
		at, ok := g.atom(test)
		if !ok {
			return nil, nil, false
		}
		cased = append(cased, at)
	}
	for _, re := range m.regexps {
		parsed, err := syntax.Parse(re.String(), syntax.Perl)
		if err != nil {
			return nil, nil, false
		}
		literal, fold := requiredLiteral(parsed.Simplify())
		at := atom{literal: literal, form: globContains, test: test, verify: true}
		switch {
		case literal == "":
			return nil, nil, false
		case fold:
			at.literal = string(appendFold(nil, literal))
			folded = append(folded, at)
		default:
			cased = append(cased, at)
		}
	}
	return folded, cased, true
}

func (g *glob) atom(test int32) (atom, bool) {
	if g.form != globPattern {
		return atom{literal: g.literal, form: g.form, test: test}, g.literal != ""
	}
	var best, run []byte
	for _, token := range g.pattern {
		if token.kind != globByte {
			run = run[:0]
			continue
		}
		if run = append(run, token.b); len(run) > len(best) {
			best = append(best[:0], run...)
		}
	}
	return atom{literal: string(best), form: globContains, test: test, verify: true}, len(best) > 0
}

// requiredLiteral returns a text that everything has in which re is found, and whether up to case; empty
// if none is known.
func requiredLiteral(re *syntax.Regexp) (literal string, fold bool) {
	switch re.Op {
	case syntax.OpLiteral:
		if slices.Contains(re.Rune, utf8.RuneError) { // stands for bad bytes, too
			return "", false
		}
		return string(re.Rune), re.Flags&syntax.FoldCase != 0
	case syntax.OpCapture, syntax.OpPlus:
		return requiredLiteral(re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			if l, f := requiredLiteral(sub); len(l) > len(literal) {
				literal, fold = l, f
			}
		}
		return literal, fold
	default:
		return "", false
	}
}

// find returns the indexes of the tests that text satisfies. They are valid until the next call.
func (f *finder) find(text string, s *finding) []int32 {
	if len(s.seen) < len(f.tests) {
		s.seen = make([]uint32, len(f.tests))
	}
	if s.run++; s.run == 0 { // begins anew after 2³² texts
		clear(s.seen)
		s.run = 1
	}
	s.hits = append(s.hits[:0], f.always...)
	s.hits = append(s.hits, f.cased[text]...)
	fold := text
	if len(f.folded) > 0 || f.inFold != nil {
		fold = folded(text, &s.fold)
		s.hits = append(s.hits, f.folded[fold]...)
	}
	visit := func(at *atom) {
		if s.seen[at.test] == s.run {
			return
		}
		s.seen[at.test] = s.run
		if !at.verify || f.tests[at.test].matcher.match(value{text: text}, &s.buf) {
			s.hits = append(s.hits, at.test)
		}
	}
	if f.inFold != nil {
		f.inFold.scan(fold, visit)
	}
	if f.inCase != nil {
		f.inCase.scan(text, visit)
	}
	for _, i := range f.rest {
		if f.tests[i].matcher.match(value{text: text}, &s.buf) {
			s.hits = append(s.hits, i)
		}
	}
	return s.hits
}
