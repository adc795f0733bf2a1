package split

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unsafe"

	"github.com/auditmill/auditmill/internal/jsonscan"
	"github.com/auditmill/auditmill/schemas"
)

const (
	kindEvent = "Event"
	kindList  = "EventList"
	apiGroup  = "audit.k8s.io/"
	// annotationTruncated is set by the API server on events that it stripped.
	annotationTruncated = "audit.k8s.io/truncated"
)

// member reads the value at at and takes of it what matters. key includes its quotes.
func (s *Splitter) member(key []byte, at int) (end int, err error) {
	name := key[1 : len(key)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		name, _ = jsonscan.AppendString(nil, key)
	}
	var inner []byte // what matters inside the value, if that is an object
	switch string(name) {
	case "user":
		inner, end, err = s.get(at, "username")
	case "responseStatus":
		inner, end, err = s.get(at, "code")
	case "annotations":
		inner, end, err = s.get(at, annotationTruncated)
	default:
		end, err = jsonscan.Skip(s.body, at)
	}
	if err == nil {
		s.take(name, s.body[at:end], inner)
	}
	return end, err
}

func (s *Splitter) take(name, value, inner []byte) {
	f := &s.item.Fields
	switch string(name) {
	case "auditID":
		f.AuditID = s.text(value)
	case "stage":
		f.Stage = s.text(value)
	case "requestReceivedTimestamp":
		f.RequestReceived = s.text(value)
	case "stageTimestamp":
		f.StageTime = s.text(value)
	case "verb":
		f.Verb = s.text(value)
	case "requestURI":
		f.RequestURI = s.text(value)
	case "user":
		f.Username = s.text(inner)
	case "responseStatus":
		f.Code = codeText(inner)
	case "annotations":
		s.seen.truncated = string(inner) == `"true"`
	case "kind":
		s.seen.kind, s.seen.hasKind = s.text(value), true
	case "apiVersion":
		s.seen.apiVersion, s.seen.hasAPIVersion = s.text(value), true
	case "items":
		s.seen.items = value[0]
	}
}

// get reads the value at at and returns the last member called key, if it is an object
// that has one.
func (s *Splitter) get(at int, key string) (value []byte, end int, err error) {
	if at >= len(s.body) || s.body[at] != '{' {
		end, err = jsonscan.Skip(s.body, at)
		return nil, end, err
	}
	it := jsonscan.Object(s.body[at:])
	for it.Next() {
		if jsonscan.KeyIs(it.Key(), key) {
			value = it.Value()
		}
	}
	return value, at + it.End(), shift(it.Err(), at)
}

// shift moves the place of an error by n bytes.
func shift(err error, n int) error {
	if err == nil {
		return nil
	}
	if syntax, ok := errors.AsType[*jsonscan.SyntaxError](err); ok {
		return syntaxAt(n+syntax.Offset, syntax.Reason)
	}
	return err
}

// text returns the string that value is, empty if it is none. It allocates nothing: the
// result shares memory with the input or with scratch.
func (s *Splitter) text(value []byte) string {
	if len(value) == 0 || value[0] != '"' {
		return ""
	}
	if inner := value[1 : len(value)-1]; jsonscan.Plain(inner) {
		return alias(inner)
	}
	from := len(s.scratch)
	s.scratch, _ = jsonscan.AppendString(s.scratch, value)
	return alias(s.scratch[from:])
}

func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// codeText returns the one text that a response code has in every encoding of an event:
// shippers that decode numbers as floating point write 200.0 or 2e2, and the API server
// leaves 0 out.
func codeText(value []byte) string {
	if len(value) == 0 {
		return ""
	}
	n, ok := jsonscan.Int(value)
	if ok && n >= 100 { // as the API server writes it
		return alias(value)
	}
	if !ok {
		f, err := strconv.ParseFloat(alias(value), 64)
		if err != nil || f != math.Trunc(f) || math.Abs(f) > math.MaxInt32 {
			return alias(value)
		}
		n = int64(f)
	}
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// finish yields the object between start and end, whose members were read, and returns end.
func (s *Splitter) finish(start, end int) int {
	if s.seen.kind == kindList && (s.seen.items == 0 || s.seen.items == 'n') {
		return end // a list without items
	}
	if why := s.noEvent(); why != "" {
		s.fault(start, end, ReasonNotEvent, why)
		return end
	}
	if size := end - start; size > schemas.MaxEventBytes {
		s.fault(start, end, ReasonTooLarge, fmt.Sprintf(
			"an event of %d bytes, more than %d; lower the audit level for such objects or have "+
				"the API server truncate events", size, schemas.MaxEventBytes))
		return end
	}
	s.flush()
	s.item.Raw, s.item.Offset = s.body[start:end:end], start
	switch {
	case s.recovering:
		s.item.Damage = DamageRecovered
	case s.seen.truncated:
		s.item.Damage = DamageTruncated
	}
	s.emit(&s.item)
	return end
}

// noEvent says why the object that was read is no audit event; empty if it is one.
func (s *Splitter) noEvent() string {
	f := &s.item.Fields
	switch {
	case s.seen.kind == kindList:
		return "an EventList whose items are no array"
	case s.seen.hasKind && s.seen.kind != kindEvent:
		return fmt.Sprintf("an object of kind %q; send objects of kind Event or EventList", clip(s.seen.kind))
	case s.seen.hasAPIVersion && !strings.HasPrefix(s.seen.apiVersion, apiGroup):
		return fmt.Sprintf("an object of apiVersion %q; send those of %s", clip(s.seen.apiVersion), apiGroup)
	case f.AuditID == "" && (f.Stage == "" || f.Verb == ""):
		return "an object with neither an auditID nor a stage and a verb; " +
			"if a shipper wrapped the event, have it send the event alone"
	}
	return ""
}

func clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
