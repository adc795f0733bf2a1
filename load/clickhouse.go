package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/schemas"
)

// ClickHouse says which ClickHouse to use and how its tables are made.
type ClickHouse struct {
	Addresses []string    `mapstructure:"addresses" doc:"addresses of the HTTP interface of one shard's replicas, host:port; the first that answers is used"`
	Database  string      `mapstructure:"database" doc:"database that holds the tables; created by auditmill migrate"`
	User      string      `mapstructure:"user" doc:"user name"`
	Password  conf.Secret `mapstructure:"password" doc:"password"`
	TLS       TLS         `mapstructure:"tls" doc:"encryption of the connection"`

	Cluster        string        `mapstructure:"cluster" doc:"cluster for ON CLUSTER and Distributed tables; empty for a single server"`
	Replicated     bool          `mapstructure:"replicated" doc:"whether tables are Replicated*MergeTree, which needs a Keeper"`
	Retention      time.Duration `mapstructure:"retention" doc:"how long events and rollups are kept, in whole days; 0 is for ever"`
	AlertRetention time.Duration `mapstructure:"alert_retention" doc:"how long alerts are kept, in whole days; 0 is for ever"`

	DialTimeout  time.Duration `mapstructure:"dial_timeout" doc:"limit for opening a connection"`
	QueryTimeout time.Duration `mapstructure:"query_timeout" doc:"limit for one insert or one statement of the loader; an insert that takes longer is repeated"`
}

// TLS configures encryption towards ClickHouse.
type TLS struct {
	Enabled    bool   `mapstructure:"enabled" doc:"whether to connect by HTTPS"`
	CAFile     string `mapstructure:"ca_file" doc:"certificates to trust in PEM; empty for those of the system"`
	CertFile   string `mapstructure:"cert_file" doc:"client certificate in PEM"`
	KeyFile    string `mapstructure:"key_file" doc:"key of the client certificate in PEM"`
	ServerName string `mapstructure:"server_name" doc:"name that the server's certificate must have; empty for the host"`
}

const day = 24 * time.Hour

// DefaultClickHouse connects to a server on this machine.
func DefaultClickHouse() ClickHouse {
	return ClickHouse{
		Addresses: []string{"127.0.0.1:8123"}, Database: "auditmill", User: "default",
		Retention: 400 * day, AlertRetention: 800 * day,
		DialTimeout: 5 * time.Second, QueryTimeout: 2 * time.Minute,
	}
}

// Validate reports every fault by its key.
func (c ClickHouse) Validate() error {
	var errs []error
	if len(c.Addresses) == 0 {
		errs = append(errs, errors.New("addresses: want at least one host:port"))
	}
	for i, address := range c.Addresses {
		if _, _, err := net.SplitHostPort(address); err != nil {
			errs = append(errs, fmt.Errorf("addresses[%d]: want host:port: %w", i, err))
		}
	}
	if c.User == "" {
		errs = append(errs, errors.New("user: want a name"))
	}
	for key, d := range map[string]time.Duration{"retention": c.Retention, "alert_retention": c.AlertRetention} {
		if d < 0 || d%day != 0 {
			errs = append(errs, fmt.Errorf("%s: want whole days, got %s", key, d))
		}
	}
	if c.DialTimeout <= 0 {
		errs = append(errs, errors.New("dial_timeout: want a positive duration"))
	}
	if c.QueryTimeout < time.Second {
		errs = append(errs, errors.New("query_timeout: want at least 1s"))
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		errs = append(errs, errors.New("tls.key_file: give both cert_file and key_file or neither"))
	}
	o := c.SQL()
	o.RetentionDays, o.AlertRetentionDays = 0, 0
	if err := o.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// SQL returns the options of the tables.
func (c ClickHouse) SQL() schemas.SQLOptions {
	return schemas.SQLOptions{
		Database: c.Database, Cluster: c.Cluster, Replicated: c.Replicated,
		RetentionDays: int(c.Retention / day), AlertRetentionDays: int(c.AlertRetention / day),
	}
}

func (c TLS) config() (*tls.Config, error) {
	if !c.Enabled {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading tls.ca_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading tls.ca_file %s: no PEM certificate in it", c.CAFile)
		}
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading tls.cert_file and tls.key_file: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return config, nil
}

// Connect opens a connection pool; nothing is dialled before the first use. Close it.
// It speaks HTTP, because only that takes Arrow streams as they are, and does not
// compress, because those are compressed inside.
func Connect(c ClickHouse) (driver.Conn, error) {
	config, err := c.TLS.config()
	if err != nil {
		return nil, err
	}
	conn, err := clickhouse.Open(&clickhouse.Options{
		Protocol: clickhouse.HTTP, Addr: c.Addresses, TLS: config,
		// The database of the session stays "default": ours may not exist before the migration,
		// and all our statements name it.
		Auth:        clickhouse.Auth{Username: c.User, Password: c.Password.Reveal()},
		DialTimeout: c.DialTimeout, ReadTimeout: c.QueryTimeout,
		MaxOpenConns: 32, MaxIdleConns: 8, ConnOpenStrategy: clickhouse.ConnOpenInOrder,
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to ClickHouse at %s: %w", strings.Join(c.Addresses, ", "), err)
	}
	return conn, nil
}

// Query runs sql in database and copies its result to w in a ClickHouse output format, such as
// PrettyCompactMonoBlock, JSONEachRow or CSVWithNames.
func Query(ctx context.Context, conn driver.Conn, database, sql, format string, w io.Writer) error {
	settings := clickhouse.Settings{"database": database}
	body, err := conn.QueryFormat(clickhouse.Context(ctx, clickhouse.WithSettings(settings)), format, sql)
	if err != nil {
		return fmt.Errorf("querying ClickHouse: %w", err)
	}
	_, err = io.Copy(w, body)
	if err := errors.Join(err, body.Close()); err != nil {
		return fmt.Errorf("reading the result from ClickHouse: %w", err)
	}
	return nil
}
