package obs

import (
	"bytes"
	"encoding/json"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValidateReportsEveryFault(t *testing.T) {
	err := Config{Level: "loud", Format: "xml"}.Validate()
	if err == nil {
		t.Fatal("a wrong configuration was accepted")
	}
	for _, want := range []string{"level: ", `"loud"`, "format: ", `"xml"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want it to contain %q", err, want)
		}
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the default configuration is refused: %v", err)
	}
}

func TestNewLogger(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"json, info hides debug", Config{Level: "info", Format: "json"}, `"msg":"shown"`},
		{"text", Config{Level: "warn", Format: "text"}, `msg=shown topic="a\nb"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var buf bytes.Buffer
			log, err := NewLogger(&buf, tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			log.Debug("hidden")
			log.Warn("shown", "topic", "a\nb")
			if got := strings.Count(buf.String(), "\n"); got != 1 {
				t.Errorf("got %d lines, want 1: %q", got, buf.String())
			}
			if !strings.Contains(buf.String(), tt.want) {
				t.Errorf("got %q, want it to contain %q", buf.String(), tt.want)
			}
		})
	}
	if _, err := NewLogger(&bytes.Buffer{}, Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
}

func TestJSONLogLineIsJSON(t *testing.T) {
	var buf bytes.Buffer
	log, err := NewLogger(&buf, DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	log.Info("event refused", "reason", "\x1b[31m\xff\"}")
	var line map[string]any
	if err := json.Unmarshal(buf.Bytes(), &line); err != nil {
		t.Fatalf("%q: %v", buf.String(), err)
	}
	if bytes.ContainsRune(buf.Bytes(), 0x1b) {
		t.Errorf("an escape character reached the log: %q", buf.String())
	}
}

func TestBuildFrom(t *testing.T) {
	info := &debug.BuildInfo{
		GoVersion: "go1.26.8",
		Main:      debug.Module{Version: "v0.1.1-0.20260101000000-abcdef"},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "abcdef"},
			{Key: "vcs.time", Value: "2026-01-01T00:00:00Z"},
			{Key: "vcs.modified", Value: "true"},
		},
	}
	tests := []struct {
		name    string
		release string
		info    *debug.BuildInfo
		want    string
	}{
		{
			"release wins", "v1.0.0", info,
			"v1.0.0 (abcdef, modified, 2026-01-01T00:00:00Z) go1.26.8",
		},
		{
			"module version", "", info,
			"v0.1.1-0.20260101000000-abcdef (abcdef, modified, 2026-01-01T00:00:00Z) go1.26.8",
		},
		{
			"go run", "",
			&debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "(devel)"}},
			"devel (unknown) go1.26.8",
		},
		{"nothing known", "", nil, "devel (unknown) "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, buildFrom(tt.release, tt.info).String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
