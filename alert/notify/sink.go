package notify

import (
	"context"
	"errors"
	"time"
)

// Sink posts messages to one channel.
//
// Message.Kind says what is wanted: a new message, or, from a sink that can, a change of or a
// reply to the one at Message.At. Post returns nil only when the receiving side accepted the message for good. It makes one
// attempt and must return soon after ctx ends. Its errors are *Error; any other error is
// taken for a transient one. plain asks for a rendering without any layout, after the
// receiving side refused the usual one. Post is never called concurrently.
type Sink interface {
	Name() string
	Post(ctx context.Context, m *Message, plain bool) (Receipt, error)
}

// Features say what a sink can do besides posting.
type Features struct {
	// Update is changing a message, and Reply answering in its thread.
	Update, Reply bool
	// Digest is one message about many groups; for sinks that people read.
	Digest bool
}

// featured is a Sink that can do more than post.
type featured interface {
	Sink
	Features() Features
}

func featuresOf(s Sink) Features {
	if f, ok := s.(featured); ok {
		return f.Features()
	}
	return Features{}
}

// Receipt says where a message stands.
type Receipt struct {
	Channel string
	// TS is the id of the message in the channel; empty if the sink does not tell.
	TS string
}

// Class says what helps against an error of a Sink.
type Class uint8

// The classes of errors.
const (
	// Transient errors pass: post again, after RetryAfter if that is set.
	Transient Class = iota
	// Blocked errors last until a person changes something outside: a revoked token, a
	// deleted channel. They concern every message.
	Blocked
	// Refused errors concern this message: it is invalid for the sink.
	Refused
	// Gone says that the message to be changed or answered is not there any more.
	Gone
	// Doubtful errors are either Blocked or Refused; a plain message tells which.
	Doubtful
)

// Error is why a Sink did not post.
type Error struct {
	Class Class
	// Reason is a label of a metric: short, and from a closed set.
	Reason string
	// RetryAfter is how long the receiving side asked to wait; 0 if it did not.
	RetryAfter time.Duration
	// Unknown is true when the message may have been posted all the same.
	Unknown bool
	Err     error
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Class: Transient, Reason: "other", Unknown: true, Err: err}
}
