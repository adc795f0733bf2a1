package enrich

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/enrich/identity"
	"github.com/auditmill/auditmill/enrich/origin"
	"github.com/auditmill/auditmill/enrich/rbac"
	"github.com/auditmill/auditmill/internal/jsonscan"
	"github.com/auditmill/auditmill/schemas"
)

// transformer makes rows of raw records: decode, who, why, from where. It remembers what
// it worked out for the few distinct user agents and reasons. It is not safe for concurrent use.
type transformer struct {
	decoder decoder
	hasher  schemas.Hasher
	who     identity.Classifier
	callers *callers // where there is no Joiner
	clients map[string]client
	reasons map[reasonKey]*rbac.Grant
	names   map[string]string // of clusters and sources
	cluster lastName
	source  lastName
	command []string
	join    *Joiner // with the context; nil for rows of the event alone
}

type client struct{ name, version string }

type reasonKey struct{ decision, reason string }

// maxRemembered bounds each of the transformer's memories.
const maxRemembered = 1 << 14

func newTransformer() *transformer {
	return &transformer{
		callers: newCallers(),
		clients: make(map[string]client), reasons: make(map[reasonKey]*rbac.Grant), names: make(map[string]string),
	}
}

// Why records go to the dead-letter topic.
const (
	reasonHeaders = "headers" // not written by ingest
	reasonDecode  = "decode"  // not a JSON object
)

// headers are what ingest says about a raw record.
type headers struct {
	cluster, source, damage string
	received                int64
}

// headers fails on a record that ingest did not write; newer says that the record has a
// newer format than this build reads, which is fatal: guessing would corrupt the trail.
func (t *transformer) headers(record *kgo.Record) (h headers, newer bool, err error) {
	var version []byte
	missing := true
	received := false
	for i := range record.Headers {
		header := &record.Headers[i]
		switch header.Key {
		case schemas.HeaderVersion:
			version, missing = header.Value, false
		case schemas.HeaderCluster:
			h.cluster = t.cluster.name(t, header.Value)
		case schemas.HeaderSource:
			h.source = t.source.name(t, header.Value)
		case schemas.HeaderDamage:
			h.damage = string(header.Value)
		case schemas.HeaderReceived:
			n, err := strconv.ParseInt(string(header.Value), 10, 64)
			if err != nil || n < 0 {
				return h, false, fmt.Errorf("record header %q is %q, not µs since 1970", header.Key, header.Value)
			}
			h.received, received = n, true
		}
	}
	if !received {
		h.received = record.Timestamp.UnixMicro()
	}
	if err := schemas.CheckVersion(version, missing); err != nil {
		n, convErr := strconv.Atoi(string(version))
		return h, convErr == nil && n > schemas.Version, err
	}
	if h.cluster == "" || h.source == "" {
		return h, false, fmt.Errorf("record headers %q and %q must not be empty", schemas.HeaderCluster, schemas.HeaderSource)
	}
	if len(record.Key) != len(schemas.ID{}) {
		return h, false, fmt.Errorf("record key has %d bytes, a fingerprint has %d", len(record.Key), len(schemas.ID{}))
	}
	return h, false, nil
}

// lastName is the name of the record before, which most often is that of the next.
type lastName struct{ text string }

func (l *lastName) name(t *transformer, b []byte) string {
	if l.text != string(b) {
		l.text = t.name(b)
	}
	return l.text
}

// name saves the allocation of a string that is the same in nearly all records.
func (t *transformer) name(b []byte) string {
	s, ok := t.names[string(b)]
	if !ok {
		if len(t.names) >= maxRemembered {
			clear(t.names)
		}
		s = string(b)
		t.names[s] = s
	}
	return s
}

// enrich makes the row of a raw record. The row is valid until the next call.
func (t *transformer) enrich(record *kgo.Record, h *headers, id schemas.ID) (*schemas.Event, error) {
	e, err := t.event(record.Value, h, id, schemas.ID(record.Key))
	if err != nil {
		return nil, err
	}
	e.RawPartition, e.RawOffset = record.Partition, record.Offset
	return e, nil
}

// event makes the row of the bytes of an event, wherever they come from.
func (t *transformer) event(raw []byte, h *headers, id, fingerprint schemas.ID) (*schemas.Event, error) {
	t.decoder.known = t.callers
	if t.join != nil {
		t.decoder.known = t.join.callers
	}
	e, err := t.decoder.decode(raw, h.damage)
	if err != nil {
		return nil, err
	}
	e.EventID, e.Fingerprint = id, fingerprint
	e.Cluster, e.Source, e.ReceivedAt = h.cluster, h.source, h.received
	e.Platform = "kubernetes"
	e.SourceIP = origin.SourceIP(e.SourceIPs)
	if e.UserAgent != "" {
		c := t.client(e.UserAgent)
		e.Client, e.ClientVersion = c.name, c.version
	}
	if origin.HasCommand(e.Resource, e.Subresource) {
		t.command = origin.Command(t.command[:0], e.RequestURI)
		e.Command = t.command
	}
	e.Outcome = outcome(e)
	t.who.Classify(e)
	rbac.Explain(e, t.parseReason)
	if t.join != nil {
		t.join.Join(e)
	}
	return e, nil
}

// eventTime returns the event_time of the bytes of an event alone, µs since 1970; 0 if it is not plain to see.
func (d *decoder) eventTime(raw []byte) int64 {
	value, ok := jsonscan.Get(raw, "requestReceivedTimestamp")
	if !ok || len(value) < 2 {
		return 0
	}
	t, _ := d.parseMicro(string(value[1 : len(value)-1]))
	return t
}

// waits says whether e, the event of the last call, names context that may still become known.
func (t *transformer) waits(e *schemas.Event) bool { return t.join != nil && t.join.waits(e) }

func (t *transformer) client(userAgent string) client {
	c, ok := t.clients[userAgent]
	if !ok {
		if len(t.clients) >= maxRemembered {
			clear(t.clients)
		}
		userAgent = strings.Clone(userAgent) // it shares memory with the record
		c.name, c.version = origin.Client(userAgent)
		t.clients[userAgent] = c
	}
	return c
}

func (t *transformer) parseReason(decision, reason string) *rbac.Grant {
	g, ok := t.reasons[reasonKey{decision, reason}]
	if !ok {
		if len(t.reasons) >= maxRemembered {
			clear(t.reasons)
		}
		key := reasonKey{strings.Clone(decision), strings.Clone(reason)}
		g = rbac.Parse(key.decision, key.reason)
		t.reasons[key] = g
	}
	return g
}

// outcome sums up what became of the request so far; empty if the event does not tell.
func outcome(e *schemas.Event) string {
	switch code := e.Code; {
	case e.Stage == "Panic":
		return "panic"
	case e.Stage == "RequestReceived":
		return "received"
	case code == 401:
		return "unauthenticated"
	case code == 403, e.Decision == "forbid":
		return "denied"
	case code >= 500:
		return "error"
	case code >= 400:
		return "failed"
	case code >= 300:
		return "redirected"
	case code >= 100:
		return "success"
	}
	return ""
}
