package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/auditmill/auditmill/alert/notify"
	"github.com/auditmill/auditmill/schemas"
)

// commandLine runs commands against a Kafka.
func commandLine(t *testing.T) func(args ...string) (string, error) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, schemas.TopicSilences), kfake.SeedTopics(2, schemas.TopicAlerts))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return func(args ...string) (string, error) {
		var out bytes.Buffer
		root := newRoot()
		root.SetOut(&out)
		root.SetArgs(append(args, "--set", "kafka.brokers="+strings.Join(cluster.ListenAddrs(), ",")))
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
}

func TestSilences(t *testing.T) {
	run := commandLine(t)
	must := func(args ...string) string {
		t.Helper()
		out, err := run(args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	read := func(text string) (all []notify.Silence) {
		t.Helper()
		for d := json.NewDecoder(strings.NewReader(text)); d.More(); {
			var s notify.Silence
			if err := d.Decode(&s); err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
		return all
	}
	if got := must("silence", "list", "--json"); got != "" {
		t.Errorf("got %q without any silence", got)
	}
	added := read(must("silence", "add", "--rule", "pod-*", "--rule", "node-*", "--cluster", "c", "--actor", "a", "--namespace", "n", "--severity", "low",
		"--tag", "t", "--for", "4h", "--comment", "tests <&>\u202e", "--by", "bob", "--json"))
	if len(added) != 1 {
		t.Fatalf("got %v", added)
	}
	silence := added[0]
	want := notify.SilenceMatch{
		Rules: []string{"pod-*", "node-*"}, Clusters: []string{"c"}, Actors: []string{"a"}, Namespaces: []string{"n"}, Severities: []string{"low"},
		Tags: []string{"t"},
	}
	if d := cmp.Diff(want, silence.Match); d != "" || silence.Kind != notify.KindSilence || silence.Author != "bob" || silence.Until.Sub(silence.From) != 4*time.Hour {
		t.Errorf("got %+v", silence)
	}
	if c := silence.Changes[0]; c.Via != "cli" || c.By != "bob" {
		t.Errorf("got %+v", c)
	}
	window := must("silence", "add", "--cluster", "prod", "--from", "2126-03-01T18:00:00+01:00", "--until", "2126-03-01T20:00:00+01:00", "--by", "bob", "--comment", "upgrade")
	if !strings.Contains(window, "maintenance of cluster prod, until 2126-03-01T19:00:00Z") {
		t.Errorf("got %q", window)
	}
	group := schemas.AlertGroup("g")
	if got := must("silence", "ack", group, "--by", "carol"); !strings.Contains(got, "acknowledgement of group "+group) {
		t.Errorf("got %q", got)
	}
	table := must("silence", "list")
	for _, want := range []string{silence.ID, "active", "planned", "rule pod-* or node-*", `tests <&>\u202e`, "group " + group} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	if got := must("silence", "expire", silence.ID, "--by", "dave", "--comment", "done"); !strings.HasPrefix(got, silence.ID) {
		t.Errorf("got %q", got)
	}
	if n, all := len(read(must("silence", "list", "--json"))), read(must("silence", "list", "--json", "--all")); n != 2 || len(all) != 3 {
		t.Errorf("%d silences hold, %d with those that ended", n, len(all))
	} else if last := all[2]; last.ID != silence.ID || len(last.Changes) != 2 || last.Changes[1].By != "dave" || last.Changes[1].Comment != "done" {
		t.Errorf("got %+v, want the one that ended", last)
	}
	if _, err := run("silence", "expire", "nope", "--by", "dave"); !errors.Is(err, notify.ErrNoSilence) {
		t.Errorf("got %v", err)
	}
}

func TestSilencesRefuse(t *testing.T) {
	t.Setenv("USER", "")
	run := commandLine(t)
	for name, args := range map[string][]string{
		"everything":             {"add", "--for", "1h", "--comment", "x", "--by", "bob"},
		"no end":                 {"add", "--rule", "r", "--comment", "x", "--by", "bob"},
		"two ends":               {"add", "--rule", "r", "--comment", "x", "--by", "bob", "--for", "1h", "--until", "2126-03-01T18:00:00Z"},
		"an end that is no time": {"add", "--rule", "r", "--comment", "x", "--by", "bob", "--until", "tomorrow"},
		"an end that is over":    {"add", "--rule", "r", "--comment", "x", "--by", "bob", "--from", "2020-03-01T18:00:00Z", "--for", "1h"},
		"no duration":            {"add", "--rule", "r", "--comment", "x", "--by", "bob", "--for", "soon"},
		"too long":               {"add", "--rule", "r", "--comment", "x", "--by", "bob", "--for", "400d"},
		"no reason":              {"add", "--rule", "r", "--for", "1h", "--by", "bob"},
		"nobody":                 {"add", "--rule", "r", "--for", "1h", "--comment", "x"},
		"nobody expires":         {"expire", "id"},
		"expire what":            {"expire"},
		"ack what":               {"ack", "--by", "bob"},
		"ack two":                {"ack", "a", "b", "--by", "bob"},
		"list what":              {"list", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := run(append([]string{"silence"}, args...)...)
			if _, ok := errors.AsType[*usageError](err); !ok {
				t.Errorf("got %v, want an error of usage", err)
			}
		})
	}
	if got, err := run("silence", "list", "--json", "--all"); err != nil || got != "" {
		t.Errorf("%v; something was written: %s", err, got)
	}
}
