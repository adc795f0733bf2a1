package rule

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// order is a compiled ir.Order.
type order ir.Order

func (o order) satisfiedBy(v value) bool { return related(strings.Compare(v.text, o.Text), o.Relation) }

// fnmatch is a pattern of fnmatch(3) without flags: * crosses slashes, and a set may not be empty.
type fnmatch struct {
	tokens []fnToken
	fold   bool // of ASCII letters
}

// fnToken is one character, a set of them, any one, or any number of any.
type fnToken struct {
	kind   fnKind
	char   rune
	set    []fnRange
	negate bool
}

type fnKind uint8

const (
	fnChar fnKind = iota
	fnSet
	fnOne
	fnMany
)

// fnRange holds the characters from first to last.
type fnRange struct{ first, last rune }

func compileFnmatch(pattern string, fold bool) *fnmatch {
	f := &fnmatch{fold: fold}
	for pattern != "" {
		var token fnToken
		token, pattern = f.token(pattern)
		if token.kind == fnMany && len(f.tokens) > 0 && f.tokens[len(f.tokens)-1].kind == fnMany {
			continue
		}
		f.tokens = append(f.tokens, token)
	}
	return f
}

func (f *fnmatch) token(pattern string) (token fnToken, rest string) {
	c, n := badRune(pattern)
	rest = pattern[n:]
	switch c {
	case '*':
		return fnToken{kind: fnMany}, rest
	case '?':
		return fnToken{kind: fnOne}, rest
	case '[':
		if token, after, ok := f.set(rest); ok {
			return token, after
		}
	case '\\':
		if rest == "" { // fnmatch finds nothing equal to a lone backslash at the end
			return fnToken{kind: fnSet}, ""
		}
		c, n = badRune(rest)
		rest = rest[n:]
	}
	return fnToken{char: f.lower(c)}, rest
}

// set reads a bracket expression after its [; false if it has no end and so is plain text.
func (f *fnmatch) set(text string) (token fnToken, rest string, ok bool) {
	token.kind = fnSet
	if text != "" && (text[0] == '!' || text[0] == '^') {
		token.negate, text = true, text[1:]
	}
	for first := true; text != "" && (first || text[0] != ']'); first = false {
		if class, after := setClass(text); class != nil {
			token.set, text = append(token.set, class...), after
			continue
		}
		var r fnRange
		if r, text, ok = setRange(text); !ok {
			return token, "", false
		}
		token.set = append(token.set, r)
	}
	if text == "" {
		return token, "", false
	}
	return token, text[1:], true
}

// setClass reads a [:class:]; nil if there is none.
func setClass(text string) (class []fnRange, rest string) {
	if text, ok := strings.CutPrefix(text, "[:"); ok {
		if name, after, ok := strings.Cut(text, ":]"); ok {
			return asciiClass(name), after
		}
	}
	return nil, ""
}

// setRange reads one character or two with a - between them.
func setRange(text string) (r fnRange, rest string, ok bool) {
	if r.first, text, ok = setMember(text); !ok {
		return r, "", false
	}
	r.last = r.first
	if len(text) > 1 && text[0] == '-' && text[1] != ']' {
		r.last, text, ok = setMember(text[1:])
	}
	return r, text, ok
}

func setMember(text string) (c rune, rest string, ok bool) {
	c, n := badRune(text)
	if c == '\\' {
		if text = text[n:]; text == "" {
			return 0, "", false
		}
		c, n = badRune(text)
	}
	return c, text[n:], true
}

// asciiClass returns the characters of a class, nil if there is none of that name.
func asciiClass(name string) []fnRange {
	digit, lower, upper := fnRange{'0', '9'}, fnRange{'a', 'z'}, fnRange{'A', 'Z'}
	return map[string][]fnRange{
		"digit": {digit}, "lower": {lower}, "upper": {upper}, "alpha": {lower, upper}, "alnum": {digit, lower, upper},
		"xdigit": {digit, {'a', 'f'}, {'A', 'F'}}, "punct": {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}},
		"space": {{'\t', '\r'}, {' ', ' '}}, "blank": {{'\t', '\t'}, {' ', ' '}},
		"graph": {{'!', '~'}}, "print": {{' ', '~'}}, "cntrl": {{0, 31}, {127, 127}},
	}[name]
}

// badRune decodes the first character; a byte that is no UTF-8 counts as a character of its own.
func badRune(s string) (rune, int) {
	c, n := utf8.DecodeRuneInString(s)
	if c == utf8.RuneError && n == 1 {
		return -rune(s[0]), 1
	}
	return c, n
}

