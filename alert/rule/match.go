package rule

import (
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// value is one value of a field: its text, or the fact that it is an object.
type value struct {
	text   string
	number bool // text is a number, not a string of digits
	object bool
	time   bool // text is the number of µs since 1970, of a column of times
}

// matcher decides whether a value satisfies one of the matches of a test. It is immutable.
type matcher struct {
	any        bool                // everything satisfies
	star       bool                // every present value satisfies, as the text * does
	folded     map[string]struct{} // texts to be equal to, but for case
	cased      map[string]struct{} // texts to be equal to
	foldGlobs  []glob
	casedGlobs []glob
	equals     []ir.Number
	compares   []ir.Compare
	regexps    []*regexp.Regexp
	networks   []netip.Prefix
	others     []predicate // of the rarer kinds
}

// predicate is a match of one of the rarer kinds.
type predicate interface{ satisfiedBy(v value) bool }

func newMatcher(matches []ir.Match) *matcher {
	m := &matcher{folded: map[string]struct{}{}, cased: map[string]struct{}{}}
	for _, match := range matches {
		switch match := match.(type) {
		case ir.Any:
			m.any = true
		case ir.Text:
			m.addText(match)
		case ir.Equal:
			m.equals = append(m.equals, match.Number)
			m.cased[match.Number.String()] = struct{}{}
		case ir.Compare:
			m.compares = append(m.compares, match)
		case ir.Regexp:
			m.regexps = append(m.regexps, match.Regexp)
		case ir.Network:
			m.networks = append(m.networks, match.Prefix)
		case ir.Order:
			m.others = append(m.others, order(match))
		case ir.Glob:
			m.others = append(m.others, compileFnmatch(match.Pattern, match.Fold))
		case ir.PathPrefix:
			m.others = append(m.others, compilePathPrefix(match.Path))
		case ir.TimePart:
			m.others = append(m.others, timePart(match))
		}
	}
	return m
}

func (m *matcher) addText(t ir.Text) {
	g := compileGlob(t)
	set, globs := m.folded, &m.foldGlobs
	if t.Cased {
		set, globs = m.cased, &m.casedGlobs
	}
	switch {
	case g.form == globEqual:
		set[g.literal] = struct{}{}
	case g.form == globContains && g.literal == "":
		m.star = true
	default:
		*globs = append(*globs, g)
	}
}

func compileGlob(t ir.Text) glob {
	var shape strings.Builder // L for a literal, otherwise the wildcard
	var literal string
	for _, p := range t.Parts {
		shape.WriteByte("L?*"[p.Wild])
		literal += p.Literal
	}
	if !t.Cased {
		literal = string(appendFold(nil, literal))
	}
	switch shape.String() {
	case "", "L":
		return glob{form: globEqual, literal: literal}
	case "L*":
		return glob{form: globPrefix, literal: literal}
	case "*L":
		return glob{form: globSuffix, literal: literal}
	case "*", "*L*":
		return glob{form: globContains, literal: literal}
	}
	g := glob{form: globPattern}
	for _, p := range t.Parts {
		text := p.Literal
		if !t.Cased {
			text = string(appendFold(nil, text))
		}
		switch p.Wild {
		case ir.One:
			g.pattern = append(g.pattern, globToken{kind: globOne})
		case ir.Many:
			g.pattern = append(g.pattern, globToken{kind: globMany})
		case ir.NotWild:
			for _, b := range []byte(text) {
				g.pattern = append(g.pattern, globToken{b: b})
			}
		}
	}
	return g
}

// emptyLiteral reports whether the text ” is asked for, as opposed to matched by chance.
func (m *matcher) emptyLiteral() bool {
	_, folded := m.folded[""]
	_, cased := m.cased[""]
	return folded || cased
}

// match reports whether v satisfies one of the matches. fold is scratch memory.
func (m *matcher) match(v value, fold *[]byte) bool {
	if m.any || m.star {
		return true
	}
	if v.object {
		return false
	}
	if m.matchText(v.text, fold) || m.numeric(v) && m.matchNumber(v) || len(m.networks) > 0 && m.matchNetwork(v.text) {
		return true
	}
	for _, p := range m.others {
		if p.satisfiedBy(v) {
			return true
		}
	}
	return false
}

// numeric reports whether a number could satisfy m that no text does.
func (m *matcher) numeric(v value) bool { return len(m.equals) > 0 && v.number || len(m.compares) > 0 }

func (m *matcher) matchText(text string, fold *[]byte) bool {
	if len(m.cased) > 0 {
		if _, ok := m.cased[text]; ok {
			return true
		}
	}
	for i := range m.casedGlobs {
		if m.casedGlobs[i].match(text) {
			return true
		}
	}
	if (len(m.folded) > 0 || len(m.foldGlobs) > 0) && m.matchFolded(text, fold) {
		return true
	}
	for _, re := range m.regexps {
		if re.MatchString(text) {
			return true
		}
	}
	return false
}

func (m *matcher) matchFolded(text string, fold *[]byte) bool {
	text = folded(text, fold)
	if _, ok := m.folded[text]; ok {
		return true
	}
	for i := range m.foldGlobs {
		if m.foldGlobs[i].match(text) {
			return true
		}
	}
	return false
}

func (m *matcher) matchNumber(v value) bool {
	n, ok := parseNumber(v.text)
	if !ok {
		return false
	}
	if v.number {
		for _, want := range m.equals {
			if compareNumbers(n, want) == 0 {
				return true
			}
		}
	}
	for _, c := range m.compares {
		if related(compareNumbers(n, c.Number), c.Relation) {
			return true
		}
	}
	return false
}

// related reports whether two things that compare so, as cmp.Compare tells it, stand in the relation.
func related(order int, r ir.Relation) bool {
	switch r {
	case ir.Less:
		return order < 0
	case ir.LessOrEqual:
		return order <= 0
	case ir.Greater:
		return order > 0
	case ir.GreaterOrEqual:
		return order >= 0
	case ir.Same:
		return order == 0
	case ir.Different:
		return order != 0
	case ir.Contains, ir.StartsWith, ir.EndsWith: // of texts only
	}
	return false
}

// parseNumber reads text as JSON writes numbers.
func parseNumber(text string) (ir.Number, bool) {
	// ParseFloat knows Inf, hexadecimals and underscores, JSON does not; what is longer than
	// this is no number that anybody compares with.
	if len(text) == 0 || len(text) > 400 {
		return ir.Number{}, false
	}
	for i := range len(text) {
		switch c := text[i]; {
		case c >= '0' && c <= '9', c == '-', i > 0 && (c == '+' || c == '.' || c|0x20 == 'e'):
		default:
			return ir.Number{}, false
		}
	}
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return ir.Number{Int: i, Float: float64(i)}, true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return ir.Number{}, false
	}
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return ir.Number{Int: int64(f), Float: f}, true
	}
	return ir.Number{Float: f, IsFloat: true}, true
}

func compareNumbers(a, b ir.Number) int {
	if !a.IsFloat && !b.IsFloat {
		switch {
		case a.Int < b.Int:
			return -1
		case a.Int > b.Int:
			return 1
		}
		return 0
	}
	switch {
	case a.Float < b.Float:
		return -1
	case a.Float > b.Float:
		return 1
	}
	return 0
}

func (m *matcher) matchNetwork(text string) bool {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return false
	}
	addr = addr.Unmap().WithZone("")
	for _, n := range m.networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}
