//go:build linux || darwin

package clickhouse

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	RunChildIfAsked()
	if dir := os.Getenv("TEST_CLICKHOUSE_PARENT"); dir != "" {
		os.Exit(parentMain(dir))
	}
	os.Exit(m.Run())
}

// testContext ends with the process, well before the test binary's own time limit.
func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// testLibrary obtains the library as the program does.
func testLibrary(t testing.TB) string {
	t.Helper()
	path, err := Library(testContext(t), LibraryConfig{Progress: NewProgress(os.Stderr)})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func testConfig(t testing.TB, dir string) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Dir = dir
	cfg.Library = testLibrary(t)
	cfg.MaxMemory = 2 << 30
	return cfg
}

func startServer(t testing.TB, cfg Config) *Server {
	t.Helper()
	server, err := Start(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return server
}

// ask runs a statement as the admin and fails the test when it fails.
func ask(t testing.TB, s *Server, sql string) string {
	t.Helper()
	answer, err := s.query(testContext(t), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.TrimSpace(answer)
}

// askAs runs a statement as somebody else and returns status and answer.
func askAs(t testing.TB, s *Server, user, password, sql string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(testContext(t), http.MethodPost, "http://"+s.HTTPAddr()+"/",
		strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(user, password)
	answer, err := s.do(req)
	return strings.TrimSpace(answer), err
}

// eventually waits for something that another process brings about.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatalf("waited in vain: %s", what)
		case <-ticker.C:
		}
	}
}

// alive reports whether a process exists and is not a zombie.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	return !strings.Contains(string(stat), ") Z ")
}

// parentMain is a program that starts a server, says so and waits to be killed.
func parentMain(dir string) int {
	signal.Ignore(syscall.SIGTERM)
	ctx := context.Background()
	library, err := Library(ctx, LibraryConfig{})
	if err != nil {
		println(err.Error())
		return 1
	}
	cfg := DefaultConfig()
	cfg.Dir, cfg.Library = dir, library
	server, err := Start(ctx, cfg)
	if err != nil {
		println(err.Error())
		return 1
	}
	if _, err := server.query(ctx, "CREATE TABLE kept (n UInt64) ORDER BY n"); err != nil {
		println(err.Error())
		return 1
	}
	if _, err := server.query(ctx, "INSERT INTO kept SELECT number FROM numbers(1000)"); err != nil {
		println(err.Error())
		return 1
	}
	fmt.Println(server.Pid())
	select {}
}
