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

// A member of an event or a list that matters.
type member uint8

const (
	memberOther member = iota
	memberAuditID
	memberStage
	memberRequestReceived
	memberStageTime
	memberVerb
	memberRequestURI
	memberUser
	memberResponseStatus
	memberAnnotations
	memberKind
	memberAPIVersion
	memberItems
)

func memberOf(name []byte) member {
	switch string(name) {
	case "auditID":
		return memberAuditID
	case "stage":
		return memberStage
	case "requestReceivedTimestamp":
		return memberRequestReceived
	case "stageTimestamp":
		return memberStageTime
	case "verb":
		return memberVerb
	case "requestURI":
		return memberRequestURI
	case "user":
		return memberUser
	case "responseStatus":
		return memberResponseStatus
	case "annotations":
		return memberAnnotations
	case "kind":
		return memberKind
	case "apiVersion":
		return memberAPIVersion
	case "items":
		return memberItems
	}
	return memberOther
}

// written are the keys of an event in the order in which the API server writes them, with
// quotes and colon, as they stand between a comma and a value.
//
//nolint:gochecknoglobals // a table
var written = [...]struct {
	text   string
	member member
}{
	{`"kind":`, memberKind}, // this and the next one in logs only
	{`"apiVersion":`, memberAPIVersion},
	{`"level":`, memberOther},
	{`"auditID":`, memberAuditID},
	{`"stage":`, memberStage},
	{`"requestURI":`, memberRequestURI},
	{`"verb":`, memberVerb},
	{`"user":`, memberUser},
	{`"impersonatedUser":`, memberOther},
	{`"sourceIPs":`, memberOther},
	{`"userAgent":`, memberOther},
	{`"objectRef":`, memberOther},
	{`"responseStatus":`, memberResponseStatus},
	{`"requestObject":`, memberOther},
	{`"responseObject":`, memberOther},
	{`"requestReceivedTimestamp":`, memberRequestReceived},
	{`"stageTimestamp":`, memberStageTime},
	{`"annotations":`, memberAnnotations},
}

// expected reads the key at pos if it is one of written from next on, and returns where its
// value begins and which member it is. Where keys are as expected, their lengths are known
// without looking for their ends. After the first that is not, next is beyond all of them.
func (s *Splitter) expected(pos, next int) (at int, m member, following int, ok bool) {
	rest := s.body[pos:]
	for i := next; i < len(written); i++ {
		text := written[i].text
		if len(rest) > len(text) && string(rest[:len(text)]) == text {
			return jsonscan.SkipSpace(s.body, pos+len(text)), written[i].member, i + 1, true
		}
	}
	return 0, memberOther, len(written), false
}

// member says which member key, quotes included, is.
func (s *Splitter) member(key []byte) member {
	name := key[1 : len(key)-1]
	m := memberOf(name)
	if m == memberOther && bytes.IndexByte(name, '\\') >= 0 {
		name, _ = jsonscan.AppendString(nil, key)
		m = memberOf(name)
	}
	return m
}

// value reads the value of m at at and takes of it what matters.
func (s *Splitter) value(m member, at int) (end int, err error) {
	var inner []byte // what matters inside the value, if that is an object
	switch m {
	case memberUser:
		inner, end, err = s.get(at, "username")
	case memberResponseStatus:
		inner, end, err = s.get(at, "code")
	case memberAnnotations:
		inner, end, err = s.get(at, annotationTruncated)
	default:
		end, err = jsonscan.Skip(s.body, at)
	}
	if err == nil && m != memberOther {
		s.take(m, s.body[at:end], inner)
	}
	return end, err
}

func (s *Splitter) take(m member, value, inner []byte) {
	f := &s.item.Fields
	switch m {
	case memberAuditID:
		f.AuditID = s.text(value)
	case memberStage:
		f.Stage = s.text(value)
	case memberRequestReceived:
		f.RequestReceived = s.text(value)
	case memberStageTime:
		f.StageTime = s.text(value)
	case memberVerb:
		f.Verb = s.text(value)
	case memberRequestURI:
		f.RequestURI = s.text(value)
	case memberUser:
		f.Username = s.text(inner)
	case memberResponseStatus:
		f.Code = codeText(inner)
	case memberAnnotations:
		s.seen.truncated = string(inner) == `"true"`
	case memberKind:
		s.seen.kind, s.seen.hasKind = s.text(value), true
	case memberAPIVersion:
		s.seen.apiVersion, s.seen.hasAPIVersion = s.text(value), true
	case memberItems:
		s.seen.items = value[0]
	case memberOther:
	}
}

// get reads the value at at and returns the last member called key, if it is an object
// that has one.
func (s *Splitter) get(at int, key string) (value []byte, end int, err error) {
	if at >= len(s.body) || s.body[at] != '{' {
		end, err = jsonscan.Skip(s.body, at)
		return nil, end, err
	}
	if value, end, ok := jsonscan.Member(s.body, at, key); ok {
		return value, end, nil
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
