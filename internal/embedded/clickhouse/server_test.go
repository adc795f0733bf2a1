//go:build linux || darwin

package clickhouse

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestServer(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, t.TempDir())
	s := startServer(t, cfg)

	if got := ask(t, s, "SELECT timezone(), value FROM system.settings WHERE name = 'async_insert'"); got != "UTC\t0" {
		t.Errorf("settings: got %q", got)
	}
	ask(t, s, "CREATE TABLE t (n UInt64) ORDER BY n")
	ask(t, s, "INSERT INTO t SELECT number FROM numbers(10)")

	t.Run("users", func(t *testing.T) { checkUsers(t, s) })
	t.Run("one program per directory", func(t *testing.T) {
		_, err := Start(testContext(t), cfg)
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), itoa(os.Getpid())) {
			t.Errorf("second start: got %v", err)
		}
	})
	t.Run("port taken", func(t *testing.T) {
		other := cfg
		other.Dir = t.TempDir()
		other.HTTPPort = s.httpPort
		if _, err := Start(testContext(t), other); !errors.Is(err, errPortTaken) {
			t.Errorf("start on a taken port: got %v", err)
		}
	})
	t.Run("private files", func(t *testing.T) {
		for _, path := range []string{"secrets/auditmill", "secrets/reader", "server/users.xml", "server/config.xml"} {
			info, err := os.Stat(filepath.Join(cfg.Dir, path))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v", path, info.Mode())
			}
		}
		users, err := os.ReadFile(filepath.Join(cfg.Dir, "server/users.xml"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(users), s.Password()) {
			t.Error("users.xml holds a password")
		}
	})
}

func checkUsers(t *testing.T, s *Server) {
	t.Helper()
	for _, tc := range []struct {
		name, user, password, sql string
		want, wantErr             string
	}{
		{"reader reads", s.Reader(), s.ReaderPassword(), "SELECT count() FROM t", "10", ""},
		{"reader may set", s.Reader(), s.ReaderPassword(), "SELECT 1 SETTINGS max_threads = 1", "1", ""},
		{
			"reader has a limit", s.Reader(), s.ReaderPassword(),
			"SELECT value FROM system.settings WHERE name = 'max_execution_time'", "300", "",
		},
		{"reader writes", s.Reader(), s.ReaderPassword(), "INSERT INTO t VALUES (1)", "", "Code: 497"},
		{
			"reader reads files", s.Reader(), s.ReaderPassword(),
			"SELECT * FROM file('/etc/passwd', LineAsString)", "", "Code: 497",
		},
		{
			"reader reads files as tables", s.Reader(), s.ReaderPassword(),
			"SELECT * FROM `/etc/passwd`", "", "Code: 497",
		},
		{
			"reader fetches", s.Reader(), s.ReaderPassword(),
			"SELECT * FROM url('http://127.0.0.1:1/', LineAsString)", "", "Code: 497",
		},
		{"reader stops listening", s.Reader(), s.ReaderPassword(), "SYSTEM STOP LISTEN HTTP", "", "Code: 497"},
		{"wrong password", s.User(), "wrong", "SELECT 1", "", "Code: 516"},
		{"default stops listening", "default", "", "SYSTEM STOP LISTEN HTTP", "", "Code: 201"},
		{"default reads", "default", "", "SELECT count() FROM t", "", "Code: 497"},
		{"default computes", "default", "", "SELECT sum(number) FROM numbers(10)", "", "Code: 201"},
		{"mistyped statement", s.User(), s.Password(), "garbage here", "", "Code: 62"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := askAs(t, s, tc.user, tc.password, tc.sql)
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if fmt.Sprint(err) != "<nil>" && tc.wantErr == "" || err == nil && tc.wantErr != "" ||
				err != nil && !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("got error %v, want %q", err, tc.wantErr)
			}
		})
	}
}

func TestKilledDuringInserts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := testConfig(t, dir)
	s := startServer(t, cfg)
	ask(t, s, "CREATE TABLE t (batch UInt64, n UInt64) ORDER BY n"+
		" SETTINGS non_replicated_deduplication_window = 1000")
	addr := s.HTTPAddr()

	const kills, batches, rows = 3, 60, 1000
	var inserted atomic.Int64
	stopped := make(chan error, 1)
	go func() {
		for batch := range batches {
			sql := fmt.Sprintf("INSERT INTO t SETTINGS insert_deduplication_token = 'b%d'"+
				" SELECT %d, number FROM numbers(%d)", batch, batch, rows)
			for {
				// An unanswered batch is sent again with its token, as a loader does.
				if _, err := s.query(t.Context(), sql); err == nil {
					break
				} else if t.Context().Err() != nil {
					stopped <- err
					return
				}
			}
			inserted.Add(1)
		}
		stopped <- nil
	}()
	for kill := range kills {
		goal := int64((kill + 1) * batches / (kills + 1))
		eventually(t, "inserts", func() bool { return inserted.Load() >= goal })
		pid := s.Pid()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a new child", func() bool { return s.Ready() && s.Pid() != pid && s.Pid() != 0 })
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if got, want := ask(t, s, "SELECT count(), uniqExact(batch, n) FROM t"),
		fmt.Sprintf("%d\t%d", batches*rows, batches*rows); got != want {
		t.Errorf("rows: got %q, want %q", got, want)
	}
	if s.HTTPAddr() != addr {
		t.Errorf("address changed from %s to %s", addr, s.HTTPAddr())
	}
	if s.Restarts() != kills {
		t.Errorf("restarts: got %d, want %d", s.Restarts(), kills)
	}

	password := s.Password()
	if err := s.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	again := startServer(t, cfg)
	if again.Password() != password {
		t.Error("the password changed with a restart")
	}
	if got := ask(t, again, "SELECT count() FROM t"); got != itoa(batches*rows) {
		t.Errorf("rows after a restart: got %s", got)
	}
}

func TestParentKilled(t *testing.T) {
	t.Parallel()
	testLibrary(t)
	dir := t.TempDir()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "TEST_CLICKHOUSE_PARENT="+dir)
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if !alive(child) {
		t.Fatal("the child does not run")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	// The directory is taken over at once, although the child may still be ending.
	s := startServer(t, testConfig(t, dir))
	eventually(t, "the end of the child", func() bool { return !alive(child) })
	if got := ask(t, s, "SELECT count() FROM kept"); got != "1000" {
		t.Errorf("rows after the parent's death: got %s", got)
	}
}
