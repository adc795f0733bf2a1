package rule

import (
	"encoding/binary"
	"strings"
	"unicode"
	"unicode/utf8"
	"unsafe"
)

// appendFold appends s with the case of every letter folded: two texts are equal but for
// case, by the simple folding of Unicode, if their folds are equal. Unlike lower-casing it
// joins all of K, k and the Kelvin sign.
func appendFold(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		for len(s)-i >= 8 {
			x := word(s[i:])
			if x&highs != 0 {
				break
			}
			dst = binary.LittleEndian.AppendUint64(dst, x|upper(x)&highs>>2)
			i += 8
		}
		if i == len(s) {
			break
		}
		c := s[i]
		if c < utf8.RuneSelf {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			dst = append(dst, c) // two different bad bytes stay different
		} else {
			dst = utf8.AppendRune(dst, foldRune(r))
		}
		i += n
	}
	return dst
}

// folded returns the fold of s, made in buf unless s is its own.
func folded(s string, buf *[]byte) string {
	if isFolded(s) {
		return s
	}
	*buf = appendFold((*buf)[:0], s)
	return alias(*buf)
}

// foldRune returns the least rune that is equal to r but for case, in lower case if ASCII.
func foldRune(r rune) rune {
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	if 'A' <= least && least <= 'Z' {
		least += 'a' - 'A'
	}
	return least
}

// isFolded reports that s is its own fold because it is plain lower-case ASCII.
func isFolded(s string) bool {
	for len(s) >= 8 {
		if x := word(s); (x|upper(x))&highs != 0 {
			return false
		}
		s = s[8:]
	}
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// word returns the first eight bytes of s.
func word(s string) uint64 {
	return binary.LittleEndian.Uint64(unsafe.Slice(unsafe.StringData(s), 8))
}

// upper has the high bit of each byte of x set that is A to Z, if all of x is ASCII.
func upper(x uint64) uint64 {
	return (x + (0x80-'A')*ones) &^ (x + (0x80-'Z'-1)*ones)
}

// glob is a text pattern in the forms that can be decided quickly.
type glob struct {
	form    globForm
	literal string // of all forms but pattern
	pattern []globToken
}

type globForm uint8

const (
	globEqual globForm = iota
	globPrefix
	globSuffix
	globContains
	globPattern
)

// globToken is a byte of the pattern, one character, or any number of them.
type globToken struct {
	kind globKind
	b    byte
}

type globKind uint8

const (
	globByte globKind = iota
	globOne
	globMany
)

func (g *glob) match(s string) bool {
	switch g.form {
	case globEqual:
		return s == g.literal
	case globPrefix:
		return strings.HasPrefix(s, g.literal)
	case globSuffix:
		return strings.HasSuffix(s, g.literal)
	case globContains:
		return strings.Contains(s, g.literal)
	default:
		return matchTokens(g.pattern, s)
	}
}

// matchTokens goes back to the last * only: what an earlier one took never needs to
// change, so the time is at most len(tokens) × len(s).
func matchTokens(tokens []globToken, s string) bool {
	t, i := 0, 0
	star, starAt := -1, 0
	for i < len(s) || t < len(tokens) {
		if t < len(tokens) {
			switch token := tokens[t]; {
			case token.kind == globMany:
				star, starAt = t, i
				t++
				continue
			case i < len(s) && token.kind == globOne:
				if s[i] < utf8.RuneSelf {
					i++
					t++
					continue
				}
				_, n := utf8.DecodeRuneInString(s[i:])
				i += n
				t++
				continue
			case i < len(s) && token.kind == globByte && token.b == s[i]:
				i++
				t++
				continue
			}
		}
		if star < 0 || starAt >= len(s) {
			return false
		}
		_, n := utf8.DecodeRuneInString(s[starAt:])
		starAt += n
		t, i = star+1, starAt
	}
	return true
}
