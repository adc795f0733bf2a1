package notify

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/auditmill/auditmill/internal/conf"
)

// APIConfig says where and for whom silences can be set over HTTP, and for Slack's buttons.
type APIConfig struct {
	Listen        string      `mapstructure:"listen" doc:"address of the HTTP API for silences and of Slack's buttons, host:port; empty for none"`
	CertFile      string      `mapstructure:"cert_file" doc:"PEM file with the certificate chain; empty for plain HTTP, behind a proxy"`
	KeyFile       string      `mapstructure:"key_file" doc:"PEM file with the key of cert_file"`
	Tokens        []APIToken  `mapstructure:"tokens" doc:"who may use the API; without any only Slack's buttons work"`
	SigningSecret conf.Secret `mapstructure:"signing_secret" doc:"signing secret of the Slack app whose Interactivity Request URL is /v1/slack/actions here; puts buttons on messages; empty for none"`
}

// APIToken is somebody who may set silences. What they do is recorded under their name.
type APIToken struct {
	Name   string `mapstructure:"name" doc:"who it is: the author of what is set with the token"`
	SHA256 string `mapstructure:"token_sha256" doc:"SHA-256 of the token, 64 hexadecimal digits: printf %s \"$TOKEN\" | sha256sum"`
}

// Validate reports every fault at once.
func (c APIConfig) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			fault("listen: must be host:port: %w", err)
		}
		if len(c.Tokens) == 0 && c.SigningSecret == "" {
			fault("tokens: must not be empty, or signing_secret be set: nobody could use the listener")
		}
	} else if len(c.Tokens) > 0 || c.SigningSecret != "" {
		fault("listen: is needed for tokens and signing_secret")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		fault("cert_file, key_file: both or none")
	}
	for i, t := range c.Tokens {
		if t.Name == "" || len(t.Name) > maxShort {
			fault("tokens[%d].name: must have 1 to %d bytes", i, maxShort)
		}
		if sum, err := hex.DecodeString(t.SHA256); err != nil || len(sum) != sha256.Size {
			fault("tokens[%d].token_sha256: must be 64 hexadecimal digits: printf %%s \"$TOKEN\" | sha256sum", i)
		}
	}
	return errors.Join(errs...)
}

// api serves silences over HTTP:
//
//	GET    /v1/silences           all of them, those that ended too: {"silences": […]}
//	POST   /v1/silences           creates one: {"kind", "match", "from", "until" or "duration", "comment"}
//	DELETE /v1/silences/{id}      ends one now; ?comment= says why
//	POST   /v1/groups/{id}/acknowledge  {"duration", "comment"}
//	POST   /v1/slack/actions      Slack's buttons, signed by Slack
//
// Everything but the last needs a bearer token. Errors are {"error": "…"}: 400 for a faulty
// request, 401 without a known token, 404 for no such silence, 413 for a body that is too
// large, 503 if Kafka does not take it.
type api struct {
	cfg      APIConfig
	log      *slog.Logger
	silences *Silences
	tokens   [][sha256.Size]byte
	replays  replays
}

func newAPI(cfg APIConfig, log *slog.Logger, silences *Silences) *api {
	a := &api{cfg: cfg, log: log, silences: silences}
	for _, t := range cfg.Tokens {
		// Validate has seen it.
		sum, _ := hex.DecodeString(t.SHA256)
		a.tokens = append(a.tokens, [sha256.Size]byte(sum))
	}
	return a
}

const (
	maxAPIBody = 64 << 10
	apiTimeout = 10 * time.Second
)

func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/silences", a.authenticated(a.list))
	mux.HandleFunc("POST /v1/silences", a.authenticated(a.create))
	mux.HandleFunc("DELETE /v1/silences/{id}", a.authenticated(a.expire))
	mux.HandleFunc("POST /v1/groups/{id}/acknowledge", a.authenticated(a.acknowledge))
	if a.cfg.SigningSecret != "" {
		mux.HandleFunc("POST /v1/slack/actions", a.slackAction)
	}
	return http.TimeoutHandler(http.MaxBytesHandler(mux, maxAPIBody), apiTimeout, `{"error":"Kafka did not answer in time"}`)
}