func (f *fnmatch) lower(c rune) rune {
	if f.fold && 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

func (t *fnToken) accepts(c rune, f *fnmatch) bool {
	switch t.kind {
	case fnChar:
		return t.char == f.lower(c)
	case fnOne:
		return true
	case fnSet:
		if t.has(c) || f.fold && (t.has(f.lower(c)) || 'a' <= c && c <= 'z' && t.has(c-'a'+'A')) {
			return !t.negate
		}
		return t.negate
	case fnMany:
	}
	return false
}

func (t *fnToken) has(c rune) bool {
	for _, r := range t.set {
		if r.first <= c && c <= r.last {
			return true
		}
	}
	return false
}

func (f *fnmatch) satisfiedBy(v value) bool { return f.match(v.text) }

// match goes back to the last * only, as matchTokens does.
func (f *fnmatch) match(s string) bool {
	t, i, star, starAt := 0, 0, -1, 0
	for i < len(s) || t < len(f.tokens) {
		if t < len(f.tokens) {
			token := &f.tokens[t]
			if token.kind == fnMany {
				star, starAt = t, i
				t++
				continue
			}
			if i < len(s) {
				if c, n := badRune(s[i:]); token.accepts(c, f) {
					t, i = t+1, i+n
					continue
				}
			}
		}
		if star < 0 || starAt >= len(s) {
			return false
		}
		_, n := badRune(s[starAt:])
		starAt += n
		t, i = star+1, starAt
	}
	return true
}

// pathPrefix is a compiled ir.PathPrefix.
type pathPrefix struct{ components []component }

// component is one of a path: a text, or a pattern.
type component struct {
	text string
	glob *fnmatch
}

func compilePathPrefix(path string) *pathPrefix {
	p := &pathPrefix{}
	for part := range strings.SplitSeq(path, "/") {
		switch {
		case part == "": // slashes at the ends, and doubled ones, mean nothing
		case strings.ContainsAny(part, "?*["):
			p.components = append(p.components, component{glob: compileFnmatch(part, false)})
		default:
			p.components = append(p.components, component{text: part})
		}
	}
	return p
}

func (p *pathPrefix) satisfiedBy(v value) bool {
	rest := v.text
	for _, want := range p.components {
		rest = strings.TrimLeft(rest, "/")
		if rest == "" {
			return false
		}
		part := rest
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			part = rest[:i]
		}
		if want.glob == nil && part != want.text || want.glob != nil && !want.glob.match(part) {
			return false
		}
		rest = rest[len(part):]
	}
	return true
}

// timePart is a compiled ir.TimePart.
type timePart ir.TimePart

func (p timePart) satisfiedBy(v value) bool {
	var t time.Time
	if v.time {
		micros, err := strconv.ParseInt(v.text, 10, 64)
		if err != nil {
			return false
		}
		t = time.UnixMicro(micros).UTC()
	} else {
		var ok bool
		if t, ok = parseTime(v.text); !ok {
			return false
		}
	}
	var n int
	switch p.Part {
	case "minute":
		n = t.Minute()
	case "hour":
		n = t.Hour()
	case "day":
		n = t.Day()
	case "week":
		_, n = t.ISOWeek()
	case "month":
		n = int(t.Month())
	case "year":
		n = t.Year()
	default:
		return false
	}
	return related(compareNumbers(ir.Number{Int: int64(n)}, ir.Number{Int: p.Number}), p.Relation)
}

// parseTime reads the date and the time of an RFC 3339 text as they stand there, whatever the zone.
func parseTime(text string) (time.Time, bool) {
	if len(text) < len("2006-01-02T15:04:05Z") || text[4] != '-' || text[7] != '-' || text[10]|0x20 != 't' ||
		text[13] != ':' || text[16] != ':' || !isZone(text[19:]) {
		return time.Time{}, false
	}
	var parts [6]int
	for i, at := range [...]int{0, 5, 8, 11, 14, 17} {
		end := at + 2
		if i == 0 {
			end = 4
		}
		n, ok := digits(text[at:end])
		if !ok {
			return time.Time{}, false
		}
		parts[i] = n
	}
	t := time.Date(parts[0], time.Month(parts[1]), parts[2], parts[3], parts[4], 0, 0, time.UTC)
	// What is out of range comes back as another time. A second of 60 is a leap second.
	ok := t.Month() == time.Month(parts[1]) && t.Day() == parts[2] && t.Hour() == parts[3] && t.Minute() == parts[4] && parts[5] <= 60
	return t, ok
}

// isZone reports whether text is what may follow the seconds: a fraction, and Z or an offset.
func isZone(text string) bool {
	if text[0] == '.' {
		i := 1
		for i < len(text) && text[i] >= '0' && text[i] <= '9' {
			i++
		}
		if i == 1 || i == len(text) {
			return false
		}
		text = text[i:]
	}
	if text[0]|0x20 == 'z' {
		return len(text) == 1
	}
	if len(text) != len("+00:00") || text[0] != '+' && text[0] != '-' || text[3] != ':' {
		return false
	}
	hours, ok := digits(text[1:3])
	minutes, also := digits(text[4:6])
	return ok && also && hours < 24 && minutes < 60
}

func digits(text string) (n int, ok bool) {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		n = 10*n + int(text[i]-'0')
	}
	return n, true
}
