// Package split takes the body of a request or the text of a log apart into audit events.
//
// Comes in: a sender's bytes: an EventList, an Event, a JSON array of either, or any of
// these one after the other (JSON lines). Goes out, through a callback: one Item per
// event, or per piece that is none. Guaranteed: the bytes of an event are a sub-slice of
// the input, never re-encoded; a broken item does not cost its neighbours; whatever is
// not an event comes out as a fault with its bytes and a reason; the work is bounded by
// the length of the input, whatever is in it.
//
// Decisions, each taken so that nothing is lost:
//   - An event is an object with an auditID, or with a stage and a verb, whose kind and
//     apiVersion, if it has them, are Event and any version of audit.k8s.io.
//   - Bytes that are not UTF-8 are kept as they came. The fields that make the
//     fingerprint read them as U+FFFD, which is what the API server writes for them.
//   - Of duplicate keys the last one counts, as for encoding/json and the API server.
//   - Numbers stay text: none is too large.
package split

import (
	"bytes"
	"strings"

	"github.com/auditmill/auditmill/internal/jsonscan"
	"github.com/auditmill/auditmill/schemas"
)

// The reasons of a Fault: a closed set, for metrics and headers of dead letters.
const (
	ReasonSyntax    = "syntax"       // not JSON
	ReasonTruncated = "truncated"    // the input ends inside a value
	ReasonTooDeep   = "too_deep"     // nested deeper than jsonscan.MaxDepth
	ReasonNotEvent  = "not_an_event" // JSON, but no audit event
	ReasonTooLarge  = "too_large"    // longer than schemas.MaxEventBytes
)

// Reasons returns the closed set of reasons.
func Reasons() []string {
	return []string{ReasonSyntax, ReasonTruncated, ReasonTooDeep, ReasonNotEvent, ReasonTooLarge}
}

// The values of Item.Damage.
const (
	// DamageTruncated marks an event that the API server stripped of its objects.
	DamageTruncated = "truncated"
	// DamageRecovered marks an event found by searching behind broken JSON, which makes
	// it uncertain that it was an item of the list and not part of a request's body.
	DamageRecovered = "recovered"
)

// An Item is an event or, if Fault is set, a piece of the input that is none.
type Item struct {
	// Raw is the sender's bytes, a sub-slice of the input. It is empty for a fault that
	// is nothing but a missing comma or bracket.
	Raw []byte
	// Offset is where Raw begins in the input.
	Offset int
	// Fields make the fingerprint. They share memory with the input and the Splitter
	// and are valid until the callback returns.
	Fields schemas.FingerprintFields
	// Damage says why the event is known to be incomplete or uncertain; empty otherwise.
	Damage string
	// Fault is nil for an event.
	Fault *Fault
}

// A Fault says why a piece of the input is not an event.
type Fault struct {
	Reason string // one of the Reason constants
	Detail string // where and why, and what to do about it
}

// A Splitter takes inputs apart. It reuses its memory and is not safe for concurrent
// use; its zero value is ready.
type Splitter struct {
	body    []byte
	yield   func(*Item) bool
	stopped bool // yield returned false

	item    Item
	seen    members
	scratch []byte // unescaped strings of item
	stack   []byte // open brackets, for balanced

	recovering bool // everything from here on was found by searching
	cut        bool // it was reported that the input ends too early
	abandoned  bool // the arrays and lists that are open end here
	loose      bool // the top level may hold what is left of a broken list
	oneLine    bool // no line begins with a bracket from here on
	line       int  // where nextLine found the next line to end
	budget     int  // bytes that may still be read more than once, because of broken items

	faults  int
	pending Item // faults that are being joined, if its Fault is set
}

// members is what matters, beside the fingerprint, of the object that is being read.
type members struct {
	kind, apiVersion       string
	hasKind, hasAPIVersion bool
	items                  byte // first byte of the value of items
	truncated              bool
}

// searchFactor bounds what broken items cost: their neighbours are searched for in no more
// than that many times the length of the input, all searches together. Beyond it, the rest
// of the input is one fault.
const searchFactor = 8

// nesting says what an element may be.
type nesting uint8

const (
	atTop   nesting = iota // events, lists and arrays
	inArray                // events and lists
	inList                 // events
)

