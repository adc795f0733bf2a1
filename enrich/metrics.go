package enrich

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/auditmill/auditmill/internal/obs"
	"github.com/auditmill/auditmill/schemas"
)

type metrics struct {
	stage   *obs.Stage
	copies  *prometheus.CounterVec
	aborted prometheus.Counter
	rebuilt prometheus.Counter

	corrected *prometheus.CounterVec
	learned   prometheus.Counter
	unknown   prometheus.Counter
	tooLate   prometheus.Counter

	mu  sync.Mutex
	lag map[int32]int64
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		stage: obs.NewStage(reg, "enrich", reasonHeaders, reasonDecode),
		copies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "auditmill_enrich_copies_total",
			Help: "Records dropped as copies of an event before them, by the source of the copy.",
		}, []string{"source"}),
		aborted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "auditmill_enrich_transactions_aborted_total",
			Help: "Transactions given up after a rebalance or an error; their records are enriched again.",
		}),
		rebuilt: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "auditmill_enrich_window_rebuilt_records_total",
			Help: "Records read again to rebuild deduplication windows.",
		}),
		corrected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "auditmill_enrich_corrected_rows_total",
			Help: "Rows written again because context became known late, by the first column that was different.",
		}, []string{"column"}),
		learned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "auditmill_enrich_context_changes_total",
			Help: "Changes of the context that events told.",
		}),
		unknown: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "auditmill_enrich_context_not_followed_total",
			Help: "Events that changed the context in a way that they do not tell.",
		}),
		tooLate: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "auditmill_enrich_context_too_late_total",
			Help: "Changes of the context that became known so late that rows stay uncorrected.",
		}),
		lag: make(map[int32]int64),
	}
	if reg != nil {
		reg.MustRegister(m.copies, m.aborted, m.rebuilt, m.corrected, m.learned, m.unknown, m.tooLate)
	}
	return m
}

// behind notes how many records of a partition still wait.
func (m *metrics) behind(partition int32, records int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lag[partition] = max(0, records)
	var sum int64
	for _, n := range m.lag {
		sum += n
	}
	m.stage.Lag.Set(float64(sum))
}

// done counts a committed output.
func (m *metrics) done(out output, start time.Time) {
	var received time.Time
	if out.oldest != 0 {
		received = time.UnixMicro(out.oldest)
	}
	m.stage.Done(out.rows, out.bytes, start, received)
	m.learned.Add(float64(out.learned))
	m.unknown.Add(float64(len(out.late)))
	for _, reason := range out.rejected {
		m.stage.Bad(reason).Inc()
	}
	for source, n := range out.copies {
		if source != schemas.SourceWebhook && source != schemas.SourceFile {
			source = obs.Other // a label must not come from a record
		}
		m.copies.WithLabelValues(source).Add(float64(n))
	}
}
