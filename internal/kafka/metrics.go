package kafka

import (
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Metrics counts what clients exchange with the brokers. One value serves all clients of a
// service: pass it to each with kgo.WithHooks.
type Metrics struct {
	producedRecords, producedBytes prometheus.Counter
	fetchedRecords, fetchedBytes   prometheus.Counter
	sent, received                 prometheus.Counter
	errors                         map[Class]prometheus.Counter
}

var (
	_ kgo.HookBrokerConnect           = (*Metrics)(nil)
	_ kgo.HookBrokerE2E               = (*Metrics)(nil)
	_ kgo.HookGroupManageError        = (*Metrics)(nil)
	_ kgo.HookProduceBatchWritten     = (*Metrics)(nil)
	_ kgo.HookFetchBatchRead          = (*Metrics)(nil)
	_ kgo.HookProduceRecordUnbuffered = (*Metrics)(nil)
)

// NewMetrics registers the metrics of a service's clients. The service is a constant label,
// so several services can share a registry. A nil registry is allowed in tests.
func NewMetrics(reg prometheus.Registerer, service string) *Metrics {
	labels := prometheus.Labels{"service": service}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "auditmill", Subsystem: "kafka", Name: name, Help: help, ConstLabels: labels,
		})
		if reg != nil {
			reg.MustRegister(c)
		}
		return c
	}
	m := &Metrics{
		producedRecords: counter("produced_records_total", "Records acknowledged by the brokers."),
		producedBytes:   counter("produced_bytes_total", "Bytes of acknowledged records, uncompressed."),
		fetchedRecords:  counter("fetched_records_total", "Records fetched, transaction markers included."),
		fetchedBytes:    counter("fetched_bytes_total", "Bytes of fetched records, uncompressed."),
		sent:            counter("sent_bytes_total", "Bytes written to brokers, without TLS."),
		received:        counter("received_bytes_total", "Bytes read from brokers, without TLS."),
		errors:          map[Class]prometheus.Counter{},
	}
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "auditmill", Subsystem: "kafka", Name: "errors_total", ConstLabels: labels,
		Help: "Errors of connections, requests, groups and produced records, by class.",
	}, []string{"class"})
	if reg != nil {
		reg.MustRegister(failures)
	}
	for _, class := range Classes() {
		m.errors[class] = failures.WithLabelValues(string(class))
	}
	return m
}

// Error counts an error that the service met itself, such as a failed commit.
func (m *Metrics) Error(err error) {
	if err != nil {
		m.errors[ClassOf(err)].Inc()
	}
}

// OnBrokerConnect counts failed connections.
func (m *Metrics) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	m.Error(err)
}

// OnBrokerE2E counts bytes and failed requests.
func (m *Metrics) OnBrokerE2E(_ kgo.BrokerMetadata, _ int16, e2e kgo.BrokerE2E) {
	m.sent.Add(float64(e2e.BytesWritten))
	m.received.Add(float64(e2e.BytesRead))
	m.Error(e2e.Err())
}

// OnGroupManageError counts ends of group sessions.
func (m *Metrics) OnGroupManageError(err error) { m.Error(err) }

// OnProduceBatchWritten counts acknowledged records.
func (m *Metrics) OnProduceBatchWritten(
	_ kgo.BrokerMetadata, _ string, _ int32, batch kgo.ProduceBatchMetrics,
) {
	m.producedRecords.Add(float64(batch.NumRecords))
	m.producedBytes.Add(float64(batch.UncompressedBytes))
}

// OnFetchBatchRead counts fetched records.
func (m *Metrics) OnFetchBatchRead(
	_ kgo.BrokerMetadata, _ string, _ int32, batch kgo.FetchBatchMetrics,
) {
	m.fetchedRecords.Add(float64(batch.NumRecords))
	m.fetchedBytes.Add(float64(batch.UncompressedBytes))
}

// OnProduceRecordUnbuffered counts records that could not be produced.
func (m *Metrics) OnProduceRecordUnbuffered(_ *kgo.Record, err error) { m.Error(err) }
