package rule_test

import (
	"encoding/json"
	"math/big"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// naiveScalar returns the text of a value, and what it is worth if it is a number.
func naiveScalar(leaf any) (text string, number *big.Rat, isNumber bool) {
	number = new(big.Rat)
	switch v := leaf.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
		_, isNumber = number.SetString(text)
	case bool:
		text = map[bool]string{true: "true", false: "false"}[v]
	case naiveTime:
		text = strconv.FormatInt(v.UnixMicro(), 10)
		_, isNumber = number.SetString(text)
	}
	return text, number, isNumber
}

// asNumber takes a text that is a number for one.
func asNumber(text string, number *big.Rat, isNumber bool) (*big.Rat, bool) {
	if !isNumber && regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?$`).MatchString(text) {
		_, isNumber = number.SetString(text)
	}
	return number, isNumber
}

func naiveMatch(m ir.Match, leaf any) bool {
	_, isObject := leaf.(map[string]any)
	text, number, isNumber := naiveScalar(leaf)
	switch m := m.(type) {
	case ir.Any:
		return true
	case ir.Text:
		if isObject {
			return len(m.Parts) == 1 && m.Parts[0].Wild == ir.Many
		}
		return naivePattern(m).MatchString(text)
	case ir.Equal:
		return !isObject && (isNumber && number.Cmp(rat(m.Number)) == 0 || text == m.Number.String())
	case ir.Compare:
		number, isNumber := asNumber(text, number, isNumber)
		return isNumber && ordered(number.Cmp(rat(m.Number)), m.Relation)
	case ir.Regexp:
		return !isObject && m.MatchString(text)
	case ir.Network:
		ip := net.ParseIP(text)
		_, network, err := net.ParseCIDR(m.Prefix.String())
		return err == nil && ip != nil && network.Contains(ip)
	case ir.Order:
		return !isObject && ordered(strings.Compare(text, m.Text), m.Relation)
	case ir.Glob:
		pattern := m.Pattern
		if m.Fold {
			pattern, text = asciiLower(pattern), asciiLower(text)
		}
		return !isObject && naiveGlob(pattern).MatchString(text)
	case ir.PathPrefix:
		return !isObject && naiveBelow(m.Path, text)
	case ir.TimePart:
		return naiveTimePart(m, leaf)
	}
	return false
}

func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= unicode.MaxASCII {
			r = unicode.ToLower(r)
		}
		return r
	}, s)
}

// naiveGlob knows sets without classes and escapes.
func naiveGlob(pattern string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("(?s)^")
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteString(".")
		case '[':
			n := strings.IndexByte(pattern[i:], ']')
			b.WriteString(strings.Replace(pattern[i:i+n+1], "[!", "[^", 1))
			i += n
		case '\\':
			i++
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		default:
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		}
	}
	return regexp.MustCompile(b.String() + "$")
}

func naiveBelow(prefix, text string) bool {
	slash := func(r rune) bool { return r == '/' }
	want, have := strings.FieldsFunc(prefix, slash), strings.FieldsFunc(text, slash)
	if len(have) < len(want) {
		return false
	}
	for i := range want {
		if !naiveGlob(want[i]).MatchString(have[i]) {
			return false
		}
	}
	return true
}

func naiveTimePart(m ir.TimePart, leaf any) bool {
	var at time.Time
	switch v := leaf.(type) {
	case naiveTime:
		at = v.UTC()
	case string:
		var err error
		if at, err = time.Parse(time.RFC3339Nano, v); err != nil {
			return false
		}
	default:
		return false
	}
	_, week := at.ISOWeek()
	part := map[string]int{
		"minute": at.Minute(), "hour": at.Hour(), "day": at.Day(), "week": week, "month": int(at.Month()), "year": at.Year(),
	}[m.Part]
	return ordered(part-int(m.Number), m.Relation)
}

func rat(n ir.Number) *big.Rat {
	if n.IsFloat {
		return new(big.Rat).SetFloat64(n.Float)
	}
	return new(big.Rat).SetInt64(n.Int)
}

var patterns sync.Map // of regular expressions by text: compiling them is most of the time

func naivePattern(t ir.Text) *regexp.Regexp {
	key := t.String()
	if re, ok := patterns.Load(key); ok {
		return re.(*regexp.Regexp)
	}
	re := compilePattern(t)
	patterns.Store(key, re)
	return re
}

func compilePattern(t ir.Text) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("(?s")
	if !t.Cased {
		b.WriteString("i")
	}
	b.WriteString(")^")
	for _, p := range t.Parts {
		switch p.Wild {
		case ir.One:
			b.WriteString(".")
		case ir.Many:
			b.WriteString(".*")
		case ir.NotWild:
			b.WriteString(regexp.QuoteMeta(p.Literal))
		}
	}
	b.WriteString("$")
	return regexp.MustCompile(b.String())
}
