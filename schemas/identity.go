package schemas

import (
	"crypto/sha256"
	"encoding/hex"
)

// ID is the first 16 bytes of a SHA-256: an event_id or a fingerprint.
type ID [16]byte

// String returns the ID as 32 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Hasher computes IDs without allocating. It is not safe for concurrent use.
type Hasher struct {
	buf []byte
}

// EventID names the bytes of an event: SHA-256(cluster ‖ 0x00 ‖ raw)[:16]. A retried
// webhook batch is byte-identical, so its events have the same ids.
func (h *Hasher) EventID(cluster string, raw []byte) ID {
	h.buf = append(h.buf[:0], cluster...)
	h.buf = append(h.buf, 0)
	h.buf = append(h.buf, raw...)
	return h.sum()
}

// FingerprintFields are the JSON texts that name an event however it travelled.
// Each is the decoded string; Code is the decimal text of responseStatus.code.
type FingerprintFields struct {
	AuditID, Stage, RequestReceived, StageTime, Username, Verb, RequestURI, Code string
}

// Fingerprint is equal for all copies of an event, whichever source sent them and
// however it re-encoded the JSON.
func (h *Hasher) Fingerprint(cluster string, f *FingerprintFields) ID {
	h.buf = h.buf[:0]
	// A length before each field keeps ("ab", "c") and ("a", "bc") apart without
	// forbidding any byte inside a field.
	for _, s := range [...]string{
		cluster, f.AuditID, f.Stage, f.RequestReceived, f.StageTime, f.Username, f.Verb, f.RequestURI, f.Code,
	} {
		n := len(s)
		h.buf = append(h.buf, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
		h.buf = append(h.buf, s...)
	}
	return h.sum()
}

func (h *Hasher) sum() ID {
	sum := sha256.Sum256(h.buf)
	return ID(sum[:16])
}
