package jsonscan

import (
	"encoding/binary"
	"math/bits"
)

// fastDepth is how deep fast follows: one bit of its stack for each level.
const fastDepth = 62

// fast does what skip does, in two thirds of the time, for values that are well-formed and
// not nested deeply; for all others it returns -1, and skip must tell. It has no calls to
// itself and no errors to carry, so that the compiler keeps its state in registers.
//
//nolint:cyclop // parts of it in functions of their own would cost what it is for
func fast(data []byte, i int) int {
	// One bit for each bracket that is open, 1 for an object, below a 1 that ends the stack.
	stack := uint64(1)
	for {
		// A value begins at i.
		if uint(i) >= uint(len(data)) {
			return -1
		}
		c := data[i]
		switch c {
		case '"':
			// As fastString does; in line, because most values are strings.
			if i = plainRun(data, i+1); uint(i) < uint(len(data)) && data[i] == '"' {
				i++
			} else if i = fastStringEnd(data, i); i < 0 {
				return -1
			}
		case '{', '[':
			if stack>>fastDepth != 0 {
				return -1
			}
			if i = fastSpace(data, i+1); i >= len(data) {
				return -1
			}
			if data[i] == c+2 {
				i++
				break
			}
			stack <<= 1
			if c == '[' {
				continue
			}
			stack |= 1
			if i = fastKey(data, i); i < 0 {
				return -1
			}
			continue
		default:
			if i = fastScalar(data, i); i < 0 {
				return -1
			}
		}
		// A value ended before i.
		for {
			if stack == 1 {
				return i
			}
			if i = fastSpace(data, i); i >= len(data) {
				return -1
			}
			c = data[i]
			i++
			if c == ',' {
				break
			}
			if c != ']'+byte(stack&1)<<5 {
				return -1
			}
			stack >>= 1
		}
		i = fastSpace(data, i)
		if stack&1 != 0 {
			if i = fastKey(data, i); i < 0 {
				return -1
			}
		}
	}
}

// fastKey returns where the value begins whose key and colon begin at i, or -1.
func fastKey(data []byte, i int) int {
	if uint(i) >= uint(len(data)) || data[i] != '"' {
		return -1
	}
	if i = fastString(data, i+1); i < 0 {
		return -1
	}
	return fastColon(data, i)
}

// fastMember returns the index after the key that begins at i, whether it may hold escapes,
// and where its value begins, -1 if there is no well-formed key.
func fastMember(data []byte, i int) (keyEnd int, escaped bool, value int) {
	if uint(i) >= uint(len(data)) || data[i] != '"' {
		return 0, false, -1
	}
	if keyEnd, escaped = stringEnd(data, i+1); keyEnd < 0 {
		return 0, false, -1
	}
	return keyEnd, escaped, fastColon(data, keyEnd)
}

// fastColon returns where the value begins whose key ended before i, or -1.
func fastColon(data []byte, i int) int {
	if i+1 < len(data) && data[i] == ':' && data[i+1] > ' ' {
		return i + 1
	}
	if i = SkipSpace(data, i); i >= len(data) || data[i] != ':' {
		return -1
	}
	return SkipSpace(data, i+1)
}

// fastSpace is SkipSpace for text that mostly has none.
func fastSpace(data []byte, i int) int {
	if uint(i) < uint(len(data)) && data[i] > ' ' {
		return i
	}
	return SkipSpace(data, i)
}

// fastScalar returns the index after the number or literal at data[i], or -1.
func fastScalar(data []byte, i int) int {
	var err error
	switch c := data[i]; {
	case c == '-' || c >= '0' && c <= '9':
		i, err = skipNumber(data, i)
	case c == 't':
		i, err = skipLiteral(data, i, "true")
	case c == 'f':
		i, err = skipLiteral(data, i, "false")
	case c == 'n':
		i, err = skipLiteral(data, i, "null")
	default:
		return -1
	}
	if err != nil {
		return -1
	}
	return i
}

// fastString returns the index after the string whose text begins at i, or -1.
func fastString(data []byte, i int) int {
	if i = plainRun(data, i); uint(i) < uint(len(data)) && data[i] == '"' {
		return i + 1
	}
	return fastStringEnd(data, i)
}

// stringEnd is fastString, and reports whether the string may hold escapes.
func stringEnd(data []byte, i int) (end int, escaped bool) {
	if i = plainRun(data, i); uint(i) < uint(len(data)) && data[i] == '"' {
		return i + 1, false
	}
	return fastStringEnd(data, i), true
}

// plainRun returns where, at or after i, something stands that is not the plain text of a
// string, or an index close to the end of data.
func plainRun(data []byte, i int) int {
	for i+8 <= len(data) {
		if m := special(binary.LittleEndian.Uint64(data[i : i+8 : i+8])); m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		i += 8
	}
	return i
}

// plainEnd returns where the string ends whose text begins at i if it is of ASCII and has no escapes, or else -1; also if
// that is so close to the end of data that another word cannot be read.
func plainEnd(data []byte, i int) int {
	var seen uint64
	for i+8 <= len(data) {
		x := binary.LittleEndian.Uint64(data[i : i+8 : i+8])
		if m := special(x); m != 0 {
			n := bits.TrailingZeros64(m) &^ 7
			seen |= x & (1<<n - 1)
			if i += n >> 3; seen&highs != 0 || data[i] != '"' {
				return -1
			}
			return i
		}
		seen |= x
		i += 8
	}
	return -1
}

// fastStringEnd is fastString from where the plain run ended.
func fastStringEnd(data []byte, i int) int {
	for i < len(data) {
		switch c := data[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			n := escapeLen(data[i:])
			if n == 0 {
				return -1
			}
			i = plainRun(data, i+n)
		case c < ' ':
			return -1
		default:
			i++
		}
	}
	return -1
}

// plainASCII reports whether text has neither escapes nor bytes beyond ASCII.
func plainASCII(text []byte) bool {
	const word = 8
	var found uint64
	if len(text) < word {
		for _, c := range text {
			if c == '\\' || c >= 0x80 {
				return false
			}
		}
		return true
	}
	for i := 0; i+word <= len(text); i += word {
		found |= unplain(binary.LittleEndian.Uint64(text[i : i+word : i+word]))
	}
	// The last word overlaps the one before.
	return (found|unplain(binary.LittleEndian.Uint64(text[len(text)-word:])))&highs == 0
}

// unplain has a high bit set if a byte of x is a backslash or beyond ASCII.
func unplain(x uint64) uint64 { return x | (x ^ slashs - ones) }
