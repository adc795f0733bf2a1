package enrich

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/auditmill/auditmill/internal/jsonscan"
	"github.com/auditmill/auditmill/schemas"
)

// decoder reads audit events into rows. What is not read stays in raw. It reuses its
// memory: an event is valid until the next call. It is not safe for concurrent use.
type decoder struct {
	event  schemas.Event
	arena  []byte // unescaped strings of the event
	lists  []string
	damage []string
}

// The members of an event, for the set of those that were seen.
const (
	memberAnnotations = 1 << iota
	memberAuditID
	memberAuthentication
	memberImpersonated
	memberLevel
	memberObjectRef
	memberReceived
	memberRequestURI
	memberResponseStatus
	memberSourceIPs
	memberStage
	memberStageTime
	memberUser
	memberUserAgent
	memberVerb
)

// decode reads raw. It fails if raw is not one JSON object; a member of the wrong type is
// left empty and named in Damage, a member that stands twice counts as it does for the API
// server, the last one, and is named too.
func (d *decoder) decode(raw []byte, damage string) (*schemas.Event, error) {
	d.event.Reset()
	d.arena, d.lists, d.damage = d.arena[:0], d.lists[:0], d.damage[:0]
	if damage != "" {
		d.damage = append(d.damage, damage)
	}
	e := &d.event
	e.Raw = raw
	seen := 0
	it := jsonscan.Object(raw)
	for it.Next() {
		member := d.member(it.Key(), it.Value())
		if member != 0 && seen&member != 0 {
			d.hurt("duplicate " + string(it.Key()))
		}
		seen |= member
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("decoding event: %w", err)
	}
	if end := jsonscan.SkipSpace(raw, it.End()); end != len(raw) {
		return nil, fmt.Errorf("decoding event: %d bytes follow the object at byte %d", len(raw)-end, end)
	}
	if e.EventTime != 0 && e.StageTime != 0 {
		e.Duration = e.StageTime - e.EventTime
	}
	e.Damage = strings.Join(d.damage, ", ")
	return e, nil
}

// hurt records what is wrong with the event; each thing once.
func (d *decoder) hurt(what string) {
	if slices.Contains(d.damage, what) {
		return
	}
	d.damage = append(d.damage, what)
}

//nolint:cyclop // one case per member, none with a branch worth a name
func (d *decoder) member(key, value []byte) int {
	e := &d.event
	switch name := d.key(key); name {
	case "auditID":
		e.AuditID = d.text(name, value)
		return memberAuditID
	case "stage":
		e.Stage = d.text(name, value)
		return memberStage
	case "level":
		e.Level = d.text(name, value)
		return memberLevel
	case "verb":
		e.Verb = d.text(name, value)
		return memberVerb
	case "requestURI":
		e.RequestURI = d.text(name, value)
		return memberRequestURI
	case "userAgent":
		e.UserAgent = d.text(name, value)
		return memberUserAgent
	case "requestReceivedTimestamp":
		e.EventTime = d.time(name, value)
		return memberReceived
	case "stageTimestamp":
		e.StageTime = d.time(name, value)
		return memberStageTime
	case "sourceIPs":
		e.SourceIPs = d.list(e.SourceIPs[:0], name, value)
		return memberSourceIPs
	case "user":
		e.User, e.UserUID, e.Groups, e.Extra = d.user(name, value, e.Groups[:0], e.Extra[:0])
		return memberUser
	case "impersonatedUser":
		e.ImpersonatedUser, e.ImpersonatedUID, e.ImpersonatedGroups, e.ImpersonatedExtra = d.user(
			name, value, e.ImpersonatedGroups[:0], e.ImpersonatedExtra[:0])
		return memberImpersonated
	case "objectRef":
		d.objectRef(value)
		return memberObjectRef
	case "responseStatus":
		d.responseStatus(value)
		return memberResponseStatus
	case "annotations":
		d.annotations(value)
		return memberAnnotations
	case "authenticationMetadata":
		e.ImpersonationConstraint = ""
		d.object(name, value, func(key string, value []byte) {
			if key == "impersonationConstraint" {
				e.ImpersonationConstraint = d.text("authenticationMetadata.impersonationConstraint", value)
			}
		})
		return memberAuthentication
	}
	return 0
}

func (d *decoder) user(
	name string, value []byte, groups []string, extra []schemas.KeyValues,
) (string, string, []string, []schemas.KeyValues) {
	var username, uid string
	d.object(name, value, func(key string, value []byte) {
		switch key {
		case "username":
			username = d.text(name+".username", value)
		case "uid":
			uid = d.text(name+".uid", value)
		case "groups":
			groups = d.list(groups[:0], name+".groups", value)
		case "extra":
			extra = extra[:0]
			d.object(name+".extra", value, func(key string, value []byte) {
				from := len(d.lists)
				d.lists = d.list(d.lists, name+".extra", value)
				extra = append(extra, schemas.KeyValues{Key: key, Values: d.lists[from:len(d.lists):len(d.lists)]})
			})
		}
	})
	return username, uid, groups, extra
}

func (d *decoder) objectRef(value []byte) {
	e := &d.event
	e.Resource, e.Namespace, e.Name, e.ObjectUID = "", "", "", ""
	e.APIGroup, e.APIVersion, e.ResourceVersion, e.Subresource = "", "", "", ""
	d.object("objectRef", value, func(key string, value []byte) {
		var field *string
		switch key {
		case "resource":
			field = &e.Resource
		case "namespace":
			field = &e.Namespace
		case "name":
			field = &e.Name
		case "uid":
			field = &e.ObjectUID
		case "apiGroup":
			field = &e.APIGroup
		case "apiVersion":
			field = &e.APIVersion
		case "resourceVersion":
			field = &e.ResourceVersion
		case "subresource":
			field = &e.Subresource
		default:
			return
		}
		*field = d.text("objectRef."+key, value)
	})
}

