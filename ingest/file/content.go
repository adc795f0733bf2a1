package file

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
)

// content is what a file says, decompressed. ReadAt follows io.ReaderAt; a compressed
// file that ends too early gives io.ErrUnexpectedEOF instead of io.EOF.
type content interface {
	io.ReaderAt
	// keep says that p, the end of what the last ReadAt gave, stands at offset and will
	// be read again.
	keep(p []byte, offset int64)
	compressed() bool
}

// errUnsupported says that a file is compressed in a way that is not known.
var errUnsupported = errors.New("compressed with a method other than gzip")

// openContent looks at the first bytes. A log line never begins like a compressed file.
func openContent(f *os.File) (content, error) {
	magic, err := readAt(f, 4, 0)
	if err != nil {
		return nil, err
	}
	for name, begin := range map[string]string{"zstd": "\x28\xb5\x2f\xfd", "xz": "\xfd7zX", "bzip2": "BZh"} {
		if len(magic) == 4 && string(magic[:len(begin)]) == begin {
			return nil, fmt.Errorf("%w: %s", errUnsupported, name)
		}
	}
	if len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		return &gzipped{file: f}, nil
	}
	return plain{f}, nil
}

type plain struct{ *os.File }

func (plain) keep([]byte, int64) {}
func (plain) compressed() bool   { return false }

// gzipped reads forward; going back begins anew, except to what was kept.
type gzipped struct {
	file *os.File
	zip  *gzip.Reader
	pos  int64
	kept []byte // the content before pos
	err  error  // how the content ends
}

func (*gzipped) compressed() bool { return true }

func (g *gzipped) keep(p []byte, offset int64) {
	// If p came from what is kept already, that goes further than p.
	if offset+int64(len(p)) == g.pos {
		g.kept = append(g.kept[:0], p...)
	}
}

func (g *gzipped) begin() error {
	g.pos, g.kept, g.err = 0, nil, nil
	in := bufio.NewReaderSize(io.NewSectionReader(g.file, 0, 1<<62), 256<<10)
	zip, err := gzip.NewReader(in)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // the header is cut
	}
	g.zip = zip
	return err
}

// ReadAt decompresses up to offset, if it was not there already, and fills p.
func (g *gzipped) ReadAt(p []byte, offset int64) (int, error) {
	if g.zip == nil || offset < g.pos-int64(len(g.kept)) {
		if err := g.begin(); err != nil {
			g.zip = nil
			return 0, err
		}
	}
	n := 0
	if back := g.pos - offset; back > 0 {
		n = copy(p, g.kept[int64(len(g.kept))-back:])
		if n == len(p) {
			return n, nil
		}
	} else if back < 0 {
		skipped, err := io.CopyN(io.Discard, source{g}, -back)
		if skipped < -back {
			return 0, err
		}
	}
	for n < len(p) {
		m, err := source{g}.Read(p[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// source counts what is read, and remembers the error at its end.
type source struct{ g *gzipped }

func (s source) Read(p []byte) (int, error) {
	if s.g.err != nil {
		return 0, s.g.err
	}
	n, err := s.g.zip.Read(p)
	s.g.pos += int64(n)
	s.g.kept = s.g.kept[:0]
	s.g.err = err
	return n, err
}
