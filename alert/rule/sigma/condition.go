package sigma

import (
	"fmt"
	"slices"
	"strings"

	"github.com/auditmill/auditmill/alert/rule/ir"
)

// searches are the named parts of a detection section. A part with a fault is nil.
type searches struct {
	names  []string // in the order of the file
	byName map[string]ir.Expr
}

// conditionFault is what is wrong with a condition, and where.
type conditionFault struct {
	offset          int
	problem, remedy string
}

// conditionParser is a recursive descent over
//
//	or   := and ("or" and)*
//	and  := not ("and" not)*
//	not  := "not"* atom
//	atom := "(" or ")" | ("1"|"any"|"all") "of" ("them" | pattern) | name
type conditionParser struct {
	tokens   []token
	next     int
	depth    int
	end      int
	searches *searches
}

type token struct {
	text   string
	offset int
}

func parseCondition(text string, searches *searches) (ir.Expr, *conditionFault) {
	tokens, fault := tokenize(text)
	if fault != nil {
		return nil, fault
	}
	p := &conditionParser{tokens: tokens, searches: searches, end: len(text)}
	e, fault := p.or()
	if fault == nil && p.next < len(tokens) {
		fault = p.unexpected(tokens[p.next])
	}
	if fault != nil {
		return nil, fault
	}
	return e, nil
}

// isName reports whether c may stand in the name of a search.
func isName(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || strings.IndexByte("_-.*?", c) >= 0 || c >= 0x80
}

func tokenize(text string) ([]token, *conditionFault) {
	var tokens []token
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '(' || c == ')':
			tokens = append(tokens, token{text[i : i+1], i})
			i++
		case isName(c):
			start := i
			for i < len(text) && isName(text[i]) {
				i++
			}
			tokens = append(tokens, token{text[start:i], start})
		case c == '|':
			return nil, &conditionFault{
				i, "aggregations behind a pipe are not supported",
				"Sigma replaced them by correlations: write a second document with correlation: " +
					"{type: event_count, rules: […], timespan: …}",
			}
		default:
			return nil, &conditionFault{
				i, fmt.Sprintf("%q cannot stand in a condition", c),
				"use names of searches, and, or, not, 1 of, all of and parentheses",
			}
		}
	}
	return tokens, nil
}

func (p *conditionParser) peek() string {
	if p.next < len(p.tokens) {
		return p.tokens[p.next].text
	}
	return ""
}

func (p *conditionParser) accept(text string) bool {
	if p.peek() != text {
		return false
	}
	p.next++
	return true
}

func (p *conditionParser) unexpected(t token) *conditionFault {
	remedy := "join searches with and, or, not"
	if lower := strings.ToLower(t.text); lower != t.text && isKeyword(lower) {
		remedy = fmt.Sprintf("write %q", lower)
	}
	return &conditionFault{t.offset, fmt.Sprintf("%q is not expected here", t.text), remedy}
}

func isKeyword(s string) bool {
	return slices.Contains([]string{"and", "or", "not", "of", "them", "any", "all"}, s)
}

func (p *conditionParser) or() (ir.Expr, *conditionFault) {
	var or ir.Or
	for {
		e, fault := p.and()
		if fault != nil {
			return nil, fault
		}
		or = append(or, e)
		if !p.accept("or") {
			return complete(or, func() ir.Expr { return one[ir.Or](or) }), nil
		}
	}
}

func (p *conditionParser) and() (ir.Expr, *conditionFault) {
	var and ir.And
	for {
		e, fault := p.not()
		if fault != nil {
			return nil, fault
		}
		and = append(and, e)
		if !p.accept("and") {
			return complete(and, func() ir.Expr { return one[ir.And](and) }), nil
		}
	}
}

// complete returns nil if a part is missing because it had a fault of its own.
func complete[L ~[]ir.Expr](parts L, whole func() ir.Expr) ir.Expr {
	for _, part := range parts {
		if part == nil {
			return nil
		}
	}
	return whole()
}

func (p *conditionParser) not() (ir.Expr, *conditionFault) {
	negate := false
	for p.accept("not") {
		negate = !negate
	}
	e, fault := p.atom()
	if fault == nil && negate && e != nil {
		return ir.Not{Expr: e}, nil
	}
	return e, fault
}

func (p *conditionParser) atom() (ir.Expr, *conditionFault) {
	if p.next == len(p.tokens) {
		return nil, &conditionFault{p.end, "the condition ends too early", "name a search"}
	}
	t := p.tokens[p.next]
	p.next++
	switch {
	case t.text == "(":
		if p.depth++; p.depth > maxDepth {
			return nil, &conditionFault{t.offset, fmt.Sprintf("parentheses nest more than %d deep", maxDepth), ""}
		}
		e, fault := p.or()
		if fault != nil {
			return nil, fault
		}
		p.depth--
		if !p.accept(")") {
			return nil, &conditionFault{t.offset, "the parenthesis is not closed", "add )"}
		}
		return e, nil
	case p.peek() == "of":
		p.next++
		return p.quantified(t)
	case t.text == ")" || isKeyword(t.text):
		return nil, p.unexpected(t)
	}
	e, ok := p.searches.byName[t.text]
	if !ok {
		return nil, p.unknown(t, "")
	}
	return e, nil
}

// quantified reads what follows "1 of", "any of" or "all of".
func (p *conditionParser) quantified(quantifier token) (ir.Expr, *conditionFault) {
	if !slices.Contains([]string{"1", "any", "all"}, quantifier.text) {
		return nil, &conditionFault{
			quantifier.offset, fmt.Sprintf("%q of is not supported", quantifier.text),
			"write 1 of, any of or all of",
		}
	}
	if p.next == len(p.tokens) {
		return nil, &conditionFault{p.end, "the condition ends too early", "write them or a pattern"}
	}
	t := p.tokens[p.next]
	p.next++
	if t.text == "(" || t.text == ")" {
		return nil, p.unexpected(t)
	}
	var parts []ir.Expr
	found := false
	for _, name := range p.searches.names {
		// Names with an underscore are building blocks that "of" passes over.
		if strings.HasPrefix(name, "_") || t.text != "them" && !matchName(t.text, name) {
			continue
		}
		found = true
		parts = append(parts, p.searches.byName[name])
	}
	if !found {
		return nil, p.unknown(t, " (names that begin with _ do not count)")
	}
	return complete(parts, func() ir.Expr {
		if quantifier.text == "all" {
			return one[ir.And](parts)
		}
		return one[ir.Or](parts)
	}), nil
}

func (p *conditionParser) unknown(t token, note string) *conditionFault {
	remedy := "the searches are " + strings.Join(p.searches.names, ", ") + note
	if lower := strings.ToLower(t.text); lower != t.text && isKeyword(lower) {
		remedy = fmt.Sprintf("write %q in lower case", lower)
	} else if near := ir.Nearest(t.text, slices.Values(p.searches.names)); near != "" && near != t.text {
		remedy = fmt.Sprintf("did you mean %q? %s", near, remedy)
	}
	return &conditionFault{t.offset, fmt.Sprintf("no search is called %q", t.text), remedy}
}

// matchName matches a pattern with * against the name of a search.
func matchName(pattern, name string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	if !strings.HasPrefix(name, first) {
		return false
	}
	name = name[len(first):]
	for {
		var part string
		part, rest, star = strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(name, part)
		}
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name = name[i+len(part):]
	}
}
