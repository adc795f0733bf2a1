package run

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func get(t *testing.T, o *Ops, method, path, remote string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr = remote
	w := httptest.NewRecorder()
	o.mux.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func newTestOps(t *testing.T, cfg OpsConfig, ready *Ready) *Ops {
	t.Helper()
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "auditmill_test_total", Help: "x"})
	reg.MustRegister(c)
	o, err := NewOps(cfg, reg, ready, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestReadyz(t *testing.T) {
	ready := NewReady("kafka", "clickhouse")
	o := newTestOps(t, DefaultOpsConfig(), ready)
	steps := []struct {
		name string
		do   func()
		code int
		want string
	}{
		{
			"at the start", func() {}, 503,
			`{"ready":false,"draining":false,"checks":[` +
				`{"name":"clickhouse","ready":false,"reason":"starting"},` +
				`{"name":"kafka","ready":false,"reason":"starting"}]}`,
		},
		{
			"one failed", func() {
				ready.Set("kafka", nil)
				ready.Set("clickhouse", errors.New("connection refused"))
			}, 503,
			`{"ready":false,"draining":false,"checks":[` +
				`{"name":"clickhouse","ready":false,"reason":"connection refused"},` +
				`{"name":"kafka","ready":true}]}`,
		},
		{
			"all ready", func() { ready.Set("clickhouse", nil) }, 200,
			`{"ready":true,"draining":false,"checks":[` +
				`{"name":"clickhouse","ready":true},{"name":"kafka","ready":true}]}`,
		},
		{
			"draining", ready.Drain, 503,
			`{"ready":false,"draining":true,"checks":[` +
				`{"name":"clickhouse","ready":true},{"name":"kafka","ready":true}]}`,
		},
	}
	for _, step := range steps {
		step.do()
		code, body := get(t, o, "GET", "/readyz", "127.0.0.1:1")
		if code != step.code {
			t.Errorf("%s: got status %d, want %d", step.name, code, step.code)
		}
		if diff := cmp.Diff(step.want, strings.TrimSpace(body)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", step.name, diff)
		}
		if (ready.Err() == nil) != (step.code == 200) {
			t.Errorf("%s: got %v from Err", step.name, ready.Err())
		}
	}
}

func TestEndpoints(t *testing.T) {
	with := newTestOps(t, OpsConfig{Listen: ":0", Pprof: true}, NewReady())
	without := newTestOps(t, DefaultOpsConfig(), NewReady())
	tests := []struct {
		name                 string
		ops                  *Ops
		method, path, remote string
		code                 int
		want                 string
	}{
		{"metrics", without, "GET", "/metrics", "192.0.2.1:5", 200, "auditmill_test_total 0"},
		{"health", without, "GET", "/healthz", "192.0.2.1:5", 200, "ok"},
		{"nothing else", without, "GET", "/", "127.0.0.1:5", 404, ""},
		{"read only", without, "POST", "/metrics", "127.0.0.1:5", 405, ""},
		{"profiles are off", without, "GET", "/debug/pprof/heap", "127.0.0.1:5", 404, ""},
		{"profiles here", with, "GET", "/debug/pprof/goroutine?debug=1", "[::1]:5", 200, "goroutine"},
		{"profiles, mapped address", with, "GET", "/debug/pprof/", "[::ffff:127.0.0.1]:5", 200, "heap"},
		{"profiles from elsewhere", with, "GET", "/debug/pprof/heap", "192.0.2.1:5", 403, "same host"},
	}
	for _, tt := range tests {
		code, body := get(t, tt.ops, tt.method, tt.path, tt.remote)
		if code != tt.code || !strings.Contains(body, tt.want) {
			t.Errorf("%s: got status %d and %.100q, want %d and %q", tt.name, code, body, tt.code, tt.want)
		}
	}
}

func TestOpsRun(t *testing.T) {
	o := newTestOps(t, OpsConfig{Listen: "127.0.0.1:0"}, NewReady())
	addr, err := o.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String()+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil || string(body) != "ok\n" {
		t.Errorf("got %q, error %v", body, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr.String()); err == nil {
		t.Error("the port is still open", conn.Close())
	}
}

func TestOpsWithoutAddress(t *testing.T) {
	o := newTestOps(t, OpsConfig{}, NewReady())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	first := newTestOps(t, OpsConfig{Listen: "127.0.0.1:0"}, NewReady())
	addr, err := first.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = first.listener.Close() })
	second := newTestOps(t, OpsConfig{Listen: addr.String()}, NewReady())
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "ops.listen") {
		t.Errorf("got %v, want an error that names ops.listen", err)
	}
}

func TestOpsConfigValidate(t *testing.T) {
	for _, tt := range []struct {
		cfg  OpsConfig
		want string
	}{
		{DefaultOpsConfig(), ""},
		{OpsConfig{}, ""},
		{OpsConfig{Pprof: true}, "pprof: needs listen"},
		{OpsConfig{Listen: "9090"}, `listen: "9090" is no address: write host:port`},
	} {
		if got := errorText(tt.cfg.Validate()); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.cfg, got, tt.want)
		}
	}
}
