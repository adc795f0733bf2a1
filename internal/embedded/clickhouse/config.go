package clickhouse

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Config says where the server keeps its data and what it may use.
type Config struct {
	// Dir holds everything the server owns: tables, credentials, its own configuration and log.
	Dir string
	// Library is the path of libchdb.so, as returned by the function Library.
	Library string
	// HTTPPort is the loopback port of the HTTP interface; 0 picks a free one.
	HTTPPort int
	// Native also opens the native protocol on the loopback interface. A malformed native
	// client can end the server process, so it is off unless asked for.
	Native bool
	// TCPPort is the loopback port of the native interface; 0 picks a free one.
	TCPPort int
	// MaxMemory bounds the server's memory in bytes; 0 means half of the machine's.
	MaxMemory int64
	// MarkCache bounds the cache of column marks in bytes.
	MarkCache int64
	// StartTimeout bounds the time from the start of the child to its first answer.
	StartTimeout time.Duration
	// StopTimeout bounds the wait for an orderly end; the child is killed afterwards.
	StopTimeout time.Duration
	// Logger receives the supervisor's messages; nil discards them.
	Logger *slog.Logger
}

// DefaultConfig returns a configuration that lacks only Dir and Library.
func DefaultConfig() Config {
	return Config{
		MarkCache:    256 << 20,
		StartTimeout: time.Minute,
		StopTimeout:  3 * time.Second,
	}
}

// Validate reports every fault of the configuration at once.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("embedded.clickhouse.dir: must be set"))
	}
	if c.Library == "" {
		errs = append(errs, errors.New("embedded.clickhouse.library: must be set"))
	}
	for _, port := range []struct {
		key   string
		value int
	}{
		{"embedded.clickhouse.http_port", c.HTTPPort},
		{"embedded.clickhouse.tcp_port", c.TCPPort},
	} {
		if port.value < 0 || port.value > 65535 {
			errs = append(errs, fmt.Errorf("%s: %d is not a port", port.key, port.value))
		}
	}
	if c.Native && c.HTTPPort != 0 && c.HTTPPort == c.TCPPort {
		errs = append(errs, errors.New("embedded.clickhouse.tcp_port: must differ from http_port"))
	}
	if c.MaxMemory != 0 && c.MaxMemory < minMemory {
		errs = append(errs, fmt.Errorf("embedded.clickhouse.max_memory: %d is below %d",
			c.MaxMemory, int64(minMemory)))
	}
	if c.MarkCache <= 0 {
		errs = append(errs, errors.New("embedded.clickhouse.mark_cache: must be positive"))
	}
	if c.StartTimeout <= 0 {
		errs = append(errs, errors.New("embedded.clickhouse.start_timeout: must be positive"))
	}
	if c.StopTimeout <= 0 {
		errs = append(errs, errors.New("embedded.clickhouse.stop_timeout: must be positive"))
	}
	return errors.Join(errs...)
}

// minMemory is what the engine needs to start, merge and answer at all.
const minMemory = 512 << 20
