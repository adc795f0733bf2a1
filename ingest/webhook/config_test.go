package webhook

import (
	"strings"
	"testing"
	"time"

	"github.com/auditmill/auditmill/internal/conf"
)

func TestValidate(t *testing.T) {
	empty := t.TempDir() + "/empty"
	write(t, empty, nil)
	for _, tt := range []struct {
		key    string // that the error must name; empty for none
		change func(*Config)
	}{
		{"", func(*Config) {}},
		{"", func(c *Config) { *c = Config{} }},
		{"", func(c *Config) { c.Anonymous = []string{"demo"} }},
		{"listen:", func(c *Config) { c.Listen = "nonsense" }},
		{"anonymous:", func(c *Config) { c.Anonymous, c.Listen = []string{"demo"}, ":9443" }},
		{"anonymous:", func(c *Config) { c.Anonymous, c.Listen = []string{"demo"}, "192.0.2.1:9443" }},
		{"anonymous[0]:", func(c *Config) { c.Anonymous = []string{"a/b"} }},
		{"tokens[0].cluster:", func(c *Config) { c.Tokens[0].Cluster = ".." }},
		{"tokens[1]:", func(c *Config) { c.Tokens[1].SHA256 = "" }},
		{"tokens[1]:", func(c *Config) { c.Tokens[1].File = "x" }},
		{"tokens[1].token_sha256:", func(c *Config) { c.Tokens[1].SHA256 = "s3cret" }},
		{"tokens[0].token_file:", func(c *Config) { c.Tokens[0] = Token{Cluster: "a", File: "/does/not/exist"} }},
		{"tokens[0].token_file:", func(c *Config) { c.Tokens[0] = Token{Cluster: "a", File: empty} }},
		{"certificates:", func(c *Config) { c.Certificates = []Certificate{{Cluster: "a", DNS: "b"}} }},
		{"certificates[0]:", func(c *Config) { c.Certificates = []Certificate{{Cluster: "a"}} }},
		{"certificates[0]:", func(c *Config) { c.Certificates = []Certificate{{Cluster: "a", DNS: "b", URI: "c"}} }},
		{"certificates[0].cluster:", func(c *Config) { c.Certificates = []Certificate{{DNS: "b"}} }},
		{"tls.cert_file:", func(c *Config) { c.TLS.KeyFile = "x" }},
		{"tls.cert_file:", func(c *Config) { c.TLS.KeyFile, c.TLS.CertFile = "/no", "/no" }},
		{"max_body:", func(c *Config) { c.MaxBody = 1 }},
		{"max_inflight:", func(c *Config) { c.MaxInflight = 4*c.MaxBody - 1 }},
		{"timeout:", func(c *Config) { c.Timeout = 30 * time.Second }},
		{"body_timeout:", func(c *Config) { c.BodyTimeout = c.Timeout }},
		{"inflight_wait:", func(c *Config) { c.InflightWait = -1 }},
		{"drain_timeout:", func(c *Config) { c.DrainTimeout = 0 }},
		{"rate:", func(c *Config) { c.Rate = -1 }},
		{"burst:", func(c *Config) { c.Rate, c.Burst = 1, 0 }},
	} {
		cfg := testConfig()
		tt.change(&cfg)
		err := cfg.Validate()
		if tt.key == "" && err != nil || tt.key != "" && (err == nil || !strings.Contains(err.Error(), tt.key)) {
			t.Errorf("want an error about %q, got %v", tt.key, err)
		}
	}
}

func TestDefaultsHold(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	if DefaultConfig().MaxBody != 64*conf.MiB {
		t.Error("the default body limit is not 64 MiB")
	}
}
