package file

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// pass looks at all inputs once and publishes what is new. again says that there is more
// to do at once.
func (s *Source) pass(ctx context.Context) (again bool) {
	found, complete := s.discover()
	s.attend(found)
	s.measure() // publishing may take long
	again = s.readAll(ctx)
	if ctx.Err() == nil {
		s.leave(complete)
	}
	s.measure()
	s.save()
	return again
}

// attend brings the streams in line with the files that there are.
func (s *Source) attend(found []candidate) {
	for _, st := range s.streams {
		st.listed = false
	}
	s.order = make([][]*stream, len(s.inputs))
	names, keys := make(map[string]fileKey, len(found)), make(map[fileKey]bool, len(found))
	var unknown []*stream
	for _, c := range found {
		names[c.path], keys[c.key] = c.key, true
		st := s.streams[c.key]
		if st != nil && st.outdated(c) {
			s.drop(st)
			st = nil
		}
		if st == nil {
			st = s.admit(c)
		}
		if st == nil {
			continue
		}
		s.update(st, c)
		s.order[c.input] = append(s.order[c.input], st)
		if st.entry == nil {
			unknown = append(unknown, st)
		}
	}
	unknown = append(unknown, s.vanished()...)
	s.resolve(unknown)
	s.names = names
	maps.DeleteFunc(s.asides, func(key fileKey, _ aside) bool { return !keys[key] })
	maps.DeleteFunc(s.problems, func(key string, _ error) bool {
		_, listed := names[key]
		return !listed && key != s.checkpoint.path && !strings.HasPrefix(key, inputKey)
	})
	for _, st := range s.streams {
		st.ready = st.hasNews(s.now())
	}
}

// hasNews reports whether reading may give something: more, or the end of a line that
// nobody will finish.
func (st *stream) hasNews(now time.Time) bool {
	if st.entry == nil || st.file == nil || st.broken {
		return false
	}
	given := !st.content.compressed() && now.Sub(st.since) >= abandoned
	return st.seen != st.size || given && st.seen > st.offset
}

// outdated reports whether a file has to be opened and recognised anew.
func (st *stream) outdated(c candidate) bool {
	return st.changed(c) && (st.file == nil || st.content != nil && st.content.compressed())
}

func (st *stream) changed(c candidate) bool {
	return st.size != c.info.Size() || !st.modTime.Equal(c.info.ModTime())
}

// update notes what the listing says of a stream.
func (s *Source) update(st *stream, c candidate) {
	if st.changed(c) && st.file != nil {
		st.seen, st.since = -1, s.now()
	}
	st.size, st.modTime = c.info.Size(), c.info.ModTime()
	st.listed, st.gone, st.input = true, time.Time{}, c.input
	if st.path == c.path {
		return
	}
	st.path = c.path
	if st.entry != nil {
		st.entry.Path = c.path
		s.checkpoint.dirty = true
	}
}

// admit opens a file that has no stream yet. It returns nil if it is to be left alone for
// now, or cannot be opened.
func (s *Source) admit(c candidate) *stream {
	a, known := s.asides[c.key]
	if known && a.same(c) && s.keepsAside(a) {
		return nil
	}
	st := &stream{key: c.key, path: c.path, input: c.input, seen: -1}
	if e := s.checkpoint.completed(c); e != nil {
		st.entry, e.owner, e.Missing = e, st, time.Time{}
		st.size, st.modTime, st.seen, st.offset = e.Size, e.ModTime, e.Size, e.Offset
		s.streams[c.key] = st
		return st
	}
	f, err := os.Open(c.path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.problem(c.path, err)
		}
		return nil
	}
	info, err := f.Stat()
	if err != nil || keyOf(info, c.path) != c.key {
		_ = f.Close() // another file has taken the name; the next pass sees it
		return nil
	}
	st.file = f
	s.streams[c.key] = st
	return st
}

