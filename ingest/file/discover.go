package file

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// candidate is a file that belongs to an input.
type candidate struct {
	path  string
	input int
	info  fs.FileInfo
	key   fileKey
}

// discover lists the files of all inputs: each input's in the order in which they were
// written, and each file once. complete is false if something could not be looked at.
func (s *Source) discover() (found []candidate, complete bool) {
	complete = true
	taken := map[fileKey]int{}
	for i, in := range s.inputs {
		var own []candidate
		names, err := s.expand(in.Path)
		if err != nil {
			complete = complete && errors.Is(err, errNoMatch)
			s.problem(inputKey+in.Path, err)
		} else {
			s.solved(inputKey + in.Path)
		}
		for _, path := range names {
			info, err := os.Stat(path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				continue // renamed since it was listed, or a link to nothing
			case err != nil:
				complete = false
				s.problem(path, err)
				continue
			case !info.Mode().IsRegular() || s.checkpoint.own(path):
				continue
			}
			c := candidate{path, i, info, keyOf(info, path)}
			if first, ok := taken[c.key]; ok {
				s.overlap(c, first)
				continue
			}
			taken[c.key] = i
			own = append(own, c)
		}
		slices.SortStableFunc(own, func(a, b candidate) int { return older(a, b, in.Path) })
		found = append(found, own...)
	}
	return found, complete
}

// overlap says once that two inputs name the same file.
func (s *Source) overlap(c candidate, first int) {
	mine, theirs := s.inputs[c.input].Cluster, s.inputs[first].Cluster
	if mine == theirs || s.overlaps[c.path] {
		return
	}
	s.overlaps[c.path] = true
	s.metrics.errors.WithLabelValues(reasonOverlap).Inc()
	s.logger.Warn("file belongs to two clusters and is read for the first", "path", c.path,
		"cluster", theirs, "other", mine, "remedy", "change inputs so that one of them has it")
}

// older orders files by the time of their last writing. The log itself is the newest of
// its files even if its time is that of the one before.
func older(a, b candidate, newest string) int {
	if last := cmp.Compare(isTrue(a.path == newest), isTrue(b.path == newest)); last != 0 {
		return last
	}
	return cmp.Or(a.info.ModTime().Compare(b.info.ModTime()), strings.Compare(a.path, b.path))
}

func isTrue(b bool) int {
	if b {
		return 1
	}
	return 0
}

// expand gives the paths of an input.
func (s *Source) expand(path string) ([]string, error) {
	if strings.ContainsAny(path, "*?[") {
		names, err := filepath.Glob(path)
		if err == nil && len(names) == 0 {
			err = errNoMatch
		}
		for _, name := range names {
			s.watch(filepath.Dir(name))
		}
		return names, err
	}
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		return s.list(path, func(name string) bool { return !strings.HasPrefix(name, ".") })
	}
	base := filepath.Base(path)
	names, listErr := s.list(filepath.Dir(path), func(name string) bool {
		return name == base || isRotated(base, name)
	})
	// In the middle of a rotation only the rotated files are there.
	if listErr != nil && !errors.Is(err, fs.ErrNotExist) {
		return []string{path}, listErr
	}
	return names, cmp.Or(err, listErr)
}

func (s *Source) list(dir string, want func(name string) bool) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		s.unwatch(dir)
		return nil, err
	}
	s.watch(dir)
	var names []string
	for _, e := range entries {
		if want(e.Name()) {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names, nil
}

// What rotation adds to a name: audit.log.1, audit.log-20260102, audit.log.2026-01-02, and
// audit-2026-01-02T03-04-05.678.log as kube-apiserver does; each perhaps compressed.
var (
	afterName  = regexp.MustCompile(`^[.-][0-9][0-9T:_.Z+-]*$`)
	insideName = regexp.MustCompile(`^-[0-9]{4}[0-9T:_.Z+-]{4,}$`)
)

// isRotated reports whether name is a rotated file of the log called base.
func isRotated(base, name string) bool {
	name = strings.TrimSuffix(name, ".gz")
	if added, ok := strings.CutPrefix(name, base); ok {
		return afterName.MatchString(added)
	}
	ext := filepath.Ext(base)
	added, ok := strings.CutPrefix(name, strings.TrimSuffix(base, ext))
	if !ok || !strings.HasSuffix(added, ext) {
		return false
	}
	return insideName.MatchString(strings.TrimSuffix(added, ext))
}
