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
	return ReadFile(path, func(item *split.Item, line int) error {
		if item.Fault != nil {
			bad(Bad{File: path, Line: line, Reason: item.Fault.Reason, Detail: item.Fault.Detail})
			return nil
		}
		return add(item.Raw)
	})
}

// ReadFile calls yield for each event of a file, plain or gzip, and for each piece that is none, with the
// line it begins in. It takes JSON lines, each any form that the webhook takes, and files that are one JSON
// document. An error of yield ends the reading. The item is valid until yield returns. "-" is standard input.
func ReadFile(path string, yield func(item *split.Item, line int) error) error {
	if path == "-" {
		return readAll("standard input", os.Stdin, yield)
	}
	f, err := os.Open(path)
	if err != nil {
		return err // names the file
	}
	defer f.Close()
	return readAll(path, f, yield)
}

func readAll(name string, f io.Reader, yield func(*split.Item, int) error) error {
	text, err := plain(f)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	r := reader{yield: yield}
	if err := r.read(text); err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
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
	yield    func(*split.Item, int) error
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

// split yields the events of a document that begins at a line.
func (r *reader) split(document []byte, line int) error {
	var err error
	at := 0
	r.splitter.Split(document, func(item *split.Item) bool {
		line += bytes.Count(document[min(at, item.Offset):item.Offset], []byte("\n"))
		at = max(at, item.Offset)
		err = r.yield(item, line)
		return err == nil
	})
	return err
}
