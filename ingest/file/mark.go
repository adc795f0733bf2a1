package file

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"time"
)

// fileKey is what the kernel knows a file by. It survives renaming, and it is used again
// for another file once this one is deleted.
type fileKey struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

// sample is how many bytes at the begin of a content, and how many before the offset,
// are remembered to recognise it.
const sample = 1 << 10

// window is a place in a content: its offset and the bytes by which it is recognised.
type window struct {
	offset int64
	head   []byte // the first bytes, at most sample and at most offset
	tail   []byte // the bytes before the offset, as many
}

// advance moves the place behind p, which stands there.
func (w *window) advance(p []byte) {
	w.offset += int64(len(p))
	if n := min(sample-len(w.head), len(p)); n > 0 {
		w.head = append(w.head, p[:n]...)
	}
	if len(p) >= sample {
		w.tail = append(w.tail[:0], p[len(p)-sample:]...)
		return
	}
	w.tail = append(w.tail, p...)
	if extra := len(w.tail) - sample; extra > 0 {
		w.tail = append(w.tail[:0], w.tail[extra:]...)
	}
}

func digest(p []byte) string {
	sum := sha256.Sum256(p)
	return hex.EncodeToString(sum[:])
}

// entry is one content in the checkpoint: everything before Offset was published.
// Contents and not files have entries, because rotation renames, copies and compresses.
type entry struct {
	Path    string `json:"path"` // where it was last
	Cluster string `json:"cluster"`
	fileKey
	Offset int64  `json:"offset"` // in the decompressed content
	Head   string `json:"head"`   // SHA-256 of window.head
	Tail   string `json:"tail"`   // SHA-256 of window.tail
	// Line is set inside a line above max_line.
	Line *longLine `json:"line,omitempty"`
	// Complete says that a compressed file of this size and time was read to its end.
	Complete bool      `json:"complete,omitempty"`
	Size     int64     `json:"size,omitempty"`
	ModTime  time.Time `json:"modified,omitzero"`
	// Missing is since when no file holds the content any more.
	Missing time.Time `json:"missing,omitzero"`

	owner *stream // who reads it now
}

// longLine is a line above max_line of which some parts are published.
type longLine struct {
	Start int64 `json:"start"`
	Parts int   `json:"parts"`
}

// relation is what a content has to do with an entry.
type relation uint8

const (
	different relation = iota
	same               // the content is the entry's, and holds all that was published
	shorter            // it begins like the entry's and ends before its offset
)

// compare tells whether c, which begins with the sample begin, is the content of the
// entry, and if so gives the place in it.
func (e *entry) compare(c content, begin []byte) (relation, window, error) {
	n := min(sample, e.Offset)
	if int64(len(begin)) < n || digest(begin[:n]) != e.Head {
		return different, window{}, nil
	}
	tail, err := readAt(c, n, e.Offset-n)
	switch {
	case err != nil:
		return different, window{}, err
	case int64(len(tail)) < n:
		return shorter, window{}, nil
	case digest(tail) != e.Tail:
		return different, window{}, nil
	}
	return same, window{offset: e.Offset, head: slices.Clone(begin[:n]), tail: tail}, nil
}

// last gives the last bytes of a content, at most a sample, and where they begin.
func last(c content, size int64) (tail []byte, offset int64, err error) {
	if !c.compressed() {
		n := min(sample, size)
		tail, err = readAt(c, n, size-n)
		return tail, size - n, err
	}
	var w window
	for {
		p, err := readAt(c, 64<<10, w.offset)
		if w.advance(p); err != nil || len(p) == 0 {
			return w.tail, w.offset - int64(len(w.tail)), err
		}
	}
}

// lengthFrom gives the length of a content that is known to reach to offset. What cannot
// be read does not count.
func lengthFrom(c content, offset int64) int64 {
	for {
		p, err := readAt(c, 64<<10, offset)
		if offset += int64(len(p)); err != nil || len(p) == 0 {
			return offset
		}
	}
}

// readAt reads n bytes, or fewer if the content ends or breaks before; that is no error.
func readAt(c io.ReaderAt, n, offset int64) ([]byte, error) {
	p := make([]byte, n)
	read, err := c.ReadAt(p, offset)
	if errors.Is(err, io.EOF) || isBroken(err) {
		err = nil
	}
	return p[:read], err
}