// Split calls yield for each event and each fault of body, in order, until yield returns
// false. The Item is valid until yield returns; its Raw as long as body.
func (s *Splitter) Split(body []byte, yield func(*Item) bool) {
	*s = Splitter{yield: yield, scratch: s.scratch, stack: s.stack, line: -1, budget: searchFactor * len(body)}
	// White space at the end is cut so that "ends inside a value" is "ends here".
	s.body = bytes.TrimRight(body, " \t\r\n")
	pos := 0
	if bytes.HasPrefix(body, []byte("\xef\xbb\xbf")) { // as some editors begin a file
		pos = 3
	}
	for !s.stopped {
		if pos = jsonscan.SkipSpace(s.body, pos); pos >= len(s.body) {
			break
		}
		if pos > 0 && s.body[pos-1] == '\n' {
			s.recovering = false // a new line is a new begin
		}
		if s.loose && strings.IndexByte(",]}", s.body[pos]) >= 0 {
			pos++
			continue
		}
		if s.budget < 0 {
			s.fault(pos, len(s.body), ReasonSyntax, "there is too much broken before this to go on")
			break
		}
		s.abandoned = false
		end, err := s.element(pos, atTop)
		if err != nil {
			end = s.recoverTop(pos, err)
		}
		pos = end
	}
	s.flush()
	s.body, s.yield, s.item, s.pending = nil, nil, Item{}, Item{}
}

// element reads the value at pos. An error means that the value is broken and nothing
// of it was yielded.
func (s *Splitter) element(pos int, allowed nesting) (end int, err error) {
	switch {
	case pos < len(s.body) && s.body[pos] == '{':
		return s.object(pos, allowed)
	case pos < len(s.body) && s.body[pos] == '[' && allowed == atTop:
		return s.elements(pos, inArray), nil
	}
	if end, err = jsonscan.Skip(s.body, pos); err != nil {
		return end, err
	}
	s.fault(pos, end, ReasonNotEvent, "a "+typeOf(s.body[pos])+
		" where an audit event must stand; send objects of kind Event or EventList")
	return end, nil
}

// elements reads the array that opens at pos and returns the index after it, or after as
// much of it as there is. What is broken it reports itself.
func (s *Splitter) elements(pos int, allowed nesting) (end int) {
	pos = jsonscan.SkipSpace(s.body, pos+1)
	if pos < len(s.body) && s.body[pos] == ']' {
		return pos + 1
	}
	for !s.stopped {
		var err error
		if end, err = s.arrayElement(pos, allowed); s.abandoned || err != nil && end >= len(s.body) {
			return end
		}
		end = jsonscan.SkipSpace(s.body, end)
		switch {
		case end >= len(s.body):
			s.missing(end, true, "the array ends without ]")
			return end
		case s.body[end] == ',':
			pos = jsonscan.SkipSpace(s.body, end+1)
		case s.body[end] == ']':
			return end + 1
		default:
			if err == nil {
				s.missing(end, false, "a comma or ] must stand here")
			}
			pos = end
		}
	}
	return len(s.body)
}

// arrayElement reads the element at pos of an array and reports it if it is broken.
func (s *Splitter) arrayElement(pos int, allowed nesting) (end int, err error) {
	if pos < len(s.body) && (s.body[pos] == ',' || s.body[pos] == ']') {
		s.missing(pos, false, "an item must stand here")
		return pos, nil
	}
	if end, err = s.element(pos, allowed); err != nil {
		end = s.recoverElement(pos, err)
	}
	return end, err
}

// object reads the object at start: an event, which is yielded, or a list, whose items are.
func (s *Splitter) object(start int, allowed nesting) (end int, err error) {
	s.item, s.seen, s.scratch = Item{}, members{}, s.scratch[:0]
	pos := jsonscan.SkipSpace(s.body, start+1)
	if pos < len(s.body) && s.body[pos] == '}' {
		return s.finish(start, pos+1), nil
	}
	for next := 0; ; {
		at, m, following, ok := s.expected(pos, next)
		if next = following; !ok {
			var key []byte
			if key, at, err = s.key(pos); err == nil {
				if allowed != inList && s.beginsItems(start, key, at) {
					return s.list(at), nil
				}
				m = s.member(key)
			}
		}
		if err == nil {
			end, err = s.value(m, at)
		}
		if err != nil {
			return s.brokenMember(pos, end, allowed, err)
		}
		pos = jsonscan.SkipSpace(s.body, end)
		switch {
		case pos < len(s.body) && s.body[pos] == ',':
			pos = jsonscan.SkipSpace(s.body, pos+1)
		case pos < len(s.body) && s.body[pos] == '}':
			return s.finish(start, pos+1), nil
		default:
			return pos, syntaxAt(pos, "a comma or } must stand here")
		}
	}
}