// run serves until ctx ends.
func (a *api) run(ctx context.Context) error {
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", a.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listening for silences, set alert.notify.api.listen to another address: %w", err)
	}
	server := &http.Server{
		Handler: a.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: apiTimeout, WriteTimeout: 2 * apiTimeout,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() {
		if a.cfg.CertFile != "" {
			served <- server.ServeTLS(l, a.cfg.CertFile, a.cfg.KeyFile)
		} else {
			served <- server.Serve(l)
		}
	}()
	a.log.Info("serving silences", "address", l.Addr().String())
	select {
	case err := <-served:
		return fmt.Errorf("serving silences: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiTimeout)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		return fmt.Errorf("closing the listener for silences: %w", err)
	}
	return ctx.Err()
}

// authenticated calls next with the name of the caller. It looks at every token, whichever
// matches, so that the time it takes says nothing.
func (a *api) authenticated(next func(w http.ResponseWriter, r *http.Request, who string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		sum, at := sha256.Sum256([]byte(token)), -1
		for i := range a.tokens {
			at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], a.tokens[i][:]), i, at)
		}
		if !ok || at < 0 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			a.fail(w, http.StatusUnauthorized, errors.New("the request has no bearer token of alert.notify.api.tokens"))
			return
		}
		next(w, r, a.cfg.Tokens[at].Name)
	}
}

func (a *api) answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(value); err != nil {
		a.log.Debug("answer not sent", "err", err)
	}
}

func (a *api) fail(w http.ResponseWriter, status int, err error) {
	a.answer(w, status, map[string]string{"error": err.Error()})
}

// failed answers an error of Silences.
func (a *api) failed(w http.ResponseWriter, err error, faulty bool) {
	switch {
	case errors.Is(err, ErrNoSilence):
		a.fail(w, http.StatusNotFound, err)
	case faulty:
		a.fail(w, http.StatusBadRequest, err)
	default:
		a.log.Error("silence not written", "err", err)
		a.fail(w, http.StatusServiceUnavailable, errors.New("writing to Kafka failed; see the log"))
	}
}

func (a *api) list(w http.ResponseWriter, r *http.Request, _ string) {
	all, err := a.silences.List(r.Context())
	if err != nil {
		a.failed(w, err, false)
		return
	}
	a.answer(w, http.StatusOK, map[string]any{"silences": all})
}

// silenceRequest is the body of the requests that create something.
type silenceRequest struct {
	Kind     string       `json:"kind"`
	Match    SilenceMatch `json:"match"`
	From     time.Time    `json:"from"`
	Until    time.Time    `json:"until"`
	Duration string       `json:"duration"` // instead of until
	Comment  string       `json:"comment"`
}

func (a *api) create(w http.ResponseWriter, r *http.Request, who string) {
	if req, ok := a.decode(w, r); ok {
		a.add(w, r, who, req)
	}
}

func (a *api) acknowledge(w http.ResponseWriter, r *http.Request, who string) {
	if req, ok := a.decode(w, r); ok {
		req.Kind, req.Match = KindAcknowledgement, SilenceMatch{Group: r.PathValue("id")}
		if req.Until.IsZero() && req.Duration == "" {
			req.Duration = AcknowledgedFor.String()
		}
		a.add(w, r, who, req)
	}
}

func (a *api) decode(w http.ResponseWriter, r *http.Request) (req silenceRequest, ok bool) {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(&req)
	switch {
	case errors.Is(err, io.EOF):
	case errors.As(err, new(*http.MaxBytesError)):
		a.fail(w, http.StatusRequestEntityTooLarge, fmt.Errorf("the body must have at most %d bytes", maxAPIBody))
		return req, false
	case err != nil:
		a.fail(w, http.StatusBadRequest, fmt.Errorf("decoding the body: %w", err))
		return req, false
	}
	return req, true
}

func (a *api) add(w http.ResponseWriter, r *http.Request, who string, req silenceRequest) {
	from := req.From
	if from.IsZero() {
		from = time.Now()
	}
	if req.Duration != "" {
		d, err := conf.ParseDuration(req.Duration)
		if err != nil || !req.Until.IsZero() {
			a.fail(w, http.StatusBadRequest, errors.New("duration: must be like 1h or 7d, and not together with until"))
			return
		}
		req.Until = from.Add(d)
	}
	silence := Silence{Kind: req.Kind, Match: req.Match, From: from, Until: req.Until, Author: who, Comment: req.Comment}
	added, err := a.silences.Add(r.Context(), silence, "api")
	if err != nil {
		a.failed(w, err, added.Changes == nil)
		return
	}
	a.answer(w, http.StatusCreated, added)
}

func (a *api) expire(w http.ResponseWriter, r *http.Request, who string) {
	silence, err := a.silences.Expire(r.Context(), r.PathValue("id"), who, "api", r.URL.Query().Get("comment"))
	if err != nil {
		a.failed(w, err, false)
		return
	}
	a.answer(w, http.StatusOK, silence)
}
