package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// OpsConfig says where operators can ask.
type OpsConfig struct {
	Listen string `mapstructure:"listen" doc:"address of /metrics, /healthz and /readyz, which anyone who reaches it can read; empty for none"`
	Pprof  bool   `mapstructure:"pprof" doc:"whether to serve /debug/pprof too; a heap dump holds events, so only clients on the same host get it"`
}

// DefaultOpsConfig listens on the loopback interface, without profiles.
func DefaultOpsConfig() OpsConfig {
	return OpsConfig{Listen: "127.0.0.1:9090"}
}

// Validate reports every fault at once.
func (c OpsConfig) Validate() error {
	if c.Listen == "" {
		if c.Pprof {
			return errors.New("pprof: needs listen")
		}
		return nil
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen: %q is no address: write host:port", c.Listen)
	}
	return nil
}

// Ops is the HTTP server for operators: metrics, liveness, readiness and profiles.
type Ops struct {
	cfg      OpsConfig
	log      *slog.Logger
	mux      *http.ServeMux
	listener net.Listener
}

// NewOps makes the server; it listens to nothing yet.
func NewOps(cfg OpsConfig, g prometheus.Gatherer, ready *Ready, log *slog.Logger) (*Ops, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuring the ops server: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError),
		// One broken collector must not hide all others.
		ErrorHandling: promhttp.ContinueOnError,
	}))
	mux.Handle("GET /readyz", ready)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		// Nobody to tell if this fails.
		_, _ = io.WriteString(w, "ok\n")
	})
	if cfg.Pprof {
		// Index serves the named profiles as well.
		mux.HandleFunc("GET /debug/pprof/", local(pprof.Index))
		mux.HandleFunc("GET /debug/pprof/cmdline", local(pprof.Cmdline))
		mux.HandleFunc("GET /debug/pprof/profile", local(pprof.Profile))
		mux.HandleFunc("GET /debug/pprof/symbol", local(pprof.Symbol))
		mux.HandleFunc("GET /debug/pprof/trace", local(pprof.Trace))
	}
	return &Ops{cfg: cfg, log: log, mux: mux}, nil
}

// Handle adds an endpoint, before Run.
func (o *Ops) Handle(pattern string, h http.Handler) { o.mux.Handle(pattern, h) }

// local refuses clients on other hosts. "kubectl port-forward" arrives from the same host.
func local(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		addr, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !addr.Addr().Unmap().IsLoopback() {
			http.Error(w, "profiles are for clients on the same host", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

// Listen binds the address and returns it, so that a taken port is known before anything
// else starts. Run does it if it was not done. The address is nil if none is configured.
func (o *Ops) Listen(ctx context.Context) (net.Addr, error) {
	if o.cfg.Listen == "" {
		return nil, nil
	}
	if o.listener == nil {
		var listen net.ListenConfig
		l, err := listen.Listen(ctx, "tcp", o.cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("listening for operators, set ops.listen to another address: %w", err)
		}
		o.listener = l
	}
	return o.listener.Addr(), nil
}

// Run serves until ctx ends. Put it last among the services, so that readiness and metrics
// can be read during the drain.
func (o *Ops) Run(ctx context.Context) error {
	addr, err := o.Listen(ctx)
	if err != nil {
		return err
	}
	if addr == nil {
		<-ctx.Done()
		return nil
	}
	server := &http.Server{
		Handler:           o.mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a profile or a trace takes as long as was asked for
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(o.log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(o.listener) }()
	o.log.Info("serving operators", "address", addr.String())
	select {
	case err := <-served:
		return fmt.Errorf("serving operators: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		// A slow reader of a profile is no reason to fail.
		if err := server.Close(); err != nil {
			return fmt.Errorf("closing the ops server: %w", err)
		}
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving operators: %w", err)
	}
	return nil
}
