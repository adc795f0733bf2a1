package run

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
)

var (
	errStarting = errors.New("starting")
	errDraining = errors.New("draining")
)

// Ready collects what the parts of the process say about their readiness. It may be used
// concurrently.
type Ready struct {
	mu       sync.Mutex
	checks   map[string]error
	draining bool
}

// NewReady returns a registry in which the named checks are unready until they are set.
func NewReady(names ...string) *Ready {
	r := &Ready{checks: map[string]error{}}
	for _, name := range names {
		r.checks[name] = errStarting
	}
	return r
}

// Set says that a check is ready, or why it is not.
func (r *Ready) Set(name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks[name] = err
}

// Drain makes the process unready for good: it is about to stop.
func (r *Ready) Drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
}

// Err is nil when everything is ready; otherwise it names each check that is not, and why.
func (r *Ready) Err() error {
	status := r.status()
	var errs []error
	if status.Draining {
		errs = append(errs, errDraining)
	}
	for _, c := range status.Checks {
		if !c.Ready {
			errs = append(errs, errors.New(c.Name+": "+c.Reason))
		}
	}
	return errors.Join(errs...)
}

type readyStatus struct {
	Ready    bool          `json:"ready"`
	Draining bool          `json:"draining"`
	Checks   []checkStatus `json:"checks"`
}

type checkStatus struct {
	Name   string `json:"name"`
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
}

func (r *Ready) status() readyStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := readyStatus{
		Ready: !r.draining, Draining: r.draining, Checks: make([]checkStatus, 0, len(r.checks)),
	}
	for name, err := range r.checks {
		c := checkStatus{Name: name, Ready: err == nil}
		if err != nil {
			c.Reason, s.Ready = err.Error(), false
		}
		s.Checks = append(s.Checks, c)
	}
	slices.SortFunc(s.Checks, func(a, b checkStatus) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// ServeHTTP answers 200 when ready and 503 otherwise, with every check as JSON.
func (r *Ready) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	status := r.status()
	w.Header().Set("Content-Type", "application/json")
	if !status.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// The asker is gone if this fails; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(status)
}
