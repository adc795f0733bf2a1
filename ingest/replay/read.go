package replay

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"

	"github.com/auditmill/auditmill/ingest/split"
	"github.com/auditmill/auditmill/internal/jsonscan"
)

// maxWhole bounds a file that is one JSON document over many lines; one of JSON lines may
// have any size.
const maxWhole = 1 << 30

// readFile calls add for each event of a file. The bytes are valid until add returns.
func readFile(path string, add func([]byte) error, bad func(Bad)) error {
	f, err := os.Open(path)
	if err != nil {
		return err // names the file
	}
	defer f.Close()
	text, err := plain(f)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	r := reader{path: path, add: add, bad: bad}
	if err := r.read(text); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

// plain decompresses what begins like gzip.
func plain(f io.Reader) (*bufio.Reader, error) {
	buffered := bufio.NewReaderSize(f, 1<<20)
	magic, err := buffered.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if string(magic) != "\x1f\x8b" {
		return buffered, nil
	}
	z, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, fmt.Errorf("opening gzip: %w", err)
	}
	return bufio.NewReaderSize(z, 1<<20), nil
}

type reader struct {
	path     string
	add      func([]byte) error
	bad      func(Bad)
	splitter split.Splitter
}

// read takes the text line by line if its first line is a JSON document, whole otherwise.
func (r *reader) read(text *bufio.Reader) error {
	for line := 1; ; line++ {
		b, err := text.ReadBytes('\n')
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return err
		}
		if line == 1 && !end && jsonscan.Valid(b) != nil && len(bytes.TrimSpace(b)) > 0 {
			return r.whole(b, text)
		}
		if err := r.split(b, line); err != nil {
			return err
		}
		if end {
			return nil
		}
	}
}

func (r *reader) whole(start []byte, rest io.Reader) error {
	all, err := io.ReadAll(io.LimitReader(rest, maxWhole))
	if err != nil {
		return err
	}
	if len(all) == maxWhole {
		return fmt.Errorf("one JSON document of more than %d bytes: write one event per line, for example with jq -c .items[]", maxWhole)
	}
	return r.split(append(start, all...), 1)
}

// split sends the events of a document that begins at a line.
func (r *reader) split(document []byte, line int) error {
	var err error
	r.splitter.Split(document, func(item *split.Item) bool {
		if item.Fault == nil {
			err = r.add(item.Raw)
			return err == nil
		}
		r.bad(Bad{
			File: r.path, Line: line + bytes.Count(document[:item.Offset], []byte("\n")),
			Reason: item.Fault.Reason, Detail: item.Fault.Detail,
		})
		return true
	})
	return err
}
