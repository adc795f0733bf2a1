package replay

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const logEvent = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"%d","stage":"ResponseComplete","verb":"get"}`

func events(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, logEvent+"\n", i)
	}
	return b.String()
}

// receiver is a webhook that answers as told and remembers what it accepted.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	posts  int
	bodies []string // accepted
	all    []string
	paths  []string
	tokens []string
}

func newReceiver(t *testing.T, answer func(post int, w http.ResponseWriter) (accept bool)) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.posts++
		r.all = append(r.all, string(body))
		if answer(r.posts, w) {
			r.bodies = append(r.bodies, string(body))
			r.paths = append(r.paths, q.URL.String())
			r.tokens = append(r.tokens, q.Header.Get("Authorization"))
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func accept(int, http.ResponseWriter) bool { return true }

func (r *receiver) config() Config {
	cfg := DefaultConfig()
	cfg.URL, cfg.Concurrency = r.URL, 1
	return cfg
}

func (r *receiver) items(t *testing.T) (ids []string) {
	t.Helper()
	for _, body := range r.bodies {
		var list struct {
			Kind  string
			Items []struct{ AuditID, Kind string }
		}
		if err := json.Unmarshal([]byte(body), &list); err != nil || list.Kind != "EventList" {
			t.Fatalf("body %q: %v", body, err)
		}
		for _, item := range list.Items {
			ids = append(ids, item.AuditID)
			if item.Kind != "" {
				t.Errorf("item %s has a kind: the webhook sends none", item.AuditID)
			}
		}
	}
	return ids
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestFiles(t *testing.T) {
	list := `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + fmt.Sprintf(logEvent, 7) + `,` + fmt.Sprintf(logEvent, 8) + `]}`
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(list), "", "  "); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"lines":            {events(3), []string{"0", "1", "2"}},
		"no last line end": {strings.TrimSpace(events(2)), []string{"0", "1"}},
		"gzip":             {zipped(t, events(2)), []string{"0", "1"}},
		"empty lines":      {"\n" + events(1) + "\n\n", []string{"0"}},
		"list":             {list, []string{"7", "8"}},
		"lists":            {list + "\n" + list + "\n", []string{"7", "8", "7", "8"}},
		"nothing":          {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, accept)
			counts, err := Files(t.Context(), r.config(), write(t, "events", tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, r.items(t)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if counts.Accepted != int64(len(tt.want)) || counts.Bad != 0 {
				t.Errorf("counts: %+v", counts)
			}
		})
	}
	t.Run("pretty", func(t *testing.T) {
		r := newReceiver(t, accept)
		counts, err := Files(t.Context(), r.config(), write(t, "events", pretty.String()))
		if err != nil || counts.Accepted != 2 {
			t.Errorf("%+v %v", counts, err)
		}
	})
}

func TestBatchesPathAndToken(t *testing.T) {
	r := newReceiver(t, accept)
	cfg := r.config()
	cfg.Cluster, cfg.Token, cfg.BatchSize = "prod", "secret", 4
	last := Counts{}
	cfg.Progress = func(c Counts) { last = c }
	counts, err := Files(t.Context(), cfg, write(t, "events", events(10)))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.bodies) != 3 || r.paths[0] != "/v1/audit/prod?timeout=30s" || r.tokens[0] != "Bearer secret" {
		t.Errorf("%d bodies, path %s, token %s", len(r.bodies), r.paths[0], r.tokens[0])
	}
	if last != counts || counts.Batches != 3 {
		t.Errorf("last progress %+v, counts %+v", last, counts)
	}
}

func TestRetriesTheSameBytes(t *testing.T) {
	r := newReceiver(t, func(post int, w http.ResponseWriter) bool {
		if post == 1 {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
			return false
		}
		return true
	})
	counts, err := Files(t.Context(), r.config(), write(t, "events", events(2)))
	if err != nil || counts.Retried != 1 || counts.Accepted != 2 {
		t.Fatalf("%+v %v", counts, err)
	}
	if len(r.all) != 2 || r.all[0] != r.all[1] {
		t.Errorf("the second attempt has other bytes: %q", r.all)
	}
}

func TestRefusals(t *testing.T) {
	for code, want := range map[int]string{
		http.StatusUnauthorized: "401", http.StatusForbidden: "403", http.StatusRequestEntityTooLarge: "413", http.StatusFound: "redirects to /login",
	} {
		r := newReceiver(t, func(_ int, w http.ResponseWriter) bool {
			w.Header().Set("Location", map[bool]string{true: "/login"}[code == http.StatusFound])
			w.WriteHeader(code)
			return false
		})
		counts, err := Files(t.Context(), r.config(), write(t, "events", events(1)))
		if err == nil || !strings.Contains(err.Error(), want) || counts.Accepted != 0 || r.posts != 1 {
			t.Errorf("%d: %+v, %v after %d posts", code, counts, err, r.posts)
		}
	}
}

func TestGivesUp(t *testing.T) {
	r := newReceiver(t, func(_ int, w http.ResponseWriter) bool {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
		return false
	})
	cfg := r.config()
	cfg.GiveUp = time.Minute
	if _, err := Files(t.Context(), cfg, write(t, "events", events(1))); err == nil || !strings.Contains(err.Error(), "giving up") {
		t.Errorf("err = %v", err)
	}
}

func TestBadPiecesAreNamed(t *testing.T) {
	r := newReceiver(t, accept)
	cfg := r.config()
	var bad []string
	cfg.Report = func(b Bad) { bad = append(bad, fmt.Sprintf("%d %s", b.Line, b.Reason)) }
	text := events(1) + `{"kind":"Pod"}` + "\n" + events(1) + "nonsense\n"
	counts, err := Files(t.Context(), cfg, write(t, "events", text))
	if err != nil || counts.Accepted != 2 || counts.Bad != 2 {
		t.Errorf("%+v %v", counts, err)
	}
	if diff := cmp.Diff([]string{"2 not_an_event", "4 syntax"}, bad); diff != "" {
		t.Error(diff)
	}
	if _, err := Files(t.Context(), cfg, filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestConfigFaults(t *testing.T) {
	err := Config{URL: "ftp://x", Rate: -1}.Validate()
	for _, key := range []string{"url", "batch", "concurrency", "rate", "give-up"} {
		if err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("no fault for %s: %v", key, err)
		}
	}
}
