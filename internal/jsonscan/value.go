package jsonscan

import (
	"bytes"
	"math"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// Iter walks the members of an object or the elements of an array:
//
//	for it := jsonscan.Object(text); it.Next(); {
//		use(it.Key(), it.Value())
//	}
//	if err := it.Err(); err != nil { … }
//
// Members come in the order of the text, duplicates included.
type Iter struct {
	data       []byte
	pos        int
	key, value []byte
	valueAt    int
	err        error
	depth      int // brackets that are open around the values
	object     bool
	escaped    bool // key holds escapes
	state      iterState
}

type iterState uint8

const (
	iterStart iterState = iota
	iterInside
	iterDone
)

// Object walks the object that text is.
func Object(text []byte) Iter { return Iter{data: text, object: true} }

// Array walks the array that text is.
func Array(text []byte) Iter { return Iter{data: text} }

// Next steps to the next member and reports whether there is one.
func (it *Iter) Next() bool { return it.NextKey() && it.Skip() }

// NextKey steps to the next member and reports whether there is one, or what may be one:
// its value was not looked at. Skip, or Enter and Leave, must follow before the next step.
// That saves a caller who walks the value from having it read twice.
func (it *Iter) NextKey() bool {
	if it.state == iterDone {
		return false
	}
	i := fastSpace(it.data, it.pos)
	open, end := byte('['), byte(']')
	if it.object {
		open, end = '{', '}'
	}
	if it.state == iterStart {
		if i >= len(it.data) || it.data[i] != open {
			return it.fail(i, map[bool]string{true: "an object must begin here", false: "an array must begin here"}[it.object])
		}
		it.state = iterInside
		if i = SkipSpace(it.data, i+1); i < len(it.data) && it.data[i] == end {
			return it.finish(i + 1)
		}
	} else {
		if i >= len(it.data) {
			return it.fail(i, truncated)
		}
		if it.data[i] == end {
			return it.finish(i + 1)
		}
		if it.data[i] != ',' {
			return it.fail(i, "a comma must stand here")
		}
		i = fastSpace(it.data, i+1)
	}
	it.valueAt = i
	return !it.object || it.readKey(i)
}

// readKey reads the key at i and its colon.
func (it *Iter) readKey(i int) bool {
	if end, escaped, value := fastMember(it.data, i); value >= 0 {
		it.key, it.valueAt, it.escaped = it.data[i+1:end-1], value, escaped
		return true
	}
	value, err := skipKey(it.data, i)
	if err != nil {
		return it.stop(err)
	}
	it.escaped = true
	// The key's closing quote is the last one before the colon.
	it.key, it.valueAt = it.data[i+1:i+bytes.LastIndexByte(it.data[i:value], '"')], value
	return true
}

// Skip reads the value of the member that NextKey found and reports whether it is well-formed.
func (it *Iter) Skip() bool {
	end := fast(it.data, it.valueAt)
	if end < 0 {
		var err error
		if end, err = skip(it.data, it.valueAt, it.depth); err != nil {
			return it.stop(err)
		}
	}
	it.value, it.pos = it.data[it.valueAt:end:end], end
	return true
}

// Text is Skip for a string that stands for itself: of ASCII, without escapes. It returns what is between the quotes. If
// the value is anything else, or no value, it does nothing and says so; Skip tells.
func (it *Iter) Text() (text []byte, ok bool) {
	i := it.valueAt
	if uint(i) >= uint(len(it.data)) || it.data[i] != '"' {
		return nil, false
	}
	end := plainEnd(it.data, i+1)
	if end < 0 {
		return nil, false
	}
	it.value, it.pos = it.data[i:end+1:end+1], end+1
	return it.data[i+1 : end : end], true
}

// Rest returns the text from the value of the member that NextKey found on.
func (it *Iter) Rest() []byte { return it.data[min(it.valueAt, len(it.data)):] }

// Jump is Skip for a value of which the caller knows that it is well-formed, and how long it is: Rest begins with one that
// was read before.
func (it *Iter) Jump(n int) {
	end := it.valueAt + n
	it.value, it.pos = it.data[it.valueAt:end:end], end
}

// First returns the first byte of the value of the member that NextKey found, 0 if there is none.
func (it *Iter) First() byte {
	if it.valueAt >= len(it.data) {
		return 0
	}
	return it.data[it.valueAt]
}

// Enter walks the value of the member that NextKey found, which First says is an object or
// an array. Leave must follow, with the walk at its end.
func (it *Iter) Enter() Iter {
	return Iter{data: it.data, pos: it.valueAt, depth: it.depth + 1, object: it.First() == '{'}
}

// Leave ends the member whose value inner walked, and reports whether the value is well-formed.
func (it *Iter) Leave(inner *Iter) bool {
	if inner.err != nil {
		return it.stop(inner.err)
	}
	it.value, it.pos = it.data[it.valueAt:inner.pos:inner.pos], inner.pos
	return true
}

func (it *Iter) stop(err error) bool {
	it.err, it.state = err, iterDone
	return false
}

func (it *Iter) fail(i int, reason string) bool {
	return it.stop(fault(i, reason))
}

func (it *Iter) finish(pos int) bool {
	it.pos, it.state = pos, iterDone
	return false
}

// Key returns the text between the quotes of the member's key; it may hold escapes.
func (it *Iter) Key() []byte { return it.key }

// Escaped reports whether Key may hold escapes.
func (it *Iter) Escaped() bool { return it.escaped }

// Value returns the text of the member's value.
func (it *Iter) Value() []byte { return it.value }

// Offset returns where Value begins in the text.
func (it *Iter) Offset() int { return it.valueAt }

// End returns the index after the part of the text that was walked; after the last member, after the whole value.
func (it *Iter) End() int { return it.pos }

// Err returns why Next stopped early, nil at the proper end.
func (it *Iter) Err() error { return it.err }

// KeyIs reports whether the text between a key's quotes means name.
func KeyIs(key []byte, name string) bool {
	if string(key) == name {
		return true
	}
	if bytes.IndexByte(key, '\\') < 0 {
		return false
	}
	return string(unescape(nil, key)) == name
}

// Get returns the last member called key of the object that text is: the one that
// encoding/json and so the API server takes when there are several.
func Get(text []byte, key string) (value []byte, ok bool) {
	it := Object(text)
	for it.Next() {
		if KeyIs(it.Key(), key) {
			value, ok = it.Value(), true
		}
	}
	return value, ok && it.Err() == nil
}

// String returns the string that value is; false if it is not one. The result shares
// memory with value unless it had escapes or bytes that are not UTF-8; those become U+FFFD.
func String(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	inner := value[1 : len(value)-1]
	if Plain(inner) {
		return alias(inner), true
	}
	return alias(unescape(nil, inner)), true
}

// AppendString appends the string that value is to dst; false if it is not one.
func AppendString(dst, value []byte) ([]byte, bool) {
	if len(value) < 2 || value[0] != '"' {
		return dst, false
	}
	return unescape(dst, value[1:len(value)-1]), true
}

// Plain reports whether a string's text stands for itself: no escapes, valid UTF-8.
func Plain(inner []byte) bool {
	return plainASCII(inner) || bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner)
}

