package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fleet is a set of auditmill processes on this machine, each of which can be killed and
// started again.
type fleet struct {
	t      testing.TB
	dir    string
	bin    string
	config string
	procs  []*proc
}

// proc is one process of a fleet.
type proc struct {
	name string
	args []string

	mu      sync.Mutex
	cmd     *exec.Cmd
	kills   int
	stopped bool
	ended   chan struct{}

	signalled bool // with SIGTERM
}

// buildBinary builds auditmill once for all tests.
var buildBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "auditmill-e2e-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "auditmill")
	out, err := exec.Command("go", "build", "-o", bin, "../cmd/auditmill").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building auditmill: %w\n%s", err, out)
	}
	return bin, nil
})

func newFleet(t testing.TB) *fleet {
	t.Helper()
	bin, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, dir: t.TempDir(), bin: bin}
	f.config = filepath.Join(f.dir, "auditmill.yaml")
	t.Cleanup(f.stopAll)
	return f
}

// freePort returns a port that nothing listens on now.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}

// run runs a command that ends by itself, and returns what it said.
func (f *fleet) run(args ...string) string {
	f.t.Helper()
	out, err := f.try(f.t.Context(), args...)
	if err != nil {
		f.t.Fatalf("auditmill %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// try runs a command that may fail.
func (f *fleet) try(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, f.bin, append(args, "--config", f.config)...)
	cmd.Env = environment()
	return cmd.CombinedOutput()
}

// environment is ours without what is meant for the tests: auditmill refuses variables
// that it does not know.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AUDITMILL_E2E_") })
}

// start starts a process that is started again whenever it ends.
func (f *fleet) start(name string, args ...string) *proc {
	f.t.Helper()
	p := &proc{name: name, args: args, ended: make(chan struct{})}
	f.procs = append(f.procs, p)
	go f.supervise(p)
	return p
}

func (f *fleet) supervise(p *proc) {
	defer close(p.ended)
	log, err := os.Create(filepath.Join(f.dir, p.name+".log"))
	if err != nil {
		f.t.Error(err)
		return
	}
	defer log.Close()
	for {
		cmd := exec.Command(f.bin, append(p.args, "--config", f.config)...)
		cmd.Stdout, cmd.Stderr, cmd.Env = log, log, environment()
		p.mu.Lock()
		if p.stopped {
			p.mu.Unlock()
			return
		}
		err := cmd.Start()
		p.cmd = cmd
		p.mu.Unlock()
		if err != nil {
			f.t.Error(err)
			return
		}
		_ = cmd.Wait() // killed, or ended because a server was away
		fmt.Fprintf(log, "--- %s ended: %v\n", p.name, cmd.ProcessState)
		p.mu.Lock()
		stopped, signalled := p.stopped, p.signalled
		p.mu.Unlock()
		if signalled && cmd.ProcessState.ExitCode() > 0 {
			f.t.Errorf("%s was told to end, and ended with status %d", p.name, cmd.ProcessState.ExitCode())
		}
		if !stopped {
			<-time.After(100 * time.Millisecond)
		}
	}
}

// kill ends the process at once, as a crash would.
func (p *proc) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && p.cmd.Process != nil {
		p.kills++
		_ = p.cmd.Process.Kill() // it may be between two lives
	}
}

// stopAll ends all processes in good order, services before servers.
func (f *fleet) stopAll() {
	for _, p := range slices.Backward(f.procs) {
		p.mu.Lock()
		p.stopped = true
		if p.cmd != nil && p.cmd.Process != nil {
			p.signalled = p.cmd.Process.Signal(syscall.SIGTERM) == nil // else it is between two lives
		}
		p.mu.Unlock()
		select {
		case <-p.ended:
		case <-time.After(20 * time.Second):
			f.t.Errorf("%s does not stop", p.name)
			p.kill()
			<-p.ended
		}
	}
	if f.t.Failed() {
		f.showLogs()
	}
}

// showLogs prints the end of each log: what one needs after a failure elsewhere.
func (f *fleet) showLogs() {
	for _, p := range f.procs {
		b, err := os.ReadFile(filepath.Join(f.dir, p.name+".log"))
		if err == nil {
			f.t.Logf("the end of the log of %s:\n%s", p.name, b[max(0, len(b)-3000):])
		}
	}
}

// firstLine waits for the first line that a process prints; its log lines are JSON.
func (f *fleet) firstLine(p *proc) string {
	f.t.Helper()
	path := filepath.Join(f.dir, p.name+".log")
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // not started yet
		}
		for line := range strings.Lines(string(b)) {
			if strings.HasSuffix(line, "\n") && !strings.HasPrefix(line, "{") {
				return strings.TrimSpace(line)
			}
		}
	}
	f.t.Fatalf("%s says nothing", p.name)
	return ""
}
