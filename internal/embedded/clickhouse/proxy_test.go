//go:build linux || darwin

package clickhouse

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	clickhousego "github.com/ClickHouse/clickhouse-go/v2"
)

func startProxy(t *testing.T, s *Server, cfg ProxyConfig) string {
	t.Helper()
	proxy, err := NewProxy(s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- proxy.Serve(ctx, listener, time.Second) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func TestProxy(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig(t, t.TempDir()))
	cfg := DefaultProxyConfig()
	cfg.MaxBody = 1 << 20
	addr := startProxy(t, s, cfg)

	type request struct {
		name, method, path, body string
		header                   map[string]string
		user, password           string
		status                   int
		want                     string
	}
	for _, tc := range []request{
		{name: "ping", method: "GET", path: "/ping", status: 200, want: "Ok."},
		{name: "query page", method: "GET", path: "/play", status: 200, want: "<html"},
		{
			name: "reader", method: "POST", path: "/", body: "SELECT 1", user: s.Reader(),
			password: s.ReaderPassword(), status: 200, want: "1",
		},
		{
			name: "reader in headers", method: "GET", path: "/?query=SELECT+currentUser()",
			header: map[string]string{"X-ClickHouse-User": s.Reader(), "X-ClickHouse-Key": s.ReaderPassword()},
			status: 200, want: "reader",
		},
		{
			name: "wrong password", method: "POST", path: "/", body: "SELECT 1", user: s.Reader(),
			password: "wrong", status: 403, want: "Authentication failed",
		},
		{name: "nobody", method: "POST", path: "/", body: "SELECT 1", status: 401},
		{name: "nobody on another path", method: "GET", path: "/?query=SELECT+1", status: 401},
		{name: "posting to ping", method: "POST", path: "/ping", body: "SELECT 1", status: 401},
		{name: "default", method: "POST", path: "/?user=default", body: "SELECT 1", status: 401},
		{
			name: "default behind reader", method: "POST", path: "/?user=default", body: "SELECT 1",
			user: s.Reader(), password: s.ReaderPassword(), status: 401,
		},
		{
			name: "admin", method: "POST", path: "/", body: "SELECT 1", user: s.User(),
			password: s.Password(), status: 401,
		},
		{
			name: "large body", method: "POST", path: "/", body: strings.Repeat(" ", 2<<20),
			user: s.Reader(), password: s.ReaderPassword(), status: 413,
		},
		{name: "method", method: "DELETE", path: "/", status: 405},
		{
			name: "upgrade", method: "GET", path: "/ping", status: 400,
			header: map[string]string{"Connection": "Upgrade", "Upgrade": "websocket"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(testContext(t), tc.method, "http://"+addr+tc.path,
				strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			for key, value := range tc.header {
				req.Header.Set(key, value)
			}
			if tc.user != "" {
				req.SetBasicAuth(tc.user, tc.password)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tc.status || !strings.Contains(string(body), tc.want) {
				t.Errorf("got %d %.200q, want %d %q", resp.StatusCode, body, tc.status, tc.want)
			}
		})
	}
	t.Run("malformed requests", func(t *testing.T) { checkMalformed(t, s, addr) })
	t.Run("clickhouse-go", func(t *testing.T) { checkDriver(t, addr, s) })
}

// checkMalformed sends what ends an engine that is reached directly.
func checkMalformed(t *testing.T, s *Server, addr string) {
	t.Helper()
	pid := s.Pid()
	for _, text := range []string{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"\x00\x01\x02\x03\xff\xfe\xfd",
		"GET /" + strings.Repeat("x", 2<<20),
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, text)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
	if got := ask(t, s, "SELECT 1"); got != "1" || s.Pid() != pid || s.Restarts() != 0 {
		t.Errorf("the server did not stay up: pid %d, then %d", pid, s.Pid())
	}
}

func checkDriver(t *testing.T, addr string, s *Server) {
	t.Helper()
	db, err := clickhousego.Open(&clickhousego.Options{
		Protocol: clickhousego.HTTP,
		Addr:     []string{addr},
		Auth:     clickhousego.Auth{Username: s.Reader(), Password: s.ReaderPassword()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var sum uint64
	row := db.QueryRow(testContext(t), "SELECT sum(number) FROM numbers(?)", 1_000_000)
	if err := row.Scan(&sum); err != nil {
		t.Fatal(err)
	}
	if sum != 499999500000 {
		t.Errorf("sum: got %d", sum)
	}
}

func TestProxyLimits(t *testing.T) {
	t.Parallel()
	s := startServer(t, testConfig(t, t.TempDir()))
	cfg := DefaultProxyConfig()
	cfg.MaxRequests = 1
	addr := startProxy(t, s, cfg)
	send := func(ctx context.Context, sql string) (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/", strings.NewReader(sql))
		if err != nil {
			return 0, err
		}
		req.SetBasicAuth(s.Reader(), s.ReaderPassword())
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	ctx, cancel := context.WithCancel(testContext(t))
	first := make(chan error, 1)
	go func() {
		_, err := send(ctx, "SELECT sleepEachRow(1) FROM numbers(30) SETTINGS max_block_size = 1")
		first <- err
	}()
	eventually(t, "the first query", func() bool {
		return ask(t, s, "SELECT count() FROM system.processes WHERE user = 'reader'") == "1"
	})
	if status, err := send(t.Context(), "SELECT 1"); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("second query: got %d, %v", status, err)
	}
	cancel()
	if err := <-first; err == nil {
		t.Error("the first query was answered")
	}
	// The reader's queries end when their client has gone.
	eventually(t, "the end of the first query", func() bool {
		status, err := send(t.Context(), "SELECT 1")
		return err == nil && status == http.StatusOK
	})
	eventually(t, "the end of the first query in the server", func() bool {
		return ask(t, s, "SELECT count() FROM system.processes WHERE user = 'reader'") == "0"
	})
}
