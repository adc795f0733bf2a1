package alert

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/auditmill/auditmill/alert/rules"
	"github.com/auditmill/auditmill/internal/kafka"
)

const (
	secretID = "11111111-1111-4111-8111-111111111111"
	execID   = "22222222-2222-4222-8222-222222222222"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLoadRules(t *testing.T) {
	own, empty, broken := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, own, "mine.yml", strings.ReplaceAll(secretRule, "1111", "3333"))
	write(t, broken, "a.yml", "title: x")
	write(t, broken, "b.yml", "{")
	same := t.TempDir()
	write(t, same, "copy.yml", secretRule)
	tests := []struct {
		name  string
		cfg   RulesConfig
		rules int
		want  []string
	}{
		{"pack", RulesConfig{Embedded: true}, 2, nil},
		{"pack and own", RulesConfig{Embedded: true, Directories: []string{own}}, 3, nil},
		{"own", RulesConfig{Directories: []string{own}}, 1, nil},
		{"one left out", RulesConfig{Embedded: true, Disable: []string{execID}}, 1, nil},
		{
			"unknown",
			RulesConfig{Embedded: true, Disable: []string{"x", "y"}},
			0,
			[]string{`alert.rules.disable: there is no rule with the id "x"`, `"y"`},
		},
		{"none left", RulesConfig{Embedded: true, Disable: []string{execID, secretID}}, 0, []string{"no rule is left"}},
		{
			"every fault",
			RulesConfig{Directories: []string{broken, empty, filepath.Join(empty, "missing")}},
			0,
			[]string{broken, "a.yml", "b.yml", empty + ": there is no rule", "missing"},
		},
		{"same id twice", RulesConfig{Embedded: true, Directories: []string{same}}, 0, []string{"copy.yml", "secret.yml"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set, err := loadRules(tt.cfg, testPack())
			if len(tt.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				if got := len(set.pack.Rules); got != tt.rules {
					t.Errorf("got %d rules, want %d", got, tt.rules)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to contain %q", err, want)
				}
			}
		})
	}
}

func TestShippedRulesLoad(t *testing.T) {
	set, err := loadRules(DefaultConfig().Rules, rules.Files())
	if err != nil {
		t.Fatal(err)
	}
	if len(set.pack.Rules) == 0 {
		t.Error("no rules")
	}
	if _, err := New(DefaultConfig(), Deps{Kafka: kafka.DefaultConfig()}); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the default configuration is refused: %v", err)
	}
	cfg := DefaultConfig()
	cfg.Group, cfg.Notify.Group, cfg.MaxPollRecords = "", "", 0
	cfg.Rules = RulesConfig{Directories: []string{"a", "a"}}
	cfg.Slack.BotToken, cfg.Slack.WebhookURL = "xoxb-secret", "secret-no-url"
	cfg.Slack.Timeout, cfg.Slack.Interval, cfg.Slack.APIURL = 0, -1, "slack"
	err := cfg.Validate()
	if err == nil {
		t.Fatal("a wrong configuration was accepted")
	}
	for _, key := range []string{
		"group: ", "max_poll_records: ", "rules.directories[1]: ", "slack.webhook_url: must not", "slack.webhook_url: must be",
		"slack.channel: ", "slack.api_url: ", "slack.interval: ", "slack.timeout: ", "notify.group: ",
	} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("got %q, want it to name %q", err, key)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("a secret is in %q", err)
	}
	cfg = DefaultConfig()
	cfg.Rules.Embedded, cfg.Notify.Group = false, cfg.Group
	err = cfg.Validate()
	if err == nil || !strings.Contains(err.Error(), "rules.directories: ") || !strings.Contains(err.Error(), "must differ") {
		t.Errorf("got %v", err)
	}
}
