package ir

import "time"

// Case is a test that a rule carries: events, and how many alerts the rule raises on them.
type Case struct {
	Name   string
	Alerts int // 1 for match: true, 0 for match: false
	Events []CaseEvent

	Position Position
}

// CaseEvent is an event of a Case, or several alike.
type CaseEvent struct {
	JSON   []byte        // a part of an audit.k8s.io Event; the rest is filled in when the case is run
	After  time.Duration // since the beginning of the case
	Repeat int           // how many events, at least 1; each with an auditID of its own
	Every  time.Duration // between them
}
