package file

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/auditmill/auditmill/internal/conf"
)

// arrivals is a publisher that hands on what it is given.
type arrivals struct {
	recorder
	bodies chan string
}

func (a *arrivals) Publish(ctx context.Context, _ string, body []byte) error {
	select {
	case a.bodies <- string(body):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestRunFollows(t *testing.T) {
	b := newBench(t, "audit.log")
	b.cfg.PollInterval, b.cfg.MaxWait = 10*time.Millisecond, 0
	out := &arrivals{bodies: make(chan string)}
	s, err := New(b.cfg, out, Deps{})
	b.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	for i := range 3 {
		b.append("audit.log", lines(i, 1))
		if got := <-out.bodies; got != lines(i, 1) {
			t.Errorf("got %q, want line %d", got, i)
		}
	}
	b.rename("audit.log", "audit.log.1")
	b.append("audit.log", lines(3, 1))
	if got := <-out.bodies; got != lines(3, 1) {
		t.Errorf("got %q, want line 3", got)
	}
	b.append("audit.log", lines(4, 1)) // nobody takes it
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the run ended with %v", err)
	}
	b.scan()
	b.wantText(lines(4, 1))
}

// TestKernelWakes proves that a change is told without waiting for the next poll.
func TestKernelWakes(t *testing.T) {
	b := newBench(t, "audit.log")
	b.start()
	wake, stop := b.src.startWatcher()
	defer stop()
	if b.src.watcher == nil {
		t.Skip("the kernel reports no changes here")
	}
	b.scan()
	b.append("audit.log", lines(0, 1))
	<-wake
	b.scan()
	b.wantText(lines(0, 1))
}

func TestRunToTheEnd(t *testing.T) {
	b := newBench(t, ".")
	b.cfg.Follow = false
	b.append("a.log", lines(0, 10))
	b.write("b.gz", pack(lines(10, 10)+"no end"))
	b.append("c.log", "no end either")
	run := func() error {
		s, err := New(b.cfg, b.out, Deps{})
		b.must(err)
		return s.Run(t.Context())
	}
	b.must(run())
	b.wantText(lines(0, 20) + "no end" + "no end either")
	b.must(run())
	b.wantText(lines(0, 20) + "no end" + "no end either")

	b.write("d.gz", pack(lines(20, 3000))[:2000])
	b.cfg.Inputs = append(b.cfg.Inputs, Input{Path: b.path("nowhere/audit.log"), Cluster: "prod"})
	err := run()
	for _, want := range []string{"d.gz: unexpected EOF: ", "put a whole file in its place", "nowhere/audit.log: no such file"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to contain %q", err, want)
		}
	}
	b.out.fail = func() (error, bool) { return errors.New("no leader"), false }
	b.append("a.log", lines(90, 1))
	if err := run(); err == nil || !strings.Contains(err.Error(), "a.log: publishing lines: no leader") {
		t.Errorf("got %v, want that of the publisher", err)
	}
}

func TestUnusableCheckpoint(t *testing.T) {
	tests := map[string]struct {
		set  func(b *bench)
		want string
	}{
		"no JSON": {
			func(b *bench) { b.must(os.WriteFile(b.cfg.Checkpoint, []byte("{"), 0o600)) },
			"unexpected end of JSON input; move it away",
		},
		"newer version": {func(b *bench) {
			b.must(os.WriteFile(b.cfg.Checkpoint, []byte(`{"version": 2}`), 0o600))
		}, "it has version 2, this program reads version 1"},
		"no offset": {func(b *bench) {
			b.must(os.WriteFile(b.cfg.Checkpoint, []byte(`{"version": 1, "files": [{"head": "x"}]}`), 0o600))
		}, "entry 0 is not complete"},
		"in use": {func(b *bench) { b.start() }, "give each its own"},
		"no directory": {
			func(b *bench) { b.cfg.Checkpoint = b.path("a.log/files.json") },
			"creating the directory of the checkpoint",
		},
		"no file": {func(b *bench) { b.must(os.Mkdir(b.cfg.Checkpoint, 0o700)) }, "is a directory"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, "a.log")
			b.append("a.log", lines(0, 1))
			b.must(os.MkdirAll(filepath.Dir(b.cfg.Checkpoint), 0o700))
			tt.set(b)
			s, err := New(b.cfg, b.out, Deps{})
			b.must(err)
			if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to contain %q", err, tt.want)
			}
			b.wantText("")
		})
	}
}