func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// unescape appends the meaning of checked string text to dst.
func unescape(dst, text []byte) []byte {
	for len(text) > 0 {
		if text[0] != '\\' {
			n := bytes.IndexByte(text, '\\')
			if n < 0 {
				n = len(text)
			}
			dst = appendUTF8(dst, text[:n])
			text = text[n:]
			continue
		}
		if len(text) < 2 {
			return append(dst, text...)
		}
		if text[1] != 'u' {
			dst = append(dst, unescaped(text[1]))
			text = text[2:]
			continue
		}
		r, _ := hex4(text[2:])
		text = text[min(6, len(text)):]
		if utf16.IsSurrogate(r) {
			second := rune(-1)
			if len(text) >= 6 && text[0] == '\\' && text[1] == 'u' {
				second, _ = hex4(text[2:])
			}
			if r = utf16.DecodeRune(r, second); r != utf8.RuneError {
				text = text[6:]
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

func unescaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

func appendUTF8(dst, text []byte) []byte {
	if utf8.Valid(text) {
		return append(dst, text...)
	}
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		dst = utf8.AppendRune(dst, r)
		text = text[n:]
	}
	return dst
}

// Int returns the integer that value is; false if it is no number, has a fraction or an
// exponent, or does not fit.
func Int(value []byte) (int64, bool) {
	digits, negative := value, false
	if len(digits) > 0 && digits[0] == '-' {
		digits, negative = digits[1:], true
	}
	if len(digits) == 0 {
		return 0, false
	}
	var n uint64
	for _, c := range digits {
		if c < '0' || c > '9' || n > math.MaxInt64/10 {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	if n > math.MaxInt64 {
		return 0, false
	}
	if negative {
		return -int64(n), true
	}
	return int64(n), true
}
