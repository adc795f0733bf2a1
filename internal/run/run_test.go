package run

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// journal records what happens, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// service returns one that takes a while to drain and then ends with err.
func (j *journal) service(name string, drain time.Duration, err error) Service {
	return Service{Name: name, Run: func(ctx context.Context) error {
		<-ctx.Done()
		j.add(name + " asked")
		<-time.After(drain)
		j.add(name + " stopped")
		return err
	}}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestMainDrainsInOrder(t *testing.T) {
	fault := errors.New("disk full")
	tests := []struct {
		name string
		// stop ends the run; it gets the cancel function and the signals of the process.
		stop func(cancel context.CancelFunc, signals chan<- os.Signal)
		own  func(j *journal) Service
		want []string
		err  string
	}{
		{
			name: "signal",
			stop: func(_ context.CancelFunc, signals chan<- os.Signal) { signals <- syscall.SIGTERM },
			want: []string{
				"ingest asked", "ingest stopped", "enrich asked", "enrich stopped",
				"ops asked", "ops stopped",
			},
		},
		{
			name: "context",
			stop: func(cancel context.CancelFunc, _ chan<- os.Signal) { cancel() },
			want: []string{
				"ingest asked", "ingest stopped", "enrich asked", "enrich stopped",
				"ops asked", "ops stopped",
			},
		},
		{
			name: "a service fails",
			own: func(*journal) Service {
				return Service{Name: "load", Run: func(context.Context) error { return fault }}
			},
			want: []string{
				"ingest asked", "ingest stopped", "enrich asked", "enrich stopped",
				"ops asked", "ops stopped",
			},
			err: "running load: disk full",
		},
		{
			name: "a service has done its work",
			own: func(*journal) Service {
				return Service{Name: "demo", Run: func(context.Context) error { return nil }}
			},
			want: []string{
				"ingest asked", "ingest stopped", "enrich asked", "enrich stopped",
				"ops asked", "ops stopped",
			},
		},
		{
			name: "a service hangs",
			stop: func(cancel context.CancelFunc, _ chan<- os.Signal) { cancel() },
			own:  func(j *journal) Service { return j.service("slow", 2*time.Hour, nil) },
			want: []string{
				"ingest asked", "ingest stopped", "enrich asked", "enrich stopped",
				"slow asked", "ops asked", "ops stopped",
			},
			err: "stopping slow: still running after 1m0s",
		},
		{
			name: "a service fails in the drain",
			stop: func(cancel context.CancelFunc, _ chan<- os.Signal) { cancel() },
			own:  func(j *journal) Service { return j.service("load", time.Second, fault) },
			want: []string{
				"ingest asked", "ingest stopped", "enrich asked", "enrich stopped",
				"load asked", "load stopped", "ops asked", "ops stopped",
			},
			err: "running load: disk full",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var j journal
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				signals := make(chan os.Signal, 2)
				services := []Service{
					j.service("ingest", 30*time.Second, nil), j.service("enrich", time.Second, nil),
				}
				if tt.own != nil {
					services = append(services, tt.own(&j))
				}
				services = append(services, j.service("ops", 0, context.Canceled))
				if tt.stop != nil {
					time.AfterFunc(time.Hour, func() { tt.stop(cancel, signals) })
				}
				ready := NewReady()
				err := Main(ctx, Options{
					Log: quiet(), Ready: ready, DrainTimeout: time.Minute, Signals: signals,
				}, services...)
				if diff := cmp.Diff(tt.want, j.all()); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				// The one that hangs ends at last; the bubble waits for all its goroutines.
				<-time.After(3 * time.Hour)
				if text := errorText(err); text != tt.err {
					t.Errorf("got error %q, want %q", text, tt.err)
				}
				if ready.Err() == nil {
					t.Error("the process is still ready")
				}
			})
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestSecondSignalExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		signals := make(chan os.Signal, 2)
		exited := make(chan int, 1)
		finished := make(chan error, 1)
		go func() {
			finished <- Main(t.Context(), Options{
				Log: quiet(), DrainTimeout: time.Hour, Signals: signals,
				Exit: func(code int) { exited <- code },
			}, j.service("ingest", 10*time.Minute, nil))
		}()
		signals <- os.Interrupt
		synctest.Wait()
		if len(exited) != 0 {
			t.Fatal("the first signal ended the process")
		}
		signals <- os.Interrupt
		synctest.Wait()
		if len(exited) != 1 || len(finished) != 0 {
			t.Fatalf("got %d exits and %d ends during the drain, want 1 and 0", len(exited), len(finished))
		}
		if code := <-exited; code != 1 {
			t.Errorf("got exit status %d, want 1", code)
		}
		if err := <-finished; err != nil {
			t.Error(err)
		}
	})
}

func TestMainListensToTheProcess(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		var log strings.Builder
		err := Main(t.Context(), Options{
			Log: slog.New(slog.NewTextHandler(&log, nil)), DrainTimeout: time.Minute,
		}, Service{Name: "self", Run: func(ctx context.Context) error {
			if err := syscall.Kill(os.Getpid(), sig); err != nil {
				return err
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}})
		if !errors.Is(err, errStopped) || !strings.Contains(log.String(), sig.String()) {
			t.Errorf("%v: got error %v and log:\n%s", sig, err, log.String())
		}
	}
}
