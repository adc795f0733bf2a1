// Package replay sends recorded audit events to the webhook as an API server would: for
// backfill, for load tests and for the demo.
//
// Comes in: files of events, as JSON lines or EventLists, plain or gzip. Goes out: POSTs of
// EventLists. Guaranteed: an event counts as accepted only when the receiver answered 200
// to its batch; what is no event is reported with its file and line and never sent; a
// batch is repeated byte for byte until it is accepted, refused for good, or given up.
package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/auditmill/auditmill/internal/conf"
)

// Config says where and how events are sent.
type Config struct {
	// URL is the address of the webhook; without a path, /v1/audit and the Cluster are appended.
	URL string
	// Cluster is the name in the path; empty if token or certificate tell it.
	Cluster string
	// Token is the bearer token; empty for none.
	Token conf.Secret
	// BatchSize is the most events of one POST.
	BatchSize int
	// Rate is the most events per second; 0 for no limit.
	Rate float64
	// Concurrency is how many POSTs run at once.
	Concurrency int
	// AsIs keeps kind and apiVersion of each event, which a log has and the webhook has not.
	AsIs bool
	// GiveUp ends the attempts at one batch.
	GiveUp time.Duration
	// Client makes the requests; nil for one with the API server's time limit.
	Client *http.Client
	// Progress is called after each batch and must not block; nil for none.
	Progress func(Counts)
	// Report is called for each piece of a file that is no event; nil for none.
	Report func(Bad)
}

// DefaultConfig sends as an API server with default settings does, but gives up later.
func DefaultConfig() Config {
	return Config{BatchSize: 400, Concurrency: 4, GiveUp: 10 * time.Minute}
}

// Counts says how far a replay is.
type Counts struct {
	Accepted int64 // events in batches that were answered with 200
	Batches  int64 // such batches
	Retried  int64 // POSTs that were made again
	Bytes    int64 // bytes of accepted bodies
	Bad      int64 // pieces that are no events
}

// Bad is a piece of a file that is no event.
type Bad struct {
	File   string
	Line   int
	Reason string
	Detail string
}

// String writes the place and the reason.
func (b Bad) String() string { return fmt.Sprintf("%s:%d: %s: %s", b.File, b.Line, b.Reason, b.Detail) }

// Validate returns every fault.
func (c Config) Validate() error {
	var errs []error
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, fmt.Errorf("url: %q is no http or https URL", c.URL))
	}
	if c.BatchSize < 1 || c.BatchSize > 100_000 {
		errs = append(errs, errors.New("batch: must be 1 to 100000"))
	}
	if c.Concurrency < 1 || c.Concurrency > 1000 {
		errs = append(errs, errors.New("concurrency: must be 1 to 1000"))
	}
	if c.Rate < 0 {
		errs = append(errs, errors.New("rate: must not be negative"))
	}
	if c.GiveUp <= 0 {
		errs = append(errs, errors.New("give-up: must be positive"))
	}
	return errors.Join(errs...)
}

func (c Config) target() (string, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return "", fmt.Errorf("reading the URL: %w", err)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/audit"
		if c.Cluster != "" {
			u = u.JoinPath(c.Cluster)
		}
	}
	query := u.Query()
	query.Set("timeout", "30s") // as the API server does
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// Files sends the events of the files, in order as far as Concurrency allows.
func Files(ctx context.Context, cfg Config, paths ...string) (Counts, error) {
	return run(ctx, cfg, func(add func(raw []byte) error, bad func(Bad)) error {
		for _, path := range paths {
			if err := readFile(path, add, bad); err != nil {
				return err
			}
		}
		return nil
	})
}

// Events sends events that are in memory; each must be one JSON object.
func Events(ctx context.Context, cfg Config, events [][]byte) (Counts, error) {
	return run(ctx, cfg, func(add func(raw []byte) error, _ func(Bad)) error {
		for _, raw := range events {
			if err := add(raw); err != nil {
				return err
			}
		}
		return nil
	})
}

// sender is one replay.
type sender struct {
	cfg     Config
	target  string
	client  *http.Client
	limiter *rate.Limiter

	accepted, batches, retried, bytes, bad atomic.Int64
	mu                                     sync.Mutex // orders calls of Progress
}

func run(ctx context.Context, cfg Config, read func(add func([]byte) error, bad func(Bad)) error) (Counts, error) {
	if err := cfg.Validate(); err != nil {
		return Counts{}, err
	}
	target, err := cfg.target()
	if err != nil {
		return Counts{}, err
	}
	s := &sender{cfg: cfg, target: target, client: cfg.Client, limiter: rate.NewLimiter(rate.Inf, 0)}
	if s.client == nil {
		s.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: cfg.Concurrency, ForceAttemptHTTP2: true,
		}}
	}
	client := *s.client
	// A redirect would turn the POST into a GET whose answer says nothing about the events.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s.client = &client
	size := cfg.BatchSize
	if cfg.Rate > 0 {
		size = max(1, min(size, int(cfg.Rate/10))) // ten batches a second keep the stream even
		s.limiter = rate.NewLimiter(rate.Limit(cfg.Rate), size)
	}
	err = s.send(ctx, size, read)
	return s.counts(), err
}

func (s *sender) send(ctx context.Context, size int, read func(add func([]byte) error, bad func(Bad)) error) error {
	group, ctx := errgroup.WithContext(ctx)
	batches := make(chan batch)
	group.Go(func() error {
		defer close(batches)
		current := newBatch()
		flush := func() error {
			if current.events == 0 {
				return nil
			}
			if err := s.limiter.WaitN(ctx, current.events); err != nil {
				return fmt.Errorf("waiting for the rate limit: %w", err)
			}
			select {
			case batches <- current:
			case <-ctx.Done():
				return ctx.Err()
			}
			current = newBatch()
			return nil
		}
		err := read(func(raw []byte) error {
			if !s.cfg.AsIs {
				raw = asWebhook(raw)
			}
			current.add(raw)
			if current.events >= size || len(current.body) >= maxBody {
				return flush()
			}
			return ctx.Err()
		}, s.report)
		if err != nil {
			return err
		}
		return flush()
	})
	for range s.cfg.Concurrency {
		group.Go(func() error {
			for b := range batches {
				if err := s.deliver(ctx, b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (s *sender) report(b Bad) {
	s.bad.Add(1)
	if s.cfg.Report != nil {
		s.cfg.Report(b)
	}
}

func (s *sender) counts() Counts {
	return Counts{
		Accepted: s.accepted.Load(), Batches: s.batches.Load(), Retried: s.retried.Load(),
		Bytes: s.bytes.Load(), Bad: s.bad.Load(),
	}
}

// maxBody ends a batch early, so that large events stay within the receiver's limit.
const maxBody = 16 << 20

const (
	bodyStart = `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`
	bodyEnd   = "]}\n"
)

// batch is a body that is being put together.
type batch struct {
	body   []byte
	events int
}

func newBatch() batch { return batch{body: []byte(bodyStart)} }

func (b *batch) add(raw []byte) {
	if b.events > 0 {
		b.body = append(b.body, ',')
	}
	b.body = append(b.body, raw...)
	b.events++
}

// asWebhook removes kind and apiVersion where the API server's log has them: the items that
// the webhook sends lack them. All other bytes stay.
func asWebhook(raw []byte) []byte {
	rest, ok := bytes.CutPrefix(raw, []byte(`{"kind":"Event","apiVersion":"audit.k8s.io/v1",`))
	if !ok {
		return raw
	}
	return append(append(make([]byte, 0, len(rest)+1), '{'), rest...)
}
