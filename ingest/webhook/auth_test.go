package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/auditmill/auditmill/schemas"
)

func TestTokens(t *testing.T) {
	f := start(t, testConfig())
	for _, tt := range []struct {
		name, path, token, authorization string
		want                             int
	}{
		{"own cluster", "/v1/audit/prod", "prod-1", "", 200},
		{"second token, for rotation", "/v1/audit/prod", "prod-2", "", 200},
		{"cluster from the token", "/v1/audit", "dev-1", "", 200},
		{"lower-case scheme", "/v1/audit", "", "bearer prod-1", 200},
		{"one of several clusters", "/v1/audit/east", "both", "", 200},
		{"no cluster of several", "/v1/audit", "both", "", 403},
		{"other cluster", "/v1/audit/dev", "prod-1", "", 403},
		{"unknown cluster", "/v1/audit/nosuch", "prod-1", "", 403},
		{"unknown token", "/v1/audit/prod", "nosuch", "", 401},
		{"unknown token and cluster", "/v1/audit/nosuch", "nosuch", "", 401},
		{"hash instead of token", "/v1/audit/prod", sha("prod-1"), "", 401},
		{"nothing", "/v1/audit/prod", "", "", 401},
		{"empty bearer", "/v1/audit/prod", "", "Bearer ", 401},
		{"other scheme", "/v1/audit/prod", "", "Basic cHJvZDpwcm9kLTE=", 401},
		{"long token", "/v1/audit/prod", strings.Repeat("x", 10_000), "", 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rq := request{path: tt.path, token: tt.token}
			if tt.authorization != "" {
				rq.header = map[string]string{"Authorization": tt.authorization}
			}
			a := f.send(t, rq)
			if a.status != tt.want {
				t.Errorf("status %d (%s), want %d", a.status, a.Error, tt.want)
			}
			if got := a.header.Get("WWW-Authenticate"); (got != "") != (tt.want == 401) {
				t.Errorf("WWW-Authenticate is %q", got)
			}
			if strings.Contains(a.Error+a.Remedy, "nosuch") || strings.Contains(a.Error, "prod-1") {
				t.Errorf("the answer repeats what was sent: %s; %s", a.Error, a.Remedy)
			}
		})
	}
	for _, r := range f.consume(t, schemas.TopicRaw, 5) {
		if cluster := string(r.Headers[1].Value); cluster != "prod" && cluster != "dev" && cluster != "east" {
			t.Errorf("stored for cluster %q", cluster)
		}
	}
}

func TestTokenFileIsReadAgain(t *testing.T) {
	name := t.TempDir() + "/token"
	write(t, name, []byte("old\n"))
	cfg := testConfig()
	cfg.Tokens = []Token{{Cluster: "prod", File: name}}
	f := start(t, cfg)
	expect := func(token string, want int) {
		t.Helper()
		if a := f.send(t, request{token: token}); a.status != want {
			t.Errorf("token %s: status %d, want %d", token, a.status, want)
		}
	}
	expect("old", 200)
	expect("new", 401)
	write(t, name, []byte("new"))
	if err := f.handler.auth.load(); err != nil {
		t.Fatal(err)
	}
	expect("old", 401)
	expect("new", 200)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := f.handler.auth.load(); err == nil || !strings.Contains(err.Error(), "ingest.webhook.tokens[0].token_file") {
		t.Errorf("missing file: %v", err)
	}
	expect("new", 200)
}

func TestAnonymous(t *testing.T) {
	cfg := testConfig()
	cfg.Anonymous = []string{"demo"}
	f := start(t, cfg)
	for path, want := range map[string]int{
		"/v1/audit": 200, "/v1/audit/demo": 200, "/v1/audit/prod": 401, "/v1/audit/nosuch": 403,
	} {
		if a := f.send(t, request{path: path}); a.status != want {
			t.Errorf("%s: status %d, want %d", path, a.status, want)
		}
	}
	if a := f.send(t, request{path: "/v1/audit/demo", token: "nosuch"}); a.status != 401 {
		t.Errorf("wrong token: status %d, want 401", a.status)
	}
}

