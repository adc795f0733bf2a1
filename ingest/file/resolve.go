package file

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"time"
)

// aside is a file that is left alone until it changes, or until its reason passes.
type aside struct {
	why     asideReason
	entry   *entry // the content it is a copy of
	length  int64  // of the copy, decompressed
	size    int64
	modTime time.Time
	since   time.Time
}

type asideReason uint8

const (
	asideCopy asideReason = iota // what it holds is read from another file
	asideWait                    // it may be a copy in the making
	asideOld                     // it is older than ignore_older
	asideBad                     // it is compressed in an unknown way
)

func (a aside) same(c candidate) bool {
	return a.size == c.info.Size() && a.modTime.Equal(c.info.ModTime())
}

// keepsAside reports whether an unchanged file is still left alone.
func (s *Source) keepsAside(a aside) bool {
	switch a.why {
	case asideCopy:
		owner := a.entry.owner
		return owner != nil && !owner.continuedBy(a.length)
	case asideWait:
		return !s.settled(a.modTime, a.since)
	case asideOld, asideBad:
	}
	return true
}

// end is where the content of a stream ends, as far as it can be read.
func (st *stream) end() int64 {
	if st.broken || st.entry.Complete {
		return st.offset
	}
	return st.size
}

// continuedBy reports whether a copy of this length has more than the stream, which has
// nothing more to give.
func (st *stream) continuedBy(length int64) bool {
	return (st.broken || st.seen == st.size && !st.ready) && length > st.end()
}

// settled reports whether a file was not changed for a while, by its own time or ours.
func (s *Source) settled(modTime, since time.Time) bool {
	return !s.cfg.Follow || s.now().Sub(modTime) >= settle || s.now().Sub(since) >= settle
}

// unchanged gives the time since when a file is known to be as it is.
func (s *Source) unchanged(st *stream) time.Time {
	if a, ok := s.asides[st.key]; ok && a.size == st.size && a.modTime.Equal(st.modTime) {
		return a.since
	}
	return s.now()
}

// setAside closes a file for now.
func (s *Source) setAside(st *stream, a aside) {
	a.size, a.modTime, a.since = st.size, st.modTime, s.unchanged(st)
	s.asides[st.key] = a
	s.drop(st)
}

// resolve finds out which content each file holds. Files that are where the checkpoint
// says come first, so that a copy is never taken for the original.
func (s *Source) resolve(unknown []*stream) {
	unknown = slices.DeleteFunc(unknown, func(st *stream) bool { return !s.prepare(st) })
	for _, fits := range []func(*entry, *stream) bool{
		func(e *entry, st *stream) bool { return e.fileKey == st.key },
		func(e *entry, st *stream) bool { return e.Path == st.path },
	} {
		unknown = slices.DeleteFunc(unknown, func(st *stream) bool {
			for _, e := range s.checkpoint.entries {
				if e.owner != nil || !fits(e, st) {
					continue
				}
				rel, w, err := e.compare(st.content, st.begin)
				if err != nil {
					s.problem(st.path, err)
					s.drop(st)
					return true
				}
				if rel == same {
					s.adopt(st, e, w)
					return true
				}
			}
			return false
		})
	}
	for _, st := range unknown {
		s.recognise(st)
	}
}

// prepare looks at the first bytes of a file. It reports whether there is something to
// recognise.
func (s *Source) prepare(st *stream) bool {
	if st.size == 0 || st.size < 4 && isCompressedName(st.path) && s.cfg.Follow {
		return false
	}
	c, err := openContent(st.file)
	if err != nil {
		s.problem(st.path, err)
		if s.drop(st); errors.Is(err, errUnsupported) {
			s.setAside(st, aside{why: asideBad})
		}
		return false
	}
	if c.compressed() && !s.settled(st.modTime, s.unchanged(st)) {
		// One that is still being written is cut, and cannot be told from another.
		s.setAside(st, aside{why: asideWait})
		return false
	}
	if st.begin, err = readAt(c, sample, 0); err != nil {
		s.problem(st.path, err)
		s.drop(st)
		return false
	}
	st.content = c
	return true
}

// recognise compares a file with every known content. What is like none is new.
func (s *Source) recognise(st *stream) {
	for _, e := range slices.Clone(s.checkpoint.entries) {
		rel, w, err := e.compare(st.content, st.begin)
		if err != nil {
			s.problem(st.path, err)
			s.drop(st)
			return
		}
		switch {
		case rel == different, rel == shorter && e.fileKey == st.key:
			continue
		case rel == same && e.owner == nil:
			s.adopt(st, e, w)
			return
		case e.owner == nil: // shorter
			if s.settled(st.modTime, s.unchanged(st)) {
				continue
			}
			s.setAside(st, aside{why: asideWait})
			return
		case rel == same || st.repeats(e.owner):
			s.copied(st, e, rel, w)
			return
		}
	}
	if old := s.cfg.IgnoreOlder; old > 0 && s.now().Sub(st.modTime) > old {
		s.setAside(st, aside{why: asideOld})
		return
	}
	if before, ok := s.names[st.path]; ok && before != st.key {
		s.metrics.rotations.Inc()
	}
	s.begin(st)
}

// copied handles a copy of what another stream reads: it is left alone, unless it has more
// than the other, which is left alone then.
func (s *Source) copied(st *stream, e *entry, rel relation, w window) {
	length := st.size
	if st.content.compressed() && rel == same {
		length = lengthFrom(st.content, e.Offset)
	}
	if owner := e.owner; rel == same && owner.continuedBy(length) {
		s.setAside(owner, aside{why: asideCopy, entry: e, length: owner.end()})
		s.adopt(st, e, w)
		return
	}
	s.setAside(st, aside{why: asideCopy, entry: e, length: length})
}

// repeats reports whether everything in a shorter file is in the owner's too.
func (st *stream) repeats(owner *stream) bool {
	theirs := owner.content
	if theirs == nil {
		f, err := os.Open(owner.path)
		if err != nil {
			return false
		}
		defer f.Close()
		if theirs, err = openContent(f); err != nil {
			return false
		}
	}
	mine, offset, err := last(st.content, st.size)
	if err != nil {
		return false
	}
	same, err := readAt(theirs, int64(len(mine)), offset)
	return err == nil && bytes.Equal(mine, same)
}

// adopt goes on with a known content.
func (s *Source) adopt(st *stream, e *entry, w window) {
	st.entry, st.window, e.owner = e, w, st
	e.Path, e.fileKey, e.Cluster = st.path, st.key, s.inputs[st.input].Cluster
	e.Complete, e.Missing = false, time.Time{}
	s.checkpoint.dirty = true
	delete(s.asides, st.key)
}

// begin reads a new content.
func (s *Source) begin(st *stream) {
	e := &entry{Path: st.path, Cluster: s.inputs[st.input].Cluster, fileKey: st.key, owner: st}
	st.entry, st.window, st.seen, st.last = e, window{}, -1, false
	delete(s.asides, st.key)
}
