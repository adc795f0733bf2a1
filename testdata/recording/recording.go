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

//go:embed people.csv
var people []byte

//go:embed networks.txt
var networks []byte

// People returns a list of the people who act in the recording, as auditmill context import --people reads it.
func People() []byte { return bytes.Clone(people) }

// Networks returns a list of the networks that they act from, as auditmill context import --ranges reads it.
func Networks() []byte { return bytes.Clone(networks) }

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
