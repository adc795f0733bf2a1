package webhook

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/auditmill/auditmill/internal/conf"
)

// Config says where the webhook listens, who may send, and how much.
type Config struct {
	Listen string    `mapstructure:"listen" doc:"address to listen at, host:port; empty for no webhook, which also does not run before tokens, certificates or anonymous say who may send"`
	TLS    TLSConfig `mapstructure:"tls" doc:"encryption towards the senders"`

	Tokens       []Token       `mapstructure:"tokens" doc:"bearer tokens and the cluster that each stands for; a cluster may have several, for rotation"`
	Certificates []Certificate `mapstructure:"certificates" doc:"client certificates and the cluster that each stands for; need tls.client_ca_file"`
	Anonymous    []string      `mapstructure:"anonymous" doc:"clusters that anyone who reaches the address may send for; only with a loopback address, for tests and demonstrations"`

	MaxBody     conf.Bytes `mapstructure:"max_body" doc:"largest body, after decompression; a larger one is refused, and the API server then loses the batch"`
	MaxInflight conf.Bytes `mapstructure:"max_inflight" doc:"memory for bodies that are not acknowledged yet, of which one cluster gets at most half; at least 4 times max_body"`

	Timeout      time.Duration `mapstructure:"timeout" doc:"from the first byte of a request to its answer; must be below the 30s after which the API server hangs up"`
	BodyTimeout  time.Duration `mapstructure:"body_timeout" doc:"longest time for a sender to send a body; below timeout"`
	InflightWait time.Duration `mapstructure:"inflight_wait" doc:"longest wait for memory before the answer 429"`
	DrainTimeout time.Duration `mapstructure:"drain_timeout" doc:"longest wait for running requests when the service stops"`

	Rate  float64 `mapstructure:"rate" doc:"events per second that one cluster may send in the long run; 0 for no limit"`
	Burst int     `mapstructure:"burst" doc:"events that one cluster may send at once above the rate"`
}

// TLSConfig says how the webhook proves itself and asks for client certificates. The files
// are read again when they change.
type TLSConfig struct {
	CertFile     string `mapstructure:"cert_file" doc:"PEM file with the certificate chain; empty for plain HTTP"`
	KeyFile      string `mapstructure:"key_file" doc:"PEM file with the key of cert_file"`
	ClientCAFile string `mapstructure:"client_ca_file" doc:"PEM file with the issuers of client certificates; empty to ask for none"`
}

// Token gives a cluster by what the sender knows. Exactly one of SHA256 and File is set. A
// cluster may have several tokens, and a token several clusters.
type Token struct {
	Cluster string `mapstructure:"cluster" doc:"name of the cluster"`
	SHA256  string `mapstructure:"token_sha256" doc:"SHA-256 of the token, 64 hexadecimal digits: printf %s \"$TOKEN\" | sha256sum"`
	File    string `mapstructure:"token_file" doc:"file that holds the token; read again when it changes"`
}

// Certificate gives a cluster by a verified client certificate. Exactly one of the names is
// set.
type Certificate struct {
	Cluster    string `mapstructure:"cluster" doc:"name of the cluster"`
	CommonName string `mapstructure:"common_name" doc:"common name of the certificate's subject"`
	URI        string `mapstructure:"uri" doc:"a URI among the certificate's alternative names"`
	DNS        string `mapstructure:"dns" doc:"a DNS name among the certificate's alternative names"`
}

// DefaultConfig listens on the loopback interface, for no cluster yet.
func DefaultConfig() Config {
	return Config{
		Listen:       "127.0.0.1:9443",
		MaxBody:      64 * conf.MiB,
		MaxInflight:  256 * conf.MiB,
		Timeout:      20 * time.Second,
		BodyTimeout:  15 * time.Second,
		InflightWait: 2 * time.Second,
		DrainTimeout: 10 * time.Second,
		Burst:        100_000,
	}
}

// Enabled reports whether the webhook is to run: it has an address and somebody may send.
func (c Config) Enabled() bool { return c.Listen != "" && len(c.Clusters()) > 0 }

