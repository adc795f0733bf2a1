package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/auditmill/auditmill/ingest/raw"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

// handler answers the requests. It routes by itself: http.ServeMux redirects paths that it
// would write differently, and an API server loses a batch to a redirect.
type handler struct {
	cfg     Config
	log     *slog.Logger
	auth    *authenticator
	writer  *raw.Writer
	metrics *metrics
	reader  reader
	whole   *semaphore.Weighted
	limits  map[string]*limits
}

func newHandler(cfg Config, writer *raw.Writer, m *metrics, log *slog.Logger) (*handler, error) {
	auth, err := newAuthenticator(cfg)
	if err != nil {
		return nil, err
	}
	h := &handler{
		cfg: cfg, log: log, auth: auth, writer: writer, metrics: m, reader: reader{max: cfg.MaxBody},
		whole: semaphore.NewWeighted(int64(cfg.MaxInflight)), limits: map[string]*limits{},
	}
	for _, cluster := range cfg.Clusters() {
		h.limits[cluster] = &limits{
			memory: semaphore.NewWeighted(int64(cfg.MaxInflight / 2)),
			rate:   bucket{rate: cfg.Rate, burst: float64(cfg.Burst)},
		}
	}
	return h, nil
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	h.metrics.requests.Inc()
	controller := http.NewResponseController(w)
	// Not every ResponseWriter has deadlines; that of a server has. They hold for refused
	// requests too, whose bodies are read and thrown away.
	_ = controller.SetReadDeadline(start.Add(h.cfg.BodyTimeout))
	_ = controller.SetWriteDeadline(start.Add(h.cfg.Timeout + time.Second))
	p := h.serve(controller, r, start)
	if p == nil {
		h.metrics.answered(http.StatusOK, "ok")
		w.WriteHeader(http.StatusOK)
		return
	}
	h.metrics.answered(p.status, p.reason)
	if p.drain {
		// No more than a body may hold, and no longer than it may take.
		_, _ = io.CopyN(io.Discard, r.Body, int64(h.cfg.MaxBody))
	}
	p.write(w)
}

// serve returns nil when every event and dead letter is acknowledged.
func (h *handler) serve(controller *http.ResponseController, r *http.Request, start time.Time) *problem {
	path, ok := clusterOf(r.URL.Path)
	if !ok {
		return &problem{
			status: http.StatusNotFound, reason: "no_such_path", text: "there is nothing at this path",
			remedy: "POST to /v1/audit, or to /v1/audit/ followed by the name of the cluster",
		}
	}
	cluster, p := h.auth.cluster(r, path)
	if p != nil {
		return p
	}
	if p := acceptable(r); p != nil {
		return p
	}
	limits := h.limits[cluster]
	if !limits.rate.admit(start) {
		return busy("rate", fmt.Sprintf("cluster %q sends more than %v events per second", cluster, h.cfg.Rate),
			"raise ingest.webhook.rate, or thin out the audit policy")
	}
	if r.ContentLength > int64(h.cfg.MaxBody) {
		return tooLarge(h.cfg.MaxBody)
	}
	deadline, cancel := context.WithDeadline(r.Context(), start.Add(h.cfg.Timeout))
	defer cancel()
	l := &lease{share: limits.memory, whole: h.whole, wait: h.cfg.InflightWait, gauge: h.metrics.inflight}
	b, p := h.reader.read(deadline, r, l)
	if p != nil {
		b.end()
		return p
	}
	// A deadline that passes after the body was read would look like a lost connection.
	_ = controller.SetReadDeadline(time.Time{})
	return h.write(deadline, b, cluster, start)
}

func (h *handler) write(ctx context.Context, b *body, cluster string, start time.Time) *problem {
	if len(b.data) == 0 {
		b.end()
		return &problem{
			status: http.StatusBadRequest, reason: "empty", text: "the body is empty", remedy: "send an EventList",
		}
	}
	// The records get the deadline of the request but not its end: a sender that hangs up
	// must not take those of others in the same partitions with it.
	deadline, _ := ctx.Deadline()
	delivery, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	batch := h.writer.Begin(delivery, raw.Origin{
		Cluster: cluster, Source: schemas.SourceWebhook, Place: "webhook/" + cluster, Received: start,
	}, func() {
		cancel()
		b.end()
	})
	batch.Split(b.data)
	h.limits[cluster].rate.take(time.Now(), batch.Events+batch.Bad)
	switch err := batch.Wait(ctx); {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded), kafka.ClassOf(err) == kafka.ClassTimeout:
		return unavailable("timeout", "Kafka did not acknowledge in time", "send again; if it lasts, look at Kafka")
	case errors.Is(err, context.Canceled):
		return unavailable("hung_up", "the sender hung up", "send again")
	default:
		h.log.Warn("events refused, the sender will repeat them", "cluster", cluster, "err", err)
		return unavailable("kafka", "Kafka did not take all events", "send again; if it lasts, look at Kafka")
	}
}

// clusterOf returns the cluster that a path names; ok says that it is a path of ours. An
// API server cuts a slash at the end of its URL, others may not.
func clusterOf(path string) (cluster string, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSuffix(path, "/"), "/v1/audit")
	if !ok || rest == "" {
		return "", ok
	}
	cluster, ok = strings.CutPrefix(rest, "/")
	return cluster, ok && cluster != "" && !strings.Contains(cluster, "/")
}

func acceptable(r *http.Request) *problem {
	if r.Method != http.MethodPost {
		return &problem{
			status: http.StatusMethodNotAllowed, reason: "method", text: "the method is not POST",
			remedy: "POST the events",
		}
	}
	unsupported := func(header string) *problem {
		return &problem{
			status: http.StatusUnsupportedMediaType, reason: "media_type", drain: true,
			text:   fmt.Sprintf("%s %q is not supported", header, r.Header.Get(header)),
			remedy: "send JSON or JSON lines, plain or gzip",
		}
	}
	switch r.Header.Get("Content-Encoding") {
	case "", "identity", "gzip":
	default:
		return unsupported("Content-Encoding")
	}
	contentType := r.Header.Get("Content-Type")
	if contentType == "" {
		return nil
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return unsupported("Content-Type")
	}
	switch media {
	case "application/json", "application/x-ndjson", "application/ndjson", "application/jsonl",
		"application/json-lines", "application/octet-stream", "text/plain", "text/json":
		return nil
	}
	if strings.HasSuffix(media, "+json") {
		return nil
	}
	return unsupported("Content-Type")
}