// vanished looks after the streams whose files no input names any more, and returns those
// whose content is not known yet.
func (s *Source) vanished() (unknown []*stream) {
	for _, st := range s.streams {
		if st.listed {
			continue
		}
		if st.file == nil {
			s.drop(st)
			continue
		}
		info, err := st.file.Stat()
		if err != nil {
			s.problem(st.path, err)
			s.drop(st)
			continue
		}
		if st.gone.IsZero() || info.Size() != st.size {
			st.gone = s.now()
		}
		if info.Size() != st.size || !info.ModTime().Equal(st.modTime) {
			st.size, st.modTime, st.seen, st.since = info.Size(), info.ModTime(), -1, s.now()
		}
		// It is older than what has its name now.
		s.order[st.input] = slices.Insert(s.order[st.input], 0, st)
		if st.entry == nil {
			unknown = append(unknown, st)
		}
	}
	return unknown
}

// readAll publishes what is ready: from each input in turn one batch of its oldest file.
func (s *Source) readAll(ctx context.Context) (again bool) {
	deadline := s.now().Add(s.cfg.PollInterval)
	for ctx.Err() == nil {
		idle := true
		for _, streams := range s.order {
			i := slices.IndexFunc(streams, func(st *stream) bool { return st.ready })
			if i < 0 {
				continue
			}
			idle = false
			more, err := s.step(ctx, streams[i])
			streams[i].ready = more && err == nil
			again = s.judge(ctx, streams[i], err) || again
		}
		if idle {
			return again
		}
		s.save()
		if s.now().After(deadline) {
			return true
		}
	}
	return again
}

// judge handles the outcome of a step. again says that the next pass should not wait.
func (s *Source) judge(ctx context.Context, st *stream, err error) (again bool) {
	var publish *publishError
	switch {
	case err == nil:
		if !st.broken {
			s.solved(st.path)
		}
	case ctx.Err() != nil:
		st.seen = -1
	case errors.Is(err, errTruncated):
		s.truncated(st)
		return true
	case errors.As(err, &publish):
		st.seen = -1
		s.problem(st.path, err)
	case st.content.compressed() && isBroken(err):
		st.broken = true
		s.problem(st.path, err)
	default:
		s.problem(st.path, err)
		s.drop(st) // to be opened anew
	}
	return false
}

// truncated begins a file anew. What it held before stays known: a copy of it may go on
// where this one stopped.
func (s *Source) truncated(st *stream) {
	s.metrics.truncations.Inc()
	s.logger.Info("file was truncated, reading it from its begin", "path", st.path,
		"offset", st.offset, "size", st.size)
	st.entry.owner = nil
	s.begin(st)
}

// leave closes what is not needed any more and forgets what is gone.
func (s *Source) leave(complete bool) {
	for _, st := range s.streams {
		switch {
		case st.ready || st.entry == nil && st.listed:
		case !st.listed:
			s.bury(st, complete)
		case st.file != nil && st.entry != nil && s.needless(st):
			_ = st.file.Close()
			st.file, st.content = nil, nil
		}
	}
	if complete && len(s.problems) == 0 {
		s.checkpoint.expire(s.now())
	}
}

// bury ends a stream whose file has no name any more, once nothing more comes.
func (s *Source) bury(st *stream, complete bool) {
	if !complete || s.cfg.Follow && s.now().Sub(st.gone) < linger {
		return
	}
	if st.last || st.entry == nil || st.broken || st.content.compressed() || st.seen == st.offset {
		s.drop(st)
		return
	}
	st.last, st.seen = true, -1 // the next pass publishes the line without end
}

// needless reports whether a stream can do without its file being open.
func (s *Source) needless(st *stream) bool {
	if st.content.compressed() {
		return st.seen == st.size
	}
	return st.seen == st.offset && st.seen == st.size && s.now().Sub(st.since) > abandoned &&
		!slices.ContainsFunc(s.inputs, func(in Input) bool { return in.Path == st.path })
}

// measure sets the gauges.
func (s *Source) measure() {
	open, lag := 0, int64(0)
	for _, st := range s.streams {
		switch {
		case st.file == nil:
			continue
		case st.content == nil || !st.content.compressed():
			lag += max(0, st.size-st.offset)
		case st.seen != st.size:
			lag += st.size
		}
		open++
	}
	s.metrics.open.Set(float64(open))
	s.metrics.lag.Set(float64(lag))
}

// isCompressedName reports whether a file is, or will be, compressed.
func isCompressedName(path string) bool { return strings.HasSuffix(path, ".gz") }
