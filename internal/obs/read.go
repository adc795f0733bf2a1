package obs

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Counts is a reading of one Stage. The difference of two readings gives rates.
type Counts struct {
	In, Out, BytesIn, BytesOut, Lag float64
	// Bad holds the count of every reason.
	Bad map[string]float64
	// Latency and Delay are the histograms of the same name in Stage.
	Latency, Delay Histogram
}

// Histogram is a cumulative histogram of seconds.
type Histogram struct {
	Count   uint64
	Sum     float64
	buckets []bucket
}

type bucket struct {
	upper float64
	count uint64
}

// ReadStages gathers the counters of the named services. A service that keeps no Stage
// in this registry is absent from the result.
func ReadStages(g prometheus.Gatherer, services ...string) (map[string]Counts, error) {
	families, err := g.Gather()
	if err != nil {
		return nil, fmt.Errorf("gathering metrics: %w", err)
	}
	stages := make(map[string]Counts, len(services))
	for _, service := range services {
		var c Counts
		found := false
		for _, family := range families {
			name, ok := strings.CutPrefix(family.GetName(), "auditmill_"+service+"_")
			if ok && c.read(name, family.GetMetric()) {
				found = true
			}
		}
		if found {
			stages[service] = c
		}
	}
	return stages, nil
}

func (c *Counts) read(name string, metrics []*dto.Metric) bool {
	if len(metrics) == 0 {
		return false
	}
	first := metrics[0]
	switch name {
	case "records_in_total":
		c.In = first.GetCounter().GetValue()
	case "records_out_total":
		c.Out = first.GetCounter().GetValue()
	case "bytes_in_total":
		c.BytesIn = first.GetCounter().GetValue()
	case "bytes_out_total":
		c.BytesOut = first.GetCounter().GetValue()
	case "lag_records":
		c.Lag = first.GetGauge().GetValue()
	case "latency_seconds":
		c.Latency = readHistogram(first.GetHistogram())
	case "delay_seconds":
		c.Delay = readHistogram(first.GetHistogram())
	case "bad_total":
		c.Bad = make(map[string]float64, len(metrics))
		for _, m := range metrics {
			for _, l := range m.GetLabel() {
				c.Bad[l.GetValue()] = m.GetCounter().GetValue()
			}
		}
	default:
		return false
	}
	return true
}

func readHistogram(h *dto.Histogram) Histogram {
	out := Histogram{Count: h.GetSampleCount(), Sum: h.GetSampleSum()}
	for _, b := range h.GetBucket() {
		out.buckets = append(out.buckets, bucket{b.GetUpperBound(), b.GetCumulativeCount()})
	}
	return out
}

// Quantile estimates the q-quantile (0 < q <= 1) by interpolating inside the bucket that
// holds it, as Prometheus does. It is zero without observations. What lies beyond the last
// bucket is given as that bucket's bound.
func (h Histogram) Quantile(q float64) time.Duration {
	if h.Count == 0 || math.IsNaN(q) {
		return 0
	}
	rank := q * float64(h.Count)
	lower, below := 0.0, uint64(0)
	for _, b := range h.buckets {
		if float64(b.count) >= rank && b.count > below && !math.IsInf(b.upper, 1) {
			part := (rank - float64(below)) / float64(b.count-below)
			return seconds(lower + (b.upper-lower)*part)
		}
		if !math.IsInf(b.upper, 1) {
			lower, below = b.upper, b.count
		}
	}
	return seconds(lower)
}

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second))
}
