// Package ir is the form that rules of every language take before they are compiled: a
// boolean tree over typed tests of fields. Nothing in it tells which language a rule came
// from, so two languages that differ (in case, in what an absent field means, in whether
// one member of a list is enough) say so in each Test.
//
// Elements binds several tests to the same member of an array; Relate compares two fields of an
// event. A Correlation refers to Rules by ID.
package ir

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// Meta is what a rule says of itself, single-event rule or correlation.
type Meta struct {
	ID             string
	Name           string // another handle by which correlations and filters refer to it; may be empty
	Title          string
	Status         string
	Description    string
	Author         string
	Level          string // informational, low, medium, high or critical
	Priority       string // the level in the words of the rule's language; empty if they are the same
	Tags           []string
	References     []string
	FalsePositives []string

	// AuditLevel is the lowest audit level at which the rule can match; empty if not stated.
	AuditLevel string
	// Summary says what happened, with fields of the event in it.
	Summary Template
	// Next says what to do about an alert.
	Next string
	// GroupBy are the fields that, with the rule and the cluster, make alerts one group; nil
	// for the actor and the target.
	GroupBy []Field
	// Blind says why the rule can never match on the data of this deployment; empty if it can.
	Blind string
	// Cases are the rule's own tests.
	Cases []Case

	Position Position
}

// Rule is one detection on single events.
type Rule struct {
	Meta
	Condition Expr
	// Silent rules raise no alert of their own: they feed correlations only.
	Silent bool
}

// Expr is a node of a rule's condition: And, Or, Not, *Test, *Elements or *Relate.
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

// Elements is true if some, all or none of the members of an array satisfy Expr. The paths of the
// fields of Expr begin at the member; a Field of Source Path with an empty Path is the member itself.
type Elements struct {
	Array      Field // a Path; arrays on the way to it are looked through
	Quantifier Quantifier
	Expr       Expr
	// Empty is the result when there is no member: no such array, null, or an empty one.
	Empty bool

	Position Position
}

// Quantifier says how many members of an array must satisfy a condition.
type Quantifier string

// The quantifiers.
const (
	Some  Quantifier = "any"
	Every Quantifier = "all"
	None  Quantifier = "none"
)

// Relate is true if a value of Left stands in Relation to a value of Right; without a value on
// either side it is false.
type Relate struct {
	Left, Right Field
	Relation    Relation
	Cased       bool
	// Within, if not 0, replaces Relation: both are whole numbers, and Left is not greater than Right and at most this
	// much less. Times are numbers of microseconds.
	Within int64

	Position Position
}

func (And) expr()       {}
func (Or) expr()        {}
func (Not) expr()       {}
func (*Test) expr()     {}
func (*Elements) expr() {}
func (*Relate) expr()   {}

func (e *Elements) String() string {
	s := fmt.Sprintf("%s of %s: %s", e.Quantifier, e.Array, e.Expr)
	if e.Empty {
		s += " or empty"
	}
	return s
}

func (r *Relate) String() string {
	if r.Within != 0 {
		return fmt.Sprintf("%s within %d before %s", r.Left, r.Within, r.Right)
	}
	s := fmt.Sprintf("%s %s %s", r.Left, r.Relation, r.Right)
	if r.Cased {
		s += " cased"
	}
	return s
}

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
	NotWild Wild = iota // Part is a literal
	One                 // exactly one character
	Many                // any number of characters, none included
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

// Relation is how a value must compare to a number, a text or the value of another field.
type Relation string

// The relations. Numbers know the first six; a Relate all of them.
const (
	Less           Relation = "<"
	LessOrEqual    Relation = "<="
	Greater        Relation = ">"
	GreaterOrEqual Relation = ">="
	Same           Relation = "="
	Different      Relation = "!="
	Contains       Relation = "contains"
	StartsWith     Relation = "startswith"
	EndsWith       Relation = "endswith"
)

// Order is satisfied by texts that stand in the relation to Text, compared byte by byte.
type Order struct {
	Relation Relation // Less, LessOrEqual, Greater or GreaterOrEqual
	Text     string
}

// Glob is satisfied by texts that fnmatch(3) without flags accepts whole: * ? [set] and \\ as
// escape; * crosses slashes. Fold ignores the case of ASCII letters.
type Glob struct {
	Pattern string
	Fold    bool
}

// PathPrefix is satisfied by paths that begin with Path, component by component; a component of
// Path may be a Glob.
type PathPrefix struct{ Path string }

// TimePart is satisfied by times (RFC 3339 texts, and columns of times) one part of which, as the
// text has it without conversion of the zone, compares to Number.
type TimePart struct {
	Part     string // minute, hour, day, week, month or year
	Relation Relation
	Number   int64
}

// Regexp is satisfied by texts in which the expression is found.
type Regexp struct{ *regexp.Regexp }

// Network is satisfied by IP addresses in the prefix; an IPv4 address mapped into IPv6
// counts as IPv4.
type Network struct{ netip.Prefix }

func (Any) match()        {}
func (Text) match()       {}
func (Equal) match()      {}
func (Compare) match()    {}
func (Regexp) match()     {}
func (Network) match()    {}
func (Order) match()      {}
func (Glob) match()       {}
func (PathPrefix) match() {}
func (TimePart) match()   {}

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
		case NotWild:
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

func (o Order) String() string { return fmt.Sprintf("%s %q", o.Relation, o.Text) }
func (g Glob) String() string {
	if g.Fold {
		return fmt.Sprintf("iglob %q", g.Pattern)
	}
	return fmt.Sprintf("glob %q", g.Pattern)
}
func (p PathPrefix) String() string { return fmt.Sprintf("below %q", p.Path) }
func (t TimePart) String() string   { return fmt.Sprintf("%s %s %d", t.Part, t.Relation, t.Number) }

// Tests calls visit for every test of e, but for those inside Elements, whose fields are those of a member.
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
