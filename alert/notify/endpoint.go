package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/auditmill/auditmill/internal/conf"
)

// endpoint posts JSON to a URL, which is a secret: it may hold a key.
type endpoint struct {
	url    conf.Secret
	token  conf.Secret
	client *http.Client
}

// bounded returns a client that reads answers up to a bound and follows no redirect: that
// would carry the alert, and the token, to whoever answered.
func bounded(client *http.Client) *http.Client {
	if client == nil {
		client = &http.Client{}
	}
	b := *client
	b.Transport = boundedTransport{orDefault(client.Transport)}
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &b
}

// post makes one attempt. Any status from 200 to 299 is an acceptance.
func (e endpoint) post(ctx context.Context, body []byte, header map[string]string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url.Reveal(), bytes.NewReader(body))
	if err != nil {
		return &Error{Class: Blocked, Reason: "url", Err: errors.New("the URL is not one")}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "auditmill")
	if e.token != "" {
		req.Header.Set("Authorization", "Bearer "+e.token.Reveal())
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return transportError(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		// The other side has decided; a body that breaks off changes nothing.
		return nil
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4*maxShort))
	if err != nil {
		answer = nil
	}
	return endpointError(resp.StatusCode, resp.Header.Get("Retry-After"), strings.TrimSpace(string(answer)))
}

func endpointError(status int, retryAfter, answer string) *Error {
	e := &Error{
		Class: Blocked, Reason: "status",
		Err: fmt.Errorf("the answer is %d: %q", status, Printable(answer, maxShort)),
	}
	switch {
	case status == http.StatusTooManyRequests:
		e.Class, e.Reason, e.RetryAfter = Transient, "rate_limited", parseRetryAfter(retryAfter)
	case status >= 500 || status == http.StatusRequestTimeout:
		e.Class, e.Reason, e.RetryAfter, e.Unknown = Transient, "server_error", parseRetryAfter(retryAfter), true
	case status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge || status == http.StatusUnprocessableEntity:
		e.Class, e.Reason = Refused, "invalid"
	}
	return e
}