// brokenMember goes on at the items of a list if the member at pos, before them, is broken.
func (s *Splitter) brokenMember(pos, end int, allowed nesting, err error) (int, error) {
	if allowed == inList || s.seen.kind != kindList {
		return end, err
	}
	items := s.findItems(pos)
	if items < 0 {
		return end, err
	}
	s.fault(pos, items, ReasonSyntax, "the head of the list is broken: "+err.Error())
	return s.list(items), nil
}

// list reads the items that begin at pos and the rest of the object they belong to. It
// returns where that ends, or where something broken begins that is no item.
func (s *Splitter) list(pos int) (end int) {
	end = s.elements(pos, inList)
	whole := end // up to here everything was taken care of
	for !s.abandoned && !s.stopped {
		pos = jsonscan.SkipSpace(s.body, end)
		if pos < len(s.body) && s.body[pos] == '}' {
			return pos + 1
		}
		if pos >= len(s.body) || s.body[pos] != ',' {
			s.budget -= pos - whole
			s.missing(whole, pos >= len(s.body), "a comma or } is missing")
			return whole
		}
		pos = jsonscan.SkipSpace(s.body, pos+1)
		key, at, err := s.key(pos)
		if err == nil && at < len(s.body) && s.body[at] == '[' && isItems(key) {
			end = s.elements(at, inList)
			whole = end
			continue
		}
		whole = pos
		if err == nil {
			end, err = jsonscan.Skip(s.body, at)
		}
		if err != nil {
			s.budget -= end - whole // this will be read again
			s.missing(whole, s.atEnd(err), err.Error())
			return whole
		}
	}
	return end
}

func isItems(key []byte) bool { return jsonscan.KeyIs(key[1:len(key)-1], "items") }

// key reads the key at pos, quotes included, and its colon; at is where the value begins.
func (s *Splitter) key(pos int) (key []byte, at int, err error) {
	if end, at, ok := jsonscan.Key(s.body, pos); ok {
		return s.body[pos:end], at, nil
	}
	if pos < len(s.body) && s.body[pos] != '"' {
		return nil, pos, syntaxAt(pos, "a key in double quotes must stand here")
	}
	end, err := jsonscan.Skip(s.body, pos)
	if err != nil {
		return nil, end, err
	}
	key = s.body[pos:end]
	end = jsonscan.SkipSpace(s.body, end)
	if end >= len(s.body) || s.body[end] != ':' {
		return nil, end, syntaxAt(end, "a colon must stand here")
	}
	return key, jsonscan.SkipSpace(s.body, end+1), nil
}

// beginsItems reports whether the member with this key, whose value is at at, holds the
// items of a list.
func (s *Splitter) beginsItems(start int, key []byte, at int) bool {
	if at >= len(s.body) || s.body[at] != '[' || !isItems(key) {
		return false
	}
	if s.seen.hasKind {
		return s.seen.kind == kindList
	}
	if s.item.Fields.AuditID != "" || s.seen.items != 0 {
		return false
	}
	// The items come before the kind, or there is no kind: look ahead. The value is
	// looked at once, because it makes the object a list or sets seen.items.
	kind, isEvent := "", false
	it := jsonscan.Object(s.body[start:])
	for it.Next() {
		if jsonscan.KeyIs(it.Key(), "kind") {
			kind, _ = jsonscan.String(it.Value())
		}
		isEvent = isEvent || jsonscan.KeyIs(it.Key(), "auditID")
	}
	s.budget -= walked(&it)
	return kind == kindList || kind == "" && !isEvent
}

// findItems returns where the array of items opens behind a broken head, or -1.
func (s *Splitter) findItems(pos int) int {
	const name = `"items"`
	for s.budget > 0 {
		n := bytes.Index(s.body[pos:], []byte(name))
		if n < 0 {
			s.budget -= len(s.body) - pos
			return -1
		}
		s.budget -= n + len(name)
		pos += n + len(name)
		at := jsonscan.SkipSpace(s.body, pos)
		if at < len(s.body) && s.body[at] == ':' {
			if at = jsonscan.SkipSpace(s.body, at+1); at < len(s.body) && s.body[at] == '[' {
				return at
			}
		}
	}
	return -1
}

func typeOf(first byte) string {
	switch first {
	case '"':
		return "string"
	case '[':
		return "nested array"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}
