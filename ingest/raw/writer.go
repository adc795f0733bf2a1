package raw

import (
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/auditmill/auditmill/schemas"
)

// Options returns what a client that Writers use needs beside kafka.Opts.
func Options(linger time.Duration) []kgo.Opt {
	return []kgo.Opt{
		kgo.ProducerLinger(linger),
		// One event of the largest size must fit; no more, so that batches stay moderate.
		kgo.ProducerBatchMaxBytes(schemas.MaxEventBytes + 1<<20),
	}
}

// A Writer makes batches. It is safe for concurrent use.
type Writer struct {
	client    *kgo.Client
	metrics   *Metrics
	version   []byte
	splitters sync.Pool
}

// NewWriter returns a Writer that produces with client, which the caller closes after all
// batches have ended.
func NewWriter(client *kgo.Client, metrics *Metrics) *Writer {
	return &Writer{client: client, metrics: metrics, version: []byte(strconv.Itoa(schemas.Version))}
}
