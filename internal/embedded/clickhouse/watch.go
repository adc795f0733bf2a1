//go:build linux || darwin

package clickhouse

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	readyPoll     = 5 * time.Millisecond
	healthPeriod  = 5 * time.Second
	healthTimeout = 30 * time.Second
	// healthFailures in a row make a child count as hung.
	healthFailures = 3
)

// watch follows one child from its start to its death, kills it when it is not up in time,
// hangs or must go, and reports whether it ever was up.
func (s *Server) watch(ctx context.Context, process *os.Process, dead <-chan struct{}, first chan<- error) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-dead:
			cancel()
		case <-s.kill:
			_ = process.Kill()
		case <-ctx.Done():
		}
	}()
	born := time.Now()
	if err := s.awaitReady(ctx); err != nil {
		if ctx.Err() == nil {
			s.log.Warn("clickhouse is not up in time, killing it", "err", err)
			_ = process.Kill()
		}
		<-dead
		return false
	}
	s.ready.Store(true)
	s.log.Info("clickhouse is up", "pid", process.Pid, "addr", s.HTTPAddr(),
		"took", time.Since(born).Round(time.Millisecond))
	if first != nil {
		first <- nil
	}
	s.guard(ctx, process)
	<-dead
	return true
}

// awaitReady returns when the child has answered a ping and a query.
func (s *Server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StartTimeout)
	defer cancel()
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	for {
		err := s.Ping(ctx)
		if err == nil {
			_, err = s.query(ctx, "SELECT 1")
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-ticker.C:
		}
	}
}

// guard kills a child that has stopped answering, so that the supervisor starts a new one.
func (s *Server) guard(ctx context.Context, process *os.Process) {
	ticker := time.NewTicker(healthPeriod)
	defer ticker.Stop()
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		pingCtx, cancel := context.WithTimeout(ctx, healthTimeout)
		err := s.Ping(pingCtx)
		cancel()
		switch {
		case err == nil:
			failures = 0
			s.ready.Store(true)
		case s.halted() || ctx.Err() != nil:
		default:
			failures++
			s.ready.Store(false)
			s.log.Warn("clickhouse does not answer", "err", err, "failures", failures)
			if failures == healthFailures {
				_ = process.Kill()
				return
			}
		}
	}
}

// Ping asks the server whether it is there, without a query.
func (s *Server) Ping(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.HTTPAddr()+"/ping", nil)
	if err != nil {
		return err
	}
	_, err = s.do(req)
	return err
}

// query runs one statement as the admin and returns the answer.
func (s *Server) query(ctx context.Context, sql string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.HTTPAddr()+"/",
		strings.NewReader(sql))
	if err != nil {
		return "", err
	}
	req.SetBasicAuth(adminUser, s.creds.admin)
	return s.do(req)
}

func (s *Server) do(req *http.Request) (string, error) {
	resp, err := s.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("reading the answer of ClickHouse: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("asking ClickHouse: status %d: %s", resp.StatusCode,
			firstLines(string(body), 1))
	}
	return string(body), nil
}

// endKeeper ends the statement that keeps the engine running, which ends the child in order.
func (s *Server) endKeeper(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StopTimeout)
	defer cancel()
	_, err := s.query(ctx, "KILL QUERY WHERE Settings['log_comment'] = '"+keeperMarker+"' ASYNC")
	return err
}

// head keeps the first bytes that a process wrote: the engine names the fault first and then
// prints a stack.
type head struct {
	mu    sync.Mutex
	limit int
	text  strings.Builder
}

// Write never fails and never blocks, so the child cannot be held up by its output.
func (t *head) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := t.limit - t.text.Len(); room > 0 {
		t.text.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// String returns what was kept.
func (t *head) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}
