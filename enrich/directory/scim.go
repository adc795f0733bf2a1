package directory

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Bounds of what a SCIM service may send.
const (
	maxPage      = 64 << 20  // bytes of a response
	maxResources = 2_000_000 // users, and groups
	attempts     = 8         // for each page
	longestPause = 5 * time.Minute
	pageSize     = 200
)

// SCIM is a SCIM 2.0 service (RFC 7643 and 7644) to read people and groups from.
type SCIM struct {
	URL   string // of the service: /Users and /Groups are below it
	Token string // bearer token; empty for none
	// Source names the lists.
	Source string
	// Usernames make names as clusters know them of {email}, {localpart}, {username}, {id}, {externalId} and {name}, besides
	// the userName and the e-mails.
	Usernames []Template
	// GroupID makes the id of a group as clusters know it of {name}, {id} and {externalId}; empty for {name}.
	GroupID Template
	// PageSize is how many resources are asked for at a time; 0 for 200. A service may give fewer.
	PageSize int
	// Client makes the requests; nil for one with a timeout of a minute.
	Client *http.Client
	// Progress, if not nil, is told after each page.
	Progress func(endpoint string, got, total int)

	pause func(context.Context, time.Duration) error // replaced by tests
}

// GroupFields are the fields that a Template for the ids of SCIM groups may use.
func GroupFields() []string { return []string{"id", "externalId", "name"} }

// Check says what is wrong with the settings.
func (s *SCIM) Check() error {
	u, err := url.Parse(s.URL)
	switch {
	case err != nil:
		return fmt.Errorf("SCIM service: %w", err)
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return fmt.Errorf("SCIM service %q: want its address without anything behind it, like https://idp.corp.example/scim/v2", redacted(u))
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Errorf("SCIM service %q: the token and the people would be readable on the way: use https", redacted(u))
	case strings.ContainsAny(s.Token, "\r\n \t"):
		return errors.New("SCIM token: has white space in it; give the token alone")
	}
	for _, t := range s.Usernames {
		if err := t.Check(UsernameFields(true)...); err != nil {
			return fmt.Errorf("username %w", err)
		}
	}
	if s.GroupID != "" {
		if err := s.GroupID.Check(GroupFields()...); err != nil {
			return fmt.Errorf("group id %w", err)
		}
	}
	return nil
}

