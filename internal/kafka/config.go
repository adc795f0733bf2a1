package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/auditmill/auditmill/internal/conf"
)

// Config says how to reach Kafka and how much memory a client may hold.
type Config struct {
	Brokers  []string   `mapstructure:"brokers" doc:"addresses of the first brokers to ask, host:port"`
	ClientID string     `mapstructure:"client_id" doc:"name of this client in the brokers' logs and quotas"`
	TLS      TLSConfig  `mapstructure:"tls" doc:"encryption towards the brokers"`
	SASL     SASLConfig `mapstructure:"sasl" doc:"log-in at the brokers"`

	Compression string `mapstructure:"compression" doc:"how produced batches are compressed: none, snappy, lz4 or zstd"`

	MaxRecord         conf.Bytes `mapstructure:"max_record" doc:"largest record (and batch) produced, before compression; at most 48MiB; the topics' max.message.bytes must allow it"`
	ProduceBuffer     conf.Bytes `mapstructure:"produce_buffer" doc:"bytes that wait for acknowledgement before producing blocks; at least max_record"`
	FetchMax          conf.Bytes `mapstructure:"fetch_max" doc:"most bytes, compressed, that a broker returns per fetch"`
	FetchMaxPartition conf.Bytes `mapstructure:"fetch_max_partition" doc:"most bytes, compressed, per partition and fetch; a larger batch still arrives, alone"`

	// Dialer replaces the network, for tests with kfake.VirtualNetwork.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error) `mapstructure:"-"`
}

// TLSConfig says how to encrypt. Certificates of unknown issuers are never accepted.
type TLSConfig struct {
	Enabled    bool   `mapstructure:"enabled" doc:"whether to use TLS"`
	CAFile     string `mapstructure:"ca_file" doc:"PEM file with the issuers to trust; empty for the system's"`
	CertFile   string `mapstructure:"cert_file" doc:"PEM file with this client's certificate; read anew for each connection, so it may be rotated"`
	KeyFile    string `mapstructure:"key_file" doc:"PEM file with the key of cert_file"`
	ServerName string `mapstructure:"server_name" doc:"name to expect in the brokers' certificates; empty for the host dialled"`
}

// SASLConfig says how to log in.
type SASLConfig struct {
	Mechanism string      `mapstructure:"mechanism" doc:"PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty for no log-in"`
	Username  string      `mapstructure:"username" doc:"user to log in as"`
	Password  conf.Secret `mapstructure:"password" doc:"password of username"`
}

const (
	maxRecord = 48 * conf.MiB
	// maxResponse bounds what is read from a broker before anything of it is looked at. It
	// must hold a batch of the largest size whatever the fetch limits say.
	maxResponse = 128 * conf.MiB
	// maxDecompressed bounds what one batch may decompress to.
	maxDecompressed = 256 * conf.MiB
)

// DefaultConfig reaches a broker on this machine without encryption.
func DefaultConfig() Config {
	return Config{
		Brokers:           []string{"127.0.0.1:9092"},
		ClientID:          "auditmill",
		Compression:       "snappy",
		MaxRecord:         maxRecord,
		ProduceBuffer:     64 * conf.MiB,
		FetchMax:          16 * conf.MiB,
		FetchMaxPartition: 2 * conf.MiB,
	}
}

// Validate reports every fault at once, without a connection.
func (c Config) Validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
		add("brokers: at least one address is needed, like kafka-0:9092")
	}
	for i, b := range c.Brokers {
		// A test's network may use any address, port 0 too.
		if err := validateAddress(b); err != nil && c.Dialer == nil {
			add("brokers[%d]: %w", i, err)
		}
	}
	if c.ClientID == "" {
		add("client_id: must not be empty")
	}
	if _, err := codec(c.Compression); err != nil {
		add("compression: %w", err)
	}
	if c.MaxRecord < conf.MiB || c.MaxRecord > maxRecord {
		add("max_record: must be between 1MiB and %s, not %s", maxRecord, c.MaxRecord)
	}
	if c.ProduceBuffer < c.MaxRecord {
		add("produce_buffer: must be at least max_record (%s), not %s", c.MaxRecord, c.ProduceBuffer)
	}
	if c.FetchMax < 64*conf.KiB || c.FetchMax > 64*conf.MiB {
		add("fetch_max: must be between 64KiB and 64MiB, not %s", c.FetchMax)
	}
	if c.FetchMaxPartition < 16*conf.KiB || c.FetchMaxPartition > c.FetchMax {
		add("fetch_max_partition: must be between 16KiB and fetch_max (%s), not %s",
			c.FetchMax, c.FetchMaxPartition)
	}
	return errors.Join(append(errs,
		conf.Join("tls", c.TLS.Validate()), conf.Join("sasl", c.SASL.Validate()))...)
}

func validateAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is no address: write host:port", address)
	}
	if host == "" {
		return fmt.Errorf("%q has no host", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q has no port between 1 and 65535", address)
	}
	return nil
}

// Validate reports every fault at once and reads the files.
func (c TLSConfig) Validate() error {
	if !c.Enabled {
		if c.CAFile != "" || c.CertFile != "" || c.KeyFile != "" || c.ServerName != "" {
			return errors.New("enabled: must be true when other keys of tls are set")
		}
		return nil
	}
	var errs []error
	if _, err := c.roots(); err != nil {
		errs = append(errs, fmt.Errorf("ca_file: %w", err))
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, errors.New("cert_file: must be given together with key_file"))
	} else if c.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err != nil {
			errs = append(errs, fmt.Errorf("cert_file: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (c TLSConfig) roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil // crypto/tls takes nil for the system's issuers
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", c.CAFile)
	}
	return pool, nil
}

func (c TLSConfig) config() (*tls.Config, error) {
	roots, err := c.roots()
	if err != nil {
		return nil, fmt.Errorf("tls.ca_file: %w", err)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: c.ServerName}
	if c.CertFile != "" {
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("loading the client certificate: %w", err)
			}
			return &cert, nil
		}
	}
	return t, nil
}

// Validate reports every fault at once.
func (c SASLConfig) Validate() error {
	var errs []error
	switch c.Mechanism {
	case "":
		if c.Username != "" || c.Password != "" {
			errs = append(errs, errors.New(
				"mechanism: is needed to use username and password: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"))
		}
		return errors.Join(errs...)
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
	default:
		errs = append(errs, fmt.Errorf(
			"mechanism: must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, not %q", c.Mechanism))
	}
	if c.Username == "" {
		errs = append(errs, errors.New("username: must not be empty"))
	}
	if c.Password == "" {
		errs = append(errs, errors.New("password: must not be empty; give password_file or the environment"))
	}
	return errors.Join(errs...)
}

func (c SASLConfig) mechanism() sasl.Mechanism {
	user, pass := c.Username, c.Password.Reveal()
	switch c.Mechanism {
	case "PLAIN":
		return plain.Auth{User: user, Pass: pass}.AsMechanism()
	case "SCRAM-SHA-256":
		return scram.Auth{User: user, Pass: pass}.AsSha256Mechanism()
	case "SCRAM-SHA-512":
		return scram.Auth{User: user, Pass: pass}.AsSha512Mechanism()
	}
	return nil
}

func codec(name string) (kgo.CompressionCodec, error) {
	switch name {
	case "none":
		return kgo.NoCompression(), nil
	case "snappy":
		return kgo.SnappyCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	}
	return kgo.NoCompression(), fmt.Errorf("must be none, snappy, lz4 or zstd, not %q", name)
}
