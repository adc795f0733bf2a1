// Package webhook receives audit events from API servers over HTTP.
//
// Comes in: POST /v1/audit/{cluster} and POST /v1/audit with an EventList, an Event, a
// JSON array or JSON lines, plain or gzip. Goes out: records of audit.raw.v1 and dead
// letters. Guaranteed: the answer is 200 only when every one of them is acknowledged by
// all in-sync replicas; it comes before the API server hangs up; it is never a redirect;
// the cluster is that of the sender's credentials; memory is bounded by configuration,
// whatever a sender claims or sends.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditmill/auditmill/ingest/raw"
)

// reloadEvery is how often token files are looked at.
const reloadEvery = 10 * time.Second

// Server is the webhook.
type Server struct {
	cfg      Config
	log      *slog.Logger
	handler  *handler
	certs    *certificates // nil for plain HTTP
	listener net.Listener
}

// New makes the server; it listens to nothing yet.
func New(cfg Config, writer *raw.Writer, reg prometheus.Registerer, log *slog.Logger) (*Server, error) {
	h, err := newHandler(cfg, writer, newMetrics(reg), log)
	if err != nil {
		return nil, fmt.Errorf("configuring the webhook: %w", err)
	}
	s := &Server{cfg: cfg, log: log, handler: h}
	if cfg.TLS.CertFile != "" {
		if s.certs, err = newCertificates(cfg.TLS, log); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Handler returns the webhook without a listener, for tests and embedding.
func (s *Server) Handler() http.Handler { return s.handler }

// Listen binds the address, so that it is known, and a taken port too, before Run.
func (s *Server) Listen(ctx context.Context) (net.Addr, error) {
	if s.listener == nil {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("listening for audit events, set ingest.webhook.listen to another address: %w", err)
		}
		s.listener = l
	}
	return s.listener.Addr(), nil
}

// Run serves until ctx ends and then waits for running requests, as long as the drain
// timeout allows.
func (s *Server) Run(ctx context.Context) error {
	addr, err := s.Listen(ctx)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 10 * time.Second,
		// The API server closes idle connections after 90 s; it must be the first, or a
		// request may meet a connection that is being closed.
		IdleTimeout:                  2 * time.Minute,
		MaxHeaderBytes:               64 << 10,
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		DisableGeneralOptionsHandler: true,
	}
	served := make(chan error, 1)
	if s.certs != nil {
		server.TLSConfig = s.certs.config()
		go func() { served <- server.ServeTLS(s.listener, "", "") }()
	} else {
		if !isLoopback(addr.String()) {
			s.log.Warn("tokens and events travel unencrypted, set ingest.webhook.tls or put a proxy in front", "address", addr.String())
		}
		go func() { served <- server.Serve(s.listener) }()
	}
	s.log.Info("receiving audit events", "address", addr.String(), "tls", s.certs != nil)

	ticker := time.NewTicker(reloadEvery)
	defer ticker.Stop()
	for {
		select {
		case err := <-served:
			return fmt.Errorf("serving the webhook: %w", err)
		case <-ticker.C:
			if err := s.handler.auth.load(); err != nil {
				s.log.Error("changed tokens cannot be used, the old ones stay", "err", err)
			}
			continue
		case <-ctx.Done():
		}
		break
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	err = server.Shutdown(stop)
	if err != nil {
		err = fmt.Errorf("waiting for running requests, which their senders will repeat: %w",
			errors.Join(err, server.Close()))
	}
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}
