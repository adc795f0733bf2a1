package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"

	"github.com/auditmill/auditmill/internal/conf"
)

const (
	// firstBuffer is what a request gets before it has sent anything. What it claims to be
	// going to send (Content-Length) buys it nothing.
	firstBuffer = 64 << 10
	// keptBuffer is the largest buffer that is kept for the next request.
	keptBuffer = 8 << 20
)

// reader reads bodies into memory that is accounted for.
type reader struct {
	max     conf.Bytes
	buffers sync.Pool // of *[]byte
	gzips   sync.Pool // of *gzip.Reader
}

// body is a body that was read, or as much of it as there was. end must be called.
type body struct {
	reader *reader
	lease  *lease
	data   []byte
}

func (b *body) end() {
	if data := b.data[:0]; cap(data) <= keptBuffer {
		b.reader.buffers.Put(&data)
	}
	b.data = nil
	b.lease.end()
}

// read reads and decompresses the body of r. The buffer doubles when it is full, so memory
// is taken only for what was sent.
func (rd *reader) read(ctx context.Context, r *http.Request, l *lease) (*body, *problem) {
	b := &body{reader: rd, lease: l}
	if !l.grow(ctx, firstBuffer) {
		return b, noMemory()
	}
	if kept, ok := rd.buffers.Get().(*[]byte); ok {
		b.data = *kept
		// A buffer from the pool may be larger than what is paid for so far.
		if extra := int64(cap(b.data) - firstBuffer); extra > 0 && !l.grow(ctx, extra) {
			b.data = nil
		}
	}
	if b.data == nil {
		b.data = make([]byte, 0, firstBuffer)
	}
	src := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := rd.gzip(r.Body)
		if err != nil {
			return b, readProblem(err)
		}
		defer rd.gzips.Put(z)
		src = z
	}
	return b, b.fill(ctx, src)
}

// fill reads src to its end.
func (b *body) fill(ctx context.Context, src io.Reader) *problem {
	limit := int(b.reader.max)
	var beyond [1]byte
	for {
		room := b.data[len(b.data):min(cap(b.data), limit)]
		if len(room) == 0 && len(b.data) < limit {
			if p := b.grow(ctx); p != nil {
				return p
			}
			continue
		}
		if len(room) == 0 {
			room = beyond[:] // it is full: either nothing comes any more, or too much
		}
		n, err := src.Read(room)
		if n > 0 && len(b.data) == limit {
			return tooLarge(b.reader.max)
		}
		b.data = b.data[:len(b.data)+n]
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return readProblem(err)
		}
	}
}

func (b *body) grow(ctx context.Context) *problem {
	old := cap(b.data)
	size := min(2*old, int(b.reader.max))
	// While it is copied there are two: less than twice the largest body.
	if !b.lease.grow(ctx, int64(size)) {
		return noMemory()
	}
	data := make([]byte, len(b.data), size)
	copy(data, b.data)
	b.data = data
	b.lease.shrink(int64(old))
	return nil
}

func (rd *reader) gzip(src io.Reader) (*gzip.Reader, error) {
	z, ok := rd.gzips.Get().(*gzip.Reader)
	if !ok {
		return gzip.NewReader(src)
	}
	if err := z.Reset(src); err != nil {
		return nil, err
	}
	return z, nil
}

func noMemory() *problem {
	return busy("no_memory", "too many bodies are waiting for Kafka",
		"send again later; if it lasts, look at Kafka, add an instance or raise ingest.webhook.max_inflight")
}

func tooLarge(limit conf.Bytes) *problem {
	return &problem{
		status: http.StatusRequestEntityTooLarge, reason: "too_large", drain: true,
		text:   fmt.Sprintf("the body is larger than %s", limit),
		remedy: "raise ingest.webhook.max_body, or lower --audit-webhook-batch-max-size of the API server",
	}
}

func readProblem(err error) *problem {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return unavailable("slow", "the body did not arrive in time",
			"send again; if it lasts, look at the network, or raise ingest.webhook.body_timeout")
	case isCorrupt(err):
		return &problem{
			status: http.StatusBadRequest, reason: "bad_gzip", text: "the body is not valid gzip: " + err.Error(),
			remedy: "send it without Content-Encoding, or compress it anew",
		}
	}
	return &problem{
		status: http.StatusBadRequest, reason: "aborted", text: "the body is cut: " + err.Error(),
		remedy: "send it again",
	}
}

func isCorrupt(err error) bool {
	var corrupt flate.CorruptInputError
	return errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.As(err, &corrupt)
}