// redacted is an address without what may be secret in it.
func redacted(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Read reads all users and groups. Of a service that has no groups, only the people are in the list.
func (s *SCIM) Read(ctx context.Context) (*List, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	var users []user
	err := s.resources(ctx, "Users", func(raw json.RawMessage) error {
		var u user
		if err := json.Unmarshal(raw, &u); err != nil {
			return err
		}
		users = append(users, u)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(users) == 0 {
		return nil, fmt.Errorf("SCIM service %s: has no user at all; check that the token may read users", s.URL)
	}
	var groups []group
	err = s.resources(ctx, "Groups", func(raw json.RawMessage) error {
		var g group
		if err := json.Unmarshal(raw, &g); err != nil {
			return err
		}
		groups = append(groups, g)
		return nil
	})
	var status *statusError
	without := errors.As(err, &status) && (status.code == http.StatusNotFound || status.code == http.StatusNotImplemented)
	if err != nil && !without {
		return nil, err
	}
	return s.list(users, groups, !without)
}

// page is a ListResponse.
type page struct {
	TotalResults *int              `json:"totalResults"`
	Resources    []json.RawMessage `json:"Resources"`
}

// resources yields all resources of an endpoint, each once.
func (s *SCIM) resources(ctx context.Context, endpoint string, yield func(json.RawMessage) error) error {
	size := s.PageSize
	if size == 0 {
		size = pageSize
	}
	seen := map[string]bool{}
	for at, total := 1, 1; at <= total; {
		p, err := s.page(ctx, endpoint, at, size)
		if err != nil {
			return err
		}
		if p.TotalResults == nil || *p.TotalResults < 0 {
			return s.failed(endpoint, errors.New("totalResults: missing or negative; is this the address of a SCIM 2.0 service?"))
		}
		if total = *p.TotalResults; total > maxResources {
			return s.failed(endpoint, fmt.Errorf("%d resources, more than %d", total, maxResources))
		}
		if len(p.Resources) == 0 && at <= total {
			// What is missing would be taken to have left.
			return s.failed(endpoint, fmt.Errorf("%d resources announced, %d given: run it again; the token may not be allowed to read all", total, at-1))
		}
		for i, raw := range p.Resources {
			var r struct {
				ID string `json:"id"`
			}
			if err := json.Unmarshal(raw, &r); err != nil || r.ID == "" {
				return s.failed(endpoint, fmt.Errorf("resource %d: no id in %s", at+i, quoted(string(raw))))
			}
			if seen[r.ID] {
				continue // pages shift while people join
			}
			seen[r.ID] = true
			if err := yield(raw); err != nil {
				return s.failed(endpoint, fmt.Errorf("resource %d, %s: %w", at+i, quoted(r.ID), err))
			}
		}
		at += len(p.Resources)
		if s.Progress != nil {
			s.Progress(endpoint, at-1, total)
		}
	}
	return nil
}

func (s *SCIM) failed(endpoint string, err error) error {
	return fmt.Errorf("SCIM service %s: /%s: %w", s.URL, endpoint, err)
}

// statusError is an answer that is not 200.
type statusError struct {
	code   int
	detail string
	after  time.Duration
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("answered %d %s", e.code, http.StatusText(e.code))
	if e.detail != "" {
		text += " " + quoted(e.detail)
	}
	switch {
	case e.code == http.StatusUnauthorized, e.code == http.StatusForbidden:
		text += "; check the token, whether it has expired and what it may read"
	case e.code == http.StatusNotFound:
		text += "; check the address: /Users must be below it"
	case e.code >= 300 && e.code < 400:
		text += "; give the address that it leads to"
	}
	return text
}

func (e *statusError) temporary() bool {
	switch e.code {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		http.StatusRequestTimeout:
		return true
	}
	return false
}

// finalError is a fault of an answer that would be the same again.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// page asks for one page until it gets it.
func (s *SCIM) page(ctx context.Context, endpoint string, at, size int) (*page, error) {
	address := strings.TrimRight(s.URL, "/") + "/" + endpoint + "?startIndex=" + strconv.Itoa(at) + "&count=" + strconv.Itoa(size)
	pause := s.pause
	if pause == nil {
		pause = wait
	}
	var failed error
	for n := range attempts {
		p, err := s.get(ctx, address)
		if err == nil {
			return p, nil
		}
		failed = err
		var status *statusError
		var final finalError
		if ctx.Err() != nil || errors.As(err, &final) || errors.As(err, &status) && !status.temporary() {
			return nil, s.failed(endpoint, err)
		}
		after := min(time.Second<<n, 30*time.Second)
		after += time.Duration(rand.Int64N(int64(after) / 4)) // not all at the same moment
		if status != nil && status.after > 0 {
			after = status.after
		}
		if after > longestPause {
			return nil, s.failed(endpoint, fmt.Errorf("%w; it asks to come back in %s", err, after.Round(time.Second)))
		}
		if n+1 < attempts {
			if err := pause(ctx, after); err != nil {
				return nil, s.failed(endpoint, errors.Join(err, failed))
			}
		}
	}
	return nil, s.failed(endpoint, fmt.Errorf("%d attempts: %w", attempts, failed))
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *SCIM) get(ctx context.Context, address string) (*page, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, finalError{err}
	}
	request.Header.Set("Accept", "application/scim+json, application/json")
	request.Header.Set("User-Agent", "auditmill")
	if s.Token != "" {
		request.Header.Set("Authorization", "Bearer "+s.Token)
	}
	response, err := s.client().Do(request)
	if err != nil {
		if _, unknown := errors.AsType[*tls.CertificateVerificationError](err); unknown {
			return nil, finalError{fmt.Errorf("%w; SSL_CERT_FILE may name a file with the issuer", err)}
		}
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxPage+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, &statusError{code: response.StatusCode, detail: detail(text), after: retryAfter(response.Header.Get("Retry-After"), time.Now())}
	}
	if len(text) > maxPage {
		return nil, finalError{fmt.Errorf("an answer of more than %d bytes: ask for fewer at a time", maxPage)}
	}
	return parsePage(text)
}

func parsePage(text []byte) (*page, error) {
	var p page
	if err := json.Unmarshal(text, &p); err != nil {
		return nil, finalError{fmt.Errorf("no SCIM 2.0 answer, %s: %w; is this the address of the service?", quoted(string(text)), err)}
	}
	return &p, nil
}

// client never follows to elsewhere: the token is for this service.
func (s *SCIM) client() *http.Client {
	client := http.Client{Timeout: time.Minute}
	if s.Client != nil {
		client = *s.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

// detail is what an error message of SCIM says.
func detail(text []byte) string {
	var e struct {
		Detail string `json:"detail"`
	}
	if json.Unmarshal(text, &e) != nil {
		return ""
	}
	return e.Detail
}

// retryAfter reads the header: seconds, or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(text); err == nil {
		return time.Duration(max(0, min(seconds, 1<<20))) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}
