package schemas

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
)

// ID is the first 16 bytes of a SHA-256: an event_id or a fingerprint.
type ID [16]byte

// String returns the ID as 32 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Hasher computes IDs without allocating. It is not safe for concurrent use.
type Hasher struct {
	buf  []byte
	hash hash.Hash
}

// EventID names the bytes of an event: SHA-256(cluster ‖ 0x00 ‖ raw)[:16]. A retried
// webhook batch is byte-identical, so its events have the same ids.
func (h *Hasher) EventID(cluster string, raw []byte) ID {
	if h.hash == nil {
		h.hash = sha256.New()
	}
	h.buf = append(append(h.buf[:0], cluster...), 0)
	h.hash.Reset()
	h.hash.Write(h.buf)
	h.hash.Write(raw)
	h.buf = h.hash.Sum(h.buf[:0])
	return ID(h.buf[:len(ID{})])
}

// FingerprintFields are the JSON texts that name an event however it travelled.
// Each is the decoded string; Code is the decimal text of responseStatus.code.
type FingerprintFields struct {
	AuditID, Stage, RequestReceived, StageTime, Username, Verb, RequestURI, Code string
}

// Fingerprint is equal for all copies of an event, whichever source sent them and
// however it re-encoded the JSON.
func (h *Hasher) Fingerprint(cluster string, f *FingerprintFields) ID {
	buf := h.buf[:0]
	// A length before each field keeps ("ab", "c") and ("a", "bc") apart without
	// forbidding any byte inside a field.
	for _, s := range [...]string{
		cluster, f.AuditID, f.Stage, f.RequestReceived, f.StageTime, f.Username, f.Verb, f.RequestURI, f.Code,
	} {
		buf = append(binary.LittleEndian.AppendUint32(buf, uint32(len(s))), s...)
	}
	h.buf = buf
	sum := sha256.Sum256(buf)
	return ID(sum[:len(ID{})])
}