func TestCheckpointCannotBeWritten(t *testing.T) {
	b := newBench(t, "a.log")
	b.append("a.log", lines(0, 2))
	b.start()
	temporary := b.cfg.Checkpoint + ".tmp"
	b.must(os.Mkdir(temporary, 0o700))
	b.scan()
	b.append("a.log", lines(2, 1))
	b.scan()
	b.wantText(lines(0, 3))
	if got := b.metric("errors_total", reasonCheckpoint); got == 0 {
		t.Error("no error was counted")
	}
	b.must(os.Remove(temporary))
	b.scan()
	b.crash()
	b.scan()
	b.wantText(lines(0, 3))
}

func TestCheckpointRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "files.json")
	c, err := openCheckpoint(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Round(0)
	c.entries = []*entry{
		{Path: "/a", Cluster: "prod", fileKey: fileKey{1<<64 - 1, 2}, Offset: 3, Head: "h", Tail: "t"},
		{
			Path: "/b", Cluster: "test", Offset: 4, Head: "h", Tail: "t", Line: &longLine{1, 2},
			Complete: true, Size: 5, ModTime: now, Missing: now,
		},
	}
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	c.close()
	again, err := openCheckpoint(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	opts := []cmp.Option{cmp.AllowUnexported(entry{}), cmpopts.EquateApproxTime(0)}
	if diff := cmp.Diff(c.entries, again.entries, opts...); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestIsRotated(t *testing.T) {
	for name, want := range map[string]bool{
		"audit.log.1": true, "audit.log.12.gz": true, "audit.log-20260102": true,
		"audit.log-20260102.gz": true, "audit.log.2026-01-02": true, "audit.log-2026-01-02T03:04:05Z": true,
		"audit-2026-01-02T03-04-05.678.log": true, "audit-2026-01-02T03-04-05.678.log.gz": true,
		"audit-20260102.log": true, "audit.log.gz": false, "audit.log": false, "audit-2.log": false,
		"audit.log.bak": false, "audit.log~": false, "audit-policy.log": false, "audit2.log": false,
		"audit.logs": false, "audit-2026-01-02.json": false, "audit.log.": false,
	} {
		if got := isRotated("audit.log", name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the default is not valid: %v", err)
	}
	if _, err := New(DefaultConfig(), &recorder{}, Deps{}); err == nil {
		t.Error("a source without inputs was made")
	}
	cfg := Config{
		Inputs: []Input{
			{Path: "/a", Cluster: "a"}, {Path: "/a/", Cluster: "b"}, {Path: "/[", Cluster: ""}, {Cluster: "c"},
		},
		MaxWait: -1, MaxLine: conf.MiB, MaxBatch: 2 * conf.MiB, IgnoreOlder: -1,
	}
	want := strings.Join([]string{
		`inputs[1].path: "/a/" is inputs[0] already`,
		"inputs[2].cluster: want the name of the cluster that writes the files",
		`inputs[2].path: "/[" is no pattern: a bracket is not closed`,
		"inputs[3].path: want a file, a directory or a pattern",
		"checkpoint: want the path of a file",
		"poll_interval: want 10ms to 1m, got 0s",
		"max_wait: want 0 to poll_interval (0s), got -1ns",
		"max_line: want 16MiB to 1GiB, got 1MiB",
		"max_batch: want 64KiB to max_line (1MiB), got 2MiB",
		"ignore_older: want 0 or more, got -1ns",
	}, "\n")
	if diff := cmp.Diff(want, cfg.Validate().Error()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
