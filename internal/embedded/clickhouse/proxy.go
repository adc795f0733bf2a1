//go:build linux || darwin

package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"
)

const (
	proxyHeaderTimeout = 10 * time.Second
	proxyIdleTimeout   = 2 * time.Minute
	// proxyHeaderBytes leaves room for a query in the URL.
	proxyHeaderBytes = 1 << 20
	retryAfter       = "3"
)

// ProxyConfig says what the proxy lets through.
type ProxyConfig struct {
	// MaxBody bounds the body of a request in bytes.
	MaxBody int64
	// MaxRequests bounds the requests that are served at once; more are told to come back.
	MaxRequests int
	// Admin also lets the user that may do everything through. Others than this program need
	// only the reader.
	Admin bool
	// Logger receives failures; nil discards them.
	Logger *slog.Logger
}

// DefaultProxyConfig returns the limits for a handful of dashboards and people.
func DefaultProxyConfig() ProxyConfig {
	return ProxyConfig{MaxBody: 256 << 20, MaxRequests: 64}
}

// Validate reports every fault of the configuration at once.
func (c ProxyConfig) Validate() error {
	var errs []error
	if c.MaxBody <= 0 {
		errs = append(errs, errors.New("embedded.clickhouse.proxy.max_body: must be positive"))
	}
	if c.MaxRequests <= 0 {
		errs = append(errs, errors.New("embedded.clickhouse.proxy.max_requests: must be positive"))
	}
	return errors.Join(errs...)
}

// Proxy passes HTTP requests of others on to the server. A malformed request ends at Go's HTTP
// server instead of ending the engine's process, and only who has credentials of ClickHouse gets
// through. It is an http.Handler; Serve runs it with time limits.
type Proxy struct {
	cfg     ProxyConfig
	log     *slog.Logger
	forward *httputil.ReverseProxy
	slots   chan struct{}
}

// NewProxy returns a proxy in front of the server. It starts nothing.
func NewProxy(server *Server, cfg ProxyConfig) (*Proxy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	target := &url.URL{Scheme: "http", Host: server.HTTPAddr()}
	p := &Proxy{cfg: cfg, log: log, slots: make(chan struct{}, cfg.MaxRequests)}
	p.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{
			// A connection that idles across a restart of the child would fail the next
			// request, and the answer shall stay as the child encoded it.
			DisableKeepAlives:  true,
			DisableCompression: true,
		},
		// Rows are passed on as they come.
		FlushInterval: -1,
		ErrorHandler:  p.fail,
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return p, nil
}

// Serve accepts connections until ctx ends and then lets running requests finish for as long
// as drain.
func (p *Proxy) Serve(ctx context.Context, listener net.Listener, drain time.Duration) error {
	server := &http.Server{
		Handler:           p,
		ReadHeaderTimeout: proxyHeaderTimeout,
		IdleTimeout:       proxyIdleTimeout,
		MaxHeaderBytes:    proxyHeaderBytes,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving the ClickHouse proxy: %w", err)
	case <-ctx.Done():
	}
	drainCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err := server.Shutdown(drainCtx)
	if err != nil {
		// What is still running has had its time.
		err = server.Close()
	}
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost &&
		r.Method != http.MethodOptions:
		w.Header().Set("Allow", "GET, HEAD, OPTIONS, POST")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	case r.Header.Get("Upgrade") != "":
		http.Error(w, "upgrading a connection is not supported", http.StatusBadRequest)
		return
	case r.ContentLength > p.cfg.MaxBody:
		http.Error(w, fmt.Sprintf("body is larger than %d bytes", p.cfg.MaxBody),
			http.StatusRequestEntityTooLarge)
		return
	case !public(r) && !p.admitted(r):
		w.Header().Set("WWW-Authenticate", `Basic realm="ClickHouse"`)
		http.Error(w, "user and password are needed: those that were printed when this server started (clickhouse.user and clickhouse.password)", http.StatusUnauthorized)
		return
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	default:
		w.Header().Set("Retry-After", retryAfter)
		http.Error(w, "too many requests at once", http.StatusServiceUnavailable)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, p.cfg.MaxBody)
	p.forward.ServeHTTP(w, r)
}

// public reports requests that carry no data: the health check and the query page, which asks
// for credentials by itself.
func public(r *http.Request) bool {
	if r.Method == http.MethodOptions {
		return true
	}
	return r.Method != http.MethodPost && (r.URL.Path == "/ping" || r.URL.Path == "/play")
}

// admitted reports whether a request names a user that may come from outside. Whether the
// password is right is for ClickHouse to say. Every place in which ClickHouse looks for a user
// must agree, because it is ClickHouse that chooses among them.
func (p *Proxy) admitted(r *http.Request) bool {
	users := append(r.Header.Values("X-ClickHouse-User"), r.URL.Query()["user"]...)
	if user, _, ok := r.BasicAuth(); ok {
		users = append(users, user)
	}
	for _, user := range users {
		if user == "" || user == "default" || (user == adminUser && !p.cfg.Admin) {
			return false
		}
	}
	return len(users) > 0
}

// fail answers when the server cannot be reached, which is usually a restart.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
	case r.Context().Err() != nil:
	default:
		p.log.Warn("clickhouse proxy cannot reach the server", "err", err)
		w.Header().Set("Retry-After", retryAfter)
		http.Error(w, "ClickHouse is not available at the moment", http.StatusServiceUnavailable)
	}
}
