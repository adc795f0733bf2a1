package notify

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the notifier. There is no counter of dropped alerts: none is dropped, unless
// max_age asks for it.
type metrics struct {
	posted     *prometheus.CounterVec
	updates    *prometheus.CounterVec
	digests    *prometheus.CounterVec
	digested   *prometheus.CounterVec
	retries    *prometheus.CounterVec
	dead       *prometheus.CounterVec
	duplicates prometheus.Counter
	expired    prometheus.Counter
	unknown    prometheus.Counter
	backlog    prometheus.GaugeFunc
	lag        prometheus.Gauge
	remembered prometheus.GaugeFunc
	groups     prometheus.GaugeFunc
	silences   prometheus.GaugeFunc
	blocked    *prometheus.GaugeVec
	attempt    prometheus.Histogram
	delay      prometheus.Histogram
}

const namespace, subsystem = "auditmill", "notify"

// newMetrics registers the metrics; current returns the session whose state they show, or nil.
// A nil registry is allowed in tests.
func newMetrics(reg prometheus.Registerer, current func() *session) *metrics {
	show := func(value func(*session) int) func() float64 {
		return func() float64 {
			if s := current(); s != nil {
				return float64(value(s))
			}
			return 0
		}
	}
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	histogram := func(name, help string, start float64, n int) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
			Buckets: prometheus.ExponentialBuckets(start, 2, n),
		})
	}
	ms := &metrics{
		posted: prometheus.NewCounterVec(counter("posted_total",
			"Messages about one group that a receiver accepted and that are recorded, by severity; changes are not among them."),
			[]string{"receiver", "severity"}),
		updates: prometheus.NewCounterVec(counter("updates_total",
			"Messages that were changed because more alerts came in."), []string{"receiver"}),
		digests: prometheus.NewCounterVec(counter("digests_total",
			"Messages about many groups at once."), []string{"receiver"}),
		digested: prometheus.NewCounterVec(counter("digested_groups_total",
			"Groups that a digest told of."), []string{"receiver"}),
		retries: prometheus.NewCounterVec(counter("retries_total",
			"Attempts to post that failed and are made again, by reason."), []string{"receiver", "reason"}),
		dead: prometheus.NewCounterVec(counter("dead_total",
			"Alerts given to the dead-letter topic, by reason."), []string{"reason"}),
		duplicates: prometheus.NewCounter(counter("duplicates_total",
			"Alerts delivered again and not counted again.")),
		expired: prometheus.NewCounter(counter("expired_total",
			"Groups not posted because their alert was older than max_age, where that is configured.")),
		unknown: prometheus.NewCounter(counter("unknown_outcomes_total",
			"Attempts without an answer: if the sink accepted one, the next attempt posts the message a second time.")),
		backlog: prometheus.NewGaugeFunc(gauge("backlog_groups",
			"Groups that a receiver is not told of yet, of the receiver with the most."),
			show(func(s *session) int { return s.store.backlog() })),
		lag: prometheus.NewGauge(gauge("lag_records", "Alerts in Kafka that are not counted in their group yet.")),
		remembered: prometheus.NewGaugeFunc(gauge("remembered_alerts",
			"Alerts that are known and not counted again."), show(func(s *session) int { return s.memory.len() })),
		groups: prometheus.NewGaugeFunc(gauge("remembered_groups",
			"Groups that are known and not posted anew."), show(func(s *session) int { return s.store.len() })),
		silences: prometheus.NewGaugeFunc(gauge("silences",
			"Silences, acknowledgements and maintenance windows that hold."),
			show(func(s *session) int { return s.silenced.active(time.Now()) })),
		blocked: prometheus.NewGaugeVec(gauge("blocked",
			"1 while a person must act before anything can be posted: see the log."), []string{"receiver"}),
		attempt: histogram("attempt_seconds", "Time the sink took for one attempt.", 0.001, 15),
		delay:   histogram("delay_seconds", "Time from raising an alert to the first message of its group.", 0.001, 24),
	}
	if reg != nil {
		reg.MustRegister(ms.posted, ms.updates, ms.digests, ms.digested, ms.groups, ms.silences, ms.retries, ms.dead, ms.duplicates, ms.expired, ms.unknown, ms.backlog, ms.lag,
			ms.remembered, ms.blocked, ms.attempt, ms.delay)
	}
	return ms
}
