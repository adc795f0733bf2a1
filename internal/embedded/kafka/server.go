package kafka

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/auditmill/auditmill/internal/embedded/dirlock"
)

// ErrInUse says that another process uses the directory.
var ErrInUse = errors.New("the Kafka data directory is in use")

const (
	lockFile = "lock"
	logsDir  = "logs"
	metaFile = "meta.json"
	// cleanFile says that the last end was an orderly one.
	cleanFile     = "clean"
	journalFile   = "transactions.log"
	offsetsFile   = "offsets.json"
	compactingDir = "compacting"
	// shortestSession lets a client that died without a word be noticed soon.
	shortestSession = time.Second
	longestSession  = 30 * time.Minute
	// segmentBytes is small because the broker reads a segment of every partition at once when
	// it starts.
	segmentBytes = 16 << 20
)

// Server is a running broker. Its methods may be called concurrently.
type Server struct {
	cfg       Config
	log       *slog.Logger
	cluster   *kfake.Cluster
	journal   *journal
	janitor   *janitor
	lock      *dirlock.Lock
	addr      string
	clusterID string

	// errors counts the errors that the broker reported.
	errors   atomic.Int64
	stopOnce sync.Once
	stopErr  error
}

// Start brings a broker up on the directory and returns when it accepts connections.
func Start(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	lock, err := dirlock.Acquire(filepath.Join(cfg.Dir, lockFile))
	if errors.Is(err, dirlock.ErrHeld) {
		return nil, fmt.Errorf("%w: %w; stop that process or choose another directory", ErrInUse, err)
	}
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Logger, lock: lock}
	if err := s.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the embedded Kafka: %w", err), lock.Release())
	}
	return s, nil
}

func (s *Server) start() error {
	dir := filepath.Join(s.cfg.Dir, logsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("creating the data directory: %w", err)
	}
	// The broker would prefer what it wrote down about these to what it is told now.
	for _, name := range []string{"sasl.json", "broker_configs.json"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing settings of the last run: %w", err)
		}
	}
	id, err := clusterID(dir, s.cfg.ClusterID)
	if err != nil {
		return err
	}
	s.clusterID = id
	recovery := &recovery{dir: dir, home: s.cfg.Dir, log: s.log}
	open, err := recovery.run()
	if err != nil {
		return fmt.Errorf("recovering %s: %w", s.cfg.Dir, err)
	}
	s.journal, err = openJournal(recovery.journalFile(), recovery.pidsLog(), open)
	if err != nil {
		return err
	}
	s.cluster, err = kfake.NewCluster(s.options(dir)...)
	if err != nil {
		return errors.Join(err, s.journal.close())
	}
	// What reading the segments took is not needed again.
	debug.FreeOSMemory()
	s.journal.watch(s.cluster)
	limitFetches(s.cluster)
	members := watchMembers(s.cluster, s.log)
	s.addr = s.cluster.ListenAddrs()[0]
	s.janitor, err = startJanitor(s, members)
	if err != nil {
		s.cluster.Close()
		return errors.Join(err, s.journal.close())
	}
	return nil
}

func (s *Server) options(dir string) []kfake.Opt {
	opts := []kfake.Opt{
		kfake.Ports(s.cfg.Port),
		kfake.ClusterID(s.clusterID),
		kfake.DataDir(dir),
		kfake.ListenFn(guardedListen(int64(s.cfg.MaxMessageBytes) + requestOverhead)),
		kfake.WithLogger(logger{s.log, &s.errors}),
		kfake.GroupMinSessionTimeout(shortestSession),
		kfake.GroupMaxSessionTimeout(longestSession),
		kfake.BrokerConfigs(map[string]string{
			"message.max.bytes": strconv.Itoa(s.cfg.MaxMessageBytes),
			"log.segment.bytes": strconv.Itoa(segmentBytes),
			// Retention and compaction are the janitor's. Left to itself the broker would apply
			// a retention of seven days to compacted topics too.
			"log.retention.ms":       "-1",
			"log.cleaner.backoff.ms": strconv.FormatInt((365 * 24 * time.Hour).Milliseconds(), 10),
		}),
	}
	if s.cfg.Sync {
		opts = append(opts, kfake.SyncWrites())
	}
	if s.cfg.Username != "" {
		opts = append(opts, kfake.EnableSASL(),
			kfake.Superuser("SCRAM-SHA-256", s.cfg.Username, s.cfg.Password))
	}
	return opts
}

// clusterID returns the name that the directory has, or the one a new cluster gets. Consumers
// and insert tokens are tied to it, so it must not change under them.
func clusterID(dir, wanted string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, metaFile))
	if errors.Is(err, fs.ErrNotExist) {
		if wanted == "" {
			wanted = rand.Text()[:22]
		}
		return wanted, nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the cluster's name: %w", err)
	}
	var meta struct {
		ClusterID string `json:"cluster_id"`
	}
	if err := json.Unmarshal(text, &meta); err != nil {
		return "", fmt.Errorf("decoding %s: %w", filepath.Join(dir, metaFile), err)
	}
	return meta.ClusterID, nil
}

// logs is where the broker keeps its files.
func (s *Server) logs() string { return filepath.Join(s.cfg.Dir, logsDir) }

// Addr returns the host:port at which clients find the broker.
func (s *Server) Addr() string { return s.addr }

// ClusterID returns the name of the cluster, which stays the same for one directory.
func (s *Server) ClusterID() string { return s.clusterID }

// Stop writes the broker's state down and ends it. Clients should be closed before; a second
// call returns what the first did.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() {
		s.janitor.stop()
		s.errors.Store(0)
		s.cluster.Close()
		s.stopErr = s.journal.close()
		if s.errors.Load() == 0 {
			s.stopErr = errors.Join(s.stopErr, writeFile(filepath.Join(s.cfg.Dir, cleanFile), nil))
		} else {
			s.stopErr = errors.Join(s.stopErr, errors.New("the broker could not write down its state, see its log; "+
				"the next start reads it from the logs of the topics"))
		}
		s.stopErr = errors.Join(s.stopErr, s.lock.Release())
	})
	return s.stopErr
}

// logger passes the broker's warnings on.
type logger struct {
	log    *slog.Logger
	errors *atomic.Int64
}

// Logf implements kfake.Logger.
func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.errors.Add(1)
		l.log.Error("kafka broker reports an error", "err", fmt.Sprintf(format, args...))
	case kfake.LogLevelWarn:
		l.log.Warn("kafka broker warns", "err", fmt.Sprintf(format, args...))
	default:
	}
}
