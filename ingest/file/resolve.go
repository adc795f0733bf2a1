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
func (s *Source) keepsAside(a aside, c candidate) bool {
	switch a.why {
	case asideCopy:
		owner := a.entry.owner
		return owner != nil && !s.continues(c.info.Size(), owner)
	case asideWait:
		return !s.settled(a.modTime, a.since)
	case asideOld, asideBad:
	}
	return true
}

// continues reports whether a plain file of this size, which begins like the owner's, has
// more than the owner, which has nothing more to give.
func (s *Source) continues(size int64, owner *stream) bool {
	return owner.atEnd() && (owner.content == nil || !owner.content.compressed()) && size > owner.size
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
func (s *Source) setAside(st *stream, why asideReason, e *entry) {
	s.asides[st.key] = aside{
		why: why, entry: e, size: st.size, modTime: st.modTime, since: s.unchanged(st),
	}
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
			s.setAside(st, asideBad, nil)
		}
		return false
	}
	if c.compressed() && !s.settled(st.modTime, s.unchanged(st)) {
		// One that is still being written is cut, and cannot be told from another.
		s.setAside(st, asideWait, nil)
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
			s.setAside(st, asideWait, nil)
			return
		case rel == same && !st.content.compressed() && s.continues(st.size, e.owner):
			owner := e.owner
			s.setAside(owner, asideCopy, e)
			s.adopt(st, e, w)
			return
		case rel == same || st.repeats(e.owner):
			s.setAside(st, asideCopy, e)
			return
		}
	}
	if old := s.cfg.IgnoreOlder; old > 0 && s.now().Sub(st.modTime) > old {
		s.setAside(st, asideOld, nil)
		return
	}
	if before, ok := s.names[st.path]; ok && before != st.key {
		s.metrics.rotations.Inc()
	}
	s.begin(st)
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
