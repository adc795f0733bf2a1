package conf

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

type testConfig struct {
	Name   string       `mapstructure:"name" doc:"name of the instance"`
	Kafka  kafkaConfig  `mapstructure:"kafka" doc:"how to reach Kafka"`
	Ingest ingestConfig `mapstructure:"ingest" doc:"the front door"`
}

type kafkaConfig struct {
	Brokers  []string      `mapstructure:"brokers" doc:"addresses of the first brokers, host:port"`
	ClientID string        `mapstructure:"client_id" doc:"name towards the brokers"`
	Timeout  time.Duration `mapstructure:"timeout" doc:"longest wait for an answer"`
	Max      Bytes         `mapstructure:"max" doc:"largest record"`
	SASL     saslConfig    `mapstructure:"sasl" doc:"log-in"`
	Hidden   func()        `mapstructure:"-"`
}

type saslConfig struct {
	Mechanism string `mapstructure:"mechanism" doc:"PLAIN | SCRAM-SHA-256"`
	Password  Secret `mapstructure:"password" doc:"the password"`
}

func (c kafkaConfig) Validate() error {
	var errs []error
	if len(c.Brokers) == 0 {
		errs = append(errs, errors.New("brokers: at least one address is needed"))
	}
	if c.SASL.Mechanism != "" && c.SASL.Password == "" {
		errs = append(errs, Join("sasl", errors.New("password: is needed by the mechanism")))
	}
	return errors.Join(errs...)
}

type ingestConfig struct {
	Enabled  bool            `mapstructure:"enabled" doc:"whether to listen"`
	Workers  uint8           `mapstructure:"workers" doc:"parallel requests"`
	Ratio    float64         `mapstructure:"ratio" doc:"share of something"`
	Trusted  []netip.Prefix  `mapstructure:"trusted" doc:"networks of proxies"`
	Clusters []clusterConfig `mapstructure:"clusters" doc:"who may send"`
}

type clusterConfig struct {
	Name   string `mapstructure:"name" doc:"name of the cluster"`
	Token  Secret `mapstructure:"token" doc:"its bearer token"`
	Weight int    `mapstructure:"weight" doc:"its share"`
}

func (c ingestConfig) Validate() error {
	var errs []error
	for i, cluster := range c.Clusters {
		if cluster.Name == "" {
			errs = append(errs, fmt.Errorf("clusters[%d].name: must not be empty", i))
		}
	}
	if c.Workers == 0 {
		errs = append(errs, errors.New("workers: must be at least 1"))
	}
	return errors.Join(errs...)
}

