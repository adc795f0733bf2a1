package split

import (
	"bytes"
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

// member takes what matters of one member of an object. key includes its quotes.
func (s *Splitter) member(key, value []byte) {
	if bytes.IndexByte(key, '\\') >= 0 {
		plain, _ := jsonscan.String(key)
		key = []byte(`"` + plain + `"`)
	}
	f := &s.item.Fields
	switch string(key) {
	case `"auditID"`:
		f.AuditID = s.text(value)
	case `"stage"`:
		f.Stage = s.text(value)
	case `"requestReceivedTimestamp"`:
		f.RequestReceived = s.text(value)
	case `"stageTimestamp"`:
		f.StageTime = s.text(value)
	case `"verb"`:
		f.Verb = s.text(value)
	case `"requestURI"`:
		f.RequestURI = s.text(value)
	case `"user"`:
		f.Username = ""
		if name, ok := get(value, "username"); ok {
			f.Username = s.text(name)
		}
	case `"responseStatus"`:
		f.Code = ""
		if code, ok := get(value, "code"); ok {
			f.Code = codeText(code)
		}
	case `"annotations"`:
		flag, _ := get(value, annotationTruncated)
		s.seen.truncated = string(flag) == `"true"`
	case `"kind"`:
		s.seen.kind, s.seen.hasKind = s.text(value), true
	case `"apiVersion"`:
		s.seen.apiVersion, s.seen.hasAPIVersion = s.text(value), true
	case `"items"`:
		s.seen.items = value[0]
	}
}

// get is jsonscan.Get for a value that may be anything.
func get(value []byte, key string) ([]byte, bool) {
	if value[0] != '{' {
		return nil, false
	}
	return jsonscan.Get(value, key)
}

// text returns the string that value is, empty if it is none. It allocates nothing: the
// result shares memory with the input or with scratch.
func (s *Splitter) text(value []byte) string {
	if value[0] != '"' {
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
	f := &s.item.Fields
	switch {
	case s.seen.kind == kindList && (s.seen.items == 0 || s.seen.items == 'n'):
		return end // a list without items
	case s.seen.kind == kindList:
		s.fault(start, end, ReasonNotEvent, "an EventList whose items are no array")
	case s.seen.hasKind && s.seen.kind != kindEvent:
		s.fault(start, end, ReasonNotEvent, fmt.Sprintf(
			"an object of kind %q; send objects of kind Event or EventList", clip(s.seen.kind)))
	case s.seen.hasAPIVersion && !strings.HasPrefix(s.seen.apiVersion, apiGroup):
		s.fault(start, end, ReasonNotEvent, fmt.Sprintf(
			"an object of apiVersion %q; send those of %s", clip(s.seen.apiVersion), apiGroup))
	case f.AuditID == "" && (f.Stage == "" || f.Verb == ""):
		s.fault(start, end, ReasonNotEvent,
			"an object with neither an auditID nor a stage and a verb; "+
				"if a shipper wrapped the event, have it send the event alone")
	case end-start > schemas.MaxEventBytes:
		s.fault(start, end, ReasonTooLarge, fmt.Sprintf(
			"an event of %d bytes, more than %d; lower the audit level for such objects or have "+
				"the API server truncate events", end-start, schemas.MaxEventBytes))
	default:
		s.flush()
		s.item.Raw, s.item.Offset = s.body[start:end:end], start
		switch {
		case s.recovering:
			s.item.Damage = DamageRecovered
		case s.seen.truncated:
			s.item.Damage = DamageTruncated
		}
		s.emit(&s.item)
	}
	return end
}

func clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
