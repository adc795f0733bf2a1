package split

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/auditmill/auditmill/internal/jsonscan"
)

// maxFaults is how many faults of an input come out one by one. Those beyond it are
// joined with the faults right behind them, so that an input like [1,1,1,…] does not
// become a dead letter of every other byte.
const maxFaults = 1000

// lineEnds is the reason of a syntax error that a line break explains.
const lineEnds = "the line ends in the middle of a value"

func syntaxAt(offset int, reason string) error {
	return &jsonscan.SyntaxError{Offset: offset, Reason: reason}
}

// fault reports the piece between start and end.
func (s *Splitter) fault(start, end int, reason, detail string) {
	if s.pending.Fault != nil {
		s.pending.Raw = s.body[s.pending.Offset:end:end]
		return
	}
	item := Item{Raw: s.body[start:end:end], Offset: start, Fault: &Fault{
		Reason: reason, Detail: fmt.Sprintf("at byte %d: %s", start, detail),
	}}
	if s.faults++; s.faults <= maxFaults {
		s.emit(&item)
		return
	}
	item.Fault.Detail += fmt.Sprintf("; the faults right behind it are joined to it, after %d in one input", maxFaults)
	s.pending = item
}

// missing reports a separator that is not there, cut if that is because the input ends.
// No byte is lost with it.
func (s *Splitter) missing(pos int, cut bool, detail string) {
	s.loose = true
	reason := ReasonSyntax
	if cut {
		if s.cut { // was said already
			return
		}
		s.cut = true
		reason, detail = ReasonTruncated, detail+"; what was sent was cut on its way"
	}
	s.fault(pos, pos, reason, detail+"; the items before it are kept")
}

// flush yields the faults that were joined.
func (s *Splitter) flush() {
	if s.pending.Fault != nil {
		item := s.pending
		s.pending = Item{}
		s.emit(&item)
	}
}

func (s *Splitter) emit(item *Item) {
	if !s.stopped && !s.yield(item) {
		s.stopped = true
	}
}

// broken reports the piece between start and end, which has the syntax error err.
func (s *Splitter) broken(start, end int, err error) {
	s.loose = true
	reason, what := ReasonSyntax, err.Error()
	if syntax, ok := errors.AsType[*jsonscan.SyntaxError](err); ok {
		switch {
		case s.atEnd(err) || syntax.Reason == lineEnds:
			reason, s.cut = ReasonTruncated, end >= len(s.body)
			what += "; what was sent was cut on its way"
		case strings.HasPrefix(syntax.Reason, "nested"):
			reason = ReasonTooDeep
		}
	}
	s.fault(start, end, reason, what)
}

// atEnd reports whether err means that the input ends inside a value: everything up to
// its end could have been the begin of valid JSON.
func (s *Splitter) atEnd(err error) bool {
	syntax, ok := errors.AsType[*jsonscan.SyntaxError](err)
	if !ok {
		return false
	}
	if syntax.Offset >= len(s.body) {
		return true
	}
	// A number or an escape that is cut is reported where it begins.
	rest := s.body[syntax.Offset:]
	switch {
	case rest[0] == '\\' && len(rest) < len(`\u0000`):
		return len(rest) == 1 || rest[1] == 'u' && isHex(rest[2:])
	case rest[0] == '-' || rest[0] >= '0' && rest[0] <= '9':
		last := rest[len(rest)-1]
		return strings.IndexByte("-+.eE", last) >= 0 && len(bytes.TrimLeft(rest, "0123456789+-.eE")) == 0
	}
	return false
}

func isHex(b []byte) bool { return len(bytes.Trim(b, "0123456789abcdefABCDEF")) == 0 }

// recoverElement reports the broken element at pos of an array and returns where to go
// on: at the separator behind it, at a new line (then the array is abandoned), at the
// next event that could be found, or at the end.
func (s *Splitter) recoverElement(pos int, err error) int {
	if !s.atEnd(err) {
		if end := s.balanced(pos); end >= 0 {
			next := jsonscan.SkipSpace(s.body, end)
			if next < len(s.body) && (s.body[next] == ',' || s.body[next] == ']') {
				s.broken(pos, end, err)
				return end
			}
		}
	}
	line := s.nextLine(pos)
	next := len(s.body)
	if !s.atEnd(err) {
		next = s.search(pos+1, line, ",")
	}
	if next == len(s.body) && line >= 0 {
		s.abandoned = true
		return s.recoverLine(pos, line, err)
	}
	s.broken(pos, next, err)
	return next
}

