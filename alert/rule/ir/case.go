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
	JSON []byte // a part of an audit.k8s.io Event; the rest is filled in when the case is run
	// Columns are who and why of the event, which it does not say itself: a JSON object of columns, without which they
	// are what the event alone tells. A time that is a duration is meant from the event on: -12m is twelve minutes before.
	Columns []byte
	After   time.Duration // since the beginning of the case
	Repeat  int           // how many events, at least 1; each with an auditID of its own
	Every   time.Duration // between them
}
