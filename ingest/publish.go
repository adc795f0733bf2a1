package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/auditmill/auditmill/ingest/raw"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/schemas"
)

const (
	firstWait = 100 * time.Millisecond
	lastWait  = 5 * time.Second
)

// publisher writes what is read from files. A file cannot be told to come again later, as
// the sender of a request can, so it repeats transient failures until ctx ends.
type publisher struct {
	writer *raw.Writer
	log    *slog.Logger
}

// Publish implements file.Publisher.
func (p publisher) Publish(ctx context.Context, cluster string, body []byte) error {
	received := time.Now()
	return p.persist(ctx, cluster, func() error {
		batch := p.writer.Begin(ctx, raw.Origin{
			Cluster: cluster, Source: schemas.SourceFile, Place: "file/" + cluster, Received: received,
		}, nil)
		batch.Split(body)
		return batch.Wait(ctx)
	})
}

// Dead implements file.Publisher.
func (p publisher) Dead(ctx context.Context, cluster string, letter kafka.Dead) error {
	received := time.Now()
	return p.persist(ctx, cluster, func() error {
		batch := p.writer.Begin(ctx, raw.Origin{
			Cluster: cluster, Source: schemas.SourceFile, Place: letter.Source, Received: received,
		}, nil)
		batch.Bury(letter)
		return batch.Wait(ctx)
	})
}

// persist repeats write until it succeeds, fails for good, or ctx ends. Events of an
// attempt that failed in part are written twice; enrich drops the copies.
func (p publisher) persist(ctx context.Context, cluster string, write func() error) error {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		err := write()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !kafka.Transient(err) {
			return fmt.Errorf("publishing events of cluster %s: %w", cluster, err)
		}
		p.log.Warn("events of a file were not taken, repeating", "cluster", cluster, "err", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("publishing events of cluster %s: %w", cluster, ctx.Err())
		}
	}
}
