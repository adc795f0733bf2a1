package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/auditmill/auditmill/internal/conf"
	"github.com/auditmill/auditmill/pipeline"
)

var update = flag.Bool("update", false, "write the generated documents")

// golden compares a generated document with the one in docs/.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/%s is not what the code says; run: go test ./cmd/auditmill -update (-doc +code)\n%s", name, diff)
	}
}

func TestConfigurationReference(t *testing.T) {
	var out bytes.Buffer
	fmt.Fprint(&out, "# Configuration\n\nGenerated from the code by `go test ./cmd/auditmill -update`; `auditmill config --reference` prints the tables.\n\n")
	if err := conf.Reference(&out, pipeline.DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	golden(t, "configuration.md", out.Bytes())
}

func TestCommandReference(t *testing.T) {
	var out bytes.Buffer
	fmt.Fprint(&out, "# Commands\n\nGenerated from the code by `go test ./cmd/auditmill -update`.\n")
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" || strings.HasPrefix(c.CommandPath(), "auditmill completion ") {
			return
		}
		c.InitDefaultHelpFlag()
		text := c.Long
		if text == "" {
			text = c.Short
		}
		fmt.Fprintf(&out, "\n## %s\n\n%s\n\n```\n%s```\n", c.CommandPath(), text, c.UsageString())
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
	golden(t, "commands.md", out.Bytes())
}

// Every command says what it does, shows an example, and refuses what it does not know
// with exit status 2.
func TestEveryCommandHelps(t *testing.T) {
	for _, c := range newRoot().Commands() {
		if c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if c.Short == "" || c.Example == "" || !strings.Contains(c.Example, "auditmill "+c.Name()) {
			t.Errorf("%s: no help or no example", c.Name())
		}
		if got := execute(t.Context(), []string{c.Name(), "--no-such-flag"}); got != exitUsage {
			t.Errorf("%s --no-such-flag: exit status %d, want %d", c.Name(), got, exitUsage)
		}
	}
}

func TestExitStatus(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want int
	}{
		"help":                  {[]string{"--help"}, 0},
		"version":               {[]string{"version"}, 0},
		"effective settings":    {[]string{"config"}, 0},
		"unknown key":           {[]string{"config", "--set", "kafka.brokrs=a:1"}, exitUsage},
		"missing file":          {[]string{"config", "--config", "/nonexistent/auditmill.yaml"}, exitUsage},
		"unknown topic":         {[]string{"tail", "audit.nothing"}, exitUsage},
		"bad filter":            {[]string{"tail", "audit.raw.v1", "--filter", "x"}, exitUsage},
		"no such format":        {[]string{"query", "--format", "xml", "SELECT 1"}, exitUsage},
		"nobody listens":        {[]string{"query", "--set", "clickhouse.addresses=127.0.0.1:1", "SELECT 1"}, exitFailed},
		"arguments where none":  {[]string{"up", "extra"}, exitUsage},
		"replay without a file": {[]string{"replay"}, exitUsage},
		"unknown command":       {[]string{"fly"}, exitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			if got := execute(t.Context(), tt.args); got != tt.want {
				t.Errorf("exit status %d, want %d", got, tt.want)
			}
		})
	}
}

func TestFilters(t *testing.T) {
	line := []byte(`{"verb":"get","annotations":{"authorization.k8s.io/decision":"allow"},"groups":["a","b"],"code":200,"object":{"x":null}}`)
	for text, want := range map[string]bool{
		"verb=get": true, "verb=list": false, "verb!=list": true, "verb~e": true, "code=200": true,
		"annotations.authorization.k8s.io/decision=allow": true, "groups=b": true, "groups=c": false,
		"missing=": false, "object.x=": true, "object=x": false,
	} {
		filters, err := parseFilters([]string{text})
		if err != nil {
			t.Fatal(err)
		}
		if got := filters[0].match(line); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}
