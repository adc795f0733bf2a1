package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/auditmill/auditmill/internal/kafka"
)

// reasonLongLine is the reason of dead letters.
const reasonLongLine = "long_line"

// errTruncated says that a file does not hold any more what was read from it.
var errTruncated = errors.New("the file was truncated")

// stream is a file that is read.
type stream struct {
	window
	key     fileKey
	path    string
	input   int
	file    *os.File // nil while there is nothing to read
	content content
	begin   []byte // the first bytes, at most a sample
	size    int64
	modTime time.Time
	entry   *entry // nil until it is known which content this is

	listed bool      // an input names it
	gone   time.Time // since when none does
	last   bool      // no more will come
	ready  bool      // there may be something to read
	since  time.Time // since when it is known to be as it is
	seen   int64     // how far it was looked at; -1 to look again
	broken bool      // compressed, and faulty from here on
}

// step publishes the next batch. more says that there is more to read at once.
func (s *Source) step(ctx context.Context, st *stream) (more bool, err error) {
	if st.entry.Line != nil {
		return s.stepLong(ctx, st)
	}
	var data []byte
	for size := int64(s.cfg.MaxBatch); ; size = min(2*size, int64(s.cfg.MaxLine)+1) {
		data, err = s.read(st, size)
		end := err != nil
		if len(data) == 0 && end && !errors.Is(err, io.EOF) {
			return false, s.ended(st, err)
		}
		if end || bytes.IndexByte(data, '\n') >= 0 {
			break
		}
		if size > int64(s.cfg.MaxLine) {
			st.entry.Line = &longLine{Start: st.offset}
			s.metrics.longLines.Inc()
			st.content.keep(data, st.offset)
			return true, nil
		}
		st.content.keep(data, st.offset)
	}
	if n := hole(data); n > 0 {
		s.metrics.holes.Add(float64(n))
		s.done(st, data, n)
		return true, nil
	}
	n := bytes.LastIndexByte(data, '\n') + 1
	if n == 0 && s.final(st, err) {
		n = len(data)
	}
	if n == 0 {
		st.seen = st.offset + int64(len(data))
		st.content.keep(data, st.offset)
		return false, s.ended(st, err)
	}
	if err := s.publisher.Publish(ctx, s.inputs[st.input].Cluster, data[:n]); err != nil {
		s.buf = nil // the publisher may still look at it
		st.content.keep(data, st.offset)
		return false, &publishError{err}
	}
	s.metrics.lines.Add(float64(bytes.Count(data[:n], []byte{'\n'}) + isTrue(data[n-1] != '\n')))
	s.metrics.bytes.Add(float64(n))
	s.done(st, data, n)
	return true, nil
}

// read fills size bytes from where the stream is. It returns io.EOF, or what breaks a
// compressed file, if there are fewer.
func (s *Source) read(st *stream, size int64) ([]byte, error) {
	if int64(cap(s.buf)) < size || int64(cap(s.buf)) > max(2*size, partSize+1) {
		s.buf = make([]byte, size)
	}
	n, err := st.content.ReadAt(s.buf[:size], st.offset)
	data := s.buf[:n]
	if int64(n) == size {
		err = nil
	}
	if st.content.compressed() {
		return data, err
	}
	// Looking again afterwards proves that the file was not written anew meanwhile.
	if err := st.verify(data); err != nil {
		return nil, err
	}
	return data, err
}

// verify returns errTruncated unless the file still holds what was read, data the last.
func (st *stream) verify(data []byte) error {
	head := st.head
	if n := min(sample-len(head), len(data)); n > 0 {
		head = slices.Concat(head, data[:n])
	}
	got, err := readAt(st.content, int64(len(head)), 0)
	if err != nil {
		return err
	}
	tail, err := readAt(st.content, int64(len(st.tail)), st.offset-int64(len(st.tail)))
	if err == nil && (!bytes.Equal(got, head) || !bytes.Equal(tail, st.tail)) {
		err = errTruncated
	}
	return err
}

// hole gives the number of zero bytes that data begins with, if something follows them
// that is none. A writer that does not append leaves them when its file is truncated.
func hole(data []byte) int {
	rest := bytes.TrimLeft(data, "\x00")
	if len(rest) == 0 {
		return 0
	}
	return len(data) - len(rest)
}

// done moves the stream behind the first n bytes of data.
func (s *Source) done(st *stream, data []byte, n int) {
	st.advance(data[:n])
	st.content.keep(data[n:], st.offset)
	s.checkpoint.put(st)
}

// final reports whether a last line without its end will stay so; err is how reading ended.
func (s *Source) final(st *stream, err error) bool {
	if !errors.Is(err, io.EOF) {
		return false
	}
	return st.content.compressed() || st.last || !s.cfg.Follow || s.now().Sub(st.since) >= abandoned
}

// ended looks at why there is nothing more to read.
func (s *Source) ended(st *stream, err error) error {
	if !st.content.compressed() {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	if !errors.Is(err, io.EOF) {
		st.broken = true
		return err
	}
	st.seen = st.size
	if st.offset > 0 {
		s.checkpoint.complete(st)
	}
	return nil
}

// stepLong sends the next part of a line above max_line to the dead-letter topic.
func (s *Source) stepLong(ctx context.Context, st *stream) (more bool, err error) {
	data, err := s.read(st, partSize+1)
	if len(data) == 0 && err != nil && !errors.Is(err, io.EOF) {
		return false, s.ended(st, err)
	}
	line := st.entry.Line
	part, _, last := bytes.Cut(data, []byte{'\n'})
	skip := isTrue(last)
	if !last && len(data) > partSize {
		part = data[:partSize]
	} else if !last {
		if last = s.final(st, err); !last {
			st.seen = st.offset + int64(len(data))
			st.content.keep(data, st.offset)
			return false, s.ended(st, err)
		}
	}
	if len(part) > 0 {
		letter := s.letter(st, part, last)
		if err := s.publisher.Dead(ctx, s.inputs[st.input].Cluster, letter); err != nil {
			s.buf = nil // the publisher may still look at it
			st.content.keep(data, st.offset)
			return false, &publishError{err}
		}
	}
	s.metrics.bytes.Add(float64(len(part) + skip))
	if st.entry.Line = nil; !last {
		st.entry.Line = &longLine{Start: line.Start, Parts: line.Parts + 1}
	}
	s.done(st, data, len(part)+skip)
	return true, nil
}

func (s *Source) letter(st *stream, part []byte, last bool) kafka.Dead {
	line := st.entry.Line
	end := "more parts follow"
	if last {
		end = "the last one"
	}
	return kafka.Dead{
		Reason: reasonLongLine,
		Detail: fmt.Sprintf("the line at byte %d of %s is longer than max_line (%s): part %d, "+
			"from byte %d of the line, %s", line.Start, st.path, s.cfg.MaxLine, line.Parts+1,
			st.offset-line.Start, end),
		Source: "file/" + s.inputs[st.input].Cluster, Partition: -1, Offset: -1,
		Value: part, Time: st.modTime,
	}
}
