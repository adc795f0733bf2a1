package kafka

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/auditmill/auditmill/internal/conf"
)

func TestValidate(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		edit func(*Config)
		want []string
	}{
		{"defaults", func(*Config) {}, nil},
		{"no brokers", func(c *Config) { c.Brokers = nil }, []string{"brokers: at least one"}},
		{
			"bad brokers",
			func(c *Config) { c.Brokers = []string{"a:9092", "b", ":1", "c:70000", "http://d:1"} },
			[]string{"brokers[1]: ", "brokers[2]: ", "brokers[3]: ", "brokers[4]: "},
		},
		{"client id", func(c *Config) { c.ClientID = "" }, []string{"client_id: "}},
		{"compression", func(c *Config) { c.Compression = "gz" }, []string{"compression: "}},
		{
			"sizes", func(c *Config) {
				c.MaxRecord, c.ProduceBuffer = 49*conf.MiB, conf.MiB
				c.FetchMax, c.FetchMaxPartition = conf.GiB, 2*conf.GiB
			},
			[]string{"max_record: ", "produce_buffer: ", "fetch_max: ", "fetch_max_partition: "},
		},
		{"tls off", func(c *Config) { c.TLS.CAFile = "x" }, []string{"tls.enabled: "}},
		{
			"tls files",
			func(c *Config) { c.TLS = TLSConfig{Enabled: true, CAFile: notPEM, CertFile: "x"} },
			[]string{"tls.ca_file: ", "tls.cert_file: must be given together"},
		},
		{
			"tls pair",
			func(c *Config) { c.TLS = TLSConfig{Enabled: true, CertFile: notPEM, KeyFile: notPEM} },
			[]string{"tls.cert_file: "},
		},
		{"sasl off", func(c *Config) { c.SASL.Username = "x" }, []string{"sasl.mechanism: is needed"}},
		{
			"sasl", func(c *Config) { c.SASL.Mechanism = "GSSAPI" },
			[]string{"sasl.mechanism: must be", "sasl.username: ", "sasl.password: "},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			tt.edit(&cfg)
			err := cfg.Validate()
			var lines []string
			if err != nil {
				lines = strings.Split(err.Error(), "\n")
			}
			if len(lines) != len(tt.want) {
				t.Fatalf("got %q, want %d faults", lines, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("got %q, want it to begin with %q", lines[i], want)
				}
			}
			if _, err := Opts(cfg); (err != nil) != (len(tt.want) > 0) {
				t.Errorf("Opts: got error %v", err)
			}
		})
	}
}

func TestConfigCanBeLoaded(t *testing.T) {
	cfg, err := conf.Load(DefaultConfig(), conf.Options{Env: []string{
		"AUDITMILL_SASL_MECHANISM=PLAIN", "AUDITMILL_SASL_USERNAME=u", "AUDITMILL_SASL_PASSWORD=p",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.SASL.Password.Reveal() != "p" {
		t.Errorf("got password %q, want p", cfg.SASL.Password.Reveal())
	}
}

func TestOptsRefusesContradictions(t *testing.T) {
	_, err := Opts(DefaultConfig(), kgo.FetchMaxBytes(1<<30))
	if err == nil || !strings.Contains(err.Error(), "max broker read bytes") {
		t.Errorf("got %v, want the complaint of kgo", err)
	}
}

// roundTrip produces one record and reads it back.
func roundTrip(ctx context.Context, t *testing.T, cfg Config, opts ...kgo.Opt) error {
	t.Helper()
	cl := newTestClient(t, cfg, append(opts, kgo.ConsumeTopics("t"))...)
	if err := WaitForBroker(ctx, cl, cfg); err != nil {
		return err
	}
	want, err := cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte(t.Name())}).First()
	if err != nil {
		return err
	}
	for {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		for _, r := range fetches.Records() {
			if r.Offset == want.Offset && string(r.Value) == t.Name() {
				return nil
			}
		}
	}
}

func TestSecurity(t *testing.T) {
	ca := newAuthority(t)
	users := []kfake.Opt{
		kfake.EnableSASL(), kfake.SeedTopics(1, "t"),
		kfake.Superuser("PLAIN", "plain", "p1"),
		kfake.Superuser("SCRAM-SHA-256", "scram256", "p2"),
		kfake.Superuser("SCRAM-SHA-512", "scram512", "p3"),
	}
	open := startBroker(t, users...)
	secured := startBroker(t, append(users, kfake.TLS(ca.server))...)
	mutual := TLSConfig{
		Enabled: true, CAFile: ca.caFile, CertFile: ca.clientCert, KeyFile: ca.clientKey,
	}
	tests := []struct {
		name   string
		broker Config
		tls    TLSConfig
		sasl   SASLConfig
		want   string // part of the error
	}{
		{"plain", open, TLSConfig{}, SASLConfig{"PLAIN", "plain", "p1"}, ""},
		{"scram 256", open, TLSConfig{}, SASLConfig{"SCRAM-SHA-256", "scram256", "p2"}, ""},
		{"scram 512", open, TLSConfig{}, SASLConfig{"SCRAM-SHA-512", "scram512", "p3"}, ""},
		{"tls", secured, mutual, SASLConfig{"SCRAM-SHA-512", "scram512", "p3"}, ""},
		{
			"unknown issuer", secured,
			TLSConfig{Enabled: true},
			SASLConfig{"PLAIN", "plain", "p1"},
			"check kafka.tls",
		},
		{
			"no client certificate", secured,
			TLSConfig{Enabled: true, CAFile: ca.caFile},
			SASLConfig{"PLAIN", "plain", "p1"},
			"check kafka.tls",
		},
		{
			"wrong name", secured,
			TLSConfig{Enabled: true, CAFile: ca.caFile, ServerName: "other"},
			SASLConfig{"PLAIN", "plain", "p1"},
			"check kafka.tls",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := tt.broker
			cfg.TLS, cfg.SASL = tt.tls, tt.sasl
			err := roundTrip(t.Context(), t, cfg)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want it to contain %q", err, tt.want)
			case err != nil && !strings.Contains(err.Error(), cfg.Brokers[0]):
				t.Errorf("%v does not name the broker", err)
			}
		})
	}
}

