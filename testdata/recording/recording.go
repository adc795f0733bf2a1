// Package recording holds a recording of real audit events for the demo and the tests.
package recording

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
)

//go:embed sample.jsonl.gz
var sample []byte

// Lines returns the recorded events, one JSON object each, without line ends.
func Lines() ([][]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(sample))
	if err != nil {
		return nil, fmt.Errorf("opening the recording: %w", err)
	}
	all, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("reading the recording: %w", err)
	}
	return bytes.Split(bytes.TrimSuffix(all, []byte("\n")), []byte("\n")), nil
}
