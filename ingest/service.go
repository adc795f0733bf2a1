// Package ingest is the front door of the pipeline.
//
// Comes in: audit events by webhook and from log files. Goes out: one record of
// audit.raw.v1 per event, its value the sender's bytes; what is no event goes to
// audit.dead.v1. Guaranteed: a sender hears of success, and a file is marked as read, only
// after every record was acknowledged by all in-sync replicas. A sender that hears nothing
// sends again, so an event may be there more than once; enrich drops the copies.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/auditmill/auditmill/ingest/file"
	"github.com/auditmill/auditmill/ingest/raw"
	"github.com/auditmill/auditmill/ingest/webhook"
	"github.com/auditmill/auditmill/internal/kafka"
	"github.com/auditmill/auditmill/internal/run"
	"github.com/auditmill/auditmill/schemas"
)

const (
	// name is the service's name in readiness, metrics and messages.
	name = "ingest"
	// checkEvery is how often Kafka is asked whether it can take events.
	checkEvery = 5 * time.Second
	// flushTimeout bounds the wait for records at the end. What is still on its way then
	// was not acknowledged to its sender, who will send it again.
	flushTimeout = 5 * time.Second
)

// Deps are what the service needs beside its configuration.
type Deps struct {
	Kafka    kafka.Config
	Logger   *slog.Logger
	Registry prometheus.Registerer // nil for no metrics
	Ready    *run.Ready            // nil for nobody to tell
}

// Service is the front door.
type Service struct {
	cfg     Config
	deps    Deps
	client  *kgo.Client
	webhook *webhook.Server // nil if none is configured
	file    *file.Source    // nil if none is configured
	bound   chan struct{}   // closed when address is set
	address string
}

// New makes the service. It reads the files that the configuration names, and neither
// listens nor dials yet.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuring ingest: %w", err)
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Clusters()) == 0 {
		return nil, errors.New("configuring ingest: there is nowhere to take events from: give a cluster a token " +
			"(ingest.webhook.tokens), a certificate (ingest.webhook.certificates) or a log file (ingest.file.inputs)")
	}
	s := &Service{cfg: cfg, deps: deps, bound: make(chan struct{})}
	hooks := kgo.WithHooks(kafka.NewMetrics(deps.Registry, name))
	client, err := kafka.NewClient(deps.Kafka, append(raw.Options(cfg.Linger), hooks)...)
	if err != nil {
		return nil, err
	}
	s.client = client
	writer := raw.NewWriter(client, raw.NewMetrics(deps.Registry, cfg.Clusters()))
	if cfg.Webhook.Enabled() {
		if s.webhook, err = webhook.New(cfg.Webhook, writer, deps.Registry, deps.Logger); err != nil {
			client.Close()
			return nil, err
		}
	}
	if cfg.File.Enabled() {
		p := publisher{writer: writer, log: deps.Logger}
		if s.file, err = file.New(cfg.File, p, file.Deps{Logger: deps.Logger, Registry: deps.Registry}); err != nil {
			client.Close()
			return nil, fmt.Errorf("configuring ingest.file: %w", err)
		}
	}
	return s, nil
}

// Addr returns the address at which the webhook listens, once it does: with port 0 in the
// configuration, only then is it known.
func (s *Service) Addr(ctx context.Context) (string, error) {
	if s.webhook == nil {
		return "", errors.New("there is no webhook: ingest.webhook has no address, or nobody may send")
	}
	select {
	case <-s.bound:
		return s.address, nil
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for the webhook to listen: %w", ctx.Err())
	}
}

// Run takes events until ctx ends, or until all files are read if there is nothing else
// and they are not followed. Then it stops taking new ones, finishes those it has begun,
// and returns nil.
func (s *Service) Run(ctx context.Context) error {
	defer s.client.Close()
	ctx, end := context.WithCancel(ctx)
	defer end()
	group, ctx := errgroup.WithContext(ctx)
	if s.webhook != nil {
		addr, err := s.webhook.Listen(ctx)
		if err != nil {
			return err
		}
		s.address = addr.String()
		close(s.bound)
		group.Go(func() error { return s.webhook.Run(ctx) })
	}
	if s.file != nil {
		group.Go(func() error {
			err := s.file.Run(ctx)
			if s.webhook == nil {
				end()
			}
			return err
		})
	}
	group.Go(func() error { return s.watch(ctx) })
	err := group.Wait()
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if left := s.client.Flush(flush); left != nil {
		s.deps.Logger.Warn("records are still on their way, their senders will repeat them",
			"records", s.client.BufferedProduceRecords(), "err", left)
	}
	return err
}

// watch tells the readiness: Kafka answers and has the topics. Requests are taken either
// way, because a refused connection costs the sender more than a wait.
func (s *Service) watch(ctx context.Context) error {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for ready := false; ; {
		err := s.check(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && !ready:
			s.deps.Logger.Info("ready to take events")
		case err != nil && ready:
			s.deps.Logger.Warn("kafka cannot take events", "err", err)
		}
		ready = err == nil
		if s.deps.Ready != nil {
			s.deps.Ready.Set(name, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (s *Service) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkEvery)
	defer cancel()
	states, err := kafka.EnsureTopics(ctx, s.client, []kafka.Topic{
		{Name: schemas.TopicRaw, Replication: -1}, {Name: schemas.TopicDead, Replication: -1},
	}, false)
	if err != nil {
		return err
	}
	for _, t := range states {
		if t.Status == kafka.TopicMissing {
			return fmt.Errorf("the topic %s is missing; create it: auditmill topics --create", t.Name)
		}
	}
	return nil
}