// Clusters lists the clusters that may send, each once.
func (c Config) Clusters() []string {
	names := slices.Clone(c.Anonymous)
	for _, t := range c.Tokens {
		names = append(names, t.Cluster)
	}
	for _, m := range c.Certificates {
		names = append(names, m.Cluster)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	if c.Listen == "" {
		return nil
	}
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		add("listen: %q is no address: write host:port", c.Listen)
	}
	if len(c.Anonymous) > 0 && !isLoopback(c.Listen) {
		add("anonymous: needs a loopback address in listen, not %q: anyone could send events in the name of a cluster", c.Listen)
	}
	return errors.Join(append(errs, c.validateLimits(), c.validateSenders(), conf.Join("tls", c.TLS.Validate()))...)
}

func (c Config) validateLimits() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.MaxBody < conf.KiB || c.MaxBody > conf.GiB {
		add("max_body: must be between 1KiB and 1GiB, not %s", c.MaxBody)
	}
	if c.MaxInflight < 4*c.MaxBody {
		add("max_inflight: must be at least 4 times max_body (%s), not %s", 4*c.MaxBody, c.MaxInflight)
	}
	if c.Timeout < time.Second || c.Timeout > 28*time.Second {
		add("timeout: must be between 1s and 28s, not %s: the API server hangs up after 30s", c.Timeout)
	}
	if c.BodyTimeout <= 0 || c.BodyTimeout >= c.Timeout {
		add("body_timeout: must be above 0s and below timeout (%s), not %s", c.Timeout, c.BodyTimeout)
	}
	if c.InflightWait < 0 || c.InflightWait >= c.Timeout {
		add("inflight_wait: must be between 0s and timeout (%s), not %s", c.Timeout, c.InflightWait)
	}
	if c.DrainTimeout <= 0 {
		add("drain_timeout: must be above 0s, not %s", c.DrainTimeout)
	}
	if c.Rate < 0 {
		add("rate: must be 0 or more, not %v", c.Rate)
	}
	if c.Rate > 0 && c.Burst < 1 {
		add("burst: must be at least 1 with a rate, not %d", c.Burst)
	}
	return errors.Join(errs...)
}

func (c Config) validateSenders() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for i, name := range c.Anonymous {
		if err := ValidateCluster(name); err != nil {
			add("anonymous[%d]: %w", i, err)
		}
	}
	for i, t := range c.Tokens {
		if err := ValidateCluster(t.Cluster); err != nil {
			add("tokens[%d].cluster: %w", i, err)
		}
		if (t.SHA256 == "") == (t.File == "") {
			add("tokens[%d]: give either token_sha256 or token_file", i)
		} else if _, err := t.hash(); err != nil {
			add("tokens[%d].%w", i, err)
		}
	}
	if len(c.Certificates) > 0 && c.TLS.ClientCAFile == "" {
		add("certificates: need tls.client_ca_file, which says whose certificates count")
	}
	for i, m := range c.Certificates {
		if err := ValidateCluster(m.Cluster); err != nil {
			add("certificates[%d].cluster: %w", i, err)
		}
		names := 0
		for _, name := range []string{m.CommonName, m.URI, m.DNS} {
			if name != "" {
				names++
			}
		}
		if names != 1 {
			add("certificates[%d]: give exactly one of common_name, uri and dns", i)
		}
	}
	return errors.Join(errs...)
}

// Validate reports every fault at once and reads the files.
func (c TLSConfig) Validate() error {
	if c == (TLSConfig{}) {
		return nil
	}
	if c.CertFile == "" || c.KeyFile == "" {
		return errors.New("cert_file: must be given together with key_file")
	}
	_, err := loadTLS(c)
	return err
}

// clusterPattern allows what stands in a URL, a header, a metric and a file name as it is.
var clusterPattern = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,126}[a-zA-Z0-9])?$`)

// ValidateCluster checks the name of a cluster.
func ValidateCluster(name string) error {
	if !clusterPattern.MatchString(name) {
		return fmt.Errorf("%q is no name for a cluster: use up to 128 letters, digits, dots, dashes and underscores", name)
	}
	return nil
}

func isLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func readToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	// Editors and echo end a file with a newline that is not part of the token.
	token := trimLineEnd(string(data))
	if token == "" {
		return "", fmt.Errorf("the file %s is empty", path)
	}
	return token, nil
}