func testDefaults() testConfig {
	return testConfig{
		Name: "here",
		Kafka: kafkaConfig{
			Brokers: []string{"localhost:9092"}, ClientID: "auditmill",
			Timeout: 90 * time.Second, Max: 48 * MiB,
		},
		Ingest: ingestConfig{
			Workers: 4, Ratio: 0.5,
			Clusters: []clusterConfig{{Name: "default", Token: "default-token", Weight: 9}},
		},
	}
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRank(t *testing.T) {
	file := writeFile(t, "a.yaml", "name: file\nkafka: {client_id: file, brokers: [f1, f2]}\n")
	tests := []struct {
		name string
		opts Options
		want [3]string // name, client_id, brokers
	}{
		{"defaults", Options{}, [3]string{"here", "auditmill", "localhost:9092"}},
		{"file", Options{File: file}, [3]string{"file", "file", "f1 f2"}},
		{
			"environment over file",
			Options{File: file, Env: []string{"AUDITMILL_NAME=env", "AUDITMILL_KAFKA_BROKERS=e1", "HOME=/"}},
			[3]string{"env", "file", "e1"},
		},
		{
			"setting over environment",
			Options{
				File: file, Env: []string{"AUDITMILL_NAME=env", "AUDITMILL_KAFKA_CLIENT_ID=env"},
				Set: []string{"name=first", "name=a=b", "kafka.brokers=s1, s2,s3"},
			},
			[3]string{"a=b", "env", "s1 s2 s3"},
		},
		{
			"empty variable is not set",
			Options{Env: []string{"AUDITMILL_NAME="}},
			[3]string{"here", "auditmill", "localhost:9092"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := Load(testDefaults(), tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			got := [3]string{cfg.Name, cfg.Kafka.ClientID, strings.Join(cfg.Kafka.Brokers, " ")}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestEveryType(t *testing.T) {
	token := writeFile(t, "token", "s3cret\n")
	file := writeFile(t, "a.yaml", `
name: 0123
kafka:
  client_id: no
  timeout: 1d12h
  max: 1.5 GiB
  sasl: {mechanism: PLAIN, password: hunter2}
ingest:
  enabled: true
  workers: 255
  ratio: 1e-3
  trusted: [10.0.0.0/8]
  clusters:
    - name: Prod.EU
      token_file: `+token+`
    - &b {name: b, weight: 2}
    - {<<: *b, name: c}
`)
	defaults := testDefaults()
	got, err := Load(defaults, Options{File: file})
	if err != nil {
		t.Fatal(err)
	}
	want := testConfig{
		Name: "0123",
		Kafka: kafkaConfig{
			Brokers: []string{"localhost:9092"}, ClientID: "no",
			Timeout: 36 * time.Hour, Max: 3 * GiB / 2,
			SASL: saslConfig{Mechanism: "PLAIN", Password: "hunter2"},
		},
		Ingest: ingestConfig{
			Enabled: true, Workers: 255, Ratio: 0.001,
			Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			// Nothing of the default element shines through.
			Clusters: []clusterConfig{
				{Name: "Prod.EU", Token: "s3cret"}, {Name: "b", Weight: 2}, {Name: "c", Weight: 2},
			},
		},
	}
	opts := []cmp.Option{
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Hidden" }, cmp.Ignore()),
	}
	if diff := cmp.Diff(want, got, opts...); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(testDefaults(), defaults, opts...); diff != "" {
		t.Errorf("Load changed the defaults, -want +got:\n%s", diff)
	}
}

func TestListsFromTheEnvironment(t *testing.T) {
	cfg, err := Load(testDefaults(), Options{Env: []string{
		`AUDITMILL_INGEST_CLUSTERS=[{"name": "a", "token": "x"}]`,
		`AUDITMILL_KAFKA_BROKERS=["b1:9092", "b2:9092"]`,
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []clusterConfig{{Name: "a", Token: "x"}}
	if diff := cmp.Diff(want, cfg.Ingest.Clusters); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"b1:9092", "b2:9092"}, cfg.Kafka.Brokers); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestSecretSources(t *testing.T) {
	file := writeFile(t, "a.yaml", "kafka: {sasl: {password_file: /does/not/exist}}\n")
	other := writeFile(t, "password", "from-file")
	tests := []struct {
		name string
		opts Options
		want string // the secret, or a part of the error
		ok   bool
	}{
		{
			"a secret of higher rank spares the file",
			Options{File: file, Env: []string{"AUDITMILL_KAFKA_SASL_PASSWORD=from-env"}},
			"from-env", true,
		},
		{"missing file", Options{File: file}, "a.yaml:1:16: kafka.sasl.password: reading the secret", false},
		{
			"file by the environment",
			Options{Env: []string{"AUDITMILL_KAFKA_SASL_PASSWORD_FILE=" + other}},
			"from-file", true,
		},
		{
			"file by a setting",
			Options{Set: []string{"kafka.sasl.password_file=" + other}},
			"from-file", true,
		},
		{
			"value by a setting",
			Options{Set: []string{"kafka.sasl.password=hunter2"}},
			"--set: kafka.sasl.password: is secret", false,
		},
		{"masked value", Options{Env: []string{"AUDITMILL_KAFKA_SASL_PASSWORD=***"}}, "is masked", false},
		{
			"both", Options{Env: []string{
				"AUDITMILL_KAFKA_SASL_PASSWORD=x", "AUDITMILL_KAFKA_SASL_PASSWORD_FILE=" + other,
			}}, "both as a value and as a file", false,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := Load(testDefaults(), tt.opts)
			switch {
			case tt.ok && err != nil:
				t.Fatal(err)
			case tt.ok:
				if got := cfg.Kafka.SASL.Password.Reveal(); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			case err == nil || !strings.Contains(err.Error(), tt.want):
				t.Errorf("got %v, want it to contain %q", err, tt.want)
			case strings.Contains(err.Error(), "hunter2"):
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

// TestFaults reads every file of testdata/faults; the file's name is the fault, and the
// file beside it holds the message.
func TestFaults(t *testing.T) {
	files, err := filepath.Glob("testdata/faults/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files, error %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			_, err := Load(testDefaults(), Options{File: file})
			if err == nil {
				t.Fatal("the file was accepted")
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", []byte(err.Error()+"\n"))
		})
	}
}

func TestFaultsOfOtherSources(t *testing.T) {
	_, err := Load(testDefaults(), Options{
		File:     "testdata/nowhere.yaml",
		OtherEnv: []string{"AUDITMILL_CONFIG"},
		Env: []string{
			"AUDITMILL_CONFIG=x", "AUDITMILL_KAFKA_BROKER=x", "AUDITMILL_INGEST_WORKERS=300",
			"AUDITMILL_INGEST_CLUSTERS=[{name: a, tokn: b}]",
			"AUDITMILL_INGEST_SERVICE_HOST=10.0.0.1", "AUDITMILL_INGEST_SERVICE_PORT_HTTPS=8443",
			"AUDITMILL_INGEST_PORT=tcp://10.0.0.1:8443", "AUDITMILL_PORT_8443_TCP_ADDR=10.0.0.1",
		},
		Set: []string{
			"hunter2", "kafka=1", "kafka.timout=1s", "ingest.clusters.name=x",
			"ingest.enabled=yes",
		},
	})
	if err == nil {
		t.Fatal("no fault was found")
	}
	golden(t, "testdata/sources.txt", []byte(err.Error()+"\n"))
}

func TestSections(t *testing.T) {
	defaults := testDefaults()
	defaults.Kafka.Brokers, defaults.Ingest.Workers = nil, 0
	for _, tt := range []struct {
		sections []string
		want     string
	}{
		{nil, "invalid configuration, 2 faults:\n  kafka.brokers: at least one address is needed\n" +
			"  ingest.workers: must be at least 1"},
		{[]string{"kafka"}, "invalid configuration: kafka.brokers: at least one address is needed"},
		{[]string{"name"}, "<nil>"},
		{[]string{"kafak", "name"}, "invalid configuration: kafak: is no section"},
	} {
		_, err := Load(defaults, Options{Sections: tt.sections})
		if got := fmt.Sprint(err); got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.sections, got, tt.want)
		}
	}
}

func TestFaultsUnwrap(t *testing.T) {
	_, err := Load(testDefaults(), Options{File: "testdata/nowhere.yaml"})
	var ce *Error
	if !errors.As(err, &ce) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want an *Error that wraps os.ErrNotExist", err)
	}
}

func TestPrintedConfigurationLoadsAgain(t *testing.T) {
	cfg := testDefaults()
	cfg.Name, cfg.Kafka.ClientID = "0123", "a: b # c"
	cfg.Kafka.Timeout = 100 * time.Millisecond
	cfg.Ingest.Trusted = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}
	cfg.Ingest.Clusters[0].Token = ""
	var first, second bytes.Buffer
	if err := Print(&first, cfg); err != nil {
		t.Fatal(err)
	}
	again, err := Load(testConfig{}, Options{File: writeFile(t, "p.yaml", first.String())})
	if err != nil {
		t.Fatal(err)
	}
	if err := Print(&second, again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.String(), second.String()); diff != "" {
		t.Errorf("-first +second:\n%s", diff)
	}
}

func TestPrintGolden(t *testing.T) {
	cfg := testDefaults()
	cfg.Kafka.SASL = saslConfig{Mechanism: "PLAIN", Password: "hunter2"}
	var printed, example, reference bytes.Buffer
	if err := errors.Join(
		Print(&printed, cfg), Example(&example, cfg), Reference(&reference, cfg),
	); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/printed.yaml", printed.Bytes())
	golden(t, "testdata/example.yaml", example.Bytes())
	golden(t, "testdata/reference.md", reference.Bytes())
	for _, out := range []bytes.Buffer{printed, example, reference} {
		if strings.Contains(out.String(), "hunter2") || strings.Contains(out.String(), "default-token") {
			t.Errorf("a secret was printed:\n%s", out.String())
		}
	}
}

func TestSchemaFaults(t *testing.T) {
	tests := []struct {
		name string
		load func() error
		want string
	}{
		{"no tag", load[struct{ A string }], "the tag mapstructure must hold a key"},
		{"map", load[struct {
			A map[string]string `mapstructure:"a"`
		}], "cannot be configured"},
		{"pointer", load[struct {
			A *int `mapstructure:"a"`
		}], "cannot be configured"},
		{"same variable", load[struct {
			A string `mapstructure:"b_c"`
			B struct {
				C string `mapstructure:"c"`
			} `mapstructure:"b"`
		}], "share the variable AUDITMILL_B_C"},
		{"not a struct", load[int], "is not a struct"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.load(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to contain %q", err, tt.want)
			}
		})
	}
}

func load[T any]() error {
	var zero T
	_, err := Load(zero, Options{})
	return err
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: -want +got:\n%s", path, diff)
	}
}
