package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificates serves the TLS configuration from files and reads them again when they
// change. A change that cannot be read leaves the old ones in place: a half-written file
// must not cut off the senders.
type certificates struct {
	cfg TLSConfig
	log *slog.Logger

	mu     sync.Mutex
	stamps [3]stamp
	tls    *tls.Config
}

// stamp tells whether a file has changed.
type stamp struct {
	size int64
	time time.Time
}

func newCertificates(cfg TLSConfig, log *slog.Logger) (*certificates, error) {
	c := &certificates{cfg: cfg, log: log, stamps: stampsOf(cfg)}
	var err error
	if c.tls, err = loadTLS(cfg); err != nil {
		return nil, fmt.Errorf("loading ingest.webhook.tls: %w", err)
	}
	return c, nil
}

// config returns what the server listens with.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return c.current(), nil
		},
		// The server looks here for HTTP/2, but the certificate comes from the above.
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &c.current().Certificates[0], nil
		},
	}
}

// current looks at the files once per connection; an API server makes few.
func (c *certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := stampsOf(c.cfg)
	if now == c.stamps {
		return c.tls
	}
	t, err := loadTLS(c.cfg)
	if err != nil {
		c.log.Error("changed certificates cannot be used, the old ones stay", "err", err)
		return c.tls
	}
	c.stamps, c.tls = now, t
	c.log.Info("certificates reloaded")
	return t
}

func stampsOf(cfg TLSConfig) (stamps [3]stamp) {
	for i, name := range []string{cfg.CertFile, cfg.KeyFile, cfg.ClientCAFile} {
		if info, err := os.Stat(name); err == nil {
			stamps[i] = stamp{info.Size(), info.ModTime()}
		}
	}
	return stamps
}

func loadTLS(cfg TLSConfig) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("cert_file: %w", err)
	}
	t := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"},
	}
	if cfg.ClientCAFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(cfg.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("client_ca_file: %w", err)
	}
	t.ClientCAs = x509.NewCertPool()
	if !t.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("client_ca_file: " + cfg.ClientCAFile + " holds no certificate in PEM form")
	}
	// A sender may have a token instead.
	t.ClientAuth = tls.VerifyClientCertIfGiven
	return t, nil
}
