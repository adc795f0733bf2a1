package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// slackServer is Slack's Web API as far as a bot uses it that posts, changes and answers messages. It remembers what it
// took, and fails at random in all the ways in which a server can.
type slackServer struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced with every request
	trouble  int           // percent of the requests that fail
	requests int
	faults   map[string]int
	messages map[string]*slackMessage // by ts, as they are now
	taken    []slackMessage           // as they were posted, in order; changes are not among them
	updates  int
	kills    int
	killedAt time.Time
}

// slackMessage is a message that the server took.
type slackMessage struct {
	ts, thread string
	group      string // of a message about one
	count      uint64 // of its alerts
	groups     int    // that a digest tells of
	repeat     bool   // says that it may be a repeat
	// lost says that the sender did not get an answer, and doubtful that it may have been killed before it did.
	lost, doubtful bool
	kills          int // so far
}

func newSlackServer(t *testing.T, trouble int) *slackServer {
	t.Helper()
	s := &slackServer{
		t: t, changed: make(chan struct{}), trouble: trouble, faults: map[string]int{}, messages: map[string]*slackMessage{},
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// The faults before a message is taken and after it.
const (
	limited     = "429"
	failsBefore = "500, not taken"
	failsAfter  = "500, taken"
	hangsBefore = "hangs, not taken"
	hangsAfter  = "hangs, taken"
	closeBefore = "closes, not taken"
	closeAfter  = "closes, taken"
	halfAnswer  = "half an answer, taken"
)

// fault throws the dice for one request.
func (s *slackServer) fault() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	close(s.changed)
	s.changed = make(chan struct{})
	if rand.IntN(100) >= s.trouble {
		return ""
	}
	all := []string{limited, failsBefore, failsAfter, hangsBefore, hangsAfter, closeBefore, closeBefore, closeAfter, closeAfter, halfAnswer}
	f := all[rand.IntN(len(all))]
	s.faults[f]++
	return f
}

func (s *slackServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		return // the sender was killed
	}
	fault := s.fault()
	switch fault {
	case limited:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case failsBefore:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case hangsBefore:
		<-r.Context().Done()
		return
	case closeBefore:
		panic(http.ErrAbortHandler)
	}
	answer := s.take(r, fault != "")
	switch fault {
	case failsAfter:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case hangsAfter:
		<-r.Context().Done()
		return
	case closeAfter:
		panic(http.ErrAbortHandler)
	case halfAnswer:
		answer = answer[:len(answer)/2]
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, answer) // the sender may have been killed
}

var (
	groupInFooter = regexp.MustCompile(`^group ([0-9a-f]{32})$`)
	countInHeader = regexp.MustCompile(`· ([0-9]+)× `)
	digestHeader  = regexp.MustCompile(`([0-9]+) groups of alerts at once`)
)

// take does what is asked, and returns what Slack would answer.
func (s *slackServer) take(r *http.Request, lost bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := slackMessage{
		ts: r.Form.Get("ts"), thread: r.Form.Get("thread_ts"), lost: lost, kills: s.kills,
		// What a killed process sent may be read only now.
		doubtful: time.Since(s.killedAt) < 2*time.Second,
	}
	s.read(&m, r.Form.Get("blocks"))
	switch strings.TrimPrefix(r.URL.Path, "/api/") {
	case "chat.update":
		old := s.messages[m.ts]
		if old == nil || old.group != m.group {
			s.t.Errorf("message %q, of group %s, is changed to one of group %s", m.ts, old.group, m.group)
			return `{"ok":false,"error":"message_not_found"}`
		}
		old.count = m.count
		s.updates++
	case "chat.postMessage":
		if m.thread != "" && s.messages[m.thread] == nil {
			s.t.Errorf("an answer to message %q, which is not there", m.thread)
			return `{"ok":false,"error":"thread_not_found"}`
		}
		if m.thread == "" && m.group == "" && m.groups == 0 {
			s.t.Errorf("a message about nothing: %s", r.Form.Get("blocks"))
		}
		m.ts = fmt.Sprintf("%d.%06d", 1_700_000_000, len(s.messages)+1)
		s.messages[m.ts] = &m
		s.taken = append(s.taken, m)
	default:
		s.t.Errorf("unknown method %s", r.URL.Path)
	}
	return fmt.Sprintf(`{"ok":true,"channel":"C1","ts":%q}`, m.ts)
}

// read reads what a person would.
func (s *slackServer) read(m *slackMessage, layout string) {
	type text struct {
		Text string `json:"text"`
	}
	var blocks []struct {
		Type     string          `json:"type"`
		Text     text            `json:"text"`
		Elements json.RawMessage `json:"elements"`
	}
	if err := json.Unmarshal([]byte(layout), &blocks); err != nil {
		s.t.Errorf("blocks %q: %v", layout, err)
	}
	m.count = 1 // unless the header says more
	for _, b := range blocks {
		if b.Type == "header" {
			if found := countInHeader.FindStringSubmatch(b.Text.Text); found != nil {
				m.count, _ = strconv.ParseUint(found[1], 10, 64)
			}
			if found := digestHeader.FindStringSubmatch(b.Text.Text); found != nil {
				m.groups, _ = strconv.Atoi(found[1])
			}
		}
		if b.Type != "context" {
			continue
		}
		var footer []text
		if err := json.Unmarshal(b.Elements, &footer); err != nil {
			s.t.Errorf("footer %q: %v", b.Elements, err)
		}
		for _, part := range footer {
			if found := groupInFooter.FindStringSubmatch(part.Text); found != nil {
				m.group = found[1]
			}
			m.repeat = m.repeat || strings.HasPrefix(part.Text, "possibly a repeat")
		}
	}
}

// killed is to be told before a sender is killed.
func (s *slackServer) killed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kills++
	s.killedAt = time.Now()
}

// seen returns how many requests came, and what tells of the next one.
func (s *slackServer) seen() (int, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests, s.changed
}

func (s *slackServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.taken) + s.updates
}

// String says what happened, for the log.
func (s *slackServer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	kinds := map[string]int{}
	for _, m := range s.taken {
		switch {
		case m.thread != "":
			kinds["replies"]++
		case m.groups > 0:
			kinds["digests"]++
		default:
			kinds["groups"]++
		}
	}
	faults := 0
	for n := range maps.Values(s.faults) {
		faults += n
	}
	return fmt.Sprintf("%d requests, %d of them with faults %v; taken: %v and %d changes", s.requests, faults, s.faults, kinds, s.updates)
}
