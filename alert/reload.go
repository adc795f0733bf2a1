package alert

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/auditmill/auditmill/alert/rule"
	"github.com/auditmill/auditmill/alert/rule/ir"
)

// reloader looks at the rule files now and then and swaps a changed set in. It compares what the files hold, not when
// they were written: a mounted ConfigMap changes by a symbolic link, which watches on files do not see.
type reloader struct {
	service *Service

	mu       sync.Mutex
	loaded   time.Time
	refused  string // version of the last set that was refused; empty if the last one was not
	problem  error  // why
	failedAt time.Time
}

// run looks at the files at every interval and whenever asked, until ctx ends.
func (l *reloader) run(ctx context.Context) error {
	var tick <-chan time.Time
	if interval := l.service.cfg.Rules.ReloadInterval; interval > 0 {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		asked := false
		select {
		case <-ctx.Done():
			return nil
		case <-l.service.deps.Reload:
			asked = true
		case <-tick:
		}
		l.look(asked)
	}
}

// look reads the files and swaps in what is new. asked says that somebody waits for an answer, even that there is nothing new.
func (l *reloader) look(asked bool) {
	s := l.service
	files, err := readRules(s.cfg.Rules, s.deps.Pack)
	if err != nil {
		_, faults := files.compile(s.cfg.Rules)
		l.refuse(files.version+err.Error(), errors.Join(err, faults), asked)
		return
	}
	if files.version == s.rules.Load().version {
		l.accept(false)
		if asked {
			s.log.Info("rules have not changed", "version", files.version)
		}
		return
	}
	rules, err := files.compile(s.cfg.Rules)
	if err != nil {
		l.refuse(files.version, err, asked)
		return
	}
	s.use(rules)
	l.accept(true)
	s.log.Info("rules swapped in", "version", rules.version, "rules", len(rules.pack.Rules), "correlations", len(rules.pack.Correlations))
}

func (l *reloader) accept(swapped bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused, l.problem = "", nil
	l.service.metrics.refused.Set(0)
	if swapped {
		l.loaded = time.Now()
		l.service.metrics.reloads.WithLabelValues("swapped").Inc()
	}
}

// refuse keeps the set in use. The same faulty files are reported once, not at every look.
func (l *reloader) refuse(version string, err error, asked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if version == l.refused && !asked {
		return
	}
	l.refused, l.problem, l.failedAt = version, err, time.Now()
	l.service.metrics.refused.Set(1)
	l.service.metrics.reloads.WithLabelValues("refused").Inc()
	l.service.log.Error("changed rules are refused, those in use stay: correct the files", "err", err)
}

// rulesStatus is the answer of /rules.
type rulesStatus struct {
	Version  string        `json:"version"`
	LoadedAt time.Time     `json:"loaded_at"`
	Refused  *refusal      `json:"refused,omitempty"` // the newer files that were not taken
	Rules    []rule.Listed `json:"rules"`
	Notes    []string      `json:"notes,omitempty"`
}

type refusal struct {
	At     time.Time `json:"at"`
	Errors []string  `json:"errors"`
}

// ServeHTTP says which rules are in use, and what is wrong with newer ones.
func (l *reloader) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	rules := l.service.rules.Load()
	l.mu.Lock()
	status := rulesStatus{Version: rules.version, LoadedAt: l.loaded.UTC(), Rules: rule.List(rules.pack)}
	if l.problem != nil {
		status.Refused = &refusal{At: l.failedAt.UTC(), Errors: problems(l.problem)}
	}
	l.mu.Unlock()
	for _, n := range rules.pack.Notes {
		status.Notes = append(status.Notes, n.Position.String()+": "+n.Text)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(status) // nobody to tell if this fails
}

// problems lists the faults of an error one by one.
func problems(err error) []string {
	var faults ir.Faults
	if !errors.As(err, &faults) {
		return strings.Split(err.Error(), "\n")
	}
	out := make([]string, len(faults))
	for i, fault := range faults {
		out[i] = fault.Error()
	}
	return out
}
