//go:build linux || darwin

package clickhouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 10 * time.Second
	// steadyAfter is how long a child must have run for its death to count as a first one.
	steadyAfter = time.Minute
	// takeoverTimeout is how long the child of a killed predecessor may take to vanish.
	takeoverTimeout = 5 * time.Second
	// Ports are picked below the range that systems hand out for outgoing connections, so
	// that nobody takes a port while the child restarts.
	firstPort, lastPort = 20000, 30000
	portAttempts        = 50
)

// supervise owns the child processes. It reports the outcome of the first start once.
func (s *Server) supervise(ctx context.Context, first chan<- error) {
	// The kernel signals the death of the thread that started the child, not of the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.done)

	started := time.Now()
	backoff := minBackoff
	for attempt := 0; ; attempt++ {
		if attempt > 0 && first == nil {
			s.restarts.Add(1)
		}
		born := time.Now()
		up, err := s.runOnce(ctx, first)
		if up {
			first = nil
		}
		if s.halted() {
			if first != nil {
				first <- err
			}
			return
		}
		if first != nil && !s.worthRetrying(err, started) {
			first <- err
			return
		}
		if time.Since(born) > steadyAfter {
			backoff = minBackoff
		}
		if first == nil {
			s.log.Warn("clickhouse ended, starting it again", "err", err, "backoff", backoff)
		}
		if !s.pause(backoff) {
			if first != nil {
				first <- err
			}
			return
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// worthRetrying says whether a first start that came to nothing may still succeed.
func (s *Server) worthRetrying(err error, started time.Time) bool {
	if errors.Is(err, ErrInUse) {
		// The lock of this package is ours, so the holder is the child of a killed
		// predecessor, which the kernel is just ending.
		return time.Since(started) < takeoverTimeout
	}
	picked := s.cfg.HTTPPort == 0 || (s.cfg.Native && s.cfg.TCPPort == 0)
	return picked && errors.Is(err, errPortTaken) && time.Since(started) < takeoverTimeout
}

func (s *Server) halted() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

func (s *Server) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.stopping:
		return false
	}
}

// runOnce starts one child and returns when it has ended, with whether it had been up.
func (s *Server) runOnce(ctx context.Context, first chan<- error) (up bool, err error) {
	if first != nil {
		if err := s.pickPorts(ctx); err != nil {
			return false, err
		}
		if err := writeServerFiles(s.cfg, s.creds, s.httpPort, s.tcpPort); err != nil {
			return false, err
		}
	}
	output := &head{limit: 16 << 10}
	cmd, err := s.command(ctx, output)
	if err != nil {
		return false, err
	}
	// The write end stays open in this process alone: its end is the child's end.
	read, lifeline, err := os.Pipe()
	if err != nil {
		return false, fmt.Errorf("opening the child's lifeline: %w", err)
	}
	defer lifeline.Close()
	cmd.ExtraFiles = []*os.File{read}
	err = cmd.Start()
	_ = read.Close()
	if err != nil {
		return false, fmt.Errorf("starting the ClickHouse process: %w", err)
	}
	s.pid.Store(int64(cmd.Process.Pid))

	dead := make(chan struct{})
	watched := make(chan bool)
	go func() { watched <- s.watch(ctx, cmd.Process, dead, first) }()
	waitErr := cmd.Wait()
	s.pid.Store(0)
	s.ready.Store(false)
	close(dead)
	up = <-watched
	return up, classify(waitErr, output.String())
}

// command builds the command line of the child: this program again, with other orders.
func (s *Server) command(ctx context.Context, output *head) (*exec.Cmd, error) {
	orders, err := json.Marshal(childOrders{
		Library: s.cfg.Library,
		Dir:     filepath.Join(s.cfg.Dir, serverDir),
		Args:    engineArgs(s.cfg),
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the child's orders: %w", err)
	}
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program's executable: %w", err)
	}
	if _, err := os.Stat(path); err != nil && ownExecutable != "" {
		path = ownExecutable
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Args = []string{"auditmill-clickhouse"}
	cmd.Env = append(childEnvironment(), childVariable+"="+string(orders))
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = childAttributes()
	// A grandchild that keeps the output open must not keep Wait from returning.
	cmd.WaitDelay = time.Second
	return cmd, nil
}

// childEnvironment passes on what a database needs and keeps the program's secrets back.
func childEnvironment() []string {
	env := []string{"TZ=UTC"}
	for _, name := range []string{"PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "GOCOVERDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

var errPortTaken = errors.New("port is taken")

// classify turns the end of a child into an error that says what to do.
func classify(waitErr error, output string) error {
	output = firstLines(output, 3)
	switch {
	case strings.Contains(output, "Code: 76."):
		return fmt.Errorf("%w by another ClickHouse: %s", ErrInUse, output)
	case strings.Contains(output, "Address already in use"):
		return fmt.Errorf("%w: choose another embedded.clickhouse.http_port or tcp_port: %s",
			errPortTaken, output)
	case waitErr == nil && output == "":
		return errors.New("the ClickHouse process ended by itself")
	case waitErr == nil:
		return fmt.Errorf("the ClickHouse process ended: %s", output)
	case output == "":
		return fmt.Errorf("running the ClickHouse process: %w", waitErr)
	default:
		return fmt.Errorf("running the ClickHouse process: %w: %s", waitErr, output)
	}
}

// firstLines returns the lines that name a fault, without the engine's stack trace below.
func firstLines(text string, count int) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "Logging ") {
			continue
		}
		if lines = append(lines, line); len(lines) == count {
			break
		}
	}
	return strings.Join(lines, " ")
}

// pickPorts settles the ports of this server; a restart keeps them.
func (s *Server) pickPorts(ctx context.Context) error {
	s.httpPort, s.tcpPort = s.cfg.HTTPPort, s.cfg.TCPPort
	var err error
	if s.httpPort == 0 {
		if s.httpPort, err = freePort(ctx, s.tcpPort); err != nil {
			return err
		}
	}
	if s.cfg.Native && s.tcpPort == 0 {
		if s.tcpPort, err = freePort(ctx, s.httpPort); err != nil {
			return err
		}
	}
	return nil
}

func freePort(ctx context.Context, other int) (int, error) {
	var (
		last   error
		config net.ListenConfig
	)
	for range portAttempts {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if port == other {
			continue
		}
		listener, err := config.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		return port, listener.Close()
	}
	return 0, fmt.Errorf("finding a free port between %d and %d: %w", firstPort, lastPort, last)
}
