// Package file reads audit logs from files and follows them across rotation.
//
// Comes in: files of lines, plain or gzip, given by their path, their directory or a
// pattern. Goes out, to a Publisher: batches of whole lines, their bytes untouched, the
// lines of one file in their order. Guaranteed: every line is published at least once;
// after a crash or a failed attempt the same bytes come again. The checkpoint follows the
// publishing, never the other way round.
//
// What was read is remembered by content and not by name: by the first bytes, the bytes
// before the offset, and how far it was read. So a file may be renamed, copied and
// truncated, or compressed, while this program runs or not: its lines go on where they
// stopped. The numbers of device and inode only decide between two files of the same
// content. A file that looks like a known content but cannot be told from another one is
// read from its begin, because lines that come twice do less harm than lines that do not
// come.
//
// What cannot be kept: what is written to a file between its copying and its truncation
// (logrotate's copytruncate), or to a file that is deleted or truncated before it was
// read. Rotation by renaming, which kube-apiserver does itself, has no such gap.
//
// A line without its end is not published, unless nothing was added to it for ten
// minutes, its file is deleted, or it ends a compressed file or a run that does not
// follow. A line above Config.MaxLine goes to the dead-letter topic in parts, in memory
// that does not grow with it.
package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditmill/auditmill/internal/kafka"
)

const (
	// settle is how long a file that may be a copy in the making is left alone.
	settle = 10 * time.Second
	// linger is how long a file without a name is still read: its writer may have it open.
	linger = time.Minute
	// abandoned is how long the end of the last line is waited for.
	abandoned = 10 * time.Minute
	// forget is how long the checkpoint keeps what no file holds any more. It may come
	// back under another name, or with its disk.
	forget = 24 * time.Hour
	// saveEvery is how often the checkpoint is written at most.
	saveEvery = time.Second
)

// Publisher takes what is read. Both methods return nil only when everything is durable,
// and repeat transient failures themselves until ctx ends. They are not called
// concurrently. What they are given may change after they returned nil.
type Publisher interface {
	// Publish takes whole lines of one file. The last one may lack its newline.
	Publish(ctx context.Context, cluster string, body []byte) error
	// Dead takes what is no line.
	Dead(ctx context.Context, cluster string, letter kafka.Dead) error
}

// Deps is what a Source needs from its surroundings.
type Deps struct {
	Logger   *slog.Logger
	Registry prometheus.Registerer // nil in tests
}

// Source reads the files of its inputs.
type Source struct {
	cfg       Config
	inputs    []Input // with absolute paths
	publisher Publisher
	logger    *slog.Logger
	metrics   *metrics
	now       func() time.Time

	checkpoint *checkpoint
	watcher    *watcher
	saved      time.Time
	buf        []byte

	streams  map[fileKey]*stream
	asides   map[fileKey]aside
	order    [][]*stream        // by input, the oldest first
	names    map[string]fileKey // of the pass before
	problems map[string]error   // by path, or inputKey and path
	overlaps map[string]bool    // by path
}

// New returns a source that does nothing until Run.
func New(cfg Config, publisher Publisher, deps Deps) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if !cfg.Enabled() {
		return nil, errors.New("inputs: want at least one file, directory or pattern")
	}
	s := &Source{
		cfg: cfg, publisher: publisher, logger: deps.Logger, metrics: newMetrics(deps.Registry),
		now: time.Now, streams: map[fileKey]*stream{}, asides: map[fileKey]aside{},
		names: map[string]fileKey{}, problems: map[string]error{},
		overlaps: map[string]bool{},
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.cfg.Checkpoint, err = filepath.Abs(cfg.Checkpoint); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	for _, in := range cfg.Inputs {
		if in.Path, err = filepath.Abs(in.Path); err != nil {
			return nil, fmt.Errorf("finding %s: %w", in.Path, err)
		}
		s.inputs = append(s.inputs, in)
	}
	return s, nil
}

// Run reads until ctx ends, or, if it is not to follow, until everything is read. It
// returns an error if the checkpoint cannot be used, or, if it is not to follow, when
// something could not be read or published.
func (s *Source) Run(ctx context.Context) (err error) {
	if err := s.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	wake, stop := s.startWatcher()
	defer stop()
	ticker := time.NewTicker(s.cfg.PollInterval)
	defer ticker.Stop()
	for {
		again := s.pass(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case again:
			continue
		case !s.cfg.Follow:
			return s.remaining()
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-wake:
			select {
			case <-ctx.Done():
			case <-time.After(s.cfg.MaxWait):
			}
		}
	}
}

func (s *Source) open() (err error) {
	s.checkpoint, err = openCheckpoint(s.cfg.Checkpoint)
	s.saved = s.now()
	return err
}

// close keeps what is known and lets go of all files.
func (s *Source) close() error {
	for _, st := range s.streams {
		s.drop(st)
	}
	var err error
	if s.checkpoint.dirty {
		err = s.checkpoint.save()
	}
	s.checkpoint.close()
	return err
}

// save writes the checkpoint if that is due. It is often enough for a crash to repeat
// little, and seldom enough for many small batches not to wear out a disk. That it fails costs lines that come twice
// after a restart, but no line now.
func (s *Source) save() {
	if !s.checkpoint.dirty || s.now().Sub(s.saved) < saveEvery {
		return
	}
	s.saved = s.now()
	if err := s.checkpoint.save(); err != nil {
		s.metrics.errors.WithLabelValues(reasonCheckpoint).Inc()
		if s.problems[s.checkpoint.path] == nil {
			s.logger.Error("checkpoint cannot be written", "path", s.checkpoint.path, "err", err)
		}
		s.problems[s.checkpoint.path] = err
		return
	}
	s.solved(s.checkpoint.path)
}

// drop lets go of a file. What is known of its content stays in the checkpoint.
func (s *Source) drop(st *stream) {
	st.ready = false
	if st.file != nil {
		_ = st.file.Close()
		st.file = nil
	}
	if st.entry != nil && st.entry.owner == st {
		st.entry.owner = nil
	}
	if s.streams[st.key] == st {
		delete(s.streams, st.key)
	}
}
