package enrich

import (
	"time"

	"github.com/auditmill/auditmill/schemas"
)

// Offline makes rows of events that did not come through Kafka, by the code that the service runs. Copies are
// not looked for. It reuses its memory: a row is valid until the next call. It is not safe for concurrent use.
type Offline struct {
	transform *transformer
	row       int64
}

// NewOffline returns an Offline.
func NewOffline() *Offline { return &Offline{transform: newTransformer()} }

// Event makes the row of the bytes of an event. fields make its fingerprint; damage says what is already known to be
// wrong with it. It fails if raw is not one JSON object.
func (o *Offline) Event(cluster string, raw []byte, fields *schemas.FingerprintFields, damage string) (*schemas.Event, error) {
	h := headers{cluster: cluster, source: schemas.SourceFile, damage: damage}
	e, err := o.transform.event(raw, &h, o.transform.hasher.EventID(cluster, raw), o.transform.hasher.Fingerprint(cluster, fields))
	if err != nil {
		return nil, err
	}
	// When it was received is not known: as soon as it was written is the closest that does not depend on the clock.
	if e.ReceivedAt = max(e.StageTime, e.EventTime); e.ReceivedAt == 0 {
		e.ReceivedAt = time.Unix(0, 0).UnixMicro()
	}
	e.RawOffset = o.row
	o.row++
	return e, nil
}
