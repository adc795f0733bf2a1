//go:build linux || darwin

package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/auditmill/auditmill/internal/embedded/dirlock"
)

// ErrInUse says that another program uses the data directory.
var ErrInUse = errors.New("the ClickHouse data directory is in use")

// Server is a running ClickHouse: a child process and the supervisor that keeps it running.
// Its methods may be called concurrently.
type Server struct {
	cfg    Config
	creds  credentials
	log    *slog.Logger
	client *http.Client
	lock   *dirlock.Lock

	httpPort, tcpPort int

	pid      atomic.Int64
	restarts atomic.Int64
	ready    atomic.Bool

	stopOnce sync.Once
	stopErr  error
	stopping chan struct{}
	kill     chan struct{}
	done     chan struct{}
}

// Start brings the server up and returns when it has answered a query. The context bounds the
// start only; the server then runs until Stop.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("resolving the data directory: %w", err)
	}
	cfg.Dir = dir
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	lock, err := dirlock.Acquire(filepath.Join(dir, lockFile))
	if errors.Is(err, dirlock.ErrHeld) {
		return nil, fmt.Errorf("%w: %w; stop that process or choose another directory", ErrInUse, err)
	}
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg:  cfg,
		log:  cfg.Logger,
		lock: lock,
		client: &http.Client{Transport: &http.Transport{
			// An idle connection would delay the child's orderly end.
			DisableKeepAlives: true,
		}},
		stopping: make(chan struct{}),
		kill:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	creds, err := layout(s.cfg.Dir)
	if err != nil {
		return err
	}
	s.creds = creds
	first := make(chan error)
	go s.supervise(context.WithoutCancel(ctx), first)
	select {
	case err := <-first:
		return err
	case <-ctx.Done():
		s.halt()
		close(s.kill)
		err := <-first
		<-s.done
		return fmt.Errorf("starting ClickHouse: %w", errors.Join(ctx.Err(), err))
	}
}

// HTTPAddr returns host:port of the child's HTTP interface.
func (s *Server) HTTPAddr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.httpPort))
}

// NativeAddr returns host:port of the child's native interface, or "" when it is not open.
func (s *Server) NativeAddr() string {
	if !s.cfg.Native {
		return ""
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.tcpPort))
}

// User returns the name of the user that may do everything.
func (*Server) User() string { return adminUser }

// Password returns the password of User. It stays the same for one data directory.
func (s *Server) Password() string { return s.creds.admin }

// Reader returns the name of the user that may only read.
func (*Server) Reader() string { return readerUser }

// ReaderPassword returns the password of Reader. It stays the same for one data directory.
func (s *Server) ReaderPassword() string { return s.creds.reader }

// Pid returns the process id of the child, or 0 while there is none.
func (s *Server) Pid() int { return int(s.pid.Load()) }

// Restarts returns how often the child was started again.
func (s *Server) Restarts() int { return int(s.restarts.Load()) }

// Ready reports whether the child answered its last health check.
func (s *Server) Ready() bool { return s.ready.Load() }

// Done is closed when the child has ended for good, which only Stop brings about.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop ends the server: orderly within StopTimeout, by force afterwards or when ctx ends.
// Either way nothing that was acknowledged is lost. A second call returns what the first did.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		s.halt()
		if !s.endsInOrder(ctx) {
			s.log.Debug("clickhouse did not end in time, killing it")
			close(s.kill)
			<-s.done
		}
		s.stopErr = s.lock.Release()
	})
	return s.stopErr
}

func (s *Server) endsInOrder(ctx context.Context) bool {
	if err := s.endKeeper(ctx); err != nil {
		return false
	}
	timer := time.NewTimer(s.cfg.StopTimeout)
	defer timer.Stop()
	select {
	case <-s.done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// halt tells the supervisor that the next death is wanted.
func (s *Server) halt() { close(s.stopping) }
