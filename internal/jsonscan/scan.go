// Package jsonscan walks JSON text in place: bytes go in, sub-slices of them come out.
// Whatever it steps over is checked against RFC 8259 (UTF-8 excepted, see String), so a
// caller that walked a value to its end knows that it is well-formed. It never allocates
// but to unescape a string, and never panics.
package jsonscan

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// MaxDepth is how deep arrays and objects may nest: the limit of the API server's own decoder.
const MaxDepth = 10_000

// SyntaxError says where and why text is not JSON.
type SyntaxError struct {
	Offset int // in bytes from the start of the scanned text
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("invalid JSON at byte %d: %s", e.Offset, e.Reason)
}

func fault(offset int, reason string) error { return &SyntaxError{Offset: offset, Reason: reason} }

const truncated = "text ends in the middle of a value"

// SkipSpace returns the index of the first byte at or after i that is not white space.
func SkipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\r' || data[i] == '\t') {
		i++
	}
	return i
}

// Valid returns nil if data is one JSON value with nothing but white space around it.
func Valid(data []byte) error {
	end, err := Skip(data, SkipSpace(data, 0))
	if err != nil {
		return err
	}
	if end = SkipSpace(data, end); end != len(data) {
		return fault(end, "text after the value")
	}
	return nil
}

// Skip checks the value that begins at data[i] and returns the index after it.
func Skip(data []byte, i int) (end int, err error) {
	if end = fast(data, i); end >= 0 {
		return end, nil
	}
	return skip(data, i, 0)
}

// Key steps over the key that begins at data[i] and its colon: end is the index after the
// key, value where its value begins. It is not ok if there is no well-formed key.
func Key(data []byte, i int) (end, value int, ok bool) {
	end, _, value = fastMember(data, i)
	return end, value, value >= 0
}

// Member steps over the object that begins at data[i] and returns the value of its last
// member called key, nil if there is none, and the index after the object. It is not ok if
// the object is not well-formed or nested very deeply; Object tells what is wrong with it.
func Member(data []byte, i int, key string) (value []byte, end int, ok bool) {
	if uint(i) >= uint(len(data)) || data[i] != '{' {
		return nil, 0, false
	}
	if i = fastSpace(data, i+1); i < len(data) && data[i] == '}' {
		return nil, i + 1, true
	}
	for {
		keyEnd, escaped, at := fastMember(data, i)
		if end = at; end >= 0 {
			end = fast(data, at)
		}
		if end < 0 {
			return nil, 0, false
		}
		if name := data[i+1 : keyEnd-1]; string(name) == key || escaped && KeyIs(name, key) {
			value = data[at:end:end]
		}
		if i = fastSpace(data, end); i >= len(data) {
			return nil, 0, false
		}
		if data[i] == '}' {
			return value, i + 1, true
		}
		if data[i] != ',' {
			return nil, 0, false
		}
		i = fastSpace(data, i+1)
	}
}

func skip(data []byte, i, depth int) (int, error) {
	if i >= len(data) {
		return i, fault(len(data), truncated)
	}
	switch c := data[i]; {
	case c == '"':
		return skipString(data, i)
	case c == '{' || c == '[':
		if depth >= MaxDepth {
			return i, fault(i, fmt.Sprintf("nested more than %d deep", MaxDepth))
		}
		if c == '{' {
			return skipObject(data, i+1, depth+1)
		}
		return skipArray(data, i+1, depth+1)
	case c == '-' || c >= '0' && c <= '9':
		return skipNumber(data, i)
	case c == 't':
		return skipLiteral(data, i, "true")
	case c == 'f':
		return skipLiteral(data, i, "false")
	case c == 'n':
		return skipLiteral(data, i, "null")
	}
	return i, fault(i, "a value must begin here")
}

func skipObject(data []byte, i, depth int) (int, error) {
	i = SkipSpace(data, i)
	if i < len(data) && data[i] == '}' {
		return i + 1, nil
	}
	for {
		var err error
		if i, err = skipKey(data, i); err != nil {
			return i, err
		}
		if i, err = skip(data, i, depth); err != nil {
			return i, err
		}
		i = SkipSpace(data, i)
		if i >= len(data) {
			return i, fault(i, truncated)
		}
		switch data[i] {
		case ',':
			i = SkipSpace(data, i+1)
		case '}':
			return i + 1, nil
		default:
			return i, fault(i, "a comma or } must stand here")
		}
	}
}

