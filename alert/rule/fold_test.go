package rule

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

func TestIsFolded(t *testing.T) {
	for c := range 256 {
		for at := range 20 {
			text := []byte(strings.Repeat("z", 20))
			text[at] = byte(c)
			want := c < 0x80 && (c < 'A' || c > 'Z')
			if got := isFolded(string(text)); got != want {
				t.Fatalf("byte %#x at %d: %v", c, at, got)
			}
		}
	}
}

func FuzzFold(f *testing.F) {
	for _, pair := range [][2]string{{"Kelvin", "\u212aELVIN"}, {"ſ", "S"}, {"ß", "ẞ"}, {"Σ", "ς"}, {"\xff", "\xfe"}, {"", "a"}} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		folded := string(appendFold(nil, a)) == string(appendFold(nil, b))
		if want := strings.EqualFold(a, b); folded != want && utf8.ValidString(a) && utf8.ValidString(b) {
			t.Errorf("%q and %q: folds are equal: %v, EqualFold: %v", a, b, folded, want)
		}
		if isFolded(a) && string(appendFold(nil, a)) != a {
			t.Errorf("%q is not its fold", a)
		}
	})
}

// The pattern *a*a*…b takes exponential time in a matcher that goes back to every star.
func TestGlobIsPolynomial(t *testing.T) {
	g := compileGlob(ir.Text{Parts: append(repeat(ir.Part{Wild: ir.Many}, ir.Part{Literal: "a"}, 50), ir.Part{Wild: ir.Many}, ir.Part{Literal: "b"})})
	if g.match(strings.Repeat("a", 10_000)) {
		t.Error("matches")
	}
}

func repeat(a, b ir.Part, n int) []ir.Part {
	var parts []ir.Part
	for range n {
		parts = append(parts, a, b)
	}
	return parts
}

func FuzzGlob(f *testing.F) {
	f.Add("a*b?c", "aXbYc")
	f.Add("*é?", "xÉ\n")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if !utf8.ValidString(pattern) || !utf8.ValidString(text) || len(pattern) > 100 {
			return
		}
		var parts []ir.Part
		expression := "(?s)^"
		for _, r := range pattern {
			switch r {
			case '*':
				parts, expression = append(parts, ir.Part{Wild: ir.Many}), expression+".*"
			case '?':
				parts, expression = append(parts, ir.Part{Wild: ir.One}), expression+"."
			default:
				parts, expression = append(parts, ir.Part{Literal: string(r)}), expression+regexp.QuoteMeta(string(r))
			}
		}
		g := compileGlob(ir.Text{Parts: parts, Cased: true})
		if got, want := g.match(text), regexp.MustCompile(expression+"$").MatchString(text); got != want {
			t.Errorf("%q against %q: %v, want %v", pattern, text, got, want)
		}
	})
}