func tlsClient(t *testing.T, a *authority, certificate string) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(a.file("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(pem)
	if certificate != "" {
		pair, err := tls.LoadX509KeyPair(a.file(certificate+".pem"), a.file(certificate+".key"))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestClientCertificates(t *testing.T) {
	ca := newAuthority(t)
	ca.signServer(t)
	id, err := url.Parse("spiffe://example.org/prod")
	if err != nil {
		t.Fatal(err)
	}
	ca.sign(t, "cn", x509.Certificate{Subject: pkix.Name{CommonName: "audit-prod"}})
	ca.sign(t, "uri", x509.Certificate{URIs: []*url.URL{id}})
	ca.sign(t, "dns", x509.Certificate{DNSNames: []string{"other.example.org", "dev.example.org"}})
	ca.sign(t, "unmapped", x509.Certificate{Subject: pkix.Name{CommonName: "somebody"}})
	stranger := newAuthority(t)
	stranger.sign(t, "cn", x509.Certificate{Subject: pkix.Name{CommonName: "audit-prod"}})

	cfg := testConfig()
	cfg.TLS = TLSConfig{CertFile: ca.file("server.pem"), KeyFile: ca.file("server.key"), ClientCAFile: ca.file("ca.pem")}
	cfg.Certificates = []Certificate{
		{Cluster: "prod", CommonName: "audit-prod"}, {Cluster: "prod", URI: "spiffe://example.org/prod"}, {Cluster: "dev", DNS: "dev.example.org"},
	}
	f := start(t, cfg)
	for _, tt := range []struct {
		certificate, token, path string
		want                     int
	}{
		{"cn", "", "/v1/audit", 200},
		{"uri", "", "/v1/audit/prod", 200},
		{"dns", "", "/v1/audit", 200},
		{"cn", "", "/v1/audit/dev", 403},
		{"cn", "", "/v1/audit/nosuch", 403},
		{"unmapped", "", "/v1/audit/prod", 403},
		{"", "prod-1", "/v1/audit", 200},
		{"", "", "/v1/audit", 401},
		{"cn", "prod-1", "/v1/audit", 200},
		{"unmapped", "prod-1", "/v1/audit", 200},
		{"cn", "dev-1", "/v1/audit", 403},
		{"cn", "nosuch", "/v1/audit", 401},
	} {
		a := f.send(t, request{client: tlsClient(t, ca, tt.certificate), token: tt.token, path: tt.path})
		if a.status != tt.want {
			t.Errorf("%+v: status %d (%s)", tt, a.status, a.Error)
		}
	}
	pair, err := tls.LoadX509KeyPair(stranger.file("cn.pem"), stranger.file("cn.key"))
	if err != nil {
		t.Fatal(err)
	}
	client := tlsClient(t, ca, "")
	client.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{pair}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+"/v1/audit", strings.NewReader(event))
	if err != nil {
		t.Fatal(err)
	}
	if res, err := client.Do(req); err == nil {
		t.Errorf("a certificate of another issuer was taken: status %d", res.StatusCode)
		_ = res.Body.Close()
	}
}

func TestHTTP2AndNewCertificate(t *testing.T) {
	ca := newAuthority(t)
	ca.signServer(t)
	cfg := testConfig()
	cfg.TLS = TLSConfig{CertFile: ca.file("server.pem"), KeyFile: ca.file("server.key")}
	f := start(t, cfg)
	serial := func() string {
		t.Helper()
		client := tlsClient(t, ca, "")
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+"/v1/audit", strings.NewReader(event))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer prod-1")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != 200 || res.ProtoMajor != 2 {
			t.Errorf("status %d, %s", res.StatusCode, res.Proto)
		}
		return res.TLS.PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	ca.signServer(t)
	later := time.Now().Add(time.Second) // file systems are not as precise as this test is fast
	if err := os.Chtimes(ca.file("server.pem"), later, later); err != nil {
		t.Fatal(err)
	}
	second := serial()
	if first == second {
		t.Error("the new certificate is not served")
	}
	write(t, ca.file("server.pem"), []byte("half a cert"))
	if third := serial(); third != second {
		t.Error("a broken file took the place of a good certificate")
	}
}