func (d *decoder) responseStatus(value []byte) {
	e := &d.event
	e.Code, e.Status, e.Reason, e.Message = 0, "", "", ""
	d.object("responseStatus", value, func(key string, value []byte) {
		switch key {
		case "code":
			code, ok := jsonscan.Int(value)
			if !ok || code < 0 || code > 999 {
				d.hurt("bad responseStatus.code")
				return
			}
			e.Code = uint16(code)
		case "status":
			e.Status = d.text("responseStatus.status", value)
		case "reason":
			e.Reason = d.text("responseStatus.reason", value)
		case "message":
			e.Message = d.text("responseStatus.message", value)
		}
	})
}

func (d *decoder) annotations(value []byte) {
	e := &d.event
	e.Annotations, e.Decision, e.DecisionReason, e.IssuedCredentialID = e.Annotations[:0], "", "", ""
	d.object("annotations", value, func(key string, value []byte) {
		text := d.text("annotations", value)
		for i := range e.Annotations {
			if e.Annotations[i].Key == key {
				d.hurt("duplicate annotation")
				e.Annotations[i].Value = text
				return
			}
		}
		e.Annotations = append(e.Annotations, schemas.KeyValue{Key: key, Value: text})
	})
	for _, a := range e.Annotations {
		switch a.Key {
		case "authorization.k8s.io/decision":
			e.Decision = a.Value
		case "authorization.k8s.io/reason":
			e.DecisionReason = a.Value
		case "authentication.kubernetes.io/issued-credential-id":
			e.IssuedCredentialID = a.Value
		case "audit.k8s.io/truncated":
			d.hurt("truncated")
		}
	}
}

// object calls member for each member of the object that value is; null is an empty object.
func (d *decoder) object(name string, value []byte, member func(key string, value []byte)) {
	if value[0] != '{' {
		if value[0] != 'n' {
			d.hurt("bad " + name)
		}
		return
	}
	for it := jsonscan.Object(value); it.Next(); {
		member(d.key(it.Key()), it.Value())
	}
}

// list appends the strings of the array that value is to dst; null is an empty array.
func (d *decoder) list(dst []string, name string, value []byte) []string {
	if value[0] != '[' {
		if value[0] != 'n' {
			d.hurt("bad " + name)
		}
		return dst
	}
	for it := jsonscan.Array(value); it.Next(); {
		dst = append(dst, d.text(name, it.Value()))
	}
	return dst
}

// text returns the string that value is; null is an empty string.
func (d *decoder) text(name string, value []byte) string {
	if value[0] != '"' {
		if value[0] != 'n' {
			d.hurt("bad " + name)
		}
		return ""
	}
	return d.unescape(value[1:len(value)-1], value)
}

// key returns the key of a member, unescaped.
func (d *decoder) key(key []byte) string {
	if bytes.IndexByte(key, '\\') < 0 {
		return d.unescape(key, nil)
	}
	return d.unescape(key, append(append([]byte{'"'}, key...), '"'))
}

// unescape returns the meaning of inner, from the arena unless it stands for itself.
// The arena may move while the event is read: earlier strings keep the old memory alive.
func (d *decoder) unescape(inner, quoted []byte) string {
	if jsonscan.Plain(inner) {
		return unsafe.String(unsafe.SliceData(inner), len(inner))
	}
	if quoted == nil {
		quoted = append(append([]byte{'"'}, inner...), '"')
	}
	from := len(d.arena)
	d.arena, _ = jsonscan.AppendString(d.arena, quoted)
	return unsafe.String(unsafe.SliceData(d.arena[from:]), len(d.arena)-from)
}

// time returns µs since 1970; 0 and damage if value is no RFC 3339 time.
func (d *decoder) time(name string, value []byte) int64 {
	text := d.text(name, value)
	if text == "" {
		return 0
	}
	if t, ok := parseMicro(text); ok {
		return t
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() < 1970 || t.Year() > 2261 {
		d.hurt("bad " + name)
		return 0
	}
	return t.UnixMicro()
}

// parseMicro reads the one form that the API server writes, 2006-01-02T15:04:05.000000Z:
// ten times as fast as time.Parse.
func parseMicro(s string) (int64, bool) {
	const form = "0000-00-00T00:00:00.000000Z"
	if !hasForm(s, form) {
		return 0, false
	}
	number := func(from, to int) (n int) {
		for _, c := range []byte(s[from:to]) {
			n = n*10 + int(c-'0')
		}
		return n
	}
	year, month, day := number(0, 4), number(5, 7), number(8, 10)
	hour, minute, second := number(11, 13), number(14, 16), number(17, 19)
	if year < 1970 || year > 2261 || month < 1 || month > 12 || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	if t.Day() != day {
		return 0, false // the month has no such day
	}
	return t.Unix()*1_000_000 + int64(number(20, 26)), true
}

// hasForm says whether s is form with any digits in the place of its zeros.
func hasForm(s, form string) bool {
	if len(s) != len(form) {
		return false
	}
	for i := range len(form) {
		if c := s[i]; form[i] == '0' && (c < '0' || c > '9') || form[i] != '0' && c != form[i] {
			return false
		}
	}
	return true
}
