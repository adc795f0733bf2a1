// Package run keeps a process of several services running and ends it well, and serves what
// operators and Kubernetes ask of it.
//
// Comes in: services as functions that block. Goes out: an orderly end. Guaranteed: every
// service is asked to stop, in the order given, and is waited for no longer than the drain
// timeout; the first error of a service stops all of them and is returned; a second signal
// ends the process at once.
package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Service is one part of the process.
type Service struct {
	// Name is used in messages and errors.
	Name string
	// Run blocks until its context is cancelled and what it holds is flushed, and then
	// returns nil. If it returns before that, the whole process is stopped: with its
	// error, or in good order if that is nil.
	Run func(ctx context.Context) error
}

// Options says how Main runs.
type Options struct {
	// Log is required.
	Log *slog.Logger
	// Ready is told when the drain begins; it may be nil.
	Ready *Ready
	// DrainTimeout is the longest wait for each service to stop. It must leave room for
	// all of them in the grace period that the platform allows the process.
	DrainTimeout time.Duration
	// Signals replaces SIGINT and SIGTERM of the process, for tests.
	Signals <-chan os.Signal
	// Exit replaces os.Exit, for tests.
	Exit func(code int)
}

// errStopped is the cause with which the contexts of services are cancelled.
var errStopped = errors.New("the process is stopping")

// running is a service and how it ended.
type running struct {
	Service
	cancel context.CancelCauseFunc
	done   chan struct{} // closed after err is set
	err    error
}

// Main runs the services until ctx ends, a signal comes, or one of them returns; then it
// stops them one after the other in the order given, so that each can hand on what it
// holds to those after it. It returns the errors of the services, and one for each that
// did not stop in time.
func Main(ctx context.Context, opts Options, services ...Service) error {
	signals := opts.Signals
	if signals == nil {
		ch := make(chan os.Signal, 2)
		signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
		defer signal.Stop(ch)
		signals = ch
	}
	ended := make(chan *running, len(services))
	started := make([]*running, len(services))
	for i, s := range services {
		started[i] = start(ctx, s, ended)
	}

	reason := "context ended"
	select {
	case <-ctx.Done():
	case s := <-signals:
		reason = s.String()
	case r := <-ended:
		reason = r.Name + " ended"
		if r.err != nil {
			opts.Log.Error("service failed", "service", r.Name, "err", r.err)
		}
	}
	opts.Log.Info("draining", "reason", reason, "timeout", opts.DrainTimeout)

	drained := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		exitOnSignal(opts, signals, drained)
	}()
	err := drain(opts, started)
	close(drained)
	<-watched
	return err
}

// start runs a service with a context of its own: it must live on after ctx has ended,
// until its turn to stop has come.
func start(ctx context.Context, s Service, ended chan<- *running) *running {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	r := &running{Service: s, cancel: cancel, done: make(chan struct{})}
	go func() {
		r.err = s.Run(ctx)
		if errors.Is(r.err, context.Canceled) && ctx.Err() != nil {
			r.err = nil
		}
		close(r.done)
		ended <- r
	}()
	return r
}

func drain(opts Options, services []*running) error {
	if opts.Ready != nil {
		opts.Ready.Drain()
	}
	var errs []error
	for _, r := range services {
		began := time.Now()
		r.cancel(errStopped)
		timer := time.NewTimer(opts.DrainTimeout)
		select {
		case <-r.done:
			timer.Stop()
			if r.err != nil {
				errs = append(errs, fmt.Errorf("running %s: %w", r.Name, r.err))
			}
			opts.Log.Info("service stopped", "service", r.Name, "took", time.Since(began))
		case <-timer.C:
			errs = append(errs, fmt.Errorf("stopping %s: still running after %v", r.Name, opts.DrainTimeout))
			opts.Log.Error("service did not stop in time", "service", r.Name)
		}
	}
	return errors.Join(errs...)
}

func exitOnSignal(opts Options, signals <-chan os.Signal, drained <-chan struct{}) {
	select {
	case s := <-signals:
		opts.Log.Error("second signal, exiting without drain", "reason", s.String())
		if opts.Exit != nil {
			opts.Exit(1)
			return
		}
		os.Exit(1)
	case <-drained:
	}
}
