package webhook

import (
	"encoding/json"
	"net/http"
)

// problem is an answer other than 200.
type problem struct {
	status int
	// reason is from a closed set, for the metric.
	reason string
	// text and remedy are for whoever reads the sender's log.
	text, remedy string
	// drain says that the sender should get to read the answer although its body was not
	// read: a client that is still writing takes a closed connection for a failure without
	// Retry-After and gives up sooner.
	drain bool
}

func unauthorized(reason, text, remedy string) *problem {
	return &problem{status: http.StatusUnauthorized, reason: reason, text: text, remedy: remedy}
}

func forbidden(reason, text, remedy string) *problem {
	return &problem{status: http.StatusForbidden, reason: reason, text: text, remedy: remedy}
}

func busy(reason, text, remedy string) *problem {
	return &problem{status: http.StatusTooManyRequests, reason: reason, text: text, remedy: remedy, drain: true}
}

func unavailable(reason, text, remedy string) *problem {
	return &problem{status: http.StatusServiceUnavailable, reason: reason, text: text, remedy: remedy}
}

// retryAfter triples the time for which an API server keeps a batch.
const retryAfter = "3"

// write answers with the problem as JSON. There is never a redirect: the API server
// follows one without the body and counts the batch as delivered.
func (p *problem) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	switch p.status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", retryAfter)
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="auditmill"`)
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodPost)
	}
	w.WriteHeader(p.status)
	body := struct {
		Error  string `json:"error"`
		Remedy string `json:"remedy"`
	}{p.text, p.remedy}
	// The sender is gone if this fails; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(body)
}