// skipKey steps over a key and its colon to the value.
func skipKey(data []byte, i int) (int, error) {
	if i >= len(data) {
		return i, fault(i, truncated)
	}
	if data[i] != '"' {
		return i, fault(i, "a key in double quotes must stand here")
	}
	i, err := skipString(data, i)
	if err != nil {
		return i, err
	}
	if i < len(data) && data[i] == ':' { // without white space, as the API server writes it
		return SkipSpace(data, i+1), nil
	}
	i = SkipSpace(data, i)
	if i >= len(data) {
		return i, fault(i, truncated)
	}
	if data[i] != ':' {
		return i, fault(i, "a colon must stand here")
	}
	return SkipSpace(data, i+1), nil
}

func skipArray(data []byte, i, depth int) (int, error) {
	i = SkipSpace(data, i)
	if i < len(data) && data[i] == ']' {
		return i + 1, nil
	}
	for {
		var err error
		if i, err = skip(data, i, depth); err != nil {
			return i, err
		}
		i = SkipSpace(data, i)
		if i >= len(data) {
			return i, fault(i, truncated)
		}
		switch data[i] {
		case ',':
			i = SkipSpace(data, i+1)
		case ']':
			return i + 1, nil
		default:
			return i, fault(i, "a comma or ] must stand here")
		}
	}
}

const (
	ones   = 0x0101010101010101
	highs  = 0x8080808080808080
	slashs = ones * '\\'
	// Flipping the bit in which the quote and the space differ leaves the control characters
	// below both, so one comparison finds them and the quote.
	flip  = ones * ('"' ^ ' ')
	above = ones * (' ' + 1)
)

// special marks the bytes of x that end the plain run of a string: quotes, backslashes
// and control characters. Marks above the lowest one may be wrong.
func special(x uint64) uint64 {
	return ((x ^ flip - above) | (x ^ slashs - ones)) & highs &^ x
}

func skipString(data []byte, i int) (int, error) {
	start := i
	i++
	for {
		for i+8 <= len(data) {
			if m := special(binary.LittleEndian.Uint64(data[i:])); m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		if i >= len(data) {
			return i, fault(i, truncated)
		}
		switch c := data[i]; {
		case c == '"':
			return i + 1, nil
		case c == '\\':
			n := escapeLen(data[i:])
			if n == 0 {
				return i, fault(i, "bad escape in the string that begins at byte "+fmt.Sprint(start))
			}
			i += n
		case c < ' ':
			return i, fault(i, "control character in the string that begins at byte "+fmt.Sprint(start))
		default:
			i++
		}
	}
}

// escapeLen returns the length of the escape that b begins with, 0 if it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b[2:]); ok {
			return 6
		}
	}
	return 0
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

func skipNumber(data []byte, i int) (int, error) {
	start := i
	if data[i] == '-' {
		i++
	}
	var ok bool
	if i < len(data) && data[i] == '0' {
		i++
	} else if i, ok = skipDigits(data, i); !ok {
		return i, fault(start, "bad number")
	}
	if i < len(data) && data[i] == '.' {
		i++
		if i, ok = skipDigits(data, i); !ok {
			return i, fault(start, "bad number")
		}
	}
	if i < len(data) && data[i]|0x20 == 'e' {
		i++
		if i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		if i, ok = skipDigits(data, i); !ok {
			return i, fault(start, "bad number")
		}
	}
	return i, nil
}

// skipDigits reports whether there was at least one.
func skipDigits(data []byte, i int) (int, bool) {
	from := i
	for i < len(data) && data[i] >= '0' && data[i] <= '9' {
		i++
	}
	return i, i > from
}

func skipLiteral(data []byte, i int, literal string) (int, error) {
	rest := data[i:]
	if len(rest) >= len(literal) && string(rest[:len(literal)]) == literal {
		return i + len(literal), nil
	}
	if len(rest) < len(literal) && string(rest) == literal[:len(rest)] {
		return len(data), fault(len(data), truncated)
	}
	return i, fault(i, "a value must begin here")
}
