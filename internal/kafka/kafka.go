// Package kafka builds Kafka clients from configuration and holds the few things that all
// services need around them: topics, dead letters, classes of errors, lag and metrics.
//
// Comes in: Config. Goes out: options for kgo.NewClient, which the services use as it is;
// there is no wrapper around clients or records. Guaranteed: what Config can get wrong is
// reported before the first connection, all at once; producing is idempotent and
// acknowledged by all in-sync replicas; buffers are bounded by Config. The package knows
// bytes and no audit events.
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/internal/obs"
)

// Opts returns the options that every client shares, followed by more, checked together.
// Acknowledgement by all replicas and idempotence are kgo's defaults and stay. A consumer
// sees only committed records and starts at the oldest one when its group has no commit.
func Opts(cfg Config, more ...kgo.Opt) ([]kgo.Opt, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuring the Kafka client: %w", err)
	}
	compression, err := codec(cfg.Compression)
	if err != nil {
		return nil, fmt.Errorf("configuring the Kafka client: compression: %w", err)
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID(cfg.ClientID),
		kgo.SoftwareNameAndVersion("auditmill", softwareVersion(obs.Version().Version)),
		// How soon a client may ask again who leads a partition: the default of 5 s would be
		// the shortest pause after the move of a partition or the creation of a topic.
		kgo.MetadataMinAge(500 * time.Millisecond),
		kgo.BrokerMaxReadBytes(int32(maxResponse)),
		kgo.ProducerBatchCompression(compression, kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(int32(cfg.MaxRecord)),
		// The limit in bytes is the one that counts; the default limit of 10,000 records
		// would make a producer of small records wait for one acknowledgement after another.
		kgo.MaxBufferedRecords(1 << 18),
		kgo.MaxBufferedBytes(int(cfg.ProduceBuffer)),
		kgo.FetchMaxBytes(int32(cfg.FetchMax)),
		kgo.FetchMaxPartitionBytes(int32(cfg.FetchMaxPartition)),
		kgo.MaxDecompressBatchBytes(int(maxDecompressed)),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		// Metrics says it to our own Prometheus; brokers need not collect it too.
		kgo.DisableClientMetrics(),
	}
	network, err := networkOpts(cfg)
	if err != nil {
		return nil, fmt.Errorf("configuring the Kafka client: %w", err)
	}
	opts = append(append(opts, network...), more...)
	if err := kgo.ValidateOpts(opts...); err != nil {
		return nil, fmt.Errorf("configuring the Kafka client: %w", err)
	}
	return opts, nil
}

// NewClient makes a client with Opts. It connects to nothing yet.
func NewClient(cfg Config, more ...kgo.Opt) (*kgo.Client, error) {
	opts, err := Opts(cfg, more...)
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("making the Kafka client: %w", err)
	}
	return cl, nil
}

func networkOpts(cfg Config) ([]kgo.Opt, error) {
	var opts []kgo.Opt
	if m := cfg.SASL.mechanism(); m != nil {
		opts = append(opts, kgo.SASL(m))
	}
	if !cfg.TLS.Enabled {
		if cfg.Dialer != nil {
			opts = append(opts, kgo.Dialer(cfg.Dialer))
		}
		return opts, nil
	}
	config, err := cfg.TLS.config()
	if err != nil {
		return nil, err
	}
	if cfg.Dialer == nil {
		return append(opts, kgo.DialTLSConfig(config)), nil
	}
	return append(opts, kgo.Dialer(tlsDialer(cfg, config))), nil
}

// tlsDialer puts TLS on a dialer of the caller, which kgo does only for its own.
func tlsDialer(cfg Config, config *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := cfg.Dialer(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := config.Clone()
		if c.ServerName == "" {
			if c.ServerName, _, err = net.SplitHostPort(address); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
		}
		secured := tls.Client(conn, c)
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return secured, nil
	}
}

var notInVersion = regexp.MustCompile(`[^a-zA-Z0-9.-]+`)

// softwareVersion drops what Kafka does not allow in the version of a client.
func softwareVersion(v string) string {
	v = notInVersion.ReplaceAllString(v, "-")
	if v == "" || v[0] == '-' || v[0] == '.' || v[len(v)-1] == '-' || v[len(v)-1] == '.' {
		return "v" + v + "x"
	}
	return v
}
