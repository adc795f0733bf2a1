package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
)

var errNoMatch = errors.New("no file matches the pattern")

// inputKey begins the keys of problems with an input; those with a file are its path.
const inputKey = "input "

// publishError wraps what the publisher returned.
type publishError struct{ err error }

func (e *publishError) Error() string { return "publishing lines: " + e.err.Error() }
func (e *publishError) Unwrap() error { return e.err }

// isBroken reports whether err says that a compressed file is cut or damaged.
func isBroken(err error) bool {
	var corrupt flate.CorruptInputError
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrHeader) ||
		errors.Is(err, gzip.ErrChecksum) || errors.As(err, &corrupt)
}

// diagnose gives the reason of an error, and what to do about it.
func diagnose(err error) (reason, remedy string) {
	var publish *publishError
	switch {
	case errors.As(err, &publish):
		return reasonPublish, "nothing is lost, it is tried again"
	case errors.Is(err, errNoMatch), errors.Is(err, fs.ErrNotExist):
		return reasonMissing, "it is looked for again; check the path, and that the directory is mounted"
	case errors.Is(err, fs.ErrPermission):
		return reasonPermission, "let the user of this process read the file and enter its directory"
	case errors.Is(err, errUnsupported):
		return reasonUnsupported, "decompress it, or compress it with gzip"
	case isBroken(err):
		return reasonGzip, "the whole lines before the fault are published; put a whole file in its place"
	}
	return reasonRead, "it is tried again"
}

// problem counts a failed attempt and says so once, until the problem changes or is solved.
func (s *Source) problem(key string, err error) {
	reason, remedy := diagnose(err)
	s.metrics.errors.WithLabelValues(reason).Inc()
	if s.problems[key] == nil || s.problems[key].Error() != err.Error() {
		s.problems[key] = err
		s.logger.Warn("reading does not go on", "path", strings.TrimPrefix(key, inputKey), "reason", reason,
			"err", err, "remedy", remedy)
	}
}

// solved forgets a problem.
func (s *Source) solved(key string) {
	if s.problems[key] != nil {
		delete(s.problems, key)
		s.logger.Info("reading goes on", "path", strings.TrimPrefix(key, inputKey))
	}
}

// remaining joins the problems that were not solved.
func (s *Source) remaining() error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(s.problems)) {
		_, remedy := diagnose(s.problems[key])
		errs = append(errs, fmt.Errorf("reading %s: %w: %s",
			strings.TrimPrefix(key, inputKey), s.problems[key], remedy))
	}
	return errors.Join(errs...)
}
