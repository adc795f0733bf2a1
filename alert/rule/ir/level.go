package ir

import "slices"

// AuditLevels returns the levels from what records least to what records most.
func AuditLevels() []string { return []string{"Metadata", "Request", "RequestResponse"} }

// Level is the audit level from which on a field is recorded.
func (f Field) Level() string {
	if len(f.Path) > 0 {
		switch f.Path[0] {
		case "requestObject":
			return "Request"
		case "responseObject":
			return "RequestResponse"
		}
	}
	return "Metadata"
}

// Needs returns the audit level without which e is decided by nothing but absent fields, and the leaf
// (*Test, *Elements or *Relate) that asks for it; nil if the lowest level will do. What is denied asks for
// nothing: it is true of an event without the field.
func Needs(e Expr) (level string, leaf Expr) {
	leaf = needs(e)
	if leaf == nil {
		return AuditLevels()[0], nil
	}
	return AuditLevels()[levelOf(leaf)], leaf
}

func needs(e Expr) Expr {
	var chosen Expr
	switch e := e.(type) {
	case *Test, *Elements, *Relate:
		return e
	case And:
		for _, arg := range e {
			if leaf := needs(arg); leaf != nil && (chosen == nil || levelOf(leaf) > levelOf(chosen)) {
				chosen = leaf
			}
		}
	case Or:
		for i, arg := range e {
			leaf := needs(arg)
			if leaf == nil {
				return nil
			}
			if i == 0 || levelOf(leaf) < levelOf(chosen) {
				chosen = leaf
			}
		}
	}
	return chosen
}

func levelOf(leaf Expr) int {
	level := slices.Index(AuditLevels(), FieldOf(leaf).Level())
	if r, ok := leaf.(*Relate); ok {
		level = max(level, slices.Index(AuditLevels(), r.Right.Level()))
	}
	return level
}

// FieldOf returns the field of a leaf: the left one of a Relate, the array of an Elements.
func FieldOf(leaf Expr) Field {
	switch leaf := leaf.(type) {
	case *Test:
		return leaf.Field
	case *Elements:
		return leaf.Array
	case *Relate:
		return leaf.Left
	}
	return Field{}
}

// PositionOf returns the position of a leaf.
func PositionOf(leaf Expr) Position {
	switch leaf := leaf.(type) {
	case *Test:
		return leaf.Position
	case *Elements:
		return leaf.Position
	case *Relate:
		return leaf.Position
	}
	return Position{}
}

// Blocker returns a leaf that keeps e from ever being true; nil if there is none. A leaf is one if its field
// is always absent and it wants a value, or, with never, if that says so of the test.
func Blocker(e Expr, absent func(Field) bool, never func(*Test) bool) Expr {
	switch e := e.(type) {
	case And:
		return firstBlocker(e, absent, never)
	case Or:
		return commonBlocker(e, absent, never)
	case *Test:
		if !e.Missing && absent(e.Field) || never != nil && never(e) {
			return e
		}
	case *Elements:
		if !e.Empty && absent(e.Array) {
			return e
		}
	case *Relate:
		if absent(e.Left) || absent(e.Right) {
			return e
		}
	}
	return nil
}

// firstBlocker returns the leaf of the first part that has one.
func firstBlocker(and And, absent func(Field) bool, never func(*Test) bool) Expr {
	for _, arg := range and {
		if leaf := Blocker(arg, absent, never); leaf != nil {
			return leaf
		}
	}
	return nil
}

// commonBlocker returns a leaf if all parts have one.
func commonBlocker(or Or, absent func(Field) bool, never func(*Test) bool) (first Expr) {
	for i, arg := range or {
		leaf := Blocker(arg, absent, never)
		if leaf == nil {
			return nil
		}
		if i == 0 {
			first = leaf
		}
	}
	return first
}
