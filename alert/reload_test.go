package alert

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditmill/auditmill/internal/kafka"
)

// answer asks a service for its rules.
func answer(t *testing.T, s *Service) rulesStatus {
	t.Helper()
	w := httptest.NewRecorder()
	s.Rules().ServeHTTP(w, httptest.NewRequest("GET", "/rules", nil))
	var status rulesStatus
	if err := json.Unmarshal(w.Body.Bytes(), &status); err != nil {
		t.Fatal(err)
	}
	return status
}

// TestReload changes the rule files as a mounted ConfigMap does: a directory is made aside and a symbolic link is moved.
func TestReload(t *testing.T) {
	mount := t.TempDir()
	version := 0
	publish := func(rules string) {
		t.Helper()
		version++
		data := filepath.Join(mount, "..data-"+string(rune('0'+version)))
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, data, "mine.yml", rules)
		link, next := filepath.Join(mount, "..data"), filepath.Join(mount, "..next")
		if err := os.Symlink(filepath.Base(data), next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, link); err != nil {
			t.Fatal(err)
		}
		if version == 1 {
			if err := os.Symlink("..data/mine.yml", filepath.Join(mount, "mine.yml")); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish(secretRule)
	cfg := DefaultConfig()
	cfg.Rules.Embedded, cfg.Rules.Directories = false, []string{mount}
	s, err := New(cfg, Deps{Kafka: kafka.DefaultConfig(), Pack: testPack()})
	if err != nil {
		t.Fatal(err)
	}
	first := answer(t, s)
	if len(first.Rules) != 1 || first.Rules[0].ID != secretID {
		t.Fatalf("the rules are %+v", first.Rules)
	}

	s.reloader.look(false)
	if got := answer(t, s); got.Version != first.Version || got.LoadedAt != first.LoadedAt {
		t.Errorf("unchanged files were loaded again: %+v", got)
	}

	publish(strings.ReplaceAll(secretRule, "verb: get", "verbs: get") + "---\ntitle: another\n")
	s.reloader.look(false)
	refused := answer(t, s)
	if refused.Version != first.Version || refused.Refused == nil || len(refused.Refused.Errors) < 2 {
		t.Errorf("faulty files: %+v", refused)
	}
	at := refused.Refused.At
	s.reloader.look(false)
	if got := answer(t, s); got.Refused == nil || !got.Refused.At.Equal(at) {
		t.Errorf("the same faulty files were reported twice: %+v", got.Refused)
	}

	publish(strings.ReplaceAll(secretRule, secretID, execID))
	s.reloader.look(true)
	if got := answer(t, s); got.Version == first.Version || got.Refused != nil || len(got.Rules) != 1 || got.Rules[0].ID != execID {
		t.Errorf("corrected files: %+v", got)
	}

	if err := os.Remove(filepath.Join(mount, "mine.yml")); err != nil {
		t.Fatal(err)
	}
	s.reloader.look(false)
	if got := answer(t, s); got.Refused == nil || got.Rules[0].ID != execID {
		t.Errorf("without a file: %+v", got)
	}
}
