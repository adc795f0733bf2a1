package demo

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/auditmill/auditmill/internal/obs"
	"github.com/auditmill/auditmill/pipeline"
)

// watch shows rates and lag of each stage until it is stopped.
func (d *show) watch(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	period := 2 * time.Second
	if d.screen.tty {
		period = 250 * time.Millisecond
	}
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(period)
		defer tick.Stop()
		var before map[string]obs.Counts
		for {
			now, err := obs.ReadStages(d.process.Registry, pipeline.All()...)
			if err == nil {
				d.screen.show(status(before, now, period))
				before = now
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				d.screen.show("")
				return
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// status is one line: per stage the events per second and how many wait.
func status(before, now map[string]obs.Counts, period time.Duration) string {
	var parts []string
	for _, name := range pipeline.All() {
		rate := max(0, now[name].In-before[name].In) / period.Seconds()
		part := fmt.Sprintf("%s %6.0f/s", name, rate)
		if name != pipeline.Ingest {
			part += fmt.Sprintf(" lag %.0f", now[name].Lag)
		}
		parts = append(parts, part)
	}
	return "  " + strings.Join(parts, "  │  ")
}
