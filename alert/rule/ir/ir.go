// Package ir is the form that rules of every language take before they are compiled: a
// boolean tree over typed tests of fields. Nothing in it tells which language a rule came
// from, so two languages that differ (in case, in what an absent field means, in whether
// one member of a list is enough) say so in each Test.
//
// Matching on "the same element" of an array is a new kind of Expr over a Field and a tree
// of tests relative to it; a correlation refers to Rules by ID. Both leave Test as it is.
package ir

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// Rule is one detection on single events.
type Rule struct {
	ID             string
	Title          string
	Status         string
	Description    string
	Author         string
	Level          string // informational, low, medium, high or critical
	Tags           []string
	References     []string
	FalsePositives []string

	// AuditLevel is the lowest audit level at which the rule can match; empty if not stated.
	AuditLevel string
	// Summary says what happened, with columns of the event in it.
	Summary Template
	// Next says what to do about an alert.
	Next string

	Condition Expr
	Position  Position
}

// Expr is a node of a rule's condition: And, Or, Not or *Test.
type Expr interface {
	fmt.Stringer
	expr()
}

// And is true if all its parts are.
type And []Expr

// Or is true if one of its parts is.
type Or []Expr

// Not is true if Expr is false.
type Not struct{ Expr }

// Test is true or false for one field of an event; there is no third result.
//
// A field has values: none, one, or those of all members of the arrays on its path. Each
// value satisfies the test if it satisfies one of AnyOf. The test is true if one value
// satisfies it, or, with Every, if all do. Where there is no value to look at, Missing,
// Null and Empty give the result.
type Test struct {
	Field Field
	AnyOf []Match
	Every bool

	Missing bool // there is no such key, or no member of an array on the way to it
	Null    bool // the value is JSON null
	Empty   bool // the value is an empty array

	Position Position
}

func (And) expr()   {}
func (Or) expr()    {}
func (Not) expr()   {}
func (*Test) expr() {}

func (a And) String() string { return join([]Expr(a), " and ") }
func (o Or) String() string  { return join([]Expr(o), " or ") }
func (n Not) String() string { return "not " + n.Expr.String() }

// String is equal for tests that give equal results on all events.
func (t *Test) String() string {
	var b strings.Builder
	b.WriteString(t.Field.String())
	if t.Every {
		b.WriteString(" every")
	}
	b.WriteString(" [")
	for i, m := range t.AnyOf {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(m.String())
	}
	b.WriteString("]")
	for _, without := range []struct {
		name string
		is   bool
	}{{"missing", t.Missing}, {"null", t.Null}, {"empty", t.Empty}} {
		if without.is {
			b.WriteString(" or " + without.name)
		}
	}
	return b.String()
}

func join(args []Expr, by string) string {
	parts := make([]string, len(args))
	for i, a := range args {
		parts[i] = a.String()
	}
	return "(" + strings.Join(parts, by) + ")"
}

// Match is what one value must be. All scalars are matched by their text (a number by its
// digits, a boolean by true or false); objects satisfy Any alone.
type Match interface {
	fmt.Stringer
	match()
}

// Any is satisfied by every value, objects included.
type Any struct{}

// Text is satisfied by values whose whole text is made of Parts. Cased says that upper
// and lower case differ; otherwise they are folded as Unicode says.
type Text struct {
	Parts []Part
	Cased bool
}

// Part is a piece of a Text: a literal, or a wildcard if Literal is empty.
type Part struct {
	Literal string
	Wild    Wild
}

// Wild is a wildcard.
type Wild uint8

// The wildcards. Both match line ends.
const (
	None Wild = iota // Part is a literal
	One              // exactly one character
	Many             // any number of characters, none included
)

// Number is a number, whole if it is written so.
type Number struct {
	Int     int64
	Float   float64
	IsFloat bool
}

// Equal is satisfied by equal numbers, and by texts that are the number's digits.
type Equal struct{ Number Number }

// Compare is satisfied by numbers, and texts that are numbers, in the relation.
type Compare struct {
	Relation Relation
	Number   Number
}

// Relation is how a value must compare to a number.
type Relation string

// The relations.
const (
	Less           Relation = "<"
	LessOrEqual    Relation = "<="
	Greater        Relation = ">"
	GreaterOrEqual Relation = ">="
)

// Regexp is satisfied by texts in which the expression is found.
type Regexp struct{ *regexp.Regexp }

// Network is satisfied by IP addresses in the prefix; an IPv4 address mapped into IPv6
// counts as IPv4.
type Network struct{ netip.Prefix }

func (Any) match()     {}
func (Text) match()    {}
func (Equal) match()   {}
func (Compare) match() {}
func (Regexp) match()  {}
func (Network) match() {}

func (Any) String() string { return "any" }

func (t Text) String() string {
	var b strings.Builder
	if t.Cased {
		b.WriteString("cased ")
	}
	for i, p := range t.Parts {
		if i > 0 {
			b.WriteByte(' ')
		}
		switch p.Wild {
		case One:
			b.WriteByte('?')
		case Many:
			b.WriteByte('*')
		case None:
			fmt.Fprintf(&b, "%q", p.Literal)
		}
	}
	if len(t.Parts) == 0 {
		b.WriteString(`""`)
	}
	return b.String()
}

func (n Number) String() string {
	if n.IsFloat {
		return fmt.Sprint(n.Float)
	}
	return fmt.Sprint(n.Int)
}

func (e Equal) String() string   { return "= " + e.Number.String() }
func (c Compare) String() string { return string(c.Relation) + " " + c.Number.String() }
func (r Regexp) String() string  { return fmt.Sprintf("/%s/", r.Regexp) }
func (n Network) String() string { return "in " + n.Prefix.String() }

// Tests calls visit for every test of e.
func Tests(e Expr, visit func(*Test)) {
	switch e := e.(type) {
	case And:
		for _, arg := range e {
			Tests(arg, visit)
		}
	case Or:
		for _, arg := range e {
			Tests(arg, visit)
		}
	case Not:
		Tests(e.Expr, visit)
	case *Test:
		visit(e)
	}
}
