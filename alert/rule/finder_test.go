package rule

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// A finder must say of each text what the matchers of its tests say one by one.
func FuzzFinder(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(seed, "a\u212aAb/x")
	}
	f.Fuzz(func(t *testing.T, seed uint64, extra string) {
		r := rand.New(rand.NewPCG(seed, 2))
		pick := func(from ...string) string { return from[r.IntN(len(from))] }
		text := func() string {
			s := ""
			for range r.IntN(5) {
				s += pick("a", "b", "ab", "A", "B", "k", "\u212a", "/x", "é", "É", "\xff", extra)
			}
			return s
		}
		var tests []*test
		for range 1 + r.IntN(30) {
			var matches []ir.Match
			for range 1 + r.IntN(3) {
				literal, many, one := ir.Part{Literal: text()}, ir.Part{Wild: ir.Many}, ir.Part{Wild: ir.One}
				shapes := [][]ir.Part{
					{literal}, {literal, many}, {many, literal}, {many, literal, many}, {literal, many, literal}, {one, literal}, {one}, {},
				}
				matches = append(matches, ir.Text{Parts: shapes[r.IntN(len(shapes))], Cased: r.IntN(2) == 0})
				switch r.IntN(10) {
				case 0:
					matches = append(matches, ir.Regexp{Regexp: regexp.MustCompile(pick("^a", "(?i)AB+", "a(b|k)", "x$", "[ab]k", "(/x){2}", "é.", "\ufffd"))})
				case 1:
					matches = append(matches, ir.Order{Relation: ir.Less, Text: text()})
				case 2:
					matches = append(matches, ir.Any{})
				case 3:
					matches = append(matches, ir.Equal{Number: ir.Number{Int: 1, Float: 1}})
				}
			}
			tests = append(tests, &test{matcher: newMatcher(matches)})
		}
		finder := newFinder(tests)
		var state finding
		for _, s := range []string{"", "1", text(), text(), text(), text() + extra, extra} {
			var buf []byte
			var wants []int32
			for i, test := range tests {
				if test.matcher.match(value{text: s}, &buf) {
					wants = append(wants, int32(i))
				}
			}
			got := slices.Clone(finder.find(s, &state))
			slices.Sort(got)
			got = slices.Compact(got)
			if d := cmp.Diff(wants, got, cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("%q (-matchers +finder):\n%s", s, d)
			}
		}
	})
}