// recoverTop does the same at the top level.
func (s *Splitter) recoverTop(pos int, err error) int {
	if line := s.nextLine(pos); line >= 0 {
		return s.recoverLine(pos, line, err)
	}
	end := len(s.body)
	switch c := s.body[pos]; {
	case s.atEnd(err):
	case c != '{' && c != '[':
		if n := bytes.IndexAny(s.body[pos+1:], "{["); n >= 0 {
			end = pos + 1 + n
		}
	default:
		if end = s.balanced(pos); end < 0 {
			end = s.search(pos+1, -1, ",}[")
		}
	}
	s.broken(pos, end, err)
	return end
}

// recoverLine goes on behind the line that ends at end. The next one begins with a
// bracket, which makes it a safe place at the top level: JSON strings hold no line ends.
func (s *Splitter) recoverLine(pos, end int, err error) (next int) {
	if syntax, ok := errors.AsType[*jsonscan.SyntaxError](err); ok && syntax.Offset >= end {
		err = syntaxAt(end, lineEnds)
	}
	s.broken(pos, end, err)
	return end + 1
}

// nextLine returns the index of the next line end that a bracket follows, or -1.
func (s *Splitter) nextLine(pos int) int {
	if pos <= s.line {
		return s.line
	}
	for !s.oneLine {
		n := bytes.IndexByte(s.body[pos:], '\n')
		if n < 0 {
			s.oneLine = true // and is from every later place
			break
		}
		pos += n
		if next := pos + 1; next < len(s.body) && (s.body[next] == '{' || s.body[next] == '[') {
			s.line = pos
			return pos
		}
		pos++
	}
	return -1
}

// balanced returns the index after the broken value at pos, if its brackets and quotes
// still tell where it ends, or else -1.
func (s *Splitter) balanced(pos int) int {
	s.stack = s.stack[:0]
	for i := pos; i < len(s.body) && s.budget > 0; i++ {
		s.budget--
		switch c := s.body[i]; c {
		case '"':
			n := closingQuote(s.body[i+1:])
			if n < 0 || !s.endsString(i+1+n) {
				return -1
			}
			s.budget -= n
			i += n
		case '{', '[':
			s.stack = append(s.stack, c+2) // '{'+2 is '}', '['+2 is ']'
		case ',', '}', ']':
			if len(s.stack) == 0 { // behind a value that is no object or array
				return i
			}
			if c == ',' {
				continue
			}
			top := len(s.stack) - 1
			if s.stack[top] != c {
				return -1
			}
			if s.stack = s.stack[:top]; top == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// endsString reports whether a string can end before pos. If it cannot, a quote is missing
// or one too many.
func (s *Splitter) endsString(pos int) bool {
	pos = jsonscan.SkipSpace(s.body, pos)
	return pos >= len(s.body) || strings.IndexByte(":,]}", s.body[pos]) >= 0
}

// closingQuote returns the index after the quote that ends the string text begins with,
// or -1 if a control character or the end comes first.
func closingQuote(text []byte) int {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			i++
		case c < ' ':
			return -1
		}
	}
	return -1
}

// search returns the index of the next whole event between pos and limit (the end, if
// limit is negative) that stands behind one of the bytes in before, or the length of the
// input.
func (s *Splitter) search(pos, limit int, before string) int {
	if limit < 0 {
		limit = len(s.body)
	}
	last := byte(0)
	for i := pos; i < limit && s.budget > 0; i++ {
		c := s.body[i]
		s.budget--
		if c == '{' && last != 0 && strings.IndexByte(before, last) >= 0 && s.isEvent(i) {
			s.recovering = true
			return i
		}
		if c > ' ' {
			last = c
		}
	}
	return len(s.body)
}

// isEvent reports whether a whole event begins at pos.
func (s *Splitter) isEvent(pos int) bool {
	auditID, stage := false, false
	it := jsonscan.Object(s.body[pos:])
	for it.Next() {
		auditID = auditID || jsonscan.KeyIs(it.Key(), "auditID")
		stage = stage || jsonscan.KeyIs(it.Key(), "stage")
	}
	s.budget -= walked(&it)
	return it.Err() == nil && auditID && stage
}

// walked returns how far an object was read.
func walked(it *jsonscan.Iter) int {
	end := it.End()
	if syntax, ok := errors.AsType[*jsonscan.SyntaxError](it.Err()); ok {
		end = max(end, syntax.Offset)
	}
	return end
}
