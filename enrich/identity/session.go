package identity

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strings"
	"time"

	"github.com/auditmill/auditmill/schemas"
)

// sessionKey is what events of one session have in common.
type sessionKey struct {
	actor, credential, source string
	day                       int64 // since 1970, UTC
}

func (k sessionKey) clone() sessionKey {
	k.actor, k.credential, k.source = strings.Clone(k.actor), strings.Clone(k.credential), strings.Clone(k.source)
	return k
}

const day = int64(24 * time.Hour / time.Microsecond)

// session names the events of one actor with one credential from one address on one day: 20261121-4kq7m2xwta. Whoever
// works it out anew gets the same. Where the event has no credential id, the access key of AWS stands for it; what
// client it was makes no difference, as the client itself says that. The credential names tokens across clusters, and so
// does the session.
func (j *Joiner) session(e *schemas.Event) string {
	at := moment(e)
	if e.Actor == "" || at == 0 {
		return ""
	}
	key := sessionKey{actor: e.Actor, credential: e.CredentialID, source: e.SourceIP, day: floor(at, day)}
	if key.credential == "" && e.Provider == ProviderEKS {
		key.credential = extra(e, extraAccessKey)
	}
	if s, ok := j.sessions.get(key); ok {
		return s
	}
	s := key.name()
	j.sessions.put(key, s)
	return s
}

func (k sessionKey) name() string {
	h := sha256.New()
	var size [8]byte
	for _, s := range []string{k.actor, k.credential, k.source} {
		binary.LittleEndian.PutUint64(size[:], uint64(len(s)))
		h.Write(size[:])
		h.Write([]byte(s))
	}
	binary.LittleEndian.PutUint64(size[:], uint64(k.day))
	h.Write(size[:])
	id := strings.ToLower(base32.StdEncoding.EncodeToString(h.Sum(nil)))[:10] // 50 bits tell the sessions of a day apart
	return time.UnixMicro(k.day*day).UTC().Format("20060102") + "-" + id
}

// moment is when the event was, for look-ups. Where a damaged event does not tell, when it was received is the closest
// that stays the same for whoever works it out anew.
func moment(e *schemas.Event) int64 { return cmp.Or(e.EventTime, e.StageTime, e.ReceivedAt) }

// floor divides and rounds down, also what is before 1970.
func floor(a, b int64) int64 {
	if q := a / b; a%b >= 0 {
		return q
	}
	return a/b - 1
}