func TestWrongPasswordEndsTheWait(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "plain", "p1"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	// kfake closes the connection; Apache Kafka says why.
	cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		res := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		res.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return res, nil, true
	})
	cfg := DefaultConfig()
	cfg.Brokers = cluster.ListenAddrs()
	cfg.SASL = SASLConfig{Mechanism: "PLAIN", Username: "plain", Password: "hunter2"}
	err = WaitForBroker(t.Context(), newTestClient(t, cfg), cfg)
	if ClassOf(err) != ClassAuth || !strings.Contains(err.Error(), "check kafka.sasl.mechanism") {
		t.Errorf("got %v of class %q, want a refused log-in", err, ClassOf(err))
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v shows the password", err)
	}
}

func TestDialerWithTLS(t *testing.T) {
	ca := newAuthority(t)
	cfg := startBroker(t, kfake.SeedTopics(1, "t"), kfake.TLS(ca.server))
	cfg.TLS = TLSConfig{
		Enabled: true, CAFile: ca.caFile, CertFile: ca.clientCert, KeyFile: ca.clientKey,
	}
	dialled := make(chan string, 100)
	cfg.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled <- address
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	if err := roundTrip(t.Context(), t, cfg); err != nil {
		t.Fatal(err)
	}
	if len(dialled) == 0 {
		t.Error("the dialer was not used")
	}
}

func TestWaitForBrokerThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Dialer = func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: errors.New("refused")}
		}
		cl := newTestClient(t, cfg)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		err := WaitForBroker(ctx, cl, cfg)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want the end of the context", err)
		}
		for _, want := range []string{"127.0.0.1:9092", "refused", "check that kafka.brokers"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("got %q, want it to contain %q", err, want)
			}
		}
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &kfake.VirtualNetwork{}
		cfg := startBroker(t, kfake.SeedTopics(1, "t"), kfake.ListenFn(network.Listen))
		cfg.Dialer = network.DialContext
		reg := prometheus.NewRegistry()
		m := NewMetrics(reg, "ingest")
		NewMetrics(reg, "enrich") // shares the registry
		if err := roundTrip(t.Context(), t, cfg, kgo.WithHooks(m)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // what was produced is counted after it is acknowledged
		m.Error(nil)
		m.Error(context.DeadlineExceeded)
		got := map[string]float64{
			"produced": testutil.ToFloat64(m.producedRecords),
			"fetched":  testutil.ToFloat64(m.fetchedRecords),
			"timeouts": testutil.ToFloat64(m.errors[ClassTimeout]),
			"auth":     testutil.ToFloat64(m.errors[ClassAuth]),
		}
		want := map[string]float64{"produced": 1, "fetched": 1, "timeouts": 1, "auth": 0}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if testutil.ToFloat64(m.sent) == 0 || testutil.ToFloat64(m.received) == 0 {
			t.Error("no bytes were counted")
		}
	})
}

func TestMaxRecordArrives(t *testing.T) {
	cfg := startBroker(t, kfake.SeedTopics(1, "t"),
		kfake.BrokerConfigs(map[string]string{"message.max.bytes": "50331648"}))
	cl := newTestClient(t, cfg, kgo.ConsumeTopics("t"))
	big := make([]byte, 40<<20)
	if _, err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: big}).First(); err != nil {
		t.Fatal(err)
	}
	fetches := cl.PollFetches(t.Context())
	if err := fetches.Err(); err != nil {
		t.Fatal(err)
	}
	if got := len(fetches.Records()[0].Value); got != len(big) {
		t.Errorf("got %d bytes, want %d", got, len(big))
	}
	tooBig := make([]byte, 49<<20)
	_, err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: tooBig}).First()
	if ClassOf(err) != ClassTooLarge || Transient(err) || Fatal(err) {
		t.Errorf("got %v of class %s, want %s", err, ClassOf(err), ClassTooLarge)
	}
}

func TestSoftwareVersion(t *testing.T) {
	for in, want := range map[string]string{
		"v1.2.3": "v1.2.3", "v1.0.0+dirty": "v1.0.0-dirty", "devel": "devel", "": "vx", "(x)": "v-x-x",
	} {
		if got := softwareVersion(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestIsApache(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cfg := DefaultConfig()
	cfg.Brokers = cluster.ListenAddrs()
	if got, err := IsApache(t.Context(), newTestClient(t, cfg)); got || err != nil {
		t.Errorf("a broker without a quorum of controllers: got %t, %v, want false", got, err)
	}
	cluster.ControlKey(int16(kmsg.ApiVersions), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		res := req.ResponseKind().(*kmsg.ApiVersionsResponse)
		for _, key := range []kmsg.Key{kmsg.Metadata, kmsg.ApiVersions, kmsg.DescribeQuorum} {
			can := kmsg.NewApiVersionsResponseApiKey()
			can.ApiKey, can.MaxVersion = int16(key), 2
			res.ApiKeys = append(res.ApiKeys, can)
		}
		return res, nil, true
	})
	if got, err := IsApache(t.Context(), newTestClient(t, cfg)); !got || err != nil {
		t.Errorf("a broker with one: got %t, %v, want true", got, err)
	}
}
