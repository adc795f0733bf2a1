package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/internal/embedded/clickhouse"
	"github.com/auditmill/auditmill/internal/embedded/kafka"
)

// Embedded is the section embedded of the configuration: the servers that `up` and `demo`
// bring along.
type Embedded struct {
	DataDir    string             `mapstructure:"data_dir" doc:"directory of the embedded Kafka and ClickHouse; one process uses it at a time"`
	Kafka      EmbeddedKafka      `mapstructure:"kafka" doc:"the embedded Kafka"`
	ClickHouse EmbeddedClickHouse `mapstructure:"clickhouse" doc:"the embedded ClickHouse"`
}

// EmbeddedKafka configures the embedded Kafka.
type EmbeddedKafka struct {
	Port int  `mapstructure:"port" doc:"loopback port; 0 picks a free one"`
	Sync bool `mapstructure:"sync" doc:"whether every batch is written through to the disk before it is acknowledged: safe against power loss, slower"`
}

// EmbeddedClickHouse configures the embedded ClickHouse.
type EmbeddedClickHouse struct {
	Library    string     `mapstructure:"library" doc:"path of libchdb.so; empty: fetched once with npm into the user's cache directory"`
	Port       int        `mapstructure:"port" doc:"loopback port of the HTTP interface for people and dashboards; 0 picks a free one"`
	Native     bool       `mapstructure:"native" doc:"whether to open the native protocol as well; a malformed native client can restart the server"`
	NativePort int        `mapstructure:"native_port" doc:"loopback port of the native protocol; 0 picks a free one"`
	MaxMemory  conf.Bytes `mapstructure:"max_memory" doc:"most memory of the server; 0: half of the machine's"`
}

func defaultEmbedded() Embedded {
	return Embedded{
		DataDir: "auditmill-data",
		Kafka:   EmbeddedKafka{Port: 9092, Sync: true}, ClickHouse: EmbeddedClickHouse{Port: 8123, NativePort: 9000},
	}
}

// Validate returns every fault, each with its key.
func (c Embedded) Validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("data_dir: must not be empty"))
	}
	for _, p := range []struct {
		key  string
		port int
	}{{"kafka.port", c.Kafka.Port}, {"clickhouse.port", c.ClickHouse.Port}, {"clickhouse.native_port", c.ClickHouse.NativePort}} {
		if p.port < 0 || p.port > 65535 {
			errs = append(errs, fmt.Errorf("%s: %d is no port", p.key, p.port))
		}
	}
	if c.ClickHouse.MaxMemory < 0 {
		errs = append(errs, errors.New("clickhouse.max_memory: must not be negative"))
	}
	return errors.Join(errs...)
}

// Servers are the embedded Kafka and ClickHouse, running.
type Servers struct {
	Kafka      *kafka.Server
	ClickHouse *clickhouse.Server
	// ProxyAddr is the ClickHouse HTTP address for everybody but this process.
	ProxyAddr string

	proxy     *clickhouse.Proxy
	listener  net.Listener
	stopProxy context.CancelFunc
	proxyDone chan error
}

// StartServers starts both servers on cfg.DataDir, obtaining the ClickHouse library first
// if need be; progress is told about a download.
func StartServers(ctx context.Context, cfg Embedded, logger *slog.Logger, progress func(done, total int64)) (*Servers, error) {
	library, err := clickhouse.Library(ctx, clickhouse.LibraryConfig{Path: cfg.ClickHouse.Library, Progress: progress})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("finding the data directory: %w", err)
	}
	s := &Servers{}
	k := kafka.DefaultConfig()
	k.Dir, k.Port, k.Sync, k.Logger = filepath.Join(dir, "kafka"), cfg.Kafka.Port, cfg.Kafka.Sync, logger
	//nolint:contextcheck // the server lives until Stop, not until a context ends
	if s.Kafka, err = kafka.Start(k); err != nil {
		return nil, fmt.Errorf("starting the embedded Kafka: %w", err)
	}
	c := clickhouse.DefaultConfig()
	c.Dir, c.Library, c.Logger = filepath.Join(dir, "clickhouse"), library, logger
	c.Native, c.TCPPort, c.MaxMemory = cfg.ClickHouse.Native, cfg.ClickHouse.NativePort, int64(cfg.ClickHouse.MaxMemory)
	if s.ClickHouse, err = clickhouse.Start(ctx, c); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the embedded ClickHouse: %w", err), s.Kafka.Stop())
	}
	if err := s.serveProxy(ctx, cfg.ClickHouse.Port, logger); err != nil {
		return nil, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	return s, nil
}

func (s *Servers) serveProxy(ctx context.Context, port int, logger *slog.Logger) error {
	cfg := clickhouse.DefaultProxyConfig()
	cfg.Logger = logger
	var err error
	if s.proxy, err = clickhouse.NewProxy(s.ClickHouse, cfg); err != nil {
		return fmt.Errorf("starting the ClickHouse proxy: %w", err)
	}
	var listen net.ListenConfig
	s.listener, err = listen.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("listening for ClickHouse clients: %w; choose another embedded.clickhouse.port", err)
	}
	s.ProxyAddr = s.listener.Addr().String()
	serve, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.stopProxy, s.proxyDone = cancel, make(chan error, 1)
	go func() { s.proxyDone <- s.proxy.Serve(serve, s.listener, time.Second) }()
	return nil
}

// Stop ends the servers; their clients should be closed before.
func (s *Servers) Stop(ctx context.Context) error {
	var errs []error
	if s.stopProxy != nil {
		s.stopProxy()
		errs = append(errs, <-s.proxyDone)
	}
	return errors.Join(append(errs, s.ClickHouse.Stop(ctx), s.Kafka.Stop())...)
}

// Configure points the services of cfg at the servers.
func (s *Servers) Configure(cfg *Config) {
	cfg.Kafka.Brokers = []string{s.Kafka.Addr()}
	cfg.Topics.Replication = 1
	cfg.ClickHouse.Addresses = []string{s.ClickHouse.HTTPAddr()}
	cfg.ClickHouse.User = s.ClickHouse.User()
	cfg.ClickHouse.Password = conf.Secret(s.ClickHouse.Password())
}

// Describe says where the servers listen, for people.
func (s *Servers) Describe() string {
	text := fmt.Sprintf("Kafka            %s   kcat -b %[1]s -L\n", s.Kafka.Addr())
	text += fmt.Sprintf("ClickHouse HTTP  %s   curl 'http://%s:%s@%[1]s/?database=auditmill&query=SELECT+count()+FROM+events'\n",
		s.ProxyAddr, s.ClickHouse.Reader(), s.ClickHouse.ReaderPassword())
	if native := s.ClickHouse.NativeAddr(); native != "" {
		host, port, err := net.SplitHostPort(native)
		if err == nil {
			text += fmt.Sprintf("ClickHouse TCP   %s   clickhouse-client --host %s --port %s --user %s --password %s -d auditmill\n",
				native, host, port, s.ClickHouse.Reader(), s.ClickHouse.ReaderPassword())
		}
	}
	return text
}
