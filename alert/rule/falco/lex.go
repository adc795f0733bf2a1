package falco

import (
	"fmt"
	"strings"
)

// number parses the right of < <= > and >=.
func (p *parser) number(c *check) error {
	if ok, err := p.computed(c); ok {
		return err
	}
	at := p.pos
	p.pos += numberLength(p.s[p.pos:])
	if p.pos == at {
		return p.fail(at, fmt.Sprintf("a number must follow %s, not %s", c.op, p.here()), "")
	}
	c.right = []operand{{kind: valueOperand, text: p.s[at:p.pos], at: at}}
	return nil
}

// numberLength returns the length of the number that s begins with: hexadecimal after 0x, or decimal.
func numberLength(s string) int {
	if len(s) > 2 && s[0] == '0' && s[1]|0x20 == 'x' && isAlphanumeric(s[2]) {
		return 2 + span(s[2:], isAlphanumeric)
	}
	i := signLength(s)
	digits := span(s[i:], isDigit)
	if digits == 0 {
		return 0
	}
	if i += digits; i < len(s) && s[i] == '.' {
		i++
		i += span(s[i:], isDigit)
	}
	if i < len(s) && s[i]|0x20 == 'e' && signLength(s[i+1:]) > 0 {
		if n := span(s[i+2:], isDigit); n > 0 {
			i += 2 + n
		}
	}
	return i
}

func signLength(s string) int {
	if s != "" && (s[0] == '+' || s[0] == '-') {
		return 1
	}
	return 0
}

func isAlphanumeric(c byte) bool { return isLetter(c) || isDigit(c) }

func span(s string, is func(byte) bool) int {
	i := 0
	for i < len(s) && is(s[i]) {
		i++
	}
	return i
}

// value parses a quoted or a bare value; false if none stands here.
func (p *parser) value() (string, bool, error) {
	if s, ok, err := p.quoted(); ok || err != nil {
		return s, ok, err
	}
	from := p.pos
	for p.pos < len(p.s) && !isBlank(p.s[p.pos]) && strings.IndexByte(`()"'=,`, p.s[p.pos]) < 0 {
		p.pos++
	}
	return p.s[from:p.pos], p.pos > from, nil
}

func (p *parser) quoted() (string, bool, error) {
	if p.pos == len(p.s) || p.s[p.pos] != '"' && p.s[p.pos] != '\'' {
		return "", false, nil
	}
	start, quote := p.pos, p.s[p.pos]
	var out []byte
	for p.pos++; p.pos < len(p.s); p.pos++ {
		switch c := p.s[p.pos]; c {
		case quote:
			p.pos++
			return string(out), true, nil
		case '\\':
			p.pos++
			b, ok := p.escape(quote)
			if !ok {
				return "", false, p.fail(p.pos-1, fmt.Sprintf("\\ before %s is no escape", p.here()),
					`escapes are \b \f \n \r \t \\ \/ \xHH and the quote itself`)
			}
			out = append(out, b)
		default:
			out = append(out, c)
		}
	}
	p.pos = start
	return "", false, p.fail(start, fmt.Sprintf("the quote %c is never closed", quote), "")
}

// escape reads the escape whose backslash stands before the cursor and leaves the cursor on its last byte.
func (p *parser) escape(quote byte) (byte, bool) {
	if p.pos >= len(p.s) {
		return 0, false
	}
	switch c := p.s[p.pos]; c {
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case '\\', '/', quote:
		return c, true
	case ' ': // older rule files forget to double the backslash
		return '\\', true
	case 'x':
		if p.pos+2 < len(p.s) {
			high, low := hexDigit(p.s[p.pos+1]), hexDigit(p.s[p.pos+2])
			if high >= 0 && low >= 0 {
				p.pos += 2
				return byte(high<<4 | low), true
			}
		}
	}
	return 0, false
}

// hexDigit returns the value of c, -1 if it is no hexadecimal digit.
func hexDigit(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case isLetter(c) && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}
